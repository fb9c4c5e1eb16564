/** Leadership, the list of keys to look at, and what was done because it was due. */
import type { Leadership, Look, SchedulerStore } from '../rotation/scheduler-ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { COMMITTED, commitStatement, committedRead, read } from './transaction.ts';

interface LeadershipRow {
  readonly term: string | null;
  readonly holder: string | null;
  readonly beat: string | null;
}

const NOBODY: Leadership = { term: 0, holder: null, beat: 0 };

const leadershipOf = (row: LeadershipRow | undefined): Leadership =>
  row === undefined || row.term === null
    ? NOBODY
    : { term: Number(row.term), holder: row.holder, beat: Number(row.beat) };

const LEADERSHIP = `select l.term, l.holder, l.beat
  from ${COMMITTED} left join public.leadership l on l.role = $1`;

/** The first to lead inserts; all others take the term after the one they saw, as they saw it. */
const TAKE = `insert into public.leadership as l (role, term, holder, beat)
  values ($1, $2::bigint + 1, $4::uuid, $3)
  on conflict (role) do update set term = l.term + 1, holder = excluded.holder
    where l.term = $2 and l.beat = $3
  returning term, holder, beat`;

const BEAT = {
  name: 'leader_beat',
  text: `update public.leadership set beat = beat + 1
    where role = $1 and term = $2 and holder = $3`,
};

/** Half of what is due by the clock, half of what was marked: many marks hold up nothing that is due. */
const DUE = {
  name: 'keys_due',
  text: `select s.key_id, k.namespace, s.marks, s.failures
    from (
      (select * from public.key_schedule where next_at > '-infinity' and next_at <= $1
        order by next_at, key_id limit ($2 + 1) / 2)
      union all
      (select * from public.key_schedule where next_at = '-infinity' order by key_id limit ($2 + 1) / 2)
    ) s join public.key k on k.id = s.key_id`,
};

const LOOKED = {
  name: 'key_looked_at',
  text: `update public.key_schedule set next_at = $3, max_uses = $4,
      failures = case when $5::text is null then 0 else failures + 1 end,
      failure_code = $5, failed_at = $6,
      failing_since = case when $5::text is not null then coalesce(failing_since, $6) end,
      due_at = case when $5::text is null then $7
        else coalesce(due_at, case when isfinite(next_at) then next_at end, $6) end
    where key_id = $1 and marks = $2`,
};

const MARK_AFTER = {
  name: 'mark_after',
  text: `with chosen as (
      select id from public.key
      where destroyed_at is null and ($1::uuid is null or id > $1) order by id limit $2
    ), marked as (
      insert into public.key_schedule as s (key_id, next_at) select id, '-infinity' from chosen
      on conflict (key_id) do update set next_at = '-infinity', marks = s.marks + 1
    )
    select max(id::text) as last from chosen`,
};

const NOTICES = `select action from public.scheduled_run where key_id = $1 and action like 'notice/%'`;
const USES = 'select used from public.usage_counter where counter = $1';

export const createSchedulerStore = (pool: GuardedPool): SchedulerStore => ({
  leadership: async (role) => {
    const rows = await committedRead<LeadershipRow>(pool, LEADERSHIP, [role]).catch(refuse);
    return leadershipOf(rows[0]);
  },

  takeLeadership: async (role, seen, holder) => {
    const { rows } = await commitStatement<LeadershipRow>(pool, TAKE, [
      role,
      seen.term,
      seen.beat,
      holder,
    ]).catch(refuse);
    return rows[0] === undefined ? null : leadershipOf(rows[0]);
  },

  beat: async (role, term, holder) => {
    const { rowCount } = await commitStatement(pool, BEAT, [role, term, holder]).catch(refuse);
    return rowCount === 1;
  },

  due: async (now, limit) => {
    const { rows } = await read(() => pool.query<DueRow>({ ...DUE, values: [now, limit] })).catch(
      refuse,
    );
    return rows.map((row): Look => ({
      keyId: row.key_id,
      namespace: row.namespace,
      marks: Number(row.marks),
      failures: row.failures,
    }));
  },

  looked: async ({ keyId, marks }, { nextAt, maxUses, dueAt, failure }) => {
    const [code, at] = [failure?.code ?? null, failure?.at ?? null];
    const values = [keyId, marks, nextAt, maxUses, code, at, dueAt];
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
    const { rows } = await read(() => pool.query<{ action: string }>(NOTICES, [keyId])).catch(
      refuse,
    );
    return rows.map(({ action }) => action);
  },

  usesOf: async (keyId, version) => {
    const counter = `${keyId}/${String(version)}`;
    const { rows } = await read(() => pool.query<{ used: string }>(USES, [counter])).catch(refuse);
    return Number(rows[0]?.used ?? 0);
  },
});

interface DueRow {
  readonly key_id: string;
  readonly namespace: string;
  readonly marks: string;
  readonly failures: number;
}
