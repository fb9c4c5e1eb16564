/**
 * The sequencer's store in memory. It asserts the rules of `sequence`, and fails both ways: failed and
 * not applied, failed but applied (at once, or later, when nobody waits for it any more).
 */
import { createHash } from 'node:crypto';
import { ownUnplaced, seal, startOf } from '../../src/audit/batch.ts';
import type { Position } from '../../src/audit/batch.ts';
import type {
  LaneEntry,
  LaneRange,
  LaneView,
  LogProgress,
  SequencerStore,
  Stage,
  StageOutcome,
  StoredEdge,
} from '../../src/audit/sequencer-ports.ts';
import { EMPTY_ROOT } from '../../src/audit/tree/hashes.ts';
import type { Tile } from '../../src/audit/tree/edge.ts';
import { hashesAt } from '../../src/audit/tree/tiles.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { Leadership, LeaderStore } from '../../src/leader.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { OwnBatches } from '../../src/audit/own-batches.ts';
import { leafOf } from './memory-log.ts';
import { softwareMac } from './memory-store.ts';

export type LogFault = 'none' | 'refused' | 'lost-before' | 'lost-after' | 'lost-late';
export type LogCall = 'lanes' | 'intake' | 'holds' | 'edge' | 'sequence' | 'drain' | 'lead';

const INSTANCE = '0b8f4c0e-6a5f-4d43-9d0e-0f4c6f5f9a11';

interface FaultyLane {
  position: Position;
  next: number;
  closed: boolean;
  announced: number | null;
  readonly entries: LaneEntry[];
}

interface Indexed {
  readonly id: string;
  readonly leaf: Uint8Array;
}

export class FaultyLog implements SequencerStore, LeaderStore {
  plan: (call: LogCall) => LogFault = () => 'none';
  /** Runs before each call, so that something else may come between. */
  before: (call: LogCall) => Promise<void> = () => Promise.resolve();
  readonly #lanes = new Map<number, FaultyLane>();
  readonly #tiles = new Map<string, Tile>();
  #late: (() => void)[] = [];
  #leadership: Leadership = { term: 0, holder: null, beat: 0 };
  #head: { readonly size: number; readonly root: Uint8Array; readonly note: string | null } = {
    size: 0,
    root: EMPTY_ROOT,
    note: null,
  };
  readonly log: Indexed[] = [];
  readonly checkpoints: { readonly size: number; readonly root: Uint8Array; note: string }[] = [];
  readonly appended: string[] = [];
  /** What the writers of the lanes know; a sequencer that is given it is in their process. */
  readonly own = new OwnBatches();

  openLane(): number {
    const lane = this.#lanes.size + 1;
    const position = startOf(lane);
    this.#lanes.set(lane, { position, next: 1, closed: false, announced: null, entries: [] });
    return lane;
  }

  async append(lane: number, count: number, detail: Record<string, boolean> = {}): Promise<void> {
    const held = this.lane(lane);
    const origin = { at: new Date(0), zone: 'z', instance: INSTANCE };
    const parts = Array.from({ length: count }, () => ownUnplaced('test', detail, origin));
    const { batch, after } = await seal(softwareMac, held.position, 1, parts);
    held.position = after;
    for (const [at, { leaf, body }] of batch.entries.entries()) {
      const n = batch.first + at;
      held.entries.push({ lane, n, leaf, body, batchHmac: at === 0 ? batch.hmac : null });
      this.appended.push(`${lane}-${n}`);
    }
    this.own.written(batch);
    held.announced = after.next - 1;
  }

  lane(lane: number): FaultyLane {
    const held = this.#lanes.get(lane);
    if (held === undefined) throw new Error(`no lane ${lane}`);
    return held;
  }

  /** What was sent, and nobody knew of, takes effect now. */
  settle(): void {
    const late = this.#late;
    this.#late = [];
    for (const apply of late) apply();
  }

  lanes(): Promise<readonly LaneView[]> {
    return this.#call('lanes', () =>
      [...this.#lanes].map(([lane, { next, closed, announced, entries }]) => ({
        ...{ lane, kind: 'use' as const, next, sequenced: next, closed, announced, drained: false },
        last: entries.at(-1)?.n ?? 0,
      })),
    );
  }

  intake(ranges: Parameters<SequencerStore['intake']>[0]): Promise<readonly LaneEntry[]> {
    return this.#call('intake', () =>
      ranges.flatMap(({ lane, from, until }) =>
        this.lane(lane).entries.filter(({ n }) => n >= from && n < until),
      ),
    );
  }

  holds({ lane, from, until }: LaneRange, digest: Uint8Array): Promise<boolean> {
    return this.#call('holds', () => {
      const held = this.lane(lane).entries.filter(({ n }) => n >= from && n < until);
      const hash = createHash('sha256');
      for (const { leaf, batchHmac } of held) hash.update(batchHmac ?? '').update(leaf);
      const hashed = held.every(({ leaf, body }) => Buffer.compare(leafOf(body), leaf) === 0);
      return held.length > 0 && hashed && hash.digest().equals(digest);
    });
  }

  edge(): Promise<StoredEdge> {
    return this.#call('edge', () => {
      const { size } = this.#head;
      const tiles: Tile[] = [];
      for (let level = 0; hashesAt(level, size) > 0; level += 1) {
        const tile = this.#tiles.get(`${level}/${Math.floor(hashesAt(level, size) / 256)}`);
        if (tile !== undefined) tiles.push(tile);
      }
      return { ...this.#head, checkpoint: this.checkpoints.at(-1) ?? null, tiles };
    });
  }

  sequence(stage: Stage): Promise<StageOutcome> {
    return this.#call('sequence', () => this.#sequence(stage), 'moved');
  }

  drain(): Promise<void> {
    return this.#call('drain', () => undefined);
  }

  progress(): Promise<LogProgress> {
    return Promise.resolve({ size: this.#head.size, unsequenced: 0, checkpointAgeMs: null });
  }

  leadership(): Promise<Leadership> {
    return this.#call('lead', () => this.#leadership);
  }

  takeLeadership(_: string, seen: Leadership, holder: string | null): Promise<Leadership | null> {
    return this.#call('lead', () => {
      const { term, beat } = this.#leadership;
      if (term !== seen.term || beat !== seen.beat) return null;
      this.#leadership = { term: term + 1, holder, beat };
      return this.#leadership;
    });
  }

  beat(_: string, term: number, holder: string): Promise<boolean> {
    return this.#call('lead', () => this.#beat(term, holder));
  }

  #beat(term: number, holder: string): boolean {
    const { term: standing, holder: leads, beat } = this.#leadership;
    if (term !== standing || holder !== leads) return false;
    this.#leadership = { term, holder, beat: beat + 1 };
    return true;
  }

  #sequence({ term, holder, before, after, runs, tiles }: Stage): StageOutcome {
    if (!this.#beat(term, holder)) return 'deposed';
    if (before.size !== this.#head.size || !same(before.root, this.#head.root)) return 'moved';
    if (runs.some(({ lane, from }) => this.lane(lane).next !== from)) return 'moved';
    for (const { lane, from, count } of runs) {
      const { entries } = this.lane(lane);
      for (let n = from; n < from + count; n += 1) {
        const entry = entries.find((each) => each.n === n);
        if (entry === undefined) throw new Error('an entry that is not there has an index');
        this.log.push({ id: `${lane}-${n}`, leaf: entry.leaf });
      }
      this.lane(lane).next = from + count;
    }
    if (this.log.length !== after.size) throw new Error('the counts do not add up');
    this.#head = after;
    this.checkpoints.push(after);
    for (const tile of tiles) this.#tiles.set(`${tile.level}/${tile.index}`, tile);
    return 'committed';
  }

  async #call<T>(call: LogCall, apply: () => T, lateAnswer?: T): Promise<T> {
    await this.before(call);
    const fault = this.plan(call);
    switch (fault) {
      case 'none':
        return apply();
      case 'refused':
        throw new TwofoldError('database_unavailable');
      case 'lost-before':
        throw new OutcomeUnknown(new Error('lost'));
      case 'lost-after':
        apply();
        throw new OutcomeUnknown(new Error('lost'));
      case 'lost-late':
        if (lateAnswer !== undefined) this.#late.push(apply);
        throw new OutcomeUnknown(new Error('lost'));
    }
  }
}

const same = (one: Uint8Array, other: Uint8Array): boolean => Buffer.compare(one, other) === 0;
