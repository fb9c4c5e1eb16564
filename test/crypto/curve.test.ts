import { createHash, createPublicKey, diffieHellman, generateKeyPairSync } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import { p256, p384 } from '@noble/curves/nist.js';

import {
  agreeEphemeral,
  checkPublicKey,
  CURVES,
  exportPublicKey,
  importPublicKey,
} from '../../src/crypto/curve.ts';
import { concatBytes } from '../../src/crypto/bytes.ts';
import { ecdsaScheme } from '../../src/crypto/classical-signature.ts';
import { signDigest } from './classical-keys.ts';
import { classicalPublicKey, derive, hex, randomScalar } from './software-halves.ts';
import type { Curve } from '../../src/crypto/suite.ts';

const invalid = expect.objectContaining({ code: 'invalid_value' });
const POINTS = ['P-256', 'P-384'] as const;
/** The low-order u-coordinates as libsodium and RFC 7748 implementations list them. */
const LOW_ORDER = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
];

describe.each(['P-256', 'P-384', 'X25519'] as const)('%s', (curve: Curve) => {
  it('an ephemeral agreement is the ECDH of the two keys', async () => {
    for (let i = 0; i < 20; i += 1) {
      const scalar = randomScalar(curve);
      const { publicKey, secret } = await agreeEphemeral(curve, classicalPublicKey(curve, scalar));
      expect(publicKey).toHaveLength(CURVES[curve].publicKeyLength);
      expect(secret.length).toBe(CURVES[curve].fieldLength);
      expect(secret.reveal()).toEqual(Buffer.from(derive(curve, scalar, publicKey).reveal()));
    }
  });

  it('imports and exports the same bytes', () => {
    const publicKey = classicalPublicKey(curve, randomScalar(curve));
    expect(exportPublicKey(importPublicKey(curve, publicKey))).toEqual(publicKey);
    expect(() => checkPublicKey(curve, publicKey)).not.toThrow();
  });

  it('refuses every other length', () => {
    const publicKey = classicalPublicKey(curve, randomScalar(curve));
    const longer = concatBytes(publicKey, hex('00'));
    for (const wrong of [hex(''), publicKey.subarray(1), publicKey.subarray(0, -1), longer]) {
      expect(() => importPublicKey(curve, wrong)).toThrow(invalid);
    }
  });
});

describe.each(POINTS)('points of %s', (curve) => {
  const width = CURVES[curve].fieldLength;
  const point = classicalPublicKey(curve, randomScalar(curve));
  const [x, y] = [point.subarray(1, 1 + width), point.subarray(1 + width)];

  it('only the uncompressed form of a point on the curve is taken', () => {
    const odd = ((y.at(-1) ?? 0) & 1) === 1;
    const flippedY = Uint8Array.from(y, (byte, i) => (i === width - 1 ? byte ^ 1 : byte));
    const bad = {
      'off the curve': concatBytes(hex('04'), x, flippedY),
      zero: concatBytes(hex('04'), new Uint8Array(2 * width)),
      compressed: concatBytes(hex(odd ? '03' : '02'), x),
      'compressed and padded': concatBytes(hex(odd ? '03' : '02'), x, y),
      'hybrid form': concatBytes(hex(odd ? '07' : '06'), x, y),
      infinity: hex('00'),
      'infinity, padded': new Uint8Array(1 + 2 * width),
      'as OCTET STRING': concatBytes(hex('04'), Uint8Array.of(point.length), point),
    };
    expect(() => importPublicKey(curve, point)).not.toThrow();
    for (const key of Object.values(bad))
      expect(() => importPublicKey(curve, key)).toThrow(invalid);
  });

  it('one that was taken is looked at again once its bytes have changed', () => {
    const key = Uint8Array.from(point);
    for (let at = 0; at < key.length; at += 1) {
      expect(() => checkPublicKey(curve, key)).not.toThrow();
      key[at] = (key[at] ?? 0) ^ 1;
      expect(() => checkPublicKey(curve, key)).toThrow(invalid);
      key[at] = (key[at] ?? 0) ^ 1;
    }
  });

  it('a coordinate of p or more is refused, though it is on the curve modulo p', () => {
    // x = 0 is on both curves; x = p is the same coordinate, not reduced.
    const { Point } = curve === 'P-256' ? p256 : p384;
    const root = Point.Fp.toBytes(Point.Fp.sqrt(Point.CURVE().b));
    const at = (coordinate: Uint8Array) => concatBytes(hex('04'), coordinate, root);
    expect(() => importPublicKey(curve, at(new Uint8Array(width)))).not.toThrow();
    const prime = hex(Point.CURVE().p.toString(16));
    expect(() => importPublicKey(curve, at(prime))).toThrow(invalid);
  });

  it('verifies ECDSA in the one DER form, and nothing else', async () => {
    const scalar = randomScalar(curve);
    const publicKey = classicalPublicKey(curve, scalar);
    const hash = curve === 'P-256' ? 'SHA-256' : 'SHA-384';
    const message = hex('0102');
    const digest = createHash(hash.replace('-', '')).update(message).digest();
    const raw = signDigest(curve, scalar, digest);
    const scheme = ecdsaScheme(curve, hash);
    const signature = scheme.encode(raw);
    const verify = async (given: Uint8Array) => {
      const valid = await scheme.verify(publicKey, message, given);
      expect(await scheme.verifyDigest(publicKey, digest, given)).toBe(valid);
      return valid;
    };
    expect(await verify(signature)).toBe(true);
    const wrong = [hex(''), raw, signature.subarray(1), concatBytes(signature, hex('00'))];
    for (const given of [...wrong, new Uint8Array(2 * width)]) {
      expect(await verify(given)).toBe(false);
    }
    const offCurve = publicKey.fill(7, 1, 2);
    await expect(scheme.verify(offCurve, message, signature)).rejects.toMatchObject({
      code: 'invalid_value',
    });
  });
});

describe('X25519', () => {
  it.each(LOW_ORDER)('refuses the low-order point %s, with and without its top bit', (u) => {
    for (const top of [0, 0x80]) {
      const point = hex(u);
      point[31] = (point[31] ?? 0) | top;
      expect(() => checkPublicKey('X25519', point)).toThrow(invalid);
      // OpenSSL agrees: their shared secret is zero, which it refuses.
      const { privateKey } = generateKeyPairSync('x25519');
      const key = Buffer.from(point);
      const raw = { key, format: 'raw-public', asymmetricKeyType: 'x25519' } as const;
      expect(() => diffieHellman({ privateKey, publicKey: createPublicKey(raw) })).toThrow();
    }
  });

  it('takes points near them, which have a shared secret', async () => {
    for (const u of LOW_ORDER) {
      const point = hex(u);
      point[1] = (point[1] ?? 0) ^ 1;
      expect(() => checkPublicKey('X25519', point)).not.toThrow();
      expect((await agreeEphemeral('X25519', point)).secret.length).toBe(32);
    }
  });

  it('refuses what is not canonical: at p, above it, and with the top bit set', () => {
    const p = 2n ** 255n - 19n;
    const point = (value: bigint) =>
      Uint8Array.from(hex(value.toString(16).padStart(64, '0')).reverse());
    for (const value of [p, p + 9n, 2n ** 255n - 1n, 2n ** 255n + 9n, 2n ** 256n - 1n]) {
      expect(() => checkPublicKey('X25519', point(value))).toThrow(invalid);
    }
    for (const value of [9n, p - 2n])
      expect(() => checkPublicKey('X25519', point(value))).not.toThrow();
  });

  it('an ephemeral agreement with a low-order point rejects', async () => {
    const zero = new Uint8Array(32);
    await expect(agreeEphemeral('X25519', zero)).rejects.toMatchObject({ code: 'invalid_value' });
  });
});
