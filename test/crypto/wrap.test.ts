import { randomBytes, randomUUID } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { concatBytes, utf8 } from '../../src/crypto/bytes.ts';
import { encodeEnvelope, MAX_WRAP_PLAINTEXT, parseEnvelope } from '../../src/crypto/envelope.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import {
  decapsulateKey,
  encapsulateKey,
  openEnvelope,
  openSymmetric,
  sealEnvelope,
  sealSymmetric,
} from '../../src/crypto/wrap.ts';
import { ML_KEM_LENGTHS } from '../../src/crypto/engine.ts';
import { TwofoldError } from '../../src/errors.ts';
import { aeadKey, KEM_ROWS, randomKemKey, toHex } from './software-halves.ts';
import type { WrapContext } from '../../src/crypto/context.ts';
import type { AeadEnvelope, KemEnvelope } from '../../src/crypto/envelope.ts';
import type { OpenRequest } from '../../src/crypto/wrap.ts';
import type { AeadSuite, KemSuite } from '../../src/crypto/suite.ts';

const ENGINES = [nativeEngine, portableEngine];
/** A suite without a post-quantum half asks no engine for anything. */
const EACH = ENGINES.flatMap((engine) =>
  KEM_ROWS.filter((suite) => suite.pq !== null || engine.name === 'native').map((suite) => ({
    engine,
    suite,
    name: `${suite.id}, ${engine.name}`,
  })),
);
/** ML-KEM's private key holds the public one, and RSAES-OAEP binds none: it is no input of theirs. */
const readsPublicKey = ({ hsm }: KemSuite) => hsm !== null && hsm.kind !== 'rsa';
const context: WrapContext = { encryptionContext: { tenant: 'a' }, aad: utf8('aad') };
const failed = { code: 'decryption_failed', detail: undefined };
const reference = { keyId: randomUUID(), keyVersion: 3 };
const pskOf = () => SecretBytes.own(Uint8Array.from(randomBytes(32)));
const secretOf = (text: string) => SecretBytes.own(utf8(text));

/** The code of what opening throws; undefined when it opens. Anything else fails the test. */
async function refusal(open: () => Promise<SecretBytes>): Promise<string | undefined> {
  try {
    await open();
    return undefined;
  } catch (error) {
    if (error instanceof TwofoldError) return error.code;
    throw error;
  }
}

describe.each(EACH)('KEM wrap $name', ({ engine, suite }) => {
  const key = randomKemKey(engine, suite);
  const psk = pskOf();
  const seal = (plaintext: SecretBytes, withPsk: boolean, given = context) =>
    sealEnvelope(engine, {
      suite,
      publicKey: key.publicKey,
      ...reference,
      ...(withPsk ? { psk } : {}),
      context: given,
      plaintext,
    });
  const open = (bytes: Uint8Array, change: Partial<OpenRequest> = {}) => {
    const { publicKey, halves } = key;
    const request = { publicKey, halves, psk, context, ...change };
    return openEnvelope(parseEnvelope(bytes) as KemEnvelope, request);
  };

  it('opens what it sealed, in both modes, at every size', async () => {
    const sizes = fc.constantFrom(0, 1, 16, 32, 1000, MAX_WRAP_PLAINTEXT);
    await fc.assert(
      fc.asyncProperty(sizes, fc.boolean(), async (size, withPsk) => {
        const plaintext = Uint8Array.from(randomBytes(size));
        const bytes = await seal(SecretBytes.copyOf(plaintext), withPsk);
        expect(parseEnvelope(bytes)).toMatchObject({
          ...reference,
          mode: withPsk ? 'psk' : 'base',
        });
        const { encapsulation } = suite.kem.lengths;
        expect(bytes).toHaveLength(24 + encapsulation + size + 16);
        expect(Buffer.compare((await open(bytes)).reveal(), plaintext)).toBe(0);
      }),
      { numRuns: engine.name === 'native' ? 20 : 6 },
    );
  });

  it('every flipped bit behind the header is decryption_failed without detail', async () => {
    for (const withPsk of [false, true]) {
      const bytes = await seal(secretOf('plaintext'), withPsk);
      const bits = fc.integer({ min: 24 * 8, max: bytes.length * 8 - 1 });
      await fc.assert(
        fc.asyncProperty(bits, async (bit) => {
          const flipped = Uint8Array.from(bytes);
          flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          await expect(open(flipped)).rejects.toMatchObject(failed);
        }),
        { numRuns: engine.name === 'native' ? 100 : 15 },
      );
    }
  }, 60_000);

  it('every changed header byte that still parses is decryption_failed', async () => {
    const bytes = await seal(secretOf('plaintext'), true);
    let opened = 0;
    for (let offset = 0; offset < 24; offset += 1) {
      const mutated = Uint8Array.from(bytes);
      mutated[offset] = (mutated[offset] ?? 0) ^ 1;
      try {
        parseEnvelope(mutated);
      } catch {
        continue;
      }
      if ((parseEnvelope(mutated) as KemEnvelope).suite !== suite) continue;
      opened += 1;
      await expect(open(mutated)).rejects.toMatchObject(failed);
    }
    // Mode, key id and key version: 21 bytes that another value does not make malformed.
    expect(opened).toBe(21);
  });

  it('another context, aad, key or psk is decryption_failed', async () => {
    const bytes = await seal(secretOf('plaintext'), true);
    const other = randomKemKey(engine, suite, key);
    const mixed = [
      { halves: { ...key.halves, pq: other.halves.pq } },
      { halves: { ...key.halves, classical: other.halves.classical } },
    ];
    const changes: Partial<OpenRequest>[] = [
      { context: {} },
      { context: { encryptionContext: { tenant: 'b' }, aad: utf8('aad') } },
      { context: { encryptionContext: { tenant: 'a' } } },
      { context: { encryptionContext: { tenant: 'a' }, aad: utf8('aad.') } },
      { psk: pskOf() },
      ...(readsPublicKey(suite) ? [{ publicKey: other.publicKey }] : []),
      { halves: other.halves },
      ...(suite.parts.length === 2 ? mixed : []),
    ];
    expect(toHex((await open(bytes)).reveal())).toBe(toHex(utf8('plaintext')));
    for (const change of changes) {
      await expect(open(bytes, change)).rejects.toMatchObject(failed);
    }
  });

  it('modes do not mix: psk read as base and base read as psk fail', async () => {
    for (const withPsk of [false, true]) {
      const bytes = await seal(secretOf('plaintext'), withPsk);
      const relabelled = Uint8Array.from(bytes);
      relabelled[1] = withPsk ? 0 : 1;
      await expect(open(relabelled)).rejects.toMatchObject(failed);
    }
  });

  it('a base envelope opens without the psk, a psk envelope never does', async () => {
    const { publicKey, halves } = key;
    const withoutPsk = async (bytes: Uint8Array) =>
      openEnvelope(parseEnvelope(bytes) as KemEnvelope, { publicKey, halves, context });
    const base = await withoutPsk(await seal(secretOf('plaintext'), false));
    expect(toHex(base.reveal())).toBe(toHex(utf8('plaintext')));
    await expect(withoutPsk(await seal(secretOf('x'), true))).rejects.toMatchObject({
      code: 'internal',
    });
  });

  const hasPoint = suite.hsm !== null && suite.hsm.kind !== 'rsa';
  if (hasPoint) {
    it('an encapsulation with a bad classical point never reaches the halves', async () => {
      const bytes = await seal(secretOf('plaintext'), true);
      const envelope = parseEnvelope(bytes) as KemEnvelope;
      const pqLength = suite.pq === null ? 0 : ML_KEM_LENGTHS[suite.pq].ciphertext;
      const points = [new Uint8Array(envelope.encapsulation.length - pqLength)];
      if (points[0]?.length !== 32) {
        const onCurve = envelope.encapsulation.subarray(pqLength);
        const off = Uint8Array.from(onCurve);
        off[off.length - 1] = (off[off.length - 1] ?? 0) ^ 1;
        points.push(
          off,
          Uint8Array.from(onCurve).fill(2, 0, 1),
          Uint8Array.from(onCurve).fill(255, 1),
        );
      }
      const never = () => {
        throw new Error('a private half was used');
      };
      for (const point of points) {
        const encapsulation = Uint8Array.from(envelope.encapsulation);
        encapsulation.set(point, pqLength);
        const halves = { pq: never, classical: never };
        const opening = open(encodeEnvelope({ ...envelope, encapsulation }), { halves });
        await expect(opening).rejects.toMatchObject(failed);
      }
    });
  }

  it('an envelope of one engine opens with the other', async () => {
    const other = ENGINES.find(({ name }) => name !== engine.name) ?? engine;
    const publicKey = key.publicKey;
    const request = { suite, publicKey, ...reference, psk, context, plaintext: secretOf('x') };
    const bytes = await sealEnvelope(other, request);
    expect(toHex((await open(bytes)).reveal())).toBe('78');
  });

  it('encapsulate and decapsulate agree, and the export is not what opens envelopes', async () => {
    const { publicKey, halves } = key;
    const { sharedSecret, encapsulation } = await encapsulateKey(engine, {
      suite,
      publicKey,
      ...reference,
    });
    expect(sharedSecret).toHaveLength(32);
    const decapsulate = (change: object) =>
      decapsulateKey({ suite, publicKey, halves, encapsulation, ...reference, ...change });
    expect((await decapsulate({})).reveal()).toEqual(sharedSecret.reveal());
    const raw = await suite.kem.decapsulate(encapsulation, publicKey, halves);
    expect(toHex(raw.reveal())).not.toBe(toHex(sharedSecret.reveal()));
    // Bound to key and version.
    for (const change of [{ keyVersion: 4 }, { keyId: randomUUID() }]) {
      const secret = await decapsulate(change);
      expect(toHex(secret.reveal())).not.toBe(toHex(sharedSecret.reveal()));
    }
    const short = { encapsulation: encapsulation.subarray(1) };
    await expect(decapsulate(short)).rejects.toMatchObject(failed);
  });
});

describe('KEM wrap when something fails', () => {
  const suite = findSuite('MLKEM768-P256') as KemSuite;
  const key = randomKemKey(nativeEngine, suite);
  const request = { suite, publicKey: key.publicKey, ...reference, context };

  const opening = async (halves: OpenRequest['halves']) => {
    const bytes = await sealEnvelope(nativeEngine, { ...request, plaintext: secretOf('x') });
    const envelope = parseEnvelope(bytes) as KemEnvelope;
    return openEnvelope(envelope, { publicKey: key.publicKey, halves, context });
  };

  it('wipes the half that came when the other failed, and passes its error on', async () => {
    const unavailable = new TwofoldError('hsm_unavailable');
    let given: SecretBytes | undefined;
    const pq = async (ciphertext: Uint8Array) => (given = await key.halves.pq(ciphertext));
    const classical = () => {
      throw unavailable;
    };
    await expect(opening({ pq, classical })).rejects.toBe(unavailable);
    expect(() => given?.reveal()).toThrow('after being wiped');
  });

  it('wipes both halves when it succeeds', async () => {
    const given: SecretBytes[] = [];
    const keep = async (secret: Promise<SecretBytes>) => {
      given.push(await secret);
      return secret;
    };
    await opening({
      pq: (ciphertext) => keep(key.halves.pq(ciphertext)),
      classical: (peer) => keep(key.halves.classical(peer)),
    });
    expect(given).toHaveLength(2);
    for (const secret of given) expect(() => secret.reveal()).toThrow('after being wiped');
  });

  it('halves of the wrong length are refused, also where a byte only moved between them', async () => {
    const moved = {
      pq: async (ciphertext: Uint8Array) => {
        const pq = (await key.halves.pq(ciphertext)).reveal();
        return SecretBytes.own(concatBytes(pq, Uint8Array.of(7)));
      },
      classical: async () => SecretBytes.own(new Uint8Array(31)),
    };
    for (const wrong of [moved, { pq: moved.pq }, { classical: moved.classical }]) {
      expect(await refusal(() => opening({ ...key.halves, ...wrong }))).toBe('internal');
    }
  });

  it('a psk of less than 32 bytes is refused', async () => {
    const psk = SecretBytes.own(new Uint8Array(31));
    const sealing = sealEnvelope(nativeEngine, { ...request, psk, plaintext: secretOf('x') });
    await expect(sealing).rejects.toThrow(RangeError);
  });

  it('refuses too long a plaintext, a bad public key and a bad context before work', async () => {
    const code = { code: 'invalid_value' };
    const plaintext = secretOf('x');
    const long = SecretBytes.own(new Uint8Array(MAX_WRAP_PLAINTEXT + 1));
    const seal = (change: object) =>
      sealEnvelope(nativeEngine, { ...request, plaintext, ...change });
    await expect(seal({})).resolves.toBeInstanceOf(Uint8Array);
    await expect(seal({ plaintext: long })).rejects.toMatchObject(code);
    await expect(seal({ publicKey: key.publicKey.subarray(1) })).rejects.toMatchObject(code);
    const notReduced = Uint8Array.from(key.publicKey).fill(0xff, 0, 3);
    await expect(seal({ publicKey: notReduced })).rejects.toMatchObject(code);
    const offCurve = Uint8Array.from(key.publicKey);
    offCurve[offCurve.length - 1] = (offCurve[offCurve.length - 1] ?? 0) ^ 1;
    await expect(seal({ publicKey: offCurve })).rejects.toMatchObject(code);
    await expect(seal({ context: { encryptionContext: { '': '' } } })).rejects.toMatchObject(code);
  });
});

describe('symmetric wrap', () => {
  const suite = findSuite('A256GCM') as AeadSuite;
  const key = aeadKey(Uint8Array.from(randomBytes(32)));
  const seal = (text: string) =>
    sealSymmetric({ suite, key, ...reference, context, plaintext: secretOf(text) });
  const open = (bytes: Uint8Array, change: Partial<Parameters<typeof openSymmetric>[1]> = {}) =>
    openSymmetric(parseEnvelope(bytes) as AeadEnvelope, { key, context, ...change });

  it('opens what it sealed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ maxLength: 100 }), async (text) => {
        const bytes = await seal(text);
        expect(bytes).toHaveLength(24 + 13 + utf8(text).length + 16);
        expect((await open(bytes)).reveal()).toEqual(utf8(text));
      }),
    );
  });

  it('every flipped bit is refused: malformed, or decryption_failed', async () => {
    const bytes = await seal('plaintext');
    const codes: Record<string, number> = {};
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const flipped = Uint8Array.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const code = (await refusal(async () => open(flipped))) ?? 'opened';
      codes[code] = (codes[code] ?? 0) + 1;
    }
    // Whole bytes: version; mode and nonce length; suite; the rest is under the tag.
    expect(codes['opened']).toBeUndefined();
    expect(codes['unsupported_envelope_version']).toBe(8);
    expect(codes['decryption_failed']).toBe((16 + 4 + 12 + 9 + 16) * 8);
  });

  it('another context or key is decryption_failed', async () => {
    const bytes = await seal('plaintext');
    await expect(open(bytes, { context: {} })).rejects.toMatchObject(failed);
    const other = aeadKey(Uint8Array.from(randomBytes(32)));
    await expect(open(bytes, { key: other })).rejects.toMatchObject(failed);
  });

  it('never writes an envelope that it could not parse', async () => {
    const sealWith = (nonceLength: number, tagLength: number) =>
      sealSymmetric({
        suite,
        key: {
          ...key,
          encrypt: async (plaintext) => ({
            nonce: new Uint8Array(nonceLength),
            ciphertext: new Uint8Array(plaintext.length + tagLength),
          }),
        },
        ...reference,
        context,
        plaintext: secretOf('x'),
      });
    await expect(sealWith(12, 16)).resolves.toBeInstanceOf(Uint8Array);
    await expect(sealWith(16, 16)).rejects.toThrow(RangeError);
    await expect(sealWith(12, 12)).rejects.toThrow(RangeError);
  });
});
