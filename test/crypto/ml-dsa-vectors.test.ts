import { describe, expect, it, jest } from '@jest/globals';
import { sha224, sha256, sha384, sha512, sha512_224, sha512_256 } from '@noble/hashes/sha2.js';
import {
  sha3_224,
  sha3_256,
  sha3_384,
  sha3_512,
  shake128_32,
  shake256_64,
} from '@noble/hashes/sha3.js';
import { ml_dsa44, ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';

import { concatBytes } from '../../src/crypto/bytes.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { hasPublishedFolder, report, vectorsOf } from '../vectors/published.ts';
import { hex, toHex } from './software-halves.ts';
import type { Engine } from '../../src/crypto/engine.ts';
import type { MlDsaSigGenVector, MlDsaSigVerVector } from '../vectors/published.ts';

const NOBLE = { 'ML-DSA-44': ml_dsa44, 'ML-DSA-65': ml_dsa65, 'ML-DSA-87': ml_dsa87 };

/** The portable engine is slow, and other test files run beside it. */
jest.setTimeout(120_000);

/** The pre-hashes of HashML-DSA by their ACVP names. */
const PREHASHES: Readonly<Record<string, typeof sha256 | typeof sha3_256 | typeof shake128_32>> = {
  'SHA2-224': sha224,
  'SHA2-256': sha256,
  'SHA2-384': sha384,
  'SHA2-512': sha512,
  'SHA2-512/224': sha512_224,
  'SHA2-512/256': sha512_256,
  'SHA3-224': sha3_224,
  'SHA3-256': sha3_256,
  'SHA3-384': sha3_384,
  'SHA3-512': sha3_512,
  'SHAKE-128': shake128_32,
  'SHAKE-256': shake256_64,
};

/**
 * M' of HashML-DSA (FIPS 204 section 5.4): noble's own refuses pre-hashes of less strength than the
 * key, which the vectors have.
 */
function hashedMessage({ hashAlg = '', message, context }: MlDsaSigGenVector | MlDsaSigVerVector) {
  const hash = PREHASHES[hashAlg];
  if (hash?.oid === undefined) throw new Error(`no pre-hash ${hashAlg}`);
  const ctx = hex(context);
  return concatBytes(Uint8Array.of(1, ctx.length), ctx, hash.oid, hash(hex(message)));
}

/** The library under the portable engine, which has the interfaces that the engine leaves out. */
function nobleSign(vector: MlDsaSigGenVector): Uint8Array {
  const scheme = NOBLE[vector.set];
  const [sk, message, context] = [hex(vector.sk), hex(vector.message), hex(vector.context)];
  const extraEntropy = vector.rnd === undefined ? (false as const) : hex(vector.rnd);
  switch (vector.interface) {
    case 'pure':
      return scheme.sign(message, sk, { context, extraEntropy });
    case 'preHash':
      return scheme.internal.sign(hashedMessage(vector), sk, { extraEntropy });
    case 'internal':
      return scheme.internal.sign(message, sk, { extraEntropy });
    case 'externalMu':
      return scheme.internal.sign(message, sk, { extraEntropy, externalMu: true });
  }
}

function nobleVerify(vector: MlDsaSigVerVector): boolean {
  const scheme = NOBLE[vector.set];
  const [pk, message, context] = [hex(vector.pk), hex(vector.message), hex(vector.context)];
  const signature = hex(vector.signature);
  switch (vector.interface) {
    case 'pure':
      return scheme.verify(signature, message, pk, { context });
    case 'preHash':
      return scheme.internal.verify(signature, hashedMessage(vector), pk);
    case 'internal':
      return scheme.internal.verify(signature, message, pk);
    case 'externalMu':
      return scheme.internal.verify(signature, message, pk, { externalMu: true });
  }
}

function count(counts: Record<string, number>, outcome: string): void {
  counts[outcome] = (counts[outcome] ?? 0) + 1;
}

describe.each([nativeEngine, portableEngine])('ACVP ML-DSA, $name engine', (engine: Engine) => {
  it('key generation from the seed', async () => {
    for (const { set, seed, pk, sk } of vectorsOf('ml-dsa-keygen')) {
      const secret = SecretBytes.own(hex(seed));
      expect(toHex(await engine.signatures.publicKey(set, secret))).toBe(pk);
      // The engines keep the expanded key to themselves; noble's equality with sk is below.
      expect(toHex(NOBLE[set].keygen(hex(seed)).secretKey)).toBe(sk);
      const message = hex('00');
      const context = hex('01');
      const signature = await engine.signatures.importSeed(set, secret).sign(message, context);
      const verify = (given: Uint8Array) =>
        engine.signatures.verify(set, hex(pk), message, signature, given);
      expect([await verify(context), await verify(hex(''))]).toEqual([true, false]);
    }
  });

  it('verification', async () => {
    const counts: Record<string, number> = {};
    for (const vector of vectorsOf('ml-dsa-sigver')) {
      if (vector.interface === 'pure') {
        const [pk, message] = [hex(vector.pk), hex(vector.message)];
        const { set, signature, context } = vector;
        const valid = engine.signatures.verify(set, pk, message, hex(signature), hex(context));
        expect(await valid).toBe(vector.testPassed);
        count(counts, 'through the engine');
      } else if (vector.interface === 'externalMu' && engine.name === 'portable') {
        const [pk, mu, signature] = [vector.pk, vector.message, vector.signature].map(hex);
        if (pk === undefined || mu === undefined || signature === undefined) throw new TypeError();
        const valid = engine.signatures.verifyMu(vector.set, pk, mu, signature);
        expect(await valid).toBe(vector.testPassed);
        count(counts, 'externalMu, through the engine');
      } else if (engine.name === 'portable') {
        expect(nobleVerify(vector)).toBe(vector.testPassed);
        count(counts, `${vector.interface}, composed by the test`);
      } else {
        count(counts, `${vector.interface}, left to the other engine`);
      }
    }
    report(`ML-DSA sigVer ${engine.name}: ${JSON.stringify(counts)}`);
    if (!hasPublishedFolder()) return;
    const how = engine.name === 'portable' ? 'composed by the test' : 'left to the other engine';
    expect(counts).toEqual({
      'through the engine': 45,
      [`preHash, ${how}`]: 45,
      [`internal, ${how}`]: 45,
      [`externalMu, ${engine.name === 'portable' ? 'through the engine' : how}`]: 45,
    });
  });
});

describe('ACVP ML-DSA signatures with given or no randomness', () => {
  // Both engines sign hedged from a seed, so neither can repeat a published signature from an
  // expanded key; noble below the portable engine does all 360, and both engines verify the pure.
  it('noble repeats every signature; both engines verify the pure ones', async () => {
    const counts: Record<string, number> = {};
    for (const vector of vectorsOf('ml-dsa-siggen')) {
      expect(toHex(nobleSign(vector))).toBe(vector.signature);
      count(counts, `${vector.interface}, composed by the test`);
      if (vector.interface !== 'pure') continue;
      const pk = NOBLE[vector.set].getPublicKey(hex(vector.sk));
      for (const { name, signatures } of [nativeEngine, portableEngine]) {
        const [message, signature] = [hex(vector.message), hex(vector.signature)];
        const valid = signatures.verify(vector.set, pk, message, signature, hex(vector.context));
        expect(await valid).toBe(true);
        count(counts, `verified by the ${name} engine`);
      }
    }
    report(`ML-DSA sigGen: ${JSON.stringify(counts)}; not through an engine: all`);
    if (!hasPublishedFolder()) return;
    expect(counts).toEqual({
      'pure, composed by the test': 90,
      'preHash, composed by the test': 90,
      'internal, composed by the test': 90,
      'externalMu, composed by the test': 90,
      'verified by the native engine': 90,
      'verified by the portable engine': 90,
    });
  });
});
