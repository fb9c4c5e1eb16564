/**
 * The Cedar policies of each namespace, as a set under one seal.
 *
 * A policy is validated strictly before it is stored, and the set as a whole after each change has to
 * leave its author able to change it again. Nothing but these policies permits anything in a namespace.
 */
import type { CompiledPolicy } from '../access/compiled-policy.ts';
import { policyRefused } from '../access/policy-error.ts';
import { limitsIn } from '../access/policy-limit.ts';
import type { PolicyValidation } from '../access/policy-validation.ts';
import { EVERYONE_IDENTIFIES, TEMPLATE_NAMES } from '../access/policies.ts';
import type { Grant, Operation } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import type { KeyWrite } from '../keyring/ports.ts';
import { lockedOut, mayBeDone } from './lock-out.ts';
import { SealedSet, requireMatch } from './sealed-set.ts';
import type {
  PastMember,
  SealedSetParts,
  SetDone,
  SetEdit,
  SetKind,
  SetRun,
  SetView,
} from './sealed-set.ts';
import { cedarText, compileStored, policyFromStored, policyToStored } from './stored-policy.ts';
import type { StoredPolicy } from './stored-policy.ts';

export const POLICY_LIMITS = {
  /** Policies of one namespace. */
  policies: 2_000,
  /** Characters of one policy. */
  text: 8_192,
  /** Characters of all policies of a namespace. */
  total: 1_048_576,
  /** Their limits, each a bucket that every request of whom it admits is charged to. */
  limited: 32,
} as const;

type ChangeGrant = Grant<'policies.change'>;
type ReadGrant = Grant<'policies.read'> | ChangeGrant;
type View = SetView<StoredPolicy>;
type CompiledPolicies = ReadonlyMap<string, CompiledPolicy>;

const KIND: SetKind<StoredPolicy> = {
  kind: 'policy',
  most: POLICY_LIMITS.policies,
  reach: 'namespace',
  toJson: policyToStored,
  fromJson: policyFromStored,
};

/** How a change is made beside what it changes. */
export interface PolicyChanging {
  /** Others have agreed that nobody, or not its author, may be left who could change policies. */
  readonly confirmed: boolean;
}

export class Policies {
  readonly #set: SealedSet<StoredPolicy>;
  readonly #validation: PolicyValidation;
  readonly #clock: () => Date;

  constructor(parts: SealedSetParts, validation: PolicyValidation) {
    this.#clock = parts.clock;
    this.#set = new SealedSet(parts, KIND);
    this.#validation = validation;
  }

  /** What is in force, for decisions. @throws TwofoldError integrity_failed */
  inForce(namespace: string): Promise<View> {
    return this.#set.of(namespace);
  }

  /**
   * Whether any policy in force may permit it to anybody, on the namespace. Where there is none, who asks
   * has a token of the machine, which mends that too.
   */
  async mayBeDone(operation: Operation, namespace: string): Promise<boolean> {
    const { members } = await this.#set.of(namespace);
    if (members.size === 0) return true;
    const policies = [...members.values()].map(({ value }) => compileStored(namespace, value));
    return mayBeDone(operation, namespace, policies);
  }

  list({ namespace }: ReadGrant): Promise<View> {
    return this.#set.of(namespace);
  }

  /** What each revision changed, newest first. */
  history(
    { namespace }: ReadGrant,
    query: {
      readonly name: string | null;
      readonly before: { readonly revision: number; readonly name: string } | null;
      readonly pageSize: number;
    },
  ): Promise<readonly PastMember<StoredPolicy>[]> {
    return this.#set.history({ ...query, namespace });
  }

  /** The set as it stood. @throws TwofoldError not_found */
  async at({ namespace }: ReadGrant, revision: number): Promise<View> {
    const { revision: newest } = await this.#set.of(namespace);
    if (revision > newest) throw new TwofoldError('not_found', 'There is no such revision yet.');
    return this.#set.at(namespace, revision);
  }

  /** @throws PolicyInvalid; TwofoldError would_lock_out, quota_exceeded, precondition_required, etag_mismatch */
  put(
    grant: ChangeGrant,
    { name, policy }: { readonly name: string; readonly policy: StoredPolicy },
    run: SetRun<StoredPolicy>,
    changing: PolicyChanging,
  ): Promise<SetDone<StoredPolicy>> {
    return this.#set.change(grant, run, async (view) => {
      requireMatch(run, view.members.get(name) ?? null);
      await this.#validate(grant.namespace, name, policy);
      const entries = new Map([[name, policy]]);
      return this.#checked(grant, view, entries, { name, kind: 'put' }, changing);
    });
  }

  /** @throws TwofoldError not_found, would_lock_out, precondition_required, etag_mismatch */
  delete(
    grant: ChangeGrant,
    name: string,
    run: SetRun<StoredPolicy>,
    changing: PolicyChanging,
  ): Promise<SetDone<StoredPolicy>> {
    return this.#set.change(grant, run, (view) => {
      const before = view.members.get(name);
      if (before === undefined) throw new TwofoldError('not_found', 'There is no such policy.');
      requireMatch(run, before);
      const entries = new Map([[name, null]]);
      return this.#checked(grant, view, entries, { name, kind: 'delete' }, changing);
    });
  }

  /**
   * Makes the set what it was at a revision; `run.ifMatch` names the revision that it is at.
   * @throws PolicyInvalid; TwofoldError not_found, would_lock_out, precondition_required, etag_mismatch
   */
  rollBack(
    grant: ChangeGrant,
    revision: number,
    run: SetRun<StoredPolicy>,
    changing: PolicyChanging,
  ): Promise<SetDone<StoredPolicy>> {
    return this.#set.change(grant, run, async (view) => {
      if (run.ifMatch === null) throw new TwofoldError('precondition_required');
      if (run.ifMatch !== view.revision) throw new TwofoldError('etag_mismatch');
      if (revision > view.revision) {
        throw new TwofoldError('not_found', 'There is no such revision yet.');
      }
      const { members } = await this.#set.at(grant.namespace, revision);
      // What comes back is held to what is stored today: the schema may have changed since.
      for (const [name, { value }] of members) {
        if (!isSame(grant.namespace, value, view.members.get(name)?.value)) {
          await this.#validate(grant.namespace, name, value);
        }
      }
      const names = new Set([...view.members.keys(), ...members.keys()]);
      const entries = new Map(
        [...names].map((name) => [name, members.get(name)?.value ?? null] as const),
      );
      return this.#checked(grant, view, entries, { kind: 'roll-back', to: revision }, changing);
    });
  }

  /**
   * What would be in force after changes, null to take a policy away; nothing is written.
   * @throws PolicyInvalid; TwofoldError not_found
   */
  async tried(
    { namespace }: Grant<'policies.read'>,
    changes: ReadonlyMap<string, StoredPolicy | null>,
  ): Promise<{ readonly revision: number; readonly policies: CompiledPolicies }> {
    const { revision, members } = await this.#set.of(namespace);
    const after = new Map(
      [...members].map(([name, { value }]) => [name, compileStored(namespace, value)]),
    );
    for (const [name, policy] of changes) {
      if (policy !== null) {
        await this.#validate(namespace, name, policy);
        after.set(name, compileStored(namespace, policy));
      } else if (!after.delete(name)) {
        throw new TwofoldError('not_found', 'There is no such policy.');
      }
    }
    return { revision, policies: after };
  }

  /**
   * Writes the roles into a namespace that has no policies yet, with the change that makes it. Nothing of
   * them is for everyone: what answers whoever may do nothing there would say that it is there.
   */
  initial(
    grant: Grant<'namespaces.change'> | ChangeGrant,
    namespace: string,
  ): Promise<readonly KeyWrite[]> {
    const nothing = { revision: 0, members: new Map() };
    return this.#set.writes(grant, namespace, nothing, ROLES);
  }

  /** Writes the roles where there never was a policy. */
  begin(grant: ChangeGrant, run: SetRun<StoredPolicy>): Promise<SetDone<StoredPolicy>> {
    return this.#set.change(grant, run, ({ revision }) => ({
      entries: revision === 0 ? INITIAL : new Map(),
      detail: { kind: 'initial' },
    }));
  }

  /** @throws PolicyInvalid; TwofoldError rate_limited */
  async #validate(namespace: string, name: string, policy: StoredPolicy): Promise<void> {
    const text = cedarText(namespace, policy.source);
    if (text.length > POLICY_LIMITS.text) throw policyRefused('the text is too long');
    // In its thread first: whatever of a text is too much for Cedar is so there, and not here.
    await this.#validation.validate(text, name);
    const { annotatedId } = compileStored(namespace, policy);
    if (annotatedId !== null && annotatedId !== name) {
      throw policyRefused('its @id is not the name under which it is stored');
    }
  }

  #checked(
    grant: ChangeGrant,
    view: View,
    entries: SetEdit<StoredPolicy>['entries'],
    detail: SetEdit<StoredPolicy>['detail'],
    { confirmed }: PolicyChanging,
  ): SetEdit<StoredPolicy> {
    const { namespace } = grant;
    const stood = new Map([...view.members].map(([name, { value }]) => [name, value]));
    const after = new Map(stood);
    for (const [name, value] of entries) {
      if (value === null) after.delete(name);
      else after.set(name, value);
    }
    const policies = [...after.values()];
    const total = policies.reduce((sum, policy) => sum + lengthOf(policy), 0);
    if (total > POLICY_LIMITS.total) {
      throw new TwofoldError('quota_exceeded', 'The policies of a namespace are at most 1 MiB.');
    }
    const compiled = policies.map((policy) => compileStored(namespace, policy));
    const before = [...view.members.values()].map(({ value }) => compileStored(namespace, value));
    requireFewLimited(before, compiled);
    const locked = lockedOut(grant, { before: stood, after }, this.#clock());
    if (locked === null) return { entries, detail };
    if (!confirmed) throw new TwofoldError('would_lock_out', locked);
    return { entries, detail: { ...detail, locksOut: true } };
  }
}

const role = (name: (typeof TEMPLATE_NAMES)[number]): StoredPolicy => ({
  description: `What the role ${name} may do.`,
  source: { kind: 'template', template: name, principal: { role: name }, key: null, limit: null },
});

const ROLES: ReadonlyMap<string, StoredPolicy> = new Map(
  TEMPLATE_NAMES.map((name) => [`role-${name}`, role(name)] as const),
);

/** Of the root, whose existence is no secret. */
const INITIAL: ReadonlyMap<string, StoredPolicy> = new Map([
  [
    'everyone-identifies',
    {
      description: 'Everyone with a token may ask who they are and what they may do.',
      source: { kind: 'cedar', text: EVERYONE_IDENTIFIES },
    },
  ],
  ...ROLES,
]);

const isSame = (namespace: string, a: StoredPolicy, b: StoredPolicy | undefined): boolean =>
  b !== undefined && cedarText(namespace, a.source) === cedarText(namespace, b.source);

const lengthOf = ({ source }: StoredPolicy): number =>
  source.kind === 'cedar' ? source.text.length : 0;

const limitedOf = (policies: readonly CompiledPolicy[]): number =>
  policies.reduce((sum, { limit }) => sum + limitsIn(limit), 0);

/** What adds none is taken, so that too many can become fewer. @throws TwofoldError quota_exceeded */
function requireFewLimited(
  before: readonly CompiledPolicy[],
  after: readonly CompiledPolicy[],
): void {
  const limited = limitedOf(after);
  if (limited <= POLICY_LIMITS.limited || limited <= limitedOf(before)) return;
  const most = String(POLICY_LIMITS.limited);
  throw new TwofoldError('quota_exceeded', `Policies of a namespace have at most ${most} limits.`);
}
