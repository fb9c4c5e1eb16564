/** Cold storage of the log, as the owner of the tables; see migration 0035. */
import type { ArchiveStore, ArchiveTurn } from '../audit/archive-ports.ts';
import type { LogReader } from '../audit/log-ports.ts';
import { TwofoldError } from '../errors.ts';
import { refuse } from './failures.ts';
import { createLogStore } from './log-store.ts';
import { classify, storeError } from './outcome.ts';
import { createPool } from './pool.ts';
import type { GuardedPool, PoolOptions } from './pool.ts';
import { readGates } from './read-gate.ts';
import { COMMITTED, commitStatement, committedRead, committing } from './transaction.ts';

const FACTS = committing({
  name: 'archive_facts',
  text: `select h.size, s.name, s.next from ${COMMITTED} cross join public.log_head h
    left join (select name, next from public.audit_sink order by next, name limit 1) s on true`,
});

interface FactsRow {
  readonly size: string;
  readonly name: string | null;
  readonly next: string | null;
}

const SIZE_AT = `select coalesce(max(size), 0) as size from public.log_checkpoint where at < $1`;

/** A sink that began since it was asked how far it can go keeps what it has not got. */
const MARK = `update public.log_archive set until = $1, place = $2
  where until <= $1 and (until, place) is distinct from ($1::bigint, $2::text)
    and (until = $1 or not exists (select from public.audit_sink where next < $1))`;

/** Runs from the one that holds the first row on; `removed` moves in the same statement. */
const REMOVE = `with step as (
    update public.log_archive set removed = greatest(removed, least(until, $1))
    from (select removed as before from public.log_archive for update) o
    returning o.before, log_archive.removed as after
  ), gone as (
    delete from public.entry e using step s, public.log_run r, public.lane l
    where r.first < s.after and r.first >= coalesce(
        (select o.first from public.log_run o where o.first <= s.before order by o.first desc limit 1), 0)
      and e.lane = r.lane and l.id = r.lane
      and e.n >= r.from_n + greatest(0, s.before - r.first)
      and e.n < r.from_n + least(r.count, s.after - r.first)
      and (l.drained or e.n < l.next - 1)
  )
  select after from step`;

const FORGET = 'delete from public.audit_sink where name = $1 and next = $2 returning next';

const STEP_MS = 60_000;
/** Advisory lock of the command that archives. */
const LOCK = 7415;
/**
 * Held by a transaction that does nothing else, which pooled connections to the server keep as well. It is asked
 * before each step; a host that has vanished holds it no longer than this.
 */
const IDLE = '5min';

export interface OwnedArchive {
  readonly store: ArchiveStore;
  readonly log: LogReader;
  close(): Promise<void>;
}

/** Opens no connection yet. The URL is the owner's. */
export function openArchiveStore(
  options: Pick<PoolOptions, 'url' | 'tls' | 'caFile'>,
): OwnedArchive {
  // One holds the turn.
  const pool = createPool({ ...options, max: 3, statementDeadlineMs: STEP_MS });
  const store: ArchiveStore = {
    turn: () => takeTurn(pool),
    facts: async () => {
      const [row] = await committedRead<FactsRow & object>(pool, FACTS, []).catch(refuse);
      const { name = null, next = null } = row ?? {};
      const slowestSink = name === null ? null : { name, next: Number(next) };
      return { size: Number(row?.size ?? 0), slowestSink };
    },
    sizeAt: async (before) => {
      const { rows } = await pool.query<{ size: string }>(SIZE_AT, [before]).catch(refuse);
      return Number(rows[0]?.size ?? 0);
    },
    mark: async (until, place) => {
      await commitStatement(pool, MARK, [until, place]).catch(refuse);
    },
    forgetSink: async (name, next) => {
      const { rows } = await commitStatement(pool, FORGET, [name, next]).catch(refuse);
      return rows.length === 1;
    },
    remove: async (to) => {
      const { rows } = await commitStatement<{ after: string }>(pool, REMOVE, [to], {
        deadlineMs: STEP_MS,
      }).catch(refuse);
      return Number(rows[0]?.after ?? 0);
    },
  };
  return { store, log: createLogStore(pool, readGates(2)), close: () => pool.end() };
}

async function takeTurn(pool: GuardedPool): Promise<ArchiveTurn> {
  const client = await pool.connect().catch(unreachable);
  const end = async (): Promise<void> => {
    // A connection that is given back in order tells nobody of its loss.
    const over = await client.query('rollback').then(
      () => true,
      () => false,
    );
    client.release(!over);
  };
  try {
    await client.query('begin');
    await client.query(`set local idle_in_transaction_session_timeout = '${IDLE}'`);
    const { rows } = await client.query<{ held: boolean }>(
      `select pg_try_advisory_xact_lock(${String(LOCK)}) as held`,
    );
    if (rows[0]?.held !== true) {
      throw new TwofoldError('conflict', 'Another command is archiving the log.');
    }
  } catch (error) {
    await end();
    return unreachable(error);
  }
  return {
    still: async () => {
      await client.query('select 1').catch(unreachable);
    },
    end,
  };
}

/** It changes nothing, so that no outcome is unknown. */
function unreachable(error: unknown): never {
  throw TwofoldError.is(error) ? error : storeError(error, classify(error, 'open'));
}
