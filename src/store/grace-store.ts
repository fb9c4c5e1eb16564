/** What instances that may answer without a commit need of the database; see migration 0040. */
import type { GraceStore, Replay } from '../audit/grace/ports.ts';
import { TwofoldError } from '../errors.ts';
import { LaneLost } from '../outcome.ts';
import { byteaArray } from './binary-arrays.ts';
import { bufferOf, entryArrays } from './entry-columns.ts';
import { isTaken, refuse, refuseContent } from './failures.ts';
import { leafInLog } from './log-leaf.ts';
import type { GuardedPool } from './pool.ts';
import {
  COMMITTED,
  commitStatement,
  committedRead,
  committing,
  transaction,
} from './transaction.ts';

const REPLAY = {
  name: 'replay_entries',
  text: 'select public.replay_entries($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13) as epoch',
};

/**
 * How many of the first batches, told by the number and the leaf of their last entries, are in the log, and whether it
 * has others in the place of one. Each entry holds the leaf of the one before it, so that the last one stands for all.
 */
const IN_LOG = committing({
  name: 'replay_in_log',
  text: `select v.* from ${COMMITTED} left join (
      select coalesce(min(u.o) filter (where u.leaf is distinct from u.there) - 1, count(*)) as batches,
        coalesce(bool_or(u.leaf <> u.there), false) as others
      from (select b.leaf, b.o, ${leafInLog('$1', 'b.n')} as there
        from unnest($2::bigint[], $3::bytea[]) with ordinality b(n, leaf, o)) u) v on true`,
});

/** The lock that changes take alone. */
const BARRIER = 'select pg_advisory_xact_lock_shared(7411)';
const EPOCH = committing({
  name: 'replay_epoch',
  text: `select s.epoch from ${COMMITTED} cross join public.security_epoch s`,
});

/** Always a row, so that no old primary says that nobody is there. */
const HOLDERS = committing({
  name: 'grace_holders',
  text: `select s.epoch, i.id, i.grace_ms, i.epoch_seen
    from ${COMMITTED} cross join public.security_epoch s
    left join public.instance i
      on i.grace_ms > 0 and not i.closed and not i.fenced and i.epoch_seen < s.epoch`,
});

interface HolderRow {
  readonly epoch: string;
  readonly id: string | null;
  readonly grace_ms: number;
  readonly epoch_seen: string;
}

export const createGraceStore = (pool: GuardedPool): GraceStore => ({
  replay: async (all) => {
    const rest = await notInLog(pool, all);
    if (rest.batches.length === 0) return epochNow(pool).catch(refuseContent);
    try {
      return await replay(pool, rest);
    } catch (error) {
      if (!isTaken(error)) return refuseContent(error);
      // A late commit of the same entries came between; now they are seen.
      return replay(pool, rest).catch(refuseContent);
    }
  },

  holders: async () => {
    const rows = await committedRead<HolderRow>(pool, HOLDERS, []).catch(refuse);
    const [first] = rows;
    if (first === undefined) throw new TwofoldError('internal');
    const holders = rows.flatMap(({ id, grace_ms: graceMs, epoch_seen: seen }) =>
      id === null ? [] : [{ id, graceMs, epochSeen: Number(seen) }],
    );
    return { epoch: Number(first.epoch), holders };
  },

  fence: async (epoch, ids) => {
    await commitStatement(pool, 'select public.fence_instances($1,$2)', [epoch, ids]).catch(refuse);
  },
});

/**
 * Without what is in full tiles of the log: rows of that may be in cold storage, which a replay would take for
 * lost, or write once more.
 */
const notInLog = async (pool: GuardedPool, { batches, ...whose }: Replay): Promise<Replay> => {
  const last = batches.map(({ first, entries }) => first + entries.length - 1);
  const leaves = batches.map(({ entries }) => bufferOf(entries.at(-1)?.leaf ?? NO_LEAF));
  const values = [whose.lane, last, byteaArray(leaves)];
  const found = committedRead<{ batches: string; others: boolean }>(pool, IN_LOG, values);
  const [row] = await found.catch(refuseContent);
  if (row?.others === true) throw new LaneLost('conflict');
  return { ...whose, batches: batches.slice(Number(row?.batches ?? 0)) };
};

const NO_LEAF = new Uint8Array(0);

/** As of a replay that wrote nothing. */
const epochNow = (pool: GuardedPool): Promise<number> =>
  transaction(pool, async (sql) => {
    await sql.query(BARRIER);
    const { rows } = await sql.query<{ epoch: string }>(EPOCH);
    return Number(rows[0]?.epoch);
  });

const replay = async (pool: GuardedPool, { instance, lane, batches }: Replay): Promise<number> => {
  const entries = batches.flatMap((batch) => batch.entries);
  const hmacs = batches.flatMap(({ hmac, entries: { length } }) =>
    Array.from({ length }, (_, at) => (at === 0 ? bufferOf(hmac) : null)),
  );
  const { rows } = await commitStatement<{ epoch: string }>(pool, REPLAY, [
    instance,
    lane,
    batches[0]?.first,
    byteaArray(hmacs),
    ...entryArrays(entries),
  ]);
  const epoch = Number(rows[0]?.epoch);
  if (!Number.isSafeInteger(epoch)) throw new TwofoldError('internal');
  return epoch;
};
