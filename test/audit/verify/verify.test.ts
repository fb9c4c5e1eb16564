import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { leafHash } from '../../../src/audit/tree/hashes.ts';
import { formatVkey, SIGNATURE_TYPE } from '../../../src/audit/tree/vkey.ts';
import type { Vkey } from '../../../src/audit/tree/vkey.ts';
import { reportLines } from '../../../src/audit/verify/report-lines.ts';
import { verifyExport } from '../../../src/audit/verify/verify.ts';
import type { VerifyOptions, VerifyReport } from '../../../src/audit/verify/verify.ts';
import { makeLog, rootOf, trustOf, writeExport } from '../synthetic-log.ts';
import type { Log } from '../synthetic-log.ts';
import {
  Lanes,
  makePair,
  makeSigner,
  noteOf,
  ORIGIN,
  put,
  signersOf,
  vouchedBy,
} from '../synthetic.ts';
import type { Draft, Signer } from '../synthetic.ts';

const root = mkdtempSync(join(tmpdir(), 'audit-verify-'));
let log: Log;
let folders = 0;

beforeAll(async () => {
  log = await makeLog();
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

const newFolder = (): string => join(root, String((folders += 1)));

function verified(
  change: Partial<Log> = {},
  options: Partial<VerifyOptions> = {},
  touch: (folder: string) => void = () => undefined,
): Promise<VerifyReport> {
  const folder = newFolder();
  writeExport(folder, { ...log, ...change });
  touch(folder);
  return verifyExport(folder, { trust: trustOf(log), ...options });
}

/** The log of these drafts, each checkpoint signed by the pairs that `by` gives for its size. */
async function logOf(
  drafts: readonly Draft[],
  epochs: (at: number) => number = (at) => Math.floor(at / 50),
): Promise<Partial<Log>> {
  const lanes = new Lanes();
  const placed = drafts.map((draft, at) => lanes.place(draft, epochs(at)));
  const leaves = placed.map(({ leaf }) => leaf);
  const retired = drafts.findIndex(({ operation }) => operation === 'audit.key.retire');
  const sizes = [...log.sizes.slice(0, -1), drafts.length];
  const notes = await Promise.all(
    sizes.map((size) => {
      const pair = retired < 0 || size <= retired ? log.first : log.second;
      return noteOf(size, rootOf(leaves.slice(0, size)), signersOf(pair));
    }),
  );
  const bodies = placed.map(({ body }) => body);
  return { bodies, leaves, notes, newest: notes.at(-1) ?? '' };
}

/** An entry after `from` is another, and its tiles and all that follows in its lane were made anew. */
async function madeAnew(from: number) {
  const at = log.drafts.findIndex(
    ({ lane, operation }, index) => index > from && lane === 1 && operation === 'unwrap',
  );
  const { bodies = [], leaves = [] } = await logOf(
    log.drafts.with(at, { lane: 1, operation: 'sign' }),
  );
  return { change: { bodies, leaves }, leaves, at };
}

const codesOf = ({ problems }: VerifyReport) => [...new Set(problems.map(({ code }) => code))];

describe('an export that nobody touched', () => {
  it('verifies', async () => {
    const report = await verified();
    expect(report.problems).toEqual([]);
    expect(report).toMatchObject({
      verified: true,
      from: 0,
      until: log.bodies.length,
      root: Buffer.from(rootOf(log.leaves)).toString('base64'),
      lanes: 4,
      checkpoints: log.notes.length,
      keySetChanges: 4,
      unchecked: [],
      claim: { against: 'database-writer' },
    });
    expect(report.keyChanges).toBeGreaterThan(40);
  });

  it('verifies from a later index, and says what it lacks', async () => {
    for (const from of [256, 512]) {
      const report = await verified(
        // The pair that signs since entry 120 has to be pinned: its entry is not in the export.
        { notes: log.notes.filter((_, at) => (log.sizes[at] ?? 0) >= from) },
        { trust: [...trustOf(log), ...signersOf(log.second).map(({ vkey }) => vkey)] },
        (folder) => {
          const file = join(folder, 'export.json');
          const text = readFileSync(file, 'utf8').replace('"from":0', `"from":${from}`);
          writeFileSync(file, text);
          rmSync(join(folder, 'tile/entries/000'));
          rmSync(join(folder, 'tile/0/000'));
          if (from === 512) rmSync(join(folder, 'tile/entries/001'));
        },
      );
      expect(report.problems).toEqual([]);
      expect(report).toMatchObject({ verified: true, from });
      expect(report.unchecked.join()).toContain(`entries before ${from}`);
    }
  });

  it('verifies when rows were read while the log went on', async () => {
    const stateFrom = Math.floor(log.bodies.length / 2) - 3;
    const setStateFrom = (folder: string) => {
      const file = join(folder, 'export.json');
      const text = readFileSync(file, 'utf8').replace(
        /"stateFrom":\d+/,
        `"stateFrom":${stateFrom}`,
      );
      writeFileSync(file, text);
    };
    const now = await verified({}, {}, setStateFrom);
    expect(now.problems).toEqual([]);
    const then = await verified({ state: log.oldState }, {}, setStateFrom);
    expect(then.problems).toEqual([]);
    const oldest = log.oldState.map((row) => ({ ...row, revision: 1 }));
    expect(codesOf(await verified({ state: oldest }, {}, setStateFrom))).toContain(
      'state_outdated',
    );
  });

  it('of which nothing is known is refused, or has no key to trust', async () => {
    await expect(verifyExport(root, { trust: trustOf(log) })).rejects.toMatchObject({
      code: 'invalid_value',
    });
    const stranger = makeSigner(SIGNATURE_TYPE.ed25519, 'other.example/log');
    const report = await verified({}, { trust: [stranger.vkey] });
    expect(codesOf(report)).toEqual(['checkpoint_unsigned']);
    expect(report.claim.against).toBe('nobody');
  });

  it('keeps no more problems than it was told, and counts all', async () => {
    const report = await verified({ state: [] }, { limit: 3 });
    expect(report.problems).toHaveLength(3);
    expect(report.problemCount).toBe(log.state.length);
  });
});

describe('entries', () => {
  it('that were edited are named by index, with why', async () => {
    const bodies = log.bodies.map((body) => Uint8Array.from(body));
    const body = bodies[300];
    if (body?.[60] === undefined) throw new Error('no entry');
    body[60] ^= 1;
    const report = await verified({ bodies });
    expect(report.first).toMatchObject({
      code: 'entry_altered',
      index: 300,
      where: 'tile/entries/001',
    });
  });

  it('that are in the tree but not found by lists are named', async () => {
    const hidden = (at: number) => Buffer.concat([Buffer.of(0xff), log.bodies[at] ?? Buffer.of()]);
    const bodies = log.bodies.with(7, hidden(7)).with(300, hidden(300));
    const report = await verified({ bodies });
    expect(report.problems.map(({ code, index }) => [code, index])).toEqual([
      ['entry_misfiled', 7],
      ['entry_misfiled', 300],
    ]);
    const none = await verified({ bodies: log.bodies.with(7, Buffer.of(0xff)) });
    expect(codesOf(none)).toContain('entry_altered');
  });

  it('that were edited in one tile are all named', async () => {
    const bodies = [...log.bodies];
    for (const index of [260, 261, 300]) {
      const body = Uint8Array.from(bodies[index] ?? []);
      body[60] = (body[60] ?? 0) ^ 1;
      bodies[index] = body;
    }
    const { problems } = await verified({ bodies });
    const altered = problems.filter(({ code }) => code === 'entry_altered');
    expect(altered.map(({ index }) => index)).toEqual([260, 261, 300]);
  });

  it('that were edited with their tiles are named by the checkpoint before', async () => {
    const { change, at } = await madeAnew(300);
    const report = await verified(change);
    expect(report.first).toMatchObject({ code: 'root_mismatch', index: 300 });
    // Once, and not by each checkpoint that follows.
    expect(report.problems.filter(({ code }) => code === 'root_mismatch')).toHaveLength(1);
    // For programs: between which two checkpoints it is.
    const bound = (size: number) => ({
      size,
      root: Buffer.from(rootOf(log.leaves.slice(0, size))).toString('base64'),
      where: `checkpoints, number ${log.sizes.indexOf(size) + 1}`,
    });
    expect(report.first?.interval).toEqual({
      ...{ from: 300, until: 511, exact: false, by: null },
      ...{ after: bound(300), before: bound(511) },
    });
    expect(at).toBeGreaterThan(300);
    expect(reportLines(report).at(-1)).toContain('is from 300 to before 511');
  });

  it('in the last, partial tile are named too', async () => {
    const bodies = log.bodies.map((body) => Uint8Array.from(body));
    const body = bodies.at(-1);
    if (body?.[60] === undefined) throw new Error('no entry');
    body[60] ^= 1;
    const report = await verified({ bodies });
    expect(report.first).toMatchObject({ code: 'entry_altered', index: log.bodies.length - 1 });
  });

  it('of another version, or with bytes behind them, are malformed', async () => {
    const longer = log.bodies.with(
      9,
      Buffer.concat([log.bodies[9] ?? Uint8Array.of(), Uint8Array.of(0)]),
    );
    const other = Uint8Array.from(log.bodies[9] ?? []);
    other[other[0] === 0x98 ? 2 : 1] = 3;
    for (const bodies of [longer, log.bodies.with(9, other)]) {
      const report = await verified({ bodies, leaves: bodies.map(leafHash) });
      expect(report.problems).toContainEqual(
        expect.objectContaining({ code: 'entry_malformed', index: 9 }),
      );
    }
  });
});

describe('a tree that was made anew', () => {
  /** The log as it was when it had so many entries. */
  const older = async (size: number): Promise<string> => {
    const folder = newFolder();
    const leaves = log.leaves.slice(0, size);
    const newest = await noteOf(
      size,
      rootOf(leaves),
      signersOf(size > 402 ? log.second : log.first),
    );
    writeExport(folder, { ...log, bodies: log.bodies.slice(0, size), leaves, newest });
    return folder;
  };
  const intervalOf = ({ first }: VerifyReport) => first?.interval;

  it('is named by its first bad index, given an older export that goes beyond it', async () => {
    for (const from of [130, 300, 513]) {
      const { change, at } = await madeAnew(from);
      const report = await verified(change, { against: [await older(650)] });
      expect(report.first).toMatchObject({ index: at });
      expect(intervalOf(report)).toMatchObject({ from: at, until: at + 1, exact: true });
      expect(reportLines(report).at(-1)).toBe(`NOT VERIFIED: the first bad index is ${at}`);
    }
  });

  it('is named also where the older export ends between two checkpoints', async () => {
    const { change, at } = await madeAnew(300);
    const against = [await older(at + 1)];
    const report = await verified(change, { against });
    expect(report.first).toMatchObject({ code: 'history_rewritten', index: at });
    // One that ends before it says that it is not there, and no more.
    const short = await verified(change, { against: [await older(at)] });
    expect(intervalOf(short)).toMatchObject({ from: at, until: 511, exact: false, by: null });
    expect(short.first?.interval?.after).toMatchObject({ size: at });
  });

  it('is as near as the levels of tiles that were kept', async () => {
    const { change } = await madeAnew(300);
    const against = await older(700);
    rmSync(join(against, 'tile/0/001'));
    const report = await verified(change, { against: [against] });
    // Of the entries 256 to 511, less what the checkpoints say.
    expect(intervalOf(report)).toMatchObject({ from: 300, until: 511, exact: false });
    const { change: early, at: first } = await madeAnew(104);
    const other = await verified(early, { against: [against] });
    expect(intervalOf(other)).toMatchObject({ from: first, exact: true });
  });

  it('is told by its own tiles where not all of them were', async () => {
    const { change } = await madeAnew(515);
    const report = await verified(change, {}, (folder) => {
      // Those of the level above stand as they were: so entries 0 to 511 are.
      const kept = newFolder();
      writeExport(kept, log);
      cpSync(join(kept, 'tile/1'), join(folder, 'tile/1'), { recursive: true });
    });
    expect(report.first?.index).toBeGreaterThanOrEqual(512);
  });

  it('believes nothing of an older export that has not the signed root', async () => {
    const { change } = await madeAnew(300);
    const forged = await older(650);
    const tile = join(forged, 'tile/0/001');
    const bytes = readFileSync(tile);
    bytes[32 * 50] = (bytes[32 * 50] ?? 0) ^ 1;
    writeFileSync(tile, bytes);
    const report = await verified(change, { against: [forged] });
    expect(intervalOf(report)).toMatchObject({ from: 300, until: 511, exact: false });
    // The best of several counts, whatever their order.
    const both = await verified(change, { against: [forged, await older(650)] });
    expect(intervalOf(both)).toMatchObject({ exact: true });
  });

  it('is bounded by no checkpoint that nobody signed', async () => {
    const { change, leaves } = await madeAnew(300);
    const stranger = signersOf(makePair());
    const forged = await noteOf(400, rootOf(leaves.slice(0, 400)), stranger);
    const notes = log.notes.toSpliced(log.sizes.indexOf(511), 0, forged);
    const report = await verified({ ...change, notes });
    expect(codesOf(report)).toContain('checkpoint_unsigned');
    const gap = report.problems.find(({ code }) => code === 'root_mismatch');
    expect(gap?.interval).toMatchObject({ from: 300, until: 511 });
    // One of another tree, beside a log that nobody touched, is wrong by itself.
    const other = await noteOf(400, leafHash(Uint8Array.of(1)), stranger);
    const alone = await verified({ notes: log.notes.toSpliced(log.sizes.indexOf(511), 0, other) });
    expect(codesOf(alone)).toEqual(['checkpoint_unsigned']);
  });

  it('was not rolled back from what nobody signed, and what is shorter is named', async () => {
    const stranger = signersOf(makePair());
    const forged = newFolder();
    const newest = await noteOf(900, leafHash(Uint8Array.of(1)), stranger);
    writeExport(forged, { ...log, newest });
    expect(codesOf(await verified({}, { against: [forged] }))).toEqual(['checkpoint_unsigned']);
    // What its reader saw: the key that signed it may have been rolled back with the entries.
    expect(codesOf(await verified({}, { seen: [newest] }))).toEqual(['rolled_back']);
    const short = await older(300);
    const report = await verified({}, { against: [short, await older(log.bodies.length)] });
    expect(report).toMatchObject({
      verified: true,
      unchecked: [`entries from 300 on against ${short}, which ends there`],
    });
  });

  it('is a log that an older export of it is of, where nothing was touched', async () => {
    expect((await verified({}, { against: [await older(300)] })).problems).toEqual([]);
    const ahead = await verified(await logOf(log.drafts.slice(0, 600)), {
      ...{ rows: false, against: [await older(650)] },
    });
    expect(ahead.first).toMatchObject({ code: 'rolled_back', index: 600 });
    await expect(verified({}, { against: [newFolder()] })).rejects.toMatchObject({
      code: 'invalid_value',
    });
  });
});

describe('moves to cold storage', () => {
  const about = (size: number, until: number) => ({
    ...{ from: 0, until, place: 'shelf 3', atSize: size, operator: 'ops(7)' },
    atRoot: Buffer.from(rootOf(log.leaves.slice(0, size))).toString('base64'),
  });
  const entry = (state: string, detail: object): Draft => ({
    lane: 3,
    operation: 'audit.archive',
    detail: { state, ...detail },
  });
  /** In the place of uses of that lane: so nothing that follows is of another lane. */
  const withEntries = (entries: readonly Draft[]) => {
    const places = log.drafts.flatMap(({ lane, operation }, at) =>
      at > 520 && lane === 3 && operation === 'unwrap' ? [at] : [],
    );
    const drafts = [...log.drafts];
    entries.forEach((each, at) => {
      drafts[places[at] ?? 0] = each;
    });
    return { drafts, places };
  };

  it('are told, whether they are over or not', async () => {
    const { drafts, places } = withEntries([
      entry('begun', about(300, 256)),
      entry('begun', about(300, 256)),
      entry('done', about(300, 256)),
    ]);
    const done = await verified(await logOf(drafts));
    expect(done.problems).toEqual([]);
    expect(done.archive).toEqual({
      ...{ index: places[1], until: 256, place: 'shelf 3', operator: 'ops(7)', done: true },
    });
    const killed = await verified(
      await logOf(drafts.with(places[2] ?? 0, log.drafts[5] as Draft)),
      {
        rows: false,
      },
    );
    expect(killed.archive).toMatchObject({ until: 256, done: false });
    expect(reportLines(killed).join()).toContain('not said to be over');
  });

  it('are told without what steers a terminal', async () => {
    const place = 'shelf\u001b[2J\u202e3\u200b\n';
    const { drafts } = withEntries([entry('begun', { ...about(300, 256), place })]);
    const report = await verified(await logOf(drafts));
    expect(report.archive?.place).toBe(place);
    const lines = reportLines(report);
    expect(lines.join()).toContain('shelf\\u{1b}[2J\\u{202e}3\\u{200b}\\u{a}');
    expect(lines.join('')).not.toMatch(/\p{C}/u);
  });

  it('that were killed or failed bound none after them, and stay told', async () => {
    for (const cut of [[], [entry('failed', { ...about(511, 256), code: 'storage_full' })]]) {
      const ended = [entry('begun', about(300, 0)), entry('done', about(300, 0))];
      const { drafts, places } = withEntries([entry('begun', about(511, 256)), ...cut, ...ended]);
      const report = await verified(await logOf(drafts));
      expect(report.problems).toEqual([]);
      expect(report.archive).toMatchObject({ until: 0, done: true });
      expect(report.unchecked).toEqual([
        `whether entries before 256 went to shelf 3: entry ${places[0]} begins it, none says it is done`,
      ]);
    }
  });

  it.each<[string, () => object]>([
    ['place', () => ({ place: 'shelf 4' })],
    ['size', () => ({ atSize: 511 })],
    ['root', () => ({ atRoot: about(511, 0).atRoot })],
    ['first index', () => ({ from: 256 })],
    ['last index', () => ({ until: 0 })],
  ])('end with the %s with which they began', async (_what, change) => {
    for (const state of ['done', 'failed']) {
      const { drafts, places } = withEntries([
        entry('begun', about(300, 256)),
        entry(state, { ...about(300, 256), ...change() }),
      ]);
      const report = await verified(await logOf(drafts));
      expect(codesOf(report)).toEqual(['archive_broken']);
      expect(report.first?.index).toBe(places[1]);
    }
  });

  it.each<[string, () => readonly Draft[]]>([
    ['an end that nothing begins', () => [entry('done', about(300, 256))]],
    [
      'less than was archived',
      () => [
        entry('begun', about(511, 256)),
        entry('done', about(511, 256)),
        entry('begun', about(300, 0)),
      ],
    ],
    ['no first index', () => [entry('begun', { ...about(300, 256), from: -1 })]],
    ['more than there was', () => [entry('begun', about(300, 512))]],
    ['no place', () => [entry('begun', { ...about(300, 256), place: 7 })]],
    ['no known state', () => [entry('ended', about(300, 256))]],
    ['another log', () => [entry('begun', { ...about(300, 256), atRoot: 'AAAA' })]],
  ])('that say %s are found', async (_what, entriesOf) => {
    const entries = entriesOf();
    const { drafts, places } = withEntries(entries);
    const report = await verified(await logOf(drafts));
    expect(codesOf(report)).toEqual(['archive_broken']);
    expect(report.first?.index).toBe(places[entries.length - 1]);
  });
});

describe('an export that somebody made to stop the verifier', () => {
  it('says that it is as long as no log is, and is given up', async () => {
    const until = Number.MAX_SAFE_INTEGER;
    const newest = await noteOf(until, rootOf(log.leaves), signersOf(log.first));
    const manifest = { format: 1, origin: ORIGIN, from: 0, until, stateFrom: 0 };
    const report = await verified({ newest }, {}, (folder) => {
      put(
        folder,
        'export.json',
        `${JSON.stringify({ ...manifest, at: '2026-11-29T00:00:00.000Z' })}\n`,
      );
    });
    expect(report.verified).toBe(false);
    expect(report.unchecked.join('\n')).toContain('too much is wrong');
  }, 60_000);

  it('nests rows deeper than they can be written', async () => {
    const nested = `{"keyId":${'['.repeat(100_000)}${']'.repeat(100_000)}}\n`;
    const report = await verified({}, {}, (folder) => put(folder, 'state.ndjson', nested));
    expect(codesOf(report)).toContain('file_malformed');
  });
});

describe('lanes', () => {
  it('break where an entry stands after the last, begins late or lets the epoch fall', async () => {
    const after = [...log.drafts, { lane: 3, operation: 'unwrap' }];
    const report = await verified(await logOf(after), { rows: false });
    expect(report.problems).toEqual([
      expect.objectContaining({ code: 'lane_broken', index: log.drafts.length, where: 'lane 3' }),
    ]);
    const falling = await verified(await logOf(log.drafts, (at) => (at === 200 ? 1 : 2)));
    expect(codesOf(falling)).toEqual(['epoch_fell']);
    expect(falling.first?.index).toBe(200);
  });

  it('break where entries are missing or chained to others, whoever signed the tree', async () => {
    const at = log.drafts.findIndex(
      ({ operation }, index) => index > 450 && operation === 'unwrap',
    );
    const resigned = async (bodies: readonly Uint8Array[]) => {
      const leaves = bodies.map(leafHash);
      const sizes = [...log.sizes.slice(0, -1), bodies.length];
      const notes = await Promise.all(
        sizes.map((size, each) => {
          const pair = signersOf((log.sizes[each] ?? 0) <= 402 ? log.first : log.second);
          return noteOf(size, rootOf(leaves.slice(0, size)), pair);
        }),
      );
      return { bodies, leaves, notes, newest: notes.at(-1) ?? '' };
    };
    const gap = await verified(await resigned(log.bodies.toSpliced(at, 1)), { rows: false });
    expect(gap.problems.find(({ code }) => code === 'lane_broken')?.why).toMatch(
      /stands there after/,
    );
    const body = Uint8Array.from(log.bodies[at] ?? []);
    body[60] = (body[60] ?? 0) ^ 1;
    const chained = await verified(await resigned(log.bodies.with(at, body)), { rows: false });
    expect(chained.problems.find(({ code }) => code === 'lane_broken')?.why).toMatch(
      /another entry/,
    );
  });

  it('are missed by their rows when entries were taken away', async () => {
    const next = Number(log.lanes[0]?.['next']) + 1;
    const report = await verified({ lanes: log.lanes.with(0, { ...log.lanes[0], next }) });
    expect(codesOf(report)).toEqual(['lane_incomplete']);
    const unknown = await verified({ lanes: [...log.lanes, { ...log.lanes[0], lane: 77 }] });
    expect(codesOf(unknown)).toEqual(['lane_incomplete']);
  });
});

describe('keys of the log', () => {
  const addition = () => log.drafts.findIndex(({ operation }) => operation === 'audit.key.add');

  it('that nobody trusted vouches for are found, and pinned ones are taken', async () => {
    const drafts = log.drafts.map((draft) =>
      draft.operation === 'audit.key.add'
        ? {
            ...draft,
            detail: { ...draft.detail, by: '', signature: '', pqBy: '', pqSignature: '' },
          }
        : draft,
    );
    const forged = await logOf(drafts);
    const report = await verified(forged);
    expect(codesOf(report)).toContain('key_set_untrusted');
    expect(report.first?.index).toBe(addition());
    const pinned = [...trustOf(log), ...signersOf(log.second).map(({ vkey }) => vkey)];
    expect((await verified(forged, { trust: pinned })).problems).toEqual([]);
  });

  /** A log that goes on with entries about keys, in the words of who can forge Ed25519 alone. */
  const afterwards = async (
    entries: readonly (readonly ['add' | 'retire', Vkey])[],
    signers: readonly Signer[],
  ) => {
    const drafts = entries.map(([change, vkey]) => ({
      lane: 1,
      operation: `audit.key.${change}`,
      detail: vouchedBy(change, formatVkey(vkey), log.second, false),
    }));
    const longer = await logOf([...log.drafts, ...drafts]);
    const leaves = longer.leaves ?? [];
    const newest = await noteOf(leaves.length, rootOf(leaves), signers);
    return { ...longer, notes: [...log.notes, newest], newest };
  };

  it('are not added by who can forge Ed25519 alone', async () => {
    const own = makeSigner(SIGNATURE_TYPE.mlDsa44Cosignature);
    const forged = await afterwards([['add', own.vkey]], [log.second.ed25519, own]);
    const report = await verified(forged, { rows: false });
    expect(codesOf(report)).toEqual(['key_set_untrusted', 'checkpoint_unsigned']);
    expect(report.first?.index).toBe(log.drafts.length);
  });

  it('always are of both types: the last of one is not retired', async () => {
    const { ed25519, mlDsa44 } = log.second;
    for (const [last, other] of [
      [mlDsa44, ed25519],
      [ed25519, mlDsa44],
    ] as const) {
      const forged = await afterwards([['retire', last.vkey]], [other]);
      const report = await verified(forged, { rows: false });
      expect(codesOf(report)).toEqual(['key_set_untrusted', 'checkpoint_unsigned']);
      expect(report.first?.index).toBe(log.drafts.length);
    }
  });

  it('sign no checkpoint before they are added, and none after they are retired', async () => {
    const { leaves } = log;
    const at = log.sizes.indexOf(100);
    const early = await noteOf(100, rootOf(leaves.slice(0, 100)), signersOf(log.second));
    const before = await verified({ notes: log.notes.with(at, early) });
    expect(codesOf(before)).toEqual(['checkpoint_unsigned']);
    expect(before.first?.index).toBe(99);
    const late = await noteOf(leaves.length, rootOf(leaves), signersOf(log.first));
    const after = await verified({ notes: log.notes.with(-1, late), newest: late });
    expect(codesOf(after)).toEqual(['checkpoint_unsigned']);
  });

  it('have to sign with both', async () => {
    const { leaves } = log;
    for (const signer of signersOf(log.second)) {
      const note = await noteOf(leaves.length, rootOf(leaves), [signer]);
      const report = await verified({ notes: log.notes.with(-1, note), newest: note });
      expect(codesOf(report)).toEqual(['checkpoint_unsigned']);
    }
  });

  it('are those of this origin', async () => {
    const pair = makePair();
    const { leaves } = log;
    const other = await noteOf(leaves.length, rootOf(leaves), signersOf(pair), 'log.example/other');
    const report = await verified({ newest: other });
    expect(report.verified).toBe(false);
    expect(codesOf(report)).toEqual(['file_malformed']);
    const forged = makeSigner(SIGNATURE_TYPE.ed25519);
    const wrong = { ...forged, vkey: log.second.ed25519.vkey };
    const note = await noteOf(leaves.length, rootOf(leaves), [wrong, log.second.mlDsa44]);
    expect(codesOf(await verified({ newest: note }))).toEqual(['checkpoint_forged']);
    expect(ORIGIN).toBe(log.second.ed25519.vkey.name);
  });
});

describe('the claim', () => {
  const witnesses = ['one', 'two'].map((name) =>
    makeSigner(SIGNATURE_TYPE.mlDsa44Cosignature, `witness.example/${name}`),
  );
  const vkeys = witnesses.map(({ vkey }) => vkey);

  it('is against a holder of the PIN only with enough witnesses', async () => {
    const { leaves } = log;
    const [one] = witnesses;
    if (one === undefined) throw new Error('no witness');
    const newest = await noteOf(leaves.length, rootOf(leaves), [...signersOf(log.second), one]);
    const enough = await verified({ newest }, { witnesses: { vkeys, threshold: 1 } });
    expect(enough.claim).toEqual({
      against: 'pin-holder',
      witnesses: ['witness.example/one'],
      threshold: 1,
    });
    const few = await verified({ newest }, { witnesses: { vkeys, threshold: 2 } });
    expect(codesOf(few)).toEqual(['witnesses_missing']);
    expect(few.claim.against).toBe('nobody');
    expect((await verified({ newest })).claim.against).toBe('database-writer');
  });

  it('counts a witness whose keys are of two types by both', async () => {
    const { leaves } = log;
    const both = [
      makeSigner(SIGNATURE_TYPE.mlDsa44Cosignature, 'witness.example/one'),
      makeSigner(SIGNATURE_TYPE.ed25519Cosignature, 'witness.example/one'),
    ];
    const options = { witnesses: { vkeys: both.map(({ vkey }) => vkey), threshold: 1 } };
    const signedBy = async (...by: typeof both) => {
      const newest = await noteOf(leaves.length, rootOf(leaves), [...signersOf(log.second), ...by]);
      return verified({ newest }, options);
    };
    expect((await signedBy(...both)).claim.against).toBe('pin-holder');
    for (const one of both) expect(codesOf(await signedBy(one))).toEqual(['witnesses_missing']);
  });

  it('is made by no key of the log in the place of a witness', async () => {
    for (const vkeys of [signersOf(log.second).map(({ vkey }) => vkey), trustOf(log)]) {
      for (const vkey of vkeys) {
        const options = { witnesses: { vkeys: [vkey], threshold: 1 } };
        await expect(verified({}, options)).rejects.toMatchObject({ code: 'invalid_value' });
      }
    }
  });

  it('does not take one witness with two keys for two', async () => {
    const { leaves } = log;
    const twice = [
      makeSigner(SIGNATURE_TYPE.mlDsa44Cosignature, 'witness.example/one'),
      makeSigner(SIGNATURE_TYPE.ed25519Cosignature, 'witness.example/one'),
    ];
    const newest = await noteOf(leaves.length, rootOf(leaves), [
      ...signersOf(log.second),
      ...twice,
    ]);
    const options = { witnesses: { vkeys: twice.map(({ vkey }) => vkey), threshold: 2 } };
    expect(codesOf(await verified({ newest }, options))).toEqual(['witnesses_missing']);
  });
});

describe('what was seen before', () => {
  it('is in the log, or the log was rolled back or rewritten', async () => {
    const seen = [log.notes[2] ?? '', log.newest];
    expect((await verified({}, { seen })).problems).toEqual([]);
    const size = log.leaves.length + 5;
    const ahead = await noteOf(size, leafHash(Uint8Array.of(1)), signersOf(log.second));
    const back = await verified({}, { seen: [ahead] });
    expect(back.first).toMatchObject({ code: 'rolled_back', index: log.leaves.length });
    const another = await noteOf(150, leafHash(Uint8Array.of(1)), signersOf(log.first));
    const rewritten = await verified({}, { seen: [another] });
    expect(rewritten.first).toMatchObject({ code: 'history_rewritten', index: 100 });
    expect(codesOf(await verified({}, { seen: ['nonsense'] }))).toEqual(['checkpoint_malformed']);
  });
});

describe('rows', () => {
  it('are looked at unless told', async () => {
    const without = (folder: string) => {
      rmSync(join(folder, 'state.ndjson'));
      rmSync(join(folder, 'lanes.ndjson'));
    };
    expect(codesOf(await verified({}, {}, without))).toEqual(['file_missing']);
    const report = await verified({}, { rows: false }, without);
    expect(report).toMatchObject({ verified: true });
    expect(report.unchecked.join()).toContain('state.ndjson');
  });

  it.each([
    ['no JSON', 'nonsense\n'],
    ['an unknown member', '{"keyId":"x","more":1}\n'],
    ['another form', '{ "keyId": "x" }\n'],
    ['an empty line', '\n'],
    ['no last line feed', '{"keyId":"x"}'],
    ['bytes that are no UTF-8', Buffer.from([0xff, 0x0a])],
  ])('with %s are malformed', async (_what, content) => {
    const report = await verified({}, {}, (folder) => {
      put(folder, 'state.ndjson', content);
    });
    expect(codesOf(report)).toContain('file_malformed');
  });

  it('that the service could not verify are named, and the others are looked at', async () => {
    const [row, other] = log.state;
    if (row === undefined || other === undefined) throw new Error('no rows');
    const altered = {
      ...{ ...row, name: '', revision: 0, state: 'altered', primary: null },
      ...{ minUsableVersion: 0, latestVersion: 0, versions: [] },
    };
    const outdated = { ...other, revision: other.revision + 1 };
    const state = log.state.with(0, altered).with(1, outdated);
    const report = await verified({ state });
    expect(codesOf(report)).toEqual(['state_altered', 'state_unlogged']);
    expect(report.problems[0]).toMatchObject({ where: `key ${row.keyId}` });
    expect(report.problems[0]?.index).toEqual(expect.any(Number));
  });

  it('are ahead of the log, or behind it', async () => {
    const [row] = log.state;
    if (row === undefined) throw new Error('no row');
    const ahead = await verified({
      state: log.state.with(0, { ...row, revision: row.revision + 1 }),
    });
    expect(codesOf(ahead)).toEqual(['state_unlogged']);
    const behind = await verified({ lanes: log.lanes.with(0, { ...log.lanes[0], next: 2 }) });
    expect(codesOf(behind)).toEqual(['lane_incomplete']);
  });

  it('break where the log contradicts itself', async () => {
    const at = log.drafts.findIndex(({ detail }) =>
      String(detail?.['changed']).includes('"state":['),
    );
    const draft = log.drafts[at];
    const changed = String(draft?.detail?.['changed']).replace(
      /"state":\["[^"]+"/,
      '"state":["destroyed"',
    );
    if (draft === undefined) throw new Error('no change');
    const drafts = log.drafts.with(at, { ...draft, detail: { ...draft.detail, changed } });
    const report = await verified(await logOf(drafts));
    expect(report.problems).toContainEqual(
      expect.objectContaining({ code: 'transition_broken', index: at }),
    );
    const twice = log.drafts.with(at + 1, { ...draft, lane: log.drafts[at + 1]?.lane ?? 1 });
    expect(codesOf(await verified(await logOf(twice)))).toContain('transition_broken');
  });
});

it('names no key but by its verifier key', async () => {
  const report = await verified({}, { trust: signersOf(log.second).map(({ vkey }) => vkey) });
  expect(codesOf(report)).toContain('checkpoint_unsigned');
  expect(JSON.stringify(report)).not.toContain(formatVkey(log.first.mlDsa44.vkey));
});
