/** OpenSSL, through node, against noble on random inputs: bytes where they are determined, else verdicts. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { p256, p384 } from '@noble/curves/nist.js';
import { ml_kem1024, ml_kem512, ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import fc from 'fast-check';

import { ecdsaScheme, ed25519Scheme } from '../../src/crypto/classical-signature.ts';
import { encodeEcdsaSignature } from '../../src/crypto/ecdsa.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { classicalPublicKey, derive, toHex } from './software-halves.ts';
import type { Engine, MlKemParameterSet } from '../../src/crypto/engine.ts';

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const text = fc.uint8Array({ maxLength: 200 });
const secretOf = (seed: Uint8Array) => SecretBytes.copyOf(seed);
const PAIRS = [
  [nativeEngine, portableEngine],
  [portableEngine, nativeEngine],
] as const;
const NOBLE_KEM = { 'ML-KEM-512': ml_kem512, 'ML-KEM-768': ml_kem768, 'ML-KEM-1024': ml_kem1024 };

const opened = async (engine: Engine, set: MlKemParameterSet, seed: Uint8Array, c: Uint8Array) => {
  const key = engine.mlKem.importSeed(set, secretOf(seed));
  const secret = toHex((await key.decapsulate(c)).reveal());
  key.release();
  return secret;
};

describe.each(Object.keys(NOBLE_KEM) as MlKemParameterSet[])('%s', (set) => {
  it('keys of a seed, secrets either way, and implicit rejection are the same', async () => {
    const cases = fc.asyncProperty(
      bytes(64),
      fc.nat(),
      fc.nat({ max: 7 }),
      async (seed, at, bit) => {
        const [own, other] = PAIRS[0].map(({ mlKem }) => mlKem.publicKey(set, secretOf(seed)));
        if (own === undefined || other === undefined) throw new Error('two engines');
        expect(toHex(own)).toBe(toHex(other));
        const { publicKey, secretKey } = NOBLE_KEM[set].keygen(seed);
        expect(toHex(publicKey)).toBe(toHex(own));
        for (const [sender, receiver] of PAIRS) {
          const { ciphertext, sharedSecret } = await sender.mlKem.encapsulate(set, own);
          expect(await opened(receiver, set, seed, ciphertext)).toBe(toHex(sharedSecret.reveal()));
          const place = at % ciphertext.length;
          const changed = ciphertext.with(place, (ciphertext[place] ?? 0) ^ (1 << bit));
          const rejected = await opened(receiver, set, seed, changed);
          expect(rejected).toBe(await opened(sender, set, seed, changed));
          expect(rejected).toBe(toHex(NOBLE_KEM[set].decapsulate(changed, secretKey)));
          expect(rejected).not.toBe(toHex(sharedSecret.reveal()));
        }
      },
    );
    await fc.assert(cases, { numRuns: 12 });
  });
});

/** Runs of each, after what a portable signature of the set costs. */
const SIGNERS = [
  ['ML-DSA-44', 32, 6],
  ['ML-DSA-65', 32, 6],
  ['ML-DSA-87', 32, 4],
  ['SLH-DSA-SHA2-128f', 48, 2],
  ['SLH-DSA-SHAKE-128f', 48, 1],
] as const;

describe.each(SIGNERS)('%s', (set, seedLength, numRuns) => {
  it('keys of a seed are the same, and each verifies what the other signs and nothing else', async () => {
    const context = fc.uint8Array({ maxLength: 255 });
    const cases = fc.asyncProperty(bytes(seedLength), text, context, fc.nat(), async (...given) => {
      const [seed, message, ctx, at] = given;
      const publicKey = await portableEngine.signatures.publicKey(set, secretOf(seed));
      if (set.startsWith('ML-DSA')) {
        const native = await nativeEngine.signatures.publicKey(set, secretOf(seed));
        expect(toHex(native)).toBe(toHex(publicKey));
      }
      for (const [signer, verifier] of PAIRS) {
        const key = signer.signatures.importSeed(set, secretOf(seed));
        const signature = await key.sign(message, ctx);
        key.release();
        const place = at % signature.length;
        const changed = signature.with(place, (signature[place] ?? 0) ^ 1);
        for (const { signatures } of [signer, verifier]) {
          const verify = (sig: Uint8Array) => signatures.verify(set, publicKey, message, sig, ctx);
          expect([await verify(signature), await verify(changed)]).toEqual([true, false]);
        }
      }
    });
    await fc.assert(cases, { numRuns });
  });
});

describe('agreements', () => {
  it.each([
    ['P-256', p256, 32],
    ['P-384', p384, 48],
  ] as const)('ECDH on %s', (curve, noble, length) => {
    const scalar = bytes(length).filter((secret) => noble.utils.isValidSecretKey(secret));
    const cases = fc.property(scalar, scalar, (mine, theirs) => {
      const peer = noble.getPublicKey(theirs, false);
      expect(toHex(classicalPublicKey(curve, theirs))).toBe(toHex(peer));
      const shared = noble.getSharedSecret(mine, peer, false).subarray(1, 1 + length);
      expect(toHex(derive(curve, mine, peer).reveal())).toBe(toHex(shared));
    });
    fc.assert(cases, { numRuns: 25 });
  });

  it('X25519', () => {
    const cases = fc.property(bytes(32), bytes(32), (mine, theirs) => {
      const peer = x25519.getPublicKey(theirs);
      expect(toHex(classicalPublicKey('X25519', theirs))).toBe(toHex(peer));
      const shared = x25519.getSharedSecret(mine, peer);
      expect(toHex(derive('X25519', mine, peer).reveal())).toBe(toHex(shared));
    });
    fc.assert(cases, { numRuns: 25 });
  });
});

describe('classical signatures', () => {
  it('Ed25519: the same bytes, and the same verdicts about changed ones', async () => {
    const cases = fc.asyncProperty(
      bytes(32),
      text,
      fc.nat({ max: 511 }),
      async (seed, message, bit) => {
        const key = createPrivateKey({
          ...{ key: Buffer.from(seed), format: 'raw-private' as const },
          asymmetricKeyType: 'ed25519',
        });
        const signature = Uint8Array.from(sign(null, message, key));
        expect(toHex(ed25519.sign(message, seed))).toBe(toHex(signature));
        const publicKey = ed25519.getPublicKey(seed);
        const raw = createPublicKey(key).export({ format: 'raw-public' });
        expect(toHex(raw)).toBe(toHex(publicKey));
        const changed = signature.with(bit >> 3, (signature[bit >> 3] ?? 0) ^ (1 << (bit & 7)));
        expect(await ed25519Scheme.verify(publicKey, message, signature)).toBe(true);
        expect(await ed25519Scheme.verify(publicKey, message, changed)).toBe(false);
        expect(ed25519.verify(changed, message, publicKey)).toBe(false);
      },
    );
    await fc.assert(cases, { numRuns: 25 });
  });

  it.each([
    ['P-256', 'SHA-256', p256],
    ['P-384', 'SHA-384', p384],
  ] as const)(
    'ECDSA on %s: noble’s verify by OpenSSL, and its by noble',
    async (curve, hash, noble) => {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: curve });
      const raw = Uint8Array.from(publicKey.export({ format: 'raw-public', type: 'uncompressed' }));
      const scheme = ecdsaScheme(curve, hash);
      const { length } = noble.utils.randomSecretKey();
      const scalar = bytes(length).filter((secret) => noble.utils.isValidSecretKey(secret));
      const cases = fc.asyncProperty(scalar, text, fc.nat(), async (secret, message, at) => {
        const own = encodeEcdsaSignature(curve, noble.sign(message, secret, { lowS: false }));
        const point = noble.getPublicKey(secret, false);
        expect(await scheme.verify(point, message, own)).toBe(true);
        const theirs = Uint8Array.from(sign(hash.replace('-', ''), message, privateKey));
        const place = at % theirs.length;
        const changed = theirs.with(place, (theirs[place] ?? 0) ^ 1);
        for (const [signature, valid] of [
          [theirs, true],
          [changed, false],
        ] as const) {
          expect(await scheme.verify(raw, message, signature)).toBe(valid);
          const verdict = () =>
            noble.verify(signature, message, raw, { lowS: false, format: 'der' });
          expect(verdictOf(verdict)).toBe(valid);
        }
      });
      await fc.assert(cases, { numRuns: 20 });
    },
  );
});

/** noble throws for a signature that is no DER; that is a refusal too. */
function verdictOf(verify: () => boolean): boolean {
  try {
    return verify();
  } catch {
    return false;
  }
}
