/** What the consent of a principal is worth in a namespace, by the issuer that vouches for it. */
import type { Principal } from '../access/grant.ts';
import type { Authorizer } from '../access/ports.ts';
import { TwofoldError } from '../errors.ts';
import type { Consenting } from '../governance/approvals.ts';
import type { FoundIssuer } from '../governance/issuers.ts';
import type { HttpDependencies } from './dependencies.ts';

/** Whether policies permit a consent, by all that is known of it. */
export const permitsConsent =
  (authorizer: Pick<Authorizer, 'may'>, namespace: string) =>
  ({ principal, tlsGroup }: Consenting): boolean =>
    authorizer.may(principal, 'approvals.decide', { namespace, key: null, tlsGroup });

type Dependencies = Pick<HttpDependencies, 'governance' | 'issuers'>;

export class Consents {
  readonly #deps: Dependencies;

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  /** @throws TwofoldError forbidden for whom it would not count */
  async require(namespace: string, { issuer }: Principal): Promise<void> {
    const found = await this.#stored(namespace, issuer);
    if (found === null || (await this.#isSettled(namespace, found))) return;
    throw new TwofoldError(
      'forbidden',
      'The issuer was changed in the root namespace after this one had its first approval rule.',
    );
  }

  /** Whether the approver's issuer is one still, and says of its principals what it said then. */
  async stands(
    namespace: string,
    { issuer }: Pick<Principal, 'issuer'>,
    at: Date,
  ): Promise<boolean> {
    if (this.#deps.issuers.names.includes(issuer)) return true;
    const found = await this.#stored(namespace, issuer);
    if (found === null || found.member.at.getTime() > at.getTime()) return false;
    return this.#isSettled(namespace, found);
  }

  /** Null for those of the configuration too. */
  async #stored(namespace: string, issuer: string): Promise<FoundIssuer | null> {
    const { governance, issuers } = this.#deps;
    return issuers.names.includes(issuer) ? null : governance.issuers.find(namespace, issuer);
  }

  /**
   * A shared issuer is changed in the root, where rules of this namespace guard nothing. So it counts as it
   * was when they began, or where the root has had rules of its own for as long.
   */
  async #isSettled(namespace: string, { member, namespace: home }: FoundIssuer): Promise<boolean> {
    if (home === namespace) return true;
    const { rules } = this.#deps.governance.approvals;
    const since = await rules.guardedSince(namespace);
    if (since === null || member.at.getTime() <= since.getTime()) return true;
    const root = await rules.guardedSince(home);
    return root !== null && root.getTime() <= since.getTime();
  }
}
