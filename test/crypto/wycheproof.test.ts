/**
 * Wycheproof (C2SP, Apache-2.0): the edge cases of each primitive, through our own checks and both
 * engines. Hashes and MACs are in `wycheproof-hash.test.ts`.
 */
import { describe, expect, it, jest } from '@jest/globals';

import { aes256Gcm } from '../../src/crypto/aead.ts';
import { concatBytes } from '../../src/crypto/bytes.ts';
import { ecdsaScheme, ed25519Scheme, rsaScheme } from '../../src/crypto/classical-signature.ts';
import { checkPublicKey, CURVES } from '../../src/crypto/curve.ts';
import { digestBytes } from '../../src/crypto/digests.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { each, succeeds } from '../vectors/wycheproof-cases.ts';
import { derive, hex, toHex } from './software-halves.ts';
import type { MlDsaParameterSet } from '../../src/crypto/engine.ts';
import type { Curve } from '../../src/crypto/suite.ts';
import type { Test } from '../vectors/wycheproof.ts';

/** Thousands of cases a test, and other test files run beside it. */
jest.setTimeout(120_000);

describe('Wycheproof, classical', () => {
  it.each([
    ['P-256', 'SHA-256', 'ecdsa_secp256r1_sha256'],
    ['P-384', 'SHA-384', 'ecdsa_secp384r1_sha384'],
  ] as const)('ECDSA on %s, strict DER included', (curve, hash, name) =>
    each(name, async (test, { publicKey }) => {
      const { uncompressed } = publicKey as { readonly uncompressed: string };
      const scheme = ecdsaScheme(curve, hash);
      const [message, signature] = [hex(test['msg'] ?? ''), hex(test['sig'] ?? '')];
      const digest = digestBytes(hash, message);
      const valid = await scheme.verify(hex(uncompressed), message, signature);
      expect(await scheme.verifyDigest(hex(uncompressed), digest, signature)).toBe(valid);
      return valid;
    }),
  );

  it('RSA-PSS of 3072 bits, whole and over the digest', () =>
    each('rsa_pss_3072_sha256_mgf1_32', async (test, { publicKeyAsn }) => {
      const scheme = rsaScheme(3072, 'pss', 'SHA-256');
      const [key, message, signature] = [
        hex(publicKeyAsn),
        hex(test['msg'] ?? ''),
        hex(test['sig'] ?? ''),
      ];
      const digest = digestBytes('SHA-256', message);
      const valid = await scheme.verify(key, message, signature);
      expect(await scheme.verifyDigest(key, digest, signature)).toBe(valid);
      // The other padding takes none of them but those that are its own.
      const isPkcs1 = await rsaScheme(3072, 'pkcs1', 'SHA-256').verify(key, message, signature);
      expect(isPkcs1 && valid).toBe(false);
      return valid;
    }));

  it('Ed25519', () =>
    each('ed25519', (test, { publicKey }) => {
      const { pk } = publicKey as { readonly pk: string };
      return ed25519Scheme.verify(hex(pk), hex(test['msg'] ?? ''), hex(test['sig'] ?? ''));
    }));

  const agrees = (curve: Curve, test: Test) => {
    const peer = hex(test['public'] ?? '');
    if (!succeeds(() => checkPublicKey(curve, peer))) return false;
    const width = 2 * CURVES[curve].fieldLength;
    const scalar = hex((test['private'] ?? '').padStart(width, '0').slice(-width));
    return toHex(derive(curve, scalar, peer).reveal()) === test['shared'];
  };

  it.each([
    ['P-256', 'ecdh_secp256r1_ecpoint'],
    ['P-384', 'ecdh_secp384r1_ecpoint'],
  ] as const)('ECDH on %s: compressed and invalid points are refused', (curve, name) =>
    each(name, (test) => {
      const agreed = agrees(curve, test);
      if (test.result !== 'acceptable') return agreed;
      // Compressed points, which our stored and sent keys never are.
      expect(agreed).toBe(false);
      return agreed;
    }),
  );

  it('X25519: low-order and non-canonical points are refused, other unusual ones agree', () =>
    each('x25519', (test) => {
      const agreed = agrees('X25519', test);
      if (test.result !== 'acceptable') return agreed;
      const value = BigInt(
        `0x${Buffer.from(test['public'] ?? '', 'hex')
          .reverse()
          .toString('hex')}`,
      );
      const isCanonical = value < 2n ** 255n - 19n;
      expect(agreed).toBe(isCanonical && !/^0+$/.test(test['shared'] ?? ''));
      return agreed;
    }));

  it('AES-256-GCM with 96-bit nonces and whole tags', () =>
    each('aes_gcm', (test, { keySize, ivSize, tagSize }) => {
      if (keySize !== 256 || ivSize !== 96 || tagSize !== 128) return undefined;
      const part = (name: string) => hex(test[name] ?? '');
      const key = SecretBytes.own(part('key'));
      const sealed = concatBytes(part('ct'), part('tag'));
      return succeeds(() => {
        const opened = aes256Gcm.open(key, part('iv'), part('aad'), sealed);
        expect(toHex(opened.reveal())).toBe(test['msg']);
        const again = aes256Gcm.seal(key, part('iv'), part('aad'), opened);
        expect(toHex(again)).toBe(toHex(sealed));
      });
    }));
});

describe.each([nativeEngine, portableEngine])('Wycheproof, $name engine', (engine) => {
  const { mlKem, signatures } = engine;

  it.each(['mlkem_768', 'mlkem_1024'])('%s: decapsulation from the seed', (name) =>
    each(name, async (test, { parameterSet }) => {
      const seed = SecretBytes.own(hex(test['seed'] ?? ''));
      if (seed.length !== 64) {
        expect(() => mlKem.importSeed(parameterSet, seed)).toThrow();
        return false;
      }
      const key = mlKem.importSeed(parameterSet, seed);
      try {
        const secret = await key.decapsulate(hex(test['c'] ?? ''));
        return toHex(secret.reveal()) === test['K'];
      } catch (error) {
        expect(error).toMatchObject({ code: 'decryption_failed' });
        return false;
      }
    }),
  );

  it('mlkem_768_keygen_seed: the public key of a seed', () =>
    each('mlkem_768_keygen_seed', (test, { parameterSet }) => {
      const seed = SecretBytes.own(hex(test['seed'] ?? ''));
      return toHex(mlKem.publicKey(parameterSet, seed)) === test['ek'];
    }));

  it('mlkem_768_encaps: keys that are not reduced are refused, others encapsulate', () =>
    each('mlkem_768_encaps', async (test, { parameterSet }) => {
      const publicKey = hex(test['ek'] ?? '');
      if (!succeeds(() => mlKem.checkPublicKey(parameterSet, publicKey))) return false;
      const { ciphertext } = await mlKem.encapsulate(parameterSet, publicKey);
      return ciphertext.length * 2 === test['c']?.length;
    }));

  it.each([
    ['ML-DSA-44', 'mldsa_44_verify'],
    ['ML-DSA-65', 'mldsa_65_verify'],
  ] as const)('%s verification', (set: MlDsaParameterSet, name) =>
    each(name, (test, { publicKey }) => {
      const part = (field: string) => hex(test[field] ?? '');
      const pk = hex(String(publicKey));
      return signatures.verify(set, pk, part('msg'), part('sig'), part('ctx'));
    }),
  );

  it.each([
    ['ML-DSA-65', 'mldsa_65_sign_seed'],
    ['ML-DSA-87', 'mldsa_87_sign_seed'],
  ] as const)('%s: signatures of a seed verify under the key that we derive', (set, name) =>
    each(name, async (test, { privateSeed }) => {
      const seed = SecretBytes.own(hex(privateSeed));
      if (seed.length !== 32) {
        await expect(signatures.publicKey(set, seed)).rejects.toThrow();
        return false;
      }
      const part = (field: string) => hex(test[field] ?? '');
      const pk = await signatures.publicKey(set, seed);
      // The signatures are deterministic, so not ours to make; over mu alone where no message is.
      if (test['mu'] !== undefined) {
        const overMu = await portableEngine.signatures.verifyMu(set, pk, part('mu'), part('sig'));
        if (test['msg'] === undefined || !overMu) return overMu;
      }
      return signatures.verify(set, pk, part('msg'), part('sig'), part('ctx'));
    }),
  );
});
