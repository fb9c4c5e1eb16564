/** ACVP's vectors of SLH-DSA key generation, shared out between the fast and the slow file. */
import { expect } from '@jest/globals';

import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { vectorsOf } from '../vectors/published.ts';
import type { SlhDsaKeyGenVector } from '../vectors/published.ts';
import { hex, toHex } from './software-halves.ts';

/** The small sets take up to 2 s for a key or a signature, 64 times as long as the fast ones. */
const isSmall = (set: string) => /\d+s$/.test(set);

/** Every vector is in one of the two: the first of each set, and one more where that is quick. */
export function keyGenVectors(): Record<'quick' | 'others', readonly SlhDsaKeyGenVector[]> {
  const sets = Map.groupBy(vectorsOf('slh-dsa-keygen'), ({ set }) => set);
  const isQuick = ({ set }: SlhDsaKeyGenVector, n: number) => n < (isSmall(set) ? 1 : 2);
  const groups = [...sets.values()];
  return {
    quick: groups.flatMap((group) => group.filter(isQuick)),
    others: groups.flatMap((group) => group.filter((row, n) => !isQuick(row, n))),
  };
}

export async function expectKeyGen(vectors: readonly SlhDsaKeyGenVector[]): Promise<void> {
  for (const { set, seed, pk, sk } of vectors) {
    const secret = SecretBytes.own(hex(seed));
    expect(toHex(await portableEngine.signatures.publicKey(set, secret))).toBe(pk);
    expect(sk).toBe(seed + pk.slice(pk.length / 2));
  }
}

const MESSAGE = hex('00ff');
const CONTEXT = hex('01');

/**
 * OpenSSL gives no root for a seed; that its signature verifies under pk says that the roots agree. The
 * quick sets, or the small ones, which are left to the slow file.
 */
export async function expectNativeSignatures(small: boolean): Promise<void> {
  const first = new Map(vectorsOf('slh-dsa-keygen').map((vector) => [vector.set, vector]));
  expect(first.size).toBe(12);
  const chosen = [...first.values()].filter(({ set }) => isSmall(set) === small);
  expect(chosen).toHaveLength(6);
  for (const { set, seed, pk } of chosen) {
    const key = nativeEngine.signatures.importSeed(set, SecretBytes.own(hex(seed)));
    const signature = await key.sign(MESSAGE, CONTEXT);
    for (const { signatures } of [nativeEngine, portableEngine]) {
      const verify = (context: Uint8Array) =>
        signatures.verify(set, hex(pk), MESSAGE, signature, context);
      expect([await verify(CONTEXT), await verify(hex(''))]).toEqual([true, false]);
    }
  }
}
