/**
 * Who comes with a token that was made on the machine with the HSM's PIN. No policy says what they may
 * do: a bootstrap token writes the first policies and issuers, and break-glass is for when the policies
 * permit nobody. So this table does, and it stays small.
 */
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { bearerToken, invalidToken } from './bearer.ts';
import { mintGrant } from './grant.ts';
import type { Decision, Grant, Operation, Principal } from './grant.ts';
import type {
  Admit,
  Authenticator,
  Authorizer,
  BodyFacts,
  Resource,
  AccessControl,
} from './ports.ts';

export type LocalKind = 'bootstrap' | 'break-glass';

export const LOCAL_TOKEN_PREFIXES: Readonly<Record<LocalKind, string>> = {
  bootstrap: 'twofold-bootstrap.',
  'break-glass': 'twofold-break-glass.',
};
const KINDS: readonly LocalKind[] = ['bootstrap', 'break-glass'];

/** What a token opens. */
export interface LocalStanding {
  readonly kind: LocalKind;
  readonly id: string;
  readonly namespace: string;
  readonly expiresAt: Date;
}

/** Knows the tokens that are in force. */
export interface LocalTokenBook {
  find(kind: LocalKind, token: string): Promise<LocalStanding | null>;
}

/** What each may do. */
const PERMITTED: Readonly<Record<LocalKind, ReadonlySet<Operation>>> = {
  bootstrap: new Set(['policies.change', 'issuers.change']),
  // To see, to repair access, and to stop what goes wrong: no key is used, changed or destroyed.
  'break-glass': new Set([
    'whoami',
    'suites.read',
    'keys.read',
    'keys.list',
    'keys.suspend',
    'keys.cancel-destruction',
    'versions.suspend',
    'versions.uses',
    'versions.cancel-destruction',
    'rotations.read',
    'operations.read',
    'operations.oversee',
    'operations.cancel',
    'audit.read',
    'audit.log',
    'audit.hash',
    'audit.configure',
    'events.read',
    'local-tokens.read',
    'access.ask',
    'namespaces.read',
    'namespaces.change',
    'policies.read',
    'policies.change',
    'issuers.read',
    'issuers.change',
    'denials.read',
    'denials.change',
    'grants.read',
    'grants.retire',
    'approvals.read',
    'approvals.withdraw',
    'approvals.configure',
  ]),
};

const isLocal = (method: Principal['method']): method is LocalKind =>
  (KINDS as readonly string[]).includes(method);

/** Whose requests ask nobody for approval: they are for when nobody could give it. */
export const asksNobody = ({ method }: Principal): boolean => isLocal(method);

/** Both sides of it: tokens are known by their form, and principals by who made them here. */
export class LocalAccess {
  readonly #book: LocalTokenBook;
  readonly #epoch: SecurityEpoch;
  readonly #standings = new WeakMap<Principal, LocalStanding>();

  constructor(book: LocalTokenBook, epoch: SecurityEpoch) {
    this.#book = book;
    this.#epoch = epoch;
  }

  /** The standing of a principal of ours; null for every other. */
  standing(principal: Principal): LocalStanding | null {
    return this.#standings.get(principal) ?? null;
  }

  /** Tokens of other forms are the other's. */
  authenticator(others: Authenticator): Authenticator {
    return {
      authenticate: async (credentials, admit = (work) => work()) => {
        const { authorization } = credentials;
        const kind = KINDS.find((each) =>
          authorization?.startsWith(`Bearer ${LOCAL_TOKEN_PREFIXES[each]}`),
        );
        if (kind === undefined) return others.authenticate(credentials, admit);
        return this.#authenticate(kind, bearerToken(authorization), admit);
      },
    };
  }

  /** In every namespace, beside what others decide there. */
  access(others: AccessControl): AccessControl {
    return { in: async (namespace) => this.authorizer(await others.in(namespace)) };
  }

  /** Principals of others are the other's. */
  authorizer(others: Authorizer): Authorizer {
    const decide: Authorizer['decide'] = (principal, operation, resource, body) =>
      isLocal(principal.method)
        ? this.#decide(principal, principal.method, operation, resource)
        : others.decide(principal, operation, resource, body);
    const grant = <O extends Operation>(principal: Principal, operation: O, resource: Resource) =>
      this.#grant(principal, operation, resource, decide);
    return {
      decide,
      may: (principal, operation, resource) =>
        isLocal(principal.method)
          ? decide(principal, operation, resource).allowed
          : others.may(principal, operation, resource),
      authorize: (principal, operation, resource, body) =>
        isLocal(principal.method)
          ? grant(principal, operation, resource)
          : others.authorize(principal, operation, resource, body),
      refine: <O extends Operation>(granted: Grant<O>, body: BodyFacts): Grant<O> =>
        isLocal(granted.principal.method) ? granted : others.refine(granted, body),
      awaitsBody: (principal, operation, resource) =>
        !isLocal(principal.method) && others.awaitsBody(principal, operation, resource),
      limitsOf: (principal) => (isLocal(principal.method) ? [] : others.limitsOf(principal)),
      explain: (principal, operation, resource, body) => {
        if (!isLocal(principal.method)) return others.explain(principal, operation, resource, body);
        const decision = decide(principal, operation, resource);
        return { ...decision, permits: decision.policies, forbids: [], errors: [], lasting: false };
      },
      readsKeys: others.readsKeys,
    };
  }

  async #authenticate(kind: LocalKind, token: string, admit: Admit): Promise<Principal> {
    const standing = await admit(async () => {
      const found = await this.#book.find(kind, token);
      if (found === null) throw invalidToken(kind);
      return found;
    });
    const principal: Principal = Object.freeze({
      issuer: NAME.systemIssuer,
      subject: `${kind}/${standing.id}`,
      method: kind,
      namespace: null,
      roles: [],
      acr: null,
      amr: [],
      session: null,
      expiresAt: standing.expiresAt,
    });
    this.#standings.set(principal, standing);
    return principal;
  }

  #decide(
    principal: Principal,
    kind: LocalKind,
    operation: Operation,
    { namespace }: Resource,
  ): Decision {
    const standing = this.#standings.get(principal);
    const allowed = standing?.namespace === namespace && PERMITTED[kind].has(operation);
    return { allowed, revision: 'local', policies: allowed ? [kind] : [] };
  }

  #grant<O extends Operation>(
    principal: Principal,
    operation: O,
    { namespace, key }: Resource,
    decide: Authorizer['decide'],
  ): Grant<O> {
    const epoch = this.#epoch.current;
    const decision = decide(principal, operation, { namespace, key });
    if (!decision.allowed) {
      throw new TwofoldError('forbidden', `This principal may not do ${operation} here.`);
    }
    return mintGrant({ operation, namespace, key, principal, decision, epoch });
  }
}

/** For the command on the machine alone: whoever logged in to the token and used its root. */
export function operatorGrant<O extends 'bootstrap.open' | 'break-glass.open' | 'root.retire'>(
  operation: O,
  {
    operator,
    namespace,
    epoch,
  }: {
    readonly operator: string;
    readonly namespace: string;
    readonly epoch: SecurityEpoch;
  },
): Grant<O> {
  const principal: Principal = {
    issuer: NAME.systemIssuer,
    subject: `operator/${operator}`,
    method: 'system',
    namespace: null,
    roles: [],
    acr: null,
    amr: [],
    session: null,
    expiresAt: new Date(8.64e15),
  };
  const decision = { allowed: true, revision: 'local', policies: ['pin-holder'] };
  return mintGrant({ operation, namespace, key: null, principal, decision, epoch: epoch.current });
}
