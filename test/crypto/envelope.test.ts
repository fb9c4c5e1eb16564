import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { concatBytes, utf8 } from '../../src/crypto/bytes.ts';
import {
  decodeEnvelopeText,
  encodeEnvelope,
  encodeEnvelopeText,
  encodeHeader,
  encodeKeyReference,
  HEADER_LENGTH,
  MAX_WRAP_PLAINTEXT,
  parseEnvelope,
} from '../../src/crypto/envelope.ts';
import { findSuite, SUITES } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import { hex, toHex } from './software-halves.ts';
import type { Envelope } from '../../src/crypto/envelope.ts';
import type { AeadSuite, KemSuite } from '../../src/crypto/suite.ts';

const wrapSuites = Object.values(SUITES).filter((row) => row.class === 'wrap');
const keyId = '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0';
const p256 = findSuite('MLKEM768-P256') as KemSuite;
const gcm = findSuite('A256GCM') as AeadSuite;

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const ciphertexts = fc.uint8Array({ minLength: 16, maxLength: 200 });
const references = fc.record({
  keyId: fc.uuid({ version: [1, 2, 3, 4, 5, 6, 7, 8] }),
  keyVersion: fc.integer({ min: 1, max: 0xffff_ffff }),
});

const envelopes: fc.Arbitrary<Envelope> = fc.oneof(
  ...wrapSuites.map((suite): fc.Arbitrary<Envelope> => {
    const shared = { ciphertext: ciphertexts, reference: references };
    return suite.kind === 'kem'
      ? fc
          .record({
            ...shared,
            mode: fc.constantFrom('base' as const, 'psk' as const),
            encapsulation: bytesOf(suite.kem.lengths.encapsulation),
          })
          .map(({ reference, ...rest }) => ({ ...reference, ...rest, suite }))
      : fc
          .record({ ...shared, nonce: bytesOf(suite.aead.nonceLength) })
          .map(({ reference, ...rest }) => ({ ...reference, ...rest, suite, mode: 'symmetric' }));
  }),
);

/** The code that parsing throws, or undefined when it parses. */
function refusal(bytes: Uint8Array): string | undefined {
  try {
    parseEnvelope(bytes);
    return undefined;
  } catch (error) {
    if (error instanceof TwofoldError) return error.code;
    throw error;
  }
}

/** The smallest envelopes, with the offsets of the header's fields. */
const kemBytes = (length = 16) =>
  encodeEnvelope({
    mode: 'base',
    suite: p256,
    keyId,
    keyVersion: 7,
    encapsulation: new Uint8Array(1153),
    ciphertext: new Uint8Array(length),
  });
const aeadBytes = () =>
  encodeEnvelope({
    mode: 'symmetric',
    suite: gcm,
    keyId,
    keyVersion: 7,
    nonce: new Uint8Array(12),
    ciphertext: new Uint8Array(16),
  });

function changed(bytes: Uint8Array, offset: number, value: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[offset] = value;
  return copy;
}

describe('envelope', () => {
  it('has the header of the format, byte by byte', () => {
    const header = encodeHeader({ mode: 'psk', suite: p256, keyId, keyVersion: 0x01020304 });
    expect(toHex(header)).toBe('01010101' + keyId.replaceAll('-', '') + '01020304');
    expect(header).toHaveLength(HEADER_LENGTH);
    expect(toHex(aeadBytes().subarray(0, 4))).toBe('01100301');
    expect(toHex(encodeKeyReference({ keyId, keyVersion: 1 }))).toBe(
      keyId.replaceAll('-', '') + '00000001',
    );
  });

  it('round-trips: parse and encode give the same bytes and fields', () => {
    fc.assert(
      fc.property(envelopes, (envelope) => {
        const bytes = encodeEnvelope(envelope);
        const parsed = parseEnvelope(bytes);
        const { suite, ...fields } = envelope;
        expect(parsed.suite).toBe(suite);
        expect(parsed).toMatchObject(fields);
        expect(Buffer.compare(encodeEnvelope(parsed), bytes)).toBe(0);
        const text = encodeEnvelopeText(bytes);
        expect(Buffer.compare(decodeEnvelopeText(text), bytes)).toBe(0);
      }),
    );
  });

  it('a changed byte is refused or parses to what encodes to the changed bytes', () => {
    fc.assert(
      fc.property(envelopes, fc.nat(), fc.integer({ min: 1, max: 255 }), (envelope, at, xor) => {
        const bytes = encodeEnvelope(envelope);
        const offset = at % bytes.length;
        const mutated = changed(bytes, offset, (bytes[offset] ?? 0) ^ xor);
        const code = refusal(mutated);
        if (code === undefined) {
          expect(Buffer.compare(encodeEnvelope(parseEnvelope(mutated)), mutated)).toBe(0);
        } else {
          expect(['invalid_envelope', 'unsupported_envelope_version', 'unknown_suite']).toContain(
            code,
          );
        }
      }),
      { numRuns: 500 },
    );
  });

  it('every value of every header byte is refused or different', () => {
    for (const bytes of [kemBytes(), aeadBytes()]) {
      for (let offset = 0; offset < HEADER_LENGTH + 1; offset += 1) {
        for (let value = 0; value < 256; value += 1) {
          if (value === bytes[offset]) continue;
          const mutated = changed(bytes, offset, value);
          const again = refusal(mutated) ?? encodeEnvelope(parseEnvelope(mutated));
          if (typeof again !== 'string') expect(Buffer.compare(again, mutated)).toBe(0);
        }
      }
    }
  });

  it.each([
    ['nothing', new Uint8Array(0), 'invalid_envelope'],
    ['a header alone', kemBytes().subarray(0, HEADER_LENGTH), 'invalid_envelope'],
    ['version 0', changed(kemBytes(), 0, 0), 'unsupported_envelope_version'],
    ['version 2', changed(kemBytes(), 0, 2), 'unsupported_envelope_version'],
    ['an unknown mode', changed(kemBytes(), 1, 2), 'invalid_envelope'],
    ['symmetric mode of a KEM suite', changed(kemBytes(), 1, 16), 'invalid_envelope'],
    ['base mode of a symmetric suite', changed(aeadBytes(), 1, 0), 'invalid_envelope'],
    ['psk mode of a symmetric suite', changed(aeadBytes(), 1, 1), 'invalid_envelope'],
    ['an unknown suite number', changed(kemBytes(), 3, 0xff), 'unknown_suite'],
    ['the number of a signature suite', changed(kemBytes(), 2, 0x04), 'invalid_envelope'],
    ['the number of a mac suite', changed(kemBytes(), 2, 0x06), 'invalid_envelope'],
    ['key version 0', changed(kemBytes(), 23, 0), 'invalid_envelope'],
    ['a KEM body one byte short of a tag', kemBytes().subarray(0, -1), 'invalid_envelope'],
    ['a nonce length of 11', changed(aeadBytes(), 24, 11), 'invalid_envelope'],
    ['a nonce length of 0', changed(aeadBytes(), 24, 0), 'invalid_envelope'],
    ['an AEAD body one byte short of a tag', aeadBytes().subarray(0, -1), 'invalid_envelope'],
    ['too long a ciphertext', kemBytes(MAX_WRAP_PLAINTEXT + 17), 'invalid_envelope'],
  ])('refuses %s', (_, bytes, code) => {
    expect(refusal(kemBytes())).toBeUndefined();
    expect(refusal(aeadBytes())).toBeUndefined();
    expect(refusal(bytes)).toBe(code);
  });

  it('every shorter prefix of the smallest envelopes is refused', () => {
    for (const bytes of [kemBytes(), aeadBytes()]) {
      for (let length = 0; length < bytes.length; length += 1) {
        expect(refusal(bytes.subarray(0, length))).toBe('invalid_envelope');
      }
    }
  });

  it('parses the longest plaintext there is', () => {
    expect(refusal(kemBytes(MAX_WRAP_PLAINTEXT + 16))).toBeUndefined();
  });

  it('parses a view into a larger buffer', () => {
    const bytes = kemBytes();
    const view = concatBytes(hex('ffffff'), bytes, hex('ff')).subarray(3, -1);
    expect(encodeEnvelope(parseEnvelope(view))).toEqual(bytes);
  });

  it('refuses a key reference outside its range', () => {
    const code = expect.objectContaining({ code: 'invalid_value' });
    for (const keyVersion of [0, -1, 1.5, 2 ** 32, Number.NaN]) {
      expect(() => encodeKeyReference({ keyId, keyVersion })).toThrow(code);
    }
    for (const id of ['', keyId.toUpperCase(), keyId.slice(1), `${keyId}0`, `${keyId}\n`]) {
      expect(() => encodeKeyReference({ keyId: id, keyVersion: 1 })).toThrow(code);
    }
  });
});

describe('envelope text', () => {
  const text = encodeEnvelopeText(aeadBytes());

  it('begins with its version and is canonical unpadded base64url', () => {
    expect(text).toMatch(/^tf1\.[A-Za-z0-9_-]+$/);
  });

  it.each([
    ['no prefix', text.slice(4)],
    ['another version', `tf2.${text.slice(4)}`],
    ['padding', `${text}=`],
    ['white space', `${text}\n`],
    ['standard base64', 'tf1.++//'],
    ['a character outside the alphabet', 'tf1.AA*A'],
    ['bits beyond the last byte', 'tf1.AB'],
    ['a lone character', 'tf1.A'],
    ['a prefix in capitals', `TF1.${text.slice(4)}`],
  ])('refuses %s', (_, bad) => {
    expect(() => decodeEnvelopeText(bad)).toThrow(
      expect.objectContaining({ code: 'invalid_envelope' }),
    );
  });

  it('one text per byte string', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), (tail) => {
        let bytes: Uint8Array;
        try {
          bytes = decodeEnvelopeText(`tf1.${tail}`);
        } catch {
          return;
        }
        expect(encodeEnvelopeText(bytes)).toBe(`tf1.${tail}`);
      }),
    );
    expect(decodeEnvelopeText('tf1.')).toEqual(utf8(''));
  });
});
