/** Forged classical signatures and ciphertexts, with the private key at hand: each is made, not guessed. */
import {
  constants,
  createPrivateKey,
  createPublicKey,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';

import { describe, expect, it } from '@jest/globals';

import { concatBytes, utf8 } from '../../src/crypto/bytes.ts';
import { rsaScheme } from '../../src/crypto/classical-signature.ts';
import { digestBytes, nodeHash } from '../../src/crypto/digests.ts';
import { LOW_ORDER_X25519 } from '../../src/crypto/point.ts';
import { SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { rsaOaepPart } from '../../src/crypto/kem-parts.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { mgf1, xor } from '../hsm/pss.ts';
import { publicKeyOf, randomPrivateKey, signClassical, signRsaBlock } from './classical-keys.ts';
import {
  COMPOSITES,
  engineOf,
  hex,
  KEM_ROWS,
  pairSpec,
  randomKemKey,
  randomSignatureKey,
} from './software-halves.ts';

const NOTHING = new Uint8Array(0);
const message = utf8('message');
const failed = { code: 'decryption_failed' };

function modulusOf(privateBytes: Uint8Array): bigint {
  const key = createPrivateKey({ key: Buffer.from(privateBytes), format: 'der', type: 'pkcs1' });
  const { n = '' } = key.export({ format: 'jwk' });
  return BigInt(`0x${Buffer.from(n, 'base64url').toString('hex')}`);
}

function numberOf(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

function bytesOf(value: bigint, length: number): Uint8Array {
  return hex(value.toString(16).padStart(2 * length, '0'));
}

interface Block {
  readonly salt?: number;
  readonly trailer?: number;
  readonly padding?: number;
  readonly separator?: number;
  readonly topBit?: boolean;
}

/** EMSA-PSS-ENCODE with its parts open to damage. */
function pssBlock(digest: Uint8Array, bits: number, damage: Block = {}): Uint8Array {
  const { salt: saltLength = 32, trailer = 0xbc, padding = 0, separator = 1 } = damage;
  const salt = randomBytes(saltLength);
  const h = digestBytes('SHA-256', concatBytes(new Uint8Array(8), digest, salt));
  const size = bits / 8 - 33;
  const zeros = new Uint8Array(size - saltLength - 1);
  zeros[zeros.length - 1] = padding;
  const data = concatBytes(zeros, Uint8Array.of(separator), salt);
  const block = concatBytes(
    xor(data, mgf1(nodeHash('SHA-256'), h, size)),
    h,
    Uint8Array.of(trailer),
  );
  block[0] = damage.topBit === true ? (block[0] ?? 0) ^ 0x80 : (block[0] ?? 0) & 0x7f;
  return block;
}

describe('RSA-PSS blocks', () => {
  const spec = { kind: 'rsa', bits: 2048, use: 'sign', padding: 'pss', hash: 'SHA-256' } as const;
  const key = randomPrivateKey(spec);
  const publicKey = publicKeyOf(spec, key);
  const scheme = rsaScheme(2048, 'pss', 'SHA-256');
  const digest = digestBytes('SHA-256', message);
  const verdicts = async (signature: Uint8Array) => [
    await scheme.verify(publicKey, message, signature),
    await scheme.verifyDigest(publicKey, digest, signature),
  ];

  it('are right as they are encoded here without damage', async () => {
    const signature = signRsaBlock(key, pssBlock(digest, 2048));
    expect(await verdicts(signature)).toEqual([true, true]);
  });

  it.each<[string, Block]>([
    ['no salt', { salt: 0 }],
    ['a salt one byte short', { salt: 31 }],
    ['a salt one byte long', { salt: 33 }],
    ['the longest salt', { salt: 256 - 33 - 2 }],
    ['another trailer', { trailer: 0xcc }],
    ['padding that is not zero', { padding: 1 }],
    ['padding with a high bit', { padding: 0x80 }],
    ['a separator of 2', { separator: 2 }],
    ['a separator of 0', { separator: 0 }],
  ])('with %s are refused', async (_, damage) => {
    const signature = signRsaBlock(key, pssBlock(digest, 2048, damage));
    expect(await verdicts(signature)).toEqual([false, false]);
  });

  it('with the top bit set are refused', async () => {
    let block = pssBlock(digest, 2048, { topBit: true });
    while ((block[0] ?? 0) < 0x80 || numberOf(block) >= modulusOf(key)) {
      block = pssBlock(digest, 2048, { topBit: true });
    }
    expect(await verdicts(signRsaBlock(key, block))).toEqual([false, false]);
  });

  it('of another digest or hash are refused', async () => {
    const other = signRsaBlock(key, pssBlock(digestBytes('SHA-256', NOTHING), 2048));
    expect(await verdicts(other)).toEqual([false, false]);
  });
});

describe.each(['pss', 'pkcs1'] as const)('RSA signatures with %s', (padding) => {
  const spec = { kind: 'rsa', bits: 2048, use: 'sign', padding, hash: 'SHA-256' } as const;
  const key = randomPrivateKey(spec);
  const n = modulusOf(key);
  const scheme = rsaScheme(2048, padding, 'SHA-256');
  const publicKey = publicKeyOf(spec, key);
  const verdicts = async (text: Uint8Array, signature: Uint8Array) => [
    await scheme.verify(publicKey, text, signature),
    await scheme.verifyDigest(publicKey, digestBytes('SHA-256', text), signature),
  ];

  it('are refused with the modulus added, which leaves the block the same', async () => {
    let text = randomBytes(32);
    let signature = await signClassical(spec, key, digestBytes('SHA-256', text));
    while (numberOf(signature) + n >= 1n << 2048n) {
      text = randomBytes(32);
      signature = await signClassical(spec, key, digestBytes('SHA-256', text));
    }
    expect(await verdicts(text, signature)).toEqual([true, true]);
    const larger = bytesOf(numberOf(signature) + n, 256);
    expect(await verdicts(text, larger)).toEqual([false, false]);
  });

  it('are refused at the ends of the range', async () => {
    for (const value of [n, n + 1n, n - 1n, 0n, 1n, (1n << 2048n) - 1n]) {
      expect(await verdicts(message, bytesOf(value, 256))).toEqual([false, false]);
    }
  });
});

describe.each(COMPOSITES)('halves of $id', (suite) => {
  const engine = engineOf(suite);
  const key = randomSignatureKey(engine, suite);
  const split = SIGNATURE_LENGTHS[suite.pq].signature;
  const sign = (text: string) => suite.signer.sign({ message: utf8(text) }, NOTHING, key.halves);
  const verify = (...parts: readonly Uint8Array[]) =>
    suite.signer.verify(
      engine,
      key.publicKey,
      { message: utf8('a') },
      NOTHING,
      concatBytes(...parts),
    );

  it('of two signatures by one key do not mix, nor swap, nor stand alone', async () => {
    const [mine, other] = [await sign('a'), await sign('b')];
    const [pq, classical] = [mine.subarray(0, split), mine.subarray(split)];
    expect(await verify(pq, classical)).toBe(true);
    expect(await verify(pq, other.subarray(split))).toBe(false);
    expect(await verify(other.subarray(0, split), classical)).toBe(false);
    expect(await verify(classical, pq)).toBe(false);
    expect(await verify(pq)).toBe(false);
    expect(await verify(classical)).toBe(false);
    expect(await verify(pq, classical, Uint8Array.of(0))).toBe(false);
  });

  // Both halves sign the same M' and nothing ties one signature to the other: SECURITY.md says so.
  it('of two signatures of one message by one key are exchangeable, and a signature is no identifier', async () => {
    const [first, second] = [await sign('a'), await sign('a')];
    expect(await verify(first.subarray(0, split), second.subarray(split))).toBe(true);
  });
});

const ALL_X25519 = KEM_ROWS.filter(({ hsm }) => hsm?.kind === 'x25519');
const ALL_OAEP = KEM_ROWS.filter(({ hsm }) => hsm?.kind === 'rsa');

describe.each(ALL_X25519)('low order in $id', (suite) => {
  it('is refused in keys and encapsulations, with the top bit set too', async () => {
    const engine = engineOf(suite);
    const key = randomKemKey(engine, suite);
    const { encapsulation } = await suite.kem.encapsulate(engine, key.publicKey);
    const never = () => {
      throw new Error('a private half was used');
    };
    for (const point of LOW_ORDER_X25519) {
      for (const top of [0, 0x80]) {
        const low = hex(point);
        low[31] = (low[31] ?? 0) | top;
        const publicKey = concatBytes(key.publicKey.subarray(0, -32), low);
        const sealing = suite.kem.encapsulate(engine, publicKey);
        await expect(sealing).rejects.toMatchObject({ code: 'invalid_value' });
        const bad = concatBytes(encapsulation.subarray(0, -32), low);
        const halves = { pq: never, classical: never };
        const opening = suite.kem.decapsulate(bad, key.publicKey, halves);
        await expect(opening).rejects.toMatchObject(failed);
      }
    }
  });
});

describe.each(ALL_OAEP)('ciphertexts of $id', (suite) => {
  it('fail at the modulus and above, and with a wrong padding', async () => {
    const engine = engineOf(suite);
    const key = randomKemKey(engine, suite);
    const n = modulusOf(key.scalar);
    const length = suite.kem.lengths.encapsulation;
    expect(pairSpec(suite)).toMatchObject({ bits: length * 8 });
    for (const value of [n, n + 1n, n - 1n, 0n, 1n, (1n << BigInt(length * 8)) - 1n]) {
      const opening = suite.kem.decapsulate(bytesOf(value, length), key.publicKey, key.halves);
      await expect(opening).rejects.toMatchObject(failed);
    }
  });
});

describe.each(ALL_OAEP)('messages of another length under $id', (suite) => {
  it('are decryption_failed like any other ciphertext', async () => {
    const engine = engineOf(suite);
    const key = randomKemKey(engine, suite);
    const publicKey = createPublicKey({
      key: Buffer.from(key.publicKey),
      format: 'der',
      type: 'pkcs1',
    });
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    const most = suite.kem.lengths.encapsulation - 66;
    for (const length of [0, 1, 31, 33, most]) {
      const sealed = publicEncrypt(
        { key: publicKey, padding, oaepHash: 'sha256' },
        randomBytes(length),
      );
      const opening = suite.kem.decapsulate(sealed, key.publicKey, key.halves);
      await expect(opening).rejects.toMatchObject(failed);
    }
  });
});

describe('RSA public keys', () => {
  it.each([2048, 3072, 4096] as const)('of %i bits have the exponent 65537', (bits) => {
    const spec = { kind: 'rsa', bits, use: 'sign', padding: 'pss', hash: 'SHA-256' } as const;
    const key = publicKeyOf(spec, randomPrivateKey(spec));
    const scheme = rsaScheme(bits, 'pss', 'SHA-256');
    const part = rsaOaepPart(bits);
    scheme.checkPublicKey(key);
    part.checkPublicKey(nativeEngine, key);
    const other = Uint8Array.from(key);
    // The last byte of e: 65539.
    other[other.length - 1] = 3;
    const refused = expect.objectContaining({ code: 'invalid_value' });
    expect(() => scheme.checkPublicKey(other)).toThrow(refused);
    expect(() => part.checkPublicKey(nativeEngine, other)).toThrow(refused);
  });
});
