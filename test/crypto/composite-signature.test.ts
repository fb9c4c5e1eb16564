import { constants, createPublicKey, randomBytes, verify as nodeVerify } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import { ed25519 } from '@noble/curves/ed25519.js';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import { ml_dsa44, ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';
import fc from 'fast-check';

import { concatBytes, utf8 } from '../../src/crypto/bytes.ts';
import { decodeEcdsaSignature, encodeEcdsaSignature } from '../../src/crypto/ecdsa.ts';
import { writeSpki } from '../../src/crypto/spki.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { hasPublishedFolder, vectorsOf } from '../vectors/published.ts';
import {
  COMPOSITES,
  hex,
  randomSignatureKey,
  signatureKey,
  splitCompositeKey,
  toHex,
} from './software-halves.ts';
import type { Engine } from '../../src/crypto/engine.ts';
import { DIGEST_LENGTHS, digestBytes } from '../../src/crypto/digests.ts';
import { SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import type { Hash, SignatureSuite } from '../../src/crypto/suite.ts';

const ENGINES = [nativeEngine, portableEngine];
const EACH = ENGINES.flatMap((engine) =>
  COMPOSITES.map((suite) => ({ engine, suite, name: `${suite.id}, ${engine.name}` })),
);
const NOTHING = new Uint8Array(0);

/** Where the classical signature begins. */
const splitOf = (suite: SignatureSuite) => SIGNATURE_LENGTHS[suite.pq ?? 'ML-DSA-65'].signature;

const PQ = { 'ML-DSA-44': ml_dsa44, 'ML-DSA-65': ml_dsa65, 'ML-DSA-87': ml_dsa87 };
const GROUPS = { 'P-256': p256, 'P-384': p384, 'P-521': p521 };

/** PH and what the classical half is, read off the draft's own name. */
function readName(id: string) {
  const [, name = '', rest = ''] = /^(MLDSA\d\d)-(.*)-SHA\d+$/.exec(id) ?? [];
  const prehash = id.endsWith('SHA256') ? sha256 : sha512;
  return { pq: PQ[`ML-DSA-${name.slice(5)}` as keyof typeof PQ], rest, prehash };
}

/** Draft section 6: SHA-384 with RSA-4096, SHA-256 with smaller moduli. */
function verifyRsa(rest: string, key: Uint8Array, message: Uint8Array, signature: Uint8Array) {
  const hash = rest.startsWith('RSA4096') ? 'sha384' : 'sha256';
  const { RSA_PKCS1_PSS_PADDING, RSA_PKCS1_PADDING } = constants;
  return nodeVerify(
    hash,
    message,
    {
      key: createPublicKey({ key: Buffer.from(key), format: 'der', type: 'pkcs1' }),
      padding: rest.endsWith('PSS') ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING,
      saltLength: hash === 'sha384' ? 48 : 32,
    },
    signature,
  );
}

/** By noble, which hashes with the curve's own SHA-2, and by OpenSSL for RSA. */
function verifyClassical(rest: string, key: Uint8Array, message: Uint8Array, sig: Uint8Array) {
  if (rest.startsWith('RSA')) return verifyRsa(rest, key, message, sig);
  if (rest === 'Ed25519') return ed25519.verify(sig, message, key);
  const group = GROUPS[rest.replace('ECDSA-P', 'P-') as keyof typeof GROUPS];
  return group.verify(sig, message, key, { lowS: false, format: 'der' });
}

/** The recipe of the draft again, from its names and on other libraries only. */
function independentVerify(suite: SignatureSuite, pk: Uint8Array, message: Uint8Array) {
  const { pq, rest, prehash } = readName(suite.id);
  const label = utf8(`COMPSIG-${suite.id}`);
  const { publicKey: keyLength = 0, signature: split = 0 } = pq.lengths;
  return (context: Uint8Array, signature: Uint8Array) => {
    const prefix = utf8('CompositeAlgorithmSignatures2025');
    const length = Uint8Array.of(context.length);
    const representative = concatBytes(prefix, label, length, context, prehash(message));
    const [pqKey, classicalKey] = [pk.subarray(0, keyLength), pk.subarray(keyLength)];
    const [pqSignature, classical] = [signature.subarray(0, split), signature.subarray(split)];
    return {
      pq: pq.verify(pqSignature, representative, pqKey, { context: label }),
      classical: verifyClassical(rest, classicalKey, representative, classical),
    };
  };
}

describe.each(ENGINES)('composite signature vectors, $name engine', (engine: Engine) => {
  it('verifies and signs with every published key, with and without context', async () => {
    const seen = new Set<string>();
    const vectors = vectorsOf('composite-sigs');
    for (const vector of vectors) {
      const suite = findSuite(vector.suite) as SignatureSuite;
      seen.add(suite.id);
      const { signer } = suite;
      const [message, context] = [hex(vector.message), hex(vector.context)];
      const { seed, scalar } = splitCompositeKey(suite, hex(vector.sk));
      const key = signatureKey(engine, suite, seed, scalar);
      expect(toHex(key.publicKey)).toBe(vector.pk);
      expect(vector.beforeKey + vector.pk).toContain(
        toHex(writeSpki(suite.encoding, key.publicKey) ?? new Uint8Array()),
      );

      const verify = (signature: Uint8Array, given = context) =>
        signer.verify(engine, key.publicKey, { message }, given, signature);
      expect(await verify(hex(vector.signature))).toBe(true);
      expect(await verify(hex(vector.signature), utf8('another'))).toBe(false);
      const own = await signer.sign({ message }, context, key.halves);
      expect(await verify(own)).toBe(true);
      const both = { pq: true, classical: true };
      const check = independentVerify(suite, key.publicKey, message);
      expect(check(context, own)).toEqual(both);
      expect(check(context, hex(vector.signature))).toEqual(both);
    }
    expect([...seen].sort()).toEqual(COMPOSITES.map(({ id }) => id).sort());
    if (hasPublishedFolder()) expect(vectors).toHaveLength(2 * COMPOSITES.length);
  }, 60_000);
});

describe('composites of the draft that are not offered', () => {
  it('are the three with a brainpool curve or Ed448', () => {
    const names = vectorsOf('composite-sigs-not-offered').map(({ suite }) => suite);
    expect(names).toEqual([
      'MLDSA65-ECDSA-brainpoolP256r1-SHA512',
      'MLDSA87-ECDSA-brainpoolP384r1-SHA512',
      'MLDSA87-Ed448-SHAKE256',
    ]);
    expect(COMPOSITES.length + names.length).toBe(18);
  });
});

describe.each(EACH)('composite signature $name', ({ engine, suite }) => {
  const { signer } = suite;
  const prehash = signer.prehash ?? 'SHA-512';
  const key = randomSignatureKey(engine, suite);
  const message = utf8('message');
  const verify = (input: Parameters<typeof signer.verify>[2], ctx: Uint8Array, sig: Uint8Array) =>
    signer.verify(engine, key.publicKey, input, ctx, sig);

  it('signs a typed digest like its message', async () => {
    const value = digestBytes(prehash, message);
    const digest = { digest: { algorithm: prehash, value } };
    const signature = await signer.sign(digest, NOTHING, key.halves);
    expect(await verify({ message }, NOTHING, signature)).toBe(true);
    expect(await verify(digest, NOTHING, signature)).toBe(true);
    expect(signature.length).toBeLessThanOrEqual(signer.lengths.signatureMax);
  });

  it('refuses a digest of another algorithm or length, and a context over 255 bytes', async () => {
    const code = { code: 'invalid_value' };
    const other = prehash === 'SHA-256' ? 'SHA-512' : 'SHA-256';
    const digest = (algorithm: Hash, length: number) => ({
      digest: { algorithm, value: new Uint8Array(length) },
    });
    for (const input of [
      digest(other, DIGEST_LENGTHS[other]),
      digest(other, DIGEST_LENGTHS[prehash]),
      digest(prehash, DIGEST_LENGTHS[prehash] - 1),
      digest(prehash, DIGEST_LENGTHS[prehash] + 1),
    ]) {
      await expect(signer.sign(input, NOTHING, key.halves)).rejects.toMatchObject(code);
      await expect(verify(input, NOTHING, NOTHING)).rejects.toMatchObject(code);
    }
    const long = new Uint8Array(256);
    await expect(signer.sign({ message }, long, key.halves)).rejects.toMatchObject(code);
    const longest = new Uint8Array(255);
    const signature = await signer.sign({ message }, longest, key.halves);
    expect(await verify({ message }, longest, signature)).toBe(true);
  });

  it('binds message, context, key and suite', async () => {
    const context = utf8('a');
    const signature = await signer.sign({ message }, context, key.halves);
    expect(await verify({ message }, context, signature)).toBe(true);
    expect(await verify({ message: utf8('messagf') }, context, signature)).toBe(false);
    expect(await verify({ message }, NOTHING, signature)).toBe(false);
    expect(await verify({ message }, utf8('b'), signature)).toBe(false);
    const other = randomSignatureKey(engine, suite, key);
    const verified = signer.verify(engine, other.publicKey, { message }, context, signature);
    expect(await verified).toBe(false);
  });

  it('is false when either half is of another key', async () => {
    const other = randomSignatureKey(engine, suite, key);
    const mine = await signer.sign({ message }, NOTHING, key.halves);
    const mixed = (halves: Partial<typeof key.halves>) =>
      signer.sign({ message }, NOTHING, { ...key.halves, ...halves });
    expect(await verify({ message }, NOTHING, mine)).toBe(true);
    const foreignPq = await mixed({ pq: other.halves.pq });
    const foreignClassical = await mixed({ classical: other.halves.classical });
    expect(await verify({ message }, NOTHING, foreignPq)).toBe(false);
    expect(await verify({ message }, NOTHING, foreignClassical)).toBe(false);
  });

  it('is false for every flipped bit and every other length', async () => {
    const signature = await signer.sign({ message }, NOTHING, key.halves);
    const bits = fc.nat({ max: signature.length * 8 - 1 });
    await fc.assert(
      fc.asyncProperty(bits, async (bit) => {
        const flipped = Uint8Array.from(signature);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        return !(await verify({ message }, NOTHING, flipped));
      }),
      { numRuns: engine.name === 'native' ? 100 : 10 },
    );
    // All of a DER part, where encodings could be malleable; of others and by the slow engine, samples.
    const start = splitOf(suite) * 8;
    const isWhole = engine.name === 'native' && suite.hsm.kind === 'ec';
    const step = isWhole ? 1 : Math.ceil((signature.length * 8 - start) / 32);
    for (let bit = start; bit < signature.length * 8; bit += step) {
      const flipped = Uint8Array.from(signature);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(await verify({ message }, NOTHING, flipped)).toBe(false);
    }
    const longer = concatBytes(signature, Uint8Array.of(0));
    for (const wrong of [NOTHING, signature.subarray(0, -1), signature.subarray(1), longer]) {
      expect(await verify({ message }, NOTHING, wrong)).toBe(false);
    }
  }, 60_000);
});

describe('composite signing when a half fails', () => {
  const suite = findSuite('MLDSA65-ECDSA-P256-SHA512') as SignatureSuite;
  const key = randomSignatureKey(nativeEngine, suite);
  const sign = (halves: Partial<typeof key.halves>) =>
    suite.signer.sign({ message: NOTHING }, NOTHING, { ...key.halves, ...halves });

  it('waits for both halves and throws what the half rejected with', async () => {
    const failure = new Error('token gone');
    let finished = false;
    const pq = async (message: Uint8Array, context: Uint8Array) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      finished = true;
      return key.halves.pq(message, context);
    };
    const classical = () => {
      throw failure;
    };
    await expect(sign({ pq, classical })).rejects.toBe(failure);
    expect(finished).toBe(true);
  });

  it('never encodes halves of the wrong length or out of range', async () => {
    const raw = (length: number, byte: number) => ({
      classical: async () => new Uint8Array(length).fill(byte),
    });
    await expect(sign(raw(63, 1))).rejects.toThrow(RangeError);
    await expect(sign(raw(64, 0))).rejects.toThrow(RangeError);
    await expect(sign(raw(64, 0xff))).rejects.toThrow(RangeError);
    await expect(sign({ pq: async () => new Uint8Array(3308) })).rejects.toThrow(RangeError);
  });

  it('joins only a valid point, and splits only the right length', () => {
    const { signer } = suite;
    const { pq, classical } = signer.splitPublicKey(key.publicKey);
    expect(signer.joinPublicKey({ pq, classical })).toEqual(key.publicKey);
    const off = Uint8Array.from(classical);
    off[64] = (off[64] ?? 0) ^ 1;
    const code = expect.objectContaining({ code: 'invalid_value' });
    expect(() => signer.joinPublicKey({ pq, classical: off })).toThrow(code);
    expect(() => signer.joinPublicKey({ pq: pq.subarray(1), classical })).toThrow(code);
    expect(() => signer.splitPublicKey(key.publicKey.subarray(1))).toThrow(code);
  });
});

describe.each(['P-256', 'P-384', 'P-521'] as const)('ECDSA encodings on %s', (curve) => {
  const group = GROUPS[curve];
  const width = { 'P-256': 32, 'P-384': 48, 'P-521': 66 }[curve];
  const scalar = (value: bigint) => hex(value.toString(16).padStart(2 * width, '0'));
  const order = group.Point.Fn.ORDER;

  it('round-trips every r and s in range, as noble encodes them', () => {
    const inRange = fc.oneof(
      fc.bigInt({ min: 1n, max: order - 1n }),
      fc.bigInt({ min: 1n, max: 70_000n }),
      fc.constantFrom(1n, 127n, 128n, 255n, 256n, order - 1n),
    );
    fc.assert(
      fc.property(inRange, inRange, (r, s) => {
        const raw = concatBytes(scalar(r), scalar(s));
        const der = encodeEcdsaSignature(curve, raw);
        expect(toHex(der)).toBe(toHex(new group.Signature(r, s).toBytes('der')));
        expect(decodeEcdsaSignature(curve, der)).toEqual(raw);
      }),
    );
  });

  it.each([
    ['r = 0', '3006020100020101'],
    ['s = 0', '3006020101020100'],
    ['negative r', '3006020180020101'],
    ['leading zero', '300702020001020101'],
    ['long form of the length', '308106020101020101'],
    ['indefinite length', '30800201010201010000'],
    ['trailing byte', '300602010102010100'],
    ['trailing byte inside', '300702010102010100'],
    ['length of r too long', '3006020201020101'],
    ['empty r', '30050200020101'],
    ['only r', '3003020101'],
    ['not a sequence', '3106020101020101'],
    ['not an integer', '3006030101020101'],
    ['nothing', ''],
  ])('refuses %s', (_, der) => {
    expect(decodeEcdsaSignature(curve, hex('3006020101020101'))).toBeDefined();
    expect(decodeEcdsaSignature(curve, hex(der))).toBeUndefined();
  });

  it('refuses r or s of the order and above', () => {
    const one = scalar(1n);
    for (const value of [order, order + 1n, (1n << BigInt(width * 8)) - 1n]) {
      const der = group.Signature.fromBytes(concatBytes(one, one), 'compact').toBytes('der');
      const integer = `02${(width + 1).toString(16)}00${toHex(scalar(value))}`;
      const forged = `30${(width + 6).toString(16)}${integer}020101`;
      expect(decodeEcdsaSignature(curve, der)).toEqual(concatBytes(one, one));
      expect(decodeEcdsaSignature(curve, hex(forged))).toBeUndefined();
    }
  });

  it('takes random bytes for nothing', () => {
    for (let i = 0; i < 200; i += 1) {
      expect(decodeEcdsaSignature(curve, Uint8Array.from(randomBytes(72)))).toBeUndefined();
    }
  });
});
