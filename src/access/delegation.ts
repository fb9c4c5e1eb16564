/**
 * Delegated grants, the second place where a `Grant` is made: what no policy permits, somebody who may do
 * it can have lent to the principal, on one key, for a time.
 *
 * They are looked at only where the denial was by default. A policy that forbids, or one that failed
 * while it was evaluated, denies whatever was lent.
 */
import type { SecurityEpoch } from '../epoch.ts';
import { mintGrant } from './grant.ts';
import type { Decision, Grant, Operation, Principal } from './grant.ts';
import type { BodyFacts, Resource } from './ports.ts';

/** Operations that may be lent: uses of one key. What changes keys, or lends further, is none of them. */
export const LENDABLE = [
  'keys.read',
  'wrap',
  'unwrap',
  'rewrap',
  'data-keys.create',
  'data-keys.create-wrapped',
  'encapsulate',
  'decapsulate',
  'sign',
  'verify',
  'csr',
  'mac',
  'verify-mac',
] as const satisfies readonly Operation[];
export type Lendable = (typeof LENDABLE)[number];

/** Those of them whose requests name an encryption context. */
export const CONTEXT_BOUND: readonly Lendable[] = [
  'wrap',
  'unwrap',
  'rewrap',
  'data-keys.create',
  'data-keys.create-wrapped',
];

export type Pairs = Readonly<Record<string, string>>;

/** What the encryption context of each use has to be, or has to hold. */
export interface ContextConstraint {
  readonly kind: 'equals' | 'includes';
  readonly pairs: Pairs;
}

interface Party {
  readonly issuer: string;
  readonly subject: string;
}

/** A grant in the rows, as far as it decides. */
export interface DelegatedGrant {
  readonly id: string;
  readonly granter: Party;
  readonly grantee: Party;
  readonly operations: readonly Lendable[];
  readonly encryptionContext: ContextConstraint | null;
  readonly expiresAt: Date;
}

export interface DelegatedGrants {
  /** Of the key that a request names, verified; none where there is no such key. */
  ofKey(namespace: string, key: string): Promise<readonly DelegatedGrant[]>;
}

const PREFIX = 'grant/';
/** No policy's id holds a slash. */
export const policyOfGrant = (id: string): string => `${PREFIX}${id}`;

/** The grant behind a decision; null where policies permitted it. */
export function grantIdOf({ policies }: Pick<Decision, 'policies'>): string | null {
  const found = policies.find((id) => id.startsWith(PREFIX));
  return found === undefined ? null : found.slice(PREFIX.length);
}

/** Of the ids of policies that decided. */
export const isDelegatedPolicy = (id: string): boolean => id.startsWith(PREFIX);

/** Whether it stands on what was lent, and on no policy. */
export const isDelegated = ({ decision }: Pick<Grant<Operation>, 'decision'>): boolean =>
  decision.policies.some(isDelegatedPolicy);

const same = (a: Party, b: Party) => a.issuer === b.issuer && a.subject === b.subject;

/** One question that no policy permitted. */
interface Denied<O extends Operation> {
  readonly principal: Principal;
  readonly operation: O;
  readonly resource: Resource;
  readonly denial: Decision;
}

export class Delegation {
  readonly #grants: DelegatedGrants;
  readonly #epoch: SecurityEpoch;
  readonly #clock: () => Date;

  constructor(grants: DelegatedGrants, epoch: SecurityEpoch, clock: () => Date) {
    this.#grants = grants;
    this.#epoch = epoch;
    this.#clock = clock;
  }

  /**
   * What was lent for it; null where nothing was, or where the denial was none by default. Without
   * `facts` constraints of the encryption context are left open: the request has to ask again with them.
   * @throws TwofoldError integrity_failed, database_unavailable
   */
  async permit<O extends Operation>(
    { principal, operation, resource, denial }: Denied<O>,
    facts?: BodyFacts,
  ): Promise<Grant<O> | null> {
    const { namespace, key } = resource;
    // Policies that forbade, or that failed, are named by the denial.
    if (key === null || denial.allowed || denial.policies.length > 0) return null;
    if (!isLendable(operation) && operation !== 'grants.retire') return null;
    const epoch = this.#epoch.current;
    const now = this.#clock();
    const lent = (await this.#grants.ofKey(namespace, key))
      .filter(({ expiresAt }) => expiresAt > now)
      .filter((grant) =>
        isLendable(operation)
          ? lends(grant, principal, operation, facts)
          : same(grant.grantee, principal) || same(grant.granter, principal),
      );
    if (lent.length === 0) return null;
    const policies = lent.map(({ id }) => policyOfGrant(id)).toSorted();
    const decision = { allowed: true, revision: denial.revision, policies };
    return mintGrant({ operation, namespace, key, principal, decision, epoch });
  }
}

const isLendable = (operation: Operation): operation is Lendable =>
  (LENDABLE as readonly Operation[]).includes(operation);

function lends(
  { grantee, operations, encryptionContext }: DelegatedGrant,
  principal: Principal,
  operation: Lendable,
  facts: BodyFacts | undefined,
): boolean {
  if (!same(grantee, principal) || !operations.includes(operation)) return false;
  return encryptionContext === null || facts === undefined || meets(encryptionContext, facts);
}

function meets({ kind, pairs }: ContextConstraint, { encryptionContext = {} }: BodyFacts): boolean {
  const wanted = Object.entries(pairs);
  if (kind === 'equals' && Object.keys(encryptionContext).length !== wanted.length) return false;
  return wanted.every(
    ([name, value]) => Object.hasOwn(encryptionContext, name) && encryptionContext[name] === value,
  );
}
