/**
 * The canonical form of an approval and its MAC under `root-mac`, as those of `set-mac.ts`:
 *
 *     approval = [label, "approval", id, namespace, issuer, subject, operation, guards[], rule, method,
 *                 path, query, ifMatch, bodyHash, requestHash, SHA-256(preview), createdAt, expiresAt,
 *                 state, reason, approvers[], endedAt, revision]
 *     approver = [issuer, subject, method, roles[], at]
 */
import { createHash } from 'node:crypto';

import { concatBytes, equalBytes } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import { TwofoldError } from '../errors.ts';
import type { Approval } from '../keyring/approval-ports.ts';
import type { Attested } from '../keyring/ports.ts';
import type { RowMac } from '../keyring/row-mac.ts';
import { NAME } from '../name.ts';

const FORMAT = 1;

export function canonicalApproval(approval: Approval): Uint8Array {
  const { requester, approvers } = approval;
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
    approvers.map(({ issuer, subject, method, roles, at }) => [
      issuer,
      subject,
      method,
      roles,
      at.getTime(),
    ]),
    approval.endedAt?.getTime() ?? null,
    approval.revision,
  ];
  return concatBytes(Uint8Array.of(FORMAT), encodeCbor(columns));
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
