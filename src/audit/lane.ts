/**
 * The lane for uses: group commit. One append is in flight; what arrives meanwhile is the next batch.
 *
 * Bytes are fixed when a batch is sent. As long as nobody knows whether a sent batch was written, the
 * same bytes are sent again and nothing else: a second content at the same (lane, n) would collide
 * with a late commit of the first. Once it is certain that nothing was written (refused, stale, lane
 * lost), its entries go back to the head of the queue and are placed anew, in the same order.
 */
import type { EpochStanding, SecurityEpoch } from '../epoch.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import { LaneLost, OutcomeUnknown } from '../outcome.ts';
import { Backoff } from './backoff.ts';
import { seal, startOf } from './batch.ts';
import type { MacFunction, Position, Sealed, Unplaced } from './batch.ts';
import { catchUpOrPause } from './catch-up.ts';
import type { OwnBatches } from './own-batches.ts';
import { Pending, late } from './pending.ts';
import { StaleAnswer } from './ports.ts';
import type { AuditId, AuditStore } from './ports.ts';
import { WaitingQueue } from './waiting.ts';

export interface LaneDependencies {
  readonly store: AuditStore;
  readonly mac: MacFunction;
  readonly epoch: SecurityEpoch;
  readonly instance: string;
  /** What was written is noted here, for a sequencer in this process. */
  readonly own?: OwnBatches | undefined;
  /** First entry of a lane; `replaces` is the lane that was lost, if any. */
  readonly opening: (replaces: number | null) => Unplaced;
}

/** So many refusals of content without a success between them, and the lane itself is at fault. */
const LANE_AT_FAULT = 3;

interface Flight {
  readonly sealed: Sealed;
  readonly waiting: readonly Pending[];
}

/** What became of one attempt to write. `sent` is unknown: the same bytes must be sent again. */
type Fate = 'written' | 'not-written' | 'sent';

export class UseLane {
  readonly #deps: LaneDependencies;
  readonly #backoff = new Backoff();
  #position: Position | null = null;
  #lost: number | null = null;
  readonly #queue = new WaitingQueue();
  #running: Promise<void> | null = null;
  /** After a batch was refused for its content: how many entries are sent one by one to find whose. */
  #alone = 0;
  #durable = 0;
  #unsettled = false;
  /** Monotonic time at which the append in flight was sent. */
  #sentAt: number | null = null;

  constructor(deps: LaneDependencies) {
    this.#deps = deps;
  }

  /** Entries made durable by this instance, over all its use lanes. */
  get durable(): number {
    return this.#durable;
  }

  get lane(): number | null {
    return this.#position?.lane ?? null;
  }

  /** Entries of the lane that it writes now that are durable. */
  get acknowledged(): number | null {
    return this.#position === null ? null : this.#position.next - 1;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** Whether nothing waits or is being sent. */
  get idle(): boolean {
    return this.#running === null;
  }

  /** Attempts that failed since the last success. */
  get failures(): number {
    return this.#backoff.failures;
  }

  /** How long the append in flight has been without an answer, in milliseconds. */
  get unansweredMs(): number {
    return this.#sentAt === null ? 0 : performance.now() - this.#sentAt;
  }

  /** Opens the lane; its first entry is durable when this resolves. */
  async open(deadlineMs: number): Promise<AuditId> {
    const lane = await this.#deps.store.openLane(this.#deps.instance, 'use');
    const opening = this.#deps.opening(null);
    this.#position = startOf(lane);
    return this.append(opening, null, deadlineMs);
  }

  /**
   * Resolves once the entry is durable. Rejects with `StaleAnswer`, with `audit_unavailable` at the
   * deadline or when too many wait already, or with the error that its content met.
   */
  append(
    entry: Unplaced,
    standing: EpochStanding | null,
    deadlineMs: number | null,
  ): Promise<AuditId> {
    if (deadlineMs !== null && this.#queue.full) return Promise.reject(late());
    const pending = new Pending(entry, standing, deadlineMs);
    this.#queue.push(pending);
    this.#running ??= this.#run();
    return pending.durable;
  }

  /** Closes the lane after its last entry; false when it had to be left open (something is unknown). */
  async close(last: Unplaced, deadlineMs: number): Promise<boolean> {
    try {
      await this.append(last, null, deadlineMs);
      if (this.#position !== null) await this.#deps.store.closeLane(this.#position.lane);
      return true;
    } catch {
      return false;
    } finally {
      this.#backoff.abort();
      await this.#running;
    }
  }

  /** Ends every repetition; what waits is left to its deadline. */
  abort(): void {
    this.#backoff.abort();
  }

  async #run(): Promise<void> {
    // What arrives in the same turn of the event loop shares the first batch.
    await Promise.resolve();
    try {
      while (this.#queue.length > 0 && !this.#backoff.aborted) await this.#flush();
    } finally {
      this.#running = null;
    }
  }

  async #flush(): Promise<void> {
    const flight = await this.#prepare();
    if (flight === null) return;
    let fate = await this.#send(flight);
    while (fate === 'sent' && !this.#backoff.aborted) {
      await this.#backoff.pause();
      fate = await this.#send(flight);
    }
    this.#unsettled = fate === 'sent';
    if (fate === 'not-written') this.#queue.putBack(flight.waiting);
  }

  /** Takes a batch and fixes its bytes; null when there is nothing to send now. */
  async #prepare(): Promise<Flight | null> {
    let waiting: readonly Pending[] = [];
    try {
      const position = this.#position ?? (await this.#reopen());
      waiting = this.#take();
      if (waiting.length === 0) return null;
      const entries = waiting.map((pending) => pending.entry);
      const { mac, epoch } = this.#deps;
      return { sealed: await seal(mac, position, epoch.current, entries), waiting };
    } catch {
      // Nothing was sent. The waiters' deadlines bound how long this is repeated for them.
      this.#queue.putBack(waiting);
      await this.#backoff.pause();
      return null;
    }
  }

  #take(): readonly Pending[] {
    const judge = (pending: Pending): void => {
      const touched = pending.standing !== null && this.#deps.epoch.touches(pending.standing);
      if (touched) pending.reject(new StaleAnswer());
    };
    if (this.#alone === 0) return this.#queue.take(judge);
    this.#alone -= 1;
    return this.#queue.take(judge, 1);
  }

  async #send(flight: Flight): Promise<Fate> {
    this.#sentAt = performance.now();
    try {
      const outcome = await this.#deps.store.append(flight.sealed.batch);
      this.#sentAt = null;
      if ('stale' in outcome) return await this.#catchUp(flight, outcome.stale);
      this.#written(flight);
      return 'written';
    } catch (error) {
      this.#sentAt = null;
      return await this.#failed(flight, error);
    }
  }

  #written({ sealed, waiting }: Flight): void {
    const { lane, first } = sealed.batch;
    this.#position = sealed.after;
    this.#deps.own?.written(sealed.batch);
    this.#unsettled = false;
    this.#durable += waiting.length;
    this.#backoff.reset();
    waiting.forEach((pending, index) => pending.resolve(`${lane}-${first + index}`));
  }

  /**
   * The batch was refused as a whole under an old epoch: learn the changes, then judge again. A change
   * of this instance's own is known by then, and nothing has to be read.
   */
  async #catchUp({ sealed }: Flight, stale: number): Promise<Fate> {
    this.#unsettled = false;
    const known = sealed.batch.epoch < stale && stale <= this.#deps.epoch.current;
    if (!known) await catchUpOrPause(this.#deps, this.#backoff);
    return 'not-written';
  }

  async #failed(flight: Flight, error: unknown): Promise<Fate> {
    if (error instanceof LaneLost) {
      this.#lose(flight);
      return 'not-written';
    }
    // An earlier attempt of these bytes may still be under way: this one's refusal says nothing of it.
    if (this.#unsettled || error instanceof OutcomeUnknown || !TwofoldError.is(error)) {
      this.#unsettled = true;
      return 'sent';
    }
    await this.#backoff.pause();
    if (!ERRORS[error.code].retryable) this.#blame(flight, error);
    return 'not-written';
  }

  /**
   * The database refused the content: one entry alone is at fault, of several each is tried alone. A
   * lane that takes none (its last entries are gone) is given up, so that the next requests are served.
   */
  #blame(flight: Flight, error: TwofoldError): void {
    if (this.#backoff.failures >= LANE_AT_FAULT) this.#lose(flight);
    if (flight.waiting.length > 1) {
      this.#alone = flight.waiting.length;
      return;
    }
    for (const pending of flight.waiting) {
      pending.reject(new TwofoldError('audit_unavailable', undefined, { cause: error }));
    }
  }

  #lose({ sealed }: Flight): void {
    this.#lost = sealed.batch.lane;
    this.#position = null;
    this.#unsettled = false;
  }

  async #reopen(): Promise<Position> {
    const { store, instance, opening } = this.#deps;
    const lane = await store.openLane(instance, 'use');
    const first = opening(this.#lost);
    this.#queue.putBack([new Pending(first, null, null)]);
    this.#position = startOf(lane);
    return this.#position;
  }
}
