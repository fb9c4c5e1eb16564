/** CCTV's messages for the zero seed's keys of ML-DSA, shared out between the fast and the slow file. */
import { expect } from '@jest/globals';
import { ml_dsa44, ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';

import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';

const SIGNERS = { 'ML-DSA-44': ml_dsa44, 'ML-DSA-65': ml_dsa65, 'ML-DSA-87': ml_dsa87 };
const NONE = new Uint8Array(0);

/**
 * Signs every message natively, and every n-th as the file means it: deterministically, by the library
 * below the portable engine, which takes 20 to 60 ms for each. Both engines verify what the other signed.
 */
export async function expectMessages(every: number): Promise<void> {
  const counts = { native: 0, library: 0 };
  for (const [set, rows] of Map.groupBy(vectorsOf('ml-dsa-messages'), (row) => row.set)) {
    const { publicKey, secretKey } = SIGNERS[set].keygen(new Uint8Array(32));
    const seed = SecretBytes.own(new Uint8Array(32));
    const key = nativeEngine.signatures.importSeed(set, seed);
    for (const [index, { message }] of rows.entries()) {
      const text = new TextEncoder().encode(message);
      const verify = (by: typeof nativeEngine, signature: Uint8Array) =>
        by.signatures.verify(set, publicKey, text, signature, NONE);
      const own = await key.sign(text, NONE);
      expect(await verify(nativeEngine, own)).toBe(true);
      counts.native += 1;
      if (index % every !== 0) continue;
      const theirs = SIGNERS[set].sign(text, secretKey, { extraEntropy: false });
      expect(await verify(nativeEngine, theirs)).toBe(true);
      expect(await verify(portableEngine, own)).toBe(true);
      counts.library += 1;
    }
    key.release();
  }
  report(`CCTV ML-DSA messages: ${JSON.stringify(counts)}`);
  if (!hasPublishedFolder()) return;
  const library = [376, 294, 228].reduce((sum, count) => sum + Math.ceil(count / every), 0);
  expect(counts).toEqual({ native: 898, library });
}
