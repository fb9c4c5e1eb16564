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
import { Pending, late } from './pending.ts';
import { StaleAnswer } from './ports.ts';
import type { AuditId, AuditStore } from './ports.ts';

export interface LaneDependencies {
  readonly store: AuditStore;
  readonly mac: MacFunction;
  readonly epoch: SecurityEpoch;
  readonly instance: string;
  /** First entry of a lane; `replaces` is the lane that was lost, if any. */
  readonly opening: (replaces: number | null) => Unplaced;
}

const MAX_ENTRIES = 256;
const MAX_BYTES = 1024 * 1024;
/** Above this the log refuses at once: what waits longer than its deadline only costs memory. */
const MAX_WAITING = 16_384;

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
  #queue: Pending[] = [];
  #running: Promise<void> | null = null;
  /** After a batch was refused for its content: how many entries are sent one by one to find whose. */
  #alone = 0;
  #durable = 0;
  #unsettled = false;

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

  get waiting(): number {
    return this.#queue.length;
  }

  /** Attempts that failed since the last success. */
  get failures(): number {
    return this.#backoff.failures;
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
    if (this.#queue.length >= MAX_WAITING) this.#queue = this.#queue.filter(isWaiting);
    if (this.#queue.length >= MAX_WAITING && deadlineMs !== null) return Promise.reject(late());
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
    if (fate === 'not-written') this.#queue.unshift(...flight.waiting);
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
      this.#queue.unshift(...waiting);
      await this.#backoff.pause();
      return null;
    }
  }

  /** From the head of the queue: still waited for, untouched by changes, within the caps. */
  #take(): readonly Pending[] {
    const taken: Pending[] = [];
    const most = this.#alone > 0 ? 1 : MAX_ENTRIES;
    let bytes = 0;
    let used = 0;
    for (const pending of this.#queue) {
      if (taken.length >= most || bytes >= MAX_BYTES) break;
      used += 1;
      if (this.#rejectTouched(pending)) continue;
      taken.push(pending);
      bytes += pending.entry.facts.length;
    }
    this.#queue.splice(0, used);
    this.#alone = Math.max(0, this.#alone - taken.length);
    return taken;
  }

  #rejectTouched(pending: Pending): boolean {
    if (pending.standing !== null && this.#deps.epoch.touches(pending.standing)) {
      pending.reject(new StaleAnswer());
    }
    return pending.settled;
  }

  async #send(flight: Flight): Promise<Fate> {
    try {
      const outcome = await this.#deps.store.append(flight.sealed.batch);
      if ('stale' in outcome) return await this.#catchUp();
      this.#written(flight);
      return 'written';
    } catch (error) {
      return await this.#failed(flight, error);
    }
  }

  #written({ sealed, waiting }: Flight): void {
    const { lane, first } = sealed.batch;
    this.#position = sealed.after;
    this.#unsettled = false;
    this.#durable += waiting.length;
    this.#backoff.reset();
    waiting.forEach((pending, index) => pending.resolve(`${lane}-${first + index}`));
  }

  /** The batch was refused as a whole under an old epoch: learn the changes, then judge again. */
  async #catchUp(): Promise<Fate> {
    this.#unsettled = false;
    await catchUpOrPause(this.#deps, this.#backoff);
    return 'not-written';
  }

  async #failed(flight: Flight, error: unknown): Promise<Fate> {
    if (error instanceof LaneLost) {
      this.#lost = flight.sealed.batch.lane;
      this.#position = null;
      this.#unsettled = false;
      return 'not-written';
    }
    // An earlier attempt of these bytes may still be under way: this one's refusal says nothing of it.
    if (this.#unsettled || error instanceof OutcomeUnknown || !TwofoldError.is(error)) {
      this.#unsettled = true;
      return 'sent';
    }
    if (!ERRORS[error.code].retryable) this.#blame(flight, error);
    await this.#backoff.pause();
    return 'not-written';
  }

  /** The database refused the content: one entry alone is at fault, of several each is tried alone. */
  #blame({ waiting }: Flight, error: TwofoldError): void {
    if (waiting.length > 1) {
      this.#alone = waiting.length;
      return;
    }
    for (const pending of waiting) {
      pending.reject(new TwofoldError('audit_unavailable', undefined, { cause: error }));
    }
  }

  async #reopen(): Promise<Position> {
    const { store, instance, opening } = this.#deps;
    const lane = await store.openLane(instance, 'use');
    const first = opening(this.#lost);
    this.#queue.unshift(new Pending(first, null, null));
    this.#position = startOf(lane);
    return this.#position;
  }
}

const isWaiting = (pending: Pending): boolean => !pending.settled;
