/** What the routes ask of access control. */
import type { X509Certificate } from 'node:crypto';
import type { Decision, Grant, Operation, Principal } from './grant.ts';

/** What a request names before its body is read. */
export interface Resource {
  readonly namespace: string;
  /** Name or UUID as in the path; null where the operation has no key. */
  readonly key: string | null;
}

/** What policy may read of a body. Names and non-secret values only. */
export interface BodyFacts {
  readonly encryptionContext?: Readonly<Record<string, string>>;
  readonly suite?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** What a request shows of who sends it, and where it wants to act. */
export interface Credentials {
  /** Value of the header. */
  readonly authorization: string | undefined;
  /** The client's, of a connection that asked for one; decides where there is no header. */
  readonly certificate?: X509Certificate | undefined;
  readonly namespace: string;
}

/** Runs work, or refuses to. */
export type Admit = <T>(work: () => Promise<T>) => Promise<T>;

export interface Authenticator {
  /**
   * Verifies an `Authorization` header value, or a certificate where there is none. Throws
   * `token_missing`, `token_invalid`, `token_expired`, `certificate_…` or `token_denied` (a `DeniedCredential`), and says no more than that to the caller.
   * `admit` runs the check of a token that is not remembered as verified; what it throws is thrown on.
   */
  authenticate(credentials: Credentials, admit?: Admit): Promise<Principal>;
}

export interface Authorizer {
  /** Permission on operation and resource, before the body is read; throws `forbidden`. */
  authorize<O extends Operation>(principal: Principal, operation: O, resource: Resource): Grant<O>;
  /** Permission once more with what policy reads of the body; throws `forbidden`. */
  refine<O extends Operation>(grant: Grant<O>, body: BodyFacts): Grant<O>;
  /** Whether, without throwing; for lists and `key_not_found` (only who may read learns of absence). */
  may(principal: Principal, operation: Operation, resource: Resource): boolean;
  /** The decision itself, without a grant; what the audit entry of a refusal names. */
  decide(
    principal: Principal,
    operation: Operation,
    resource: Resource,
    body?: BodyFacts,
  ): Decision;
}
