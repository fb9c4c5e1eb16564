import fc from 'fast-check';
import { describe, expect, it } from '@jest/globals';
import { RawText } from '../../src/contract/scalars.ts';
import { TwofoldError } from '../../src/errors.ts';
import { MAX_DEPTH, parseJson } from '../../src/http/json.ts';

const NONE: ReadonlySet<string> = new Set();
const SECRET: ReadonlySet<string> = new Set(['plaintext']);
const parse = (text: string | Buffer) => parseJson(Buffer.from(text as string), NONE).value;

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (TwofoldError.is(error)) return error.code;
    throw error;
  }
  return 'accepted';
}

const wellFormed = fc.string({ unit: 'binary' });
const names = wellFormed.filter((name) => name !== '__proto__');
const { value: jsonValue } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    wellFormed,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(names, tie('value'), { maxKeys: 4, noNullPrototype: true }),
  ),
}));

/** The same data with ordinary prototypes. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value)) as unknown;

describe('parseJson', () => {
  it('reads whatever JSON.stringify writes, with and without white space', () => {
    fc.assert(
      fc.property(jsonValue, fc.constantFrom(0, 1, '\t'), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(plain(parse(text))).toEqual(plain(JSON.parse(text)));
      }),
      { numRuns: 500 },
    );
  });

  it('never accepts what JSON.parse refuses', () => {
    fc.assert(
      fc.property(jsonValue, fc.nat(), fc.integer({ min: 0, max: 255 }), (value, at, byte) => {
        const bytes = Buffer.from(JSON.stringify(value));
        bytes[at % bytes.length] = byte;
        const accepted = codeOf(() => parseJson(bytes, NONE)) === 'accepted';
        if (!accepted) return;
        const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
        expect(plain(parseJson(bytes, NONE).value)).toEqual(plain(JSON.parse(text)));
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['nothing', ''],
    ['white space', '  '],
    ['two values', '{} {}'],
    ['a trailing comma in an object', '{"a":1,}'],
    ['a trailing comma in an array', '[1,]'],
    ['a bare word', 'undefined'],
    ['NaN', 'NaN'],
    ['single quotes', "{'a':1}"],
    ['a bare name', '{a:1}'],
    ['a comment', '{/* */}'],
    ['a leading zero', '[01]'],
    ['a plus sign', '[+1]'],
    ['a bare point', '[1.]'],
    ['an infinite number', '[1e999]'],
    ['a number of a thousand digits', `[${'1'.repeat(1000)}]`],
    ['an unclosed string', '"a'],
    ['an unclosed string after an escape', '"a\\'],
    ['an unclosed object', '{"a":1'],
    ['an unclosed array', '[1'],
    ['a control character', '"a\nb"'],
    ['a control character beside an escape', '"\\n\n"'],
    ['an unknown escape', '"\\x41"'],
    ['half an escape', '"\\u12"'],
    ['a lone high surrogate', '"\\ud800"'],
    ['a lone low surrogate', '"\\udc00"'],
    ['two high surrogates', '"\\ud800\\ud800"'],
    ['a byte order mark', '\ufeff{}'],
    ['the same name twice', '{"a":1,"a":2}'],
    ['the same name twice, once escaped', '{"a":1,"\\u0061":2}'],
    ['the same name twice, deep inside', '[{"b":{"a":1,"a":1}}]'],
    ['too deep arrays', '['.repeat(MAX_DEPTH + 2) + ']'.repeat(MAX_DEPTH + 2)],
    ['very deep arrays', '['.repeat(1_000_000)],
  ])('refuses %s', (_name, text) => {
    expect(codeOf(() => parse(text))).toBe('malformed_json');
  });

  it.each([
    ['a lone continuation byte', [0x22, 0x80, 0x22]],
    ['an overlong form', [0x22, 0xc0, 0xaf, 0x22]],
    ['an encoded surrogate', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['UTF-16', [...Buffer.from('{}', 'utf16le')]],
  ])('refuses bytes that are not UTF-8: %s', (_name, bytes) => {
    expect(codeOf(() => parse(Buffer.from(bytes)))).toBe('malformed_json');
  });

  it('refuses the name __proto__ and gives objects no prototype', () => {
    expect(codeOf(() => parse('{"__proto__":{"admin":true}}'))).toBe('unknown_field');
    expect(codeOf(() => parse('{"\\u005f_proto__":1}'))).toBe('unknown_field');
    const value = parse('{"constructor":{"prototype":{"admin":true}},"toString":1}') as object;
    expect(Object.getPrototypeOf(value)).toBeNull();
    expect(({} as Record<string, unknown>)['admin']).toBeUndefined();
  });

  it('keeps secrets as bytes in the body and in the items of a batch, and nowhere else', () => {
    const text =
      '{"plaintext":"TUFSSw==","encryptionContext":{"plaintext":"name of the caller"},' +
      '"items":[{"plaintext":"T1RIRVI="}]}';
    const { value, raws } = parseJson(Buffer.from(text), SECRET);
    const { plaintext, encryptionContext, items } = value as Record<string, unknown>;
    expect(plaintext).toBeInstanceOf(RawText);
    expect((plaintext as RawText).decodeBase64()).toEqual(Buffer.from('MARK'));
    expect(encryptionContext).toMatchObject({ plaintext: 'name of the caller' });
    const [item] = items as { plaintext: RawText }[];
    expect(item?.plaintext.decodeBase64()).toEqual(Buffer.from('OTHER'));
    expect(raws).toHaveLength(2);
  });

  it('unescapes secrets', () => {
    const { value } = parseJson(Buffer.from('{"plaintext":"\\u002f\\/\\/\\u002F"}'), SECRET);
    const { plaintext } = value as { plaintext: RawText };
    expect(plaintext.decodeBase64()).toEqual(Buffer.from('////', 'base64'));
  });

  it('wipes secrets when asked, and when the rest is malformed', () => {
    const source = Buffer.from('{"plaintext":"TUFSSw=="}');
    const { raws } = parseJson(source, SECRET);
    const decoded = raws[0]?.decodeBase64();
    raws[0]?.wipe();
    expect(source.includes('TUFSSw')).toBe(false);
    expect(decoded).toEqual(Buffer.alloc(4));
    const broken = Buffer.from('{"plaintext":"TUFSSw==",}');
    expect(codeOf(() => parseJson(broken, SECRET))).toBe('malformed_json');
    expect(broken.includes('TUFSSw')).toBe(false);
  });

  it('reads eight megabytes of escapes in linear time', () => {
    const item = '"\\n' + 'x'.repeat(124) + '"';
    const text = `[${Array.from({ length: 65_000 }, () => item).join(',')}]`;
    const started = process.cpuUsage();
    expect((parse(text) as unknown[]).length).toBe(65_000);
    expect(process.cpuUsage(started).user).toBeLessThan(5_000_000);
  });
});

it.each([
  ['an unknown escape', 'SECRET\\x'],
  ['a lone surrogate', 'SECRET\\ud800'],
  ['a control character', 'SECRET\\n\u0001'],
])('%s leaves nothing of a secret that was half decoded', (_name, text) => {
  const made: Buffer[] = [];
  const real = Buffer.allocUnsafeSlow.bind(Buffer);
  Buffer.allocUnsafeSlow = (size) => {
    const buffer = real(size);
    made.push(buffer);
    return buffer;
  };
  try {
    const source = Buffer.from(`{"plaintext":"${text}"}`);
    expect(() => parseJson(source, new Set(['plaintext']))).toThrow();
  } finally {
    Buffer.allocUnsafeSlow = real;
  }
  expect(made).toHaveLength(1);
  expect(made.every((buffer) => buffer.every((byte) => byte === 0))).toBe(true);
});
