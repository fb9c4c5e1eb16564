/** The list of keys to look at, and what was done because it was due. */
import type { Look, SchedulerStore } from '../rotation/scheduler-ports.ts';
import { refuse } from './failures.ts';
import { createLeaderStore } from './leader-store.ts';
import type { GuardedPool } from './pool.ts';
import { NO_KEY } from './rows.ts';
import { commitStatement, read } from './transaction.ts';

/**
 * Half of what is due by the clock, half of what was marked: many marks hold up nothing that is due. Of those the ones
 * after a key, and then from the first one on: whoever marks theirs again and again has them looked at in their turn.
 */
const DUE = {
  name: 'keys_due',
  text: `select s.key_id, k.namespace, s.marks, s.failures, s.lap > 0 as marked
    from (
      (select 0 as lap, * from public.key_schedule where next_at > '-infinity' and next_at <= $1
        order by next_at, key_id limit ($2 + 1) / 2)
      union all
      (select * from (
        (select 1 as lap, * from public.key_schedule where next_at = '-infinity' and key_id > $3
          order by key_id limit ($2 + 1) / 2)
        union all
        (select 2 as lap, * from public.key_schedule where next_at = '-infinity' and key_id <= $3
          order by key_id limit ($2 + 1) / 2)
      ) m order by lap, key_id limit ($2 + 1) / 2)
    ) s join public.key k on k.id = s.key_id
    order by s.lap, s.next_at, s.key_id`,
};

/** Rows that a step passes over at most: most keys whose time is to come wait for nothing. */
const STEP = 1_000;

const BRING_FORWARD = {
  name: 'bring_forward',
  text: `with step as (
      select key_id, next_at, due_at is not null and failures = 0 as waits from public.key_schedule
      where next_at > $2 and next_at <= $3 order by next_at, key_id limit ${String(STEP)}
    ), chosen as (
      select key_id, next_at from step where waits order by next_at, key_id limit $4
    ), moved as (
      update public.key_schedule s set next_at = $1 from chosen c
      where s.key_id = c.key_id and s.next_at = c.next_at returning s.key_id
    )
    select (select count(*) from moved)::integer as moved,
      case when (select count(*) from chosen) = $4 then (select max(next_at) from chosen)
        when (select count(*) from step) = ${String(STEP)} then (select max(next_at) from step)
      end as reached`,
};

const LOOKED = {
  name: 'key_looked_at',
  text: `update public.key_schedule set next_at = $3, max_uses = $4,
      failures = case when $5::text is null then 0 else failures + 1 end,
      failure_code = $5, failed_at = $6, failure_action = $8, failure_detail = $9,
      failure_noted_at = $6,
      failing_since = case when $5::text is not null then coalesce(failing_since, $6) end,
      due_at = case when $5::text is null then $7
        else coalesce(due_at, case when isfinite(next_at) then next_at end, $6) end
    where key_id = $1 and marks = $2`,
};

/**
 * Destroyed keys are left out after the page was taken: a partial index could otherwise be read whole and sorted, where
 * the planner (PostgreSQL 18 skips over its first column) finds that cheaper than the primary key.
 */
const MARK_AFTER = {
  name: 'mark_after',
  text: `with chosen as (
      select id, destroyed_at from public.key
      where id > coalesce($1::uuid, '${NO_KEY}') order by id limit $2
    ), marked as (
      insert into public.key_schedule as s (key_id, next_at)
      select id, '-infinity' from chosen where destroyed_at is null
      on conflict (key_id) do update set next_at = '-infinity', marks = s.marks + 1
    )
    select max(id::text) as last from chosen`,
};

const NOTICES = `select action, policy_revision, done_at from public.scheduled_run
  where key_id = $1 and (action like 'notice/%' or action like 'retire/%')`;
const USES = 'select used from public.usage_counter where counter = $1';

export const createSchedulerStore = (pool: GuardedPool): SchedulerStore => ({
  ...createLeaderStore(pool),

  due: async (now, limit, afterMarked) => {
    const values = [now, limit, afterMarked ?? NO_KEY];
    const { rows } = await read(() => pool.query<DueRow>({ ...DUE, values })).catch(refuse);
    return rows.map((row): Look => ({
      keyId: row.key_id,
      namespace: row.namespace,
      marks: Number(row.marks),
      failures: row.failures,
      marked: row.marked,
    }));
  },

  bringForward: async (now, { after, until }, limit) => {
    const { rows } = await commitStatement<{ moved: number; reached: Date | null }>(
      pool,
      BRING_FORWARD,
      [now, after, until, limit],
    ).catch(refuse);
    return { moved: rows[0]?.moved ?? 0, reached: rows[0]?.reached ?? null };
  },

  looked: async ({ keyId, marks }, { nextAt, maxUses, dueAt, failure }) => {
    const [code, at] = [failure?.code ?? null, failure?.at ?? null];
    const told = [failure?.action ?? null, failure?.detail ?? null];
    const values = [keyId, marks, nextAt, maxUses, code, at, dueAt, ...told];
    await commitStatement(pool, LOOKED, values).catch(refuse);
  },

  markAfter: async (afterId, limit) => {
    const { rows } = await commitStatement<{ last: string | null }>(pool, MARK_AFTER, [
      afterId,
      limit,
    ]).catch(refuse);
    return rows[0]?.last ?? null;
  },

  notices: async (keyId) => {
    const { rows } = await read(() => pool.query<RanRow>(NOTICES, [keyId])).catch(refuse);
    return rows.map(({ action, policy_revision: policyRevision, done_at: doneAt }) => ({
      action,
      policyRevision,
      doneAt,
    }));
  },

  usesOf: async (keyId, version) => {
    const counter = `${keyId}/${String(version)}`;
    const { rows } = await read(() => pool.query<{ used: string }>(USES, [counter])).catch(refuse);
    return Number(rows[0]?.used ?? 0);
  },
});

interface RanRow {
  readonly action: string;
  readonly policy_revision: number;
  readonly done_at: Date;
}

interface DueRow {
  readonly key_id: string;
  readonly namespace: string;
  readonly marks: string;
  readonly failures: number;
  readonly marked: boolean;
}
