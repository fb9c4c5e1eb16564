/** A database that was rolled back is refused at the start, and only a word about that very state lets it go on. */
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { checkpointHash } from '../../src/audit/continuation.ts';
import type { LogReader } from '../../src/audit/log-ports.ts';
import { parseNote } from '../../src/audit/notes.ts';
import { TwofoldError } from '../../src/errors.ts';
import { LogFollower } from '../../src/main/log-follower.ts';
import { checkNotRolledBack, remember, replaceFile } from '../../src/main/newest-checkpoint.ts';
import type { RollbackCheck } from '../../src/main/newest-checkpoint.ts';
import { logCheck } from '../../src/main/sequenced-log.ts';
import { MemoryLog } from '../audit/memory-log.ts';
import { testSigner } from '../audit/test-signer.ts';
import type { TestSigner } from '../audit/test-signer.ts';

let signer: TestSigner;
let other: TestSigner;
let folder: string;
let log: MemoryLog;

beforeAll(async () => {
  signer = await testSigner();
  other = await testSigner();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-newest-'));
  log = new MemoryLog();
  log.grow(300);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const faultOf = (promise: Promise<unknown>) =>
  promise.then(
    () => ({ code: 'ok', detail: '' }),
    (error: unknown) => {
      if (!TwofoldError.is(error)) throw error;
      return { code: error.code, detail: error.detail ?? '' };
    },
  );
const check = (reader: RollbackCheck['reader'], change: Partial<RollbackCheck> = {}) =>
  checkNotRolledBack({
    ...{ folder, origin: signer.origin, reader, published: [], accepted: undefined },
    ...change,
  });
const hashOf = (note: string) => {
  const parsed = parseNote(note);
  if (parsed === null) throw new Error('no note');
  return checkpointHash(parsed.checkpoint);
};

describe('a file', () => {
  it('that several processes replace at once is one of theirs as a whole, and nothing else is left', async () => {
    const contents = Array.from({ length: 16 }, (_, at) => String(at).repeat(20_000));
    await Promise.all(contents.map((content) => replaceFile(folder, 'checkpoint', content)));
    expect(contents).toContain(readFileSync(join(folder, 'checkpoint'), 'utf8'));
    expect(readdirSync(folder)).toEqual(['checkpoint']);
  });

  it('is there without what killed processes left long before, and with what others write now', async () => {
    const left = ['checkpoint.new', 'checkpoint.new-4dd8b1f7-7a2e-4f10-8a53-0f2d4f8e9b11'];
    const kept = ['checkpoint-2.new', 'checkpoint.new-now', 'checkpoint.newer'];
    for (const name of [...left, ...kept]) {
      writeFileSync(join(folder, name), 'x');
      utimesSync(join(folder, name), 1_700_000_000, 1_700_000_000);
    }
    const now = 'checkpoint.new-00000000-7a2e-4f10-8a53-0f2d4f8e9b11';
    writeFileSync(join(folder, now), 'x');
    await replaceFile(folder, 'checkpoint', 'whole');
    expect(readdirSync(folder).toSorted()).toEqual(['checkpoint', now, ...kept].toSorted());
  });

  it('that cannot be replaced leaves nothing', async () => {
    mkdirSync(join(folder, 'checkpoint'));
    await expect(replaceFile(folder, 'checkpoint', 'whole')).rejects.toThrow();
    expect(readdirSync(folder)).toEqual(['checkpoint']);
  });
});

describe('a start', () => {
  it('takes a log that stands at, or has gone on from, what was seen', async () => {
    expect(await faultOf(check(log))).toMatchObject({ code: 'ok' });
    await remember(folder, 1, await signer.publish(log, 123));
    await remember(folder, 2, await signer.publish(log, 300));
    expect(await faultOf(check(log))).toMatchObject({ code: 'ok' });
    log.grow(1000);
    expect(await faultOf(check(log))).toMatchObject({ code: 'ok' });
  });

  it.each([
    ['an older state', () => log.upTo(299)],
    ['nothing', () => new MemoryLog()],
    ['a fork of the same size', () => fork(300)],
    ['a longer fork', () => fork(900)],
    ['a fork of the first entry', () => fork(900, 0)],
  ])('refuses %s, and says what was seen', async (_, made) => {
    await remember(folder, 1, await signer.publish(log));
    const { code, detail } = await faultOf(check(made()));
    expect(code).toBe('log_rolled_back');
    expect(detail).toContain('with 300 entries was seen before');
    expect(detail).toContain(hashOf(log.note ?? ''));
  });

  const fork = (size: number, from = 299) => {
    const forked = log.upTo(from);
    forked.grow(size - from, 'other');
    return forked;
  };

  it('refuses what any worker saw, what was published, and the log of another name', async () => {
    await remember(folder, 1, await signer.publish(log, 200));
    await remember(folder, 7, await signer.publish(log, 290));
    expect(await faultOf(check(log.upTo(280)))).toMatchObject({ code: 'log_rolled_back' });
    const note = parseNote(await signer.publish(log, 295));
    if (note === null) throw new Error('no note');
    const published = [{ place: 'elsewhere', note }];
    expect(await faultOf(check(log.upTo(292), { published }))).toMatchObject({
      code: 'log_rolled_back',
    });
    const renamed = await faultOf(check(log, { origin: 'log.example/other' }));
    expect(renamed).toMatchObject({ code: 'log_rolled_back' });
  });

  it('refuses a file that is no checkpoint', async () => {
    writeFileSync(join(folder, 'checkpoint'), 'x');
    expect(await faultOf(check(log))).toMatchObject({ code: 'integrity_failed' });
  });
});

describe('a roll-back that is accepted', () => {
  const recorded: object[] = [];
  const record = (operation: string, detail: object) => {
    recorded.push({ operation, ...detail });
    return Promise.resolve();
  };

  it('is said in the log before the file goes aside, and is no word about anything else', async () => {
    const note = await signer.publish(log);
    await remember(folder, 1, note);
    // Another worker saw less of what is lost; the newest stands for it.
    await remember(folder, 2, await signer.publish(log, 270));
    const restored = log.upTo(250);
    const wrong = { checkpoints: ['0'.repeat(64)], reason: 'r' };
    expect(await faultOf(check(restored, { accepted: wrong }))).toMatchObject({
      code: 'log_rolled_back',
    });
    const accepted = { checkpoints: ['0'.repeat(64), hashOf(note)], reason: 'the disk was lost' };
    const given = await check(restored, { accepted });
    const failing = given.settle(() => Promise.reject(new TwofoldError('audit_unavailable')));
    expect(await faultOf(failing)).toMatchObject({ code: 'audit_unavailable' });
    expect(readdirSync(folder)).toEqual(['checkpoint', 'checkpoint-2']);
    await given.settle(record);
    expect(recorded).toMatchObject([
      {
        ...{ operation: 'audit.rollback.accept', size: 300, atSize: 250 },
        ...{ checkpoint: hashOf(note), reason: 'the disk was lost' },
      },
      { operation: 'audit.rollback.accept', size: 270, atSize: 250 },
    ]);
    expect(readdirSync(folder)).toEqual(['checkpoint-2.given-up-270', 'checkpoint.given-up-300']);
    // It goes on from there, and a second loss is another matter.
    restored.grow(100, 'again');
    await remember(folder, 1, await signer.publish(restored));
    expect((await check(restored, { accepted })).checkpoints).toEqual([]);
    expect(await faultOf(check(restored.upTo(260), { accepted }))).toMatchObject({
      code: 'log_rolled_back',
    });
  });
});

describe('a follower', () => {
  const verified: string[] = [];
  const faults: string[] = [];
  const follow = async (reader: Pick<MemoryLog, 'head' | 'tile'> = log) => {
    verified.length = 0;
    faults.length = 0;
    const follower = new LogFollower({
      ...{ reader, folder, worker: 3, pollMs: 3_600_000 },
      keys: {
        origin: signer.origin,
        list: () => Promise.resolve(signer.vkeys.map((vkey) => ({ vkey }))),
      },
      onVerified: (_, text) => verified.push(text),
      onTrouble: (error) => faults.push(TwofoldError.is(error) ? error.code : String(error)),
      onContradiction: ({ detail }) => faults.push(detail ?? ''),
    });
    await follower.start();
    return follower;
  };
  const remembered = () => readFileSync(join(folder, 'checkpoint-3'), 'utf8');

  it('remembers what it has verified, once each, and hands it on', async () => {
    const follower = await follow();
    await follower.look();
    expect([follower.newest, verified, faults]).toEqual([null, [], []]);
    const first = await signer.publish(log);
    await follower.look();
    await follower.look();
    expect(verified).toEqual([first]);
    log.grow(5);
    const second = await signer.publish(log);
    await follower.look();
    expect(verified).toEqual([first, second]);
    expect(remembered()).toBe(second);
    expect(follower.newest).toBe(second);
    await follower.stop();
  });

  it.each([
    ['a roll-back', async () => signer.publish(log.upTo(200)).then(() => log.leaves.splice(200))],
    ['a fork', async () => signer.publish(log).then(() => log.leaves.splice(3, 1, log.root(7)))],
  ])('says %s for good, and remembers nothing newer', async (_, change) => {
    const follower = await follow();
    const note = await signer.publish(log);
    await follower.look();
    await change();
    await signer.publish(log);
    await follower.look();
    expect(logCheck({ log: { state: () => 'ok' }, outside: follower })).toEqual({
      ...{ name: 'log', ready: false, state: 'rolled-back' },
    });
    expect(faults).toHaveLength(1);
    log.grow(500);
    await signer.publish(log);
    await follower.look();
    expect(faults).toHaveLength(1);
    expect(remembered()).toBe(note);
    await follower.stop();
  });

  it('takes no note of other keys, of one key alone, or of another tree', async () => {
    const forged = await other.publish(log);
    const genuine = await signer.sign(300, log.root());
    const alone = genuine.split('\n').toSpliced(-2, 1).join('\n');
    const elsewhere = await signer.sign(300, log.root(299));
    for (const note of [forged, alone, elsewhere, 'x', `${genuine}x`]) {
      log.note = note;
      const follower = await follow();
      await follower.look();
      expect([follower.state, verified]).toEqual(['rolled-back', []]);
      await follower.stop();
    }
  });

  it.each([
    ['has not got the newest tiles', () => log.upTo(290)],
    ['has another entry where one was settled', () => forkOf(290)],
  ])('takes no tile of an old primary for a roll-back: it %s', async (_, made) => {
    const old = made();
    const read = (...[level, index, width, certain]: Parameters<LogReader['tile']>) =>
      (certain === true ? log : old).tile(level, index, width);
    await remember(folder, 3, await signer.publish(log, 250));
    expect(await faultOf(check({ head: log.head, entries: log.entries, tile: read }))).toEqual({
      code: 'ok',
      detail: '',
    });
    const follower = await follow({ head: log.head, tile: read });
    const note = await signer.publish(log);
    await follower.look();
    expect([follower.state, verified, faults]).toEqual(['ok', [note], []]);
    await follower.stop();
  });

  const forkOf = (from: number) => {
    const forked = log.upTo(from);
    forked.grow(log.leaves.length - from, 'other');
    return forked;
  };

  it('says that the folder takes nothing, for as long as that is so, and hands nothing on', async () => {
    const checked = (log = 'ok') => logCheck({ log: { state: () => log }, outside: follower });
    const follower = await follow();
    const note = await signer.publish(log);
    // What is in the way of its file, also of root's.
    mkdirSync(join(folder, 'checkpoint-3'));
    await follower.look();
    expect([verified, faults]).toEqual([[], [expect.stringContaining('EISDIR')]]);
    // Uses do not wait for it, and what is wrong with the log itself is more.
    expect(checked()).toEqual({ name: 'log', ready: true, state: 'not-remembered' });
    expect(checked('halted')).toEqual({ name: 'log', ready: true, state: 'halted' });
    rmSync(join(folder, 'checkpoint-3'), { recursive: true });
    await follower.look();
    expect([verified, remembered()]).toEqual([[note], note]);
    expect(checked()).toEqual({ name: 'log', ready: true, state: 'ok' });
    await follower.stop();
  });

  it('goes on after a database that was away', async () => {
    let away = true;
    const head = () =>
      away ? Promise.reject(new TwofoldError('database_unavailable')) : log.head();
    const follower = await follow({ head, tile: log.tile });
    const note = await signer.publish(log);
    await follower.look();
    expect(faults).toEqual(['database_unavailable']);
    away = false;
    await follower.look();
    expect(verified).toEqual([note]);
    await follower.stop();
  });
});

describe('what is told of an altered log', () => {
  const altered = (tile: LogReader['tile']): RollbackCheck['reader'] => {
    const copy = log.upTo(700);
    return { head: copy.head, entries: copy.entries, tile };
  };
  const flipped = (hashes: Uint8Array | null): Uint8Array | null =>
    hashes === null ? null : Uint8Array.from(hashes, (byte, at) => (at === 40 ? byte ^ 1 : byte));

  it('names the tile, or the entry, that is not that of the tree', async () => {
    log.grow(400);
    await remember(folder, 1, await signer.publish(log, 690));
    const tile = altered(async (level, index, width) => {
      const hashes = await log.tile(level, index, width);
      return level === 0 && index === 1 ? flipped(hashes) : hashes;
    });
    // Proofs are made of the level above: of that tile they read nothing.
    expect(await faultOf(check(tile))).toMatchObject({ code: 'ok' });
    const above = altered(async (level, index, width) => {
      const hashes = await log.tile(level, index, width);
      return level === 1 ? flipped(hashes) : hashes;
    });
    expect((await faultOf(check(above))).detail).toContain(
      'tile/0/001 is not that of which tile/1/000.p/2 has the root, entries 256 to 511',
    );
    const leaf = log.upTo(700);
    const other = new MemoryLog();
    other.grow(700, 'x');
    leaf.leaves[600] = other.leaves[600] ?? new Uint8Array(32);
    expect((await faultOf(check(leaf))).detail).toContain(
      'entry 1-601, index 600, is not its leaf',
    );
  });
});
