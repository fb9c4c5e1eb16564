/**
 * Check values: that an unwrapped or found key is the one that was recorded.
 *
 * A damaged or swapped blob can unwrap to another valid key, so every key is compared by use with
 * what was stored when it was made: a pair with its public key, a secret with a value that only it
 * could have made. None of them tells anything about the key.
 *
 * Of a deriving pair on a P curve, ECDH proves X alone: a token gives no Y, and k and −k share every
 * secret. So a negated Y passes here; it changes no secret, and the row MAC covers the recorded point.
 */
import { createPublicKey, timingSafeEqual, verify } from 'node:crypto';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import type { Connection } from './connection.ts';
import { CKR, returnValueOf } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';
import { failureOf, TokenFailure } from './failures.ts';
import { GCM } from './inputs.ts';
import type { SigningSpec } from './inputs.ts';
import { gcmDecrypt, gcmDecryptInto, gcmEncrypt, hmac, messageHash } from './mechanisms.ts';
import { rawEcdh, signMessage } from './mechanisms.ts';
import type { ToOpenInto } from './mechanisms.ts';
import { opensOwn } from './oaep-call.ts';
import { ecPublicKey } from './pairs.ts';
import { generatorOf } from '../crypto/point.ts';
import type { HsmKeySpec } from './port.ts';
import type { Sealed } from './protocol.ts';
import { nodeHash } from '../crypto/digests.ts';
import { verifyRsa } from './rsa.ts';

const LABEL = Buffer.from(`${NAME.tokenLabel}/hsm-check/1`);
const HMAC_CHECK_BYTES = 16;

/** X25519's base point, u = 9 (RFC 7748 section 4.1). */
export const X25519_BASE = Uint8Array.from({ length: 32 }, (_, index) => (index === 0 ? 9 : 0));

/** The check value of a new secret key; a pair's is its public key. */
export function secretCheck(connection: Connection, spec: HsmKeySpec, handle: Handle): Uint8Array {
  if (spec.kind === 'hmac') {
    return hmac(connection, spec.hash, handle, LABEL).slice(0, HMAC_CHECK_BYTES);
  }
  // The token chooses the IV, as for data: a fixed one would be a nonce used twice.
  const { iv, ciphertext } = gcmEncrypt(connection, handle, LABEL, LABEL);
  return Uint8Array.from(Buffer.concat([iv, ciphertext]));
}

/** Throws `integrity_failed` unless the key behind `handle` made `check`. */
export function requireCheck(
  connection: Connection,
  spec: HsmKeySpec,
  handle: Handle,
  check: Uint8Array,
): void {
  if (!compare(connection, spec, handle, check)) {
    throw new TwofoldError('integrity_failed', 'a key does not match its recorded check value');
  }
}

function compare(
  connection: Connection,
  spec: HsmKeySpec,
  handle: Handle,
  check: Uint8Array,
): boolean {
  switch (spec.kind) {
    case 'ec':
      return spec.use === 'derive'
        ? equal(
            rawEcdh(connection, spec.curve, handle, generatorOf(spec.curve)),
            check.subarray(1, (check.length + 1) / 2),
          )
        : signsAs(connection, spec, handle, check);
    case 'x25519':
      return equal(rawEcdh(connection, 'X25519', handle, X25519_BASE), check);
    case 'ed25519':
      return signsAs(connection, spec, handle, check);
    case 'rsa':
      return spec.use === 'sign'
        ? signsAs(connection, spec, handle, check)
        : opensOwn(connection, spec, handle, check);
    case 'aes':
      return decryptsLabel(connection, handle, check);
    case 'hmac':
      return equal(hmac(connection, spec.hash, handle, LABEL).subarray(0, HMAC_CHECK_BYTES), check);
  }
}

function signsAs(
  connection: Connection,
  spec: SigningSpec,
  handle: Handle,
  publicKey: Uint8Array,
): boolean {
  return verifiesAs(spec, publicKey, LABEL, signMessage(connection, spec, handle, LABEL));
}

/** By node:crypto: whether the port's signature of a message is one of the raw public key. */
export function verifiesAs(
  spec: SigningSpec,
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (spec.kind === 'rsa') return verifyRsa(spec, publicKey, message, signature);
  if (spec.kind === 'ed25519') return verify(null, message, ed25519Key(publicKey), signature);
  const key = ecPublicKey(spec.curve, publicKey);
  const hash = nodeHash(messageHash(spec) ?? 'SHA-256');
  return verify(hash, message, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

function ed25519Key(publicKey: Uint8Array) {
  const x = Buffer.from(publicKey).toString('base64url');
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
}

/**
 * Decrypts what a caller sent, into its room. Tokens report a wrong tag as they report a fault of their own, so the
 * key's check value, which must open, tells the two apart.
 *
 * @throws TokenFailure `decryption_failed`, or `hsm_unavailable` (suspect) when the control fails too
 */
export function gcmOpen(
  connection: Connection,
  handle: Handle,
  check: Uint8Array,
  opening: ToOpenInto,
): Buffer {
  try {
    return gcmDecryptInto(connection, handle, opening);
  } catch (error) {
    if (returnValueOf(error) !== CKR.GENERAL_ERROR) throw error;
    requireControl(connection, handle, check);
    throw new TokenFailure({ ...failureOf(error, 'consume'), consequence: 'none' });
  }
}

function requireControl(connection: Connection, handle: Handle, check: Uint8Array): void {
  try {
    gcmDecrypt(connection, handle, sealedLabel(check), LABEL);
  } catch (error) {
    throw new TokenFailure(failureOf(error, 'produce'));
  }
}

function sealedLabel(check: Uint8Array): Sealed {
  return { iv: check.subarray(0, GCM.ivBytes), ciphertext: check.subarray(GCM.ivBytes) };
}

function decryptsLabel(connection: Connection, handle: Handle, check: Uint8Array): boolean {
  if (check.length !== GCM.ivBytes + LABEL.length + GCM.tagBytes) return false;
  try {
    return equal(gcmDecrypt(connection, handle, sealedLabel(check), LABEL), LABEL);
  } catch (error) {
    if (failureOf(error, 'consume').code !== 'decryption_failed') throw error;
    // Tokens report a wrong tag as they report a fault of their own. With a tag that must be right
    // the same call tells the two apart; if that fails as well, it is thrown.
    const control = gcmEncrypt(connection, handle, LABEL, LABEL);
    gcmDecrypt(connection, handle, control, LABEL);
    return false;
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
