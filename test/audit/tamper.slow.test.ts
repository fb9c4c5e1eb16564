/**
 * Ten thousand ways to touch an export, each of which the verifier has to find: bits and bytes of every
 * file, and what somebody does who knows the format and makes everything that needs no key anew.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { leafHash } from '../../src/audit/tree/hashes.ts';
import { formatVkey, SIGNATURE_TYPE } from '../../src/audit/tree/vkey.ts';
import { verifyExport } from '../../src/audit/verify/verify.ts';
import type { VerifyReport } from '../../src/audit/verify/verify.ts';
import { TwofoldError } from '../../src/errors.ts';
import { makeLog, randomOf, rootOf, trustOf, writeExport } from './synthetic-log.ts';
import type { Log } from './synthetic-log.ts';
import { entryBytes, Lanes, makePair, makeSigner, noteOf, signersOf } from './synthetic.ts';
import type { Draft } from './synthetic.ts';

const root = mkdtempSync(join(tmpdir(), 'audit-tamper-'));
const witnesses = [
  makeSigner(SIGNATURE_TYPE.ed25519Cosignature, 'witness.example/one'),
  makeSigner(SIGNATURE_TYPE.mlDsa44Cosignature, 'witness.example/two'),
];
const random = randomOf(20_261_129);
let log: Log;
let untouched: string;
let done = 0;

beforeAll(async () => {
  log = await makeLog(700, 7, witnesses);
  untouched = join(root, 'untouched');
  writeExport(untouched, log);
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

const options = () => ({
  trust: trustOf(log),
  witnesses: { vkeys: witnesses.map(({ vkey }) => vkey), threshold: witnesses.length },
});

/** Null when the folder is refused as a whole. */
async function verify(folder: string, seen: readonly string[] = []): Promise<VerifyReport | null> {
  try {
    return await verifyExport(folder, { ...options(), seen });
  } catch (error) {
    if (TwofoldError.is(error, 'invalid_value')) return null;
    throw error;
  }
}

const isFound = (report: VerifyReport | null): boolean => report?.verified !== true;

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile())
    .map((name) => relative(folder, join(folder, name)))
    .sort();
}

const pick = <T>(from: readonly T[]): T => {
  const picked = from[random(from.length)];
  if (picked === undefined) throw new Error('nothing to pick from');
  return picked;
};

/**
 * Of `export.json` nobody can tell whether the time, which is for people, and `stateFrom`, which only
 * whoever made the export knows, are right: docs/audit-log.md says so.
 */
function untold(name: string, bytes: Uint8Array): readonly [from: number, to: number] {
  if (name !== 'export.json') return [0, 0];
  const text = Buffer.from(bytes).toString('latin1');
  return [text.indexOf('"stateFrom":'), text.length];
}

/** A list of the newest checkpoint alone lacks others, but nothing that it says is untrue. */
const isShorterList = (one: string, other: string): boolean =>
  one === 'checkpoints' && other === 'checkpoint';

describe('files', () => {
  /** Touches one file at a time and puts it back. */
  async function missedBy(
    count: number,
    touch: (name: string, bytes: Uint8Array) => Uint8Array | null,
    wanted: (name: string) => boolean = () => true,
  ): Promise<string[]> {
    const names = filesOf(untouched).filter(wanted);
    const missed: string[] = [];
    for (let at = 0; at < count;) {
      const name = names[at % names.length] ?? '';
      const path = join(untouched, name);
      const bytes = readFileSync(path);
      const touched = touch(name, Uint8Array.from(bytes));
      if (touched === null || Buffer.compare(bytes, touched) === 0) continue;
      at += 1;
      done += 1;
      writeFileSync(path, touched);
      const report = await verify(untouched);
      writeFileSync(path, bytes);
      if (!isFound(report))
        missed.push(`${name}: ${Buffer.from(touched).toString('base64').slice(0, 40)}`);
    }
    return missed;
  }

  it('verify before anything is touched', async () => {
    const report = await verify(untouched, [log.newest, log.notes[3] ?? '']);
    expect(report?.problems).toEqual([]);
    expect(report?.claim).toEqual({
      against: 'pin-holder',
      witnesses: ['witness.example/one', 'witness.example/two'],
      threshold: 2,
    });
  });

  it('with a bit flipped', async () => {
    const missed = await missedBy(4_500, (name, bytes) => {
      const at = random(bytes.length);
      const [from, to] = untold(name, bytes);
      if (at >= from && at < to) return null;
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
      return bytes;
    });
    expect(missed).toEqual([]);
  }, 300_000);

  it('that end early', async () => {
    const missed = await missedBy(700, (_, bytes) => bytes.subarray(0, random(bytes.length)));
    expect(missed).toEqual([]);
  }, 120_000);

  it('with bytes taken out', async () => {
    const missed = await missedBy(500, (name, bytes) => {
      const at = random(bytes.length);
      const [from, to] = untold(name, bytes);
      if (at >= from && at < to) return null;
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random(40))]);
    });
    expect(missed).toEqual([]);
  }, 120_000);

  it('with bytes put in', async () => {
    const missed = await missedBy(500, (name, bytes) => {
      const at = random(bytes.length + 1);
      const [from, to] = untold(name, bytes);
      if (at >= from && at < to) return null;
      return Buffer.concat([bytes.subarray(0, at), Uint8Array.of(random(256)), bytes.subarray(at)]);
    });
    expect(missed).toEqual([]);
  }, 120_000);

  it('that are missing', async () => {
    for (const name of filesOf(untouched)) {
      const path = join(untouched, name);
      const bytes = readFileSync(path);
      rmSync(path);
      const report = await verify(untouched);
      writeFileSync(path, bytes);
      expect([name, isFound(report)]).toEqual([name, true]);
      done += 1;
    }
  });

  it('that stand in for one another', async () => {
    const names = filesOf(untouched);
    for (const one of names) {
      for (const other of names) {
        if (one === other || isShorterList(one, other)) continue;
        const [bytes, others] = [
          readFileSync(join(untouched, one)),
          readFileSync(join(untouched, other)),
        ];
        if (bytes.equals(others)) continue;
        writeFileSync(join(untouched, one), others);
        const report = await verify(untouched);
        writeFileSync(join(untouched, one), bytes);
        expect([one, other, isFound(report)]).toEqual([one, other, true]);
        done += 1;
      }
    }
  }, 120_000);

  it('with an entry edited: the index of that entry is named', async () => {
    for (let round = 0; round < 500; round += 1) {
      const index = random(log.bodies.length);
      const bodies = log.bodies.map((body) => Uint8Array.from(body));
      const body = bodies[index] ?? new Uint8Array(1);
      // The time, which has no form that could be wrong, and is the same length.
      const at = body.length > 70 ? 60 + random(8) : 0;
      body[at] = (body[at] ?? 0) ^ (1 << random(8));
      const folder = join(root, 'edited');
      writeExport(folder, { ...log, bodies });
      const report = await verify(folder);
      expect(report?.first).toMatchObject({ index });
      expect(report?.problems.some((each) => each.code === 'entry_altered')).toBe(true);
      done += 1;
    }
  }, 120_000);
});

describe('whoever makes everything anew that needs no key', () => {
  const folder = join(root, 'forged');
  type Forgery = Partial<Omit<Log, 'drafts' | 'oldState'>>;

  async function found(
    forged: Forgery,
    seen: readonly string[] = [],
  ): Promise<VerifyReport | null> {
    rmSync(folder, { recursive: true, force: true });
    writeExport(folder, { ...log, ...forged });
    done += 1;
    return verify(folder, seen);
  }

  /** Leaves and tiles of other entries, under the notes of the log. */
  const retiled = (bodies: readonly Uint8Array[]): Forgery => ({
    bodies,
    leaves: bodies.map(leafHash),
  });

  /** The same, with every lane numbered and chained anew. */
  function rechained(drafts: readonly Draft[]): Forgery {
    const lanes = new Lanes();
    return retiled(drafts.map((draft, at) => lanes.place(draft, Math.floor(at / 50)).body));
  }

  /** Checkpoints of these entries, signed by whoever has these keys. */
  async function signed(forged: Forgery, pair = makePair()): Promise<Forgery> {
    const leaves = forged.leaves ?? log.leaves;
    const sizes = [...log.sizes.filter((size) => size < leaves.length), leaves.length];
    const notes = await Promise.all(
      sizes.map((size) => noteOf(size, rootOf(leaves.slice(0, size)), signersOf(pair))),
    );
    return { ...forged, notes, newest: notes.at(-1) ?? '' };
  }

  const someDrafts = (): Draft[] => [...log.drafts];

  it('cannot edit an entry', async () => {
    for (let round = 0; round < 700; round += 1) {
      const drafts = someDrafts();
      const index = random(drafts.length);
      const draft = drafts[index];
      if (draft === undefined) throw new Error('no entry');
      drafts[index] = {
        ...draft,
        ...pick([{ outcome: 'forbidden' }, { operation: 'wrap-' }, { namespace: 'n' }]),
      };
      const forged = rechained(drafts);
      // Either the whole lane is made anew, or this entry alone.
      const bodies = [...log.bodies];
      const other = forged.bodies?.[index];
      if (other !== undefined) bodies[index] = other;
      const report = await found(round % 2 === 0 ? forged : retiled(bodies));
      expect(isFound(report)).toBe(true);
      expect(report?.first?.index).toBeLessThanOrEqual(index);
    }
  }, 240_000);

  it('cannot delete entries', async () => {
    for (let round = 0; round < 500; round += 1) {
      const [from, count] = [random(log.drafts.length - 5), 1 + random(4)];
      const drafts = someDrafts();
      drafts.splice(from, count);
      const bodies = [...log.bodies];
      bodies.splice(from, count);
      expect(isFound(await found(round % 2 === 0 ? rechained(drafts) : retiled(bodies)))).toBe(
        true,
      );
    }
  }, 240_000);

  it('cannot insert entries', async () => {
    for (let round = 0; round < 500; round += 1) {
      const at = random(log.drafts.length);
      const drafts = someDrafts();
      drafts.splice(at, 0, pick(log.drafts));
      const bodies = [...log.bodies];
      const lane = 1 + random(9);
      const place = { n: 1 + random(3), previous: new Uint8Array(32), epoch: 1 };
      bodies.splice(at, 0, entryBytes({ lane, operation: 'unwrap' }, place));
      expect(isFound(await found(round % 2 === 0 ? rechained(drafts) : retiled(bodies)))).toBe(
        true,
      );
    }
  }, 240_000);

  it('cannot reorder entries', async () => {
    for (let round = 0; round < 500; round += 1) {
      const [one, other] = [random(log.bodies.length), random(log.bodies.length)];
      const [first, second] = [log.bodies[one], log.bodies[other]];
      if (first === undefined || second === undefined || one === other) continue;
      const bodies = log.bodies.with(one, second).with(other, first);
      const report = await found(retiled(bodies));
      expect(isFound(report)).toBe(true);
      expect(report?.first?.index).toBeLessThanOrEqual(Math.min(one, other));
    }
  }, 240_000);

  it('cannot sign with keys of its own, whatever it says of them', async () => {
    const own = makePair();
    for (let round = 0; round < 150; round += 1) {
      const drafts = someDrafts();
      const at = 5 + random(drafts.length - 20);
      const { keyId } = log.first.ed25519.vkey;
      const signature = Buffer.from(own.ed25519.sign(Uint8Array.of(1))).toString('base64');
      for (const { vkey } of signersOf(own)) {
        const vouched = { vkey: formatVkey(vkey), by: keyId, signature };
        const unvouched = { vkey: formatVkey(vkey), by: '', signature: '' };
        const detail = round % 3 === 0 ? vouched : unvouched;
        if (round % 3 !== 2) drafts.splice(at, 0, { lane: 1, operation: 'audit.key.add', detail });
      }
      const report = await found(await signed(rechained(drafts), own));
      expect(isFound(report)).toBe(true);
    }
  }, 240_000);

  it('cannot exchange the checkpoint for that of another tree', async () => {
    for (let round = 0; round < 150; round += 1) {
      const leaves = [...log.leaves];
      leaves[random(leaves.length)] = leafHash(Uint8Array.of(round));
      const { newest, notes } = await signed({ leaves });
      const forged = pick<Forgery>([
        { newest: newest ?? '' },
        { newest: newest ?? '', notes: notes ?? [] },
        { newest: pick(log.notes.slice(0, -1)) },
        { notes: log.notes.slice(0, -1) },
        { notes: [...log.notes].reverse() },
        { notes: [...log.notes.slice(0, 3), pick(notes ?? []), ...log.notes.slice(4)] },
      ]);
      expect(isFound(await found(forged))).toBe(true);
    }
  }, 120_000);

  it('cannot roll back: the rows, the lanes or a checkpoint that was seen tell', async () => {
    const sizes = log.sizes.slice(0, -1);
    for (let round = 0; round < 200; round += 1) {
      const at = random(sizes.length);
      const size = sizes[at] ?? 0;
      const old = {
        bodies: log.bodies.slice(0, size),
        leaves: log.leaves.slice(0, size),
        notes: log.notes.slice(0, at + 1),
        newest: log.notes[at] ?? '',
      };
      const rows = await found(old);
      expect(isFound(rows)).toBe(true);
      // With nothing but the log there is no telling, and with what was seen there is.
      const alone = { ...options(), witnesses: { vkeys: [], threshold: 0 }, rows: false };
      expect((await verifyExport(folder, alone)).problems).toEqual([]);
      const report = await verifyExport(folder, { ...alone, seen: [log.newest] });
      expect(report.first).toMatchObject({ code: 'rolled_back', index: size });
    }
  }, 120_000);
});

describe('rows', () => {
  const folder = join(root, 'rows');
  beforeAll(() => {
    writeExport(folder, log);
  });

  async function codes(change: Partial<Pick<Log, 'state' | 'lanes'>>): Promise<readonly string[]> {
    writeExport(folder, { ...log, ...change });
    done += 1;
    const report = await verify(folder);
    return (report?.problems ?? []).map(({ code }) => code);
  }

  it('that are old, genuine as they were', async () => {
    const older = log.oldState.filter((old) => {
      const now = log.state.find(({ keyId }) => keyId === old.keyId);
      return now !== undefined && now.revision > old.revision;
    });
    expect(older.length).toBeGreaterThan(2);
    for (const old of older) {
      const state = log.state.map((row) => (row.keyId === old.keyId ? old : row));
      expect(await codes({ state })).toEqual(['state_outdated']);
    }
  });

  it('that are old in one version alone, at the newest revision of the key', async () => {
    let tried = 0;
    for (const now of log.state) {
      const old = log.oldState.find(({ keyId }) => keyId === now.keyId);
      for (const before of old?.versions ?? []) {
        const versions = now.versions.map((each) =>
          each.version === before.version ? before : each,
        );
        if (JSON.stringify(versions) === JSON.stringify(now.versions)) continue;
        const state = log.state.map((row) =>
          row.keyId === now.keyId ? { ...row, versions } : row,
        );
        expect(await codes({ state })).toEqual(['state_altered']);
        tried += 1;
      }
    }
    expect(tried).toBeGreaterThan(2);
  });

  it('that are missing, and that the log knows nothing of', async () => {
    for (const [at, row] of log.state.entries()) {
      expect(await codes({ state: log.state.filter((_, each) => each !== at) })).toEqual([
        'state_missing',
      ]);
      const keyId = row.keyId.replace(/^0/, 'f');
      expect(await codes({ state: [...log.state, { ...row, keyId }] })).toEqual(['state_unlogged']);
      const ahead = { ...row, revision: row.revision + 1 };
      expect(await codes({ state: log.state.with(at, ahead) })).toEqual(['state_unlogged']);
    }
  });

  it('that say other than the log', async () => {
    for (let round = 0; round < 700; round += 1) {
      const at = random(log.state.length);
      const row = log.state[at];
      if (row === undefined) throw new Error('no row');
      const changed = pick([
        { ...row, state: row.state === 'enabled' ? 'suspended' : 'enabled' },
        { ...row, primary: row.primary === null ? 1 : row.primary + 1 },
        { ...row, minUsableVersion: row.minUsableVersion + 1 },
        { ...row, name: `${row.name}x` },
        { ...row, namespace: `${row.namespace}x` },
        { ...row, versions: row.versions.slice(0, -1) },
        {
          ...row,
          versions: [
            ...row.versions,
            { version: row.versions.length + 1, revision: 1, state: 'active' },
          ],
        },
        {
          ...row,
          versions: row.versions.map((each) => ({
            ...each,
            state: each.state === 'active' ? 'compromised' : 'active',
          })),
        },
        {
          ...row,
          versions: row.versions.map((each) => ({ ...each, revision: each.revision + 1 })),
        },
      ]);
      expect(await codes({ state: log.state.with(at, changed) })).toEqual(['state_altered']);
    }
  }, 120_000);

  it('of lanes', async () => {
    for (let round = 0; round < 200; round += 1) {
      const at = random(log.lanes.length);
      const row = log.lanes[at] ?? {};
      const next = Number(row['next']);
      const lanes = pick([
        log.lanes.with(at, { ...row, next: next + 1 + random(9) }),
        log.lanes.with(at, { ...row, next: 1 + random(next - 1) }),
        log.lanes.with(at, { ...row, kind: row['kind'] === 'use' ? 'change' : 'use' }),
        log.lanes.filter((_, each) => each !== at),
        [...log.lanes, { ...row, lane: 9 }],
      ]);
      expect(await codes({ lanes })).toContain('lane_incomplete');
    }
  }, 60_000);
});

it('were ten thousand at least', () => {
  expect(done).toBeGreaterThanOrEqual(10_000);
});
