/**
 * The audit log of one instance (promise P3: no audit, no answer; promise P5: no answer under a state
 * that a change has ended).
 */
import { TwofoldError } from '../errors.ts';
import type { EpochStanding, SecurityEpoch } from '../epoch.ts';
import { AnonymousCounts } from './anonymous.ts';
import { itemMac, ownUnplaced, unplaced, valueMac } from './batch.ts';
import type { MacFunction, Origin, Unplaced } from './batch.ts';
import { catchUp } from './catch-up.ts';
import { ChangeLane } from './change-lane.ts';
import { UseLane } from './lane.ts';
import type { GraceMode } from './grace/lease.ts';
import type { GraceParts } from './lane.ts';
import { late } from './pending.ts';
import { OwnBatches } from './own-batches.ts';
import { StaleAnswer } from './ports.ts';
import type { AuditDraft, AuditId, AuditLog, AuditStore } from './ports.ts';
import { ReadingSessions } from './reading-sessions.ts';
import { listEntries, readEntry } from './reader.ts';

export interface AuditLogOptions {
  readonly store: AuditStore;
  /** `Hsm.mac` with the audit key (`root-mac`). */
  readonly mac: MacFunction;
  /** The same of one key for ever, so that values can be looked for in entries of any age; `mac` unless given. */
  readonly values?: MacFunction;
  readonly epoch: SecurityEpoch;
  /** UUID of this incarnation. */
  readonly instance: string;
  readonly zone: string;
  /** What `system.start` says besides. */
  readonly started?: AuditDraft['detail'];
  /** Milliseconds since the Unix epoch; `Date.now` by default. Deadlines do not use it. */
  readonly clock?: () => number;
  /** How long a request waits for its entry; 3,000 ms. */
  readonly deadlineMs?: number;
  /** How long a change waits for its turn, its commit, and to know what became of it; 10,000 ms. */
  readonly changeDeadlineMs?: number;
  /** Counts of unauthenticated requests are sent this long after the first; 500 ms. */
  readonly countsAfterMs?: number;
  /** Absent: no answer leaves without a commit. */
  readonly grace?: GraceParts | undefined;
  /**
   * Resolves once no instance can answer any more without having heard of what is committed by now; asked
   * after changes that may have to wait for one.
   */
  readonly confirmed?: (() => Promise<void>) | undefined;
}

export interface AuditHealth {
  /**
   * Both lanes are open, the last append worked, and none is without an answer for over a second. In the
   * grace: the spool takes what is answered.
   */
  readonly ok: boolean;
  readonly useLane: number | null;
  readonly changeLane: number | null;
  /** Entries that wait to be durable. */
  readonly waiting: number;
  /** Attempts that failed since the last success. */
  readonly failures: number;
  /** Entries made durable by this instance, over all its lanes. */
  readonly durable: { readonly use: number; readonly change: number };
  /** Entries in the spool that are not in the database yet. */
  readonly spooled: number;
  /** Entries of the two lanes that are durable, for the heartbeat; null while there is no lane. */
  readonly acknowledged: { readonly use: number | null; readonly change: number | null };
}

export interface RunningAuditLog extends AuditLog {
  /** What it wrote last of uses, for a sequencer in the same process. */
  readonly own: OwnBatches;
  /**
   * Opens both lanes; the entry `system.start` is durable when it resolves.
   * @throws TwofoldError `audit_unavailable` or `database_unavailable`
   */
  start(): Promise<void>;
  /**
   * Sends the counts, then the last entry of each lane (`last: true`), and closes the lanes. The
   * caller has drained its requests; later ones get `shutting_down`. `closed` is false when the last
   * entries could not be made durable in time: then the lanes stay open, as after a kill.
   */
  stop(deadlineMs?: number): Promise<{ readonly closed: boolean }>;
  health(): AuditHealth;
  /**
   * Resolves once an entry of the system's own, which no request caused, is durable.
   * @throws TwofoldError `audit_unavailable`
   */
  recordOwn(operation: string, detail: AuditDraft['detail']): Promise<AuditId>;
  /**
   * Writes an entry of our own in each lane that is lost or whose last attempt failed, and that nobody
   * uses now. Health
   * would otherwise stay red until a request came, and a red instance is sent none. Nothing in the grace,
   * when the replay is the attempt. Never rejects.
   */
  probe(): Promise<void>;
}

export function createAuditLog(options: AuditLogOptions): RunningAuditLog {
  return new LanedAuditLog(options);
}

/** An append that takes longer makes health false before it has failed. */
const UNANSWERED_MS = 1000;

class LanedAuditLog implements RunningAuditLog {
  readonly own = new OwnBatches();
  readonly #options: AuditLogOptions;
  readonly #deadlineMs: number;
  readonly #use: UseLane;
  readonly #change: ChangeLane;
  readonly #counts = new AnonymousCounts();
  readonly #readings = new ReadingSessions();
  #countsSince: number | null = null;
  #countsTimer: NodeJS.Timeout | null = null;
  /** An entry of counts is not durable yet. */
  #countsSent = false;
  #accepting = false;
  #stopped: Promise<{ readonly closed: boolean }> | null = null;

  constructor(options: AuditLogOptions) {
    this.#options = options;
    this.#deadlineMs = options.deadlineMs ?? 3000;
    const { store, mac, epoch, instance } = options;
    const deps = { store, mac, epoch, instance };
    this.#change = new ChangeLane({ ...deps, opening: this.#opening('change', 'lane.open') });
    const { own } = this;
    const { grace } = options;
    this.#use = new UseLane({ ...deps, own, grace, opening: this.#opening('use', 'system.start') });
  }

  async start(): Promise<void> {
    const deadline = this.#changeDeadlineMs;
    try {
      await this.#change.open(deadline);
      await this.#use.open(deadline);
      this.#accepting = true;
    } catch (error) {
      this.#change.abort();
      this.#use.abort();
      throw error;
    }
  }

  stop(deadlineMs = 5000): Promise<{ readonly closed: boolean }> {
    this.#stopped ??= this.#stop(deadlineMs);
    return this.#stopped;
  }

  async #stop(deadlineMs: number): Promise<{ readonly closed: boolean }> {
    this.#accepting = false;
    this.#sendCounts();
    // At once, so that one lane that hangs does not take the other's time.
    const [use, change] = await Promise.all([
      this.#use.close(this.#ownEntry('system.stop', { last: true }), deadlineMs),
      this.#change.close(this.#ownEntry('lane.close', { last: true }), deadlineMs),
    ]);
    return { closed: use && change };
  }

  health(): AuditHealth {
    const failures = this.#use.failures + this.#change.failures;
    return {
      ok: this.#accepting && this.#isWell && !this.#isOver,
      useLane: this.#use.lane,
      changeLane: this.#change.lane,
      waiting: this.#use.waiting,
      failures,
      durable: { use: this.#use.durable, change: this.#change.durable },
      spooled: this.#use.spooled,
      acknowledged: { use: this.#use.acknowledged, change: this.#change.acknowledged },
    };
  }

  async probe(): Promise<void> {
    if (!this.#accepting || this.#mode === 'grace') return;
    const probes: Promise<unknown>[] = [];
    const entry = () => this.#ownEntry('lane.probe', {});
    if (!isWell(this.#use) && this.#use.idle) {
      probes.push(this.#use.append(entry(), null, this.#deadlineMs));
    }
    if (!isWell(this.#change) && this.#change.idle) {
      probes.push(this.#change.probe(entry(), this.#changeDeadlineMs));
    }
    await Promise.allSettled(probes);
  }

  async recordOwn(operation: string, detail: AuditDraft['detail']): Promise<AuditId> {
    this.#assertAccepting();
    return this.#use.append(this.#ownEntry(operation, detail), null, this.#deadlineMs);
  }

  async record(draft: AuditDraft, standing: EpochStanding): Promise<AuditId> {
    this.#assertAccepting();
    // Nobody who may do nothing fills with refusals what is there for answers.
    if (this.#use.spoolScarce && !isAnswer(draft)) throw late();
    const entry = await this.#entry(draft);
    return this.#use.append(entry, standing, this.#deadlineMs, isSpoolable(draft));
  }

  refusal(operation: string): TwofoldError | null {
    if (this.#mode === 'grace' && !SPOOLABLE.has(operation)) {
      return new TwofoldError('read_only_grace', undefined, { retryAfter: 1 });
    }
    return this.#isOver ? late() : null;
  }

  get #mode(): GraceMode {
    return this.#options.grace?.lease.mode(performance.now()) ?? 'off';
  }

  get #isWell(): boolean {
    const [use, change] = [this.#use, this.#change];
    if (this.#mode === 'grace') return use.lane !== null && !use.spoolFails;
    return isWell(use) && isWell(change);
  }

  /** Nothing leaves before the spool is in the database. */
  get #isOver(): boolean {
    return this.#mode === 'over' && this.#use.spooled > 0;
  }

  leaving(entry: AuditId, standing: EpochStanding): 'durable' | 'spooled' {
    const { grace, epoch } = this.#options;
    if (grace === undefined || !this.#use.isSpooled(entry)) return 'durable';
    if (!grace.lease.covers(performance.now())) throw late();
    if (epoch.touches(standing)) throw new StaleAnswer();
    return 'spooled';
  }

  async reading(draft: AuditDraft, standing: EpochStanding): Promise<AuditId> {
    const known = this.#readings.find(draft);
    if (known !== null) {
      await this.#confirm(standing);
      return known;
    }
    const id = await this.record(draft, standing);
    this.#readings.begin(draft, id);
    return id;
  }

  /** Repeated while only others' changes raise the epoch; within the deadline of an entry. */
  async #confirm(standing: EpochStanding): Promise<void> {
    const { store, epoch, instance } = this.#options;
    const until = performance.now() + this.#deadlineMs;
    do {
      this.#assertAccepting();
      if (epoch.touches(standing)) throw new StaleAnswer();
      const asked = epoch.current;
      const outcome = await store.confirm(asked, instance).catch(asUnavailable);
      if ('epoch' in outcome) return;
      await catchUp(this.#options).catch(asUnavailable);
    } while (performance.now() < until);
    throw new TwofoldError('audit_unavailable');
  }

  async change(
    draft: AuditDraft,
    commit: Parameters<AuditLog['change']>[1],
  ): ReturnType<AuditLog['change']> {
    this.#assertAccepting();
    const entry = await this.#entry(draft);
    const unwritten = (leaf: Uint8Array): Promise<Unplaced> =>
      this.#entry(unwrittenDraft(draft, leaf));
    const done = await this.#change.change({ entry, unwritten, commit }, this.#changeDeadlineMs);
    if (done.result.held !== false) await this.confirmed();
    return done;
  }

  async confirmed(): Promise<void> {
    await this.#options.confirmed?.();
  }

  countAnonymous(source: string, outcome: string): void {
    if (!this.#accepting) return;
    this.#counts.count(source, outcome);
    this.#countsSince ??= this.#now();
    if (this.#countsSent) return;
    this.#countsTimer ??= setTimeout(() => this.#sendCounts(), this.#options.countsAfterMs ?? 500);
  }

  hash(values: Uint8Array, as: 'value' | 'item' = 'value'): Promise<Uint8Array> {
    const mac = this.#options.values ?? this.#options.mac;
    return as === 'item' ? itemMac(mac, values) : valueMac(mac, values);
  }

  read(id: AuditId): ReturnType<AuditLog['read']> {
    return readEntry(this.#options.store, id);
  }

  list(query: Parameters<AuditLog['list']>[0]): ReturnType<AuditLog['list']> {
    return listEntries(this.#options.store, query);
  }

  get #changeDeadlineMs(): number {
    return this.#options.changeDeadlineMs ?? 10_000;
  }

  /**
   * Waits for as long as it takes: what was counted is not given up while the process lives. One entry
   * at a time: what is counted meanwhile stays in the bounded map, however long an outage lasts.
   */
  #sendCounts(): void {
    if (this.#countsTimer !== null) clearTimeout(this.#countsTimer);
    this.#countsTimer = null;
    if (this.#counts.empty) return;
    const since = this.#countsSince;
    this.#countsSince = null;
    const { counts, requests } = this.#counts.take();
    const entry = this.#ownEntry('unauthenticated', { ...counts, since, requests });
    this.#countsSent = true;
    void this.#countsOver(this.#use.append(entry, null, null));
  }

  /** What was counted since then has waited already. */
  async #countsOver(durable: Promise<AuditId>): Promise<void> {
    await Promise.allSettled([durable]);
    this.#countsSent = false;
    if (this.#accepting) this.#sendCounts();
  }

  #opening(kind: 'use' | 'change', operation: string) {
    return (replaces: number | null): Unplaced =>
      this.#ownEntry(replaces === null ? operation : 'lane.open', {
        kind,
        replaces,
        ...(kind === 'use' ? { changeLane: this.#change.lane } : {}),
        ...(operation === 'system.start' && replaces === null ? this.#options.started : {}),
      });
  }

  #entry(draft: AuditDraft): Promise<Unplaced> {
    return unplaced(draft, this.#origin(), this.#options.values ?? this.#options.mac);
  }

  #ownEntry(operation: string, detail: AuditDraft['detail']): Unplaced {
    return ownUnplaced(operation, detail, this.#origin());
  }

  #origin(): Origin {
    const { zone, instance } = this.#options;
    return { zone, instance, at: new Date(this.#now()) };
  }

  #now(): number {
    return (this.#options.clock ?? Date.now)();
  }

  #assertAccepting(): void {
    if (!this.#accepting) throw new TwofoldError('shutting_down');
  }
}

/** What may be answered from cache while no commit comes back. */
const SPOOLABLE: ReadonlySet<string> = new Set(['unwrap', 'verify']);

const isAnswer = ({ operation, outcome }: AuditDraft): boolean =>
  SPOOLABLE.has(operation) && outcome === 'ok';

const isSpoolable = ({ operation, outcome }: AuditDraft): boolean =>
  SPOOLABLE.has(operation) || outcome === 'read_only_grace';

const asUnavailable = (cause: unknown): never => {
  throw new TwofoldError('audit_unavailable', undefined, { cause });
};

/** The lane is open, its last attempt worked, and none is without an answer for long. */
const isWell = (lane: UseLane | ChangeLane): boolean =>
  lane.lane !== null && lane.failures === 0 && lane.unansweredMs < UNANSWERED_MS;

/** What takes the place of a change that must not be written any more; `leaf` is that of the change. */
const unwrittenDraft = (draft: AuditDraft, leaf: Uint8Array): AuditDraft => ({
  ...draft,
  outcome: 'database_unavailable',
  contextKeys: [],
  contextValues: null,
  aad: null,
  loggedContext: {},
  items: [],
  detail: { unwritten: Buffer.from(leaf).toString('hex') },
});
