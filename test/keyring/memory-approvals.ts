/** Approvals in memory, with the rules of their SQL: what has ended stays so, revisions only rise. */
import type { Approval, ApprovalStore, ApprovalWrite } from '../../src/keyring/approval-ports.ts';
import type { Attested, KeyWrite } from '../../src/keyring/ports.ts';
import { TwofoldError } from '../../src/errors.ts';

export type ApprovalRows = Map<string, Attested<Approval>>;

const isOpen = ({ state, expiresAt }: Approval, now: Date) =>
  (state === 'pending' || state === 'approved') && expiresAt > now;

export const isApprovalWrite = (write: KeyWrite): write is ApprovalWrite =>
  write.kind === 'insert-approval' || write.kind === 'update-approval';

export function applyApproval(rows: ApprovalRows, write: ApprovalWrite): void {
  const { value } = write.row;
  if (write.kind === 'update-approval') {
    const standing = rows.get(value.id)?.value;
    if (standing?.revision !== write.expected) throw new TwofoldError('conflict');
    if (value.revision <= standing.revision || standing.endedAt !== null) {
      throw new TypeError('what has ended stays so, and revisions only rise');
    }
  } else {
    const open = [...rows.values()].filter(
      (row) => row.value.namespace === value.namespace && isOpen(row.value, value.createdAt),
    );
    const own = open.filter((row) => row.value.requester.subject === value.requester.subject);
    const { ofNamespace, ofPrincipal } = write.bounds;
    if (open.length >= ofNamespace || own.length >= ofPrincipal) {
      throw new TwofoldError('quota_exceeded');
    }
  }
  rows.set(value.id, write.row);
}

const newestFirst = (a: Approval, b: Approval) =>
  b.createdAt.getTime() - a.createdAt.getTime() || Number(b.id > a.id) - Number(b.id < a.id);

export const memoryApprovals = (rows: () => ApprovalRows): ApprovalStore => ({
  find: (namespace, id) => {
    const found = rows().get(id);
    return Promise.resolve(found?.value.namespace === namespace ? found : null);
  },
  findOpen: (namespace, requester, requestHash, now) =>
    Promise.resolve(
      [...rows().values()].find(
        ({ value }) =>
          value.namespace === namespace &&
          value.requester.issuer === requester.issuer &&
          value.requester.subject === requester.subject &&
          Buffer.from(requestHash).equals(value.requestHash) &&
          isOpen(value, now),
      ) ?? null,
    ),
  list: ({ namespace, state, now, pageSize, after }) =>
    Promise.resolve(
      [...rows().values()]
        .filter(({ value }) => value.namespace === namespace)
        .filter(({ value }) => {
          if (state === null) return true;
          const open = value.state === 'pending' || value.state === 'approved';
          if (state === 'expired') return open && value.expiresAt <= now;
          return value.state === state && (!open || value.expiresAt > now);
        })
        .filter(({ value }) => after === null || newestFirst({ ...value, ...after }, value) < 0)
        .toSorted((a, b) => newestFirst(a.value, b.value))
        .slice(0, pageSize),
    ),
});
