/**
 * The lane for uses: group commit. One append is in flight; what arrives meanwhile is the next batch.
 *
 * Bytes are fixed when a batch is sent. As long as nobody knows whether a sent batch was written, the
 * same bytes are sent again and nothing else: a second content at the same (lane, n) would collide
 * with a late commit of the first. Once it is certain that nothing was written (refused, stale, lane
 * lost), its entries go back to the head of the queue and are placed anew, in the same order. After an
 * attempt that nobody knows of, a refusal makes nothing certain, since it may be an old primary's: a
 * committed read does.
 *
 * With a grace, a batch that is late goes into the spool in the same bytes, and what follows goes behind
 * it until all of that is in the database (`grace/spooling.ts`).
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { EpochStanding, SecurityEpoch } from '../epoch.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import { LaneLost, OutcomeUnknown } from '../outcome.ts';
import { Backoff } from './backoff.ts';
import { seal, startOf } from './batch.ts';
import type { MacFunction, Position, Sealed, Unplaced } from './batch.ts';
import { catchUpOrPause } from './catch-up.ts';
import { Refusals } from './grace/loss.ts';
import { Spooling, release } from './grace/spooling.ts';
import type { Spooled, SpoolingParts } from './grace/spooling.ts';
import type { OwnBatches } from './own-batches.ts';
import { Pending, late } from './pending.ts';
import { StaleAnswer } from './ports.ts';
import type { AuditId, AuditStore, CommitOutcome } from './ports.ts';
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
  /** Absent: no answer leaves without a commit. */
  readonly grace?: GraceParts | undefined;
}

export type GraceParts = Pick<SpoolingParts, 'lease' | 'store' | 'open' | 'onTrouble' | 'onKept'>;

/** So many refusals of content without a success between them, and the lane itself is at fault. */
const LANE_AT_FAULT = 3;
/** How long a batch is held back for a spool that is nearly empty. */
const SOON_MS = 100;

interface Flight {
  readonly sealed: Sealed;
  readonly waiting: readonly Pending[];
}

/**
 * What became of one attempt to write. `sent` is unknown: the same bytes must be sent again. `spooled`:
 * that is done elsewhere.
 */
type Fate = 'written' | 'not-written' | 'sent' | 'spooled';

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
  /** Monotonic time before the batch in flight was first sent. */
  #firstSentAt = 0;
  readonly #spooling: Spooling | null;
  /** Of a batch of which nobody knows whether it was written. */
  readonly #refusals: Refusals;

  constructor(deps: LaneDependencies) {
    this.#deps = deps;
    const { store: changes, epoch, instance, grace } = deps;
    this.#refusals = new Refusals(changes);
    const returned = (spooled: Spooled, at: number): void => this.#returned(spooled, at);
    const lost = (lane: number, spooled: readonly Spooled[]): void =>
      this.#spoolLost(lane, spooled);
    this.#spooling =
      grace === undefined
        ? null
        : new Spooling({ ...grace, changes, epoch, instance }, { returned, lost });
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
    return this.#position === null ? null : this.#position.next - 1 - this.spooled;
  }

  /** Entries that are in the spool and not in the database. */
  get spooled(): number {
    return this.#spooling?.entries ?? 0;
  }

  /** Whether an entry of this lane is in the spool and not in the database. */
  isSpooled(id: AuditId): boolean {
    if (this.spooled === 0) return false;
    const [lane, n] = id.split('-');
    return Number(lane) === this.lane && Number(n) > (this.acknowledged ?? 0);
  }

  /** Whether what came last could not be made durable in the spool. */
  get spoolFails(): boolean {
    return this.#spooling?.fails === true;
  }

  /** Whether the spool has room for answers alone. */
  get spoolScarce(): boolean {
    return this.#spooling?.scarce === true;
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
    spoolable = false,
  ): Promise<AuditId> {
    if (deadlineMs !== null && this.#queue.full) return Promise.reject(late());
    const pending = new Pending(entry, standing, deadlineMs, spoolable);
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
      this.abort();
      await this.#running;
      await this.#spooling?.close();
    }
  }

  /** Ends every repetition; what waits is left to its deadline. */
  abort(): void {
    this.#backoff.abort();
    this.#spooling?.abort();
  }

  async #run(): Promise<void> {
    // What arrives in the same turn of the event loop shares the first batch.
    await Promise.resolve();
    try {
      while (this.#queue.length > 0 && !this.#backoff.aborted) await this.#flush();
    } finally {
      this.#running = null;
      this.#restLease();
    }
  }

  /** Else what was refused in an outage, and given up, would count as late long after it. */
  #restLease(): void {
    if (this.#unsettled || this.#spooling?.active === true) return;
    this.#deps.grace?.lease.idle('append');
  }

  async #flush(): Promise<void> {
    if (this.#spooling?.active === true) await this.#spoolTurn(this.#spooling);
    const flight = await this.#prepare();
    if (flight === null) return;
    if (this.#spooling !== null) {
      if (this.#spooling.active && (await this.#spool(this.#spooling, flight))) return;
      // What could not be spooled follows what is: its bytes stand, and it waits.
      await this.#spooling.over();
      this.#firstSentAt = performance.now();
    }
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
      const outcome = await this.#outcome(flight);
      this.#sentAt = null;
      if (outcome === 'spooled') return outcome;
      if ('stale' in outcome) return await this.#catchUp(flight, outcome.stale);
      this.#deps.grace?.lease.appended(this.#firstSentAt, flight.sealed.batch.epoch);
      this.#written(flight);
      return 'written';
    } catch (error) {
      this.#sentAt = null;
      return await this.#failed(flight, error);
    }
  }

  async #outcome(flight: Flight): Promise<CommitOutcome | 'spooled'> {
    const spooling = this.#spooling;
    this.#deps.grace?.lease.sent('append', performance.now());
    const answer = this.#deps.store.append(flight.sealed.batch);
    if (spooling === null) return answer;
    const outcome = await spooling.orLate(answer);
    if (outcome !== 'late') return outcome;
    if (!(await this.#spool(spooling, flight))) return answer;
    // Whatever it comes to, the replay finds it.
    answer.catch(() => undefined);
    return 'spooled';
  }

  /** Holds the next batch back while it would be answered no sooner from the spool, or not at all. */
  async #spoolTurn(spooling: Spooling): Promise<void> {
    const covered = this.#deps.grace?.lease.covers(performance.now()) === true;
    if (!covered) await spooling.over();
    else if (spooling.nearlyOver) await Promise.race([spooling.over(), sleep(SOON_MS)]);
  }

  /** False when it is not durable there; then nothing was answered, and the bytes stand. */
  async #spool(spooling: Spooling, flight: Flight): Promise<boolean> {
    const { grace, epoch } = this.#deps;
    if (grace === undefined || !(await spooling.take(flight))) return false;
    this.#position = flight.sealed.after;
    this.#unsettled = false;
    this.#backoff.reset();
    release(flight, { lease: grace.lease, epoch }, () => new StaleAnswer());
    return true;
  }

  /** What waits for the database still may leave if nothing had changed when it got there. */
  #returned({ sealed, waiting }: Spooled, epoch: number): void {
    const { lane, first, epoch: under } = sealed.batch;
    this.#deps.own?.written(sealed.batch);
    this.#durable += waiting.length;
    this.#backoff.reset();
    waiting.forEach((pending, index) => {
      if (epoch === under || pending.standing === null) pending.resolve(`${lane}-${first + index}`);
      else pending.reject(new StaleAnswer());
    });
  }

  /** Who still waits gets a place in the next lane: nothing of theirs has left, nor will stand in this one. */
  #spoolLost(lane: number, spooled: readonly Spooled[]): void {
    this.#lost = lane;
    this.#position = null;
    this.#unsettled = false;
    this.#queue.putBack(spooled.flatMap(({ waiting }) => waiting.filter((each) => !each.settled)));
    this.#running ??= this.#run();
  }

  #written({ sealed, waiting }: Flight): void {
    const { lane, first } = sealed.batch;
    this.#position = sealed.after;
    this.#deps.own?.written(sealed.batch);
    this.#unsettled = false;
    this.#refusals.reset();
    this.#durable += waiting.length;
    this.#backoff.reset();
    waiting.forEach((pending, index) => pending.resolve(`${lane}-${first + index}`));
  }

  /**
   * The batch was refused as a whole under an old epoch: learn the changes, then judge again. A change
   * of this instance's own is known by then, and nothing has to be read. Where reading them is late
   * enough for the grace, the batch goes into the spool as it was judged.
   */
  async #catchUp(flight: Flight, stale: number): Promise<Fate> {
    const known = flight.sealed.batch.epoch < stale && stale <= this.#deps.epoch.current;
    if (!known) {
      const caughtUp = catchUpOrPause(this.#deps, this.#backoff);
      const spooling = this.#spooling;
      if (spooling !== null && (await spooling.orLate(caughtUp)) === 'late') {
        if (await this.#spool(spooling, flight)) return 'spooled';
      }
      // Whatever was sent before it has ended would be refused too, and begin another reading.
      await caughtUp;
    }
    if (this.#unsettled) {
      const found = await this.#found(flight);
      if (found === 'own') return this.#foundWritten(flight);
      // An append that is under way holds the epoch up until it is seen.
      const isOver = this.#deps.epoch.current > flight.sealed.batch.epoch;
      if (found === 'unknown' || !isOver) return 'sent';
    }
    this.#unsettled = false;
    return 'not-written';
  }

  async #failed(flight: Flight, error: unknown): Promise<Fate> {
    if (error instanceof LaneLost) {
      if (this.#unsettled) {
        const found = await this.#found(flight);
        if (found === 'own') return this.#foundWritten(flight);
        // Nothing lands in a lane that was closed before this was read.
        const isSure = found === 'none' && error.reason === 'closed';
        if (!isSure && !(await this.#isGivenUp(flight, error))) return 'sent';
      }
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
   * What stands where a batch was to begin, by a committed read: what an old primary says of an earlier attempt is not
   * believed. Its own first entry says that all of it is there, whoever has archived the rows since.
   */
  async #found({ sealed: { batch } }: Flight): Promise<'own' | 'other' | 'none' | 'unknown'> {
    try {
      const leaf = await this.#deps.store.leafAt(batch.lane, batch.first);
      if (leaf === null) return 'none';
      const [own] = batch.entries;
      return own !== undefined && equalBytes(leaf, own.leaf) ? 'own' : 'other';
    } catch {
      return 'unknown';
    }
  }

  #foundWritten(flight: Flight): Fate {
    this.#written(flight);
    return 'written';
  }

  /** Whether the lane that is said to be lost is so: a committed read says it too, or for seconds nothing else. */
  async #isGivenUp({ sealed: { batch } }: Flight, error: LaneLost): Promise<boolean> {
    try {
      return await this.#refusals.end(error, [batch]);
    } catch {
      return false;
    }
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
    this.#refusals.reset();
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
