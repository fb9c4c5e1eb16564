/**
 * Checks of what callers pass, made in the host before anything is queued: the token's own answers
 * to bad input cannot be told from a failing device. Both implementations of the port use them.
 */
import { TwofoldError } from '../errors.ts';
import { checkPublicKey } from '../crypto/curve.ts';
import type { Curve } from '../crypto/suite.ts';
import type { GenerateOptions, HsmHash, HsmKey, HsmKeySpec } from './port.ts';
import type { Sealed } from './protocol.ts';
import { HASH_BYTES, isBelow, modulusOf } from './rsa.ts';

/** GCM as the service uses it (SP 800-38D): 96-bit IV, 128-bit tag. */
export const GCM = { ivBytes: 12, tagBytes: 16 } as const;

/** installation ‖ key id ‖ u32 version ‖ u8 part. */
export const OBJECT_ID_BYTES = 16 + 16 + 4 + 1;

/** SoftHSM fills at most this much in one call without a measurable pause for others. */
const RANDOM_LIMIT = 65_536;

const DIGEST_BYTES = { 'P-256': 32, 'P-384': 48, 'P-521': 64 } as const;

/** The curve of a key that derives; `wrong_purpose` for any other. */
export function derivingCurve(spec: HsmKeySpec): Curve {
  if (spec.kind === 'x25519') return 'X25519';
  if (spec.kind === 'ec' && spec.use === 'derive') return spec.curve;
  throw wrongUse('derives');
}

export function requirePeer(key: HsmKey, peer: Uint8Array): void {
  checkPublicKey(derivingCurve(key.spec), peer);
}

export type SigningSpec = Extract<HsmKeySpec, { use: 'sign' }>;

export function signingSpec(spec: HsmKeySpec): SigningSpec {
  if (!('use' in spec) || spec.use !== 'sign') throw wrongUse('signs');
  return spec;
}

/**
 * ECDSA takes a digest of exactly the curve's size (tokens truncate longer ones silently), RSA one of the
 * key's hash, and Ed25519 a message of any length.
 */
export function requireSignInput(key: HsmKey, input: Uint8Array): void {
  const spec = signingSpec(key.spec);
  if (spec.kind === 'ed25519') return;
  const wanted = spec.kind === 'ec' ? DIGEST_BYTES[spec.curve] : HASH_BYTES[spec.hash];
  if (input.length !== wanted) {
    throw new TwofoldError('invalid_value', `the digest must have ${wanted} bytes`);
  }
}

export type DecryptingSpec = Extract<HsmKeySpec, { use: 'decrypt' }>;

export function decryptingSpec(spec: HsmKeySpec): DecryptingSpec {
  if (!('use' in spec) || spec.use !== 'decrypt') throw wrongUse('decrypts');
  return spec;
}

/** Length and range are public (RFC 8017 section 7.1.2, step 1); both fail as wrong padding does. */
export function requireCiphertext(key: HsmKey, ciphertext: Uint8Array): void {
  const { bits } = decryptingSpec(key.spec);
  const modulus = modulusOf(bits, key.material.check);
  if (modulus === undefined) {
    throw new TwofoldError('integrity_failed', 'a recorded RSA public key is malformed');
  }
  if (!isBelow(ciphertext, modulus)) throw new TwofoldError('decryption_failed');
}

export function requireAes(key: HsmKey): void {
  if (key.spec.kind !== 'aes') throw wrongUse('encrypts');
}

/** Wrong lengths fail as a wrong tag does: what decrypts is not described. */
export function requireSealed<S extends Sealed>(sealed: S): S {
  if (sealed.iv.length === GCM.ivBytes && sealed.ciphertext.length >= GCM.tagBytes) return sealed;
  throw new TwofoldError('decryption_failed');
}

export function requireHmac(key: HsmKey): void {
  macHash(key.spec);
}

/** The hash of an HMAC key; `wrong_purpose` for any other. */
export function macHash(spec: HsmKeySpec): HsmHash {
  if (spec.kind !== 'hmac') throw wrongUse('authenticates');
  return spec.hash;
}

export function requireRandomLength(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > RANDOM_LIMIT) {
    throw new TwofoldError('invalid_value', `random takes 1 to ${RANDOM_LIMIT} bytes`);
  }
}

export function requireGenerate(spec: HsmKeySpec, options: GenerateOptions): void {
  if (spec.kind === 'hmac' && spec.bytes !== HASH_BYTES[spec.hash]) {
    throw new TwofoldError('invalid_value', 'an HMAC key is as long as its hash');
  }
  if (options.custody === 'hsm-token' && options.objectId?.length !== OBJECT_ID_BYTES) {
    throw new TwofoldError('invalid_value', `a token key needs an id of ${OBJECT_ID_BYTES} bytes`);
  }
}

/** The 16 bytes of a UUID; `invalid_value` for anything else. */
export function uuidBytes(uuid: string): Buffer {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid)) {
    throw new TwofoldError('invalid_value', 'an installation is named by a lower-case UUID');
  }
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}

/** The UUID text of 16 bytes. */
export function uuidText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function wrongUse(verb: string): TwofoldError {
  return new TwofoldError('wrong_purpose', `not a key that ${verb}`);
}
