/** What is MACed of an approval, and that its row says the same: in the form of before, while it can. */
import { describe, expect, it } from '@jest/globals';
import { decodeCbor } from '../../src/crypto/cbor.ts';
import { canonicalApproval } from '../../src/governance/approval-mac.ts';
import type { Approval, Approver } from '../../src/keyring/approval-ports.ts';
import { approvalFromRow, approvalRow } from '../../src/store/approval-rows.ts';
import type { ApprovalRow } from '../../src/store/approval-rows.ts';

const bytes = (fill: number) => new Uint8Array(32).fill(fill);
const at = new Date('2026-12-01T00:00:00Z');
const who = (subject: string, circumstances: Approver['circumstances'] = null): Approver => ({
  issuer: 'urn:i',
  subject,
  method: 'jwt',
  roles: ['admin'],
  at,
  circumstances,
});
const approvalBy = (...approvers: readonly Approver[]): Approval => ({
  id: '84ea5caa-d256-49ad-a0be-bf1358a03859',
  namespace: 'default',
  requester: { issuer: 'urn:i', subject: 'alice' },
  operation: 'keys.update',
  guards: ['keys.update'],
  rule: null,
  method: 'PATCH',
  path: '/v1/admin/keys/k',
  query: '',
  ifMatch: null,
  bodyHash: bytes(1),
  requestHash: bytes(2),
  preview: '{}',
  createdAt: at,
  expiresAt: at,
  state: 'approved',
  reason: null,
  approvers,
  endedAt: null,
  revision: 2,
});

const MFA = { acr: 'mfa', amr: ['otp', 'pwd'], tlsGroup: 'X25519MLKEM768' };
const UNKNOWN = { acr: null, amr: [], tlsGroup: null };

/** What is MACed of the approvers, and the format. */
function said(approval: Approval) {
  const [format, ...rest] = canonicalApproval(approval);
  const columns = decodeCbor(Uint8Array.from(rest)) as readonly unknown[];
  return [format, columns.at(-3)];
}

describe('the MAC of an approval', () => {
  it('is as ever where no consent stands on circumstances', () => {
    const before = ['urn:i', 'bob', 'jwt', ['admin'], at.getTime()];
    expect(said(approvalBy(who('bob')))).toEqual([1, [before]]);
  });

  it('covers the circumstances of each consent where one has any', () => {
    const bob = [
      'urn:i',
      'bob',
      'jwt',
      ['admin'],
      at.getTime(),
      ['mfa', ['otp', 'pwd'], MFA.tlsGroup],
    ];
    const carol = ['urn:i', 'carol', 'jwt', ['admin'], at.getTime(), null];
    const dave = ['urn:i', 'dave', 'jwt', ['admin'], at.getTime(), [null, [], null]];
    const approval = approvalBy(who('bob', MFA), who('carol'), who('dave', UNKNOWN));
    expect(said(approval)).toEqual([2, [bob, carol, dave]]);
  });
});

describe('the row of an approval', () => {
  const stored = (approval: Approval) => {
    const row = approvalRow({ value: approval, mac: bytes(3) });
    return { ...row, approvers: JSON.parse(JSON.stringify(row.approvers)) as unknown };
  };
  const read = (row: object) => approvalFromRow(row as unknown as ApprovalRow).value;

  it('says what was written, and is as ever without circumstances', () => {
    const approval = approvalBy(who('bob', MFA), who('carol'), who('dave', UNKNOWN));
    expect(read(stored(approval))).toEqual(approval);
    expect(stored(approvalBy(who('carol'))).approvers).toEqual([
      { issuer: 'urn:i', subject: 'carol', method: 'jwt', roles: ['admin'], at: at.toISOString() },
    ]);
  });

  it.each([
    { ...MFA, more: 1 },
    { ...MFA, amr: 'otp' },
    { ...MFA, acr: 1 },
    { acr: 'mfa', amr: [] },
    'mfa',
  ])('is malformed with other circumstances (%j)', (circumstances) => {
    const row = stored(approvalBy());
    const approvers = [{ ...who('bob'), at: at.toISOString(), circumstances }];
    expect(() => read({ ...row, approvers })).toThrow(
      expect.objectContaining({ code: 'integrity_failed' }),
    );
  });
});
