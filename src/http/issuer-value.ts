/** What the body of a change of an issuer means: of tokens, or of client certificates. */
import { TwofoldError } from '../errors.ts';
import type { TokenAlgorithm } from '../access/jwk-set.ts';
import type * as contract from '../contract/issuers.ts';
import type { StoredCertificateIssuer } from '../governance/certificate-issuers.ts';
import type { StoredIssuer, StoredTokenIssuer } from '../governance/issuers.ts';
import type { Call } from './route.ts';

type Body = Call<typeof contract.putIssuer>['body'];

/** Of tokens, and of certificates, alone. */
const OF_TOKENS = [
  'audience',
  'algorithms',
  'rolesClaim',
  'jwksUrl',
  'jwks',
  'ca',
  'pinned',
  'maxLifetime',
  'clockTolerance',
] as const satisfies readonly (keyof Body)[];
const OF_CERTIFICATES = [
  'authorities',
  'subject',
  'trustDomain',
] as const satisfies readonly (keyof Body)[];

const refuse = (detail: string): TwofoldError => new TwofoldError('invalid_value', detail);

/** @throws TwofoldError invalid_value for members that do not go together, or are missing */
export function issuerValueOf(body: Body): StoredIssuer {
  const isOfCertificates = body.kind === 'mtls';
  const foreign = isOfCertificates ? OF_TOKENS : OF_CERTIFICATES;
  const wrong = foreign.find((member) => body[member] !== undefined);
  if (wrong !== undefined) {
    throw refuse(`${wrong} is of an issuer of ${isOfCertificates ? 'tokens' : 'kind mtls'}.`);
  }
  return isOfCertificates ? certificateIssuerOf(body) : tokenIssuerOf(body);
}

function tokenIssuerOf(body: Body): StoredTokenIssuer {
  const { kind, audience, algorithms, jwks, jwksUrl, roles = [] } = body;
  if (audience === undefined || algorithms === undefined) {
    throw refuse('An issuer of tokens has audience and algorithms.');
  }
  if (jwks !== undefined && jwksUrl !== undefined) {
    throw refuse('At most one of jwks and jwksUrl is given.');
  }
  return {
    kind: kind === 'kubernetes' ? kind : 'oidc',
    issuer: body.issuer,
    audience,
    // What is no algorithm is refused with the other settings.
    algorithms: algorithms as readonly TokenAlgorithm[],
    rolesClaim: body.rolesClaim ?? 'roles',
    jwksUrl: jwksUrl ?? null,
    jwks: jwks === undefined ? null : JSON.stringify(jwks),
    ca: body.ca ?? null,
    pinned: body.pinned ?? [],
    maxLifetime: body.maxLifetime ?? null,
    clockTolerance: body.clockTolerance ?? null,
    roleMappings: roles,
    shared: body.shared ?? false,
  };
}

function certificateIssuerOf(body: Body): StoredCertificateIssuer {
  const { issuer, authorities, subject, trustDomain, roles = [], shared = false } = body;
  if (authorities === undefined || subject === undefined) {
    throw refuse('An issuer of kind mtls has authorities and subject.');
  }
  if ((subject === 'spiffe') !== (trustDomain !== undefined)) {
    throw refuse('trustDomain is given with the subject spiffe, and only then.');
  }
  return {
    kind: 'mtls',
    ...{ issuer, authorities, subject, shared },
    trustDomain: trustDomain ?? null,
    roleMappings: roles,
  };
}
