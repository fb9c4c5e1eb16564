import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import type { CryptoKey, JWK } from 'jose';
import { TokenAuthenticator } from '../../src/access/authenticate.ts';
import type { AuthenticationOptions } from '../../src/access/authenticate.ts';
import type { IssuerSettings } from '../../src/access/issuers.ts';
import type { Credentials } from '../../src/access/ports.ts';
import type { TokenAlgorithm } from '../../src/access/jwk-set.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { TwofoldError } from '../../src/errors.ts';

export const ISSUER = 'https://issuer.example';
export const AUDIENCE = 'kms.example';
/** The clock of these tests; any time but now, so that a forgotten clock is noticed. */
export const NOW = new Date('2030-05-01T12:00:00Z');
export const at = (seconds: number): Date => new Date(NOW.getTime() + seconds * 1000);
const second = (time: Date): number => Math.floor(time.getTime() / 1000);

export interface TestKey {
  readonly algorithm: TokenAlgorithm;
  readonly jwk: JWK;
  readonly privateJwk: JWK;
  readonly privateKey: CryptoKey;
}

export async function makeKey(algorithm: TokenAlgorithm, kid?: string): Promise<TestKey> {
  const { publicKey, privateKey } = await generateKeyPair(algorithm, { extractable: true });
  const own = { alg: algorithm, ...(kid === undefined ? {} : { kid }) };
  const jwk = { ...(await exportJWK(publicKey)), ...own };
  return { algorithm, jwk, privateJwk: { ...(await exportJWK(privateKey)), ...own }, privateKey };
}

export const settings = (
  keys: readonly JWK[],
  algorithms: readonly TokenAlgorithm[],
  changes: Partial<IssuerSettings> = {},
): IssuerSettings => ({
  issuer: ISSUER,
  audience: AUDIENCE,
  jwks: { keys },
  algorithms,
  rolesClaim: 'roles',
  ...changes,
});

export const goodClaims = (): Record<string, unknown> => ({
  iss: ISSUER,
  aud: AUDIENCE,
  sub: 'alice',
  iat: second(NOW),
  nbf: second(NOW),
  exp: second(at(600)),
  roles: ['user'],
});

/** Signs good claims with changes; a change to `undefined` leaves the claim out. */
export async function sign(
  key: TestKey,
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
): Promise<string> {
  const merged = Object.entries({ ...goodClaims(), ...claims }).filter(([, v]) => v !== undefined);
  const full = { alg: key.algorithm, kid: key.jwk.kid, ...header };
  const entries = Object.entries(full).filter(([, value]) => value !== undefined);
  return new SignJWT(Object.fromEntries(merged))
    .setProtectedHeader(Object.fromEntries(entries) as { alg: string })
    .sign(key.privateKey);
}

/** A token of any header and signature, without a library that would refuse to make it. */
export function craft(header: unknown, claims: unknown, signature: Uint8Array | string): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const end =
    typeof signature === 'string' ? signature : Buffer.from(signature).toString('base64url');
  return `${part(header)}.${part(claims)}.${end}`;
}

export const authenticator = (
  issuers: readonly IssuerSettings[],
  changes: Partial<AuthenticationOptions> = {},
): Promise<TokenAuthenticator> =>
  TokenAuthenticator.open({
    issuers,
    epoch: new SecurityEpoch(1),
    plainHttp: true,
    now: () => NOW,
    ...changes,
  });

/** What a request shows that brings this header. */
export const shown = (authorization: string | undefined, namespace = 'default'): Credentials => ({
  authorization,
  namespace,
});

/** The code with which a promise is refused, or what it resolved to. */
export async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    return { accepted: await promise };
  } catch (error) {
    return error instanceof TwofoldError ? error.code : error;
  }
}
