/**
 * Public keys as SPKI (RFC 5280) in DER and PEM, and as JWK (kty AKP, RFC 9964). All of them carry
 * the raw concatenation ek_PQ ‖ ek_T of the suite unchanged.
 *
 * The hybrid KEMs are published under the OIDs of the LAMPS composite ML-KEMs whose public keys
 * have the same bytes and whose combiner is the same (draft-ietf-lamps-pq-composite-kem).
 */
import { encodeBase64, encodeBase64Url } from './base64.ts';
import { concatBytes } from './bytes.ts';
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

const SEQUENCE = 0x30;
const BIT_STRING = 0x03;
const OBJECT_IDENTIFIER = 0x06;
const PEM_LINE = /.{1,64}/g;

/** DER definite length, shortest form (X.690 section 10.1). */
function derLength(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length);
  const digits = length.toString(16);
  const bytes = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex');
  return concatBytes(Uint8Array.of(0x80 | bytes.length), bytes);
}

function der(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const body = concatBytes(...content);
  return concatBytes(Uint8Array.of(tag), derLength(body.length), body);
}

/** One arc in base 128, high bit on all but the last byte (X.690 section 8.19.2). */
function base128(arc: number): number[] {
  const bytes = [arc & 0x7f];
  for (let rest = arc >>> 7; rest > 0; rest >>>= 7) bytes.unshift(0x80 | (rest & 0x7f));
  return bytes;
}

function objectIdentifier(oid: string): Uint8Array {
  const [first = 0, second = 0, ...arcs] = oid.split('.').map(Number);
  return der(OBJECT_IDENTIFIER, Uint8Array.from([first * 40 + second, ...arcs].flatMap(base128)));
}

/** SubjectPublicKeyInfo; the AlgorithmIdentifier has no parameters. */
export function publicKeySpki(suite: AsymmetricSuite, publicKey: Uint8Array): Uint8Array {
  return der(
    SEQUENCE,
    der(SEQUENCE, objectIdentifier(suite.encoding.oid)),
    der(BIT_STRING, Uint8Array.of(0), publicKey),
  );
}

/** The SPKI as RFC 7468 text, with a final line feed. */
export function publicKeyPem(suite: AsymmetricSuite, publicKey: Uint8Array): string {
  const lines = encodeBase64(publicKeySpki(suite, publicKey)).match(PEM_LINE) ?? [];
  return ['-----BEGIN PUBLIC KEY-----', ...lines, '-----END PUBLIC KEY-----', ''].join('\n');
}

export function publicKeyJwk(suite: AsymmetricSuite, publicKey: Uint8Array, kid?: string): AkpJwk {
  return {
    kty: 'AKP',
    alg: suite.encoding.jwkAlgorithm,
    pub: encodeBase64Url(publicKey),
    ...(kid === undefined ? {} : { kid }),
  };
}
