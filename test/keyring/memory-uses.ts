/** Sums of uses in memory: each (instance, number) counts once, and it fails both ways. */
import type { UseBatch, UseStore, UseSum } from '../../src/keyring/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';

export type UseFault = 'none' | 'before' | 'lost-before' | 'lost-after' | 'refused';

const placeOf = ({ keyId, version, usage, issuer, subject }: UseSum) =>
  JSON.stringify([keyId, version, usage, issuer, subject]);

export class MemoryUses implements UseStore {
  fault: () => UseFault = () => 'none';
  /** Runs inside a flush, before it acts. */
  meanwhile: () => Promise<void> = () => Promise.resolve();
  readonly countedSince = new Date();
  readonly rows = new Map<string, UseSum & { readonly id: string }>();
  readonly flushed = new Map<string, number>();
  readonly batches: UseBatch[] = [];
  readonly #counters: ReadonlyMap<string, number>;

  constructor(counters: ReadonlyMap<string, number> = new Map()) {
    this.#counters = counters;
  }

  async addUses(batch: UseBatch): Promise<void> {
    const fault = this.fault();
    this.batches.push(batch);
    await this.meanwhile();
    if (fault === 'before') throw new TwofoldError('database_unavailable');
    if (fault === 'refused') throw new TwofoldError('internal');
    if (fault === 'lost-before') throw new OutcomeUnknown();
    const last = this.flushed.get(batch.instance) ?? 0;
    if (batch.number > last) {
      this.flushed.set(batch.instance, batch.number);
      for (const sum of batch.sums) this.#add(sum);
    }
    if (fault === 'lost-after') throw new OutcomeUnknown();
  }

  async usesOf(keyId: string, { from, until }: { readonly from: number; readonly until: number }) {
    const groups = Map.groupBy(
      [...this.rows.values()].filter(
        (row) => row.keyId === keyId && row.version >= from && row.version <= until,
      ),
      ({ version, usage }) => `${version}/${usage}`,
    );
    const totals = [...groups.values()].flatMap((rows) => {
      const [first] = rows;
      if (first === undefined) return [];
      const times = (of: (row: UseSum) => Date) => rows.map((row) => of(row).getTime());
      return [
        {
          version: first.version,
          usage: first.usage,
          uses: rows.reduce((sum, { uses }) => sum + uses, 0),
          firstAt: new Date(Math.min(...times(({ firstAt }) => firstAt))),
          lastAt: new Date(Math.max(...times(({ lastAt }) => lastAt))),
        },
      ];
    });
    return { countedSince: this.countedSince, totals };
  }

  async usersOf(
    keyId: string,
    version: number,
    { limit, after }: Parameters<UseStore['usersOf']>[2],
  ) {
    return [...this.rows.values()]
      .filter((row) => row.keyId === keyId && row.version === version)
      .toSorted((a, b) => b.lastAt.getTime() - a.lastAt.getTime() || Number(b.id) - Number(a.id))
      .filter(
        ({ lastAt, id }) =>
          after === null ||
          lastAt < after.lastAt ||
          (lastAt.getTime() === after.lastAt.getTime() && Number(id) < Number(after.id)),
      )
      .slice(0, limit);
  }

  async usersOfAll(keyId: string, versions: readonly number[], limit: number) {
    const rows = [...this.rows.values()].filter(
      (row) => row.keyId === keyId && versions.includes(row.version),
    );
    const users = Map.groupBy(rows, (row) => `${row.usage}/${row.issuer}/${row.subject}`);
    return [...users.values()]
      .flatMap((of) => {
        const [first] = of;
        if (first === undefined) return [];
        const times = (time: (row: UseSum) => Date) => of.map((row) => time(row).getTime());
        const uses = of.reduce((sum, row) => sum + row.uses, 0);
        const firstAt = new Date(Math.min(...times((row) => row.firstAt)));
        const lastAt = new Date(Math.max(...times((row) => row.lastAt)));
        const { usage, issuer, subject } = first;
        return [{ keyId, usage, issuer, subject, uses, firstAt, lastAt }];
      })
      .toSorted((a, b) => b.lastAt.getTime() - a.lastAt.getTime())
      .slice(0, limit);
  }

  async countersOf(prefix: string) {
    return [...this.#counters]
      .filter(([counter]) => counter.startsWith(prefix))
      .map(([counter, used]) => ({ counter, used }));
  }

  #add(sum: UseSum): void {
    const known = this.rows.get(placeOf(sum));
    const id = known?.id ?? String(this.rows.size + 1);
    const row = { ...sum, id, uses: (known?.uses ?? 0) + sum.uses };
    this.rows.set(placeOf(sum), { ...row, firstAt: known?.firstAt ?? sum.firstAt });
  }
}
