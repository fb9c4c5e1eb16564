/**
 * Rotation policies that a namespace gives to its keys by their labels.
 *
 * All policies of a namespace stand under one seal (`PolicySetSeal`), whose revision rises with each
 * change of any of them and is the revision of the policy that was changed. So revisions never come
 * again, also not for a policy of a name that was deleted, and what an old policy did never counts as
 * done by a new one. Namespaces that never had a policy have no seal.
 */
import type { Grant } from '../access/grant.ts';
import type { SecurityChange, SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { Changes, plainPlan } from './changes.ts';
import type { ChangeParts, ChangeSubject, Plan } from './changes.ts';
import type { ChangeEvent } from './events.ts';
import type { IntegrityWatch } from './integrity.ts';
import type { Labels } from './model.ts';
import { checkLabels, checkName, checkReason, sameLabels } from './names.ts';
import type { ChangeDone, ChangeRun } from './operations.ts';
import { policyEvent } from './policy-events.ts';
import type { PoliciesChange, PolicyEffects, PolicyPreviews } from './policy-effects.ts';
import type { KeyWrite, NamespacePolicy, PolicyStore } from './ports.ts';
import {
  newPolicy,
  paused,
  policyJson,
  requirePauseAsRead,
  resumed,
  sameRules,
} from './rotation-policy.ts';
import type { Pause, PolicyLimits, PolicyTerms, RotationPolicy } from './rotation-policy.ts';
import { attestPolicy, attestPolicySet, hashOfPolicies, verifyPolicySet } from './row-mac.ts';
import { rankPolicies } from './selector-policy.ts';
import type { RankedPolicies } from './selector-policy.ts';

/** Policies of one namespace. */
export const MAX_POLICIES = 200;
export const MAX_PRIORITY = 1_000_000;
/** Namespaces whose policies are remembered. */
const MAX_CACHED = 1_000;
/** What stands on policies stands on this name; no key can have it. */
const TOUCHED = 'rotation-policies/';

export interface PolicyInput {
  readonly name: string;
  readonly selector: Labels;
  readonly priority: number;
  readonly terms: PolicyTerms;
  /** As the caller read it; it changes nothing. */
  readonly isPaused?: boolean;
}

/** A change of one policy; null where it does not exist before or after. */
export interface PreparedPolicyChange {
  readonly before: NamespacePolicy | null;
  readonly after: NamespacePolicy | null;
  readonly detail: Readonly<Record<string, string | number | boolean | null>>;
  /** All policies, before and after. */
  readonly policies: PoliciesChange;
  /** What followers are told; none where nothing changes. */
  readonly events: readonly ChangeEvent[];
  /** Of a dry run. */
  readonly effects?: PolicyEffects;
}

/** The pause of the whole namespace as a change leaves it, at the revision of the set. */
export interface PreparedPause extends Pick<
  PreparedPolicyChange,
  'detail' | 'policies' | 'effects' | 'events'
> {
  readonly paused: Pause | null;
  readonly revision: number;
}

export type PauseRun = ChangeRun<PreparedPause>;
export type PauseDone = ChangeDone<PreparedPause>;
export type PolicyRun = ChangeRun<PreparedPolicyChange>;
export type PolicyDone = ChangeDone<PreparedPolicyChange>;

/** The verified policies of a namespace. */
export interface PolicySet extends RankedPolicies {
  /** 0 while there never was a policy. */
  readonly revision: number;
  /** In byte order of their names. */
  readonly policies: readonly NamespacePolicy[];
}

export interface NamespacePolicyParts extends Omit<ChangeParts, 'integrity'> {
  readonly policies: PolicyStore;
  readonly integrity: IntegrityWatch;
  readonly clock: () => Date;
  readonly policyLimits: PolicyLimits;
  /** Tells in a dry run what a change would do; it says nothing of that unless told. */
  readonly previews?: Pick<PolicyPreviews, 'ofPolicies'>;
}

type ToldChange = Pick<PreparedPolicyChange, 'detail' | 'events'>;

const OF_POLICIES = {
  touched: () => ({ keyId: null, keyName: TOUCHED, also: [] }),
  facts: ({ detail }: ToldChange) => ({
    keyRef: null,
    keyId: null,
    keyVersion: null,
    suite: null,
    detail,
  }),
  events: (_operation: unknown, { events }: ToldChange) => events,
} satisfies ChangeSubject<ToldChange>;

export class NamespaceRotationPolicies {
  readonly #parts: NamespacePolicyParts;
  readonly #changes: Changes<PreparedPolicyChange>;
  readonly #pauses: Changes<PreparedPause>;
  readonly #cache: PolicyCache;

  constructor(parts: NamespacePolicyParts) {
    this.#parts = parts;
    const preview = async <C extends Pick<PreparedPolicyChange, 'policies'>>(
      _operation: unknown,
      change: C,
    ): Promise<C> =>
      parts.previews === undefined
        ? change
        : { ...change, effects: await parts.previews.ofPolicies(change.policies) };
    this.#changes = new Changes<PreparedPolicyChange>(parts, { ...OF_POLICIES, preview });
    this.#pauses = new Changes<PreparedPause>(parts, { ...OF_POLICIES, preview });
    this.#cache = new PolicyCache(parts.epoch);
  }

  /** As this instance knows them; a change of another one is learnt with the epoch. */
  of(namespace: string): Promise<PolicySet> {
    return this.#cache.get(namespace, () => this.#read(namespace));
  }

  /** As they stand in the database. @throws TwofoldError integrity_failed */
  current(namespace: string): Promise<PolicySet> {
    return this.#read(namespace);
  }

  /** @throws TwofoldError integrity_failed */
  list(grant: Grant<'rotations.read'>): Promise<PolicySet> {
    return this.#read(grant.namespace);
  }

  /** @throws TwofoldError not_found, integrity_failed */
  async get(grant: Grant<'rotations.read'>, name: string): Promise<NamespacePolicy> {
    return existing(find(await this.#read(grant.namespace), name));
  }

  /**
   * Makes a policy, or changes the one of that name, whose revision `run.ifMatch` then names.
   * @throws TwofoldError precondition_required, etag_mismatch, invalid_value, quota_exceeded
   */
  put(
    grant: Grant<'rotation-policies.change'>,
    { name, selector, priority, terms, isPaused }: PolicyInput,
    run: PolicyRun,
  ): Promise<PolicyDone> {
    checkName(name);
    checkLabels(selector);
    if (!Number.isSafeInteger(priority) || Math.abs(priority) > MAX_PRIORITY) {
      throw new TwofoldError('invalid_value', `priority is at most ${String(MAX_PRIORITY)}.`);
    }
    return this.#change(grant, { name, kind: 'set' }, run, (before, revision) => {
      if (before !== null && run.ifMatch === null) throw new TwofoldError('precondition_required');
      requirePauseAsRead(before?.policy ?? null, isPaused);
      const policy = {
        ...newPolicy(terms, this.#parts.policyLimits, revision),
        paused: before?.policy.paused ?? null,
      };
      return { namespace: grant.namespace, name, selector, priority, policy };
    });
  }

  delete(
    grant: Grant<'rotation-policies.change'>,
    name: string,
    run: PolicyRun,
  ): Promise<PolicyDone> {
    return this.#change(grant, { name, kind: 'delete' }, run, (before) => {
      existing(before);
      return null;
    });
  }

  pause(
    grant: Grant<'rotation-policies.change'>,
    { name, reason }: { readonly name: string; readonly reason: string },
    run: PolicyRun,
  ): Promise<PolicyDone> {
    checkReason(reason);
    const at = this.#parts.clock();
    return this.#change(grant, { name, kind: 'pause', reason }, run, (before) =>
      withPolicy(existing(before), (policy) => paused(policy, { at, reason })),
    );
  }

  resume(
    grant: Grant<'rotation-policies.change'>,
    { name, reason }: { readonly name: string; readonly reason: string },
    run: PolicyRun,
  ): Promise<PolicyDone> {
    checkReason(reason);
    return this.#change(grant, { name, kind: 'resume', reason }, run, (before) =>
      withPolicy(existing(before), resumed),
    );
  }

  /** Pauses what policies ask for in the whole namespace; itself where it is paused already. */
  pauseAll(
    grant: Grant<'rotation-policies.change'>,
    reason: string,
    run: PauseRun,
  ): Promise<PauseDone> {
    checkReason(reason);
    const pause = { at: this.#parts.clock(), reason };
    const detail = { kind: 'pause-all', reason };
    return this.#changePause(grant, detail, run, (before) => before ?? pause);
  }

  /** Ends the pause; what is overdue runs once. */
  resumeAll(
    grant: Grant<'rotation-policies.change'>,
    reason: string,
    run: PauseRun,
  ): Promise<PauseDone> {
    checkReason(reason);
    return this.#changePause(grant, { kind: 'resume-all', reason }, run, () => null);
  }

  #changePause(
    grant: Grant<'rotation-policies.change'>,
    what: { readonly kind: string; readonly reason: string },
    run: PauseRun,
    next: (before: Pause | null) => Pause | null,
  ): Promise<PauseDone> {
    return this.#pauses.run(grant, run, async () => {
      const { namespace } = grant;
      const set = await this.#read(namespace);
      if (run.ifMatch !== null && run.ifMatch !== set.revision) {
        throw new TwofoldError('etag_mismatch');
      }
      const pause = next(set.paused);
      const same = (pause === null) === (set.paused === null);
      const revision = same ? set.revision : set.revision + 1;
      const change = {
        paused: pause,
        revision,
        detail: { ...what, setRevision: revision },
        policies: { namespace, before: set, after: { ...set, paused: pause }, name: null },
        events: same ? [] : [eventOfPause(namespace, what, revision)],
      };
      if (same) return plainPlan(change, []);
      const seal = { namespace, revision, hash: hashOfPolicies(set.policies), paused: pause };
      const row = await attestPolicySet(this.#parts.mac, seal);
      return plainPlan(change, [{ kind: 'put-policy-set', row, expected: set.revision }]);
    });
  }

  #change(
    grant: Grant<'rotation-policies.change'>,
    what: { readonly name: string; readonly kind: string; readonly reason?: string },
    run: PolicyRun,
    next: (before: NamespacePolicy | null, revision: number) => NamespacePolicy | null,
  ): Promise<PolicyDone> {
    return this.#changes.run(grant, run, async () => {
      const set = await this.#read(grant.namespace);
      const before = find(set, what.name);
      if (run.ifMatch !== null && run.ifMatch !== before?.policy.revision) {
        throw new TwofoldError('etag_mismatch');
      }
      const revision = set.revision + 1;
      const wanted = next(before, revision);
      const same = before !== null && wanted !== null && samePolicies(before, wanted);
      const after = same ? before : wanted && withPolicy(wanted, (policy) => policy, revision);
      const detail = { ...what, setRevision: same ? set.revision : revision };
      const { namespace } = grant;
      if (same) {
        const policies = { namespace, before: set, after: set, name: what.name };
        return plainPlan({ before, after, detail, policies, events: [] }, []);
      }
      return this.#plan(namespace, set, { before, after, detail });
    });
  }

  async #plan(
    namespace: string,
    set: PolicySet,
    { before, after, detail }: Pick<PreparedPolicyChange, 'before' | 'after' | 'detail'>,
  ): Promise<Plan<PreparedPolicyChange>> {
    const { mac } = this.#parts;
    const others = set.policies.filter((policy) => policy !== before);
    const policies = byName(after === null ? others : [...others, after]);
    if (policies.length > MAX_POLICIES) {
      throw new TwofoldError(
        'quota_exceeded',
        `A namespace has at most ${String(MAX_POLICIES)} rotation policies.`,
      );
    }
    const { paused: pause } = set;
    const seal = {
      namespace,
      revision: set.revision + 1,
      hash: hashOfPolicies(policies),
      paused: pause,
    };
    const name = after?.name ?? before?.name ?? '';
    const write: KeyWrite =
      after === null
        ? { kind: 'delete-rotation-policy', namespace, name }
        : { kind: 'put-rotation-policy', row: await attestPolicy(mac, after) };
    const row = await attestPolicySet(mac, seal);
    const changed = JSON.stringify([before && facts(before), after && facts(after)]);
    const change = {
      before,
      after,
      detail: { ...detail, changed },
      policies: { namespace, before: set, after: rankPolicies(policies, pause), name },
      events: [eventOf(namespace, name, { before, after, detail })],
    };
    return plainPlan(change, [write, { kind: 'put-policy-set', row, expected: set.revision }]);
  }

  #read(namespace: string): Promise<PolicySet> {
    const { policies: store, epoch, mac, integrity } = this.#parts;
    return integrity.over(`rotation-policies\n${namespace}`, async () => {
      const stored = await store.policies(namespace, epoch.current);
      await verifyPolicySet(mac, namespace, stored);
      const policies = stored.policies.map(({ value }) => value);
      const { revision, paused: pause } = stored.seal?.value ?? { revision: 0, paused: null };
      return { ...rankPolicies(policies, pause), policies, revision };
    });
  }
}

/** By namespace, until a change of policies is learnt. */
class PolicyCache {
  readonly #epoch: SecurityEpoch;
  readonly #sets = new Map<string, PolicySet>();

  constructor(epoch: SecurityEpoch) {
    this.#epoch = epoch;
    epoch.onChange((change) => this.#drop(change));
  }

  async get(namespace: string, read: () => Promise<PolicySet>): Promise<PolicySet> {
    const known = this.#sets.get(namespace);
    if (known !== undefined) return known;
    const standing = { epoch: this.#epoch.current, namespace, keyId: null, keyName: TOUCHED };
    const set = await read();
    if (this.#epoch.touches(standing)) return set;
    if (this.#sets.size >= MAX_CACHED) this.#sets.clear();
    this.#sets.set(namespace, set);
    return set;
  }

  #drop({ scope, namespace, keyId, keyName }: SecurityChange): void {
    if (scope !== 'key') return;
    if (keyId === null && keyName === null) this.#sets.clear();
    else if (keyName === TOUCHED) this.#sets.delete(namespace);
  }
}

const find = ({ policies }: PolicySet, name: string): NamespacePolicy | null =>
  policies.find((policy) => policy.name === name) ?? null;

function existing(policy: NamespacePolicy | null): NamespacePolicy {
  if (policy !== null) return policy;
  throw new TwofoldError('not_found', 'The namespace has no rotation policy of this name.');
}

function withPolicy(
  row: NamespacePolicy,
  change: (policy: RotationPolicy) => RotationPolicy,
  revision?: number,
): NamespacePolicy {
  const policy = change(row.policy);
  return { ...row, policy: revision === undefined ? policy : { ...policy, revision } };
}

/** Whether they say the same, whatever their revisions are. */
const samePolicies = (a: NamespacePolicy, b: NamespacePolicy): boolean =>
  a.priority === b.priority && sameLabels(a.selector, b.selector) && sameRules(a.policy, b.policy);

const byName = (policies: readonly NamespacePolicy[]): readonly NamespacePolicy[] =>
  policies.toSorted((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));

function eventOf(
  namespace: string,
  name: string,
  { before, after, detail }: Pick<PreparedPolicyChange, 'before' | 'after' | 'detail'>,
): ChangeEvent {
  const { kind, reason, setRevision } = detail;
  const data = {
    setRevision,
    ...(reason === undefined ? {} : { reason }),
    changed: { from: before && facts(before), to: after && facts(after) },
  };
  return policyEvent({ namespace, name, kind: String(kind), isNew: before === null, data });
}

function eventOfPause(
  namespace: string,
  { kind, reason }: { readonly kind: string; readonly reason: string },
  setRevision: number,
): ChangeEvent {
  const data = { setRevision, reason };
  return policyEvent({ namespace, name: null, kind, isNew: false, data });
}

/** Values of labels may be private: only their names are written to the audit log. */
const facts = ({ selector, priority, policy }: NamespacePolicy) => ({
  labelNames: Object.keys(selector).sort(),
  priority,
  policy: policyJson(policy),
});
