/**
 * Sums of uses (`version_use`). What is added carries the number of its flush, which the same
 * statement records, so that a flush of unknown outcome is simply sent again.
 */
import { TwofoldError } from '../errors.ts';
import type { UsageTotal, UseStore, UseSum } from '../keyring/ports.ts';
import { filterText } from './entry-columns.ts';
import { refuse } from './failures.ts';
import type { version_use } from './generated/client.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { RowReader } from './rows.ts';
import { commitStatement, read } from './transaction.ts';

/**
 * Only of an instance that has a row, which stands until the sums do: once it is removed with the mark of
 * its flushes, one that was under way would count again. Rows in the order of the primary key, so that the flushes of two instances cannot wait for each
 * other; grouped, since names that PostgreSQL cannot store may have become the same.
 */
const ADD = {
  name: 'add_uses',
  text: `with kept as materialized (select public.require_kept_instance($1)),
    flush as (
      insert into public.use_flush as f (instance, flushed) select $1, $2 from kept
      on conflict (instance) do update set flushed = excluded.flushed
        where f.flushed < excluded.flushed
      returning 1
    )
    insert into public.version_use as u
      (key_id, version, usage, issuer, subject, uses, first_at, last_at)
    select key_id, version, usage, issuer, subject, sum(uses), min(first_at), max(last_at)
    from unnest($3::uuid[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::bigint[],
      $9::timestamptz[], $10::timestamptz[])
      n(key_id, version, usage, issuer, subject, uses, first_at, last_at)
    where exists (select from flush)
    group by key_id, version, usage, issuer, subject
    order by key_id, version, usage, issuer, subject
    on conflict (key_id, version, usage, issuer, subject) do update set
      uses = u.uses + excluded.uses,
      first_at = least(u.first_at, excluded.first_at),
      last_at = greatest(u.last_at, excluded.last_at)`,
};

/** Always a row, which says since when uses are counted; by name, whatever the migration's number. */
const TOTALS = {
  name: 'use_totals',
  text: `select m.applied_at, t.version, t.usage, t.uses, t.first_at, t.last_at
    from (select min(applied_at) as applied_at from public.twofold_migration
      where name like '%\\_version\\_use') m
    left join (
      select version, usage, sum(uses)::bigint as uses, min(first_at) as first_at,
        max(last_at) as last_at
      from public.version_use where key_id = $1 and version between $2 and $3
      group by version, usage) t on true
    order by t.version, t.usage`,
};

const USERS = {
  name: 'use_users',
  text: `select key_id, version, usage, issuer, subject, uses, first_at, last_at, id
    from public.version_use
    where key_id = $1 and version = $2
      and (last_at, id) < (coalesce($3::timestamptz, 'infinity'), coalesce($4::bigint, 0))
    order by last_at desc, id desc limit $5`,
};

/** Reads what `TOTALS` reads, and no more: the rows of one key. */
const USERS_OF_ALL = {
  name: 'use_users_of_all',
  text: `select key_id, usage, issuer, subject, sum(uses)::bigint as uses,
      min(first_at) as first_at, max(last_at) as last_at
    from public.version_use where key_id = $1 and version = any($2::integer[])
    group by key_id, usage, issuer, subject
    order by max(last_at) desc, usage, issuer, subject limit $3`,
};

/** A range of the primary key, whose collation is "C", in which `:` follows the digits. */
const COUNTERS = {
  name: 'counters_of',
  text: `select counter, used from public.usage_counter
    where counter > $1::text and counter < $1::text || ':' order by counter`,
};

type TotalRow = Pick<version_use, 'version' | 'usage' | 'first_at' | 'last_at'> & {
  readonly uses: string;
};

export const createUseStore = (pool: GuardedPool, { lookups }: ReadGates): UseStore => {
  const rowsOf = async <R extends object>(
    statement: { readonly name: string; readonly text: string },
    values: readonly unknown[],
  ): Promise<readonly R[]> => {
    const query = { ...statement, values: [...values] };
    const { rows } = await lookups.run(() => read(() => pool.query<R>(query)).catch(refuse));
    return rows;
  };
  return {
    addUses: async ({ instance, number, sums }) => {
      await commitStatement(pool, ADD, [
        instance,
        number,
        sums.map(({ keyId }) => keyId),
        sums.map(({ version }) => version),
        sums.map(({ usage }) => usage),
        sums.map(({ issuer }) => filterText(issuer)),
        sums.map(({ subject }) => filterText(subject)),
        sums.map(({ uses }) => uses),
        sums.map(({ firstAt }) => firstAt.toISOString()),
        sums.map(({ lastAt }) => lastAt.toISOString()),
      ]).catch(refuse);
    },

    usesOf: async (keyId, { from, until }) => {
      const rows = await rowsOf<TotalRow & { readonly applied_at: Date | null }>(TOTALS, [
        keyId,
        from,
        until,
      ]);
      const countedSince = rows[0]?.applied_at ?? null;
      if (countedSince === null) throw new TwofoldError('internal');
      const totals = rows.filter(({ version }) => (version as number | null) !== null);
      return { countedSince, totals: totals.map(totalFromRow) };
    },

    usersOf: async (keyId, version, { limit, after }) => {
      const rows = await rowsOf<UserRow>(USERS, [
        keyId,
        version,
        after?.lastAt.toISOString() ?? null,
        after?.id ?? null,
        limit,
      ]);
      return rows.map(sumFromRow);
    },

    usersOfAll: async (keyId, versions, limit) => {
      const values = [keyId, [...versions], limit];
      const rows = await rowsOf<UserTotalRow>(USERS_OF_ALL, values);
      return rows.map(userTotalFromRow);
    },

    countersOf: async (prefix) => {
      const rows = await rowsOf<{ counter: string; used: string }>(COUNTERS, [prefix]);
      return rows.map(({ counter, used }) => ({ counter, used: Number(used) }));
    },
  };
};

/** As pg reads it: a bigint is text. */
type UserRow = Omit<version_use, 'uses' | 'id'> & { readonly uses: string; readonly id: string };

type UserTotalRow = Omit<UserRow, 'id' | 'version'>;

const userTotalFromRow = (row: UserTotalRow): Omit<UseSum, 'version'> => ({
  keyId: row.key_id,
  usage: usageFrom(row),
  issuer: row.issuer,
  subject: row.subject,
  uses: Number(row.uses),
  firstAt: row.first_at,
  lastAt: row.last_at,
});

const totalFromRow = ({ version, usage, uses, first_at, last_at }: TotalRow): UsageTotal => ({
  version,
  usage: usageFrom({ usage }),
  uses: Number(uses),
  firstAt: first_at,
  lastAt: last_at,
});

const sumFromRow = (row: UserRow): UseSum & { readonly id: string } => ({
  ...totalFromRow(row),
  keyId: row.key_id,
  issuer: row.issuer,
  subject: row.subject,
  id: row.id,
});

const usageFrom = (row: { readonly usage: string }) =>
  new RowReader('version_use', row).one('usage', ['protect', 'process'] as const);
