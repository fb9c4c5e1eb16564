import { expect, it, jest } from '@jest/globals';

import { hasPublishedFolder, report } from '../vectors/published.ts';
import { expectKeyGen, expectNativeSignatures, keyGenVectors } from './slh-dsa-keygen.ts';

jest.setTimeout(600_000);

it('ACVP SLH-DSA key generation, the vectors that slh-dsa-vectors.test.ts leaves', async () => {
  const { others } = keyGenVectors();
  await expectKeyGen(others);
  report(`SLH-DSA keyGen: ${others.length} more`);
  if (hasPublishedFolder()) expect(others).toHaveLength(102);
});

it('native signatures of the small sets verify under the published key, by both engines', () =>
  expectNativeSignatures(true));
