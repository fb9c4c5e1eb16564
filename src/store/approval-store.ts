/** Approvals: one by its id, the open one of a request, and pages of a namespace. */
import type { ApprovalQuery, ApprovalStore } from '../keyring/approval-ports.ts';
import { approvalFromRow } from './approval-rows.ts';
import type { ApprovalRow } from './approval-rows.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGates } from './read-gate.ts';
import { COMMITTED, committedRead, committing, read } from './transaction.ts';
import type { Committing } from './transaction.ts';

const FIND = committing({
  name: 'find_approval',
  text: `select a.* from ${COMMITTED} left join public.approval a
    on a.id = $2 and a.namespace = $1`,
});

const FIND_OPEN = committing({
  name: 'find_open_approval',
  text: `select a.* from ${COMMITTED} left join lateral (
      select * from public.approval
      where request_hash = $4 and state in ('pending', 'approved') and namespace = $1
        and issuer = $2 and subject = $3 and expires_at > $5
      order by created_at desc limit 1
    ) a on true`,
});

/** No approval is open for longer: what is open began after that. */
const LONGEST_MS = 30 * 86_400_000;

/** What of a page's statement hangs on the state; its values begin at `$5`. */
function filterOf({ state, now }: Pick<ApprovalQuery, 'state' | 'now'>) {
  switch (state) {
    case null:
      return { text: '', values: [] };
    case 'pending':
    case 'approved': {
      const text = `and state = '${state}' and expires_at > $5 and created_at > $6`;
      return { text, values: [now, new Date(now.getTime() - LONGEST_MS)] };
    }
    case 'expired':
      return { text: `and state in ('pending', 'approved') and expires_at <= $5`, values: [now] };
    case 'denied':
    case 'withdrawn':
    case 'executed':
      return { text: `and state = '${state}'`, values: [] };
  }
}

const pageStatement = (filter: string) => `select * from public.approval
  where namespace = $1 and (created_at, id) < ($2, $3) ${filter}
  order by created_at desc, id desc limit $4`;

const LAST = {
  createdAt: new Date('9999-12-31T00:00:00Z'),
  id: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
};

export const createApprovalStore = (
  pool: GuardedPool,
  { lookups, searches }: ReadGates,
): ApprovalStore => {
  const one = async (statement: Committing, values: readonly unknown[]) => {
    const [row] = await lookups.run(() =>
      committedRead<ApprovalRow>(pool, statement, values).catch(refuse),
    );
    return row === undefined || (row.id as string | null) === null ? null : approvalFromRow(row);
  };
  return {
    find: (namespace, id) => one(FIND, [namespace, id]),

    findOpen: (namespace, { issuer, subject }, requestHash, now) =>
      one(FIND_OPEN, [namespace, issuer, subject, requestHash, now]),

    list: async (query) => {
      const { namespace, pageSize, after } = query;
      const { createdAt, id } = after ?? LAST;
      const { text, values } = filterOf(query);
      const all = [namespace, createdAt, id, pageSize, ...values];
      const { rows } = await searches.run(() =>
        read(() => pool.query<ApprovalRow>(pageStatement(text), all)).catch(refuse),
      );
      return rows.map(approvalFromRow);
    },
  };
};
