/**
 * The instance table. Beats are judged by the database's clock alone.
 */
import { TwofoldError } from '../errors.ts';
import type { InstanceStore } from '../keyring/instance-ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import { COMMITTED, commitStatement, committedRead, committing, read } from './transaction.ts';
import type { Statement } from './transaction.ts';

/** An instance whose last beat is older counts as dead, though it may still come back. */
export const LIVE_SECONDS = 15;

/** Condition on a row of `instance`: neither closed nor fenced, and beating. */
export const IS_LIVE = `not closed and not fenced
  and beat_at > clock_timestamp() - interval '${LIVE_SECONDS} s'`;

const OPEN = `insert into public.instance (id, zone, suites, envelopes, grace_ms, epoch_seen)
  values ($1, $2, $3, $4, $5, (select epoch from public.security_epoch))
  on conflict (id) do nothing`;

/** Under the barrier of changes, so that each finds it or is before it. */
const OPEN_GRACE = 'select public.open_grace_instance($1, $2, $3, $4, $5)';

/** Always a row, and a commit also where nothing is updated: no old primary says that a row is gone. */
const beatStatement = (name: string, announced: string): Statement => ({
  name,
  text: `with beaten as (
      update public.instance
      set beat = beat + 1, beat_at = clock_timestamp(), epoch_seen = greatest(epoch_seen, $2)${announced}
      where id = $1 and not closed
      returning beat, fenced
    )
    select e.epoch, b.beat, coalesce(b.fenced, false) as fenced
    from ${COMMITTED} cross join public.security_epoch e left join beaten b on true`,
});

const BEAT = beatStatement('beat', '');
const ANNOUNCING_BEAT = beatStatement(
  'beat_announcing',
  ', use_lane = $3, use_count = $4, change_lane = $5, change_count = $6',
);

interface ConfirmedRow {
  readonly epoch: string;
  readonly least: string;
}

interface AllReadRow {
  readonly asker_lives: boolean;
  readonly all_read: boolean;
}

interface BeatRow {
  readonly epoch: string;
  readonly beat: string | null;
  readonly fenced: boolean;
}

/** One with a grace may be silent and answer: it is fenced by the change that has waited for it. */
const CLOSE_DEAD = `update public.instance set closed = true
  where id = $1 and grace_ms = 0 and not (${IS_LIVE})`;

const ANNOUNCE = `update public.instance set generations = $2
  where id = $1 and not closed and generations <> $2::integer[]`;

const ANNOUNCE_TOKEN = `update public.instance set token_serial = $2
  where id = $1 and not closed and token_serial is distinct from $2`;

const ZONES_WITH_TOKEN = `select distinct zone from public.instance
  where ${IS_LIVE} and token_serial = $1 order by zone`;

/** Always a row: when an outage ends nobody's heartbeat is new, and who asks says nothing of the others then. */
const ALL_READ = committing({
  name: 'instances_all_read',
  text: `select
      exists (select from public.instance where id = $1 and ${IS_LIVE}) as asker_lives,
      not exists (select from public.instance where not closed and not fenced
        and beat_at > clock_timestamp() - interval '${LIVE_SECONDS} s' - $2 * interval '1 ms'
        and not ($3 = any (suites) and $4 = any (envelopes))) as all_read
    from ${COMMITTED}`,
});

/**
 * One with a grace counts however silent it is: it may answer, until it is fenced. On an old primary those
 * that have come or lag since would be missing, and what was confirmed need not have been committed.
 */
const CONFIRMED = committing({
  name: 'instances_confirmed',
  text: `select e.epoch,
      coalesce((select min(epoch_seen) from public.instance
        where not closed and not fenced and (grace_ms > 0 or ${IS_LIVE})), e.epoch) as least
    from ${COMMITTED} cross join public.security_epoch e`,
});

export const createInstanceStore = (pool: GuardedPool): InstanceStore => ({
  open: async ({ id, zone, suites, envelopes, graceMs }) => {
    const statement = graceMs === 0 ? OPEN : OPEN_GRACE;
    await commitStatement(pool, statement, [id, zone, suites, envelopes, graceMs]).catch(refuse);
  },

  beat: async (id, epochSeen, lanes) => {
    const announced =
      lanes === undefined
        ? []
        : [lanes.useLane, lanes.useCount, lanes.changeLane, lanes.changeCount];
    const { rows } = await commitStatement<BeatRow>(
      pool,
      lanes === undefined ? BEAT : ANNOUNCING_BEAT,
      [id, epochSeen, ...announced],
    ).catch(refuse);
    const [row] = rows;
    const beat = row?.beat ?? null;
    return {
      epoch: Number(row?.epoch),
      beat: beat === null ? null : Number(beat),
      fenced: row?.fenced ?? false,
    };
  },

  announceGenerations: async (id, generations) => {
    await commitStatement(pool, ANNOUNCE, [id, generations]).catch(refuse);
  },

  announceToken: async (id, serial) => {
    await commitStatement(pool, ANNOUNCE_TOKEN, [id, serial]).catch(refuse);
  },

  zonesWithToken: async (serial) => {
    const query = () => pool.query<{ zone: string }>(ZONES_WITH_TOKEN, [serial]);
    const { rows } = await read(query).catch(refuse);
    return rows.map(({ zone }) => zone);
  },

  allRead: async ({ suite, envelope }, { id, silentMs }) => {
    const values = [id, silentMs, suite, envelope];
    const [row] = await committedRead<AllReadRow>(pool, ALL_READ, values).catch(refuse);
    if (row?.asker_lives !== true) {
      throw new TwofoldError('database_unavailable', undefined, { retryAfter: 1 });
    }
    return row.all_read;
  },

  confirmed: async () => {
    const [row] = await committedRead<ConfirmedRow>(pool, CONFIRMED, []).catch(refuse);
    if (row === undefined) throw new TwofoldError('internal');
    return { epoch: Number(row.epoch), least: Number(row.least) };
  },

  close: async (id) => {
    await commitStatement(pool, 'update public.instance set closed = true where id = $1', [
      id,
    ]).catch(refuse);
  },

  closeDead: async (id) => {
    await commitStatement(pool, CLOSE_DEAD, [id]).catch(refuse);
  },

  expire: async (before, limit) => {
    const { rows } = await commitStatement<{ removed: number }>(
      pool,
      'select public.expire_instances($1,$2) as removed',
      [before, limit],
    ).catch(refuse);
    return rows[0]?.removed ?? 0;
  },
});
