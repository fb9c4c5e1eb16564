/** Everything stored that governs access, opened over one database. */
import { Denials } from './denials.ts';
import { StoredIssuers } from './issuers.ts';
import { LoggableContext } from './loggable-context.ts';
import { Approvals } from './approvals.ts';
import type { ApprovalParts } from './approvals.ts';
import { NamespaceLimitSets } from './limits.ts';
import { LocalTokens } from './local-tokens.ts';
import { Policies } from './policies.ts';
import { VALIDATION_HERE } from '../access/policy-validation.ts';
import type { PolicyValidation } from '../access/policy-validation.ts';
import { Delegation } from '../access/delegation.ts';
import { KeyGrants } from './key-grants.ts';
import type { FindKey } from './key-grants.ts';
import { Namespaces } from './namespaces.ts';

export interface Governance {
  readonly denials: Denials;
  readonly issuers: StoredIssuers;
  readonly limits: NamespaceLimitSets;
  readonly namespaces: Namespaces;
  readonly approvals: Approvals;
  readonly localTokens: LocalTokens;
  /** What audit entries may say in clear. */
  readonly loggable: LoggableContext;
  readonly policies: Policies;
  readonly grants: KeyGrants;
  /** What is asked where no policy permits. */
  readonly delegation: Delegation;
}

/** What a new namespace begins with: nothing, so that nobody may do anything, or the roles. */
export type InitialPolicies = 'none' | 'roles';

export interface GovernanceParts extends ApprovalParts {
  readonly findKey: FindKey;
  /** In a thread of its own, unless nothing else waits for this one. */
  readonly validation?: PolicyValidation;
}

export function openGovernance(
  parts: GovernanceParts,
  initial: InitialPolicies = 'none',
): Governance {
  const policies = new Policies(parts, parts.validation ?? VALIDATION_HERE);
  const grants = new KeyGrants(parts);
  return {
    policies,
    denials: new Denials(parts),
    issuers: new StoredIssuers(parts),
    limits: new NamespaceLimitSets(parts),
    namespaces: new Namespaces(parts, initial === 'roles' ? policies : null),
    approvals: new Approvals(parts),
    localTokens: new LocalTokens(parts),
    loggable: new LoggableContext(parts),
    grants,
    delegation: new Delegation(grants, parts.epoch, parts.clock),
  };
}
