/** What an issuer that somebody wants to let in would let in. */
import { X509Certificate } from 'node:crypto';
import { NAME } from '../name.ts';
import { TwofoldError } from '../errors.ts';
import { checkNotExpired, keyOf } from './authorities.ts';
import type { CertificateIssuerSettings } from './certificate-issuer.ts';
import { checkAddress } from './fetch-document.ts';
import { readerOf } from './issuers.ts';
import type { IssuerSettings } from './issuers.ts';
import { TOKEN_ALGORITHMS, assertPublic, readJwkSet } from './jwk-set.ts';
import { checkMappings } from './role-mapping.ts';
import { KeySet } from './key-set.ts';
import type { KeyFacts } from './key-set.ts';

export interface IssuerCheck {
  readonly usable: boolean;
  /** Fixed words; null where it is usable. */
  readonly problem: string | null;
  readonly keys: readonly KeyFacts[];
}

const refuse = (detail: string) => new TwofoldError('invalid_value', detail);

/**
 * That the settings say what can be; nothing is fetched.
 *
 * @throws TwofoldError invalid_value
 */
export async function checkSettings(settings: IssuerSettings, plainHttp: boolean): Promise<void> {
  const { issuer, jwksUrl, internal = null, ca, algorithms } = settings;
  const known: readonly string[] = TOKEN_ALGORITHMS;
  if (!algorithms.every((name) => known.includes(name))) {
    throw refuse(`algorithms are of: ${known.join(', ')}.`);
  }
  checkMappings(settings.roleMappings ?? []);
  for (const [member, address] of Object.entries({ issuer, jwksUrl })) {
    if (address === undefined) continue;
    try {
      checkAddress(address, { plainHttp, internal });
    } catch {
      throw refuse(`${member} is an https URL without user and fragment.`);
    }
  }
  if (ca !== undefined) checkServerAuthorities(ca);
  if (settings.jwks === undefined) return;
  const bytes = new TextEncoder().encode(JSON.stringify(settings.jwks));
  assertPublic(readJwkSet(bytes));
  await KeySet.parse(bytes, settings);
}

function checkServerAuthorities(pem: string): void {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/gu) ?? [];
  try {
    if (blocks.length > 0 && blocks.every((block) => new X509Certificate(block).ca)) return;
  } catch {
    // Said below, like a certificate that is no authority's.
  }
  throw refuse('ca is PEM of certificates of authorities.');
}

/** Names of issuers of certificates: nothing of ours, and nothing that could be read as two. */
const CERTIFICATE_ISSUER = /^(?:https|spiffe|urn):[\x21-\x7e]+$/u;
const OUR_OWN = NAME.systemIssuer.slice(0, NAME.systemIssuer.lastIndexOf(':') + 1);

/**
 * That the settings say what can be, and that none of the authorities is one of the configuration that is
 * asked in the same namespace.
 *
 * @throws TwofoldError invalid_value, already_exists
 */
export function checkCertificateSettings(
  settings: CertificateIssuerSettings,
  configured: readonly CertificateIssuerSettings[],
  now: Date,
): void {
  const { issuer, authorities, roleMappings, namespace } = settings;
  if (!CERTIFICATE_ISSUER.test(issuer) || issuer.toLowerCase().startsWith(OUR_OWN)) {
    throw refuse(`issuer is an https, spiffe or urn URI, and none of ${OUR_OWN}.`);
  }
  checkMappings(roleMappings);
  checkNotExpired(authorities, now);
  const beside = configured.filter(
    (each) => each.namespace === undefined || each.namespace === namespace,
  );
  const keys = new Set(beside.flatMap((each) => each.authorities).map(keyOf));
  if (authorities.some((authority) => keys.has(keyOf(authority)))) {
    throw new TwofoldError('already_exists', 'An authority of it is one of the configuration.');
  }
}

export interface AuthorityCheck extends IssuerCheck {
  readonly authorities: readonly {
    readonly subject: string;
    readonly fingerprint: string;
    readonly keyFingerprint: string;
    readonly notBefore: string;
    readonly notAfter: string;
  }[];
}

/** What would be let in. @param asked whether a listener asks clients for certificates at all */
export const checkAuthorities = (
  { authorities }: CertificateIssuerSettings,
  asked: boolean,
): AuthorityCheck => ({
  usable: asked,
  problem: asked ? null : 'No listener of this instance asks clients for certificates.',
  keys: [],
  authorities: authorities.map((authority) => ({
    subject: authority.subject.replaceAll('\n', ', '),
    fingerprint: authority.fingerprint256.replaceAll(':', '').toLowerCase(),
    keyFingerprint: keyOf(authority),
    notBefore: authority.validFromDate.toISOString(),
    notAfter: authority.validToDate.toISOString(),
  })),
});

/** Reads its keys once, as they would be read. Never rejects. */
export async function checkIssuer(
  settings: IssuerSettings,
  plainHttp: boolean,
): Promise<IssuerCheck> {
  try {
    const [read] = readerOf(settings, plainHttp);
    const found = await read(undefined);
    if (found === 'unchanged') throw new TypeError('nothing was read before');
    const { facts } = await KeySet.parse(found.bytes, settings);
    return { usable: true, problem: null, keys: facts };
  } catch (error) {
    const problem = TwofoldError.is(error) ? error.message : 'The keys cannot be fetched.';
    return { usable: false, problem, keys: [] };
  }
}

export function describeSource({ jwks, jwksUrl, discovery }: IssuerSettings) {
  if (jwks !== undefined) return 'inline' as const;
  if (jwksUrl !== undefined) return 'url' as const;
  return discovery === true ? ('discovery' as const) : ('file' as const);
}
