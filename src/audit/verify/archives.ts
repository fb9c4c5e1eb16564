/**
 * What the log says of its own cold storage: each archive begins with an entry and ends with another, goes on from
 * the one before it, and is of this tree. One that begins and never ends was killed, and is told as such.
 */
import { TwofoldError } from '../../errors.ts';
import { treeRoot } from '../tree/proofs.ts';
import type { ReadTile } from '../tree/edge.ts';
import type { Detail } from './key-set.ts';
import type { Problems } from './problems.ts';

/** Operation of these entries. */
export const ARCHIVE = 'audit.archive';

/** The last one that the log knows. */
export interface Archive {
  /** Index of the entry that begins it. */
  readonly index: number;
  /** Entries before this one went to `place`. */
  readonly until: number;
  readonly place: string;
  readonly operator: string;
  /** Whether an entry says that it is over; else it was killed, failed, or is under way. */
  readonly done: boolean;
}

interface Said extends Archive {
  readonly state: string;
  readonly atSize: number;
  readonly atRoot: string;
}

const STATES: readonly string[] = ['begun', 'done', 'failed'];

export class Archives {
  readonly #problems: Problems;
  readonly #whole: boolean;
  /** By lane: each archive has a lane of its own. */
  readonly #begun = new Map<number, Said>();
  readonly #roots: Said[] = [];
  #last: Archive | null = null;

  /** @param whole whether the export begins with the log */
  constructor(problems: Problems, whole: boolean) {
    this.#problems = problems;
    this.#whole = whole;
  }

  get last(): Archive | null {
    return this.#last;
  }

  take(index: number, lane: number, detail: Detail): void {
    const said = saidOf(index, detail);
    if (said === null) {
      this.#broken(index, 'it does not say which entries went where');
      return;
    }
    if (said.until > said.atSize || said.atSize > index)
      this.#broken(index, `it archives up to ${said.until} of ${said.atSize} entries`);
    if (said.state === 'begun') this.#begin(lane, said);
    else this.#end(lane, said);
  }

  #begin(lane: number, said: Said): void {
    const { index, until, place, operator } = said;
    const before = this.#last?.until ?? 0;
    if (until < before) this.#broken(index, `it archives up to ${until} after ${before}`);
    this.#begun.set(lane, said);
    this.#roots.push(said);
    this.#last = { index, until, place, operator, done: false };
  }

  #end(lane: number, { index, until, state }: Said): void {
    const begun = this.#begun.get(lane);
    this.#begun.delete(lane);
    if (begun === undefined) {
      if (this.#whole) this.#broken(index, 'it ends an archive that no entry before it begins');
    } else if (begun.until !== until) {
      this.#broken(index, `it ends an archive up to ${until}, begun up to ${begun.until}`);
    } else if (this.#last?.index === begun.index) {
      this.#last = { ...this.#last, done: state === 'done' };
    }
  }

  /** Once the tree is whole: what went has to be what it has. */
  async finish(read: ReadTile, from: number): Promise<void> {
    for (const { index, atSize, atRoot } of this.#roots) {
      // Tiles of fewer entries than the export begins with are not in it.
      if (atSize < from) continue;
      const root = await rootOf(atSize, read);
      if (root === null || Buffer.from(root).toString('base64') === atRoot) continue;
      this.#broken(
        index,
        `the first ${atSize} entries do not have the root of which it says it was`,
      );
    }
  }

  #broken(index: number, why: string): void {
    this.#problems.add('archive_broken', index, ARCHIVE, why);
  }
}

/** Null where tiles are missing, which is found elsewhere. */
async function rootOf(size: number, read: ReadTile): Promise<Uint8Array | null> {
  try {
    return await treeRoot(size, read);
  } catch (error) {
    if (!TwofoldError.is(error, 'integrity_failed')) throw error;
    return null;
  }
}

function saidOf(index: number, detail: Detail): Said | null {
  const [state, place, operator, atRoot] = ['state', 'place', 'operator', 'atRoot'].map((name) =>
    detail.get(name),
  );
  const [until, atSize] = [detail.get('until'), detail.get('atSize')];
  if (typeof state !== 'string' || !STATES.includes(state)) return null;
  if (typeof place !== 'string' || typeof operator !== 'string') return null;
  if (typeof atRoot !== 'string' || !isCount(until) || !isCount(atSize)) return null;
  return { index, state, place, operator, atRoot, until, atSize, done: false };
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
