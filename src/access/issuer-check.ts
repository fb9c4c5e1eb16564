/** What an issuer that somebody wants to let in would let in. */
import { X509Certificate } from 'node:crypto';
import { TwofoldError } from '../errors.ts';
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
  if (ca !== undefined) checkAuthorities(ca);
  if (settings.jwks === undefined) return;
  const bytes = new TextEncoder().encode(JSON.stringify(settings.jwks));
  assertPublic(readJwkSet(bytes));
  await KeySet.parse(bytes, settings);
}

function checkAuthorities(pem: string): void {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/gu) ?? [];
  try {
    if (blocks.length > 0 && blocks.every((block) => new X509Certificate(block).ca)) return;
  } catch {
    // Said below, like a certificate that is no authority's.
  }
  throw refuse('ca is PEM of certificates of authorities.');
}

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
