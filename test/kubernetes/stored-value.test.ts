import { expect, test } from '@jest/globals';
import fc from 'fast-check';

import { encodeEnvelope } from '../../src/crypto/envelope.ts';
import type { AeadEnvelope, KemEnvelope } from '../../src/crypto/envelope.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import {
  MAX_ANNOTATIONS,
  joinEnvelope,
  keyIdOf,
  parseKeyId,
  splitEnvelope,
} from '../../src/kubernetes/stored-value.ts';
import { NAME } from '../../src/name.ts';

const KEY = '0198a000-0000-7000-8000-00000000000a';
const ANNOTATION = NAME.kubernetesAnnotation;

const kem = (id: string, ciphertext: number, mode: 'base' | 'psk' = 'psk'): Uint8Array => {
  const suite = findSuite(id);
  if (suite.kind !== 'kem') throw new TypeError('not a KEM');
  const { encapsulation: length } = suite.kem.lengths;
  const envelope: KemEnvelope = {
    mode,
    suite,
    keyId: KEY,
    keyVersion: 7,
    encapsulation: new Uint8Array(length).fill(1),
    ciphertext: new Uint8Array(ciphertext).fill(2),
  };
  return encodeEnvelope(envelope);
};

const symmetric = (ciphertext: number): Uint8Array => {
  const suite = findSuite('A256GCM');
  if (suite.kind !== 'aead') throw new TypeError('not an AEAD');
  const envelope: AeadEnvelope = {
    mode: 'symmetric',
    suite,
    keyId: KEY,
    keyVersion: 7,
    nonce: new Uint8Array(suite.aead.nonceLength).fill(3),
    ciphertext: new Uint8Array(ciphertext).fill(4),
  };
  return encodeEnvelope(envelope);
};

const HYBRIDS = ['MLKEM768-P256', 'MLKEM768-X25519', 'MLKEM1024-P384', 'MLKEM1024-X25519'];

test.each(HYBRIDS)('%s: header and enc in the annotation, the AEAD output beside it', (id) => {
  const bytes = kem(id, 48);
  const { ciphertext, annotations } = splitEnvelope(bytes);
  expect(ciphertext).toHaveLength(48);
  expect(Object.keys(annotations)).toEqual([ANNOTATION]);
  expect(Buffer.from(joinEnvelope({ ciphertext, annotations }).bytes)).toEqual(Buffer.from(bytes));
});

test('A256GCM: the whole envelope is the ciphertext, and no annotation is taken beside it', () => {
  const bytes = symmetric(48);
  const value = splitEnvelope(bytes);
  expect(value.annotations).toEqual({});
  expect(Buffer.from(joinEnvelope(value).bytes)).toEqual(Buffer.from(bytes));
  const head = { [ANNOTATION]: bytes.subarray(0, 24) };
  expect(() => joinEnvelope({ ciphertext: bytes.subarray(24), annotations: head })).toThrow(
    'not divided',
  );
  expect(() => joinEnvelope({ ...value, annotations: { 'a.example': bytes } })).toThrow(
    'does not make',
  );
});

test('what anyone can make has no stored form', () => {
  const base = kem('MLKEM768-P256', 48, 'base');
  expect(() => splitEnvelope(base)).toThrow('Only what the service made');
  const head = { [ANNOTATION]: base.subarray(0, base.length - 48) };
  expect(() => joinEnvelope({ ciphertext: base.subarray(-48), annotations: head })).toThrow(
    'Only what the service made',
  );
});

test('a value is divided in one place only', () => {
  const bytes = kem('MLKEM768-P256', 48);
  const at = bytes.length - 48;
  for (const shift of [-1, 1, 16]) {
    const annotations = { [ANNOTATION]: bytes.subarray(0, at + shift) };
    const ciphertext = bytes.subarray(at + shift);
    expect(() => joinEnvelope({ ciphertext, annotations })).toThrow('not divided');
  }
  expect(() => joinEnvelope({ ciphertext: bytes.subarray(at), annotations: {} })).toThrow();
});

test('the limits of the protocol are held to the byte', () => {
  expect(splitEnvelope(kem('MLKEM768-P256', 1_024)).ciphertext).toHaveLength(1_024);
  expect(() => splitEnvelope(kem('MLKEM768-P256', 1_025))).toThrow('longer than 1024');
  expect(splitEnvelope(symmetric(1_024 - 37)).ciphertext).toHaveLength(1_024);
  expect(() => splitEnvelope(symmetric(1_025 - 37))).toThrow('longer than 1024');
  const { ciphertext } = splitEnvelope(kem('MLKEM768-P256', 48));
  const sized = (size: number) => ({ [ANNOTATION]: new Uint8Array(size - ANNOTATION.length) });
  const over = { ciphertext, annotations: sized(MAX_ANNOTATIONS + 1) };
  expect(() => joinEnvelope(over)).toThrow('longer than 32768');
  const whole = { ciphertext, annotations: sized(MAX_ANNOTATIONS) };
  expect(() => joinEnvelope(whole)).not.toThrow('longer than 32768');
  expect(() => joinEnvelope({ ciphertext: new Uint8Array(0), annotations: {} })).toThrow('empty');
});

test.each(['single', 'Upper.example', 'a..b', '-a.example', 'a.example-', 'a_b.example', ''])(
  'the annotation name %p is no fully qualified domain name',
  (name) => {
    const annotations = { [name]: new Uint8Array(1) };
    expect(() => joinEnvelope({ ciphertext: new Uint8Array(60), annotations })).toThrow(
      'fully qualified',
    );
  },
);

test('a key_id is stable for its version, and only its own text is taken', () => {
  const text = keyIdOf({ keyId: KEY, keyVersion: 7 });
  expect(text).toBe('tfk1.AZigAAAAcACAAAAAAAAACgAAAAc');
  expect(parseKeyId(text)).toEqual({ keyId: KEY, keyVersion: 7 });
  const versions = new Set(
    Array.from({ length: 50 }, (_, n) => keyIdOf({ keyId: KEY, keyVersion: n + 1 })),
  );
  expect(versions.size).toBe(50);
  for (const other of ['', 'tfk1.', text.slice(1), `${text}A`, `${text}=`, text.toUpperCase()]) {
    expect(() => parseKeyId(other)).toThrow('key_id');
  }
  // Version 0, and unused bits that are not zero.
  expect(() => parseKeyId(`tfk1.${Buffer.alloc(20).toString('base64url')}`)).toThrow('key_id');
  expect(() => parseKeyId(`${text.slice(0, -1)}d`)).toThrow('key_id');
});

test('whatever bytes come, joining throws one of its codes or gives back an envelope', () => {
  const codes = new Set([
    'invalid_value',
    'invalid_envelope',
    'unknown_suite',
    'unsupported_envelope_version',
  ]);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 1_200 }),
      fc.option(fc.uint8Array({ maxLength: 1_300 }), { nil: undefined }),
      (ciphertext, head) => {
        const annotations: Record<string, Uint8Array> =
          head === undefined ? {} : { [ANNOTATION]: head };
        try {
          joinEnvelope({ ciphertext, annotations });
        } catch (error) {
          expect(codes).toContain((error as { code?: string }).code);
        }
      },
    ),
    { numRuns: 200 },
  );
});
