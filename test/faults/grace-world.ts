/** A service with a grace on a database of its own, unwraps under way, and what the audit log has of them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { NO_PREVIOUS, leafHash } from '../../src/audit/entry.ts';
import { SIGNATURE_TYPE, formatVkey, makeVkey } from '../../src/audit/tree/vkey.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { withChildren } from '../e2e/processes.ts';
import type { Answer, TestService } from '../e2e/service.ts';
import { withClient } from '../store/owner.ts';

export const PLAINTEXT = Buffer.from('a data key').toString('base64');

const CUT: Pick<Answer, 'status' | 'json' | 'headers'> = {
  status: 0,
  json: { code: 'cut' },
  headers: new Headers(),
};

/** A database whose processes can be stopped, and go on where they were. */
export class Freezer {
  readonly #pid: () => number;
  #frozen: readonly number[] = [];

  /** @param pid of the postmaster */
  constructor(pid: () => number) {
    this.#pid = pid;
  }

  freeze = (): void => {
    this.#frozen = withChildren(this.#pid());
    for (const pid of this.#frozen) process.kill(pid, 'SIGSTOP');
  };

  thaw = (): void => {
    for (const pid of this.#frozen) process.kill(pid, 'SIGCONT');
    this.#frozen = [];
  };
}

export interface Unwrapped {
  readonly begun: number;
  readonly ended: number;
  /** `200`, or status and code. */
  readonly outcome: string;
  readonly auditId: string;
}

/** Unwraps one ciphertext with several callers until stopped. */
export class Unwraps {
  readonly all: Unwrapped[] = [];
  readonly #service: TestService;
  readonly #key: string;
  readonly #ciphertext: string;
  #running = true;
  readonly #callers: Promise<unknown>;

  constructor(service: TestService, key: string, ciphertext: string, callers = 4) {
    this.#service = service;
    this.#key = key;
    this.#ciphertext = ciphertext;
    this.#callers = Promise.all(Array.from({ length: callers }, () => this.#call()));
  }

  async #call(): Promise<void> {
    while (this.#running) {
      const begun = performance.now();
      const { status, json, headers } = await this.#service
        .request('POST', `/v1/keys/${this.#key}/unwrap`, { ciphertext: this.#ciphertext })
        .catch(() => CUT);
      if (status === 200 && json['plaintext'] !== PLAINTEXT) throw new Error('another plaintext');
      const outcome = status === 200 ? '200' : `${String(status)} ${String(json['code'])}`;
      const auditId = headers.get('twofold-audit-id') ?? '';
      this.all.push({ begun, ended: performance.now(), outcome, auditId });
      await sleep(status === 200 ? 5 : 50);
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#callers;
  }

  get answered(): readonly Unwrapped[] {
    return this.all.filter(({ outcome }) => outcome === '200');
  }

  /** The longest time within which no answer came, from `from` to `until`. */
  pause(from: number, until: number): number {
    const times = this.answered.map(({ ended }) => ended).filter((t) => t > from && t < until);
    const points = [from, ...times.toSorted((a, b) => a - b), until];
    return Math.max(...points.slice(1).map((point, index) => point - (points[index] ?? 0)));
  }
}

/** What is wrong with the log: gaps, broken chains, answers without exactly one entry. */
export const faultsOf = (ownerUrl: string, answers: readonly Unwrapped[]): Promise<string[]> =>
  withClient(ownerUrl, async (client) => {
    const { rows } = await client.query<{ lane: number; n: string; leaf: Buffer; body: Buffer }>(
      'select lane, n, leaf, body from public.entry order by lane, n',
    );
    const faults: string[] = [];
    const unwraps = new Map<string, number>();
    let before: { lane: number; n: number; leaf: Uint8Array } | null = null;
    for (const { lane, n, leaf, body } of rows) {
      const entry = decodeEntry(Uint8Array.from(body));
      const id = `${String(lane)}-${n}`;
      const first = before?.lane !== lane;
      if (Number(n) !== (first ? 1 : (before?.n ?? 0) + 1)) faults.push(`gap before ${id}`);
      const previous = first ? NO_PREVIOUS : (before?.leaf ?? NO_PREVIOUS);
      if (Buffer.compare(entry.previous, previous) !== 0) faults.push(`chain at ${id}`);
      if (Buffer.compare(leaf, leafHash(Uint8Array.from(body))) !== 0) faults.push(`leaf of ${id}`);
      if (entry.operation === 'unwrap' && entry.outcome === 'ok') unwraps.set(id, 1);
      before = { lane, n: Number(n), leaf };
    }
    const ids = answers.map(({ auditId }) => auditId);
    if (new Set(ids).size !== ids.length) faults.push('two answers have one entry');
    for (const id of ids) if (!unwraps.has(id)) faults.push(`no entry ${id}`);
    return faults;
  });

/** What the product's own verifier says of the log as it is served now. */
export async function verifiedLive(service: TestService, ownerUrl: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-grace-'));
  try {
    const rows = await withClient(ownerUrl, (client) =>
      client.query<{ kind: string; public_key: Buffer }>(
        'select kind, public_key from public.log_key',
      ),
    );
    const [origin = ''] = (await checkpointOf(service)).split('\n');
    const vkeys = rows.rows.map(({ kind, public_key: key }) =>
      formatVkey(
        makeVkey(
          origin,
          SIGNATURE_TYPE[kind === 'ed25519' ? 'ed25519' : 'mlDsa44Cosignature'],
          key,
        ),
      ),
    );
    writeFileSync(join(folder, 'trust'), `# of ${origin}\n${vkeys.join('\n')}\n`);
    const header = `Authorization: Bearer ${await service.token('auditor')}\n`;
    writeFileSync(join(folder, 'header'), header, { mode: 0o600 });
    const argv = ['audit', 'verify', '--live', '--trust', join(folder, 'trust')];
    const at = ['--url', service.url, '--authorization', join(folder, 'header')];
    const launch = join(import.meta.dirname, '../../scripts/launch');
    const environment = { ...COMMAND_ENVIRONMENT, HOME: tmpdir() };
    const { status, stdout, stderr } = spawnSync('/bin/sh', [launch, ...argv, ...at], {
      env: environment,
      encoding: 'utf8',
    });
    return status === 0 ? 'verified' : `${String(status)}\n${stdout}${stderr}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function checkpointOf(service: TestService): Promise<string> {
  for (;;) {
    const path = '/v1/audit/checkpoint';
    const answer = await service.request('GET', path, undefined, { role: 'auditor' });
    if (answer.status === 200) return answer.bytes.toString('utf8');
    await sleep(100);
  }
}
