/** Decisions in each namespace by the policies that are stored for it, and by nothing else. */
import { DECISIONS_REMEMBERED, PolicyAuthorizer } from '../access/authorize.ts';
import { BoundedCache } from '../access/bounded-cache.ts';
import type { Decision } from '../access/grant.ts';
import type { PolicySet } from '../access/policy-set.ts';
import type { AccessControl } from '../access/ports.ts';
import type { SecurityEpoch } from '../epoch.ts';
import type { Namespaces } from './namespaces.ts';
import type { Policies } from './policies.ts';
import { policySetOf } from './policy-sets.ts';
import type { SetView } from './sealed-set.ts';
import type { StoredPolicy } from './stored-policy.ts';

interface AccessParts {
  readonly policies: Pick<Policies, 'inForce'>;
  readonly namespaces: Pick<Namespaces, 'standing'>;
  readonly epoch: SecurityEpoch;
  readonly clock: () => Date;
}

/** Of a namespace that is not there. */
const NO_POLICIES: SetView<StoredPolicy> = { revision: 0, members: new Map() };

export class StoredAccess implements AccessControl {
  readonly #parts: AccessParts;
  /** By view, which is another one after each change. */
  readonly #sets = new WeakMap<SetView<StoredPolicy>, PolicySet>();
  readonly #decisions = new BoundedCache<string, Decision>(DECISIONS_REMEMBERED);

  constructor(parts: AccessParts) {
    this.#parts = parts;
  }

  /** Decisions remembered at the moment. */
  get cached(): number {
    return this.#decisions.size;
  }

  async in(namespace: string): Promise<PolicyAuthorizer> {
    const { policies, namespaces, epoch, clock } = this.#parts;
    // Before the policies: what is learnt from now on makes the grants old.
    const { current } = epoch;
    // Names of nothing come from whoever asks: none of them is read for, or remembered.
    const absent = (await namespaces.standing(namespace)) === 'absent';
    const view = absent ? NO_POLICIES : await policies.inForce(namespace);
    return new PolicyAuthorizer({
      policies: this.#setOf(namespace, view),
      epoch: () => current,
      decisions: this.#decisions,
      clock,
    });
  }

  #setOf(namespace: string, view: SetView<StoredPolicy>): PolicySet {
    const known = this.#sets.get(view);
    if (known !== undefined) return known;
    const made = policySetOf(namespace, view);
    this.#sets.set(view, made);
    return made;
  }
}
