/**
 * What decides about one run of a request: one revision of the namespace's policies, and the keys that
 * it names as they are stored, so that a policy about a key holds however the request names it.
 *
 * A key that is not there is decided on by its reference alone; so is one whose rows were altered, for
 * whom nothing else permits to learn of that.
 */
import type { Decision, Grant, Operation, Principal, ResolvedKey } from '../access/grant.ts';
import type { Authorizer, BodyFacts, Resource } from '../access/ports.ts';
import { TwofoldError } from '../errors.ts';
import type { HttpDependencies } from './dependencies.ts';

type Dependencies = Pick<HttpDependencies, 'access' | 'keys'>;

export interface Asked {
  readonly principal: Principal;
  readonly operation: Operation;
  readonly resource: Resource;
}

export class RequestAccess {
  readonly #keys: HttpDependencies['keys'];
  readonly #authorizer: Authorizer;
  readonly #asked: Asked;
  readonly #resolved = new Map<string, ResolvedKey | null>();
  readonly #altered = new Map<string, TwofoldError>();

  private constructor({ keys }: Dependencies, authorizer: Authorizer, asked: Asked) {
    this.#keys = keys;
    this.#authorizer = authorizer;
    this.#asked = asked;
  }

  /** @throws TwofoldError integrity_failed, database_unavailable */
  static async open(deps: Dependencies, asked: Asked): Promise<RequestAccess> {
    const { namespace, key } = asked.resource;
    const access = new RequestAccess(deps, await deps.access.in(namespace), asked);
    if (key !== null) await access.resolve([key]);
    return access;
  }

  /** @throws TwofoldError database_unavailable */
  async resolve(references: readonly string[]): Promise<void> {
    if (!this.#authorizer.readsKeys) return;
    const { namespace } = this.#asked.resource;
    for (const reference of references) {
      if (this.#resolved.has(reference)) continue;
      this.#resolved.set(reference, await this.#find(namespace, reference));
    }
  }

  decide(facts?: BodyFacts): Decision {
    const { principal, operation, resource } = this.#asked;
    return this.#authorizer.decide(principal, operation, this.#with(resource), facts);
  }

  awaitsBody(): boolean {
    const { principal, operation, resource } = this.#asked;
    return this.#authorizer.awaitsBody(principal, operation, this.#with(resource));
  }

  /** @throws TwofoldError forbidden */
  authorize(facts?: BodyFacts): Grant<Operation> {
    const { principal, operation, resource } = this.#asked;
    const about = this.#with(resource);
    return this.#whole(
      this.#authorizer.authorize(principal, operation, about, ...(facts ? [facts] : [])),
    );
  }

  /** @throws TwofoldError forbidden */
  refine(grant: Grant<Operation>, facts: BodyFacts): Grant<Operation> {
    return this.#authorizer.refine(grant, facts);
  }

  /** On another key of the namespace. @throws TwofoldError forbidden */
  grantOn<O extends Operation>(operation: O, key: string, facts: BodyFacts): Grant<O> {
    const about = this.#on(key);
    const { principal } = this.#asked;
    const early = this.#authorizer.decide(principal, operation, about);
    const grant =
      !early.allowed && this.#authorizer.awaitsBody(principal, operation, about)
        ? this.#authorizer.authorize(principal, operation, about, facts)
        : this.#authorizer.refine(this.#authorizer.authorize(principal, operation, about), facts);
    return this.#whole(grant);
  }

  decideOn(operation: Operation, key: string, facts: BodyFacts): Decision {
    return this.#authorizer.decide(this.#asked.principal, operation, this.#on(key), facts);
  }

  /** Another operation on the namespace, if it is permitted. */
  grantIf<O extends Operation>(operation: O): Grant<O> | null {
    const { principal, resource } = this.#asked;
    const about = { namespace: resource.namespace, key: null, tlsGroup: resource.tlsGroup };
    if (!this.#authorizer.may(principal, operation, about)) return null;
    return this.#authorizer.authorize(principal, operation, about);
  }

  /** Whether the principal may learn that there is no such key, or, of `null`, no such resource. */
  mayRead(key: string | null): boolean {
    const { principal, operation, resource } = this.#asked;
    const reading = key === null ? operation : 'keys.read';
    const about = key === null ? resource : this.#with({ ...resource, key });
    return this.#authorizer.may(principal, reading, about);
  }

  async #find(namespace: string, reference: string): Promise<ResolvedKey | null> {
    try {
      return await this.#keys.resolve(namespace, reference);
    } catch (error) {
      if (!TwofoldError.is(error, 'integrity_failed')) throw error;
      this.#altered.set(reference, error);
      return null;
    }
  }

  #on(key: string): Resource {
    const { namespace, tlsGroup } = this.#asked.resource;
    if (this.#authorizer.readsKeys && !this.#resolved.has(key)) {
      throw new TypeError('a key is authorized that was not looked up');
    }
    return this.#with({ namespace, key, tlsGroup });
  }

  #with(resource: Resource): Resource {
    const { key } = resource;
    const resolved = key === null ? null : (this.#resolved.get(key) ?? null);
    return resolved === null ? resource : { ...resource, resolved };
  }

  /** What is known of an altered key permits nothing. */
  #whole<G extends Grant<Operation>>(grant: G): G {
    const altered = grant.key === null ? undefined : this.#altered.get(grant.key);
    if (altered !== undefined) throw altered;
    return grant;
  }
}
