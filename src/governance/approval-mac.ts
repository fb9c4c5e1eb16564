/**
 * The canonical form of an approval and its MAC under `root-mac`, as those of `set-mac.ts`:
 *
 *     approval = [label, "approval", id, namespace, issuer, subject, operation, guards[], rule, method,
 *                 path, query, ifMatch, bodyHash, requestHash, SHA-256(preview), createdAt, expiresAt,
 *                 state, reason, approvers[], endedAt, revision]
 *     approver = [issuer, subject, method, roles[], at | circumstances]
 *     circumstances = null or [acr, amr[], tlsGroup]
 *
 * An approval has the lowest format that says all of it: circumstances are left out where no approver has
 * any, as in every row before them, and format 2 has those of each.
 */
import { createHash } from 'node:crypto';

import { concatBytes, equalBytes } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import type { CborValue } from '../crypto/cbor.ts';
import { TwofoldError } from '../errors.ts';
import type { Approval, Approver } from '../keyring/approval-ports.ts';
import type { Attested } from '../keyring/ports.ts';
import type { RowMac } from '../keyring/row-mac.ts';
import { NAME } from '../name.ts';

const FORMAT = 1;

const approverColumns = ({ issuer, subject, method, roles, at }: Approver): CborValue[] => [
  issuer,
  subject,
  method,
  roles,
  at.getTime(),
];

const circumstanceColumns = ({ circumstances }: Approver): CborValue => {
  if (circumstances === null) return null;
  const { acr, amr, tlsGroup } = circumstances;
  return [acr, amr, tlsGroup];
};

export function canonicalApproval(approval: Approval): Uint8Array {
  const { requester, approvers } = approval;
  const later = approvers.some(({ circumstances }) => circumstances !== null);
  const columns = [
    NAME.rowMac,
    'approval',
    approval.id,
    approval.namespace,
    requester.issuer,
    requester.subject,
    approval.operation,
    approval.guards,
    approval.rule,
    approval.method,
    approval.path,
    approval.query,
    approval.ifMatch,
    approval.bodyHash,
    approval.requestHash,
    createHash('sha256').update(approval.preview).digest(),
    approval.createdAt.getTime(),
    approval.expiresAt.getTime(),
    approval.state,
    approval.reason,
    approvers.map((each) =>
      later ? [...approverColumns(each), circumstanceColumns(each)] : approverColumns(each),
    ),
    approval.endedAt?.getTime() ?? null,
    approval.revision,
  ];
  return concatBytes(Uint8Array.of(later ? FORMAT + 1 : FORMAT), encodeCbor(columns));
}

export async function attestApproval(mac: RowMac, value: Approval): Promise<Attested<Approval>> {
  return { value, mac: await mac(canonicalApproval(value)) };
}

/** @throws TwofoldError integrity_failed */
export async function verifyApproval(
  mac: RowMac,
  { value, mac: stated }: Attested<Approval>,
): Promise<void> {
  if (equalBytes(await mac(canonicalApproval(value), stated), stated)) return;
  throw new TwofoldError('integrity_failed', `The approval ${value.id} was altered.`);
}
