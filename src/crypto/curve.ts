/**
 * Classical groups in the host: public-key checks, the ephemeral side of ECDH.
 * Private keys of long life are never here; they are in the HSM.
 */
import { createPublicKey, diffieHellman, generateKeyPair, generateKeyPairSync } from 'node:crypto';
import { promisify } from 'node:util';
import type { KeyObject } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { isValidPoint } from './point.ts';
import { SecretBytes } from './secret.ts';
import type { Curve } from './suite.ts';

const generateKeyPairAsync = promisify(generateKeyPair);
const diffieHellmanAsync = promisify<Parameters<typeof diffieHellman>[0], Buffer>(diffieHellman);

interface CurveRow {
  /** Raw public key: 04 ‖ X ‖ Y, or X25519's 32 bytes. */
  readonly publicKeyLength: number;
  /** Length of an ECDH output. */
  readonly fieldLength: number;
  /** Too slow for the event loop: 1.6 ms of CPU against 0.1, where a thread costs more than it saves. */
  readonly inThread: boolean;
}

export const CURVES: Readonly<Record<Curve, CurveRow>> = {
  'P-256': { publicKeyLength: 65, fieldLength: 32, inThread: false },
  'P-384': { publicKeyLength: 97, fieldLength: 48, inThread: true },
  X25519: { publicKeyLength: 32, fieldLength: 32, inThread: false },
};

function importRaw(curve: Curve, publicKey: Uint8Array): KeyObject {
  const key = Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.byteLength);
  return curve === 'X25519'
    ? createPublicKey({ key, format: 'raw-public', asymmetricKeyType: 'x25519' })
    : createPublicKey({ key, format: 'raw-public', asymmetricKeyType: 'ec', namedCurve: curve });
}

interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

function generateSync(curve: Curve): KeyPair {
  return curve === 'X25519'
    ? generateKeyPairSync('x25519')
    : generateKeyPairSync('ec', { namedCurve: curve });
}

function generateInThread(curve: Curve): Promise<KeyPair> {
  return curve === 'X25519'
    ? generateKeyPairAsync('x25519')
    : generateKeyPairAsync('ec', { namedCurve: curve });
}

const invalidKey = () =>
  new TwofoldError('invalid_value', 'The classical public key is not valid.');

/**
 * The whole check of a key before it goes to an HSM, is stored or is used: exact length,
 * uncompressed form, coordinates below p, on the curve, no low order (SP 800-56A section 5.6.2.3.3;
 * on the prime-order curves only infinity has low order, and it has no such encoding).
 * @throws TwofoldError invalid_value
 */
export function checkPublicKey(curve: Curve, publicKey: Uint8Array): void {
  if (!isValidPoint(curve, publicKey)) throw invalidKey();
}

/**
 * The key as node's object, after the same check.
 * @throws TwofoldError invalid_value
 */
export function importPublicKey(curve: Curve, publicKey: Uint8Array): KeyObject {
  checkPublicKey(curve, publicKey);
  return importRaw(curve, publicKey);
}

/** The raw public key of node's object: 04 ‖ X ‖ Y, or 32 bytes. */
export function exportPublicKey(key: KeyObject): Uint8Array {
  return Uint8Array.from(
    key.asymmetricKeyType === 'ec'
      ? key.export({ format: 'raw-public', type: 'uncompressed' })
      : key.export({ format: 'raw-public' }),
  );
}

/**
 * A new pair and its ECDH with `peer`; the private key is dropped at once. `secret` is the
 * x-coordinate or X25519's output, owned by the caller.
 * @throws TwofoldError invalid_value for a bad or low-order peer
 */
export async function agreeEphemeral(
  curve: Curve,
  peer: Uint8Array,
): Promise<{ readonly publicKey: Uint8Array; readonly secret: SecretBytes }> {
  const peerKey = importPublicKey(curve, peer);
  const { inThread } = CURVES[curve];
  const { publicKey, privateKey } = inThread ? await generateInThread(curve) : generateSync(curve);
  const pair = { privateKey, publicKey: peerKey };
  const secret = inThread ? await diffieHellmanAsync(pair) : diffieHellman(pair);
  return { publicKey: exportPublicKey(publicKey), secret: SecretBytes.own(secret) };
}
