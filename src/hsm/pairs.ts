/** Key pairs as tokens make them: which mechanism, and how the public key is read. */
import { TwofoldError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { CKA, CKM } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';
import { readAttribute } from './objects.ts';
import { isValidPoint } from '../crypto/point.ts';
import type { HsmKeySpec } from './port.ts';

/** Montgomery pairs have a mechanism of their own since v3.0; older tokens make them as Edwards. */
export function pairMechanism(connection: Connection, spec: HsmKeySpec): number {
  if (spec.kind === 'ec') return CKM.EC_KEY_PAIR_GEN;
  return connection.mechanisms.has(CKM.EC_MONTGOMERY_KEY_PAIR_GEN)
    ? CKM.EC_MONTGOMERY_KEY_PAIR_GEN
    : CKM.EC_EDWARDS_KEY_PAIR_GEN;
}

/** CKA_EC_POINT is an OCTET STRING around the point; a few tokens return the bare point. */
export function requirePublicKey(
  connection: Connection,
  spec: HsmKeySpec,
  publicKey: Handle,
): Uint8Array {
  const raw = connection.run((session, cryptoki) =>
    readAttribute(cryptoki, session, publicKey, CKA.EC_POINT),
  );
  const curve = spec.kind === 'ec' ? spec.curve : 'X25519';
  const header = raw?.[1] === 0x81 ? 3 : 2;
  for (const candidate of raw === undefined ? [] : [raw.subarray(header), raw]) {
    if (isValidPoint(curve, candidate)) return Uint8Array.from(candidate);
  }
  throw new TwofoldError('hsm_unavailable', 'the token returned a public key that is not valid');
}
