/** Private keys as PKCS #8 against OpenSSL (node's) and the examples of the LAMPS documents. */
import { createPrivateKey, createPublicKey } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';

import {
  derBitString,
  derOctetString,
  derSequence,
  derSmall,
  derValue,
} from '../../src/crypto/der.ts';
import { decodePem } from '../../src/crypto/pem.ts';
import { parsePrivateKey, wipePrivateKey, writePrivateKey } from '../../src/crypto/private-key.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { parseSpki, writeAlgorithmIdentifier } from '../../src/crypto/spki.ts';
import { vectorsOf } from '../vectors/published.ts';
import { EXPANDED_KEYS } from './expanded-keys.ts';
import { COMPOSITES, GENERATED, generated, NAMELESS, spkiOf } from './key-encodings.ts';
import type { KeyEncoding } from '../../src/crypto/key-encoding.ts';
import type { PrivateKeyMaterial } from '../../src/crypto/private-key.ts';

const invalid = expect.objectContaining({ code: 'invalid_value' });

const expansionOf = ({ algorithm }: KeyEncoding) => EXPANDED_KEYS[algorithm] ?? null;
const parse = (encoding: KeyEncoding, der: Uint8Array) =>
  parsePrivateKey(encoding, der, expansionOf(encoding));

function written(encoding: KeyEncoding, material: PrivateKeyMaterial): Uint8Array {
  return Uint8Array.from(writePrivateKey(encoding, material)?.reveal() ?? []);
}

function secret(...bytes: readonly (Uint8Array | number)[]): SecretBytes {
  return SecretBytes.own(
    Uint8Array.from(bytes.flatMap((part) => (typeof part === 'number' ? [part] : [...part]))),
  );
}

/** OneAsymmetricKey around any content. */
function wrapped(encoding: KeyEncoding, content: Uint8Array, version = 0, ...rest: Uint8Array[]) {
  if (encoding.spki === null) throw new Error('no identifier');
  return derSequence(
    derSmall(version),
    writeAlgorithmIdentifier(encoding.spki),
    derOctetString(content),
    ...rest,
  );
}

describe.each(GENERATED.map((row) => [row.encoding.algorithm, row.encoding, row] as const))(
  '%s',
  (_, encoding, row) => {
    const { privateKey, publicKey } = row.generate();
    const pkcs8 = new Uint8Array(privateKey.export({ format: 'der', type: 'pkcs8' }));

    it('is read from OpenSSL, and read by it', async () => {
      const { material, statedPublicKey } = await parse(encoding, pkcs8);
      expect(statedPublicKey).toBeNull();
      const ours = written(encoding, material);
      const theirs = createPrivateKey({ key: Buffer.from(ours), format: 'der', type: 'pkcs8' });
      expect(
        createPublicKey(theirs.export({ format: 'pem', type: 'pkcs8' })).equals(publicKey),
      ).toBe(true);
      // An EC key of OpenSSL has its public key inside, which ours leaves out.
      if (encoding.privateKey?.kind !== 'ec') {
        const again = await parse(encoding, ours);
        expect(written(encoding, again.material)).toEqual(ours);
      }
      wipePrivateKey(material);
      expect(() => written(encoding, material)).toThrow('wiped');
    });

    it('has nothing before or after it, and one length', async () => {
      const zero = Uint8Array.of(0);
      const cut = pkcs8.subarray(0, -1);
      for (const bytes of [Buffer.concat([pkcs8, zero]), Buffer.concat([zero, pkcs8]), cut]) {
        await expect(parse(encoding, bytes)).rejects.toEqual(invalid);
      }
    });
  },
);

describe('examples of RFC 9881, RFC 9909 and RFC 9935', () => {
  const examples = vectorsOf('x509-keys');

  it.each(examples.map((example) => [example.name, example] as const))('%s', async (_, example) => {
    const { encoding } = generated(example.algorithm);
    const der = decodePem('PRIVATE KEY', example.privateKey, 'it');
    if (example.publicKey === null) {
      await expect(parse(encoding, der)).rejects.toEqual(invalid);
      return;
    }
    const { material } = await parse(encoding, der);
    expect(written(encoding, material)).toEqual(Uint8Array.from(der));
    const publicKey = decodePem('PUBLIC KEY', example.publicKey, 'it');
    const derived = createPublicKey(
      createPrivateKey(example.privateKey).export({ format: 'pem', type: 'pkcs8' }),
    );
    expect(spkiOf(derived)).toEqual(publicKey);
    expect(parseSpki(encoding, publicKey).length).toBeGreaterThan(0);
  });

  it('are refused in expanded form where nobody can check it', async () => {
    for (const { privateKey, publicKey, name, algorithm } of examples) {
      if (publicKey === null || !/both|expanded/.test(name)) continue;
      const der = decodePem('PRIVATE KEY', privateKey, 'it');
      await expect(parsePrivateKey(generated(algorithm).encoding, der, null)).rejects.toEqual(
        invalid,
      );
    }
  });
});

describe('strictness', () => {
  const { encoding: dsa } = generated('ML-DSA-44');
  const seed = new Uint8Array(32).fill(5);

  it.each([
    ['a short seed', derValue(0x80, seed.subarray(1))],
    ['a long seed', derValue(0x80, seed, Uint8Array.of(1))],
    ['a bare seed', seed],
    ['a seed in an octet string', derOctetString(seed)],
    ['a seed under an explicit tag', derValue(0xa0, derOctetString(seed))],
    ['bytes after the choice', Uint8Array.from([...derValue(0x80, seed), 5, 0])],
    ['a pair of one', derSequence(derOctetString(seed))],
    ['nothing', new Uint8Array(0)],
  ])('refuses %s', async (_, content) => {
    await expect(parse(dsa, wrapped(dsa, content))).rejects.toEqual(invalid);
  });

  it('reads a stated public key in version 1 only, and hands it on', async () => {
    const content = derValue(0x80, seed);
    const key = new Uint8Array(1312).fill(1);
    const stated = derValue(0x81, Uint8Array.of(0), key);
    const { statedPublicKey } = await parse(dsa, wrapped(dsa, content, 1, stated));
    expect(statedPublicKey).toEqual(key);
    for (const bytes of [
      wrapped(dsa, content, 0, stated),
      wrapped(dsa, content, 1),
      wrapped(dsa, content, 2, stated),
      wrapped(dsa, content, 1, derValue(0x81, Uint8Array.of(1), key)),
      wrapped(dsa, content, 1, derValue(0x81, Uint8Array.of(0), key.subarray(1))),
      wrapped(dsa, content, 0, derValue(0xa0)),
    ]) {
      await expect(parse(dsa, bytes)).rejects.toEqual(invalid);
    }
  });

  it('takes no algorithm for another', async () => {
    const { encoding: other } = generated('ML-DSA-65');
    await expect(parse(other, wrapped(dsa, derValue(0x80, seed)))).rejects.toEqual(invalid);
    const parameters = wrapped({ ...dsa, spki: { oid: '1.2.3', parameters: null } }, seed);
    await expect(parse(dsa, parameters)).rejects.toEqual(invalid);
  });

  it('refuses EC scalars out of range, of another length, curve or public key', async () => {
    const { encoding, generate, raw } = generated('ECDSA-P256');
    const other = raw(generate().publicKey);
    const scalar = new Uint8Array(32).fill(1);
    const build = (version: number, key: Uint8Array, ...rest: Uint8Array[]) =>
      wrapped(encoding, derSequence(derSmall(version), derOctetString(key), ...rest));
    const p384 = derValue(0xa0, Uint8Array.from(Buffer.from('06052b81040022', 'hex')));
    expect((await parse(encoding, build(1, scalar))).material.kind).toBe('ec');
    for (const bytes of [
      build(0, scalar),
      build(1, new Uint8Array(32)),
      build(1, new Uint8Array(32).fill(255)),
      build(1, scalar.subarray(1)),
      build(1, Uint8Array.from([0, ...scalar])),
      build(1, scalar, p384),
      build(1, scalar, derValue(0xa1, derBitString(other))),
    ]) {
      await expect(parse(encoding, bytes)).rejects.toEqual(invalid);
    }
  });

  it('takes an RSA key of its own size only', async () => {
    const { generate } = generated('RSA3072-PSS-SHA-384');
    const der = generate().privateKey.export({ format: 'der', type: 'pkcs8' });
    await expect(parse(generated('RSA2048-PSS-SHA-256').encoding, der)).rejects.toEqual(invalid);
  });
});

describe('composites', () => {
  const bare: Readonly<Record<string, () => PrivateKeyMaterial>> = {
    ec: () => ({ kind: 'ec', scalar: secret(new Uint8Array(32).fill(3)) }),
    okp: () => ({ kind: 'bytes', key: secret(new Uint8Array(32).fill(4)) }),
    rsa: () => ({
      kind: 'rsa',
      der: SecretBytes.own(
        new Uint8Array(
          generated('RSA2048-PSS-SHA-256')
            .generate()
            .privateKey.export({ format: 'der', type: 'pkcs1' }),
        ),
      ),
    }),
  };

  it.each(COMPOSITES.map((encoding) => [encoding.algorithm, encoding] as const))(
    '%s comes back',
    async (_, encoding) => {
      if (encoding.privateKey?.kind !== 'composite') throw new Error('no composite');
      const { seedLength, classical } = encoding.privateKey;
      const seed = secret(new Uint8Array(seedLength).fill(2));
      const half = bare[classical.kind]?.();
      if (half === undefined) throw new Error(classical.kind);
      const der = written(encoding, { kind: 'composite', seed, classical: half });
      const { material } = await parse(encoding, der);
      expect(written(encoding, material)).toEqual(der);
      await expect(parse(encoding, Uint8Array.from([...der, 0]))).rejects.toEqual(invalid);
      const [content] = [der.subarray(-(classical.kind === 'okp' ? 32 : 51))];
      const short = wrapped(encoding, content);
      await expect(parse(encoding, short)).rejects.toEqual(invalid);
    },
  );

  it('are the bytes of the published examples', async () => {
    for (const { suite, sk } of vectorsOf('composite-sigs')) {
      const encoding = COMPOSITES.find(({ algorithm }) => algorithm === suite);
      if (encoding === undefined) continue;
      const der = wrapped(encoding, Uint8Array.from(Buffer.from(sk, 'hex')));
      const { material } = await parse(encoding, der);
      expect(written(encoding, material)).toEqual(der);
    }
  });

  it('need the curve and have no public key in their EC half', async () => {
    const [, encoding] = COMPOSITES;
    if (encoding === undefined) throw new Error('no composite');
    const scalar = derOctetString(new Uint8Array(32).fill(3));
    const content = [...new Uint8Array(32), ...derSequence(derSmall(1), scalar)];
    await expect(parse(encoding, wrapped(encoding, Uint8Array.from(content)))).rejects.toEqual(
      invalid,
    );
  });

  it('without an identifier have no format', async () => {
    for (const encoding of NAMELESS) {
      const material = { kind: 'seed', seed: secret(1) } as const;
      expect(writePrivateKey(encoding, material)).toBeNull();
      await expect(parse(encoding, Uint8Array.of(0x30, 0))).rejects.toEqual(invalid);
      expect(encoding.unavailable.privateKey).toBeDefined();
    }
  });
});
