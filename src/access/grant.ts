/**
 * Grants (promise P4): what was checked is a value that the operation redeems.
 *
 * A `Grant<'wrap'>` says that this principal may do this one operation on this one key (or, where
 * `key` is null, on the namespace). Only `access/` may call `mintGrant`; the architecture test holds
 * everyone else to it, and the private field holds the type checker to it.
 */

import type { PolicyLimit } from './policy-limit.ts';

/** Every operation that a policy can name; also the Cedar action ids and the audit entry's names. */
export const OPERATIONS = [
  'whoami',
  'suites.read',
  'random',
  'keys.read',
  'keys.list',
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
  'sign-parallel',
  'mac',
  'verify-mac',
  'keys.create',
  'keys.import-parameters',
  'keys.import',
  'keys.export',
  'keys.update',
  'keys.rotate',
  'keys.set-primary',
  'keys.put-alias',
  'keys.delete-alias',
  'keys.suspend',
  'keys.resume',
  'keys.set-rotation',
  'keys.announce',
  'versions.retire',
  'versions.suspend',
  'versions.resume',
  'versions.put-certificates',
  'versions.delete-certificates',
  'versions.uses',
  'rewrap-jobs.create',
  'rewrap-jobs.continue',
  'operations.read',
  'operations.cancel',
  'operations.oversee',
  'versions.activate',
  'versions.deactivate',
  'versions.compromise',
  'versions.schedule',
  'versions.schedule-destruction',
  'versions.cancel-destruction',
  'versions.destroy',
  'keys.schedule-destruction',
  'keys.cancel-destruction',
  'keys.destroy',
  'rotations.read',
  'rotation-policies.change',
  'policies.read',
  'policies.change',
  'access.ask',
  'namespaces.read',
  'namespaces.change',
  'rotations.order',
  'rotations.carry-out',
  'root.read',
  'root.rotate',
  'root.carry-out',
  'root.retire',
  'backups.read',
  'backups.take',
  'issuers.read',
  'issuers.change',
  'denials.read',
  'denials.change',
  'limits.read',
  'limits.change',
  'approvals.read',
  'approvals.request',
  'approvals.decide',
  'approvals.withdraw',
  'approvals.configure',
  'local-tokens.read',
  'bootstrap.open',
  'break-glass.open',
  'grants.read',
  'grants.create',
  'grants.retire',
  'audit.read',
  'audit.log',
  'audit.hash',
  'audit.configure',
  'audit.keys.rotate',
  'events.read',
] as const;

export type Operation = (typeof OPERATIONS)[number];

export interface Principal {
  readonly issuer: string;
  readonly subject: string;
  readonly method: 'jwt' | 'mtls' | 'system' | 'bootstrap' | 'break-glass';
  /** Role names from the issuer's roles claim, sorted. */
  readonly roles: readonly string[];
  /** First 16 bytes of SHA-256 of the token or certificate; null for the service's own. */
  /** Authentication context class (OpenID Connect Core section 2); null where the token says none. */
  readonly acr: string | null;
  /** Authentication methods (RFC 8176), sorted. */
  readonly amr: readonly string[];
  /** First 16 bytes of SHA-256 of the token; null for the service's own. */
  readonly session: Uint8Array | null;
  readonly expiresAt: Date;
  /** Home of its issuer, outside which its credentials are worth nothing; null: they are good in all. */
  readonly namespace: string | null;
}

/** A key as it is stored, whatever the request called it. */
export interface ResolvedKey {
  readonly id: string;
  readonly name: string;
  readonly aliases: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Rises with each change of these. */
  readonly revision: number;
}

/** What is known of a request beside what it names, before its body is read. */
export interface Circumstances {
  /** Null or absent: there is no such key, or no policy asks for more than the reference. */
  readonly resolved?: ResolvedKey | null | undefined;
  /** Group of the connection's key agreement, as IANA names it; null or absent where it is not known. */
  readonly tlsGroup?: string | null | undefined;
}

export interface Decision {
  readonly allowed: boolean;
  /** Identifies the policy set that decided. */
  readonly revision: string;
  /** Ids of the policies that decided, sorted. */
  readonly policies: readonly string[];
  /** Rates that those set which permitted; absent where there are none. */
  readonly limits?: readonly PolicyLimit[];
}

export interface GrantFacts<O extends Operation> {
  readonly operation: O;
  readonly namespace: string;
  /** The key as the request named it (name or UUID); null for operations without a key. */
  readonly key: string | null;
  readonly principal: Principal;
  readonly decision: Decision;
  /** Security epoch under which it was decided. */
  readonly epoch: number;
  readonly circumstances?: Circumstances;
}

export class Grant<O extends Operation> {
  readonly #facts: GrantFacts<O>;

  private constructor(facts: GrantFacts<O>) {
    this.#facts = facts;
  }

  /** @internal for `mintGrant` */
  static of<O extends Operation>(facts: GrantFacts<O>, minting: symbol): Grant<O> {
    if (minting !== MINTING) throw new TypeError('a grant is made by access/ only');
    return new Grant(facts);
  }

  get operation(): O {
    return this.#facts.operation;
  }
  get namespace(): string {
    return this.#facts.namespace;
  }
  get key(): string | null {
    return this.#facts.key;
  }
  get principal(): Principal {
    return this.#facts.principal;
  }
  get decision(): Decision {
    return this.#facts.decision;
  }
  get epoch(): number {
    return this.#facts.epoch;
  }
  /** For `access/` alone: what the decision stood on besides. */
  get circumstances(): Circumstances {
    return this.#facts.circumstances ?? {};
  }
}

const MINTING = Symbol('minting');

/** For `access/` alone. */
export function mintGrant<O extends Operation>(facts: GrantFacts<O>): Grant<O> {
  return Grant.of(facts, MINTING);
}
