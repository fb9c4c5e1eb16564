/**
 * Public keys as SPKI (RFC 5280) in DER and PEM, and as JWK (kty AKP, RFC 9964). All of them carry
 * the raw concatenation ek_PQ ‖ ek_T of the suite unchanged.
 *
 * The hybrid KEMs are published under the OIDs of the LAMPS composite ML-KEMs whose public keys
 * have the same bytes and whose combiner is the same (draft-ietf-lamps-pq-composite-kem).
 */
import { encodeBase64Url } from './base64.ts';
import { derBitString, derObjectIdentifier, derSequence } from './der.ts';
import { encodePem } from './pem.ts';
import type { KemSuite, SignatureSuite } from './suite.ts';

/** A suite with a public key. */
export type AsymmetricSuite = KemSuite | SignatureSuite;

/** A public JWK; `pub` is the raw public key, unpadded base64url. */
export interface AkpJwk {
  readonly kty: 'AKP';
  readonly alg: string;
  readonly pub: string;
  readonly kid?: string;
}

/** SubjectPublicKeyInfo; the AlgorithmIdentifier has no parameters. */
export function publicKeySpki(suite: AsymmetricSuite, publicKey: Uint8Array): Uint8Array {
  return derSequence(derSequence(derObjectIdentifier(suite.encoding.oid)), derBitString(publicKey));
}

/** The SPKI as RFC 7468 text, with a final line feed. */
export function publicKeyPem(suite: AsymmetricSuite, publicKey: Uint8Array): string {
  return encodePem('PUBLIC KEY', publicKeySpki(suite, publicKey));
}

export function publicKeyJwk(suite: AsymmetricSuite, publicKey: Uint8Array, kid?: string): AkpJwk {
  return {
    kty: 'AKP',
    alg: suite.encoding.jwkAlgorithm,
    pub: encodeBase64Url(publicKey),
    ...(kid === undefined ? {} : { kid }),
  };
}
