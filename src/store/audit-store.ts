/**
 * The audit tables. Every append is one call of one function under the epoch barrier (promise P5).
 */
import { TwofoldError } from '../errors.ts';
import type { SecurityChange } from '../epoch.ts';
import type { AppendBatch, AuditStore, CommitOutcome, StoredEntry } from '../audit/ports.ts';
import { OutcomeUnknown } from '../outcome.ts';
import { listEntries, storedEntry } from './audit-list.ts';
import type { ShownEntry } from './audit-list.ts';
import { bufferOf, columnsOf, entryArrays } from './entry-columns.ts';
import { isTaken, refuse } from './failures.ts';
import type { security_change } from './generated/client.ts';
import { leafInLog } from './log-leaf.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { COMMITTED, commitStatement, committedRead, committing, read } from './transaction.ts';
import type { Statement } from './transaction.ts';

/** `written`: by this very statement, which is a transaction of its own then. */
const APPEND: Statement = {
  name: 'append',
  text: `select public.append($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13) as epoch,
    pg_current_xact_id_if_assigned() is not null as written`,
};

/** The same, with a record of its own that commits behind what is there. */
const APPEND_AGAIN = committing({
  name: 'append_again',
  text: `select public.append($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13) as epoch from ${COMMITTED}`,
});

const ENTRY: Statement = {
  name: 'entry',
  text: `select e.lane, e.n, e.leaf, e.body, ${columnsOf('e')} from public.entry e
    where e.lane = $1 and e.n = $2`,
};

const CONFIRM = committing(
  {
    name: 'confirm_epoch',
    text: 'select public.confirm_epoch($1,$2) as epoch',
  },
  'public.confirm_epoch(',
);

const LEAF_AT = committing({
  name: 'leaf_at',
  text: `select coalesce((select leaf from public.entry where lane = $1 and n = $2),
      ${leafInLog('$1', '$2')}) as leaf
    from ${COMMITTED}`,
});

const CHANGES_SINCE = committing({
  name: 'changes_since',
  text: `select c.epoch, c.scope, c.namespace, c.key_id, c.key_name, c.also
    from ${COMMITTED} left join public.security_change c on c.epoch > $1
    order by c.epoch`,
});

type ChangeRow = Pick<security_change, 'scope' | 'namespace' | 'key_id' | 'key_name' | 'also'> & {
  readonly epoch: string | null;
};

/** What `append` and `commit_change` return: the epoch, negated when nothing was written. */
export const commitOutcome = (rows: readonly { readonly epoch: string }[]): CommitOutcome => {
  const epoch = Number(rows[0]?.epoch);
  return epoch < 0 ? { stale: -epoch } : { epoch };
};

export const createAuditStore = (
  pool: GuardedPool,
  { lookups, searches }: ReadGates,
): AuditStore => ({
  openLane: async (instance, kind) => {
    const { rows } = await commitStatement<{ lane: number }>(
      pool,
      'select public.open_lane($1,$2) as lane',
      [instance, kind],
    ).catch(refuse);
    const [opened] = rows;
    if (opened === undefined) throw new TwofoldError('internal');
    return opened.lane;
  },

  closeLane: async (lane) => {
    await commitStatement(pool, 'select public.close_lane($1)', [lane]).catch(refuse);
  },

  append: async (batch) => {
    try {
      return await append(pool, batch);
    } catch (error) {
      if (!isTaken(error)) return refuse(error);
      // The first sending of the same batch may have committed while this one waited for it.
      return append(pool, batch).catch(refuse);
    }
  },

  confirm: async (epoch, instance) => {
    const rows = await committedRead<{ epoch: string }>(pool, CONFIRM, [epoch, instance]).catch(
      refuse,
    );
    return commitOutcome(rows);
  },

  leafAt: async (lane, n) => {
    const rows = await committedRead<{ leaf: Buffer | null }>(pool, LEAF_AT, [lane, n]).catch(
      refuse,
    );
    const leaf = rows[0]?.leaf ?? null;
    return leaf === null ? null : Uint8Array.from(leaf);
  },

  entry: (lane, n) => lookups.run(() => entryAt(pool, lane, n)),

  entries: (query) => searches.run(() => read(() => listEntries(pool, query)).catch(refuse)),

  changesSince: async (epoch) => {
    const rows = await committedRead<ChangeRow>(pool, CHANGES_SINCE, [epoch]).catch(refuse);
    return rows
      .filter((row) => row.epoch !== null)
      .map((row): SecurityChange => ({
        epoch: Number(row.epoch),
        scope: row.scope === 'key' ? 'key' : 'access',
        namespace: row.namespace,
        keyId: row.key_id,
        keyName: row.key_name,
        also: row.also,
      }));
  },
});

interface AppendRow {
  readonly epoch: string;
  readonly written: boolean;
}

const append = async (pool: GuardedPool, batch: AppendBatch): Promise<CommitOutcome> => {
  const values = [
    batch.epoch,
    batch.lane,
    batch.first,
    bufferOf(batch.hmac),
    ...entryArrays(batch.entries),
  ];
  const { rows } = await commitStatement<AppendRow>(pool, APPEND, values);
  const outcome = commitOutcome(rows);
  if ('stale' in outcome || rows[0]?.written === true) return outcome;
  return commitBehind(pool, values);
};

/**
 * Entries that were there already were seen, and that is no commit: a wait for the standbys that was ended (a
 * restart, `pg_terminate_backend`) leaves rows that one server alone has. What is committed behind them
 * is on a standby only with them. It is the append once more, since it may be another server that takes it: one
 * that has not got them writes them.
 * @throws OutcomeUnknown whatever it is that fails: the entries stand where they were seen
 */
const commitBehind = async (
  pool: GuardedPool,
  values: readonly unknown[],
): Promise<CommitOutcome> => {
  try {
    return commitOutcome(
      (await commitStatement<Pick<AppendRow, 'epoch'>>(pool, APPEND_AGAIN, values)).rows,
    );
  } catch (error) {
    throw error instanceof OutcomeUnknown ? error : new OutcomeUnknown(error);
  }
};

const entryAt = async (pool: GuardedPool, lane: number, n: number): Promise<StoredEntry | null> => {
  const found = () => pool.query<ShownEntry>({ ...ENTRY, values: [lane, n] });
  const { rows } = await read(found).catch(refuse);
  const [row] = rows;
  return row === undefined ? null : storedEntry(row);
};
