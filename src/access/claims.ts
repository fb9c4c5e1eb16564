/**
 * Verified claims (RFC 7519 section 4) as a principal.
 *
 * Claims that are not named here are ignored, as their standard asks; those that are must have
 * their standard's form.
 */
import type { JWTPayload } from 'jose';
import { invalidToken } from './bearer.ts';
import type { Principal } from './grant.ts';
import type { IssuerSettings } from './issuers.ts';
import { mappedRoles } from './role-mapping.ts';
import type { CredentialFacts } from './trust.ts';

/** OpenID Connect Core section 2 bounds `sub` at 255 characters. */
const MAX_SUBJECT = 255;
const MAX_TOKEN_ID = 255;
const MAX_ROLES = 256;
const MAX_ROLE = 128;
/** 9999-12-31T23:59:59Z, the last second that RFC 3339 can write. */
const LAST_SECOND = 253_402_300_799;

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/u;

export interface ClaimsCheck {
  readonly settings: IssuerSettings;
  /** Of the issuer: see `Principal.namespace`. */
  readonly home: string | null;
  /** SHA-256 of the token. */
  readonly digest: Uint8Array;
  readonly now: Date;
  /** Seconds. */
  readonly clockTolerance: number;
}

/**
 * The principal of claims whose signature, `iss`, `aud`, `exp` and `nbf` were checked.
 *
 * @throws TwofoldError token_invalid
 */
export function principalOf(claims: JWTPayload, check: ClaimsCheck): Principal {
  const { issuer, rolesClaim, roleMappings = [], kind } = check.settings;
  const subject = subjectOf(claims.sub);
  if (kind === 'kubernetes') checkServiceAccount(claims, subject);
  const named = kind !== 'kubernetes' && Object.hasOwn(claims, rolesClaim);
  const roles = [
    ...namesOf(named ? claims[rolesClaim] : undefined, 'roles'),
    ...mappedRoles(roleMappings, subject),
  ];
  return {
    issuer,
    subject,
    method: 'jwt',
    roles: [...new Set(roles)].sort(),
    acr: acrOf(claims['acr']),
    amr: namesOf(claims['amr'], 'amr'),
    session: Uint8Array.from(check.digest.subarray(0, 16)),
    expiresAt: expiryOf(claims, check),
    namespace: check.home,
  };
}

/**
 * What denials ask of claims that are a principal's.
 *
 * @throws TwofoldError token_invalid
 */
export function factsOf({ jti, iat }: JWTPayload, principal: Principal): CredentialFacts {
  if (jti !== undefined && !isText(jti, MAX_TOKEN_ID)) throw invalidToken('jti');
  return {
    issuer: principal.issuer,
    subject: principal.subject,
    tokenId: jti ?? null,
    issuedAt: iat === undefined ? null : new Date(iat * 1000),
    certificate: null,
  };
}

function subjectOf(subject: unknown): string {
  if (!isText(subject, MAX_SUBJECT)) throw invalidToken('sub');
  return subject;
}

/** The claims of a bound service-account token (Kubernetes) name whom `sub` names. */
function checkServiceAccount(claims: JWTPayload, subject: string): void {
  const { namespace, serviceaccount } = membersOf(claims['kubernetes.io']);
  const { name } = membersOf(serviceaccount);
  const named = `system:serviceaccount:${String(namespace)}:${String(name)}`;
  if (typeof namespace !== 'string' || typeof name !== 'string' || named !== subject) {
    throw invalidToken('kubernetes.io');
  }
}

const membersOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};

/** Absent means none; a name that no policy knows is kept and grants nothing. */
function namesOf(claim: unknown, member: string): readonly string[] {
  if (claim === undefined) return [];
  if (!Array.isArray(claim) || claim.length > MAX_ROLES) throw invalidToken(member);
  const given: readonly unknown[] = claim;
  const names = given.filter((name) => isText(name, MAX_ROLE));
  if (names.length !== given.length) throw invalidToken(member);
  return [...new Set(names)].sort();
}

function acrOf(claim: unknown): string | null {
  if (claim === undefined) return null;
  if (!isText(claim, MAX_SUBJECT)) throw invalidToken('acr');
  return claim;
}

function expiryOf(claims: JWTPayload, check: ClaimsCheck): Date {
  const { exp, iat } = claims;
  const { maxLifetime } = check.settings;
  if (!isTime(exp)) throw invalidToken('exp');
  if (iat !== undefined && !isTime(iat)) throw invalidToken('iat');
  if (iat !== undefined && iat * 1000 > check.now.getTime() + check.clockTolerance * 1000) {
    throw invalidToken('iat is in the future');
  }
  if (maxLifetime !== undefined && (iat === undefined || exp - iat > maxLifetime)) {
    throw invalidToken('lifetime');
  }
  return new Date(exp * 1000);
}

const isTime = (value: unknown): value is number =>
  typeof value === 'number' && value >= 0 && value <= LAST_SECOND;

/** Bounded, well-formed and printable on one line, so that no log or audit reader is misled. */
const isText = (value: unknown, longest: number): value is string =>
  typeof value === 'string' &&
  value.length > 0 &&
  value.length <= longest &&
  value.isWellFormed() &&
  !CONTROL.test(value);
