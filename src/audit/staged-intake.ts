/** Reads what waits in the lanes, and checks it; bodies are kept no longer than that takes. */
import { TwofoldError } from '../errors.ts';
import type { MacFunction } from './batch.ts';
import { decodeEntry } from './entry-decoder.ts';
import { LaneIntake, viewFault } from './intake.ts';
import type { LaneFault } from './intake.ts';
import type { OwnBatches } from './own-batches.ts';
import { LEAST_SHARE, pieces, shares, waitingOf } from './shares.ts';
import type { LaneRange, LaneView, Run, SequencerStore } from './sequencer-ports.ts';

/** Entries that are read at once: what they hold, up to 64 KiB each, bounds the memory. */
const PIECE = 512;

export interface Taken {
  readonly runs: readonly Run[];
  readonly leaves: readonly Uint8Array[];
  readonly faults: readonly LaneFault[];
}

export interface IntakeParts {
  readonly store: Pick<SequencerStore, 'lanes' | 'intake' | 'holds'>;
  readonly mac: MacFunction;
  readonly own: OwnBatches;
}

/**
 * Takes at most `most` entries of the lanes, in the order of the lanes. `certain`: as they stand where no
 * old primary can answer, and read, whoever wrote them.
 */
export async function takeFrom(
  parts: IntakeParts,
  lanes: readonly LaneView[],
  most: number,
  certain: boolean,
): Promise<Taken> {
  const ranges = shares(lanes, most);
  const own = certain ? new Map<number, readonly Uint8Array[]>() : await ownLeaves(parts, ranges);
  const others = ranges.filter(({ lane }) => !own.has(lane));
  const intakes = await readIntakes(parts, others, certain);
  const views = new Map(lanes.map((view) => [view.lane, view]));
  const taken = { runs: [] as Run[], leaves: [] as Uint8Array[], faults: [] as LaneFault[] };
  for (const { lane, from, until } of ranges) {
    const intake = intakes.get(lane);
    intake?.end(until, until - 1 === views.get(lane)?.last);
    const verified = await intake?.verified(parts.mac);
    const leaves = own.get(lane) ?? verified?.leaves ?? [];
    const last = leaves.at(-1);
    if (last !== undefined) taken.runs.push({ lane, from, count: leaves.length, leaf: last });
    for (const leaf of leaves) taken.leaves.push(leaf);
    if (verified !== undefined && verified.fault !== null) taken.faults.push(verified.fault);
  }
  return taken;
}

/** Of lanes that this process writes, where the database holds what it wrote. */
async function ownLeaves(
  { store, own }: IntakeParts,
  ranges: readonly LaneRange[],
): Promise<ReadonlyMap<number, readonly Uint8Array[]>> {
  const held = new Map<number, readonly Uint8Array[]>();
  for (const range of ranges) {
    const known = own.take(range);
    // What does not hold is read, so that what is wrong with it is found.
    if (known === null || !(await store.holds(known.range, known.digest))) continue;
    held.set(range.lane, known.leaves);
  }
  return held;
}

async function readIntakes(
  { store }: IntakeParts,
  ranges: readonly LaneRange[],
  certain: boolean,
): Promise<ReadonlyMap<number, LaneIntake>> {
  const intakes = new Map(
    ranges.map(({ lane, from }) => [lane, new LaneIntake({ lane, next: from })]),
  );
  for (const piece of pieces(ranges.map(withTheOneBefore), PIECE)) {
    for (const entry of await store.intake(piece, certain)) intakes.get(entry.lane)?.take(entry);
  }
  return intakes;
}

const withTheOneBefore = ({ lane, from, until }: LaneRange): LaneRange => ({
  lane,
  from: Math.max(1, from - 1),
  until,
});

/**
 * What is wrong with a lane, read anew where no old primary can answer: two statements may have met two
 * servers. Null when nothing is.
 */
export async function confirmedFault(
  parts: IntakeParts,
  { lane }: LaneFault,
): Promise<LaneFault | null> {
  const view = (await parts.store.lanes(true)).find((each) => each.lane === lane);
  if (view === undefined) return null;
  const fault = viewFault(view);
  if (fault !== null) return fault;
  if (waitingOf(view) === 0) return endFault(parts.store, view);
  const { faults } = await takeFrom(parts, [view], CONFIRMED_ENTRIES, true);
  return faults[0] ?? null;
}

const CONFIRMED_ENTRIES = 64 * LEAST_SHARE;

/** Whether a closed lane that has nothing without an index ends with an entry that is no last one. */
export async function endFault(
  store: Pick<SequencerStore, 'intake'>,
  { lane, last, closed }: LaneView,
): Promise<LaneFault | null> {
  if (!closed || last === 0) return null;
  const [entry] = await store.intake([{ lane, from: last, until: last + 1 }], true);
  if (entry === undefined) return { lane, n: last, reason: 'vanished' };
  return saysLast(entry.body) ? null : { lane, n: last, reason: 'unfinished' };
}

/** What a newer version says is not known here, and therefore no fault. */
function saysLast(body: Uint8Array): boolean {
  try {
    return decodeEntry(body).detail['last'] === true;
  } catch (error) {
    if (!TwofoldError.is(error)) throw error;
    return true;
  }
}
