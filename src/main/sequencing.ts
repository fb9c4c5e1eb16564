/**
 * The sequencer in this process: it stands for election while the service runs, sequences while it
 * leads, and gives its term up at the stop. Nothing that a caller waits for waits for it.
 */
import type { RunningAuditLog } from '../audit/log.ts';
import type { MacFunction } from '../audit/batch.ts';
import type { LaneFault } from '../audit/intake.ts';
import type { CheckpointSigner, LogHead } from '../audit/log-ports.ts';
import { Sequencer } from '../audit/sequencer.ts';
import type { LogProgress } from '../audit/sequencer-ports.ts';
import type { LaneCounts } from '../keyring/instance-ports.ts';
import { Leader } from '../leader.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import type { Incarnation } from './incarnation.ts';
import type { Unwinding } from './unwinding.ts';

const ROLE = 'sequencer';
const TICK_MS = 200;
const ELECTION_MS = 1_000;
/** How often one that follows looks how far the log is. */
const WATCH_MS = 2_000;
/** A leader beats every second, and a statement takes no longer than 3. */
const SILENCE_MS = 5_000;

export interface SequencingParts {
  readonly store: Pick<Store, 'sequencer' | 'scheduler'>;
  readonly audit: Pick<RunningAuditLog, 'recordOwn' | 'own'>;
  readonly incarnation: Pick<Incarnation, 'id' | 'end'>;
  readonly mac: MacFunction;
  readonly signer: CheckpointSigner;
  /** Told of each head after its commit was acknowledged. */
  readonly publish: (head: LogHead) => void;
  readonly log: Log;
}

/** What is shown of the sequenced log. */
export interface SequencingFacts extends LogProgress {
  /** `leading`, `following`, or why nothing is sequenced here: `halted`, `failing`. */
  readonly state: 'leading' | 'following' | 'failing' | 'halted';
  /** Lanes that are at fault, as the one that leads found them. */
  readonly faults: readonly LaneFault[];
}

/** What heartbeats announce of the lanes. */
export const laneCounts = (audit: Pick<RunningAuditLog, 'health'>): LaneCounts => {
  const { useLane, changeLane, acknowledged } = audit.health();
  const { use: useCount, change: changeCount } = acknowledged;
  return { useLane, useCount, changeLane, changeCount };
};

export class Sequencing {
  readonly #parts: SequencingParts;
  readonly #leader: Leader;
  readonly #sequencer: Sequencer;
  #term: number | null = null;
  #failing = false;
  #electedAt = Number.NEGATIVE_INFINITY;
  #watchedAt = Number.NEGATIVE_INFINITY;
  #progress: LogProgress = { size: 0, unsequenced: 0, checkpointAgeMs: null };
  #progressAt = performance.now();
  #ended = false;
  #timer: NodeJS.Timeout | undefined;
  #ticking: Promise<void> = Promise.resolve();

  constructor(parts: SequencingParts) {
    const { store, incarnation, mac, signer, log } = parts;
    this.#parts = parts;
    const holder = incarnation.id;
    this.#leader = new Leader({
      store: store.scheduler,
      role: ROLE,
      holder,
      silenceMs: SILENCE_MS,
    });
    this.#sequencer = new Sequencer({
      store: store.sequencer,
      leader: this.#leader,
      holder,
      own: parts.audit.own,
      mac,
      signer,
      publish: (head) => this.#publish(head),
      onFault: (fault) => {
        log.error(fault, 'a lane of the audit log is at fault: none of its entries is sequenced');
        this.#record('audit.lane.fault', { ...fault });
      },
      onMended: (lane) => log.warn({ lane }, 'a lane of the audit log is at fault no more'),
    });
  }

  facts(): SequencingFacts {
    const { checkpointAgeMs: age } = this.#progress;
    const since = performance.now() - this.#progressAt;
    return {
      ...this.#progress,
      checkpointAgeMs: age === null ? null : Math.round(age + since),
      state: this.#state,
      faults: this.#leader.term === null ? [] : this.#sequencer.faults,
    };
  }

  /** Ticks until unwound. */
  start(unwinding: Unwinding): void {
    this.#next();
    unwinding.add('sequencer', () => this.#stop());
  }

  get #state(): SequencingFacts['state'] {
    if (this.#sequencer.halted !== null) return 'halted';
    if (this.#failing) return 'failing';
    return this.#leader.term === null ? 'following' : 'leading';
  }

  #next(): void {
    this.#ticking = this.#tick().then((more) => {
      if (!this.#ended) this.#timer = setTimeout(() => this.#next(), more ? 0 : TICK_MS).unref();
    });
  }

  /** Whether there is more to do at once. */
  async #tick(): Promise<boolean> {
    const { incarnation, log } = this.#parts;
    if (incarnation.end !== null || this.#sequencer.halted !== null) return false;
    try {
      await this.#elect();
      const step = await this.#sequencer.step();
      this.#failing = false;
      if (step.kind === 'halted') await this.#halt();
      if (step.kind === 'following') await this.#watch();
      else this.#noted();
      return step.kind === 'committed' && step.more;
    } catch (err) {
      if (!this.#failing) log.warn({ err }, 'the audit log could not be sequenced; trying on');
      this.#failing = true;
      return false;
    }
  }

  async #elect(): Promise<void> {
    const now = performance.now();
    if (now - this.#electedAt < ELECTION_MS) return;
    this.#electedAt = now;
    const term = await this.#leader.tick();
    if (term === this.#term) return;
    if (this.#term !== null) this.#record('sequencer.lost', { term: this.#term });
    if (term !== null) this.#record('sequencer.elected', { term });
    this.#term = term;
  }

  /** The log here is not what it was: nothing is written on top of it. */
  async #halt(): Promise<void> {
    const reason = this.#sequencer.halted ?? '';
    this.#parts.log.fatal({ reason }, 'the sequencer stopped: the audit log was altered');
    this.#record('sequencer.halted', { reason });
    await this.#leader.resign();
  }

  async #watch(): Promise<void> {
    const now = performance.now();
    if (now - this.#watchedAt < WATCH_MS) return;
    this.#watchedAt = now;
    this.#progress = await this.#parts.store.sequencer.progress();
    this.#progressAt = performance.now();
  }

  #noted(): void {
    const { head, unsequenced } = this.#sequencer;
    if (head !== null) this.#progress = { ...this.#progress, size: head.size, unsequenced };
  }

  #publish(head: LogHead): void {
    this.#progress = { ...this.#progress, size: head.size, checkpointAgeMs: 0 };
    this.#progressAt = performance.now();
    this.#parts.publish(head);
  }

  #record(operation: string, detail: Parameters<RunningAuditLog['recordOwn']>[1]): void {
    const { audit, log } = this.#parts;
    audit.recordOwn(operation, detail).catch((err: unknown) => {
      log.warn({ err, operation }, 'an entry of the sequencer could not be written');
    });
  }

  async #stop(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#ticking;
    clearTimeout(this.#timer);
    const { term } = this.#leader;
    await this.#leader.resign();
    if (term !== null) {
      await this.#parts.audit.recordOwn('sequencer.lost', { term }).catch(() => undefined);
    }
  }
}
