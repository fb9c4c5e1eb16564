import { describe, expect, it, jest } from '@jest/globals';
import {
  slh_dsa_sha2_192s,
  slh_dsa_sha2_256f,
  slh_dsa_shake_128f,
  slh_dsa_shake_192s,
  slh_dsa_shake_256f,
} from '@noble/post-quantum/slh-dsa.js';

import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { expectKeyGen, expectNativeSignatures, keyGenVectors } from './slh-dsa-keygen.ts';
import { hex } from './software-halves.ts';

jest.setTimeout(240_000);

/** The sets of the published verifications. */
const NOBLE: Readonly<Record<string, typeof slh_dsa_sha2_192s>> = {
  'SLH-DSA-SHA2-192s': slh_dsa_sha2_192s,
  'SLH-DSA-SHA2-256f': slh_dsa_sha2_256f,
  'SLH-DSA-SHAKE-192s': slh_dsa_shake_192s,
  'SLH-DSA-SHAKE-256f': slh_dsa_shake_256f,
  'SLH-DSA-SHAKE-128f': slh_dsa_shake_128f,
};

describe('ACVP SLH-DSA key generation from the seed', () => {
  it('the public key, by both engines where they compute it apart', async () => {
    const { quick } = keyGenVectors();
    await expectKeyGen(quick);
    report(`SLH-DSA keyGen: ${quick.length}, the others in the slow suite`);
    if (hasPublishedFolder()) expect(quick).toHaveLength(18);
  });

  it('native signatures of the seed verify under the published key, by both engines', () =>
    expectNativeSignatures(false));
});

describe('ACVP SLH-DSA verification', () => {
  // The vectors are of the internal interface, whose message no engine takes: noble has it.
  it('by the library below the portable engine; the keys by the engine', async () => {
    let count = 0;
    for (const { set, pk, sk, message, signature, testPassed } of vectorsOf('slh-dsa-sigver')) {
      const scheme = NOBLE[set];
      if (scheme === undefined) throw new Error(`no ${set}`);
      const valid = scheme.internal.verify(hex(signature), hex(message), hex(pk));
      expect(valid).toBe(testPassed);
      expect(sk.endsWith(pk)).toBe(true);
      const outside = await portableEngine.signatures.verify(
        set,
        hex(pk),
        hex(message),
        hex(signature),
        hex(''),
      );
      expect(outside).toBe(false);
      count += 1;
    }
    report(`SLH-DSA sigVer: ${count}, composed by the test`);
    if (hasPublishedFolder()) expect(count).toBe(45);
  });
});
