/** Classical groups: public-key checks, ephemeral ECDH in the host, and node KeyObjects. */
import { createPublicKey, diffieHellman, generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { equalBytes } from './bytes.ts';
import { SecretBytes } from './secret.ts';
import type { Curve } from './suite.ts';

interface CurveRow {
  /** Raw public key: 04 ‖ X ‖ Y, or X25519's 32 bytes. */
  readonly publicKeyLength: number;
  /** Length of an ECDH output and of each of r and s. */
  readonly fieldLength: number;
  readonly point: boolean;
}

export const CURVES: Readonly<Record<Curve, CurveRow>> = {
  'P-256': { publicKeyLength: 65, fieldLength: 32, point: true },
  'P-384': { publicKeyLength: 97, fieldLength: 48, point: true },
  X25519: { publicKeyLength: 32, fieldLength: 32, point: false },
};

const invalid = (cause?: unknown) =>
  new TwofoldError('invalid_value', 'The classical public key is not valid.', { cause });

function importRaw(curve: Curve, publicKey: Uint8Array): KeyObject {
  const key = Buffer.from(publicKey);
  return CURVES[curve].point
    ? createPublicKey({ key, format: 'raw-public', asymmetricKeyType: 'ec', namedCurve: curve })
    : createPublicKey({ key, format: 'raw-public', asymmetricKeyType: 'x25519' });
}

/**
 * The key as node's object, after the checks of SP 800-56A section 5.6.2.3: exact length,
 * uncompressed form, coordinates below p, on the curve. X25519 takes any 32 bytes here; its
 * low-order points are refused where they are used, see `checkPublicKey`.
 * @throws TwofoldError invalid_value
 */
export function importPublicKey(curve: Curve, publicKey: Uint8Array): KeyObject {
  const { publicKeyLength, point } = CURVES[curve];
  if (publicKey.length !== publicKeyLength || (point && publicKey[0] !== 4)) throw invalid();
  try {
    return importRaw(curve, publicKey);
  } catch (error) {
    throw invalid(error);
  }
}
export { generateKeyPairSync, diffieHellman, equalBytes, SecretBytes };
