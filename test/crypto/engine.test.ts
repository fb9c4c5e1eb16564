import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { describe, expect, it } from '@jest/globals';

import { ML_KEM_LENGTHS, SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { FOLDER, hasPublishedFolder, report } from '../vectors/published.ts';
import { hex, toHex } from './software-halves.ts';
import type { MlDsaParameterSet, MlKemParameterSet } from '../../src/crypto/engine.ts';

const ENGINES = [nativeEngine, portableEngine];
const KEM_SETS = Object.keys(ML_KEM_LENGTHS) as MlKemParameterSet[];
const DSA_SETS: readonly MlDsaParameterSet[] = ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'];
const invalid = { code: 'invalid_value' };
const CASES = ENGINES.flatMap((engine, index) => {
  const other = ENGINES[1 - index] ?? engine;
  return [{ engine, other, name: engine.name }];
});

describe.each(CASES)('$name engine, ML-KEM', ({ engine: { mlKem }, other }) => {
  it.each(KEM_SETS)('%s agrees with the other engine', async (set) => {
    const { seed, publicKey } = await mlKem.generate(set);
    expect(seed.length).toBe(64);
    expect(publicKey).toHaveLength(ML_KEM_LENGTHS[set].publicKey);
    expect(toHex(other.mlKem.publicKey(set, seed))).toBe(toHex(publicKey));
    const { ciphertext, sharedSecret } = await mlKem.encapsulate(set, publicKey);
    expect(ciphertext).toHaveLength(ML_KEM_LENGTHS[set].ciphertext);
    const key = mlKem.importSeed(set, seed);
    const otherKey = other.mlKem.importSeed(set, seed);
    seed.wipe();
    for (const input of [ciphertext, ciphertext.map((byte) => byte ^ 1)]) {
      const secrets = [await key.decapsulate(input), await otherKey.decapsulate(input)];
      const [mine, theirs] = secrets.map((secret) => toHex(secret.reveal()));
      expect(mine).toBe(theirs);
      expect(mine === toHex(sharedSecret.reveal())).toBe(input === ciphertext);
    }
  });

  it.each(KEM_SETS)('%s checks lengths before work', async (set) => {
    const { seed, publicKey } = await mlKem.generate(set);
    const { ciphertext } = await mlKem.encapsulate(set, publicKey);
    const key = mlKem.importSeed(set, seed);
    for (const wrong of [hex(''), ciphertext.subarray(1), new Uint8Array(ciphertext.length + 1)]) {
      await expect(key.decapsulate(wrong)).rejects.toMatchObject({ code: 'decryption_failed' });
    }
    for (const wrong of [hex(''), publicKey.subarray(1), new Uint8Array(publicKey.length + 1)]) {
      await expect(mlKem.encapsulate(set, wrong)).rejects.toMatchObject(invalid);
    }
  });

  it('a released key is unusable, and keys are fresh', async () => {
    const first = await mlKem.generate('ML-KEM-768');
    const second = await mlKem.generate('ML-KEM-768');
    expect(toHex(first.seed.reveal())).not.toBe(toHex(second.seed.reveal()));
    const key = mlKem.importSeed('ML-KEM-768', first.seed);
    const { ciphertext } = await mlKem.encapsulate('ML-KEM-768', first.publicKey);
    await key.decapsulate(ciphertext);
    key.release();
    await expect(key.decapsulate(ciphertext)).rejects.toThrow();
  });

  it('a seed of the wrong length is refused', () => {
    const seed = SecretBytes.own(new Uint8Array(63));
    expect(() => mlKem.importSeed('ML-KEM-768', seed)).toThrow();
    expect(() => mlKem.publicKey('ML-KEM-768', seed)).toThrow();
  });
});

describe.each(CASES)('$name engine, ML-DSA', ({ engine: { signatures }, other }) => {
  it.each(DSA_SETS)('%s agrees with the other engine, context included', async (set) => {
    const { seed, publicKey } = await signatures.generate(set);
    expect(seed.length).toBe(32);
    expect(toHex(await other.signatures.publicKey(set, seed))).toBe(toHex(publicKey));
    const [message, context] = [hex('00ff'), hex('636f6e74657874')];
    const key = signatures.importSeed(set, seed);
    seed.wipe();
    const signature = await key.sign(message, context);
    expect(signature).toHaveLength(SIGNATURE_LENGTHS[set].signature);
    for (const verifier of [signatures, other.signatures]) {
      const verify = (given: Uint8Array, signed = signature, pk = publicKey) =>
        verifier.verify(set, pk, message, signed, given);
      expect(await verify(context)).toBe(true);
      expect(await verify(hex(''))).toBe(false);
      expect(await verify(hex('636f6e7465787400'))).toBe(false);
      expect(await verify(context, signature.subarray(1))).toBe(false);
      expect(await verify(context, signature, publicKey.subarray(1))).toBe(false);
    }
  });

  it('signs hedged: two signatures of one message differ', async () => {
    const { seed } = await signatures.generate('ML-DSA-44');
    const key = signatures.importSeed('ML-DSA-44', seed);
    const [message, context] = [hex('00'), hex('')];
    const made = [await key.sign(message, context), await key.sign(message, context)];
    expect(new Set(made.map(toHex)).size).toBe(2);
    key.release();
    await expect(key.sign(message, context)).rejects.toThrow();
  });

  it('takes a context of 255 bytes and not of 256', async () => {
    const { seed } = await signatures.generate('ML-DSA-65');
    const key = signatures.importSeed('ML-DSA-65', seed);
    await expect(key.sign(hex('00'), new Uint8Array(255))).resolves.toHaveLength(3309);
    await expect(key.sign(hex('00'), new Uint8Array(256))).rejects.toMatchObject(invalid);
  });
});

describe.each(CASES)('$name engine, keys with coefficients of q and above', ({ engine }) => {
  // C2SP/CCTV ML-KEM modulus: every line is a key that is not reduced in one place.
  it.each(KEM_SETS)('%s', async (set) => {
    const { publicKey } = await engine.mlKem.generate(set);
    const check = (key: Uint8Array) => () => engine.mlKem.checkPublicKey(set, key);
    expect(check(publicKey)).not.toThrow();
    const [q, highest] = [3329, 4095];
    const coefficients = ((publicKey.length - 32) * 2) / 3;
    for (const value of [q, highest]) {
      for (const index of [0, 1, 2, coefficients - 2, coefficients - 1]) {
        const key = withCoefficient(publicKey, index, value);
        expect(check(key)).toThrow(expect.objectContaining(invalid));
        expect(check(withCoefficient(publicKey, index, q - 1))).not.toThrow();
      }
    }
    if (!hasPublishedFolder()) return;
    const file = join(FOLDER, 'cctv/ML-KEM/modulus', `${set}.txt.gz`);
    const lines = gunzipSync(readFileSync(file)).toString('ascii').trim().split('\n');
    for (const line of lines) {
      expect(check(hex(line))).toThrow(expect.objectContaining(invalid));
      const encapsulation = engine.mlKem.encapsulate(set, hex(line));
      await expect(encapsulation).rejects.toMatchObject(invalid);
    }
    report(`CCTV ML-KEM modulus ${set}, ${engine.name}: ${lines.length} keys refused`);
  });
});

/** The key with its n-th 12-bit coefficient replaced (ByteEncode12 of FIPS 203). */
function withCoefficient(publicKey: Uint8Array, index: number, value: number): Uint8Array {
  const key = Uint8Array.from(publicKey);
  const at = Math.floor(index / 2) * 3;
  const [low = 0, middle = 0, high = 0] = key.subarray(at, at + 3);
  const bytes =
    index % 2 === 0
      ? [value & 0xff, (middle & 0xf0) | (value >> 8), high]
      : [low, (middle & 0x0f) | ((value & 0x0f) << 4), value >> 4];
  key.set(bytes, at);
  return key;
}
