/** Everything stored that governs access, opened over one database. */
import { Denials } from './denials.ts';
import { StoredIssuers } from './issuers.ts';
import { Approvals } from './approvals.ts';
import type { ApprovalParts } from './approvals.ts';
import { LocalTokens } from './local-tokens.ts';
import { Namespaces } from './namespaces.ts';

export interface Governance {
  readonly denials: Denials;
  readonly issuers: StoredIssuers;
  readonly namespaces: Namespaces;
  readonly approvals: Approvals;
  readonly localTokens: LocalTokens;
}

export const openGovernance = (parts: ApprovalParts): Governance => ({
  denials: new Denials(parts),
  issuers: new StoredIssuers(parts),
  namespaces: new Namespaces(parts),
  approvals: new Approvals(parts),
  localTokens: new LocalTokens(parts),
});
