/** What instances that may answer without a commit need of the database; see migration 0040. */
import type { GraceStore, Replay } from '../audit/grace/ports.ts';
import { TwofoldError } from '../errors.ts';
import { byteaArray } from './binary-arrays.ts';
import { bufferOf, entryArrays } from './entry-columns.ts';
import { isTaken, refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { COMMITTED, commitStatement, committedRead, committing } from './transaction.ts';

const REPLAY = {
  name: 'replay_entries',
  text: 'select public.replay_entries($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13) as epoch',
};

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
  replay: async (batches) => {
    try {
      return await replay(pool, batches);
    } catch (error) {
      if (!isTaken(error)) return refuse(error);
      // A late commit of the same entries came between; now they are seen.
      return replay(pool, batches).catch(refuse);
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
