/**
 * Keys and versions. A change is one call of one function (`commit_change` of the first migration):
 * effect, audit entry and raised epoch commit together or not at all.
 */
import { TwofoldError } from '../errors.ts';
import type {
  Attested,
  IdempotencyRecord,
  KeyName,
  KeyPlace,
  KeyStore,
  StoredKey,
  TokenIntent,
} from '../keyring/ports.ts';
import { commitOutcome } from './audit-store.ts';
import { bufferOf } from './entry-columns.ts';
import { refuse } from './failures.ts';
import type { idempotency, token_intent } from './generated/client.ts';
import { IS_LIVE } from './instance-store.ts';
import { COMMIT_CHANGE, commitParameters } from './key-commit.ts';
import { listKeys } from './key-list.ts';
import { KEY_COLUMNS, keyFromRow } from './key-rows.ts';
import type { KeyRow } from './key-rows.ts';
import { DatabaseBehind } from './outcome.ts';
import type { GuardedPool } from './pool.ts';
import type { Prisma } from './prisma.ts';
import type { ReadGates } from './read-gate.ts';
import { named } from './rows.ts';
import { COMMITTED, commitStatement, committedRead, committing, read } from './transaction.ts';
import { VERSION_COLUMNS, versionFromRow } from './version-rows.ts';
import type { VersionRow } from './version-rows.ts';

const DAY_MS = 86_400_000;

const BY = {
  id: 'k.id = $2',
  name: '(k.name = $2 or k.aliases @> array[$2])',
} as const;

/**
 * One statement, so that epoch, key and versions are of one snapshot, and one that commits, so that
 * no old primary answers it. Always a row; a key that is not there has null columns.
 */
const findBy = (column: 'name' | 'id') =>
  committing({
    name: `find_${column}`,
    rowMode: 'array',
    text: `select e.epoch, ${KEY_COLUMNS.map((name) => `k.${name}`).join(', ')},
      ${VERSION_COLUMNS.map((name) => `v.${name}`).join(', ')}
    from ${COMMITTED} cross join public.security_epoch e
    left join public.key k on k.namespace = $1 and ${BY[column]}
    left join public.key_version v on v.key_id = k.id
    order by k.id, v.version`,
  });
const FIND_BY_NAME = findBy('name');
const FIND_BY_ID = findBy('id');

const PUBLISHED = committing({
  name: 'published',
  rowMode: 'array' as const,
  text: `select e.epoch, k.id, k.name
    from ${COMMITTED} cross join public.security_epoch e
    left join lateral (
      select id, name from public.key
      where namespace = $1 and publish and suspended_at is null and destroyed_at is null
      order by name limit $2) k on true`,
});

const COUNT_PUBLISHED = {
  name: 'count_published',
  text: `select count(*)::integer as count from (
      select 1 from public.key where namespace = $1 and publish and destroyed_at is null
      order by name limit $2) k`,
};

/** Below every id of a key. */
const NO_ID = '00000000-0000-0000-0000-000000000000';
const PLACES = {
  name: 'key_places',
  text: 'select id, namespace from public.key where id > $1 order by id limit $2',
};

/** One that is not finite is of a database that lives by simulated clocks. */
const WALL_CLOCK = {
  name: 'wall_clock',
  text: 'select case when isfinite(t) then t end as at from public.wall_clock() t',
};

/** By the index of those that are not destroyed. */
const LIVING = {
  name: 'living_keys',
  text: `select 1 from public.key where namespace = $1 and destroyed_at is null
    order by id limit 1`,
};

const RESERVE = {
  name: 'reserve_uses',
  text: `with reserving as (
      select coalesce((
        select greatest($3::bigint, least($2::bigint, (s.max_uses - coalesce(u.used, 0)) / 8))
        from public.key_schedule s left join public.usage_counter u on u.counter = $1
        where s.key_id = $4::uuid and s.max_uses > coalesce(u.used, 0)), $2) as count
    )
    insert into public.usage_counter as c (counter, used) select $1, count from reserving
    on conflict (counter) do update set used = c.used + excluded.used
    returning used - (select count from reserving) as first,
      (select count from reserving) as count`,
};

/** The key of a counter of one of its versions (`handleId`); null for any other. */
const keyOfCounter = (counter: string): string | null =>
  /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/[0-9]+$/.exec(counter)?.[1] ?? null;

/** By the index on `used`. */
const ABOVE = {
  name: 'counters_above',
  text: `select counter, used from public.usage_counter where used > $1
    order by used desc, counter limit $2`,
};

const INTEND = `insert into public.token_intent
    (object_id, installation, token_serial, instance, created_at, mac)
  values ($1, $2, $3, $4, $5, $6) on conflict (object_id) do nothing`;

const ABANDON = `update public.token_intent i set abandoned = true
  where installation = $1 and token_serial = $2 and (abandoned or not exists (
    select from public.instance where id = i.instance and ${IS_LIVE}))
  and not exists (select from public.key_version where classical_object_id = i.object_id)
  returning object_id, installation, token_serial, instance, created_at, mac`;

type IdempotencyRow = Omit<idempotency, 'created_at'>;
/** Of a join that found none. */
type Nulls<T> = { readonly [K in keyof T]: null };

export const IDEMPOTENCY_COLUMNS = [
  'namespace',
  'principal',
  'key',
  'request_hash',
  'status',
  'body',
  'audit_id',
  'mac',
] as const satisfies readonly (keyof IdempotencyRow)[];

const FIND_REPEAT = {
  name: 'find_repeat',
  text: `select ${IDEMPOTENCY_COLUMNS.join(', ')} from public.idempotency
    where namespace = $1 and principal = $2 and key = $3`,
};

/** What is there need not be committed (`audit-store.ts`), and an answer is about to stand on it. */
const CONFIRM_REPEAT = committing({
  name: 'confirm_repeat',
  text: `select ${IDEMPOTENCY_COLUMNS.map((name) => `i.${name}`).join(', ')}
    from ${COMMITTED} left join public.idempotency i
      on i.namespace = $1 and i.principal = $2 and i.key = $3`,
});

const EXPIRE_REPEATS = {
  name: 'expire_repeats',
  text: 'delete from public.idempotency where created_at < $1',
};

/** Accepts rows that begin with the epoch at which they were read. */
const notBefore =
  (epoch: number) =>
  ([first]: readonly unknown[][]): void => {
    if (Number(first?.[0]) < epoch) throw new DatabaseBehind('the read stands at an old epoch');
  };

export const createKeyStore = (
  pool: GuardedPool,
  prisma: Prisma,
  { lookups, searches }: ReadGates,
): KeyStore => ({
  find: async (namespace, ref, epoch) => {
    const [statement, value] = 'id' in ref ? [FIND_BY_ID, ref.id] : [FIND_BY_NAME, ref.name];
    const rows = await lookups.run(() =>
      committedRead<unknown[]>(pool, statement, [namespace, value], notBefore(epoch)).catch(refuse),
    );
    return storedKey(rows.map((row) => row.slice(1)));
  },

  hasLivingKeys: async (namespace) => {
    const rows = await lookups.run(() =>
      read(() => pool.query({ ...LIVING, values: [namespace] })).catch(refuse),
    );
    return rows.rows.length > 0;
  },

  isImportUsed: async (id) => {
    const row = await lookups.run(() =>
      read(async () => (await prisma.client()).used_import.findUnique({ where: { id } })).catch(
        refuse,
      ),
    );
    return row !== null;
  },

  certificateChain: async (keyId, version) => {
    const key_id_version = { key_id: keyId, version };
    const row = await lookups.run(() =>
      read(async () =>
        (await prisma.client()).certificate_chain.findUnique({ where: { key_id_version } }),
      ).catch(refuse),
    );
    return row?.pem ?? null;
  },

  tombstones: async (keyId) => {
    const rows = await lookups.run(() =>
      read(async () =>
        (await prisma.client()).destroyed_version.findMany({ where: { key_id: keyId } }),
      ).catch(refuse),
    );
    return rows.map((row) => ({
      version: row.version,
      activatedAt: row.activated_at,
      deactivatedAt: row.deactivated_at,
      rootGeneration: row.root_generation,
    }));
  },

  wallClock: async () => {
    const { rows } = await lookups.run(() =>
      read(() => pool.query<{ at: Date | null }>(WALL_CLOCK)).catch(refuse),
    );
    return rows[0]?.at ?? null;
  },

  places: async (after, limit) => {
    const { rows } = await lookups.run(() =>
      read(() => pool.query<KeyPlace>({ ...PLACES, values: [after ?? NO_ID, limit] })).catch(
        refuse,
      ),
    );
    return rows;
  },

  published: async (namespace, epoch, limit) => {
    const values = [namespace, limit];
    const rows = await lookups.run(() =>
      committedRead<unknown[]>(pool, PUBLISHED, values, notBefore(epoch)).catch(refuse),
    );
    return rows
      .filter(([, id]) => id !== null)
      .map(([, id, name]) => ({ id, namespace, name }) as KeyName);
  },

  countPublished: async (namespace, limit) => {
    const query = { ...COUNT_PUBLISHED, values: [namespace, limit] };
    const { rows } = await lookups.run(() =>
      read(() => pool.query<{ count: number }>(query)).catch(refuse),
    );
    return rows[0]?.count ?? 0;
  },

  list: (query) => searches.run(() => read(() => listKeys(pool, query)).catch(refuse)),

  commit: async (change) => {
    // The entry's bytes state the epoch; committed under another one they would be untrue.
    if (change.entry.epoch !== change.epoch) throw new TwofoldError('internal');
    const parameters = commitParameters(change);
    const { rows } = await commitStatement<{ epoch: string; held: boolean }>(
      pool,
      COMMIT_CHANGE,
      parameters,
    ).catch(refuse);
    return { ...commitOutcome(rows), held: rows[0]?.held ?? true };
  },

  findIdempotent: async (namespace, principal, key) => {
    const values = [namespace, bufferOf(principal), key];
    const { rows } = await lookups.run(() =>
      read(() => pool.query<IdempotencyRow>({ ...FIND_REPEAT, values })).catch(refuse),
    );
    if (rows.length === 0) return null;
    const [row] = await lookups.run(() =>
      committedRead<IdempotencyRow | Nulls<IdempotencyRow>>(pool, CONFIRM_REPEAT, values).catch(
        refuse,
      ),
    );
    return row === undefined || row.key === null ? null : idempotencyFromRow(row);
  },

  reserveUses: async (counter, block, least = 1) => {
    const { rows } = await commitStatement<{ first: string; count: string }>(pool, RESERVE, [
      counter,
      block,
      least,
      keyOfCounter(counter),
    ]).catch(refuse);
    const [first, count] = [Number(rows[0]?.first), Number(rows[0]?.count)];
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count)) {
      throw new TwofoldError('internal');
    }
    return [first, count];
  },

  countersAbove: async (limit, most) => {
    const query = { ...ABOVE, values: [limit, most] };
    const { rows } = await lookups.run(() =>
      read(() => pool.query<{ counter: string; used: string }>(query)).catch(refuse),
    );
    return rows.map(({ counter, used }) => ({ counter, used: Number(used) }));
  },

  intendTokenObject: async ({ value, mac }) => {
    await commitStatement(pool, INTEND, [
      bufferOf(value.objectId),
      value.installation,
      value.tokenSerial,
      value.instance,
      value.createdAt,
      bufferOf(mac),
    ]).catch(refuse);
  },

  abandonIntents: async (installation, tokenSerial) => {
    const { rows } = await commitStatement<Omit<token_intent, 'abandoned'>>(pool, ABANDON, [
      installation,
      tokenSerial,
    ]).catch(refuse);
    return rows.map(intentFromRow);
  },

  dropIntent: async (objectId) => {
    await commitStatement(pool, 'delete from public.token_intent where object_id = $1', [
      bufferOf(objectId),
    ]).catch(refuse);
  },
});

/** Removes records of more than a day. */
export const expireIdempotency = async (pool: GuardedPool, now: Date): Promise<void> => {
  const dayAgo = new Date(now.getTime() - DAY_MS);
  await commitStatement(pool, EXPIRE_REPEATS, [dayAgo]);
};

export const idempotencyFromRow = (row: IdempotencyRow): Attested<IdempotencyRecord> => ({
  value: {
    namespace: row.namespace,
    principal: Uint8Array.from(row.principal),
    key: row.key,
    requestHash: Uint8Array.from(row.request_hash),
    status: row.status,
    body: row.body,
    auditId: row.audit_id,
  },
  mac: Uint8Array.from(row.mac),
});

export const intentFromRow = (row: Omit<token_intent, 'abandoned'>): Attested<TokenIntent> => ({
  value: {
    objectId: Uint8Array.from(row.object_id),
    installation: row.installation,
    tokenSerial: row.token_serial,
    instance: row.instance,
    createdAt: row.created_at,
  },
  mac: Uint8Array.from(row.mac),
});

/** Rows of the join: the key's columns, then those of one version, which are null where it has none. */
const storedKey = (rows: readonly (readonly unknown[])[]): StoredKey | null => {
  const [first] = rows;
  if (first === undefined || first[0] === null) return null;
  const versions = rows
    .map((row) => named<VersionRow>(VERSION_COLUMNS, row.slice(KEY_COLUMNS.length)))
    .filter((row) => (row.key_id as string | null) !== null);
  return {
    key: keyFromRow(named<KeyRow>(KEY_COLUMNS, first)),
    versions: versions.map(versionFromRow),
  };
};
