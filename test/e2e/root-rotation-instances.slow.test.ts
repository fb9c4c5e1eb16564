/**
 * The root is rotated while two instances serve and one after the other is killed: a caller who asks the
 * other one where the first does not answer has every request answered, and rightly.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { startBeside } from './beside.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

/** 25 in the full run. */
const KILLS = Number(process.env['TWOFOLD_ROOT_KILLS'] ?? 3);
const SEED = Number(process.env['TWOFOLD_ROOT_SEED'] ?? 1);
/** So that something is left to move at each kill: a start takes seconds, of which a busy machine needs six. */
const KEYS = 15 + 30 * KILLS;
const SLOWLY = { TWOFOLD_ROTATION_ROOT_ROWS_PER_SECOND: '5' };
/** How long a caller goes on asking. */
const PATIENCE_MS = 15_000;
const CALLERS = 3;
/** Each kill has its keys, its start, and until the other instance has noticed. */
const MAKING_MS = 180_000 + 10_000 * KILLS;
const ROTATION_MS = 300_000 + 40_000 * KILLS;

const command = join(import.meta.dirname, '../../scripts/twofold');
const plaintext = Buffer.from('a data key').toString('base64');
/** Has the database and the token, and is killed before anything is rotated: both outlive it. */
let host: TestService;
let serving: [TestService, TestService];

let state = SEED;
/** The same for the same seed: a linear congruential generator (Numerical Recipes). */
const random = (): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
};

beforeAll(async () => {
  host = await TestService.start();
  const names = Array.from({ length: KEYS }, (_, number) => `k${String(number)}`);
  await Promise.all(
    Array.from({ length: 6 }, async () => {
      for (let name = names.shift(); name !== undefined; name = names.shift()) {
        const made = await host.request('POST', '/v1/admin/keys', { name, suite: 'MLKEM768-P256' });
        expect([made.status, made.json.code]).toEqual([201, undefined]);
      }
    }),
  );
  serving = [await startBeside(host, SLOWLY), await startBeside(host, SLOWLY)];
  await host.kill();
}, MAKING_MS);

afterAll(async () => {
  for (const each of serving) await each.destroy();
  await host.destroy();
}, 60_000);

type Answered = Awaited<ReturnType<TestService['request']>>;

/** Whether another instance may have an answer. */
const isElsewhere = ({ status }: Answered): boolean => status === 503 || status === 429;

/** Asks by turns until one of both answers. */
async function ask(method: string, path: string, body?: object): Promise<Answered> {
  const until = performance.now() + PATIENCE_MS;
  for (let turn = Math.round(random()); ; turn += 1) {
    const service = serving[turn % 2 === 0 ? 0 : 1];
    const answer = await service.request(method, path, body).catch(() => null);
    const over = performance.now() > until;
    if (answer !== null && (over || !isElsewhere(answer))) return answer;
    if (over) throw new Error(`${path} was not answered`);
    await sleep(20);
  }
}

const holder = async (): Promise<string> =>
  withDatabaseOf(host.dataDir, async (client) => {
    const { rows } = await client.query<{ holder: string }>(
      `select holder from public.leadership where role = 'root-rotation'`,
    );
    return rows[0]?.holder ?? '';
  });

/** Unwraps what was wrapped before, and wraps anew, until told to stop. */
function load(ciphertexts: ReadonlyMap<string, string>) {
  const failures: unknown[] = [];
  let [stopped, requests] = [false, 0];
  const call = async (): Promise<void> => {
    const names = [...ciphertexts.keys()];
    while (!stopped) {
      const name = names[Math.floor(random() * names.length)] ?? '';
      const wrapped = await ask('POST', `/v1/keys/${name}/wrap`, { plaintext });
      for (const ciphertext of [ciphertexts.get(name), wrapped.json['ciphertext']]) {
        const { status, json } = await ask('POST', `/v1/keys/${name}/unwrap`, { ciphertext });
        if (json['plaintext'] !== plaintext) failures.push([name, status, json.code]);
      }
      requests += 3;
    }
  };
  const calls = Array.from({ length: CALLERS }, () =>
    call().catch((error: unknown) => failures.push(String(error))),
  );
  return {
    stop: async () => {
      stopped = true;
      await Promise.all(calls);
      return { requests, failures };
    },
  };
}

it(
  'with no request that fails, whichever instance is killed and when',
  async () => {
    const ciphertexts = new Map<string, string>();
    for (let number = 0; number < KEYS; number += 3) {
      const name = `k${String(number)}`;
      const { json } = await ask('POST', `/v1/keys/${name}/wrap`, { plaintext });
      ciphertexts.set(name, String(json['ciphertext']));
    }
    const running = load(ciphertexts);
    await promisify(execFile)(command, ['hsm', 'generation', 'add', '--data', host.dataDir], {
      env: { ...COMMAND_ENVIRONMENT },
    });
    let begun = await ask('POST', '/v1/admin/root/rotations', { reason: 'a drill' });
    // Both learn the generation within seconds, while they serve.
    while (begun.status === 409) {
      await sleep(300);
      begun = await ask('POST', '/v1/admin/root/rotations', { reason: 'a drill' });
    }
    expect([begun.status, begun.json.code]).toEqual([201, undefined]);
    const path = `/v1/admin/root/rotations/${String(begun.json['id'])}`;
    const { total } = begun.json['progress'] as { readonly total: number };
    const leaders = new Set<string>();
    for (let kill = 0; kill < KILLS; kill += 1) {
      const wanted = (total * (kill + random())) / (KILLS + 1);
      for (;;) {
        const { json } = await ask('GET', path);
        const { offset } = json['progress'] as { readonly offset: number };
        expect(json['state']).toBe('running');
        if (offset >= wanted) break;
        await sleep(50);
      }
      leaders.add(await holder());
      const victim = kill % 2 === 0 ? 0 : 1;
      await serving[victim].kill();
      await serving[victim].destroy();
      serving[victim] = await startBeside(host, SLOWLY);
    }
    let over = await ask('GET', path);
    while (over.json['state'] === 'running') {
      await sleep(200);
      over = await ask('GET', path);
    }
    const { requests, failures } = await running.stop();
    expect(failures).toEqual([]);
    expect(over.json).toMatchObject({ state: 'succeeded' });
    const { offset, total: all } = over.json['progress'] as Record<string, number>;
    expect(offset).toBe(all);
    expect(requests).toBeGreaterThan(KILLS * 10);
    // It was carried out by more than one: those that led were among the killed.
    if (KILLS > 2) expect(leaders.size).toBeGreaterThan(1);
    process.stderr.write(
      `${String(requests)} requests, ${String(KILLS)} kills, ${String(leaders.size)} leaders\n`,
    );
    const { json } = await ask('GET', '/v1/admin/root');
    expect(json).toMatchObject({ inForce: 2, generations: [{ references: {} }, {}] });
  },
  ROTATION_MS,
);
