import { createHmac, createPublicKey, generateKeyPairSync, sign as signBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { SignJWT } from 'jose';
import { TokenAuthenticator } from '../../src/access/authenticate.ts';
import { TOKEN_ALGORITHMS } from '../../src/access/jwk-set.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { AUDIENCE, NOW, at, authenticator, codeOf, craft } from './issuer-fixture.ts';
import { goodClaims, makeKey, settings, shown, sign } from './issuer-fixture.ts';
import type { TestKey } from './issuer-fixture.ts';

const seconds = (time: Date): number => time.getTime() / 1000;

let mldsa: TestKey;
let ec: TestKey;
let rsa: TestKey;
let accepting: TokenAuthenticator;

beforeAll(async () => {
  [mldsa, ec, rsa] = await Promise.all([
    makeKey('ML-DSA-65', 'pq'),
    makeKey('ES256', 'ec'),
    makeKey('RS256', 'rsa'),
  ]);
  accepting = await authenticator([
    settings([mldsa.jwk, ec.jwk, rsa.jwk], ['ML-DSA-65', 'ES256', 'RS256']),
  ]);
});

const answer = (token: string) => codeOf(accepting.authenticate(shown(`Bearer ${token}`)));

describe('a good token', () => {
  it('gives its principal', async () => {
    const token = await sign(mldsa, { roles: ['user', 'admin', 'user', 'unheard-of'] });
    const principal = await accepting.authenticate(shown(`Bearer ${token}`));
    expect(principal).toMatchObject({
      issuer: 'https://issuer.example',
      subject: 'alice',
      method: 'jwt',
      roles: ['admin', 'unheard-of', 'user'],
      expiresAt: at(600),
    });
    expect(principal.session).toHaveLength(16);
  });

  it.each(TOKEN_ALGORITHMS)('may be signed by %s', async (algorithm) => {
    const key = await makeKey(algorithm, 'k');
    const open = await authenticator([settings([key.jwk], [algorithm])]);
    expect(await open.authenticate(shown(`Bearer ${await sign(key)}`))).toMatchObject({
      roles: ['user'],
    });
  });

  it('needs no kid where the set is one key', async () => {
    const open = await authenticator([settings([mldsa.jwk], ['ML-DSA-65'])]);
    const token = await sign(mldsa, {}, { kid: undefined });
    expect(await open.authenticate(shown(`Bearer ${token}`))).toMatchObject({ subject: 'alice' });
  });

  it.each<[string, Record<string, unknown>]>([
    ['one of several audiences', { aud: ['other', AUDIENCE] }],
    ['no roles', { roles: undefined }],
    ['no iat and nbf', { iat: undefined, nbf: undefined }],
    ['claims that nobody knows', { email: 'alice@example.com', __proto__x: 1 }],
    ['our clock ten seconds behind', { nbf: seconds(at(10)), iat: seconds(at(10)) }],
    ['our clock nine seconds ahead', { exp: seconds(at(-9)) }],
  ])('may have %s', async (_name, claims) => {
    expect(await answer(await sign(ec, claims))).toHaveProperty('accepted.subject', 'alice');
  });

  it('is accepted with fields that embed another key, which is not looked at', async () => {
    const other = await makeKey('ES256', 'ec');
    expect(
      await answer(await sign(ec, {}, { jwk: other.jwk, jku: 'https://evil.example' })),
    ).toEqual(expect.objectContaining({ accepted: expect.anything() }));
    expect(await answer(await sign({ ...other }, {}, { jwk: other.jwk }))).toBe('token_invalid');
  });
});

describe('claims', () => {
  it.each<[string, Record<string, unknown>]>([
    ['another issuer', { iss: 'https://other.example' }],
    ['an issuer with a slash more', { iss: 'https://issuer.example/' }],
    ['another audience', { aud: 'other' }],
    ['no audience', { aud: undefined }],
    ['an empty audience list', { aud: [] }],
    ['not yet valid', { nbf: seconds(at(11)) }],
    ['issued in the future', { iat: seconds(at(11)) }],
    ['no exp', { exp: undefined }],
    ['exp as text', { exp: '1900000000' }],
    ['exp beyond year 9999', { exp: 1e15 }],
    ['exp infinite', { exp: 1e300 }],
    ['iat negative', { iat: -1 }],
    ['iat as text', { iat: 'now' }],
    ['no sub', { sub: undefined }],
    ['an empty sub', { sub: '' }],
    ['a long sub', { sub: 's'.repeat(256) }],
    ['a sub with a line break', { sub: 'alice\nrole=admin' }],
    ['a sub with half a surrogate pair', { sub: 'a\ud800' }],
    ['sub a number', { sub: 7 }],
    ['roles as text', { roles: 'admin' }],
    ['roles as an object', { roles: { admin: true } }],
    ['roles null', { roles: null }],
    ['a role that is no text', { roles: ['user', 1] }],
    ['an empty role', { roles: [''] }],
    ['a long role', { roles: ['r'.repeat(129)] }],
    ['too many roles', { roles: Array.from({ length: 257 }, (_, n) => `r${String(n)}`) }],
  ])('with %s are refused', async (_name, claims) => {
    expect(await answer(await sign(ec, claims))).toBe('token_invalid');
  });

  it('past exp and the tolerance are expired, and only if all else is right', async () => {
    const exp = seconds(at(-10));
    expect(await answer(await sign(ec, { exp }))).toBe('token_expired');
    expect(await answer(await sign(ec, { exp, aud: 'other' }))).toBe('token_invalid');
    const forged = await sign(await makeKey('ES256', 'ec'), { exp });
    expect(await answer(forged)).toBe('token_invalid');
  });

  it('of an issuer with a longest lifetime must show and keep it', async () => {
    const open = await authenticator([settings([ec.jwk], ['ES256'], { maxLifetime: 600 })]);
    const ask = async (claims: Record<string, unknown>) =>
      codeOf(open.authenticate(shown(`Bearer ${await sign(ec, claims)}`)));
    expect(await ask({})).toHaveProperty('accepted');
    expect(await ask({ exp: seconds(at(601)) })).toBe('token_invalid');
    expect(await ask({ iat: undefined })).toBe('token_invalid');
  });

  it('give roles from the configured claim only', async () => {
    const open = await authenticator([settings([ec.jwk], ['ES256'], { rolesClaim: 'groups' })]);
    const token = await sign(ec, { roles: ['admin'], groups: ['auditor'] });
    expect((await open.authenticate(shown(`Bearer ${token}`))).roles).toEqual(['auditor']);
  });

  it('never give roles by way of the prototype', async () => {
    const open = await authenticator([
      settings([ec.jwk], ['ES256'], { rolesClaim: 'constructor' }),
    ]);
    expect((await open.authenticate(shown(`Bearer ${await sign(ec)}`))).roles).toEqual([]);
  });
});

describe('claims without measure', () => {
  const nested = (levels: number): unknown =>
    JSON.parse('['.repeat(levels) + ']'.repeat(levels)) as unknown;

  it('are refused when they nest deeper than any reader follows, whatever they mean', async () => {
    expect(await answer(await sign(ec, { other: nested(31) }))).toHaveProperty('accepted');
    expect(await answer(await sign(ec, { other: nested(32) }))).toBe('token_invalid');
    expect(await answer(await sign(ec, { other: nested(2_000) }))).toBe('token_invalid');
    // Brackets in a text are no levels.
    expect(await answer(await sign(ec, { other: `"${'[{'.repeat(50)}\\` }))).toHaveProperty(
      'accepted',
    );
  });

  it('are refused when the token is too long', async () => {
    expect(await answer(await sign(ec, { other: 'x'.repeat(5_000) }))).toHaveProperty('accepted');
    expect(await answer(await sign(ec, { other: 'x'.repeat(6_200) }))).toBe('token_invalid');
  });

  it.each([7, '', 'x'.repeat(256), 'a\nb', null])('are refused with jti %p', async (jti) => {
    expect(await answer(await sign(ec, { jti }))).toBe('token_invalid');
  });
});

describe('signatures', () => {
  it('of alg none are refused, with and without a signature', async () => {
    for (const alg of ['none', 'None', 'NONE', '']) {
      expect(await answer(craft({ alg, kid: 'ec' }, goodClaims(), ''))).toBe('token_invalid');
      expect(await answer(craft({ alg, kid: 'ec' }, goodClaims(), 'AAAA'))).toBe('token_invalid');
    }
  });

  it.each(['HS256', 'HS384', 'HS512'])('of %s under a public key are refused', async (alg) => {
    const pem = createPublicKey({ key: rsa.jwk, format: 'jwk' }).export({
      type: 'spki',
      format: 'pem',
    });
    for (const kid of ['rsa', 'ec', 'pq']) {
      const unsigned = craft({ alg, kid }, goodClaims(), '').slice(0, -1);
      const hash = alg.replace('HS', 'sha');
      const tag = createHmac(hash, pem).update(unsigned).digest('base64url');
      expect(await answer(`${unsigned}.${tag}`)).toBe('token_invalid');
    }
  });

  it('of an EC key are refused under the ML-DSA key id, and the reverse', async () => {
    expect(await answer(await sign(ec, {}, { kid: 'pq' }))).toBe('token_invalid');
    expect(await answer(await sign(mldsa, {}, { kid: 'ec' }))).toBe('token_invalid');
    const unsigned = craft({ alg: 'ML-DSA-65', kid: 'pq' }, goodClaims(), '').slice(0, -1);
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const signature = signBytes('sha256', Buffer.from(unsigned), privateKey);
    expect(await answer(`${unsigned}.${signature.toString('base64url')}`)).toBe('token_invalid');
  });

  it('of another RSA scheme than the key names are refused', async () => {
    const open = await authenticator([settings([rsa.jwk], ['RS256', 'PS256'])]);
    expect(await codeOf(open.authenticate(shown(`Bearer ${await sign(rsa)}`)))).toHaveProperty(
      'accepted',
    );
    const { privateKey } = await makeKey('PS256');
    const token = await new SignJWT(goodClaims())
      .setProtectedHeader({ alg: 'PS256', kid: 'rsa' })
      .sign(privateKey);
    expect(await codeOf(open.authenticate(shown(`Bearer ${token}`)))).toBe('token_invalid');
  });

  it('of an algorithm that the issuer does not list are refused', async () => {
    const open = await authenticator([settings([mldsa.jwk, ec.jwk], ['ML-DSA-65'])]);
    expect(await codeOf(open.authenticate(shown(`Bearer ${await sign(ec)}`)))).toBe(
      'token_invalid',
    );
  });

  it('need the kid of a key of the issuer where it has several', async () => {
    for (const kid of [undefined, '', 'other', 'EC', '__proto__']) {
      expect(await answer(await sign(ec, {}, { kid }))).toBe('token_invalid');
    }
  });

  it('of one issuer say nothing for another', async () => {
    const open = await authenticator([
      settings([ec.jwk], ['ES256']),
      settings([mldsa.jwk], ['ML-DSA-65'], { issuer: 'https://second.example' }),
    ]);
    const token = await sign(ec, { iss: 'https://second.example' });
    expect(await codeOf(open.authenticate(shown(`Bearer ${token}`)))).toBe('token_invalid');
  });

  it('cover every bit of the token', async () => {
    const token = await sign(ec);
    for (let at = 0; at < token.length; at += 7) {
      const flipped = token[at] === 'A' ? 'B' : 'A';
      const other = `${token.slice(0, at)}${flipped}${token.slice(at + 1)}`;
      if (other !== token) expect(await answer(other)).toBe('token_invalid');
    }
  });
});

describe('refusals', () => {
  it('say nothing to the caller, and nothing of the token to the log', async () => {
    const token = await sign(ec, { aud: 'marker-audience', sub: 'marker-subject' });
    const error: unknown = await accepting
      .authenticate(shown(`Bearer ${token}`))
      .catch((e: unknown) => e);
    expect(error).toHaveProperty('detail', undefined);
    const { cause } = error as { cause: Error };
    expect(`${String(cause)}${JSON.stringify(cause)}`).not.toMatch(/marker|eyJ/u);
    expect(cause).not.toHaveProperty('payload');
  });

  it('are all there is without an issuer', async () => {
    const open = await authenticator([]);
    expect(await codeOf(open.authenticate(shown(`Bearer ${await sign(ec)}`)))).toBe(
      'token_invalid',
    );
    expect(await codeOf(open.authenticate(shown(undefined)))).toBe('token_missing');
  });

  it('stop a start with settings that contradict themselves', async () => {
    const good = settings([ec.jwk], ['ES256']);
    const open = (...issuers: (typeof good)[]) =>
      TokenAuthenticator.open({ issuers, epoch: new SecurityEpoch(1), plainHttp: false });
    await expect(open(good, good)).rejects.toThrow(TypeError);
    await expect(open({ ...good, jwks: undefined })).rejects.toThrow(TypeError);
    await expect(open({ ...good, jwksFile: '/x' })).rejects.toThrow(TypeError);
    await expect(open({ ...good, algorithms: [] })).rejects.toThrow(TypeError);
    const hmac = { ...good, algorithms: ['HS256'] } as unknown as typeof good;
    await expect(open(hmac)).rejects.toThrow(TypeError);
    const http = { ...good, jwks: undefined, jwksUrl: 'http://issuer.example/jwks' };
    await expect(open(http)).rejects.toThrow(TypeError);
    for (const clockTolerance of [-1, 61, NaN]) {
      await expect(authenticator([good], { clockTolerance })).rejects.toThrow(RangeError);
    }
    expect(NOW.getTime()).not.toBe(Date.now());
  });
});
