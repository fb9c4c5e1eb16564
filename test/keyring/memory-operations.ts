/** Operations in memory: asserts the rules of the port (compare-and-swap, quota, what only goes on). */
import type { CommitOutcome } from '../../src/audit/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { Labels } from '../../src/keyring/model.ts';
import type { OrderFailure, OrderTally } from '../../src/keyring/order-ports.ts';
import type {
  OperationCommit,
  OperationQuery,
  OperationStore,
  StoredOperation,
} from '../../src/keyring/ports.ts';
import { insertOnce } from './memory-store.ts';
import type { MemoryStore } from './memory-store.ts';

export class MemoryOperationStore implements OperationStore {
  readonly rows = new Map<string, StoredOperation>();
  readonly #store: MemoryStore;
  readonly #pacedUntil = new Map<string, number>();

  constructor(store: MemoryStore) {
    this.#store = store;
  }

  async find(namespace: string, id: string): Promise<StoredOperation | null> {
    const found = this.rows.get(id);
    return found?.identity.value.namespace === namespace ? found : null;
  }

  async list(query: OperationQuery): Promise<readonly StoredOperation[]> {
    const place = ({ createdAt, id }: { readonly createdAt: Date; readonly id: string }) =>
      `${String(createdAt.getTime()).padStart(15, '0')} ${id}`;
    return [...this.rows.values()]
      .filter(({ identity: { value }, progress }) => {
        const silent = progress.state === 'running' && progress.expiresAt <= query.now;
        const state = silent ? 'expired' : progress.state;
        return (
          value.namespace === query.namespace &&
          (query.kind === null || value.kind === query.kind) &&
          (query.state === null || state === query.state) &&
          (query.creator === null ||
            (value.issuer === query.creator.issuer && value.subject === query.creator.subject)) &&
          (query.after === null || place(value) < place(query.after))
        );
      })
      .toSorted((a, b) => (place(a.identity.value) < place(b.identity.value) ? 1 : -1))
      .slice(0, query.pageSize);
  }

  /** No scheduler carries out orders in memory. */
  async tallies(): Promise<ReadonlyMap<string, OrderTally>> {
    return new Map();
  }

  async orderFailures(): Promise<readonly OrderFailure[]> {
    return [];
  }

  async countMatching(namespace: string, labels: Labels): Promise<number> {
    const matching = [...this.#store.rows.keys.values()].filter(
      ({ value: key }) =>
        key.namespace === namespace &&
        key.destroyedAt === null &&
        Object.entries(labels).every(([name, value]) => key.labels[name] === value),
    );
    return matching.length;
  }

  async pace(id: string, items: number): Promise<number> {
    const rate = this.rows.get(id)?.identity.value.rate ?? Infinity;
    const until = this.#pacedUntil.get(id) ?? 0;
    const now = Date.now();
    if (until > now) return until - now;
    this.#pacedUntil.set(id, Math.max(until, now - 1000) + (items * 1000) / rate);
    return 0;
  }

  async commit(step: OperationCommit): Promise<CommitOutcome> {
    const { audit, rows } = this.#store;
    const { entry, epoch, idempotency } = step;
    if (epoch === audit.epoch) this.#check(step);
    const { lane, n: first, hmac } = entry;
    const outcome = await audit.append({ lane, first, epoch, entries: [entry], hmac });
    if ('stale' in outcome) return outcome;
    if (idempotency !== null) insertOnce(rows, idempotency);
    this.#apply(step);
    return outcome;
  }

  #check({ write }: OperationCommit): void {
    if (write.kind === 'insert') {
      const { issuer, subject } = write.operation.identity.value;
      const running = [...this.rows.values()].filter(
        ({ identity: { value }, progress }) =>
          value.issuer === issuer && value.subject === subject && progress.state === 'running',
      );
      if (running.length >= write.running) throw new TwofoldError('quota_exceeded');
      return;
    }
    const standing = this.rows.get(write.id)?.progress;
    if (standing?.revision !== write.expected) throw new TwofoldError('conflict');
    if (write.progress.position < standing.position) throw new TypeError('a position falls');
    if (standing.state !== 'running') throw new TypeError('it has ended');
  }

  #apply({ write }: OperationCommit): void {
    if (write.kind === 'insert') {
      this.rows.set(write.operation.identity.value.id, write.operation);
      return;
    }
    const standing = this.rows.get(write.id);
    if (standing !== undefined) {
      this.rows.set(write.id, { identity: standing.identity, progress: write.progress });
    }
  }
}
