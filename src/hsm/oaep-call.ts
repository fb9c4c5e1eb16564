/**
 * RSAES-OAEP with a token. Some tokens have the padding with SHA-256 (CKM_RSA_PKCS_OAEP), others, SoftHSM
 * among them, with SHA-1 alone; of those the raw result is taken (CKM_RSA_X_509) and decoded in the host.
 *
 * Which of the two is shown by use: every key is checked by opening a ciphertext of its own before it
 * serves, and the way that opened the first one is that of the connection.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { TwofoldError } from '../errors.ts';
import { decodeOaep } from '../crypto/oaep.ts';
import type { Connection } from './connection.ts';
import { CKA, CKM } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';
import { failureOf, namesStaleHandle, tellsNothing, TokenFailure } from './failures.ts';
import type { DecryptingSpec } from './inputs.ts';
import { readAttribute, takeBytes } from './objects.ts';
import { withoutZeros } from './pairs.ts';
import { encryptOaep, modulusOf, oaepMechanism } from './rsa.ts';
import type { OaepWay } from './rsa.ts';

const WAYS: readonly OaepWay[] = [CKM.RSA_PKCS_OAEP, CKM.RSA_X_509];
const SAMPLE_BYTES = 32;
const FAILED = {
  code: 'decryption_failed',
  detail: '',
  consequence: 'none',
  returnValue: undefined,
} as const;

/**
 * Opens what a caller sent, whose length and range were checked in the host, with a key that was checked.
 *
 * Whatever the token answers to a ciphertext that it does not open, a ciphertext of the host's own, which
 * must open, tells a wrong one from a fault of the token, and then it is tried once more, for the fault may
 * have passed. All wrong ones take the same steps here.
 *
 * @throws TokenFailure `decryption_failed`, always the same; `hsm_unavailable` when the control fails too
 */
export function openOaep(
  connection: Connection,
  spec: DecryptingSpec,
  handle: Handle,
  publicKey: Uint8Array,
  ciphertext: Uint8Array,
): Uint8Array {
  const way = connection.oaepWay ?? CKM.RSA_X_509;
  try {
    return openBy(connection, way, spec, handle, ciphertext);
  } catch (error) {
    requireAmbiguous(error);
  }
  requireControl(connection, way, spec, handle, publicKey);
  try {
    return openBy(connection, way, spec, handle, ciphertext);
  } catch (error) {
    requireAmbiguous(error);
    throw new TokenFailure(FAILED);
  }
}

/**
 * Kryoptic answers CKR_DEVICE_ERROR to wrong padding: taken for a lost session, it would let any caller
 * end one.
 *
 * @throws TokenFailure `decryption_failed` where the host found it, and what says that the token is away
 */
function requireAmbiguous(error: unknown): void {
  if (TwofoldError.is(error, 'decryption_failed')) throw new TokenFailure(FAILED);
  if (namesStaleHandle(error) || saysLost(error)) throw error;
}

function saysLost(error: unknown): boolean {
  return !tellsNothing(error) && failureOf(error, 'produce').consequence === 'lost';
}

/**
 * Whether the key behind `handle` opens what is encrypted to the public key; finds the connection's way.
 *
 * @throws what the token answers when it fails other than by not opening it
 */
export function opensOwn(
  connection: Connection,
  spec: DecryptingSpec,
  handle: Handle,
  publicKey: Uint8Array,
): boolean {
  // Before it is used: a key of another modulus fails in ways that a token's fault fails in, too.
  if (!hasModulus(connection, spec, handle, publicKey)) return false;
  const { oaepWay } = connection;
  if (oaepWay !== undefined) return opensBy(connection, oaepWay, spec, handle, publicKey);
  const ways = WAYS.filter((way) => connection.mechanisms.has(way));
  for (const [index, way] of ways.entries()) {
    try {
      if (opensBy(connection, way, spec, handle, publicKey)) {
        connection.oaepWay = way;
        return true;
      }
    } catch (error) {
      if (saysLost(error) || index === ways.length - 1) throw error;
    }
  }
  return false;
}

function hasModulus(
  connection: Connection,
  spec: DecryptingSpec,
  handle: Handle,
  publicKey: Uint8Array,
): boolean {
  const wanted = modulusOf(spec.bits, publicKey);
  if (wanted === undefined) return false;
  const read = connection.run((session, cryptoki) =>
    readAttribute(cryptoki, session, handle, CKA.MODULUS),
  );
  return read === undefined || withoutZeros(read).equals(wanted);
}

function opensBy(
  connection: Connection,
  way: OaepWay,
  spec: DecryptingSpec,
  handle: Handle,
  publicKey: Uint8Array,
): boolean {
  const sample = randomBytes(SAMPLE_BYTES);
  const ciphertext = encryptOaep(spec, publicKey, sample);
  try {
    const opened = openBy(connection, way, spec, handle, ciphertext);
    return opened.length === sample.length && timingSafeEqual(opened, sample);
  } catch (error) {
    if (TwofoldError.is(error, 'decryption_failed')) return false;
    throw error;
  }
}

function requireControl(
  connection: Connection,
  way: OaepWay,
  spec: DecryptingSpec,
  handle: Handle,
  publicKey: Uint8Array,
): void {
  let opens: boolean;
  try {
    opens = opensBy(connection, way, spec, handle, publicKey);
  } catch (fault) {
    throw new TokenFailure(failureOf(fault, 'produce'));
  }
  if (opens) return;
  throw new TokenFailure({
    code: 'hsm_unavailable',
    detail: 'the token failed the call',
    consequence: 'suspect',
    returnValue: undefined,
  });
}

/** @throws TwofoldError `decryption_failed` where the host decodes; what the token answers where it does */
function openBy(
  connection: Connection,
  way: OaepWay,
  spec: DecryptingSpec,
  handle: Handle,
  ciphertext: Uint8Array,
): Uint8Array {
  const bytes = spec.bits / 8;
  const raw = way === CKM.RSA_X_509;
  const mechanism = raw ? { mechanism: way } : oaepMechanism(spec.hash);
  const room = Buffer.alloc(bytes);
  try {
    const opened = connection.run((session, cryptoki) => {
      cryptoki.C_DecryptInit(session, mechanism, handle);
      return takeBytes(cryptoki.C_Decrypt(session, Buffer.from(ciphertext), room));
    });
    return raw ? decoded(opened, bytes) : opened;
  } finally {
    room.fill(0);
  }
}

function decoded(raw: Uint8Array, bytes: number): Uint8Array {
  try {
    return decodeOaep(raw, bytes);
  } finally {
    raw.fill(0);
  }
}
