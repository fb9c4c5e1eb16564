/**
 * The lane of uses while no commit comes back: its batches go into a spool, in order, and from there to
 * the database, once each and in the same bytes. From the first batch that went into the spool until the
 * last of them is in the database everything of the lane takes this way.
 */
import type { SecurityEpoch } from '../../epoch.ts';
import { LaneLost } from '../../outcome.ts';
import { Backoff } from '../backoff.ts';
import type { Sealed } from '../batch.ts';
import { catchUp } from '../catch-up.ts';
import type { Pending } from '../pending.ts';
import type { AppendBatch, AuditStore } from '../ports.ts';
import { isFinal } from '../settlement.ts';
import type { Lease } from './lease.ts';
import type { GraceStore } from './ports.ts';
import { inReplays } from './returning.ts';
import type { Spool } from './spool-file.ts';

/** What was answered is not given up for a refusal that a fail-over may have caused. */
const MOST_REFUSALS = 40;

export interface SpoolingParts {
  readonly lease: Lease;
  readonly store: Pick<GraceStore, 'replay'>;
  readonly changes: Pick<AuditStore, 'changesSince'>;
  readonly epoch: SecurityEpoch;
  readonly instance: string;
  /** Makes the spool of a lane. */
  readonly open: (lane: number) => Promise<Spool>;
  readonly onTrouble: (error: unknown) => void;
}

/** A batch in the spool, and who waits for its entries to be in the database. */
export interface Spooled {
  readonly sealed: Sealed;
  readonly waiting: readonly Pending[];
}

/** Told of what became of a batch. */
export interface SpoolingEvents {
  /** It is in the database, which had security epoch `epoch` then. */
  readonly returned: (spooled: Spooled, epoch: number) => void;
  /** It never will be; the spool is set aside. */
  readonly lost: (lane: number) => void;
}

export class Spooling {
  readonly #parts: SpoolingParts;
  readonly #events: SpoolingEvents;
  readonly #backoff = new Backoff();
  #spool: Spool | null = null;
  #batches: Spooled[] = [];
  /** How many of them the replay under way takes. */
  #underWay = 0;
  /** The last replay came back. */
  #answered = false;
  /** Refusals in a row that no repetition seems to end. */
  #refusals = 0;
  #entries = 0;
  #over = Promise.withResolvers<undefined>();
  /** The end of the last spool's file; never rejects. */
  #closing: Promise<void> = Promise.resolve();

  constructor(parts: SpoolingParts, events: SpoolingEvents) {
    this.#parts = parts;
    this.#events = events;
  }

  /** Whether what the lane writes next belongs behind something that the database has not. */
  get active(): boolean {
    return this.#batches.length > 0;
  }

  /** Entries in the spool that the database has not, as far as is known. */
  get entries(): number {
    return this.#entries;
  }

  /** Resolves once nothing is in the spool any more, or nothing more is tried; at once where nothing is. */
  async over(): Promise<void> {
    if (this.active && !this.#backoff.aborted) await this.#over.promise;
  }

  /** The database answers, and what is under way to it is all there is: it is over within a moment. */
  get nearlyOver(): boolean {
    return this.#answered && this.#underWay === this.#batches.length;
  }

  /**
   * `answer`, or `late` once it is, if answers may leave without it then. `answer` goes on in either case.
   */
  async orLate<T>(answer: Promise<T>): Promise<T | 'late'> {
    const { lease } = this.#parts;
    const at = lease.lateAt('append') ?? performance.now();
    const { promise, resolve } = Promise.withResolvers<'late'>();
    const timer = setTimeout(() => {
      if (lease.covers(performance.now())) resolve('late');
    }, at - performance.now());
    try {
      return await Promise.race([answer, promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Puts a batch behind those that are there; false when it is not durable, and nothing of it counts. */
  async take(spooled: Spooled): Promise<boolean> {
    const { batch } = spooled.sealed;
    try {
      this.#spool ??= await this.#open(batch.lane);
      await this.#spool.write(batch);
    } catch (error) {
      this.#parts.onTrouble(error);
      await this.#dropUnused();
      return false;
    }
    const begins = !this.active;
    this.#batches.push(spooled);
    this.#count(batch.entries.length);
    if (begins) void this.#replayAll();
    return true;
  }

  /** Ends every repetition; what is in the spool is the next start's. */
  abort(): void {
    this.#backoff.abort();
    this.#over.resolve(undefined);
  }

  /** After `abort`, and once nothing is taken any more: closes what is left open. */
  async close(): Promise<void> {
    this.#end((spool) => spool.close());
    await this.#closing;
  }

  async #open(lane: number): Promise<Spool> {
    await this.#closing;
    return this.#parts.open(lane);
  }

  /** A spool that could not take even its first batch is no use. */
  async #dropUnused(): Promise<void> {
    if (this.active || this.#spool === null) return;
    const spool = this.#spool;
    this.#spool = null;
    await spool.remove().catch(this.#parts.onTrouble);
  }

  async #replayAll(): Promise<void> {
    this.#over = Promise.withResolvers();
    this.#answered = false;
    while (this.active && !this.#backoff.aborted) await this.#replaySome();
    this.#over.resolve(undefined);
  }

  async #replaySome(): Promise<void> {
    const { lease, store, instance } = this.#parts;
    const [some = []] = inReplays(this.#batches.map(({ sealed }) => sealed.batch));
    const lane = some[0]?.lane ?? 0;
    const sentAt = performance.now();
    lease.sent('append', sentAt);
    this.#underWay = some.length;
    try {
      const epoch = await store.replay({ instance, lane, batches: some });
      this.#backoff.reset();
      [this.#answered, this.#refusals] = [true, 0];
      lease.appended(sentAt, epoch);
      this.#returned(some.length, epoch);
      await this.#learn(epoch);
    } catch (error) {
      [this.#answered, this.#underWay] = [false, 0];
      this.#refusals = isFinal(error) ? this.#refusals + 1 : 0;
      if (error instanceof LaneLost || this.#refusals >= MOST_REFUSALS) this.#lose(lane, error);
      else await this.#backoff.pause();
    }
  }

  #returned(count: number, epoch: number): void {
    const gone = this.#batches.splice(0, count);
    this.#underWay = 0;
    for (const spooled of gone) {
      this.#count(-spooled.sealed.batch.entries.length);
      this.#events.returned(spooled, epoch);
    }
    if (!this.active) this.#end((spool) => spool.remove());
  }

  #lose(lane: number, error: unknown): void {
    this.#parts.onTrouble(error);
    this.#batches = [];
    this.#count(-this.#entries);
    this.#end((spool) => spool.setAside());
    this.#events.lost(lane);
  }

  #end(how: (spool: Spool) => Promise<void>): void {
    const spool = this.#spool;
    this.#spool = null;
    if (spool !== null) this.#closing = how(spool).catch(this.#parts.onTrouble);
  }

  async #learn(epoch: number): Promise<void> {
    const { changes, epoch: known } = this.#parts;
    if (epoch <= known.current) return;
    await catchUp({ store: changes, epoch: known }).catch(() => undefined);
  }

  #count(entries: number): void {
    this.#entries += entries;
    this.#parts.lease.spooled(this.#entries);
  }
}

/** Of a batch that is in the spool: who may have the answer now, and who has to wait for the database. */
export function release(
  { sealed, waiting }: Spooled,
  { lease, epoch }: Pick<SpoolingParts, 'lease' | 'epoch'>,
  stale: () => Error,
): void {
  const { lane, first }: AppendBatch = sealed.batch;
  waiting.forEach((pending, index) => {
    const { standing } = pending;
    if (!pending.spoolable || !lease.covers(performance.now())) return;
    if (standing !== null && epoch.touches(standing)) pending.reject(stale());
    else pending.resolve(`${lane}-${first + index}`);
  });
}
