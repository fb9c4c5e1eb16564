import { createECDH, createPrivateKey, privateDecrypt, sign } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { p256, p384 } from '@noble/curves/nist.js';
import fc from 'fast-check';
import {
  ECDH_ANSWERS,
  ED25519_ANSWER,
  GCM_ANSWER,
  HMAC_ANSWER,
} from '../../src/hsm/known-answers.ts';
import { OAEP_ANSWER, PKCS1_ANSWERS, RSA_KEY } from '../../src/hsm/known-answers-rsa.ts';
import { PUBLIC_EXPONENT } from '../../src/hsm/rsa.ts';
import { generatorOf, isValidPoint, pointLength } from '../../src/crypto/point.ts';
import { aes256Gcm } from '../../src/crypto/aead.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { createHmac } from 'node:crypto';
import { derive } from '../crypto/software-halves.ts';

const CURVES = [
  ['P-256', 'prime256v1', p256],
  ['P-384', 'secp384r1', p384],
] as const;

describe.each(CURVES)('points on %s', (curve, name, noble) => {
  it('every public key is one', () => {
    for (let round = 0; round < 50; round += 1) {
      const ecdh = createECDH(name);
      ecdh.generateKeys();
      expect(isValidPoint(curve, ecdh.getPublicKey())).toBe(true);
      expect(isValidPoint(curve, ecdh.getPublicKey(null, 'compressed'))).toBe(false);
      expect(isValidPoint(curve, ecdh.getPublicKey(null, 'hybrid'))).toBe(false);
    }
  });

  it('the generator is that of another implementation', () => {
    expect(Buffer.from(generatorOf(curve)).toString('hex')).toBe(noble.Point.BASE.toHex(false));
  });

  it('agrees with another implementation about altered points', () => {
    const base = noble.Point.BASE.toBytes(false);
    fc.assert(
      fc.property(fc.nat(base.length - 1), fc.integer({ min: 1, max: 255 }), (index, flip) => {
        const altered = base.map((byte, at) => (at === index ? byte ^ flip : byte));
        let theirs = altered[0] === 4;
        try {
          noble.Point.fromBytes(altered).assertValidity();
        } catch {
          theirs = false;
        }
        expect(isValidPoint(curve, altered)).toBe(theirs);
      }),
    );
  });

  it('a coordinate of p or more is none, though it is congruent to one', () => {
    const p = noble.Point.Fp.ORDER;
    const size = (pointLength(curve) - 1) / 2;
    // x = 0 has a square root on both curves.
    const y = noble.Point.Fp.sqrt(noble.Point.CURVE().b);
    const hex = (value: bigint) => value.toString(16).padStart(size * 2, '0');
    const point = (x: bigint) => Buffer.from(`04${hex(x)}${hex(y)}`, 'hex');
    expect(isValidPoint(curve, point(0n))).toBe(true);
    expect(isValidPoint(curve, point(p))).toBe(false);
  });
});

describe('known answers of the token probe', () => {
  it.each(Object.keys(ECDH_ANSWERS) as (keyof typeof ECDH_ANSWERS)[])('ECDH %s', (curve) => {
    const { privateKey, peer, secret } = ECDH_ANSWERS[curve];
    const computed = derive(curve, privateKey, peer).reveal();
    expect(Buffer.from(computed).toString('hex')).toBe(Buffer.from(secret).toString('hex'));
  });

  it('AES-GCM and HMAC', () => {
    const { key, iv, plaintext, ciphertext } = GCM_ANSWER;
    const nothing = new Uint8Array();
    const opened = aes256Gcm.open(SecretBytes.copyOf(key), iv, nothing, ciphertext);
    expect(Buffer.from(opened.reveal())).toEqual(Buffer.from(plaintext));
    for (const [hash, answer] of Object.entries(HMAC_ANSWER.macs)) {
      const mac = createHmac(hash.replace('-', ''), HMAC_ANSWER.key).update(HMAC_ANSWER.data);
      expect(mac.digest('hex')).toBe(Buffer.from(answer).toString('hex'));
    }
  });

  it('Ed25519', () => {
    const { seed, publicKey, message, signature } = ED25519_ANSWER;
    const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: base64(publicKey), d: base64(seed) };
    const key = createPrivateKey({ key: jwk, format: 'jwk' });
    expect(sign(null, message, key)).toEqual(Buffer.from(signature));
  });

  it('RSA', () => {
    const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
    const { modulus, privateExponent, prime1, prime2, exponent1, exponent2, coefficient } = RSA_KEY;
    const parts = { n: modulus, e: PUBLIC_EXPONENT, d: privateExponent, p: prime1, q: prime2 };
    const whole = { ...parts, dp: exponent1, dq: exponent2, qi: coefficient };
    const numbers = Object.entries(whole).map(([name, value]) => [name, base64(value)]);
    const jwk = { kty: 'RSA', ...(Object.fromEntries(numbers) as Record<string, string>) };
    const key = createPrivateKey({ key: jwk, format: 'jwk' });
    for (const [hash, answer] of Object.entries(PKCS1_ANSWERS)) {
      expect(sign(hash, Buffer.from('known answer'), key)).toEqual(Buffer.from(answer));
    }
    const opened = privateDecrypt({ key, oaepHash: 'sha256' }, OAEP_ANSWER.ciphertext);
    expect(opened).toEqual(Buffer.from(OAEP_ANSWER.message));
  });
});
