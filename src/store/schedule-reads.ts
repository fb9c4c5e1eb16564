/** What the scheduler found and did, as it is shown. */
import type {
  RunPosition,
  ScheduledRun,
  ScheduleReads,
  ScheduleRow,
  WatchedKey,
} from '../rotation/scheduler-ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { read } from './transaction.ts';

/** The release before writes no action and no detail, and leaves those of an earlier failure. */
const FAILURE = `s.failures, s.failure_code, s.failed_at, s.failing_since,
    case when s.failure_noted_at = s.failed_at then s.failure_action end as failure_action,
    case when s.failure_noted_at = s.failed_at then s.failure_detail end as failure_detail,
    case when isfinite(s.next_at) then s.next_at end as next_at`;
const SCHEDULE = `select ${FAILURE} from public.key_schedule s where s.key_id = $1`;
const RUNS = `select key_id, policy_revision, action, due_at, cause, version, done_at, term
  from public.scheduled_run
  where key_id = $1 and ($2::timestamptz is null or (done_at, action) > ($2, $3::text collate "C"))
  order by done_at, action limit $4`;
const MADE = `select version from public.scheduled_run
  where key_id = $1 and version = any($2::integer[]) and (action like 'rotate/%' or action like 'order/%')`;

/** As the index over it says it. */
const LATE_SINCE = 'least(s.due_at, case when isfinite(s.next_at) then s.next_at end)';
const watched = (since: string, which: string) => `select s.key_id, k.name, ${since} as since,
    ${FAILURE}
  from public.key_schedule s join public.key k on k.id = s.key_id and k.namespace = $1
  where s.namespace = $1 and ${which} and ($2::timestamptz is null or (${since}, s.key_id) > ($2, $3::uuid))
  order by ${since}, s.key_id limit $4`;
const FAILING = watched('s.failing_since', 's.failures > 0');
const LATE = watched(LATE_SINCE, `${LATE_SINCE} <= $5`);
const DONE = `select r.key_id, k.name, r.policy_revision, r.action, r.due_at, r.cause, r.version,
    r.done_at, r.term
  from public.scheduled_run r join public.key k on k.id = r.key_id
  where r.namespace = $1 and k.namespace = $1 and ($2::timestamptz is null or (r.done_at, r.key_id, r.action) < ($2, $3::uuid, $4::text collate "C"))
  order by r.namespace desc, r.done_at desc, r.key_id desc, r.action desc limit $5`;

interface WatchedColumns extends ScheduleColumns {
  readonly key_id: string;
  readonly name: string;
  readonly since: Date;
}

interface ScheduleColumns {
  readonly failures: number;
  readonly failure_code: string | null;
  readonly failed_at: Date | null;
  readonly failing_since: Date | null;
  readonly failure_action: string | null;
  readonly failure_detail: string | null;
  readonly next_at: Date | null;
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

const failureOf = ({
  failures: count,
  failure_code: code,
  failed_at: at,
  failing_since: since,
  failure_action: action,
  failure_detail: detail,
  next_at: nextAttemptAt,
}: ScheduleColumns): ScheduleRow['failure'] =>
  code === null || at === null
    ? null
    : { code, action, detail, at, since: since ?? at, count, nextAttemptAt };

const watchedOf = (row: WatchedColumns): WatchedKey => ({
  keyId: row.key_id,
  keyName: row.name,
  since: row.since,
  failure: failureOf(row),
  nextAt: row.next_at,
});

export const createScheduleReads = (
  pool: GuardedPool,
  { searches }: Pick<ReadGates, 'searches'>,
): Omit<ScheduleReads, 'notices' | 'usesOf'> => ({
  scheduleOf: async (keyId) => {
    const { rows } = await read(() => pool.query<ScheduleColumns>(SCHEDULE, [keyId])).catch(refuse);
    const [row] = rows;
    if (row === undefined) return null;
    return { failure: failureOf(row) };
  },

  runsOf: async (keyId: string, after: RunPosition | null, limit: number) => {
    const values = [keyId, after?.doneAt ?? null, after?.action ?? null, limit];
    const { rows } = await read(() => pool.query<RunColumns>(RUNS, values)).catch(refuse);
    return rows.map(runOf);
  },

  madeByRuns: async (keyId: string, versions: readonly number[]) => {
    const { rows } = await read(() =>
      pool.query<{ version: number }>(MADE, [keyId, versions]),
    ).catch(refuse);
    return new Set(rows.map(({ version }) => version));
  },

  failing: async ({ namespace, after, limit }) => {
    const values = [namespace, after?.at ?? null, after?.keyId ?? null, limit];
    const { rows } = await searches.run(() =>
      read(() => pool.query<WatchedColumns>(FAILING, values)).catch(refuse),
    );
    return rows.map(watchedOf);
  },

  late: async ({ namespace, after, limit, until }) => {
    const values = [namespace, after?.at ?? null, after?.keyId ?? null, limit, until];
    const { rows } = await searches.run(() =>
      read(() => pool.query<WatchedColumns>(LATE, values)).catch(refuse),
    );
    return rows.map(watchedOf);
  },

  done: async ({ namespace, after, limit }) => {
    const values = [
      namespace,
      after?.at ?? null,
      after?.keyId ?? null,
      after?.action ?? null,
      limit,
    ];
    const { rows } = await searches.run(() =>
      read(() => pool.query<RunColumns & { readonly name: string }>(DONE, values)).catch(refuse),
    );
    return rows.map((row) => ({ ...runOf(row), keyName: row.name }));
  },
});
