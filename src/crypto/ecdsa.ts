/**
 * ECDSA signatures between r ‖ s (PKCS#11, IEEE P1363) and DER (Ecdsa-Sig-Value, RFC 3279 section
 * 2.2.3). Both directions accept exactly one form per (r, s), with 0 < r, s < n.
 */
import { concatBytes } from './bytes.ts';
import { CURVES } from './curve.ts';
import type { SigningCurve } from './suite.ts';

/** Orders of the base points (SP 800-186 section 3.2.1), big-endian. */
const ORDERS: Readonly<Record<SigningCurve, Buffer>> = {
  'P-256': Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex'),
  'P-384': Buffer.from(
    'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
    'hex',
  ),
};

const SEQUENCE = 0x30;
const INTEGER = 0x02;

function inRange(curve: SigningCurve, scalar: Uint8Array): boolean {
  return scalar.some((byte) => byte !== 0) && Buffer.compare(scalar, ORDERS[curve]) < 0;
}

/** Shortest two's complement form of a positive integer. */
function encodeInteger(scalar: Uint8Array): Uint8Array {
  const digits = scalar.subarray(scalar.findIndex((byte) => byte !== 0));
  const sign = (digits[0] ?? 0) & 0x80 ? Uint8Array.of(0) : new Uint8Array(0);
  return concatBytes(Uint8Array.of(INTEGER, sign.length + digits.length), sign, digits);
}

/** @throws RangeError when `raw` is not a valid r ‖ s (a broken signer, not a caller's input) */
export function encodeEcdsaSignature(curve: SigningCurve, raw: Uint8Array): Uint8Array {
  const { fieldLength } = CURVES[curve];
  const [r, s] = [raw.subarray(0, fieldLength), raw.subarray(fieldLength)];
  if (raw.length !== 2 * fieldLength || !inRange(curve, r) || !inRange(curve, s)) {
    throw new RangeError('the signer gave no valid r and s');
  }
  const body = concatBytes(encodeInteger(r), encodeInteger(s));
  return concatBytes(Uint8Array.of(SEQUENCE, body.length), body);
}

/** The fixed-width scalar at the start of `bytes` and what follows it. */
function takeInteger(
  curve: SigningCurve,
  bytes: Uint8Array,
): { readonly scalar: Uint8Array; readonly rest: Uint8Array } | undefined {
  const length = bytes[1] ?? 0;
  const content = bytes.subarray(2, 2 + length);
  if (bytes[0] !== INTEGER || length === 0 || content.length !== length) return undefined;
  const digits = content[0] === 0 ? content.subarray(1) : content;
  const { fieldLength } = CURVES[curve];
  if (digits.length > fieldLength) return undefined;
  const scalar = new Uint8Array(fieldLength);
  scalar.set(digits, fieldLength - digits.length);
  return { scalar, rest: bytes.subarray(2 + length) };
}

/** r ‖ s, or undefined unless `der` is the one DER form of a signature on this curve. */
export function decodeEcdsaSignature(curve: SigningCurve, der: Uint8Array): Uint8Array | undefined {
  const r = der[0] === SEQUENCE ? takeInteger(curve, der.subarray(2)) : undefined;
  const s = r && takeInteger(curve, r.rest);
  if (r === undefined || s === undefined) return undefined;
  if (!inRange(curve, r.scalar) || !inRange(curve, s.scalar)) return undefined;
  const raw = concatBytes(r.scalar, s.scalar);
  // Length bytes, sign and leading zeros: whatever is not canonical does not come back the same.
  return Buffer.compare(encodeEcdsaSignature(curve, raw), der) === 0 ? raw : undefined;
}
