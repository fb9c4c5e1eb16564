/** OAEP decoding of raw RSA results: published vectors, another implementation, and every class of bad padding. */
import { constants, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { privateDecrypt, publicEncrypt, randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { decodeOaep, OAEP_OVERHEAD } from '../../src/crypto/oaep.ts';
import { TwofoldError } from '../../src/errors.ts';
import { mgf1, xor } from '../hsm/pss.ts';
import { vectorsOf } from '../vectors/published.ts';
import { settleCounts } from '../vectors/wycheproof-cases.ts';

const HASH = 'sha256';
const BYTES = 256;
const EMPTY_LABEL = Buffer.from(
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  'hex',
);

/** Of RFC 8017 section 7.1.1, step 2, with its parts open to damage. */
function encode(parts: {
  readonly message?: Uint8Array;
  readonly label?: Uint8Array;
  readonly first?: number;
  readonly separator?: number;
  readonly padding?: (at: number) => number;
}): Buffer {
  const { message = Buffer.from('message'), label = EMPTY_LABEL, first = 0 } = parts;
  const { separator = 1, padding = () => 0 } = parts;
  const fill = Buffer.alloc(BYTES - OAEP_OVERHEAD - message.length).map((_, at) => padding(at));
  const data = Buffer.concat([label, fill, Buffer.of(separator), message]);
  const seed = randomBytes(32);
  const masked = xor(data, mgf1(HASH, seed, data.length));
  return Buffer.concat([Buffer.of(first), xor(seed, mgf1(HASH, masked, 32)), masked]);
}

function failure(raw: Uint8Array): unknown {
  try {
    decodeOaep(raw, BYTES);
  } catch (error) {
    return error;
  }
  throw new Error('it was decoded');
}

const GARBAGE: Readonly<Record<string, Buffer>> = {
  'a first byte of 1': encode({ first: 1 }),
  'a first byte of 255': encode({ first: 0xff }),
  'another label': encode({ label: Buffer.alloc(32) }),
  'a label whose first bit differs': encode({
    label: EMPTY_LABEL.map((b, i) => b ^ (i ? 0 : 128)),
  }),
  'a label whose last bit differs': encode({
    label: EMPTY_LABEL.map((b, i) => b ^ (i < 31 ? 0 : 1)),
  }),
  'no separator': encode({ separator: 0, message: Buffer.alloc(7) }),
  'a separator of 2': encode({ separator: 2 }),
  'a separator of 0x81': encode({ separator: 0x81 }),
  'a separator of 0xff': encode({ separator: 0xff }),
  'padding that begins with 2': encode({ padding: (at) => (at === 0 ? 2 : 0) }),
  'padding that ends with 0x80': encode({ padding: (at) => (at === 182 ? 0x80 : 0) }),
  'everything wrong at once': encode({ first: 3, label: Buffer.alloc(32, 1), separator: 9 }),
  'a block of zeros': Buffer.alloc(BYTES),
  'a block of ones': Buffer.alloc(BYTES, 0xff),
  'an empty result': Buffer.alloc(0),
  'one byte': Buffer.of(1),
  'random bytes': randomBytes(BYTES),
};

describe('decoding', () => {
  it.each([0, 1, 7, 100, BYTES - OAEP_OVERHEAD - 1, BYTES - OAEP_OVERHEAD])(
    'gives back a message of %i bytes',
    (length) => {
      const message = randomBytes(length);
      expect(Buffer.from(decodeOaep(encode({ message }), BYTES))).toEqual(message);
    },
  );

  it('takes a message that begins with separators, zeros and ones', () => {
    for (const message of [Buffer.of(1, 1), Buffer.of(0, 1), Buffer.of(0, 0), Buffer.of(255, 1)]) {
      expect(Buffer.from(decodeOaep(encode({ message }), BYTES))).toEqual(message);
    }
  });

  it('takes a result with and without its leading zeros', () => {
    for (let round = 0; round < 600; round += 1) {
      const whole = encode({});
      const first = whole.findIndex((byte) => byte !== 0);
      for (const raw of [whole, whole.subarray(1), whole.subarray(first)]) {
        expect(Buffer.from(decodeOaep(raw, BYTES)).toString()).toBe('message');
      }
    }
  });

  it('leaves what it was given, and keeps no reference to it', () => {
    const raw = encode({});
    const before = Buffer.from(raw);
    const message = decodeOaep(raw, BYTES);
    expect(raw).toEqual(before);
    raw.fill(0);
    expect(Buffer.from(message).toString()).toBe('message');
  });

  it('refuses what is no result of the modulus', () => {
    expect(() => decodeOaep(new Uint8Array(BYTES + 1), BYTES)).toThrow(RangeError);
    expect(() => decodeOaep(new Uint8Array(0), OAEP_OVERHEAD - 1)).toThrow(RangeError);
  });
});

describe('bad padding', () => {
  it.each(Object.keys(GARBAGE))('%s is refused', (name) => {
    expect(failure(GARBAGE[name] ?? Buffer.alloc(0))).toMatchObject({ code: 'decryption_failed' });
  });

  it('of every class is the identical error', () => {
    const seen = Object.values(GARBAGE).map((raw) => {
      const error = failure(raw) as TwofoldError;
      expect(TwofoldError.is(error)).toBe(true);
      const { name, code, message, detail, cause } = error;
      // The frames without their columns' surroundings: thrown at one place, whatever was wrong.
      const place = error.stack?.split('\n')[1]?.trim();
      return JSON.stringify([name, code, message, detail, cause, place, Object.keys(error).sort()]);
    });
    expect(new Set(seen).size).toBe(1);
  });

  it('agrees with another implementation about blocks that are nearly right', () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const nearly = fc.record({
      first: fc.constantFrom(0, 0, 0, 1),
      separator: fc.constantFrom(1, 1, 0, 2, 0x80),
      broken: fc.constantFrom(-1, -1, 0, 31),
      filled: fc.constantFrom(-1, -1, 0, 100),
      message: fc.uint8Array({ maxLength: 60 }),
    });
    const raw = { padding: constants.RSA_NO_PADDING };
    fc.assert(
      fc.property(nearly, ({ first, separator, broken, filled, message }) => {
        const label = EMPTY_LABEL.map((byte, at) => (at === broken ? byte ^ 4 : byte));
        const padding = (at: number) => (at === filled ? 5 : 0);
        const block = encode({ first, separator, label, message, padding });
        const ciphertext = publicEncrypt({ key: publicKey, ...raw }, block);
        let theirs: string | undefined;
        try {
          theirs = privateDecrypt({ key: privateKey, oaepHash: HASH }, ciphertext).toString('hex');
        } catch {
          theirs = undefined;
        }
        let ours: string | undefined;
        try {
          ours = Buffer.from(decodeOaep(block, BYTES)).toString('hex');
        } catch (error) {
          expect(error).toMatchObject({ code: 'decryption_failed' });
        }
        expect(ours).toBe(theirs);
      }),
      { numRuns: 300 },
    );
  });
});

describe('another implementation', () => {
  it.each([2048, 3072, 4096])('seals what is opened, with %i bits', (modulusLength) => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength });
    const bytes = modulusLength / 8;
    const messages = fc.uint8Array({ maxLength: bytes - OAEP_OVERHEAD });
    fc.assert(
      fc.property(messages, (message) => {
        const ciphertext = publicEncrypt({ key: publicKey, oaepHash: HASH }, message);
        const raw = privateDecrypt(
          { key: privateKey, padding: constants.RSA_NO_PADDING },
          ciphertext,
        );
        expect(Buffer.from(decodeOaep(raw, bytes)).equals(message)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});

describe('published vectors', () => {
  it('Wycheproof', () => {
    const vectors = vectorsOf('rsa-oaep');
    const counts: Record<string, number> = {};
    for (const { key: der, ct, msg, label, result } of vectors) {
      const outcome = label !== '' ? 'skipped' : result === 'valid' ? 'valid' : 'refused';
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      if (label !== '') continue;
      const key = createPrivateKey({
        key: Buffer.from(der, 'hex'),
        format: 'der',
        type: 'pkcs8',
      });
      const bytes = (createPublicKey(key).asymmetricKeyDetails?.modulusLength ?? 0) / 8;
      let opened: string | undefined;
      try {
        const raw = privateDecrypt(
          { key, padding: constants.RSA_NO_PADDING },
          Buffer.from(ct, 'hex'),
        );
        opened = Buffer.from(decodeOaep(raw, bytes)).toString('hex');
      } catch {
        opened = undefined;
      }
      expect(opened).toBe(result === 'valid' ? msg : undefined);
    }
    settleCounts('rsa_oaep_3072_sha256_mgf1sha256', counts);
  });
});
