/** Buckets as the database keeps them (migration of limits), on a clock of the test's. */
import { TwofoldError } from '../../src/errors.ts';
import type { Lease, LeaseRequest, LeaseStore } from '../../src/limits/ports.ts';

export class ModelBuckets implements LeaseStore {
  readonly #now: () => number;
  readonly #rows = new Map<string, { debt: number; at: number }>();
  /** Resolved by `answer`; else at once. */
  held = false;
  readonly #waiting: (() => void)[] = [];
  /** Fails, and nobody knows whether anything was done. */
  down = false;
  /** Fails, with nothing done. */
  refusing = false;
  calls = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  async lease(requests: readonly LeaseRequest[]): Promise<readonly Lease[]> {
    this.calls += 1;
    if (this.held) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.down) throw new Error('away');
    if (this.refusing) throw new TwofoldError('database_unavailable');
    return requests.map((request) => this.#one(request));
  }

  /** Lets answers go that wait. */
  answer(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #one({ id, owed, wanted, perSecond, burst }: LeaseRequest): Lease {
    const key = Buffer.from(id).toString('hex');
    const row = this.#rows.get(key) ?? { debt: 0, at: this.#now() };
    const elapsed = Math.max(0, this.#now() - row.at) / 1_000;
    const before = Math.max(0, Math.max(0, row.debt - perSecond * elapsed) + owed);
    const granted = Math.max(0, Math.min(wanted, Math.floor(burst - before + 1e-6)));
    const debt = before + granted;
    this.#rows.set(key, { debt, at: this.#now() });
    return { granted, available: burst - debt };
  }
}
