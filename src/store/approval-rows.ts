/** Rows of `approval`. */
import { APPROVAL_STATES } from '../keyring/approval-ports.ts';
import type { Approval, Approver, ConsentCircumstances } from '../keyring/approval-ports.ts';
import type { Attested } from '../keyring/ports.ts';
import type { approvalModel } from './generated/models/approval.ts';
import type { Column } from './key-rows.ts';
import { RowReader, malformed } from './rows.ts';

export type ApprovalRow = { readonly [C in keyof approvalModel]: Column<approvalModel[C]> };

/** @throws TwofoldError integrity_failed */
export function approvalFromRow(row: ApprovalRow): Attested<Approval> {
  const columns = new RowReader<ApprovalRow>('approval', row);
  const value: Approval = {
    id: columns.text('id'),
    namespace: columns.text('namespace'),
    requester: { issuer: columns.text('issuer'), subject: columns.text('subject') },
    operation: columns.text('operation'),
    guards: columns.texts('guards'),
    rule: columns.maybeText('rule'),
    method: columns.text('method'),
    path: columns.text('path'),
    query: columns.text('query'),
    ifMatch: columns.maybeText('if_match'),
    bodyHash: columns.bytes('body_hash'),
    requestHash: columns.bytes('request_hash'),
    preview: columns.text('preview'),
    createdAt: columns.time('created_at'),
    expiresAt: columns.time('expires_at'),
    state: columns.one('state', APPROVAL_STATES),
    reason: columns.maybeText('reason'),
    approvers: approversFrom(columns.json('approvers')),
    endedAt: columns.maybeTime('ended_at'),
    revision: columns.integer('revision'),
  };
  const attested = { value, mac: columns.bytes('mac') };
  columns.done();
  return attested;
}

function approversFrom(value: unknown): readonly Approver[] {
  if (!Array.isArray(value)) throw malformed('approval.approvers');
  return (value as readonly unknown[]).map(approverFrom);
}

function approverFrom(value: unknown): Approver {
  if (typeof value !== 'object' || value === null) throw malformed('approval.approvers');
  // Circumstances are absent where there are none, as in every row before them.
  const row = { circumstances: null, ...value } as unknown as Record<keyof Approver, string>;
  const columns = new RowReader('approval.approvers', row);
  const at = columns.text('at');
  const approver = {
    issuer: columns.text('issuer'),
    subject: columns.text('subject'),
    method: columns.text('method'),
    roles: columns.texts('roles'),
    at: new Date(at),
    circumstances: circumstancesFrom(columns.json('circumstances')),
  };
  columns.done();
  if (Number.isNaN(approver.at.getTime()) || approver.at.toISOString() !== at) {
    throw malformed('approval.approvers');
  }
  return approver;
}

function circumstancesFrom(value: unknown): ConsentCircumstances | null {
  if (value === null) return null;
  if (typeof value !== 'object') throw malformed('approval.approvers');
  const columns = new RowReader<Record<keyof ConsentCircumstances, string>>(
    'approval.approvers.circumstances',
    value as Record<keyof ConsentCircumstances, string>,
  );
  const circumstances = {
    acr: columns.maybeText('acr'),
    amr: columns.texts('amr'),
    tlsGroup: columns.maybeText('tlsGroup'),
  };
  columns.done();
  return circumstances;
}

const approverJson = ({ at, circumstances, ...who }: Approver) => ({
  ...who,
  at: at.toISOString(),
  ...(circumstances === null ? {} : { circumstances }),
});

export const approvalRow = ({ value: approval, mac }: Attested<Approval>) => ({
  id: approval.id,
  namespace: approval.namespace,
  issuer: approval.requester.issuer,
  subject: approval.requester.subject,
  operation: approval.operation,
  guards: approval.guards,
  rule: approval.rule,
  method: approval.method,
  path: approval.path,
  query: approval.query,
  if_match: approval.ifMatch,
  body_hash: approval.bodyHash,
  request_hash: approval.requestHash,
  preview: approval.preview,
  created_at: approval.createdAt,
  expires_at: approval.expiresAt,
  state: approval.state,
  reason: approval.reason,
  approvers: approval.approvers.map(approverJson),
  ended_at: approval.endedAt,
  revision: approval.revision,
  mac,
});
