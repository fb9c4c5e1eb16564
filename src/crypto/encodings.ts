/** Public keys as SPKI (RFC 5280) in DER and PEM, and as JWK (kty AKP, RFC 9964). */
import type { KemSuite, SignatureSuite } from './suite.ts';

type AsymmetricSuite = KemSuite | SignatureSuite;

/** A public JWK; `pub` is the raw public key, unpadded base64url. */
export interface AkpJwk {
  readonly kty: 'AKP';
  readonly alg: string;
  readonly pub: string;
  readonly kid?: string;
}

/** AlgorithmIdentifier without parameters; the BIT STRING holds the raw concatenation. */
export function publicKeySpki(_suite: AsymmetricSuite, _publicKey: Uint8Array): Uint8Array {
  throw new Error('not built yet');
}

/** The SPKI between `-----BEGIN PUBLIC KEY-----` lines of 64 characters (RFC 7468). */
export function publicKeyPem(_suite: AsymmetricSuite, _publicKey: Uint8Array): string {
  throw new Error('not built yet');
}

export function publicKeyJwk(
  _suite: AsymmetricSuite,
  _publicKey: Uint8Array,
  _kid?: string,
): AkpJwk {
  throw new Error('not built yet');
}
