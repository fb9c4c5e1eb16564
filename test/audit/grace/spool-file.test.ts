/** The spool's file: what survives a crash at any byte, a full disk, and somebody who alters it. */
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { ownUnplaced, seal } from '../../../src/audit/batch.ts';
import type { Position, Sealed } from '../../../src/audit/batch.ts';
import {
  SpoolFile,
  keptSpools,
  markTold,
  readSpool,
  spoolFiles,
} from '../../../src/audit/grace/spool-file.ts';
import { Teller, returnSpools, tellKept } from '../../../src/audit/grace/returning.ts';
import type { Returned } from '../../../src/audit/grace/returning.ts';
import type { Replay } from '../../../src/audit/grace/ports.ts';
import { TwofoldError } from '../../../src/errors.ts';
import { LaneLost } from '../../../src/outcome.ts';
import { softwareMac } from '../memory-store.ts';

const LANE = 7;
const instance = randomUUID();
let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'twofold-spool-'));
  path = join(folder, 'w1-a.spool');
});
afterEach(() => rm(folder, { recursive: true }));

const origin = { zone: 'z', instance, at: new Date(1_700_000_000_000) };
const begin: Position = { lane: LANE, next: 4, previous: new Uint8Array(32).fill(9) };

/** Batches of 1, 2 and 3 entries that follow one another. */
async function batchesFrom(position: Position, sizes = [1, 2, 3]): Promise<Sealed[]> {
  const made: Sealed[] = [];
  let at = position;
  for (const size of sizes) {
    const entries = Array.from({ length: size }, (_, i) =>
      ownUnplaced('lane.probe', { i }, origin),
    );
    const sealed = await seal(softwareMac, at, 3, entries);
    made.push(sealed);
    at = sealed.after;
  }
  return made;
}

/** A file with three batches; the sizes of the file after each. */
async function spooled(): Promise<{ readonly batches: Sealed[]; readonly sizes: number[] }> {
  const file = await SpoolFile.create(folder, 'w1-a', { instance, lane: LANE });
  const batches = await batchesFrom(begin);
  const sizes = [(await stat(path)).size];
  for (const { batch } of batches) {
    await file.write(batch);
    sizes.push((await stat(path)).size);
  }
  await file.close();
  return { batches, sizes };
}

/** A database that remembers what it was given. */
const parts = (
  replay: (replay: Replay) => Promise<number> = async () => 3,
  leafAt: (lane: number, n: number) => Promise<Uint8Array | null> = async () => null,
) => ({
  store: { replay },
  entries: { leafAt },
  mac: softwareMac,
  folder,
  prefix: 'w1-',
});

async function returnedWith(bytes: Uint8Array) {
  await writeFile(path, bytes);
  const firsts: number[] = [];
  const returned = await returnSpools(
    parts(async ({ batches }) => {
      firsts.push(...batches.map(({ first }) => first));
      return 3;
    }),
  );
  return { returned, firsts, left: await readdir(folder) };
}

describe('a file', () => {
  it('gives back what was written, and is nobody else’s to read', async () => {
    const { batches } = await spooled();
    const content = await readSpool(path);
    expect(content).toMatchObject({ instance, lane: LANE, end: 'whole' });
    expect(content?.batches.map(({ first, bodies }) => [first, bodies.length])).toEqual([
      [4, 1],
      [5, 2],
      [7, 3],
    ]);
    expect(content?.batches[2]?.bodies[2]).toEqual(
      Buffer.from(batches[2]?.batch.entries[2]?.body ?? []),
    );
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it('cut at any byte has the batches that were whole, and no other', async () => {
    const { sizes } = await spooled();
    const bytes = await readFile(path);
    for (let length = 0; length <= bytes.length; length += 1) {
      await writeFile(path, bytes.subarray(0, length));
      const whole = sizes.filter((size) => size <= length).length - 1;
      const content = await readSpool(path);
      if (whole < 0) expect(content).toBeNull();
      else {
        const end = sizes.includes(length) ? 'whole' : 'torn';
        expect(content).toMatchObject({ end, batches: { length: whole } });
      }
    }
  });

  it('whose last record was never written over its zeros is torn', async () => {
    const { sizes } = await spooled();
    const bytes = await readFile(path);
    bytes.fill(0, sizes[2]);
    await writeFile(path, Buffer.concat([bytes, Buffer.alloc(5_000)]));
    expect(await readSpool(path)).toMatchObject({ end: 'torn', batches: { length: 2 } });
  });

  it('takes no more than it may hold, and keeps what it has', async () => {
    const file = await SpoolFile.create(folder, 'w1-a', { instance, lane: LANE }, 400);
    const [first, , third] = await batchesFrom(begin, [1, 1, 9]);
    if (first === undefined || third === undefined) throw new Error('no batches');
    expect(file.scarce).toBe(false);
    await file.write(first.batch);
    expect(file.scarce).toBe(true);
    const error = await file.write(third.batch).catch((e: unknown) => e);
    expect(TwofoldError.is(error, 'storage_full')).toBe(true);
    await file.close();
    expect(await readSpool(path)).toMatchObject({ end: 'whole', batches: { length: 1 } });
  });

  const onFullDisk = spawnSync('mount', ['--version']).status === 0 && process.getuid?.() === 0;
  (onFullDisk ? it : it.skip)(
    'on a full disk keeps what it has, and goes on once there is room',
    async () => {
      const disk = join(folder, 'disk');
      await mkdir(disk);
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
      if (mounted.status !== 0) return;
      try {
        const file = await SpoolFile.create(disk, 'w1-a', { instance, lane: LANE });
        const [small, large, after] = await batchesFrom(begin, [2, 250, 1]);
        if (small === undefined || large === undefined || after === undefined) throw new Error();
        await file.write(small.batch);
        await writeFile(join(disk, 'filler'), Buffer.alloc(40_000));
        await expect(file.write(large.batch)).rejects.toMatchObject({ code: 'ENOSPC' });
        const read = () => readSpool(join(disk, 'w1-a.spool'));
        expect(await read()).toMatchObject({ end: 'whole', batches: { length: 1 } });
        await rm(join(disk, 'filler'));
        await file.write(large.batch);
        expect(await read()).toMatchObject({ end: 'whole', batches: { length: 2 } });
        await file.close();
      } finally {
        spawnSync('umount', [disk]);
      }
    },
  );

  it('is never made over another one', async () => {
    await spooled();
    await expect(SpoolFile.create(folder, 'w1-a', { instance, lane: LANE })).rejects.toThrow();
    expect(await readSpool(path)).toMatchObject({ batches: { length: 3 } });
  });
});

describe('the next start', () => {
  it('replays everything in order and removes the file', async () => {
    await spooled();
    const { returned, firsts, left } = await returnedWith(await readFile(path));
    expect(returned).toMatchObject([{ lane: LANE, entries: 6, state: 'returned' }]);
    expect([firsts, left]).toEqual([[4, 5, 7], []]);
  });

  it('leaves files of other workers alone, and takes its own again after a failure', async () => {
    await spooled();
    await writeFile(join(folder, 'w10-b.spool'), 'x');
    const away = new TwofoldError('database_unavailable');
    await expect(returnSpools(parts(() => Promise.reject(away)))).rejects.toBe(away);
    expect(await spoolFiles(folder, 'w1-')).toEqual([path]);
    expect(await returnSpools(parts())).toMatchObject([{ entries: 6, state: 'returned' }]);
    expect(await readdir(folder)).toEqual(['w10-b.spool']);
  });

  it('sets a file aside whose lane is lost', async () => {
    await spooled();
    const lost = () => Promise.reject(new LaneLost('gone'));
    expect(await returnSpools(parts(lost))).toMatchObject([{ entries: 0, state: 'lost' }]);
    expect(await readdir(folder)).toEqual([
      expect.stringMatching(/^w1-a\.spool\.kept-\d+-lost-0$/u),
    ]);
  });

  it('believes no refusal that a committed read does not explain', async () => {
    const { batches } = await spooled();
    const [first] = batches;
    if (first === undefined) throw new Error('no batches');
    // An old primary has not got the entry before, and says so before it would commit.
    let refusals = 3;
    const lost = async (): Promise<number> => {
      if (refusals === 0) return 3;
      refusals -= 1;
      throw new LaneLost('gone');
    };
    const before = async (lane: number, n: number) =>
      lane === LANE && n === 3 ? begin.previous : null;
    const away = new TwofoldError('database_unavailable');
    await expect(returnSpools(parts(lost, () => Promise.reject(away)))).rejects.toBe(away);
    expect(await spoolFiles(folder, 'w1-')).toEqual([path]);
    expect(await returnSpools(parts(lost, before))).toMatchObject([{ entries: 6 }]);
    expect(await readdir(folder)).toEqual([]);
  });

  it('believes in the end a refusal that goes on, and another entry in its place', async () => {
    await spooled();
    const lost = () => Promise.reject(new LaneLost('conflict'));
    const other = async (_: number, n: number) =>
      n === 3 ? begin.previous : new Uint8Array(32).fill(1);
    expect(await returnSpools(parts(lost, other))).toMatchObject([{ state: 'lost' }]);
  });

  it('tells of a file that was set aside although the next one meets an outage', async () => {
    await spooled();
    const bytes = await readFile(path);
    await writeFile(join(folder, 'w1-b.spool'), bytes);
    bytes[40] = (bytes[40] ?? 0) ^ 1;
    await writeFile(path, bytes);
    const returned: Returned[] = [];
    const away = new TwofoldError('database_unavailable');
    await expect(
      returnSpools(
        parts(() => Promise.reject(away)),
        returned,
      ),
    ).rejects.toBe(away);
    await returnSpools(parts(), returned);
    expect(returned.map(({ state }) => state)).toEqual(['damaged', 'returned']);
    expect(await keptSpools(folder, 'w1-')).toEqual([
      expect.stringMatching(/^w1-a\.spool\.kept-/u),
    ]);
  });

  it('tells the audit log of each file that was set aside, by this start or one that failed', async () => {
    const { sizes } = await spooled();
    const bytes = await readFile(path);
    const [, second = 0] = sizes;
    bytes[second + 8] = (bytes[second + 8] ?? 0) ^ 1;
    await writeFile(path, bytes);
    await returnSpools(parts());
    await writeFile(join(folder, 'w1-b.spool.kept-1'), 'of a version that told at once, or never');
    await writeFile(join(folder, 'w1-c.spool.kept-1-lost-5'), 'no head');
    const told: Returned[] = [];
    const away = new TwofoldError('audit_unavailable');
    const from = { folder, prefix: 'w' };
    await expect(tellKept(from, () => Promise.reject(away))).rejects.toBe(away);
    const record = async (one: Returned) => told.push(one);
    await tellKept(from, record);
    await tellKept(from, record);
    expect(told).toEqual([
      { file: 'w1-a.spool', lane: LANE, entries: 1, state: 'damaged' },
      { file: 'w1-c.spool', lane: 0, entries: 5, state: 'lost' },
    ]);
    expect(await keptSpools(folder, 'w1-')).toHaveLength(3);
    // What somebody took away while it was told of needs no mark.
    const gone = { name: 'w1-d.spool.kept-1-lost-1', file: '', lane: 0, entries: 1 };
    await markTold(folder, { ...gone, state: 'lost' });
    expect(await keptSpools(folder, 'w1-')).toHaveLength(3);
  });

  it('tells of one that was lost while the process runs until it is told, one run after the other', async () => {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'w1-c.spool.kept-1-lost-5'), 'no head');
    let [tries, underWay, most, over] = [0, 0, 0, false];
    const teller = new Teller({
      folder,
      record: async () => {
        tries += 1;
        underWay += 1;
        most = Math.max(most, underWay);
        await sleep(5);
        underWay -= 1;
        if (tries < 4) throw new TwofoldError('audit_unavailable');
      },
      onTrouble: () => undefined,
      isOver: () => over,
      againMs: 5,
    });
    await Promise.all([teller.tellAtLast('w1-'), teller.tellAtLast('w1-')]);
    while ((await readdir(folder)).every((name) => !name.endsWith('.told'))) await sleep(5);
    await sleep(40);
    expect([tries, most]).toEqual([4, 1]);
    over = true;
    await writeFile(join(folder, 'w1-d.spool.kept-1-lost-5'), 'no head');
    tries = 0;
    await teller.tellAtLast('w1-');
    await sleep(40);
    expect(tries).toBe(1);
  });

  it('replays no byte that was altered, nor anything behind it', async () => {
    const { sizes } = await spooled();
    const bytes = await readFile(path);
    // The whole second record: its length, every byte of its entries, its HMAC, its check.
    const [, from = 0, until = 0] = sizes;
    const places = [0, 1, 2, 3].map((byte) => from + byte);
    for (let at = from + 4; at < until; at += 7) places.push(at);
    for (const at of places) {
      const altered = Buffer.from(bytes);
      // A length of two mebibytes more runs past the end.
      altered[at] = (altered[at] ?? 0) ^ (at === from + 1 ? 0x20 : 1);
      const { returned, firsts, left } = await returnedWith(altered);
      expect(firsts).toEqual([4]);
      expect(returned).toMatchObject([{ entries: 1, state: 'damaged' }]);
      for (const name of left) await rm(join(folder, name));
    }
  });

  it('replays nothing that is well-formed and not the service’s', async () => {
    const { batches } = await spooled();
    const another = await seal(async () => new Uint8Array(32), begin, 3, [
      ownUnplaced('unwrap', {}, origin),
    ]);
    const [first, second, third] = batches.map(({ batch }) => batch);
    if (first === undefined || second === undefined || third === undefined) throw new Error();
    const forgeries = {
      'a batch under another key': [another.batch],
      'a gap': [first, third],
      'a repetition': [first, first],
      'another epoch': [{ ...first, epoch: 4 }],
      'another place': [{ ...first, first: 5 }],
      'fewer entries': [first, { ...second, entries: second.entries.slice(0, 1) }],
    };
    for (const [what, forged] of Object.entries(forgeries)) {
      for (const name of await readdir(folder)) await rm(join(folder, name));
      const file = await SpoolFile.create(folder, 'w1-a', { instance, lane: LANE });
      for (const batch of forged) await file.write(batch);
      await file.close();
      const { returned, firsts } = await returnedWith(await readFile(path));
      const sound = forged[0] === first ? [4] : [];
      expect({ what, state: returned[0]?.state, firsts }).toEqual({
        ...{ what, state: 'damaged', firsts: sound },
      });
    }
  });

  it('of another instance or lane finds nothing of it sound', async () => {
    await spooled();
    const bytes = await readFile(path);
    bytes.writeUInt32BE(LANE + 1, 8);
    expect((await returnedWith(bytes)).returned).toMatchObject([{ entries: 0, state: 'damaged' }]);
  });

  it('sets a file aside that is none', async () => {
    const { returned, left } = await returnedWith(Buffer.alloc(100, 'x'));
    expect(returned).toMatchObject([{ entries: 0, state: 'damaged' }]);
    expect(left).toHaveLength(1);
  });
});
