/** What PostgreSQL shows a role without privileges of whether its commits wait for a standby. */
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { read } from './transaction.ts';

export interface Replication {
  /** False on a standby, of which nothing else says anything. */
  readonly primary: boolean;
  /** `synchronous_commit` of our sessions. */
  readonly synchronousCommit: string;
  /** `synchronous_standby_names`; empty: no commit waits for anyone. */
  readonly standbyNames: string;
  readonly fsync: boolean;
  /** Standbys that commits wait for now; null where the role may not see it (`pg_read_all_stats`). */
  readonly synchronousStandbys: number | null;
}

const REPLICATION = `select not pg_is_in_recovery() as "primary",
    current_setting('synchronous_commit') as commit,
    btrim(current_setting('synchronous_standby_names')) as names,
    current_setting('fsync') = 'on' as fsync,
    case when pg_has_role('pg_read_all_stats', 'usage') then
      (select count(*)::integer from pg_stat_replication where sync_state in ('sync', 'quorum'))
    end as standbys`;

interface Row {
  readonly primary: boolean;
  readonly commit: string;
  readonly names: string;
  readonly fsync: boolean;
  readonly standbys: number | null;
}

/** @throws TwofoldError database_unavailable */
export async function readReplication(pool: GuardedPool): Promise<Replication> {
  const { rows } = await read(() => pool.query<Row>(REPLICATION)).catch(refuse);
  const [row] = rows;
  if (row === undefined) throw new Error('the database said nothing of its replication');
  return {
    primary: row.primary,
    synchronousCommit: row.commit,
    standbyNames: row.names,
    fsync: row.fsync,
    synchronousStandbys: row.standbys,
  };
}
