/**
 * What the log says of its own cold storage: each archive begins with an entry and ends with another, goes on from
 * the one before it, and is of this tree. One that begins and never ends was killed, and is told as such.
 *
 * What is done is the least that a later one begins with. What has only begun bounds nothing: the entry is durable
 * before a row is marked, so a run that was killed there, wider than the next, says no more than that it was
 * wanted. Whoever can write entries gains nothing by leaving one undone: rows that it removed are missing from the
 * export unless they come from its archive, and the widest that begins and is not done stays told.
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
  readonly from: number;
  readonly atSize: number;
  readonly atRoot: string;
}

/** What the end of an archive says as its beginning did. */
const SAME = ['from', 'until', 'place', 'atSize', 'atRoot'] as const;

const STATES: readonly string[] = ['begun', 'done', 'failed'];

export class Archives {
  readonly #problems: Problems;
  readonly #whole: boolean;
  /** By lane: each archive has a lane of its own. */
  readonly #begun = new Map<number, Said>();
  readonly #roots: Said[] = [];
  #last: Archive | null = null;
  /** Entries before this one are in an archive that is done. */
  #done = 0;
  /** Not done: killed, failed, which may be after rows were removed, or under way. */
  readonly #open = new Set<Said>();

  /** @param whole whether the export begins with the log */
  constructor(problems: Problems, whole: boolean) {
    this.#problems = problems;
    this.#whole = whole;
  }

  get last(): Archive | null {
    return this.#last;
  }

  /** Entries before this one are in an archive that is done, by what the entries say. */
  get done(): number {
    return this.#done;
  }

  /** The widest that begins, goes further than any that is done, and is not done; null where `last` is it. */
  undone(): Archive | null {
    let widest: Said | null = null;
    for (const each of this.#open) if (each.until > (widest?.until ?? this.#done)) widest = each;
    return widest?.index === this.#last?.index ? null : widest;
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
    if (until < this.#done) this.#broken(index, `it archives up to ${until} after ${this.#done}`);
    this.#begun.set(lane, said);
    this.#open.add(said);
    this.#roots.push(said);
    this.#last = { index, until, place, operator, done: false };
  }

  #end(lane: number, said: Said): void {
    const { index, until, state } = said;
    const begun = this.#begun.get(lane);
    this.#begun.delete(lane);
    if (begun === undefined) {
      if (this.#whole) {
        this.#broken(index, 'it ends an archive that no entry before it begins');
        return;
      }
    } else {
      const other = SAME.filter((name) => begun[name] !== said[name]);
      if (other.length > 0) {
        this.#broken(index, `its ${other.join(', ')} are not those of what it ends`);
        return;
      }
      if (state === 'done') this.#open.delete(begun);
      if (this.#last?.index === begun.index) this.#last = { ...this.#last, done: state === 'done' };
    }
    if (state === 'done') this.#done = Math.max(this.#done, until);
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
  const [from, until, atSize] = ['from', 'until', 'atSize'].map((name) => detail.get(name));
  if (typeof state !== 'string' || !STATES.includes(state)) return null;
  if (typeof place !== 'string' || typeof operator !== 'string') return null;
  if (typeof atRoot !== 'string' || !isCount(until) || !isCount(atSize)) return null;
  if (!isCount(from)) return null;
  return { index, state, place, operator, atRoot, from, until, atSize, done: false };
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
