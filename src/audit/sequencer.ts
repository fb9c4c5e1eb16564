/**
 * Gives each entry its index in the log, and signs what the log holds then.
 *
 * One step: read what the lanes hold beyond their cursors, check it, grow the tree, sign its
 * checkpoint, commit all of that in one statement that stands only while term and head are what they
 * were, and publish it. Whatever ends otherwise is forgotten; the next step reads the head again, by the
 * path that a start takes. So nothing depends on how a step ended, and a second sequencer, or one that
 * was paused, commits nothing.
 */
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import type { Leader } from '../leader.ts';
import type { MacFunction } from './batch.ts';
import { viewFault } from './intake.ts';
import type { LaneFault } from './intake.ts';
import { LaneFaults } from './lane-faults.ts';
import type { CheckpointSigner, LogHead } from './log-ports.ts';
import { OwnBatches } from './own-batches.ts';
import { recoveredEdge } from './recovery.ts';
import { waitingOf } from './shares.ts';
import type { LaneView, SequencerStore } from './sequencer-ports.ts';
import { confirmedFault, endFault, takeFrom } from './staged-intake.ts';
import type { Taken } from './staged-intake.ts';
import type { Edge } from './tree/edge.ts';

export interface SequencerOptions {
  readonly store: SequencerStore;
  readonly leader: Pick<Leader, 'term' | 'lose'>;
  /** Instance id. */
  readonly holder: string;
  /** `Hsm.mac` with the audit key (`root-mac`). */
  readonly mac: MacFunction;
  readonly signer: CheckpointSigner;
  /** What this process has written itself; none unless given. */
  readonly own?: OwnBatches;
  /** Told of each head once its commit was acknowledged, or was found to be. */
  readonly publish: (head: LogHead) => void;
  /** Told once of each fault that is found. */
  readonly onFault: (fault: LaneFault) => void;
  readonly onMended: (lane: number) => void;
  /** Milliseconds that only rise. */
  readonly monotonic?: () => number;
  /** Least time between checkpoints while less than `full` entries wait; 1,000 ms. */
  readonly intervalMs?: number;
  /** So many entries do not wait for the interval; 8,192. */
  readonly full?: number;
  /** Entries of one commit at most; 32,768. */
  readonly most?: number;
}

/** What a step came to. `more`: there is enough left for another one at once. */
export type Step =
  | { readonly kind: 'idle' }
  | { readonly kind: 'committed'; readonly entries: number; readonly more: boolean }
  | { readonly kind: 'following' }
  | { readonly kind: 'halted' };

/** The log as it was last known to be committed, under the term that it was read in. */
interface Known {
  readonly term: number;
  readonly head: LogHead;
  readonly edge: Edge;
}

export class Sequencer {
  readonly #options: Required<SequencerOptions>;
  readonly #faults: LaneFaults;
  #known: Known | null = null;
  #published: LogHead | null = null;
  #committedAt = Number.NEGATIVE_INFINITY;
  #unsequenced = 0;
  #halted: string | null = null;
  /** Lane that the next commit begins after. */
  #after = 0;

  constructor(options: SequencerOptions) {
    const defaults = { intervalMs: 1_000, full: 8_192, most: 32_768 };
    const own = new OwnBatches();
    this.#options = { monotonic: () => performance.now(), own, ...defaults, ...options };
    this.#faults = new LaneFaults(this.#options);
  }

  /** The newest head that it has published. */
  get head(): LogHead | null {
    return this.#published;
  }

  /** Entries that waited for an index when it looked last. */
  get unsequenced(): number {
    return this.#unsequenced;
  }

  get faults(): readonly LaneFault[] {
    return this.#faults.all;
  }

  /** Why it does nothing any more: the log in the database is not what it was. */
  get halted(): string | null {
    return this.#halted;
  }

  /**
   * @throws whatever database or HSM throw, `OutcomeUnknown` too: then the next step finds out what the
   *   log is. Call it one at a time.
   */
  async step(): Promise<Step> {
    if (this.#halted !== null) return { kind: 'halted' };
    const { term } = this.#options.leader;
    if (term === null) {
      this.#known = null;
      return { kind: 'following' };
    }
    const known = this.#known?.term === term ? this.#known : await this.#recover(term);
    if (known === null) return { kind: 'halted' };
    // Whatever goes wrong from here on: the log is read anew.
    this.#known = null;
    const step = await this.#work(known);
    if (step.kind === 'idle') this.#known = known;
    return step;
  }

  async #recover(term: number): Promise<Known | null> {
    const recovered = await recoveredEdge(await this.#options.store.edge(), this.#published);
    if ('mismatch' in recovered) {
      this.#halted = recovered.mismatch;
      return null;
    }
    this.#publish(recovered.head);
    // Lanes that nobody looks at any more: once in a while somebody has to.
    for (const view of await this.#options.store.lanes(true)) {
      if (view.drained) this.#faults.found(view.lane, viewFault(view));
    }
    return { term, ...recovered };
  }

  async #work(known: Known): Promise<Step> {
    const { store } = this.#options;
    const views = await store.lanes(false);
    this.#unsequenced = views.reduce((sum, view) => sum + waitingOf(view), 0);
    const sound = await this.#sound(views);
    await this.#drain(sound);
    const waiting = this.#turned(sound.filter((view) => waitingOf(view) > 0));
    const entries = waiting.reduce((sum, view) => sum + waitingOf(view), 0);
    if (entries === 0 || !this.#isDue(entries)) return { kind: 'idle' };
    const taken = await takeFrom(this.#options, waiting, this.#options.most, false);
    await this.#confirm(taken.faults);
    if (taken.leaves.length === 0) return { kind: 'idle' };
    this.#after = taken.runs.at(-1)?.lane ?? 0;
    return this.#commit(known, taken, entries);
  }

  #isDue(entries: number): boolean {
    const { monotonic, intervalMs, full } = this.#options;
    return entries >= full || monotonic() - this.#committedAt >= intervalMs;
  }

  /** Lanes with nothing wrong about their row; what is wrong with others is found out. */
  async #sound(views: readonly LaneView[]): Promise<readonly LaneView[]> {
    const unheld = views.filter(({ lane }) => !this.#faults.holds(lane));
    const faults = unheld.map(viewFault);
    await this.#confirm(faults.filter((fault) => fault !== null));
    unheld.forEach((view, at) => {
      if (faults[at] === null && waitingOf(view) === 0) this.#faults.advanced(view.lane);
    });
    return unheld.filter((_, at) => faults[at] === null);
  }

  async #confirm(suspected: readonly LaneFault[]): Promise<void> {
    for (const suspect of suspected) {
      this.#faults.found(suspect.lane, await confirmedFault(this.#options, suspect));
    }
  }

  async #drain(views: readonly LaneView[]): Promise<void> {
    const done: number[] = [];
    for (const view of views.filter((each) => each.closed && waitingOf(each) === 0)) {
      const fault = await endFault(this.#options.store, view);
      if (fault === null) done.push(view.lane);
      else this.#faults.found(view.lane, fault);
    }
    if (done.length > 0) await this.#options.store.drain(done);
  }

  /** The lanes after the one that came last first, so that each is first in its turn. */
  #turned(views: readonly LaneView[]): readonly LaneView[] {
    const later = views.filter(({ lane }) => lane > this.#after);
    return [...later, ...views.filter(({ lane }) => lane <= this.#after)];
  }

  async #commit({ term, head, edge }: Known, taken: Taken, waiting: number): Promise<Step> {
    const { store, signer, holder, leader, monotonic, full } = this.#options;
    const { edge: grown, tiles } = edge.grow(taken.leaves);
    const { size } = grown;
    const root = grown.root();
    const note = await signer.sign(size, root);
    const after = { size, root, note };
    const { runs } = taken;
    const outcome = await store.sequence({ term, holder, before: head, after, runs, tiles });
    switch (outcome) {
      case 'committed':
        break;
      case 'deposed':
        leader.lose();
        return { kind: 'following' };
      case 'moved':
        throw new TwofoldError('conflict', 'The log was not as it had been read.');
    }
    this.#committedAt = monotonic();
    this.#known = { term, head: after, edge: grown };
    this.#publish(after);
    const entries = taken.leaves.length;
    this.#unsequenced = Math.max(0, this.#unsequenced - entries);
    for (const { lane } of runs) this.#faults.advanced(lane);
    return { kind: 'committed', entries, more: waiting - entries >= full };
  }

  #publish(head: LogHead): void {
    const published = this.#published;
    if (published?.size === head.size && equalBytes(published.root, head.root)) return;
    this.#published = head;
    this.#options.publish(head);
  }
}
