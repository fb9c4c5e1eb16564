/**
 * The lane of uses while no commit comes back: its batches go into a spool, in order, and from there to
 * the database, once each and in the same bytes. From the first batch that went into the spool until the
 * last of them is in the database everything of the lane takes this way.
 */
import type { SecurityEpoch } from '../../epoch.ts';
import { TwofoldError } from '../../errors.ts';
import { Backoff } from '../backoff.ts';
import type { Sealed } from '../batch.ts';
import { catchUp } from '../catch-up.ts';
import type { Pending } from '../pending.ts';
import type { AppendBatch, AuditStore } from '../ports.ts';
import type { Lease } from './lease.ts';
import { Refusals } from './loss.ts';
import type { GraceStore } from './ports.ts';
import { inReplays } from './returning.ts';
import type { Spool } from './spool-file.ts';

export interface SpoolingParts {
  readonly lease: Lease;
  readonly store: Pick<GraceStore, 'replay'>;
  readonly changes: Pick<AuditStore, 'changesSince' | 'leafAt'>;
  readonly epoch: SecurityEpoch;
  readonly instance: string;
  /** Makes the spool of a lane. */
  readonly open: (lane: number) => Promise<Spool>;
  readonly onTrouble: (error: unknown) => void;
  /** A spool was set aside. */
  readonly onKept?: (() => void) | undefined;
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
  /** None of these ever will be, and the lane takes no more; the spool is set aside. */
  readonly lost: (lane: number, spooled: readonly Spooled[]) => void;
}

export class Spooling {
  readonly #parts: SpoolingParts;
  readonly #events: SpoolingEvents;
  readonly #backoff = new Backoff();
  readonly #refusals: Refusals;
  #spool: Spool | null = null;
  #batches: Spooled[] = [];
  /** A batch is being made durable: the file is needed, though nothing may be in it yet. */
  #taking = false;
  #fails = false;
  /** There is one loop of replays at a time. */
  #replaying = false;
  /** How many of them the replay under way takes. */
  #underWay = 0;
  /** The last replay came back. */
  #answered = false;
  #entries = 0;
  /** Of the file in use, how many are in the database. */
  #replayed = 0;
  #over = Promise.withResolvers<undefined>();
  /** The end of the last spool's file; never rejects. */
  #closing: Promise<void> = Promise.resolve();

  constructor(parts: SpoolingParts, events: SpoolingEvents) {
    this.#parts = parts;
    this.#events = events;
    this.#refusals = new Refusals(parts.changes);
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

  /** The spool is in use, and has room for answers alone. */
  get scarce(): boolean {
    return this.active && this.#spool?.scarce === true;
  }

  /** The last batch could not be made durable: nothing more is answered while that stays so. */
  get fails(): boolean {
    return this.#fails;
  }

  /**
   * `answer`, or `late` once it is, if answers may leave without it then: also where it fails, as it does
   * at once where connections are refused, when repeating it is all that is left. `answer` goes on.
   */
  async orLate<T>(answer: Promise<T>): Promise<T | 'late'> {
    const { lease } = this.#parts;
    const at = lease.lateAt('append') ?? performance.now();
    const { promise, resolve } = Promise.withResolvers<'late'>();
    const timer = setTimeout(
      () => {
        if (lease.covers(performance.now())) resolve('late');
      },
      Math.max(0, at - performance.now()),
    );
    try {
      const outcome = await Promise.race([answer, promise]);
      // The database answers: another grace begins anew.
      if (outcome !== 'late') this.#fails = false;
      return outcome;
    } catch (error) {
      const now = performance.now();
      if (now >= at && lease.covers(now) && TwofoldError.is(error, 'database_unavailable')) {
        return 'late';
      }
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Puts a batch behind those that are there; false when it is not durable, and nothing of it counts. One
   * at a time.
   */
  async take(spooled: Spooled): Promise<boolean> {
    const { batch } = spooled.sealed;
    if (!(await this.#write(batch))) return false;
    this.#batches.push(spooled);
    this.#count(batch.entries.length);
    if (!this.#replaying) void this.#replayAll();
    return true;
  }

  async #write(batch: AppendBatch): Promise<boolean> {
    this.#taking = true;
    try {
      this.#spool ??= await this.#open(batch.lane);
      const spool = this.#spool;
      await spool.write(batch);
      this.#fails = false;
      // Meanwhile the lane may have been lost, and the file set aside.
      return this.#spool === spool;
    } catch (error) {
      this.#fails = true;
      this.#parts.onTrouble(error);
      await this.#dropUnused();
      return false;
    } finally {
      this.#taking = false;
    }
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
    this.#replayed = 0;
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
    this.#replaying = true;
    this.#over = Promise.withResolvers();
    this.#answered = false;
    while (this.active && !this.#backoff.aborted) await this.#replaySome();
    this.#replaying = false;
    this.#over.resolve(undefined);
  }

  async #replaySome(): Promise<void> {
    const { lease, store, instance } = this.#parts;
    const [some = []] = inReplays(this.#batches.map(({ sealed }) => sealed.batch));
    const sent = this.#batches.slice(0, some.length);
    const sentAt = performance.now();
    lease.sent('append', sentAt);
    this.#underWay = sent.length;
    try {
      const epoch = await store.replay({ instance, lane: some[0]?.lane ?? 0, batches: some });
      this.#backoff.reset();
      this.#refusals.reset();
      this.#answered = true;
      lease.appended(sentAt, epoch);
      this.#returned(sent, epoch);
      await this.#learn(epoch);
    } catch (error) {
      [this.#answered, this.#underWay] = [false, 0];
      if (await this.#isEnd(error, some)) this.#lose(error);
      else await this.#backoff.pause();
    }
  }

  /** While no committed read tells, nothing is given up. */
  async #isEnd(error: unknown, batches: readonly AppendBatch[]): Promise<boolean> {
    try {
      return await this.#refusals.end(error, batches);
    } catch (unread) {
      this.#parts.onTrouble(unread);
      return false;
    }
  }

  #returned(sent: readonly Spooled[], epoch: number): void {
    const gone = new Set(sent);
    this.#batches = this.#batches.filter((spooled) => !gone.has(spooled));
    this.#underWay = 0;
    for (const spooled of sent) {
      const { length } = spooled.sealed.batch.entries;
      this.#count(-length);
      this.#replayed += length;
      this.#events.returned(spooled, epoch);
    }
    // What is being written stands in this file too.
    if (!this.active && !this.#taking) this.#end((spool) => spool.remove());
  }

  #lose(error: unknown): void {
    this.#parts.onTrouble(error);
    const lost = this.#batches;
    this.#batches = [];
    this.#count(-this.#entries);
    const { onKept } = this.#parts;
    const replayed = this.#replayed;
    this.#end((spool) => spool.setAside(replayed).then(onKept));
    this.#events.lost(lost[0]?.sealed.batch.lane ?? 0, lost);
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
