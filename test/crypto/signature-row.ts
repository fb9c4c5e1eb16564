/** What every row of signatures promises, whatever it is made of. */
import { randomBytes } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { concatBytes, utf8 } from '../../src/crypto/bytes.ts';
import { DIGEST_LENGTHS, digestBytes } from '../../src/crypto/digests.ts';
import { MU_LENGTH } from '../../src/crypto/engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { engineOf, randomSignatureKey } from './software-halves.ts';
import type { Hash, SignatureInput, SignatureSuite } from '../../src/crypto/suite.ts';

const NOTHING = new Uint8Array(0);
const refused = { code: 'invalid_value' };

/** Inputs that no signature of the suite can be of. */
function impossibleInputs({ prehash, takes }: SignatureSuite['signer']): SignatureInput[] {
  const digest = (algorithm: Hash, length: number) => ({
    digest: { algorithm, value: new Uint8Array(length) },
  });
  const hashes: readonly Hash[] = ['SHA-256', 'SHA-384', 'SHA-512'];
  const foreign = hashes
    .filter((hash) => hash !== prehash)
    .map((hash) => digest(hash, DIGEST_LENGTHS[hash]));
  const length = prehash === null ? 0 : DIGEST_LENGTHS[prehash];
  const uneven = prehash === null ? [] : [0, length - 1, length + 1];
  const muLengths = takes.mu ? [0, MU_LENGTH - 1, MU_LENGTH + 1] : [MU_LENGTH];
  return [
    ...foreign,
    ...uneven.map((bytes) => digest(prehash ?? 'SHA-512', bytes)),
    ...muLengths.map((bytes) => ({ mu: new Uint8Array(bytes) })),
  ];
}

export function describeSignatureRow(suite: SignatureSuite): void {
  const { signer } = suite;
  const { takes, prehash } = signer;
  const engine = engineOf(suite);
  const key = randomSignatureKey(engine, suite);
  const message = Uint8Array.from(randomBytes(100));
  const context = takes.context ? utf8('context') : NOTHING;
  // One signature serves all questions: some sets take a second for another.
  const signed = signer.sign({ message }, context, key.halves);
  signed.catch(() => undefined);

  const verify = (signature: Uint8Array, input: SignatureInput = { message }, given = context) =>
    signer.verify(engine, key.publicKey, input, given, signature);

  describe(`signature ${suite.id}`, () => {
    it('verifies, within the length of the row', async () => {
      const signature = await signed;
      expect(signature.length).toBeLessThanOrEqual(signer.lengths.signatureMax);
      expect(await verify(signature)).toBe(true);
    });

    it('binds message, context and key', async () => {
      const signature = await signed;
      expect(await verify(signature, { message: concatBytes(message, Uint8Array.of(0)) })).toBe(
        false,
      );
      expect(await verify(signature, { message: NOTHING })).toBe(false);
      const other = randomSignatureKey(engine, suite, key).publicKey;
      expect(await signer.verify(engine, other, { message }, context, signature)).toBe(false);
      if (!takes.context) return;
      expect(await verify(signature, { message }, NOTHING)).toBe(false);
      expect(await verify(signature, { message }, utf8('contexu'))).toBe(false);
    });

    it('is false for flipped bits and other lengths', async () => {
      const signature = await signed;
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: signature.length * 8 - 1 }), async (bit) => {
          const flipped = Uint8Array.from(signature);
          flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          return !(await verify(flipped));
        }),
        { numRuns: engine.name === 'native' ? 60 : 20 },
      );
      const longer = concatBytes(signature, Uint8Array.of(0));
      const front = concatBytes(Uint8Array.of(0), signature);
      const random = Uint8Array.from(randomBytes(signature.length));
      const zeros = new Uint8Array(signature.length);
      const ones = new Uint8Array(signature.length).fill(0xff);
      const cut = [NOTHING, signature.subarray(0, -1), signature.subarray(1)];
      for (const wrong of [...cut, longer, front, random, zeros, ones]) {
        expect(await verify(wrong)).toBe(false);
      }
    });

    it('takes a digest like its message, where it hashes first', async () => {
      if (prehash === null) return;
      const digest = { digest: { algorithm: prehash, value: digestBytes(prehash, message) } };
      const signature = await signer.sign(digest, context, key.halves);
      expect(await verify(signature)).toBe(true);
      expect(await verify(signature, digest)).toBe(true);
      expect(await verify(await signed, digest)).toBe(true);
      const value = digestBytes(prehash, NOTHING);
      expect(await verify(await signed, { digest: { algorithm: prehash, value } })).toBe(false);
    });

    it('takes mu, where it is ML-DSA alone, and no context beside it', async () => {
      if (!takes.mu) return;
      const mu = Uint8Array.from(randomBytes(MU_LENGTH));
      // OpenSSL has no external mu.
      const muKey = randomSignatureKey(portableEngine, suite);
      const signature = await signer.sign({ mu }, NOTHING, muKey.halves);
      const check = (given: Uint8Array) =>
        signer.verify(portableEngine, muKey.publicKey, { mu: given }, NOTHING, signature);
      expect(await check(mu)).toBe(true);
      expect(await check(new Uint8Array(MU_LENGTH))).toBe(false);
      await expect(signer.sign({ mu }, context, key.halves)).rejects.toMatchObject(refused);
      await expect(verify(signature, { mu })).rejects.toMatchObject(refused);
    });

    it('refuses what it cannot sign, when signing and when verifying', async () => {
      const signature = await signed;
      for (const input of impossibleInputs(signer)) {
        await expect(signer.sign(input, NOTHING, key.halves)).rejects.toMatchObject(refused);
        await expect(verify(signature, input, NOTHING)).rejects.toMatchObject(refused);
      }
    });

    it('takes contexts of 255 bytes at most, or none', async () => {
      const signature = await signed;
      const tooLong = new Uint8Array(takes.context ? 256 : 1);
      const signing = signer.sign({ message }, tooLong, key.halves);
      await expect(signing).rejects.toMatchObject(refused);
      await expect(verify(signature, { message }, tooLong)).rejects.toMatchObject(refused);
      if (!takes.context) return;
      expect(await verify(signature, { message }, new Uint8Array(255))).toBe(false);
    });

    it('refuses a public key of another length', async () => {
      const signature = await signed;
      const longer = concatBytes(key.publicKey, Uint8Array.of(0));
      for (const publicKey of [NOTHING, key.publicKey.subarray(1), longer]) {
        const verified = signer.verify(engine, publicKey, { message }, context, signature);
        await expect(verified).rejects.toMatchObject(refused);
        expect(() => signer.splitPublicKey(publicKey)).toThrow(expect.objectContaining(refused));
      }
    });
  });
}

/** Sets whose signatures take long: the small ones of SLH-DSA, of which one runs in the fast suite. */
export const isSlow = ({ pq }: SignatureSuite): boolean =>
  pq !== null && /^SLH-DSA-.*s$/.test(pq) && pq !== 'SLH-DSA-SHA2-128s';
