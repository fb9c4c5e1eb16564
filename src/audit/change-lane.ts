/** The lane for changes: one change at a time; effect and entry commit together. */
import { TwofoldError } from '../errors.ts';
import { LaneLost, OutcomeUnknown } from '../outcome.ts';
import { Backoff } from './backoff.ts';
import { seal, startOf } from './batch.ts';
import type { Position, Sealed, Unplaced } from './batch.ts';
import { catchUp, catchUpOrPause } from './catch-up.ts';
import type { LaneDependencies } from './lane.ts';
import { late } from './pending.ts';
import { StaleAnswer } from './ports.ts';
import type { AuditId, CommitOutcome, PreparedEntry } from './ports.ts';
import { isFinal, settle } from './settlement.ts';
import type { Settlement } from './settlement.ts';

export interface ChangeRequest {
  readonly entry: Unplaced;
  /** What takes the place of `entry` when the change must not be written any more. */
  readonly unwritten: (leaf: Uint8Array) => Promise<Unplaced>;
  readonly commit: (entry: PreparedEntry) => Promise<CommitOutcome>;
}

interface ChangeResult {
  /** `held` absent: nobody knows. */
  readonly result: { readonly epoch: number; readonly held?: boolean };
  readonly auditId: AuditId;
}

export class ChangeLane {
  readonly #deps: LaneDependencies;
  readonly #backoff = new Backoff();
  #position: Position | null = null;
  #lost: number | null = null;
  #turn: Promise<unknown> = Promise.resolve();
  #durable = 0;
  /** Turns that wait or run. */
  #turns = 0;
  /** Monotonic time at which what is written now was first sent. */
  #sentAt: number | null = null;

  constructor(deps: LaneDependencies) {
    this.#deps = deps;
  }

  /** Entries made durable by this instance, over all its change lanes. */
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

  /** Whether no change waits or runs. */
  get idle(): boolean {
    return this.#turns === 0;
  }

  /** Attempts that failed since the last success. */
  get failures(): number {
    return this.#backoff.failures;
  }

  /** How long what is written now has been without an answer, in milliseconds. */
  get unansweredMs(): number {
    return this.#sentAt === null ? 0 : performance.now() - this.#sentAt;
  }

  /** Opens the lane; its first entry is durable when this resolves. */
  open(deadlineMs: number): Promise<unknown> {
    return this.#inTurn(deadlineMs, () => this.#reopen());
  }

  /** See `AuditLog.change`. Past the deadline an unknown outcome is settled in the background. */
  change(request: ChangeRequest, deadlineMs: number): Promise<ChangeResult> {
    return this.#inTurn(deadlineMs, () => this.#change(request));
  }

  /** Makes `entry`, or a new lane's first entry, durable. */
  probe(entry: Unplaced, deadlineMs: number): Promise<unknown> {
    return this.#inTurn(deadlineMs, () =>
      this.#position === null ? this.#reopen() : this.#append(this.#position, entry),
    );
  }

  /** Closes the lane after its last entry; false when it had to be left open (something is unknown). */
  async close(last: Unplaced, deadlineMs: number): Promise<boolean> {
    try {
      await this.#inTurn(deadlineMs, () => this.#writeLast(last));
      return true;
    } catch {
      return false;
    } finally {
      this.#backoff.abort();
      await this.#turn;
    }
  }

  /** Ends every repetition. */
  abort(): void {
    this.#backoff.abort();
  }

  /** Runs after what runs already; what has not begun at the deadline never begins. */
  #inTurn<T>(deadlineMs: number, work: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let state: 'waiting' | 'begun' | 'given-up' = 'waiting';
    const timer = setTimeout(() => {
      reject(state === 'begun' ? late() : unwritten(undefined));
      state = 'given-up';
    }, deadlineMs);
    this.#turns += 1;
    this.#turn = this.#turn.then(async () => {
      if (state === 'waiting') {
        state = 'begun';
        await work().then(resolve, reject);
        clearTimeout(timer);
      }
      this.#turns -= 1;
    });
    return promise;
  }

  /** In a new lane when only now it shows that the old one was lost. */
  async #writeLast(last: Unplaced): Promise<void> {
    const position = this.#position ?? (await this.#reopen());
    try {
      const { lane } = await this.#append(position, last);
      await this.#deps.store.closeLane(lane);
    } catch (error) {
      if (this.#position !== null || this.#backoff.aborted) throw error;
      await this.#backoff.pause();
      await this.#writeLast(last);
    }
  }

  async #change(request: ChangeRequest): Promise<ChangeResult> {
    const { mac, epoch } = this.#deps;
    const position = this.#position ?? (await this.#reopen());
    const sealed = await seal(mac, position, epoch.current, [request.entry]);
    const outcome = await this.#timed(() => this.#commit(request, position, sealed));
    if ('stale' in outcome) {
      await catchUp(this.#deps);
      throw new StaleAnswer();
    }
    this.#advance(sealed);
    // Answers of this instance would meet the raised epoch at their next append anyway.
    if (epoch.current < outcome.epoch) await catchUp(this.#deps).catch(() => undefined);
    return { result: outcome, auditId: `${position.lane}-${position.next}` };
  }

  async #timed<T>(write: () => Promise<T>): Promise<T> {
    this.#sentAt = performance.now();
    try {
      return await write();
    } finally {
      this.#sentAt = null;
    }
  }

  async #commit(
    request: ChangeRequest,
    position: Position,
    sealed: Sealed,
  ): Promise<CommitOutcome> {
    try {
      return await request.commit(preparedOf(sealed));
    } catch (error) {
      if (error instanceof LaneLost) throw this.#lose(position.lane, error);
      if (TwofoldError.is(error) && !(error instanceof OutcomeUnknown)) throw error;
      const { store, epoch } = this.#deps;
      const substitute = () => this.#substitute(request, position, sealed.after.previous);
      const settlement = await settle({ store, epoch, sealed, substitute }, this.#backoff);
      return this.#settled(settlement, position, error);
    }
  }

  async #settled(
    settlement: Settlement,
    position: Position,
    cause: unknown,
  ): Promise<CommitOutcome> {
    switch (settlement.kind) {
      case 'written':
        await catchUp(this.#deps).catch(() => undefined);
        return { epoch: this.#deps.epoch.current };
      case 'prevented':
        this.#advance(settlement.by);
        throw unwritten(cause);
      case 'lane-lost':
        this.#lose(position.lane, cause);
        throw unwritten(cause);
      case 'unknown':
        this.#lose(position.lane, cause);
        throw late();
    }
  }

  async #substitute(request: ChangeRequest, position: Position, leaf: Uint8Array): Promise<Sealed> {
    const { mac, epoch } = this.#deps;
    return seal(mac, position, epoch.current, [await request.unwritten(leaf)]);
  }

  #lose(lane: number, cause: unknown): TwofoldError {
    this.#lost = lane;
    this.#position = null;
    return unwritten(cause);
  }

  #advance(sealed: Sealed): void {
    this.#position = sealed.after;
    this.#durable += sealed.batch.entries.length;
    this.#backoff.reset();
  }

  async #reopen(): Promise<Position> {
    const { store, instance, opening } = this.#deps;
    const lane = await store.openLane(instance, 'change');
    return this.#append(startOf(lane), opening(this.#lost));
  }

  /** Appends an entry with no effect beside it; returns what follows. */
  #append(position: Position, entry: Unplaced): Promise<Position> {
    return this.#timed(() => this.#untilKnown(position, entry));
  }

  /** The same bytes until it is known. What no repetition can append costs the lane. */
  async #untilKnown(position: Position, entry: Unplaced): Promise<Position> {
    const { store, mac, epoch } = this.#deps;
    let sealed: Sealed | null = null;
    while (!this.#backoff.aborted) {
      try {
        sealed ??= await seal(mac, position, epoch.current, [entry]);
        const outcome = await store.append(sealed.batch);
        if ('epoch' in outcome) {
          this.#advance(sealed);
          return sealed.after;
        }
        sealed = null;
        await catchUpOrPause(this.#deps, this.#backoff);
      } catch (error) {
        if (error instanceof LaneLost || isFinal(error)) throw this.#lose(position.lane, error);
        await this.#backoff.pause();
      }
    }
    throw late();
  }
}

/** What the change's caller is told when it is certain that the change was not written. */
const unwritten = (cause: unknown): TwofoldError =>
  cause === undefined || TwofoldError.is(cause) || cause instanceof LaneLost
    ? new TwofoldError('database_unavailable', undefined, { cause, retryAfter: 1 })
    : TwofoldError.from(cause);

function preparedOf({ batch }: Sealed): PreparedEntry {
  const [entry] = batch.entries;
  if (entry === undefined) throw new TypeError('a change has one entry');
  const { lane, first, epoch, hmac } = batch;
  return { ...entry, lane, n: first, epoch, hmac };
}
