import { describe, expect, it } from '@jest/globals';
import { ml_kem1024, ml_kem768 } from '@noble/post-quantum/ml-kem.js';

import { standardCombiner } from '../../src/crypto/combiner.ts';
import { writeSpki } from '../../src/crypto/spki.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { vectorsOf } from '../vectors/published.ts';
import { expandSeed, randomScalarFrom } from './seed-expansion.ts';
import {
  classicalPublicKey,
  derive,
  derivingCurve,
  hex,
  kemKey,
  toHex,
} from './software-halves.ts';
import type { KemSuite } from '../../src/crypto/suite.ts';

const ENGINES = [nativeEngine, portableEngine];
const LABELS: Readonly<Record<string, string>> = {
  'MLKEM768-P256': toHex(Buffer.from('MLKEM768-P256')),
  'MLKEM768-X25519': '5c2e2f2f5e5c',
  'MLKEM1024-P384': toHex(Buffer.from('MLKEM1024-P384')),
};

const curveOf = derivingCurve;

/** Encapsulation with published randomness: our engines take none, so it is composed here. */
function encapsulateWith(suite: KemSuite, publicKey: Uint8Array, randomness: Uint8Array) {
  const curve = curveOf(suite);
  const scalar = randomScalarFrom(curve, randomness.subarray(32));
  const { pq, classical } = suite.kem.splitPublicKey(publicKey);
  const scheme = suite.pq === 'ML-KEM-768' ? ml_kem768 : ml_kem1024;
  const { cipherText, sharedSecret } = scheme.encapsulate(pq, randomness.subarray(0, 32));
  const ephemeral = classicalPublicKey(curve, scalar);
  const secret = standardCombiner(hex(LABELS[suite.id] ?? ''))({
    pqSecret: SecretBytes.own(sharedSecret),
    classicalSecret: derive(curve, scalar, classical),
    pqCiphertext: cipherText,
    classicalCiphertext: ephemeral,
    pqPublicKey: pq,
    classicalPublicKey: classical,
  });
  return { ss: toHex(secret.reveal()), ct: toHex(cipherText) + toHex(ephemeral) };
}

describe.each(ENGINES)('hybrid KEM vectors, $name engine', (engine) => {
  it('CFRG concrete hybrids: key pair, decapsulation, encapsulation', async () => {
    for (const vector of vectorsOf('cfrg-hybrids')) {
      const suite = findSuite(vector.suite) as KemSuite;
      const { pqSeed, scalar } = expandSeed(curveOf(suite), hex(vector.seed));
      const key = kemKey(engine, suite, pqSeed, scalar);
      expect(toHex(key.publicKey)).toBe(vector.pk);
      const secret = await suite.kem.decapsulate(hex(vector.ct), key.publicKey, key.halves);
      expect(toHex(secret.reveal())).toBe(vector.ss);
      const encapsulated = encapsulateWith(suite, key.publicKey, hex(vector.randomness));
      expect(encapsulated).toEqual({ ss: vector.ss, ct: vector.ct });
    }
  });

  it('X-Wing is MLKEM768-X25519', async () => {
    const suite = findSuite('MLKEM768-X25519') as KemSuite;
    for (const vector of vectorsOf('xwing')) {
      const { pqSeed, scalar } = expandSeed('X25519', hex(vector.seed));
      const key = kemKey(engine, suite, pqSeed, scalar);
      expect(toHex(key.publicKey)).toBe(vector.pk);
      const secret = await suite.kem.decapsulate(hex(vector.ct), key.publicKey, key.halves);
      expect(toHex(secret.reveal())).toBe(vector.ss);
      expect(encapsulateWith(suite, key.publicKey, hex(vector.eseed))).toEqual({
        ss: vector.ss,
        ct: vector.ct,
      });
    }
  });

  it('LAMPS composite ML-KEM under the OIDs that our SPKI names', async () => {
    const suites = ['MLKEM768-P256', 'MLKEM768-X25519', 'MLKEM1024-P384'].map(findSuite);
    for (const vector of vectorsOf('composite-kem')) {
      const suite = suites.find(
        (row) => row.kind === 'kem' && row.encoding.spki?.oid.endsWith(`.${vector.arc}`),
      ) as KemSuite;
      const curve = curveOf(suite);
      const dk = hex(vector.dk);
      // 64 bytes of seed, then a raw X25519 key or an ECPrivateKey whose scalar begins at byte 7.
      const offset = curve === 'X25519' ? 64 : 64 + 7;
      const scalar = dk.subarray(offset, offset + (curve === 'P-384' ? 48 : 32));
      const key = kemKey(engine, suite, dk.subarray(0, 64), scalar);
      expect(toHex(key.publicKey)).toBe(vector.ek);
      const secret = await suite.kem.decapsulate(hex(vector.c), key.publicKey, key.halves);
      expect(toHex(secret.reveal())).toBe(vector.k);
      expect(vector.certificate).toContain(
        toHex(writeSpki(suite.encoding, key.publicKey) ?? new Uint8Array()),
      );
    }
  });
});
