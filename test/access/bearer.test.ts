import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { MAX_TOKEN_LENGTH, bearerToken, outlineToken } from '../../src/access/bearer.ts';
import { TwofoldError } from '../../src/errors.ts';
import { craft } from './issuer-fixture.ts';

const codeOf = (act: () => unknown): unknown => {
  try {
    return { accepted: act() };
  } catch (error) {
    return error instanceof TwofoldError ? error.code : error;
  }
};

describe('the Authorization header', () => {
  it('gives the token after the scheme and one blank', () => {
    expect(bearerToken('Bearer a.b.c')).toBe('a.b.c');
  });

  it.each([[undefined], ['']])('is missing as %p', (header) => {
    expect(codeOf(() => bearerToken(header))).toBe('token_missing');
  });

  it.each([
    'Bearer',
    'Bearer ',
    'bearer a.b.c',
    'BEARER a.b.c',
    ' Bearer a.b.c',
    'Bearer\ta.b.c',
    'Basic YTpi',
    'a.b.c',
    `Bearer ${'a'.repeat(MAX_TOKEN_LENGTH + 1)}`,
  ])('is invalid as %p', (header) => {
    expect(codeOf(() => bearerToken(header))).toBe('token_invalid');
  });

  it('is either a token, missing or invalid, whatever its text', () => {
    const header = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary' }).map((text) => `Bearer ${text}`),
    );
    fc.assert(
      fc.property(header, (text) => {
        const result = codeOf(() => bearerToken(text));
        if (typeof result === 'string') {
          expect(['token_missing', 'token_invalid']).toContain(result);
        } else {
          expect(text).toBe(`Bearer ${(result as { accepted: string }).accepted}`);
        }
      }),
    );
  });
});

describe('the outside of a token', () => {
  const header = { alg: 'ES256', kid: 'k', typ: 'JWT' };
  const claims = { iss: 'issuer' };
  const signature = new Uint8Array(64);

  it('names algorithm, key and issuer', () => {
    expect(outlineToken(craft(header, claims, signature))).toEqual({
      algorithm: 'ES256',
      keyId: 'k',
      issuer: 'issuer',
    });
  });

  it.each(['JWT', 'jwt', 'at+jwt', 'application/at+jwt', undefined])('may be of type %p', (typ) => {
    const token = craft({ alg: 'ES256', typ }, claims, signature);
    expect(outlineToken(token).keyId).toBeUndefined();
  });

  const good = craft(header, claims, signature);
  const [h = '', p = '', s = ''] = good.split('.');
  it.each([
    ['garbage', 'garbage'],
    ['two blanks', ` ${good}`],
    ['a list of two', `${good}, Bearer ${good}`],
    ['two parts', `${h}.${p}`],
    ['four parts', `${good}.x`],
    ['five parts (JWE)', `${good}.x.y`],
    ['an empty signature', `${h}.${p}.`],
    ['an empty payload', `${h}..${s}`],
    ['padding', `${h}=.${p}.${s}`],
    ['standard base64', `${h}.${p}.${'+/'.repeat(4)}`],
    ['unused bits set', `${h}.${p}.AB`],
    ['a line break', `${h}.${p}.${s}\n`],
    ['header no JSON', `AAAA.${p}.${s}`],
    ['header invalid UTF-8', `${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.${p}.${s}`],
    ['header an array', craft([header], claims, signature)],
    ['header null', craft(null, claims, signature)],
    ['claims a string', craft(header, 'iss', signature)],
    ['no alg', craft({ kid: 'k' }, claims, signature)],
    ['alg a list', craft({ ...header, alg: ['ES256'] }, claims, signature)],
    ['no iss', craft(header, {}, signature)],
    ['iss a list', craft(header, { iss: ['issuer'] }, signature)],
    ['crit', craft({ ...header, crit: ['exp'], exp: 1 }, claims, signature)],
    ['an empty crit', craft({ ...header, crit: [] }, claims, signature)],
    ['b64', craft({ ...header, b64: false }, claims, signature)],
    ['another typ', craft({ ...header, typ: 'logout+jwt' }, claims, signature)],
    ['typ a number', craft({ ...header, typ: 1 }, claims, signature)],
    ['kid a number', craft({ ...header, kid: 1 }, claims, signature)],
    ['kid too long', craft({ ...header, kid: 'k'.repeat(257) }, claims, signature)],
  ])('is refused with %s', (_name, token) => {
    expect(codeOf(() => outlineToken(token))).toBe('token_invalid');
  });

  it('is refused, and nothing else happens, whatever its bytes', () => {
    const parts = fc.array(fc.oneof(fc.base64String(), fc.json(), fc.string()), { maxLength: 5 });
    fc.assert(
      fc.property(parts, (texts) => {
        const encoded = texts.map((text) => Buffer.from(text).toString('base64url'));
        for (const token of [texts.join('.'), encoded.join('.')]) {
          expect(codeOf(() => outlineToken(token))).toBe('token_invalid');
        }
      }),
    );
  });
});
