/** The root replaced under load, on a real token and database: ceremony, rotation, kills, retirement. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { findSoftHsm, moduleEnvironment } from '../../src/config.ts';
import { ensureDevelopmentToken } from '../../src/hsm/development-token.ts';
import type { RootOnToken } from '../../src/hsm/port.ts';
import { runRootCeremony } from '../../src/hsm/run-ceremony.ts';
import { SILENT } from '../../src/main/silent-log.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

/** Kills of the service in the middle of a rotation, and of the commands; 25 in the full run. */
const KILLS = Number(process.env['TWOFOLD_ROOT_KILLS'] ?? 2);
const SEED = Number(process.env['TWOFOLD_ROOT_SEED'] ?? 1);
/** 40 in the full run. */
const KEYS = Number(process.env['TWOFOLD_ROOT_KEYS'] ?? 20);

/** So that there is something left to move at each kill, and time for requests in the middle of it. */
const SLOWLY = { TWOFOLD_ROTATION_ROOT_ROWS_PER_SECOND: '40' };
/** Requests answered while a rotation of at least 2 x KEYS rows runs, at 40 a second. */
const MEANWHILE = 20;

const project = join(import.meta.dirname, '../..');
const RUNBOOK = readFileSync(join(project, 'deploy/root-rotation.md'), 'utf8');
const STEPS = [...RUNBOOK.matchAll(/^ *```sh\n([^`]+)```$/gmu)].map(([, step = '']) => step);

const command = join(import.meta.dirname, '../../scripts/twofold');
let service: TestService;
let state = SEED;
/** The same for the same seed: a linear congruential generator (Numerical Recipes). */
const random = (): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
};

beforeAll(async () => {
  service = await TestService.start({ environment: SLOWLY });
}, 90_000);
afterAll(() => service.destroy());

/** Zones that the commands are told of. */
const others: string[] = [];

const begun = (argv: readonly string[]): ChildProcess =>
  spawn(command, [...argv, '--data', service.dataDir], {
    env: { ...COMMAND_ENVIRONMENT, TWOFOLD_ZONE_OTHERS: JSON.stringify(others) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });

async function twofold(...argv: string[]) {
  const child = begun(argv);
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() };
}

/** As a zone has it whose token was away when the generation was retired. */
async function expectLeftSeen(installation: string): Promise<void> {
  const root = { installation, generation: 1 };
  await placeAgain(root);
  const { status, out } = await twofold('hsm', 'verify');
  expect([status, JSON.parse(out)]).toMatchObject([1, { ok: false, retired: [root], unknown: [] }]);
  expect(await done('hsm', 'generation', 'retire', '1')).toMatchObject({ destroyed: true });
  expect(await done('hsm', 'verify')).toMatchObject({ ok: true, retired: [], unknown: [] });
}

async function placeAgain(root: RootOnToken): Promise<void> {
  const module = findSoftHsm();
  if (module === undefined) throw new Error('SoftHSM is not installed');
  const { dataDir } = service;
  const token = await ensureDevelopmentToken({ dataDir, module, log: SILENT });
  const tokenSelector = { label: token.tokenLabel };
  const environment = moduleEnvironment();
  await runRootCeremony({ ...token, tokenSelector, environment, ...root });
}

async function done(...argv: string[]): Promise<Record<string, unknown>> {
  const { status, out, err } = await twofold(...argv);
  expect([argv, status, err]).toEqual([argv, 0, '']);
  return JSON.parse(out) as Record<string, unknown>;
}

/** A command that is killed after a while of the seed's choosing, then run whole. */
async function killedThenDone(...argv: string[]): Promise<Record<string, unknown>> {
  for (let kill = 0; kill < KILLS; kill += 1) {
    const child = begun(argv);
    const closed = once(child, 'close');
    await Promise.race([closed, sleep(300 + random() * 2_500)]);
    child.kill('SIGKILL');
    await closed;
  }
  return done(...argv);
}

/** The commands of a step of the runbook as they stand there, but for what is another here. */
async function runbook(step: number, [from, to]: readonly [string, string] = ['', '']) {
  const text = STEPS[step - 1] ?? '';
  expect(text).toContain(from);
  const child = spawn('/bin/sh', ['-ec', text.replace(from, to)], {
    cwd: project,
    env: {
      ...COMMAND_ENVIRONMENT,
      TWOFOLD_DATA: service.dataDir,
      URL: service.url,
      AUTHORIZATION: join(service.dataDir, 'admin.header'),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  const [status] = (await once(child, 'close')) as [number | null];
  expect([step, status, Buffer.concat(err).toString()]).toEqual([step, 0, '']);
  return Buffer.concat(out).toString();
}

const PLAINTEXT = Buffer.from('a data key').toString('base64');
const wrap = async (key: string) => {
  const { json } = await service.request('POST', `/v1/keys/${key}/wrap`, {
    plaintext: PLAINTEXT,
  });
  return String(json['ciphertext']);
};
const unwrapped = async (key: string, ciphertext: string) => {
  const { json } = await service.request('POST', `/v1/keys/${key}/unwrap`, { ciphertext });
  return json['plaintext'] ?? json.code;
};

const rotation = async (id: string) =>
  (await service.request('GET', `/v1/admin/root/rotations/${id}`)).json;

async function untilMoved(id: string, rows: number): Promise<void> {
  for (;;) {
    const { state: standing, progress } = (await rotation(id)) as {
      readonly state?: string;
      readonly progress?: { readonly offset: number };
    };
    if (standing !== 'running' || (progress?.offset ?? 0) >= rows) return;
    await sleep(20);
  }
}

async function untilOver(id: string): Promise<Record<string, unknown>> {
  for (;;) {
    const json = await rotation(id);
    if (json['state'] !== 'running') return json;
    await sleep(200);
  }
}

const begin = async () => {
  for (;;) {
    const answer = await service.request('POST', '/v1/admin/root/rotations', {
      reason: 'a drill',
    });
    // Instances open a new generation within seconds of its ceremony.
    if (answer.status !== 409) return answer;
    await sleep(500);
  }
};

/** Uses and changes of keys until told to stop; answers what failed. */
function load(ciphertexts: ReadonlyMap<string, string>) {
  const failures: unknown[] = [];
  let [stopped, requests] = [false, 0];
  const note = (what: string, status: number, code: unknown) => {
    requests += 1;
    if (status >= 300) failures.push([what, status, code]);
  };
  const use = async () => {
    const keys = [...ciphertexts.keys()];
    while (!stopped) {
      const key = keys[Math.floor(random() * keys.length)] ?? '';
      const ciphertext = ciphertexts.get(key) ?? '';
      const answer = await service.request('POST', `/v1/keys/${key}/unwrap`, { ciphertext });
      note('unwrap', answer.status, answer.json.code);
      if (answer.json['plaintext'] !== PLAINTEXT) failures.push(['plaintext', key]);
    }
  };
  const change = async () => {
    for (let number = 0; !stopped; number += 1) {
      const name = `made-${String(number)}-${String(Math.floor(random() * 1e9))}`;
      const json = { name, suite: 'MLKEM768-P256' };
      const made = await service.request('POST', '/v1/admin/keys', json);
      note('create', made.status, made.json.code);
      const rotated = await service.request('POST', `/v1/admin/keys/${name}/rotate`, {});
      note('rotate', rotated.status, rotated.json.code);
      const listed = await service.request('GET', '/v1/keys?pageSize=20');
      note('list', listed.status, listed.json.code);
      await sleep(20);
    }
  };
  const running = [use(), use(), change()];
  return {
    /** How many have been answered. */
    answered: () => requests,
    /** What failed, once the last of them is answered. */
    stop: async () => {
      stopped = true;
      await Promise.all(running);
      return failures;
    },
  };
}

describe('the root is replaced', () => {
  const ciphertexts = new Map<string, string>();

  it('by a ceremony beside the service, which each kill leaves to the next run', async () => {
    for (let number = 0; number < KEYS; number += 1) {
      const suite = number % 3 === 0 ? 'MLKEM1024-P384' : 'MLKEM768-P256';
      const key = `k${String(number)}`;
      const made = await service.request('POST', '/v1/admin/keys', { name: key, suite });
      expect([made.status, made.json.code]).toEqual([201, undefined]);
      ciphertexts.set(key, await wrap(key));
    }
    const added = await killedThenDone('hsm', 'generation', 'add');
    expect(added).toMatchObject({ generation: 2, state: 'complete', custody: 'non-extractable' });
    expect(await done('hsm', 'generation', 'add')).toMatchObject({ generation: 2, made: false });
    const { generations, onTokenAlone } = await done('hsm', 'generations');
    expect(onTokenAlone).toEqual([]);
    expect(generations).toMatchObject([
      { generation: 1, state: 'in-force', onToken: true },
      { generation: 2, state: 'complete', onToken: true, references: {} },
    ]);
    // Somebody is about to send a key that is sealed to what only the first generation opens.
    const parameters = '/v1/admin/imports/parameters?suite=ECDSA-P256-SHA256';
    expect((await service.request('GET', parameters)).status).toBe(200);
    const early = await twofold('hsm', 'generation', 'retire', '1');
    expect([early.status, early.err]).toEqual([1, expect.stringContaining('in-force')]);
  }, 120_000);

  it('under load without a request that fails, and one rotation at a time', async () => {
    const running = load(ciphertexts);
    await sleep(500);
    const first = await begin();
    expect([first.status, first.json.code]).toEqual([201, undefined]);
    const second = await service.request('POST', '/v1/admin/root/rotations', {
      reason: 'another',
    });
    expect([second.status, second.json.code]).toEqual([409, 'conflict']);
    const id = String(first.json['id']);
    const before = running.answered();
    const over = await untilOver(id);
    const meanwhile = running.answered() - before;
    expect(await running.stop()).toEqual([]);
    expect(meanwhile).toBeGreaterThanOrEqual(MEANWHILE);
    expect(over).toMatchObject({ state: 'succeeded', progress: { failed: 0 } });
    const { offset, total } = over['progress'] as Record<string, number>;
    expect(offset).toBe(total);
    const { json } = await service.request('GET', '/v1/admin/root');
    expect(json).toMatchObject({ inForce: 2, generations: [{ references: {} }, {}] });
    expect((json['generations'] as { references: object }[])[0]?.references).toEqual({});
    const shown = await service.request('GET', '/v1/keys/k0/versions/1');
    expect(JSON.stringify(shown.json)).toContain('"rootGeneration":2');
  }, 120_000);

  it('and the old generation is destroyed, which a new start does not miss', async () => {
    const waits = await twofold('hsm', 'generation', 'retire', '1');
    const until = expect.stringMatching(/can be used until 2\d{3}-\d\d-\d\dT.*--strand-imports/u);
    expect([waits.status, waits.err]).toEqual([1, until]);
    const argv = ['hsm', 'generation', 'retire', '1', '--strand-imports'];
    // A zone that is stopped: all that was acknowledged would be lost with this one.
    others.push('zone-2');
    const lacked = await twofold(...argv);
    expect([lacked.status, lacked.err]).toEqual([1, expect.stringContaining('in zone zone-2 has')]);
    argv.push('--without-zone', 'zone-2');
    const retired = await killedThenDone(...argv);
    others.pop();
    expect(retired).toMatchObject({ generation: 1, state: 'retired' });
    const { generations } = await done('hsm', 'generations');
    expect(generations).toMatchObject([
      { state: 'retired', onToken: false },
      { state: 'in-force' },
    ]);
    for (const [key, ciphertext] of ciphertexts) {
      expect([key, await unwrapped(key, ciphertext)]).toEqual([key, PLAINTEXT]);
    }
    await expectLeftSeen(retired['installation'] as string);
    await service.stop();
    service = await TestService.start({ dataDir: service.dataDir, environment: SLOWLY });
    for (const key of ['k0', 'k1']) {
      expect(await unwrapped(key, ciphertexts.get(key) ?? '')).toBe(PLAINTEXT);
    }
    const found = await twofold('doctor', 'secrets');
    expect([found.status, found.out]).toEqual([0, expect.stringContaining(': 0 found')]);
  }, 120_000);

  it('again, by the runbook, and a kill at any moment of it loses nothing', async () => {
    await runbook(1, [' --so-pin-file /media/safe/so.pin', '']);
    expect(await runbook(2)).toContain('"generation":3');
    let begun = '';
    // Instances open a new generation within seconds.
    while (!begun.includes('root-rotation')) {
      begun = await runbook(3);
      await sleep(500);
    }
    const { id, progress } = JSON.parse(begun) as { id: string; progress: { total: number } };
    for (let kill = 0; kill < KILLS; kill += 1) {
      await untilMoved(id, (progress.total * (kill + random())) / (KILLS + 1));
      await sleep(random() * 100);
      await service.kill();
      service = await TestService.start({ dataDir: service.dataDir, environment: SLOWLY });
      const key = `k${String(Math.floor(random() * KEYS))}`;
      expect([key, await unwrapped(key, ciphertexts.get(key) ?? '')]).toEqual([key, PLAINTEXT]);
    }
    expect(await untilOver(id)).toMatchObject({ state: 'succeeded' });
    expect(await runbook(4)).toContain('"state":"succeeded"');
    for (const [key, ciphertext] of ciphertexts) {
      expect([key, await unwrapped(key, ciphertext)]).toEqual([key, PLAINTEXT]);
    }
    expect(await runbook(5, ['retire 1', 'retire 2'])).toContain('"destroyed":true');
  }, 600_000);
});
