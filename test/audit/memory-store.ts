/**
 * An `AuditStore` in memory that asserts the rules and fails both ways: failed and not applied, failed
 * but applied (at once, or later, when nobody waits for it any more).
 */
import { createHmac } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { batchMacInput, leafHash, NO_PREVIOUS } from '../../src/audit/entry.ts';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import type {
  AppendBatch,
  AppendEntry,
  AuditQuery,
  EntryPage,
  AuditStore,
  CommitOutcome,
  PreparedEntry,
  StoredEntry,
} from '../../src/audit/ports.ts';
import type { SecurityChange } from '../../src/epoch.ts';
import { TwofoldError } from '../../src/errors.ts';
import { LaneLost, OutcomeUnknown } from '../../src/outcome.ts';

/** What happens to one call. */
export type Fault =
  | 'none'
  /** Certainly not applied: `database_unavailable`. */
  | 'refused'
  /** Unknown, and not applied. */
  | 'lost-before'
  /** Unknown, and applied. */
  | 'lost-after'
  /** Unknown; applied some milliseconds later, if the rules still allow it then. */
  | 'lost-late'
  /** The content is refused: `invalid_value`, not retryable. */
  | 'content'
  /** The lane is closed under the writer. */
  | 'closed'
  /** What the lane held last is not there any more; not applied. */
  | 'gone'
  /** An old primary answers, which has not reached the epoch, or has one that nobody else knows; not applied. */
  | 'behind'
  | 'ahead';

export type Call =
  'append' | 'commit' | 'confirm' | 'leafAt' | 'changesSince' | 'openLane' | 'closeLane';
export type FaultPlan = (call: Call, batch: AppendBatch | null) => Fault;

export const softwareMac = async (data: Uint8Array): Promise<Uint8Array> =>
  createHmac('sha256', 'the audit key of the tests').update(data).digest();

interface Lane {
  readonly kind: 'use' | 'change';
  readonly instance: string;
  readonly entries: { readonly entry: AppendEntry; readonly epoch: number; readonly at: number }[];
  readonly batches: { readonly first: number; readonly count: number; readonly hmac: Uint8Array }[];
  closed: boolean;
  inFlight: boolean;
  /** Bytes of an append whose outcome the writer does not know yet. */
  unknown: AppendBatch | null;
}

export class MemoryAuditStore implements AuditStore {
  plan: FaultPlan = () => 'none';
  /** Milliseconds of one call. */
  delayMs = 0;
  epoch: number;
  readonly lanes = new Map<number, Lane>();
  readonly changes: SecurityChange[] = [];
  /** Effects of changes, by the leaf (hex) of their entry. */
  readonly effects: string[] = [];
  /** Broken rules; a test asserts that there are none. */
  readonly violations: string[] = [];
  readonly appends: AppendBatch[] = [];
  #clock = 0;
  readonly #late = new Set<Promise<unknown>>();

  constructor(epoch = 1) {
    this.epoch = epoch;
  }

  async openLane(instance: string, kind: 'use' | 'change'): Promise<number> {
    await this.#fail('openLane');
    const lane = this.lanes.size + 1;
    const fresh = { entries: [], batches: [], closed: false, inFlight: false, unknown: null };
    this.lanes.set(lane, { kind, instance, ...fresh });
    return lane;
  }

  async closeLane(lane: number): Promise<void> {
    await this.#fail('closeLane');
    this.lane(lane).closed = true;
  }

  async append(batch: AppendBatch): Promise<CommitOutcome> {
    const lane = this.lane(batch.lane);
    this.appends.push(batch);
    this.#assertBytes(batch);
    if (lane.inFlight) this.violations.push('two appends in flight in one lane');
    if (lane.kind === 'use' && lane.unknown !== null && !sameBatch(lane.unknown, batch)) {
      this.violations.push('other bytes sent while the outcome of the first is unknown');
    }
    lane.inFlight = true;
    try {
      const outcome = await this.#faulty('append', batch, () => this.#apply(batch));
      lane.unknown = null;
      return outcome;
    } catch (error) {
      if (error instanceof LaneLost) lane.unknown = null;
      if (error instanceof OutcomeUnknown) lane.unknown = batch;
      throw error;
    } finally {
      lane.inFlight = false;
    }
  }

  /** What `KeyStore.commit` does with the entry: effect, entry and epoch in one step. */
  async commit(
    entry: PreparedEntry,
    authorizedUnder: number,
    change: Omit<SecurityChange, 'epoch'>,
  ): Promise<CommitOutcome> {
    const { lane, n: first, hmac } = entry;
    const batch = { lane, first, epoch: authorizedUnder, entries: [entry], hmac };
    this.#assertBytes({ ...batch, epoch: decodeEntry(entry.body).epoch });
    return this.#faulty('commit', batch, () => {
      const outcome = this.#apply(batch, true);
      if ('stale' in outcome) return outcome;
      this.epoch += 1;
      this.changes.push({ ...change, epoch: this.epoch });
      this.effects.push(hex(entry.leaf));
      return { epoch: this.epoch };
    });
  }

  async leafAt(lane: number, n: number): Promise<Uint8Array | null> {
    await this.#fail('leafAt');
    return this.lane(lane).entries[n - 1]?.entry.leaf ?? null;
  }

  async confirm(epoch: number): Promise<CommitOutcome> {
    await this.#fail('confirm');
    return this.epoch === epoch ? { epoch } : { stale: this.epoch };
  }

  async changesSince(epoch: number): Promise<readonly SecurityChange[]> {
    await this.#fail('changesSince');
    return this.changes.filter((change) => change.epoch > epoch);
  }

  async entry(lane: number, n: number): Promise<StoredEntry | null> {
    const found = this.lanes.get(lane)?.entries[n - 1]?.entry;
    return found === undefined ? null : { lane, n, ...found, columns: found.index };
  }

  async entries(query: AuditQuery): Promise<EntryPage> {
    const same = (wanted: string | null, actual: string | null) =>
      wanted === null || wanted === actual;
    const rows = this.all().filter(
      ({ index }) =>
        same(query.namespace, index.namespace) &&
        same(query.operation, index.operation) &&
        same(query.keyId, index.keyId) &&
        same(query.keyRef, index.keyRef) &&
        same(query.subject, index.subject) &&
        same(query.outcome, index.outcome) &&
        (query.from === null || index.at >= query.from) &&
        (query.until === null || index.at < query.until),
    );
    rows.sort(
      (a, b) => b.index.at.getTime() - a.index.at.getTime() || b.lane - a.lane || b.n - a.n,
    );
    const { after } = query;
    const start =
      after === null ? 0 : rows.findIndex((r) => r.lane === after.lane && r.n === after.n) + 1;
    const entries = rows.slice(start, start + query.pageSize);
    const last = entries.at(-1);
    const more = last !== undefined && rows.length > start + query.pageSize;
    return { entries, next: more ? { lane: last.lane, n: last.n } : null };
  }

  /** Direct change by somebody else, e.g. another instance. */
  change(change: Omit<SecurityChange, 'epoch'>): number {
    this.epoch += 1;
    this.#clock += 1;
    this.changes.push({ ...change, epoch: this.epoch });
    return this.epoch;
  }

  lane(lane: number): Lane {
    const found = this.lanes.get(lane);
    if (found === undefined) throw new TypeError(`no lane ${lane}`);
    return found;
  }

  all(): (AppendEntry & StoredEntry & { epoch: number })[] {
    return [...this.lanes].flatMap(([lane, { entries }]) =>
      entries.map(({ entry, epoch }, index) => ({
        ...entry,
        ...{ columns: entry.index, lane, n: index + 1, epoch },
      })),
    );
  }

  /** Until no late effect is under way any more. */
  async quiet(): Promise<void> {
    while (this.#late.size > 0) await Promise.all(this.#late);
  }

  /** Reads everything back and checks it independently of how it came there. */
  async verify(): Promise<string[]> {
    const broken = [...this.violations];
    for (const [id, lane] of this.lanes) {
      let previous = NO_PREVIOUS;
      for (const [index, { entry, epoch }] of lane.entries.entries()) {
        const decoded = decodeEntry(entry.body);
        if (decoded.lane !== id || decoded.n !== index + 1) broken.push(`place ${id}-${index + 1}`);
        if (hex(decoded.previous) !== hex(previous)) broken.push(`chain ${id}-${index + 1}`);
        if (hex(leafHash(entry.body)) !== hex(entry.leaf)) broken.push(`leaf ${id}-${index + 1}`);
        if (decoded.epoch !== epoch) broken.push(`epoch ${id}-${index + 1}`);
        previous = entry.leaf;
      }
      let next = 1;
      for (const { first, count, hmac } of lane.batches) {
        if (first !== next) broken.push(`batch ${id}-${first}`);
        next = first + count;
        const last = lane.entries[next - 2]?.entry.leaf ?? NO_PREVIOUS;
        const mac = await softwareMac(batchMacInput({ lane: id, first, count, last }));
        if (hex(mac) !== hex(hmac)) broken.push(`hmac ${id}-${first}`);
      }
      if (next !== lane.entries.length + 1) broken.push(`batches of ${id}`);
    }
    return broken;
  }

  async #faulty(
    call: 'append' | 'commit',
    batch: AppendBatch,
    apply: () => CommitOutcome,
  ): Promise<CommitOutcome> {
    const fault = this.plan(call, batch);
    await this.#wait();
    switch (fault) {
      case 'none':
        return apply();
      case 'refused':
        throw new TwofoldError('database_unavailable');
      case 'content':
        throw new TwofoldError('invalid_value');
      case 'closed':
        this.lane(batch.lane).closed = true;
        return apply();
      case 'gone':
        throw new LaneLost('gone');
      case 'behind':
        return { stale: batch.epoch - 1 };
      case 'ahead':
        return { stale: batch.epoch + 1 };
      case 'lost-before':
        throw new OutcomeUnknown();
      case 'lost-after':
        quietly(apply);
        throw new OutcomeUnknown();
      case 'lost-late': {
        const late = sleep(2 + Math.random() * 40).then(() => quietly(apply));
        this.#late.add(late);
        void late.finally(() => this.#late.delete(late));
        throw new OutcomeUnknown();
      }
    }
  }

  #apply(batch: AppendBatch, isChange = false): CommitOutcome {
    const lane = this.lane(batch.lane);
    const standing = batch.entries.map((_, i) => lane.entries[batch.first - 1 + i]?.entry.leaf);
    const same = standing.every((leaf, i) => leaf && hex(leaf) === leafOf(batch, i));
    if (same && !isChange) return { epoch: this.epoch };
    if (batch.epoch !== this.epoch) return { stale: this.epoch };
    if (lane.closed) throw new LaneLost('closed');
    if (standing.some((leaf) => leaf !== undefined)) throw new LaneLost('conflict');
    if (batch.first !== lane.entries.length + 1) this.violations.push('gap in a lane');
    this.#clock += 1;
    const at = this.#clock;
    lane.entries.push(...batch.entries.map((entry) => ({ entry, epoch: this.epoch, at })));
    const { first, hmac } = batch;
    lane.batches.push({ first, count: batch.entries.length, hmac });
    return { epoch: this.epoch };
  }

  #assertBytes(batch: AppendBatch): void {
    const { entries, epoch, first } = batch;
    if (entries.length === 0 || entries.length > 256) this.violations.push('batch size');
    for (const [index, { body, leaf }] of entries.entries()) {
      const decoded = decodeEntry(body);
      if (decoded.lane !== batch.lane || decoded.n !== first + index) this.violations.push('place');
      if (decoded.epoch !== epoch) this.violations.push('epoch of entry and batch differ');
      if (hex(leafHash(body)) !== hex(leaf)) this.violations.push('leaf');
    }
  }

  async #wait(): Promise<void> {
    await (this.delayMs > 0 ? sleep(this.delayMs) : Promise.resolve());
  }

  async #fail(call: Call): Promise<void> {
    const fault = this.plan(call, null);
    await this.#wait();
    if (fault !== 'none') throw new TwofoldError('database_unavailable');
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const leafOf = (batch: AppendBatch, index: number): string =>
  hex(batch.entries[index]?.leaf ?? new Uint8Array());
const sameBatch = (a: AppendBatch, b: AppendBatch): boolean =>
  a.first === b.first &&
  a.epoch === b.epoch &&
  a.entries.length === b.entries.length &&
  a.entries.every((_, index) => leafOf(a, index) === leafOf(b, index));

function quietly(apply: () => CommitOutcome): void {
  try {
    apply();
  } catch {
    // A late commit that the rules refuse has no effect; nobody waits for its answer.
  }
}
