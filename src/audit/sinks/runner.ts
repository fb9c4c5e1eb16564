/**
 * Copies the log to one sink: in the order of its indexes, at least once, from where it stopped. It
 * reads a bounded part at a time and holds nothing while the receiver is away: the log itself is the
 * spool.
 *
 * A record that the receiver will never take must not hold up those behind it, and one that takes
 * nothing at all must not be mistaken for that: a record is passed over only when it was refused alone
 * and one of those soon after it was taken alone; those between, which were refused alone as well, are
 * passed over with it. What was passed over is told, and stays in the log.
 */
import { TwofoldError } from '../../errors.ts';
import type { LogReader, SequencedEntry } from '../log-ports.ts';
import { RecordRefused } from './ports.ts';
import type { KeptRecord, Sink, SinkPosition, SinkRecord } from './ports.ts';

/** Records after one that was refused alone that are tried alone. */
const MOST_REFUSED = 64;

export interface SinkRunnerOptions {
  readonly log: Pick<LogReader, 'entries' | 'archived'>;
  readonly sink: Sink;
  readonly position: SinkPosition;
  /** @throws for an entry that is not sound; the sink then waits */
  readonly record: (entry: SequencedEntry) => SinkRecord;
  /** Where a sink begins that has no position; `start` is the first entry that is not in cold storage. */
  readonly from: 'start' | 'now';
  /**
   * Told of each record that is passed over, before the position behind it is durable: at least once.
   * @throws whatever keeps it from being told for good; then the position stays
   */
  readonly onPassed: (record: SinkRecord) => Promise<void>;
  /** Records of one delivery at most; 512. */
  readonly most?: number;
  /** Characters of JSON in one delivery, if it is more than one record; 1,048,576. */
  readonly mostCharacters?: number;
  /** How often one that has nothing to deliver says that it is served, ms; 60,000. */
  readonly restMs?: number;
}

export interface SinkProgress {
  /** Index of the next entry; null while it is not known. */
  readonly next: number | null;
  /** Time of the oldest entry that was read and not delivered. */
  readonly oldest: Date | null;
}

export class SinkRunner {
  readonly #options: Required<SinkRunnerOptions>;
  /** Undefined: to be read. Null: it stands nowhere yet. */
  #stored: number | null | undefined;
  #next: number | null = null;
  #oldest: Date | null = null;
  /** When it last moved or said that it is served. */
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(options: SinkRunnerOptions) {
    this.#options = { most: 512, mostCharacters: 1_048_576, restMs: 60_000, ...options };
  }

  get progress(): SinkProgress {
    return { next: this.#next, oldest: this.#oldest };
  }

  /** Says that it is served, though its receiver takes nothing, or the log has nothing for it. */
  async stay(): Promise<void> {
    if (this.#next === null) return;
    await this.#options.position.stay?.(this.#next);
    this.#toldAt = performance.now();
  }

  /** It is served though it does not move. */
  async #rest(): Promise<void> {
    if (performance.now() - this.#toldAt >= this.#options.restMs) await this.stay();
  }

  /**
   * Delivers some of the entries before `size`. Whether there are more. Call it one at a time.
   *
   * @throws whatever the log, the sink or the position throw: then the next step begins from the position
   */
  async step(size: number): Promise<boolean> {
    const isRead = this.#stored === undefined;
    const next = await this.#begin(size);
    // Else it would wait in silence until the log is there, and never deliver what comes until then.
    if (next > size) {
      this.#stored = undefined;
      throw new Error('the position of a sink is past the end of the log');
    }
    if (isRead) await this.#requireSameLog(next);
    if (next === size) {
      this.#oldest = null;
      await this.#rest();
      return false;
    }
    const records = await this.#read(next, size);
    const [first] = records;
    if (first === undefined) throw new Error('entries of the log are not there');
    this.#oldest = first.at;
    try {
      await this.#deliver(records);
    } catch (error) {
      this.#stored = undefined;
      throw error;
    }
    const isBehind = (this.#next ?? next) < size;
    if (!isBehind) this.#oldest = null;
    return isBehind;
  }

  /** Where it goes on. A sink without a position gets one, so that `now` is decided once. */
  async #begin(size: number): Promise<number> {
    if (this.#stored === undefined) {
      this.#stored = await this.#options.position.next();
      this.#next = this.#stored;
    }
    if (this.#stored === null) await this.#advance(await this.#first(size));
    return this.#stored ?? 0;
  }

  /**
   * A log that was rolled back and has grown again has other entries where those are that a file has: it would go on
   * in the middle of them, and lack some for ever.
   */
  async #requireSameLog(next: number): Promise<void> {
    const kept = this.#options.position.kept?.() ?? null;
    if (kept === null) return;
    try {
      if (await this.#holds(next - 1, kept)) return;
    } catch (error) {
      this.#stored = undefined;
      throw error;
    }
    this.#stored = undefined;
    throw new Error('the last line of a sink is not the entry that the log has there');
  }

  async #holds(index: number, { id, at }: KeptRecord): Promise<boolean> {
    const { log, record } = this.#options;
    try {
      const [entry] = await log.entries(index, index + 1);
      if (entry === undefined) return false;
      requireAt(index, entry);
      const here = record(entry);
      return here.id === id && here.at.getTime() === at.getTime();
    } catch (error) {
      // The row went, and the next may be there.
      if (TwofoldError.is(error, 'entry_archived')) return true;
      throw error;
    }
  }

  async #first(size: number): Promise<number> {
    // Rows that are still there and marked as archived go at any moment.
    return this.#options.from === 'now' ? size : (await this.#options.log.archived()).until;
  }

  async #read(from: number, size: number): Promise<readonly SinkRecord[]> {
    const { log, most, mostCharacters, record } = this.#options;
    const entries = await log.entries(from, Math.min(size, from + most));
    const records: SinkRecord[] = [];
    let characters = 0;
    for (const [position, entry] of entries.entries()) {
      requireAt(from + position, entry);
      const made = record(entry);
      characters += made.json.length;
      if (records.length > 0 && characters > mostCharacters) break;
      records.push(made);
    }
    return records;
  }

  /** Halves what is refused until one record is left. */
  async #deliver(records: readonly SinkRecord[]): Promise<void> {
    const last = records.at(-1);
    if (last === undefined) return;
    try {
      await this.#options.sink.deliver(records);
    } catch (error) {
      if (!(error instanceof RecordRefused)) throw error;
      if (records.length === 1) {
        await this.#pass(last, error);
        return;
      }
      const middle = Math.ceil(records.length / 2);
      await this.#deliver(records.slice(0, middle));
      // It may have gone further than the half: the record after one that was passed over is taken with it.
      const next = this.#next ?? 0;
      await this.#deliver(records.slice(middle).filter(({ index }) => index >= next));
      return;
    }
    await this.#advance(last.index + 1);
  }

  /** @throws the refusal, unless one of the records after it is taken */
  async #pass(first: SinkRecord, refusal: RecordRefused): Promise<void> {
    const { log, sink, record, onPassed } = this.#options;
    const refused = [first];
    const from = first.index + 1;
    for (const [position, entry] of (await log.entries(from, from + MOST_REFUSED)).entries()) {
      requireAt(from + position, entry);
      const next = record(entry);
      await this.#rest();
      try {
        await sink.deliver([next]);
      } catch (error) {
        if (!(error instanceof RecordRefused)) throw error;
        refused.push(next);
        continue;
      }
      for (const each of refused) await onPassed(each);
      await this.#advance(next.index + 1);
      return;
    }
    throw refusal;
  }

  async #advance(to: number): Promise<void> {
    const from = this.#stored ?? null;
    if (!(await this.#options.position.advance(from, to))) {
      // Read anew by the next step, also where there was none yet.
      this.#stored = undefined;
      throw new Error('another instance goes on with this sink');
    }
    this.#stored = to;
    this.#next = to;
    this.#toldAt = performance.now();
  }
}

function requireAt(index: number, entry: { readonly index: number }): void {
  if (entry.index !== index) throw new Error('an entry of the log is not there');
}
