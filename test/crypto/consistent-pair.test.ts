import { describe, expect, it } from '@jest/globals';

import { consistentKemPair } from '../../src/crypto/ml-kem-key.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { consistentPair } from '../../src/crypto/signature-inputs.ts';

const { mlKem, signatures } = nativeEngine;
const internal = { code: 'internal' };

describe('the pairwise consistency test', () => {
  it.each(['ML-DSA-44', 'SLH-DSA-SHA2-128f'] as const)('%s: of a pair of two keys', async (set) => {
    const [one, other] = [await signatures.generate(set), await signatures.generate(set)];
    expect(await consistentPair(signatures, set, one)).toBe(one);
    const mixed = { seed: one.seed, publicKey: other.publicKey };
    await expect(consistentPair(signatures, set, mixed)).rejects.toMatchObject(internal);
    expect(() => one.seed.reveal()).toThrow('wiped');
  });

  it('wipes the seed when the signature cannot be made', async () => {
    const pair = await signatures.generate('ML-DSA-44');
    const importSeed: typeof signatures.importSeed = (set, seed) => ({
      ...signatures.importSeed(set, seed),
      sign: () => Promise.reject(new Error('no entropy')),
    });
    const broken = { ...signatures, importSeed };
    await expect(consistentPair(broken, 'ML-DSA-44', pair)).rejects.toThrow('no entropy');
    expect(() => pair.seed.reveal()).toThrow('wiped');
  });

  it('ML-KEM: of a pair of two keys', async () => {
    const set = 'ML-KEM-768';
    const [one, other] = [await mlKem.generate(set), await mlKem.generate(set)];
    expect(await consistentKemPair(mlKem, set, one)).toBe(one);
    const mixed = { seed: one.seed, publicKey: other.publicKey };
    await expect(consistentKemPair(mlKem, set, mixed)).rejects.toMatchObject(internal);
    expect(() => one.seed.reveal()).toThrow('wiped');
  });
});
