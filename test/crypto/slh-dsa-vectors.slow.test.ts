import { expect, it, jest } from '@jest/globals';

import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { hex, toHex } from './software-halves.ts';

jest.setTimeout(600_000);

it('ACVP SLH-DSA key generation, every vector', async () => {
  const vectors = vectorsOf('slh-dsa-keygen');
  for (const { set, seed, pk } of vectors) {
    const publicKey = await portableEngine.signatures.publicKey(set, SecretBytes.own(hex(seed)));
    expect(toHex(publicKey)).toBe(pk);
  }
  report(`SLH-DSA keyGen: ${vectors.length}`);
  if (hasPublishedFolder()) expect(vectors).toHaveLength(120);
});
