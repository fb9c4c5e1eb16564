/** Orders of rotations: which keys belong to one, and how far the scheduler is with them. */
import type { OrderReads, OrderTally } from '../keyring/order-ports.ts';
import type { OrderStore, OrderedKey, RunningOrder } from '../rotation/order-ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { NO_KEY } from './rows.ts';
import { commitStatement, read } from './transaction.ts';

const TALLIES = {
  name: 'order_tallies',
  text: `select operation_id, matched, rotated, skipped, failed, walked
    from public.rotation_order where operation_id = any($1::uuid[])`,
};

const FAILURES = {
  name: 'order_failures',
  text: `select o.key_id, k.name, o.state, o.attempts, o.code, o.at
    from public.rotation_order_key o join public.key k on k.id = o.key_id
    where o.operation_id = $1 and o.code is not null and ($2::uuid is null or o.key_id > $2)
    order by o.key_id limit $3`,
};

const COUNT = `select count(*)::integer as matching from public.key
  where namespace = $1 and destroyed_at is null and labels @> $2::jsonb`;

const RUNNING = {
  name: 'orders_running',
  text: `select id, namespace, created_at as at from public.operation
    where kind = 'rotation' and state = 'running' and expires_at > $1
      and ($3::timestamptz is null or (created_at, id) > ($3, $4::uuid))
    order by created_at, id limit $2`,
};

const BEGIN = {
  name: 'order_begin',
  text: `insert into public.rotation_order (operation_id) values ($1) on conflict do nothing`,
};

/** The row is locked, so that of two that walk at once the second goes on where the first has got to. */
const WALK = {
  name: 'order_walk',
  text: `with work as (
      select after_id from public.rotation_order where operation_id = $1 and not walked for update
    ), chosen as (
      select k.* from work w cross join lateral (
        select id, labels, created_at from public.key where namespace = $2 and destroyed_at is null
          and id > coalesce(w.after_id, '${NO_KEY}') order by id limit $6) k
    ), added as (
      insert into public.rotation_order_key (operation_id, key_id, next_at)
      select $1, id, $5 from chosen
      where labels @> $3::jsonb and created_at <= $4
      on conflict do nothing returning key_id
    )
    update public.rotation_order r set
      after_id = coalesce((select id from chosen order by id desc limit 1), r.after_id),
      walked = (select count(*) from chosen) < $6,
      matched = r.matched + (select count(*) from added)
    from work where r.operation_id = $1`,
};

const WAITING = {
  name: 'order_waiting',
  text: `select key_id, attempts from public.rotation_order_key
    where operation_id = $1 and state = 'waiting' and next_at <= $2
    order by next_at, key_id limit $3`,
};

const SETTLE = {
  name: 'order_settle',
  text: `with settled as (
      update public.rotation_order_key set state = $3, code = $4, at = $5, next_at = $6,
        attempts = attempts + 1
      where operation_id = $1 and key_id = $2 and state = 'waiting' returning state
    )
    update public.rotation_order r set
      skipped = r.skipped + (s.state = 'skipped')::integer,
      failed = r.failed + (s.state = 'failed')::integer
    from settled s where r.operation_id = $1 and s.state <> 'waiting'`,
};

interface TallyRow extends Omit<OrderTally['counts'], 'walked'> {
  readonly operation_id: string;
  readonly walked: boolean;
}

const tallyOf = ({ matched, rotated, skipped, failed, walked }: TallyRow): OrderTally => ({
  position: rotated + skipped + failed,
  counts: { matched, rotated, skipped, failed, walked: walked ? 1 : 0 },
});

interface FailureRow {
  readonly key_id: string;
  readonly name: string;
  readonly state: 'waiting' | 'failed';
  readonly attempts: number;
  readonly code: string;
  readonly at: Date;
}

export const createOrderReads = (
  pool: GuardedPool,
  { searches }: Pick<ReadGates, 'searches'>,
): OrderReads => ({
  tallies: async (ids) => {
    const values = [ids];
    const { rows } = await read(() => pool.query<TallyRow>({ ...TALLIES, values })).catch(refuse);
    return new Map(rows.map((row) => [row.operation_id, tallyOf(row)]));
  },

  orderFailures: async (id, afterKey, limit) => {
    const values = [id, afterKey, limit];
    const { rows } = await searches.run(() =>
      read(() => pool.query<FailureRow>({ ...FAILURES, values })).catch(refuse),
    );
    return rows.map(({ key_id: keyId, name: keyName, ...rest }) => ({ keyId, keyName, ...rest }));
  },

  countMatching: async (namespace, labels) => {
    const values = [namespace, JSON.stringify(labels)];
    const { rows } = await searches.run(() =>
      read(() => pool.query<{ matching: number }>(COUNT, values)).catch(refuse),
    );
    return rows[0]?.matching ?? 0;
  },
});

export const createOrderStore = (pool: GuardedPool): OrderStore => ({
  running: async (now, limit, after) => {
    const values = [now, limit, after?.at ?? null, after?.id ?? null];
    const { rows } = await read(() => pool.query<RunningOrder>({ ...RUNNING, values })).catch(
      refuse,
    );
    return rows;
  },

  walk: async ({ id, namespace, labels, placedAt }, now, limit) => {
    await commitStatement(pool, BEGIN, [id]).catch(refuse);
    const values = [id, namespace, JSON.stringify(labels), placedAt, now, limit];
    await commitStatement(pool, WALK, values).catch(refuse);
  },

  waiting: async (id, now, limit) => {
    const values = [id, now, limit];
    const { rows } = await read(() =>
      pool.query<{ key_id: string; attempts: number }>({ ...WAITING, values }),
    ).catch(refuse);
    return rows.map(({ key_id: keyId, attempts }): OrderedKey => ({ keyId, attempts }));
  },

  settle: async (id, keyId, { state, code, at, nextAt }) => {
    await commitStatement(pool, SETTLE, [id, keyId, state, code, at, nextAt]).catch(refuse);
  },
});
