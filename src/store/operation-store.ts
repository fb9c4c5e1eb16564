/** Operations. A step is one call of one function (`commit_operation`): progress and audit entry together. */
import { TwofoldError } from '../errors.ts';
import type { OperationCommit, OperationQuery, OperationStore } from '../keyring/ports.ts';
import { commitOutcome } from './audit-store.ts';
import { bufferOf, entryValues } from './entry-columns.ts';
import { refuse } from './failures.ts';
import type { Prisma as Generated } from './generated/client.ts';
import { idempotencyJson } from './key-commit.ts';
import { createOrderReads } from './order-store.ts';
import { OPERATION_COLUMNS, operationFromRow, writeJson } from './operation-rows.ts';
import type { OperationRow } from './operation-rows.ts';
import type { GuardedPool } from './pool.ts';
import type { Prisma } from './prisma.ts';
import type { ReadGates } from './read-gate.ts';
import { COMMITTED, commitStatement, committedRead, committing, read } from './transaction.ts';

const DAY_MS = 86_400_000;
/** How long the record of an operation is kept that ended, or went silent. */
const KEPT_MS = 60 * DAY_MS;

const COMMIT = {
  name: 'commit_operation',
  text: `select public.commit_operation($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15) as epoch`,
};

const FIND = committing({
  name: 'find_operation',
  text: `select ${OPERATION_COLUMNS.map((name) => `o.${name}`).join(', ')}
    from ${COMMITTED} left join public.operation o on o.namespace = $1 and o.id = $2`,
});

const EXPIRE = {
  name: 'expire_operations',
  text: 'delete from public.operation where expires_at < $1',
};

const PACE = { name: 'pace_operation', text: 'select public.pace_operation($1, $2) as wait' };

const SHOWN = Object.fromEntries(OPERATION_COLUMNS.map((name) => [name, true])) as Record<
  (typeof OPERATION_COLUMNS)[number],
  true
>;

/** As `commit_operation` takes them. */
export const operationParameters = ({ epoch, write, entry, idempotency }: OperationCommit) => {
  // The entry's bytes state the epoch; committed under another one they would be untrue.
  if (entry.epoch !== epoch) throw new TwofoldError('internal');
  return [
    epoch,
    JSON.stringify(writeJson(write)),
    idempotencyJson(idempotency),
    entry.lane,
    entry.n,
    bufferOf(entry.hmac),
    ...entryValues(entry),
  ];
};

export const createOperationStore = (
  pool: GuardedPool,
  prisma: Prisma,
  gates: ReadGates,
): OperationStore => ({
  ...createOrderReads(pool, gates),

  find: async (namespace, id) => {
    const rows = await gates.lookups.run(() =>
      committedRead<OperationRow>(pool, FIND, [namespace, id]).catch(refuse),
    );
    const [row] = rows;
    return row === undefined || (row.id as string | null) === null ? null : operationFromRow(row);
  },

  list: async (query) => {
    const rows = await gates.searches.run(() =>
      read(async () =>
        (await prisma.client()).operation.findMany({
          where: filter(query),
          orderBy: [{ created_at: 'desc' }, { id: 'desc' }],
          take: query.pageSize,
          select: SHOWN,
        }),
      ).catch(refuse),
    );
    return rows.map(operationFromRow);
  },

  pace: async (id, items) => {
    const { rows } = await commitStatement<{ wait: string }>(pool, PACE, [id, items]).catch(refuse);
    return Number(rows[0]?.wait);
  },

  commit: async (step) => {
    const parameters = operationParameters(step);
    const { rows } = await commitStatement<{ epoch: string }>(pool, COMMIT, parameters).catch(
      refuse,
    );
    // It raises no epoch: nobody has to hear of it.
    return { ...commitOutcome(rows), held: false };
  },
});

const filter = (query: OperationQuery): Generated.operationWhereInput => ({
  namespace: query.namespace,
  ...(query.kind === null ? {} : { kind: query.kind }),
  ...query.creator,
  ...stateFilter(query),
  ...(query.after === null ? {} : before(query.after)),
});

const stateFilter = ({ state, now }: OperationQuery): Generated.operationWhereInput => {
  switch (state) {
    case null:
      return {};
    case 'running':
      return { state, expires_at: { gt: now } };
    case 'expired':
      return { state: 'running', expires_at: { lte: now } };
    case 'succeeded':
    case 'failed':
    case 'cancelled':
      return { state };
  }
};

const before = ({ createdAt, id }: NonNullable<OperationQuery['after']>) => ({
  // The first condition is what the index can use; the other settles equal times.
  created_at: { lte: createdAt },
  OR: [{ created_at: { lt: createdAt } }, { id: { lt: id } }],
});

/** `expires_at` of one that ended is as far from its end as from a running one's last step. */
export const expireOperations = async (pool: GuardedPool, now: Date): Promise<void> => {
  const long = new Date(now.getTime() - KEPT_MS);
  await commitStatement(pool, EXPIRE, [long]);
};
