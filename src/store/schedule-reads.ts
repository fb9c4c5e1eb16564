/** What the scheduler found and did, as it is shown. */
import type { RunPosition, ScheduledRun, ScheduleReads } from '../rotation/scheduler-ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { read } from './transaction.ts';

const SCHEDULE = `select failures, failure_code, failed_at from public.key_schedule where key_id = $1`;
const RUNS = `select key_id, policy_revision, action, due_at, cause, version, done_at, term
  from public.scheduled_run
  where key_id = $1 and ($2::timestamptz is null or (done_at, action) > ($2, $3::text collate "C"))
  order by done_at, action limit $4`;

interface ScheduleColumns {
  readonly failures: number;
  readonly failure_code: string | null;
  readonly failed_at: Date | null;
}

interface RunColumns {
  readonly key_id: string;
  readonly policy_revision: number;
  readonly action: string;
  readonly due_at: Date;
  readonly cause: string | null;
  readonly version: number | null;
  readonly done_at: Date;
  readonly term: string;
}

const runOf = (row: RunColumns): ScheduledRun => ({
  keyId: row.key_id,
  policyRevision: row.policy_revision,
  action: row.action,
  dueAt: row.due_at,
  cause: row.cause,
  version: row.version,
  doneAt: row.done_at,
  term: Number(row.term),
});

export const createScheduleReads = (
  pool: GuardedPool,
): Pick<ScheduleReads, 'scheduleOf' | 'runsOf'> => ({
  scheduleOf: async (keyId) => {
    const { rows } = await read(() => pool.query<ScheduleColumns>(SCHEDULE, [keyId])).catch(refuse);
    const [row] = rows;
    if (row === undefined) return null;
    const { failures: count, failure_code: code, failed_at: at } = row;
    return { failure: code === null || at === null ? null : { code, at, count } };
  },

  runsOf: async (keyId: string, after: RunPosition | null, limit: number) => {
    const values = [keyId, after?.doneAt ?? null, after?.action ?? null, limit];
    const { rows } = await read(() => pool.query<RunColumns>(RUNS, values)).catch(refuse);
    return rows.map(runOf);
  },
});
