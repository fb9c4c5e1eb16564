/** Drafts and standings as the routes make them. */
import type { AuditDraft, IndexColumns } from '../../src/audit/ports.ts';
import type { EpochStanding } from '../../src/epoch.ts';

export const INSTANCE = '0b8f4c0e-6a5f-4d43-9d0e-0f4c6f5f9a11';
export const KEY_ID = '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90';

export const draftOf = (changes: Partial<AuditDraft> = {}): AuditDraft => ({
  requestId: 'req-1',
  actor: {
    issuer: 'urn:example:issuer',
    subject: 'alice',
    method: 'jwt',
    session: new Uint8Array(16).fill(7),
    acr: 'urn:example:mfa',
    amr: ['hwk', 'pwd'],
    roles: ['operator', 'user'],
  },
  operation: 'wrap',
  namespace: 'default',
  keyRef: 'payments',
  keyId: KEY_ID,
  keyVersion: 3,
  suite: 0x0101,
  outcome: 'ok',
  decision: { revision: 'built-in-1', policies: ['role-user'] },
  source: '192.0.2.7',
  contextKeys: ['tenant'],
  contextValues: null,
  aad: null,
  loggedContext: {},
  tlsGroup: 'X25519MLKEM768',
  grantId: null,
  approvalId: null,
  engine: 'native',
  origin: null,
  durationUs: 843,
  items: [],
  detail: {},
  ...changes,
});

export const standingOf = (epoch: number, changes: Partial<EpochStanding> = {}): EpochStanding => ({
  epoch,
  namespace: 'default',
  keyId: KEY_ID,
  keyName: 'payments',
  ...changes,
});

/** A change of another key, which touches nobody else. */
export const otherKey = {
  scope: 'key',
  namespace: 'default',
  keyId: '11111111-2222-4333-8444-555555555555',
  keyName: 'other',
} as const;

export const thisKey = {
  scope: 'key',
  namespace: 'default',
  keyId: KEY_ID,
  keyName: 'payments',
} as const;

/** Of entries whose columns nobody looks at. */
export const NO_COLUMNS: IndexColumns = {
  at: new Date(0),
  namespace: '',
  operation: '',
  keyId: null,
  keyRef: null,
  subject: '',
  outcome: '',
};
