/** A load of creates, rotates, wraps and unwraps that remembers what was acknowledged, to ask for it later. */
import { expect } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';

import { withClient } from '../store/owner.ts';
import type { Answer, TestService } from '../e2e/service.ts';

const PLAINTEXT = Buffer.from('a data key').toString('base64');

interface Wrapped {
  readonly key: string;
  readonly ciphertext: string;
}

export interface Outcome {
  readonly status: number;
  readonly code: string | undefined;
}

export class Load {
  readonly #service: TestService;
  readonly #keys: string[] = [];
  readonly #wrapped: Wrapped[] = [];
  readonly #auditIds: string[] = [];
  /** Every answer that was none of success. */
  readonly refusals: Outcome[] = [];
  #running: Promise<void>[] = [];
  #stopped = false;
  #count = 0;
  readonly #prefix: string;

  /** `prefix`: two loads on one service make different keys. */
  constructor(service: TestService, prefix = 'load') {
    this.#service = service;
    this.#prefix = prefix;
  }

  get acknowledged(): number {
    return this.#auditIds.length;
  }

  /** Starts `callers` that go on until `stop`. */
  start(callers: number): void {
    this.#stopped = false;
    for (let index = 0; index < callers; index += 1) this.#running.push(this.#caller());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
    this.#running = [];
  }

  async #caller(): Promise<void> {
    while (!this.#stopped) {
      await this.round();
      await sleep(5);
    }
  }

  /** One key with one wrap, and now and then a rotation. */
  async round(): Promise<void> {
    this.#count += 1;
    const name = `${this.#prefix}-${String(this.#count)}`;
    const suite = this.#count % 4 === 0 ? 'MLKEM768-X25519' : 'MLKEM768-P256';
    if (!this.#note(await this.#send('/v1/admin/keys', { name, suite }), 201)) return;
    this.#keys.push(name);
    if (this.#count % 3 === 0) {
      this.#note(await this.#send(`/v1/admin/keys/${name}/rotate`, {}), 200);
    }
    const wrapped = await this.#send(`/v1/keys/${name}/wrap`, { plaintext: PLAINTEXT });
    if (!this.#note(wrapped, 200)) return;
    this.#wrapped.push({ key: name, ciphertext: String(wrapped.json['ciphertext']) });
  }

  #send(path: string, body: object): Promise<Answer> {
    return this.#service.request('POST', path, body);
  }

  #note(answer: Answer, status: number): boolean {
    if (answer.status === status) {
      this.#auditIds.push(answer.headers.get('twofold-audit-id') ?? 'none');
      return true;
    }
    this.refusals.push({ status: answer.status, code: answer.json.code });
    return false;
  }

  /** Every acknowledged key wraps, every ciphertext opens, every audit id is in the table. */
  async expectKept(databaseUrl: string): Promise<void> {
    expect(this.#wrapped.length).toBeGreaterThan(0);
    for (const key of this.#keys) {
      const answer = await this.#send(`/v1/keys/${key}/wrap`, { plaintext: PLAINTEXT });
      expect([key, answer.status]).toEqual([key, 200]);
    }
    for (const { key, ciphertext } of this.#wrapped) {
      const answer = await this.#send(`/v1/keys/${key}/unwrap`, { ciphertext });
      expect([key, answer.status, answer.json['plaintext']]).toEqual([key, 200, PLAINTEXT]);
    }
    const known = await withClient(databaseUrl, async (client) => {
      const { rows } = await client.query<{ id: string }>(
        `select lane || '-' || n as id from entry where outcome = 'ok'`,
      );
      return new Set(rows.map(({ id }) => id));
    });
    expect(this.#auditIds.filter((id) => !known.has(id))).toEqual([]);
  }
}

export interface Health {
  readonly status: number;
  /** Names of the checks that fail. */
  readonly failing: readonly string[];
  /** Their states, by name. */
  readonly states: Readonly<Record<string, string>>;
}

export async function healthOf(service: TestService, url: string = service.url): Promise<Health> {
  const response = await fetch(new URL('/readyz', url));
  const { checks } = (await response.json()) as {
    checks: readonly { name: string; ready: boolean; state: string }[];
  };
  return {
    status: response.status,
    failing: checks.filter(({ ready }) => !ready).map(({ name }) => name),
    states: Object.fromEntries(checks.map(({ name, state }) => [name, state])),
  };
}

export async function untilReady(service: TestService, milliseconds = 60_000): Promise<void> {
  const until = performance.now() + milliseconds;
  for (;;) {
    const health = await healthOf(service);
    if (health.status === 200) return;
    if (performance.now() > until) throw new Error(`not ready: ${JSON.stringify(health)}`);
    await sleep(50);
  }
}

/** Waits for a check to fail; gives the health that showed it. */
export async function untilFailing(
  service: TestService,
  check: string,
  milliseconds = 20_000,
): Promise<Health> {
  const until = performance.now() + milliseconds;
  for (;;) {
    const health = await healthOf(service);
    if (health.failing.includes(check)) return health;
    if (performance.now() > until) throw new Error(`${check} stays: ${JSON.stringify(health)}`);
    await sleep(20);
  }
}

/** Whether the log has every entry of the database once. */
export const everythingHasAnIndex = (owner: string): Promise<boolean> =>
  withClient(owner, async (client) => {
    const { rows } = await client.query<{ whole: boolean }>(
      `select not exists (select from public.entry e join public.lane l on l.id = e.lane where e.n >= l.next)
        and (select size from public.log_head) = (select count(*) from public.entry) as whole`,
    );
    return rows[0]?.whole === true;
  });
