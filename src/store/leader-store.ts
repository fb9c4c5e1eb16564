/** Who leads, by role. */
import type { Leadership, LeaderStore } from '../leader.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { COMMITTED, commitStatement, committedRead, committing } from './transaction.ts';

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

const LEADERSHIP = committing({
  name: 'leadership',
  text: `select l.term, l.holder, l.beat
    from ${COMMITTED} left join public.leadership l on l.role = $1`,
});

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

export const createLeaderStore = (pool: GuardedPool): LeaderStore => ({
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
});
