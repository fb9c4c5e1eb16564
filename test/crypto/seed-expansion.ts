/**
 * Seeded key derivation of the published hybrid vectors (draft-irtf-cfrg-concrete-hybrid-kems,
 * X-Wing). The service itself never expands a common seed: its halves are made apart.
 */
import { shake256 } from '../../src/crypto/hpke.ts';
import type { Curve } from '../../src/crypto/suite.ts';

/** Nseed of the group, bytes. */
export const GROUP_SEED_LENGTH: Readonly<Record<Curve, number>> = {
  'P-256': 128,
  'P-384': 48,
  X25519: 32,
};

const ORDER = {
  'P-256': 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  'P-384':
    0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
};

/** RandomScalar: the first window of the seed that is a scalar in range. */
export function randomScalarFrom(curve: Curve, seed: Uint8Array): Uint8Array {
  if (curve === 'X25519') return seed;
  const width = curve === 'P-256' ? 32 : 48;
  for (let offset = 0; offset + width <= seed.length; offset += width) {
    const window = seed.subarray(offset, offset + width);
    const scalar = BigInt(`0x${Buffer.from(window).toString('hex')}`);
    if (scalar > 0n && scalar < ORDER[curve]) return window;
  }
  throw new Error('no scalar in the seed');
}

/** ML-KEM's d ‖ z and the classical scalar of a 32-byte hybrid seed. */
export function expandSeed(curve: Curve, seed: Uint8Array) {
  const expanded = shake256.xof([seed], 64 + GROUP_SEED_LENGTH[curve]);
  return {
    pqSeed: expanded.subarray(0, 64),
    scalar: randomScalarFrom(curve, expanded.subarray(64)),
  };
}
