/** ACVP's vectors of SLH-DSA key generation, shared out between the fast and the slow file. */
import { expect } from '@jest/globals';

import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { vectorsOf } from '../vectors/published.ts';
import type { SlhDsaKeyGenVector } from '../vectors/published.ts';
import { hex, toHex } from './software-halves.ts';

/** The small sets take up to 2 s for a key, 64 times as long as the fast ones. */
const isSmall = ({ set }: SlhDsaKeyGenVector) => /\d+s$/.test(set);

/** Every vector is in one of the two; the first two of each small set are quick enough. */
export function keyGenVectors(): Record<'quick' | 'others', readonly SlhDsaKeyGenVector[]> {
  const sets = Map.groupBy(vectorsOf('slh-dsa-keygen'), ({ set }) => set);
  const groups = [...sets.values()];
  const quick = groups.flatMap((group) => group.filter((row, n) => n < 2 || !isSmall(row)));
  const others = groups.flatMap((group) => group.filter((row, n) => n >= 2 && isSmall(row)));
  return { quick, others };
}

export async function expectKeyGen(vectors: readonly SlhDsaKeyGenVector[]): Promise<void> {
  for (const { set, seed, pk, sk } of vectors) {
    const secret = SecretBytes.own(hex(seed));
    expect(toHex(await portableEngine.signatures.publicKey(set, secret))).toBe(pk);
    expect(sk).toBe(seed + pk.slice(pk.length / 2));
  }
}
