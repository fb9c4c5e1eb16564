/** What the routes ask of access control. */
import type { X509Certificate } from 'node:crypto';
import type { PolicyLimit } from './policy-limit.ts';
import type { Circumstances, Decision, Grant, Operation, Principal } from './grant.ts';

/** A decision and what led to it. */
export interface Explained extends Decision {
  /** Policies whose scope and conditions hold, sorted; where a forbid holds, maybe not every permit. */
  readonly permits: readonly string[];
  readonly forbids: readonly string[];
  /** Policies that could not be evaluated. */
  readonly errors: readonly string[];
  /** Whether the decision holds until policies or facts change, whatever the time. */
  readonly lasting: boolean;
}

/** What a request names before its body is read, and what is known of that by then. */
export interface Resource extends Circumstances {
  readonly namespace: string;
  /** Name or UUID as in the path; null where the operation has no key. */
  readonly key: string | null;
}

/** What policy may read of a body. Names and non-secret values only. */
export interface BodyFacts {
  readonly encryptionContext?: Readonly<Record<string, string>>;
  readonly suite?: string;
  /** Who can have made the ciphertext that is to be opened. */
  readonly origin?: 'anyone' | 'service';
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

/** Decisions by one set of policies as it stood at one moment. */
export interface Authorizer {
  /** Permission on operation and resource, and on what policy reads of the body; throws `forbidden`. */
  authorize<O extends Operation>(
    principal: Principal,
    operation: O,
    resource: Resource,
    body?: BodyFacts,
  ): Grant<O>;
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
  /** Whether what is denied now may be permitted for what the body says. */
  awaitsBody(principal: Principal, operation: Operation, resource: Resource): boolean;
  /** The decision with what led to it; never one that was remembered. */
  explain(
    principal: Principal,
    operation: Operation,
    resource: Resource,
    body?: BodyFacts,
  ): Explained;
  /** What policies that can admit the principal set as rates, whether or not their conditions hold. */
  limitsOf(principal: Principal): readonly PolicyLimit[];
  /** Whether decisions depend on which key a request means; if not, it need not be looked up. */
  readonly readsKeys: boolean;
}

export interface AccessControl {
  /**
   * What decides in a namespace now, for the whole of one request.
   * Throws `integrity_failed` where its policies were altered, `database_unavailable`.
   */
  in(namespace: string): Promise<Authorizer>;
}
