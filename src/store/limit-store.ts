/** Buckets of rate limits (`limit_bucket`), and how much a namespace has. */
import type { Lease, LeaseStore } from '../limits/ports.ts';
import type { NamespaceUsage, UsageStore } from '../limits/usage-ports.ts';
import { bufferOf } from './entry-columns.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { commitStatement, read } from './transaction.ts';

const LEASE = {
  name: 'lease_allowance',
  text: `select id, granted, available
    from public.lease_allowance($1::bytea[], $2::double precision[], $3::double precision[],
      $4::double precision[], $5::double precision[])`,
};

const EXPIRE = {
  name: 'expire_limit_buckets',
  text: 'select public.expire_limit_buckets($1, $2) as removed',
};

const USAGE = {
  name: 'namespace_usage',
  text: 'select keys, versions from public.namespace_usage where namespace = $1',
};

export interface LimitStore extends LeaseStore, UsageStore {
  /** Removes rows of buckets that have been full since before a time, at most `limit`. */
  expire(before: Date, limit: number): Promise<number>;
}

type LeaseRow = Lease & { readonly id: Buffer };

export const createLimitStore = (pool: GuardedPool): LimitStore => ({
  lease: async (requests) => {
    const { rows } = await commitStatement<LeaseRow>(pool, LEASE, [
      requests.map(({ id }) => bufferOf(id)),
      requests.map(({ owed }) => owed),
      requests.map(({ wanted }) => wanted),
      requests.map(({ perSecond }) => perSecond),
      requests.map(({ burst }) => burst),
    ]).catch(refuse);
    const byId = new Map(rows.map(({ id, ...lease }) => [id.toString('hex'), lease]));
    return requests.map(
      ({ id }) => byId.get(bufferOf(id).toString('hex')) ?? { granted: 0, available: 0 },
    );
  },

  expire: async (before, limit) => {
    const values = [before.toISOString(), limit];
    const { rows } = await commitStatement<{ removed: number }>(pool, EXPIRE, values).catch(refuse);
    return rows[0]?.removed ?? 0;
  },

  usageOf: async (namespace): Promise<NamespaceUsage> => {
    const query = { ...USAGE, values: [namespace] };
    const { rows } = await read(() => pool.query<{ keys: string; versions: string }>(query)).catch(
      refuse,
    );
    return { keys: Number(rows[0]?.keys ?? 0), versions: Number(rows[0]?.versions ?? 0) };
  },
});
