/**
 * C2SP's CCTV: edge cases and accumulated runs. Not in the extract, as most of it states no licence; the keys that are not reduced
 * are in `engine.test.ts`.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it, jest } from '@jest/globals';
import { shake128 } from '@noble/hashes/sha3.js';
import { ml_dsa44, ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';
import { ml_kem1024, ml_kem512, ml_kem768 } from '@noble/post-quantum/ml-kem.js';

import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { FOLDER, hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { expectMessages } from './cctv-messages.ts';
import { hex, toHex } from './software-halves.ts';
import type { MlDsaParameterSet, MlKemParameterSet } from '../../src/crypto/engine.ts';

jest.setTimeout(240_000);

const KEMS = { 'ML-KEM-512': ml_kem512, 'ML-KEM-768': ml_kem768, 'ML-KEM-1024': ml_kem1024 };
const SIGNERS = { 'ML-DSA-44': ml_dsa44, 'ML-DSA-65': ml_dsa65, 'ML-DSA-87': ml_dsa87 };

const present = hasPublishedFolder();
if (!present) report('CCTV: NOT run, the published folder is absent');
const describeIf = present ? describe : describe.skip;

function readFields(name: string, set: MlKemParameterSet) {
  const text = readFileSync(join(FOLDER, 'cctv/ML-KEM', name, `${set}.txt`), 'utf8');
  const fields = new Map(
    text
      .trim()
      .split('\n')
      .map((line) => line.split(' = ') as [string, string]),
  );
  return (field: string) => hex(fields.get(field) ?? '');
}

describeIf.each(Object.keys(KEMS) as MlKemParameterSet[])('CCTV %s', (set) => {
  // They are of the draft of FIPS 203, whose G(d) lacks k: no seed of ours gives their keys, so the
  // library below the portable engine decapsulates with the expanded ones.
  it('strcmp: a ciphertext that differs behind a zero byte is rejected implicitly', () => {
    const field = readFields('strcmp', set);
    expect(toHex(KEMS[set].decapsulate(field('c'), field('dk')))).toBe(toHex(field('K')));
  });

  it('unluckysample: a matrix that takes more than 575 bytes of SHAKE128', async () => {
    const field = readFields('unluckysample', set);
    const { cipherText, sharedSecret } = KEMS[set].encapsulate(field('ek'), field('m'));
    expect(toHex(cipherText)).toBe(toHex(field('c')));
    expect(toHex(sharedSecret)).toBe(toHex(field('K')));
    for (const { mlKem } of [nativeEngine, portableEngine]) {
      const fresh = await mlKem.encapsulate(set, field('ek'));
      const secret = KEMS[set].decapsulate(fresh.ciphertext, field('dk'));
      expect(toHex(secret)).toBe(toHex(fresh.sharedSecret.reveal()));
    }
  });
});

describe('CCTV ML-KEM, intermediate values', () => {
  it('lead to the ciphertext and secret, for a draft key that the engines encapsulate to', async () => {
    let count = 0;
    for (const { set, ek, dk, m, c, K } of vectorsOf('ml-kem-intermediate')) {
      const { cipherText, sharedSecret } = KEMS[set].encapsulate(hex(ek), hex(m));
      expect([set, toHex(cipherText), toHex(sharedSecret)]).toEqual([set, c, K]);
      expect(toHex(KEMS[set].decapsulate(hex(c), hex(dk)))).toBe(K);
      for (const { mlKem } of [nativeEngine, portableEngine]) {
        mlKem.checkPublicKey(set, hex(ek));
        const fresh = await mlKem.encapsulate(set, hex(ek));
        const secret = KEMS[set].decapsulate(fresh.ciphertext, hex(dk));
        expect(toHex(secret)).toBe(toHex(fresh.sharedSecret.reveal()));
      }
      count += 1;
    }
    report(`CCTV ML-KEM intermediate: ${count}`);
    expect(count).toBe(hasPublishedFolder() ? 3 : 0);
  });
});

// Chosen for the rejections that signing them deterministically meets: a loop that ends too early shows.
it('CCTV ML-DSA, messages with every kind of rejection: native, and a part by the library', () =>
  expectMessages(40));

/** The result of 100 iterations, of `accumulated/README.md`. */
const ACCUMULATED: readonly (readonly [MlDsaParameterSet, string])[] = [
  ['ML-DSA-44', 'd51148e1f9f4fa1a723a6cf42e25f2a99eb5c1b378b3d2dbbd561b1203beeae4'],
  ['ML-DSA-65', '8358a1843220194417cadbc2651295cd8fc65125b5a5c1a239a16dc8b57ca199'],
  ['ML-DSA-87', '8c3ad714777622b8f21ce31bb35f71394f23bc0fcf3c78ace5d608990f3b061b'],
];

describe.each(ACCUMULATED)('CCTV %s', (set, expected) => {
  it('100 keys and signatures, accumulated', async () => {
    const none = new Uint8Array(0);
    const seeds = shake128.create();
    const all = createHash('shake128', { outputLength: 32 });
    for (let count = 0; count < 100; count += 1) {
      const seed = SecretBytes.own(seeds.xof(32));
      const publicKey = await nativeEngine.signatures.publicKey(set, seed);
      // Deterministic, which no engine signs: by the library, and both engines verify.
      const { secretKey } = SIGNERS[set].keygen(seed.reveal());
      const signature = SIGNERS[set].sign(none, secretKey, { extraEntropy: false });
      for (const { signatures } of [nativeEngine, portableEngine]) {
        expect(await signatures.verify(set, publicKey, none, signature, none)).toBe(true);
      }
      all.update(publicKey).update(signature);
    }
    expect(all.digest('hex')).toBe(expected);
  });
});
