/** A log with everything in it that the verifier looks at, small enough to be verified ten thousand times. */
import { uuid } from '../../src/audit/verify/key-states.ts';
import { formatVkey } from '../../src/audit/tree/vkey.ts';
import { Edge } from '../../src/audit/tree/edge.ts';
import { ModelKey } from './synthetic-keys.ts';
import {
  instanceOf,
  jsonLines,
  keySetDrafts,
  Lanes,
  makePair,
  noteOf,
  ORIGIN,
  put,
  signersOf,
  TileWriter,
} from './synthetic.ts';
import type { Draft, Signer, SignerPair } from './synthetic.ts';

/** Numbers below 2^32, the same for the same seed. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    // Mulberry32.
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const USE_LANES = [1, 3] as const;
const CHANGE_LANES = [2, 4] as const;
/** Checkpoints are signed at these sizes and at the end. */
export const CHECKPOINT_SIZES: readonly number[] = [1, 7, 100, 256, 300, 511, 512, 513];

export interface Log {
  readonly drafts: readonly Draft[];
  readonly bodies: readonly Uint8Array[];
  readonly leaves: readonly Uint8Array[];
  readonly notes: readonly string[];
  readonly sizes: readonly number[];
  readonly state: readonly ReturnType<ModelKey['row']>[];
  /** Rows as they were once half of the changes were made: genuine, and old. */
  readonly oldState: readonly ReturnType<ModelKey['row']>[];
  readonly lanes: readonly Record<string, unknown>[];
  readonly first: SignerPair;
  readonly second: SignerPair;
  readonly witnesses: readonly Signer[];
}

const opening = (lane: number): Draft => ({
  lane,
  operation: lane % 2 === 1 ? 'system.start' : 'lane.open',
  detail: { kind: lane % 2 === 1 ? 'use' : 'change', replaces: null },
});

const closing = (lane: number): Draft => ({
  lane,
  operation: lane % 2 === 1 ? 'system.stop' : 'lane.close',
  detail: { last: true },
});

const use = (lane: number, key: ModelKey, version: 1 | 2): Draft => {
  const { keyId, namespace } = key;
  return { lane, operation: 'unwrap', keyId, keyVersion: 1, namespace, version };
};

/** Drafts in the order of the log, and rows. */
export function draftsOf(size: number, seed: number, first: SignerPair, second: SignerPair) {
  const random = randomOf(seed);
  const drafts: Draft[] = [...USE_LANES, ...CHANGE_LANES].map(opening);
  const keys: ModelKey[] = [];
  let oldState: ReturnType<ModelKey['row']>[] = [];
  const laneOf = (lanes: readonly [number, number]) => lanes[random(2)] ?? lanes[0];
  while (drafts.length < size - 2) {
    const at = drafts.length;
    const key = keys[random(Math.max(1, keys.length))];
    if (key === undefined || random(40) === 0) {
      const made = new ModelKey(keys.length + 1, random(3) === 0 ? 'payments' : 'default');
      keys.push(made);
      drafts.push(made.create(laneOf(CHANGE_LANES)));
    } else if (random(6) === 0 && !key.destroyed) {
      const draft = random(25) === 0 ? key.destroy(2) : key.change(laneOf(CHANGE_LANES), random(6));
      drafts.push(draft);
    } else {
      drafts.push(use(laneOf(USE_LANES), key, random(3) === 0 ? 1 : 2));
    }
    if (at === Math.floor(size / 2)) oldState = keys.map((each) => each.row());
    if (at === 120) drafts.push(...keySetDrafts('add', second, first, 1));
    if (at === 400) drafts.push(...keySetDrafts('retire', first, second, 1));
  }
  drafts.push(closing(3), closing(4));
  return { drafts, state: keys.map((each) => each.row()), oldState };
}

/** @param size at least 520 */
export async function makeLog(
  size = 700,
  seed = 1,
  witnesses: readonly Signer[] = [],
): Promise<Log> {
  const [first, second] = [makePair(), makePair()];
  const { drafts, state, oldState } = draftsOf(size, seed, first, second);
  const lanes = new Lanes();
  const placed = drafts.map((draft, at) => lanes.place(draft, Math.floor(at / 50)));
  const leaves = placed.map(({ leaf }) => leaf);
  const sizes = [...CHECKPOINT_SIZES, drafts.length];
  const retired = drafts.findIndex(({ operation }) => operation === 'audit.key.retire');
  const notes = await Promise.all(
    sizes.map((count) => {
      const pair = count <= retired ? first : second;
      const by = [...signersOf(pair), ...(count === drafts.length ? witnesses : [])];
      return noteOf(count, rootOf(leaves.slice(0, count)), by);
    }),
  );
  const rows = lanes.counts().map(([lane, n]) => ({
    lane,
    kind: lane % 2 === 1 ? 'use' : 'change',
    instance: uuid(instanceOf(lane)),
    closed: lane > 2,
    next: n + 1,
  }));
  const bodies = placed.map(({ body }) => body);
  return {
    drafts,
    bodies,
    leaves,
    notes,
    sizes,
    state,
    oldState,
    lanes: rows,
    first,
    second,
    witnesses,
  };
}

export const rootOf = (leaves: readonly Uint8Array[]): Uint8Array =>
  Edge.EMPTY.grow(leaves).edge.root();

export const trustOf = ({ first }: Pick<Log, 'first'>) => signersOf(first).map(({ vkey }) => vkey);
export const trustFile = (log: Pick<Log, 'first'>): string =>
  `# the first keys of the log\n${trustOf(log).map(formatVkey).join('\n')}\n`;

/** Writes it as an export; `bodies` and `leaves` may be others than those that its notes are of. */
export function writeExport(folder: string, log: Omit<Log, 'drafts' | 'oldState'>, from = 0): void {
  const { bodies, leaves, notes, state, lanes } = log;
  const writer = new TileWriter(folder);
  bodies.forEach((body, at) => {
    writer.append(body, leaves[at] ?? new Uint8Array(32));
  });
  writer.end();
  put(folder, 'checkpoint', notes.at(-1) ?? '');
  put(folder, 'checkpoints', notes.join('--\n'));
  put(folder, 'state.ndjson', jsonLines(state));
  put(folder, 'lanes.ndjson', jsonLines(lanes));
  const until = bodies.length;
  const at = '2026-11-29T00:00:00.000Z';
  const manifest = { format: 1, origin: ORIGIN, from, until, stateFrom: until, at };
  put(folder, 'export.json', jsonLines([manifest]));
}
