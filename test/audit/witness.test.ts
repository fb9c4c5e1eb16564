/** The witness protocol between our own two sides, over HTTP; what is persisted, and when; and kill -9. */
import { fork } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { checkpointHash } from '../../src/audit/continuation.ts';
import type { LogReader } from '../../src/audit/log-ports.ts';
import { parseNote, parseVkey, signersOf } from '../../src/audit/notes.ts';
import { consistencyProof } from '../../src/audit/tree/proofs.ts';
import { openCosigner } from '../../src/audit/witness/cosigner.ts';
import { addCheckpointBody, parseAddCheckpoint } from '../../src/audit/witness/protocol.ts';
import { WitnessStates } from '../../src/audit/witness/state.ts';
import { WitnessClient } from '../../src/audit/witness/submission.ts';
import { Witness } from '../../src/audit/witness/witness.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { TwofoldError } from '../../src/errors.ts';
import { checkWitnesses } from '../../src/main/log-outside.ts';
import { exchange } from '../../src/main/log-places.ts';
import { openWitnessListener } from '../../src/main/witness-listener.ts';
import type { WitnessListener } from '../../src/main/witness-listener.ts';
import { openLogKeysWorld } from './log-keys-world.ts';
import type { LogKeysWorld } from './log-keys-world.ts';
import { logSeals } from '../../src/keyring/log-keys.ts';
import { MemoryLog } from './memory-log.ts';
import { testSigner } from './test-signer.ts';
import type { TestSigner } from './test-signer.ts';

let world: LogKeysWorld;
let signer: TestSigner;
let stranger: TestSigner;
let folder: string;
let log: MemoryLog;
let listener: WitnessListener;
let witness: Witness;

const keysOf = (vkeys: readonly string[]) => vkeys.map(parseVkey).filter((key) => key !== null);

const openWitness = async () => {
  const states = new WitnessStates(folder);
  await states.open();
  const cosigner = await openCosigner({
    ...{ folder, name: 'witness.example/w', hsm: world.hsm, engine: nativeEngine },
    seals: logSeals(world.root),
  });
  const logs = [{ origin: signer.origin, keys: keysOf(signer.vkeys) }];
  return new Witness({ logs, states, cosigner });
};
const listen = async () => {
  witness = await openWitness();
  listener = await openWitnessListener(witness, { host: '127.0.0.1', port: 0 }, () => undefined);
};
const url = () => `http://127.0.0.1:${String(listener.address.port)}`;
const post = (body: string, path = '/add-checkpoint') => exchange(`${url()}${path}`, 'POST', body);

beforeAll(async () => {
  world = await openLogKeysWorld();
  signer = await testSigner();
  stranger = await testSigner('log.example/stranger');
}, 60_000);
afterAll(() => world.stop(), 60_000);
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-witness-'));
  log = new MemoryLog();
  log.grow(600);
  await listen();
});
afterEach(async () => {
  await listener.close();
  rmSync(folder, { recursive: true, force: true });
});

const noteOf = (size: number, of = log) => signer.publish(of, size);
const proof = (from: number, to: number, of = log) =>
  consistencyProof(from, to, (...tile) => of.tile(...tile));
const add = async (from: number, to: number, of = log) =>
  post(addCheckpointBody(from, await proof(from, to, of), await noteOf(to, of)));
const cosigners = (note: string, lines: string) => {
  const cosigned = parseNote(`${note.slice(0, note.indexOf('\n\n'))}\n\n${lines}`);
  return cosigned === null ? [] : signersOf(cosigned, keysOf(witness.vkeys));
};

describe('add-checkpoint', () => {
  it('cosigns what goes on from what it cosigned, by both its keys, also after a restart', async () => {
    const note = await noteOf(5);
    const first = await add(0, 5);
    expect(first.status).toBe(200);
    expect(cosigners(note, first.body).map(({ key }) => key.type)).toEqual([0x04, 0x06]);
    expect((await add(5, 300)).status).toBe(200);
    const { vkeys } = witness;
    await listener.close();
    await listen();
    expect(witness.vkeys).toEqual(vkeys);
    expect(await add(5, 400)).toEqual({ status: 409, body: '300\n' });
    expect((await add(300, 400)).status).toBe(200);
    // The same again, as after an answer that was lost.
    expect((await add(400, 400)).status).toBe(200);
    expect(readdirSync(folder).filter((name) => name !== 'keys.json')).toHaveLength(1);
  });

  it('refuses a roll-back and a fork, and stands where it stood', async () => {
    await add(0, 500);
    expect(await add(0, 400)).toEqual({ status: 409, body: '500\n' });
    expect(await add(400, 500)).toEqual({ status: 409, body: '500\n' });
    const fork = log.upTo(499);
    fork.grow(300, 'other');
    expect((await add(500, 700, fork)).status).toBe(422);
    // Of the same size and another root: there is no proof, and it says where it stands.
    const other = log.upTo(499);
    other.grow(1, 'other');
    expect(await add(500, 500, other)).toEqual({ status: 409, body: '500\n' });
    expect((await add(500, 600)).status).toBe(200);
  });

  it('answers 404 for another log, 403 without the signatures of its keys, 400 for what is malformed', async () => {
    const foreign = await stranger.sign(5, log.root(5));
    expect((await post(addCheckpointBody(0, [], foreign))).status).toBe(404);
    const note = await noteOf(5);
    const unknown = (await testSigner()).sign(5, log.root(5));
    const changed = note.replace('\n5\n', '\n6\n');
    const classicalOnly = note.split('\n').toSpliced(-2, 1).join('\n');
    for (const wrong of [await unknown, changed, classicalOnly]) {
      expect((await post(addCheckpointBody(0, [], wrong))).status).toBe(403);
    }
    const body = addCheckpointBody(0, [], note);
    const malformed = [
      ...['', 'old 0\n', note, body.slice(1), body.replace('old 0', 'old 00')],
      ...[body.replace('old 0', 'old -1'), body.replace('old 0\n', 'old 0\nAA==\n')],
      ...[body.slice(0, -1), body.replace('\n\n', '\n'), addCheckpointBody(6, [], note)],
    ];
    for (const text of malformed) expect([text, (await post(text)).status]).toEqual([text, 400]);
    expect((await post(body, '/other')).status).toBe(404);
    expect((await fetch(`${url()}/add-checkpoint`)).status).toBe(405);
    expect((await post('x'.repeat(600_000))).status).toBe(413);
    expect(await add(1, 5)).toEqual({ status: 409, body: '0\n' });
  });

  it('goes one way however many ask at once, in one process and in two', async () => {
    const second = await openWitness();
    const fork = log.upTo(100);
    fork.grow(400, 'other');
    await add(0, 100);
    const bodies = await Promise.all(
      Array.from({ length: 24 }, async (_, i) => {
        const of = i % 2 === 0 ? log : fork;
        const to = 101 + i;
        return addCheckpointBody(100, await proof(100, to, of), await noteOf(to, of));
      }),
    );
    const answers = await Promise.all(
      bodies.map((body, i) => (i % 3 === 0 ? second : witness).addCheckpoint(body)),
    );
    const cosigned = answers.filter(({ status }) => status === 200);
    expect(cosigned).toHaveLength(1);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 409]));
  });

  it('cosigns nothing that is not on disk', async () => {
    const states = new WitnessStates(folder);
    const full = Object.assign(Object.create(states) as WitnessStates, {
      of: (origin: string) => states.of(origin),
      advance: () => Promise.reject(new Error('ENOSPC')),
    });
    let cosigned = 0;
    const cosigner = {
      vkeys: [],
      cosign: () => {
        cosigned += 1;
        return Promise.resolve('');
      },
    };
    const logs = [{ origin: signer.origin, keys: keysOf(signer.vkeys) }];
    const broken = new Witness({ logs, states: full, cosigner });
    await expect(broken.addCheckpoint(addCheckpointBody(0, [], await noteOf(5)))).rejects.toThrow(
      'ENOSPC',
    );
    expect(cosigned).toBe(0);
  });

  it('refuses to go on from files that were altered', async () => {
    await add(0, 5);
    const [state = ''] = readdirSync(folder).filter((name) => name !== 'keys.json');
    writeFileSync(join(folder, state), 'x');
    expect((await add(5, 6)).status).toBe(500);
    writeFileSync(join(folder, 'keys.json'), '{}');
    await expect(openWitness()).rejects.toMatchObject({ code: 'integrity_failed' });
  });

  it('gives up what an operator names, and nothing else', async () => {
    await add(0, 500);
    const root = log.root(500);
    const hash = checkpointHash({ origin: signer.origin, size: 500, root });
    const said: string[] = [];
    const say = (origin: string) => Promise.resolve(void said.push(origin));
    expect(await witness.giveUp('0'.repeat(64), say)).toBeNull();
    await expect(witness.giveUp(hash, () => Promise.reject(new Error('away')))).rejects.toThrow();
    expect(await add(0, 400)).toEqual({ status: 409, body: '500\n' });
    expect(await witness.giveUp(hash, say)).toBe(signer.origin);
    expect(await witness.giveUp(hash, say)).toBeNull();
    expect(said).toEqual([signer.origin]);
    expect((await add(0, 400)).status).toBe(200);
  });
});

describe('a start', () => {
  const faults: { readonly code: string; readonly detail: string }[] = [];
  const warned: string[] = [];
  const start = async (reader: Pick<MemoryLog, 'head' | 'tile'>, checkpoints: string[] = []) => {
    faults.length = 0;
    warned.length = 0;
    const witnesses = [{ url: url(), vkeys: witness.vkeys }];
    await checkWitnesses({
      config: { audit: { witnesses, acceptRollback: { checkpoints, reason: 'r' } } },
      store: { log: reader },
      log: { warn: (...said: unknown[]) => void warned.push(JSON.stringify(said)) },
    }).catch((error: unknown) => {
      if (!TwofoldError.is(error)) throw error;
      faults.push({ code: error.code, detail: error.detail ?? '' });
    });
  };

  it('refuses a log that a witness has seen otherwise, until its operator gives that up', async () => {
    await add(0, 500);
    const shorter = log.upTo(400);
    await signer.publish(shorter);
    await start(shorter);
    expect(faults).toMatchObject([{ code: 'log_rolled_back' }]);
    const [hash = ''] = /\b[0-9a-f]{64}\b/u.exec(faults[0]?.detail ?? '') ?? [];
    await start(shorter, [hash]);
    expect(faults).toEqual([]);
    // The same word goes for what comes after it, of which the witness has nothing but what it had.
    const other = log.upTo(400);
    for (const growth of [100, 1, 300]) {
      other.grow(growth, 'other');
      await signer.publish(other);
      await start(other);
      expect(faults).toMatchObject([{ code: 'log_rolled_back' }]);
      expect(faults[0]?.detail).toContain(hash);
      await start(other, [hash]);
      expect([faults, warned]).toEqual([[], []]);
    }
  });

  it('goes on where the log does, and where a witness does not know it', async () => {
    await add(0, 500);
    await signer.publish(log);
    // An old primary has not got the newest tiles.
    const old = log.upTo(500);
    const tile = (...[level, index, width, certain]: Parameters<LogReader['tile']>) =>
      (certain === true ? log : old).tile(level, index, width);
    await start({ head: log.head, tile });
    expect([faults, warned]).toEqual([[], []]);
    const foreign = log.upTo(450);
    await stranger.publish(foreign);
    await start(foreign);
    expect(faults).toEqual([]);
    expect(warned.join()).toContain('404');
  });
});

describe('after kill -9', () => {
  it('a witness stands where its last answer said, or at what it was just asked', async () => {
    const child = join(import.meta.dirname, 'witness-child.ts');
    for (let round = 0; round < 12; round += 1) {
      const process = fork(child, [folder], {
        execArgv: [],
        stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      });
      let answered = 0;
      const ended = new Promise((resolve) => process.once('exit', resolve));
      process.on('message', (size: number) => (answered = Math.max(answered, size)));
      await new Promise((resolve) => process.once('message', resolve));
      await new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 40));
      process.kill('SIGKILL');
      await ended;
      const states = new WitnessStates(folder);
      await states.open();
      const { size } = await states.of('log.example/child');
      expect(size).toBeGreaterThanOrEqual(answered);
      expect(size).toBeLessThanOrEqual(answered + 2);
      expect(readdirSync(folder).filter((name) => name.endsWith('.new'))).toEqual([]);
    }
  }, 60_000);
});

describe('a submission', () => {
  const clientOf = (
    post: (url: string, body: string) => Promise<{ status: number; body: string }>,
    vkeys = witness.vkeys,
  ) => new WitnessClient({ url: `${url()}/`, keys: keysOf(vkeys), reader: log, post });
  const real = (to: string, body: string) => exchange(to, 'POST', body);
  const submit = async (client: WitnessClient, size: number) => {
    const text = await noteOf(size);
    const note = parseNote(text);
    if (note === null) throw new Error('no note');
    return client.submit(note, text);
  };

  it('finds out where the witness stands, and keeps lines that verify', async () => {
    const client = clientOf(real);
    for (const size of [7, 300, 300, 600]) {
      const { outcome, ...rest } = await submit(client, size);
      expect([outcome, Object.keys(rest)]).toEqual(['cosigned', ['lines']]);
    }
    const forgetful = clientOf(real);
    log.grow(10);
    expect(await submit(forgetful, 610)).toMatchObject({ outcome: 'cosigned' });
    expect(await submit(clientOf(real), 500)).toEqual({ outcome: 'ahead', size: 610 });
    const stands = [
      { status: 409, body: '600\n' },
      { status: 422, body: '' },
    ];
    const refusing = clientOf(() => Promise.resolve(stands.shift() ?? { status: 500, body: '' }));
    expect(await submit(refusing, 610)).toEqual({ outcome: 'contradicted', size: 600 });
    const otherRoot = clientOf(() => Promise.resolve({ status: 409, body: '610\n' }));
    expect(await submit(otherRoot, 610)).toEqual({ outcome: 'contradicted', size: 610 });
  });

  it('says what was refused, and tries again what was not answered', async () => {
    const faults: [number, string, object][] = [
      [403, '', { outcome: 'refused', status: 403 }],
      [404, '', { outcome: 'refused', status: 404 }],
      [422, '', { outcome: 'refused', status: 422 }],
      [409, 'x', { outcome: 'refused', status: 409 }],
      [409, '0\n', { outcome: 'refused', status: 409 }],
      [409, '99999999999999999\n', { outcome: 'refused', status: 409 }],
      [409, '900\n', { outcome: 'ahead', size: 900 }],
    ];
    for (const [status, body, expected] of faults) {
      expect(
        await submit(
          clientOf(() => Promise.resolve({ status, body })),
          600,
        ),
      ).toEqual(expected);
    }
    for (const status of [500, 503, 429]) {
      const away = clientOf(() => Promise.resolve({ status, body: '' }));
      await expect(submit(away, 600)).rejects.toBeInstanceOf(TwofoldError);
    }
    const lying = clientOf(real, stranger.vkeys);
    await expect(submit(lying, 600)).rejects.toMatchObject({ code: 'invalid_value' });
    let size = 0;
    const restless = clientOf(() =>
      Promise.resolve({ status: 409, body: `${String((size += 1))}\n` }),
    );
    await expect(submit(restless, 600)).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('the body', () => {
  it('is read back as it was written, with 63 hashes and no more', async () => {
    const note = await noteOf(5);
    const hashes = Array.from({ length: 63 }, (_, i) => log.root(i + 1));
    const parsed = parseAddCheckpoint(addCheckpointBody(4, hashes, note));
    expect([parsed?.old, parsed?.proof]).toEqual([4, hashes]);
    expect(parseAddCheckpoint(addCheckpointBody(4, [...hashes, log.root()], note))).toBeNull();
  });
});
