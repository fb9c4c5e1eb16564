import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from '@jest/globals';
import { base64Length, readBase64, writeBase64 } from '../../src/contract/base64.ts';
import { encryptionContext } from '../../src/contract/context.ts';
import {
  RawText,
  envelope,
  keyName,
  keyVersion,
  keyVersionText,
  publicBytes,
  secretBytes,
  text,
} from '../../src/contract/scalars.ts';
import type { z } from 'zod';

const bytes = fc.uint8Array({ maxLength: 200 });
const issueOf = (schema: z.ZodType, value: unknown): unknown => {
  const { error } = schema.safeParse(value);
  const [issue] = error?.issues ?? [];
  return issue?.code === 'custom' ? (issue.params?.['code'] ?? issue.message) : issue?.code;
};

describe('base64', () => {
  it('writes and reads what Node writes', () => {
    fc.assert(
      fc.property(bytes, (source) => {
        const expected = Buffer.from(source).toString('base64');
        const target = Buffer.alloc(base64Length(source.length));
        expect(writeBase64(target, 0, source)).toBe(expected.length);
        expect(target.toString()).toBe(expected);
        expect(readBase64(target)).toEqual(Buffer.from(source));
      }),
    );
  });

  it('accepts one text per byte string', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 12 }), (candidate) => {
        const decoded = readBase64(Buffer.from(candidate));
        if (decoded !== undefined) expect(decoded.toString('base64')).toBe(candidate);
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    'A',
    'AA',
    'AAA',
    'AB==',
    'AAB=',
    'A===',
    '====',
    'AA=A',
    'AAAA\n',
    'A-__',
    ' AAA',
    'AA=',
  ])('refuses %j', (candidate) => expect(readBase64(Buffer.from(candidate))).toBeUndefined());
});

describe('byte fields', () => {
  const schema = secretBytes({ min: 1, max: 4, description: 'x' });

  it('take base64 as text or raw text, and bytes', () => {
    expect(schema.parse('AAEC')).toEqual(Buffer.from([0, 1, 2]));
    expect(schema.parse(new RawText(Buffer.from('AAEC')))).toEqual(Buffer.from([0, 1, 2]));
    expect(schema.parse(Buffer.from([7]))).toEqual(Buffer.from([7]));
  });

  it.each([
    ['invalid_base64', 'AAE'],
    ['invalid_base64', 'AAE-'],
    ['invalid_value', ''],
    ['invalid_value', 'AAECAwQF'],
    ['invalid_value', 7],
    ['invalid_value', null],
    ['invalid_value', undefined],
    ['invalid_value', { 0: 1 }],
  ])('answer %s', (code, value) => expect(issueOf(schema, value)).toBe(code));

  it('say how canonical base64 is made, and nothing of what came', () => {
    const secret = randomBytes(8).toString('hex');
    const { error } = schema.safeParse(`${secret}!`);
    expect(JSON.stringify(error)).toContain('openssl base64 -A');
    expect(JSON.stringify(error)).not.toContain(secret);
  });

  it('carry x-sensitive when secret, and only then', () => {
    expect(schema.meta()).toMatchObject({ 'x-sensitive': true });
    expect(publicBytes({ max: 1, description: 'x' }).meta()).not.toHaveProperty('x-sensitive');
  });
});

describe('envelope', () => {
  it('takes the text form, canonically', () => {
    const body = Buffer.from([1, 0, 255, 254]);
    expect(envelope.parse(`tf1.${body.toString('base64url')}`)).toEqual(body);
    for (const bad of ['AQD__g', 'tf1.AQD//g', 'tf1.AQD__g==', 'tf2.AQD__g', 'tf1.AQD__h', 7]) {
      expect(issueOf(envelope, bad)).toBe('invalid_envelope');
    }
  });
});

describe('keyName', () => {
  it.each(['a', 'model-weights', '0', 'a.b_c-d', 'a'.repeat(128)])('takes %s', (name) => {
    expect(keyName.safeParse(name).success).toBe(true);
  });

  it.each([
    '',
    'A',
    '-a',
    '.a',
    'a b',
    'a/b',
    'é',
    'a'.repeat(129),
    'a\n',
    '9f0e6d52-2b0f-4f3e-8f6e-0a1b2c3d4e5f',
    '9f0e6d522b0f4f3e8f6e0a1b2c3d4e5f',
    '9f0e-6d52-2b0f-4f3e-8f6e-0a1b-2c3d-4e5f',
  ])('refuses %j', (name) => expect(keyName.safeParse(name).success).toBe(false));
});

describe('keyVersion', () => {
  it.each([0, -1, 1.5, 2 ** 32, '1', Number.NaN])('refuses %p', (value) => {
    expect(keyVersion.safeParse(value).success).toBe(false);
  });
  it.each(['0', '01', '1.0', '+1', '1e0', ' 1', '4294967296', ''])(
    'refuses the text %j',
    (value) => {
      expect(keyVersionText.safeParse(value).success).toBe(false);
    },
  );
  it('takes the whole range', () => {
    expect(keyVersion.parse(0xffff_ffff)).toBe(4_294_967_295);
    expect(keyVersionText.parse('4294967295')).toBe(4_294_967_295);
  });
});

describe('encryptionContext', () => {
  it('keeps every pair, whatever its name', () => {
    const pairs = { constructor: 'a', toString: 'b', hasOwnProperty: 'c', é: '' };
    expect(encryptionContext.parse(pairs)).toEqual(pairs);
  });

  it.each([
    ['an array', []],
    ['null', null],
    ['a number as value', { a: 1 }],
    ['an empty name', { '': 'a' }],
    ['a lone surrogate', { a: '\ud800' }],
    ['NUL', { a: '\0' }],
    ['17 pairs', Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, '']))],
    ['4,097 bytes', { a: 'x'.repeat(4096) }],
  ])('refuses %s', (_name, value) => {
    expect(issueOf(encryptionContext, value)).toBe('invalid_value');
  });

  it('takes 16 pairs and 4,096 bytes', () => {
    const pairs = Array.from({ length: 16 }, (_, i) => [String.fromCharCode(97 + i), '']);
    expect(encryptionContext.safeParse(Object.fromEntries(pairs)).success).toBe(true);
    expect(encryptionContext.safeParse({ a: 'x'.repeat(4095) }).success).toBe(true);
  });
});

describe('text', () => {
  it.each(['', 'a\nb', 'a\u0000', '\u009f', '\ud800', 'x'.repeat(11)])('refuses %j', (value) => {
    expect(text(10, 'x').safeParse(value).success).toBe(false);
  });
});

describe('bytes of one length', () => {
  it.each([
    [{ min: 64, max: 64 }, 'must be 64 bytes long'],
    [{ min: 1, max: 64 }, 'must be 1 to 64 bytes long'],
  ])('%j are asked for as %s', (bounds, message) => {
    const { error } = publicBytes({ ...bounds, description: 'mu' }).safeParse('');
    expect(error?.issues[0]?.message).toBe(message);
  });
});
