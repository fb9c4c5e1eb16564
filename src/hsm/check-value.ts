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
import { gcmDecrypt, gcmEncrypt, hmac, rawEcdh, rawEcdsa } from './mechanisms.ts';
import { generatorOf } from '../crypto/point.ts';
import type { HsmKeySpec } from './port.ts';
import type { Sealed } from './protocol.ts';

const LABEL = Buffer.from(`${NAME.tokenLabel}/hsm-check/1`);
const HMAC_CHECK_BYTES = 16;

/** X25519's base point, u = 9 (RFC 7748 section 4.1). */
export const X25519_BASE = Uint8Array.from({ length: 32 }, (_, index) => (index === 0 ? 9 : 0));

/** The check value of a new secret key; a pair's is its public key. */
export function secretCheck(connection: Connection, spec: HsmKeySpec, handle: Handle): Uint8Array {
  if (spec.kind === 'hmac') return hmac(connection, handle, LABEL).slice(0, HMAC_CHECK_BYTES);
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
        : signsAs(connection, spec.curve, handle, check);
    case 'x25519':
      return equal(rawEcdh(connection, 'X25519', handle, X25519_BASE), check);
    case 'aes':
      return decryptsLabel(connection, handle, check);
    case 'hmac':
      return equal(hmac(connection, handle, LABEL).subarray(0, HMAC_CHECK_BYTES), check);
  }
}

function signsAs(
  connection: Connection,
  curve: 'P-256' | 'P-384',
  handle: Handle,
  point: Uint8Array,
): boolean {
  const hash = curve === 'P-256' ? 'sha256' : 'sha384';
  const signature = rawEcdsa(connection, curve, handle, LABEL);
  return verify(
    hash,
    LABEL,
    { key: publicKey(curve, point), dsaEncoding: 'ieee-p1363' },
    signature,
  );
}

/**
 * Decrypts what a caller sent. Tokens report a wrong tag as they report a fault of their own, so the
 * key's check value, which must open, tells the two apart.
 *
 * @throws TokenFailure `decryption_failed`, or `hsm_unavailable` (suspect) when the control fails too
 */
export function gcmOpen(
  connection: Connection,
  handle: Handle,
  check: Uint8Array,
  sealed: Sealed,
  aad: Uint8Array,
): Uint8Array {
  try {
    return gcmDecrypt(connection, handle, sealed, aad);
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

/** A public key of an uncompressed point, for node:crypto. */
export function publicKey(curve: 'P-256' | 'P-384', point: Uint8Array) {
  const half = (point.length - 1) / 2;
  const coordinate = (from: number) =>
    Buffer.from(point.subarray(from, from + half)).toString('base64url');
  return createPublicKey({
    key: { kty: 'EC', crv: curve, x: coordinate(1), y: coordinate(1 + half) },
    format: 'jwk',
  });
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
