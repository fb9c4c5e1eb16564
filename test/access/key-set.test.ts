import { beforeAll, describe, expect, it } from '@jest/globals';
import type { JWK } from 'jose';
import { TOKEN_ALGORITHMS } from '../../src/access/jwk-set.ts';
import { KeySet } from '../../src/access/key-set.ts';
import { makeKey } from './issuer-fixture.ts';
import type { TestKey } from './issuer-fixture.ts';

const parse = (keys: readonly unknown[], allowed = TOKEN_ALGORITHMS): Promise<KeySet> =>
  KeySet.parse(new TextEncoder().encode(JSON.stringify({ keys })), { algorithms: allowed });

let ec: TestKey;
let mldsa: TestKey;
let rsa: TestKey;
let ed: TestKey;
beforeAll(async () => {
  [ec, mldsa, rsa, ed] = await Promise.all([
    makeKey('ES256', 'ec'),
    makeKey('ML-DSA-65', 'pq'),
    makeKey('RS256', 'rsa'),
    makeKey('Ed25519', 'ed'),
  ]);
});

const without = (jwk: JWK, member: string): JWK =>
  Object.fromEntries(Object.entries(jwk).filter(([name]) => name !== member));

describe('a key set', () => {
  it('binds each key to what its type, curve and alg allow', async () => {
    const bare = (key: TestKey) => without(key.jwk, 'alg');
    const set = await parse([bare(ec), mldsa.jwk, bare(rsa), bare(ed)]);
    const fitting = (kid: string) => TOKEN_ALGORITHMS.filter((name) => set.find(name, kid));
    expect(fitting('ec')).toEqual(['ES256']);
    expect(fitting('pq')).toEqual(['ML-DSA-65']);
    expect(fitting('ed')).toEqual(['EdDSA', 'Ed25519']);
    expect(fitting('rsa')).toEqual(['PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512']);
    const named = await parse([rsa.jwk]);
    expect(TOKEN_ALGORITHMS.filter((name) => named.find(name, 'rsa'))).toEqual(['RS256']);
  });

  it('narrows to the issuer’s algorithms', async () => {
    const set = await parse([ec.jwk, mldsa.jwk], ['ML-DSA-65'] as never);
    expect(set.find('ES256', 'ec')).toBeUndefined();
    expect(set.find('ML-DSA-65', undefined)).toBeDefined();
  });

  it('leaves out what it cannot or must not use', async () => {
    const rest: readonly unknown[] = [
      { kty: 'oct', kid: 'hmac', k: 'AAAA', alg: 'HS256' },
      { kty: 'new', kid: 'new' },
      { ...ec.jwk, kid: 'encryption', use: 'enc' },
      { ...ec.jwk, kid: 'signing', key_ops: ['sign'] },
      { ...ec.jwk, kid: 'off-curve', x: ec.jwk.y },
      { ...ec.jwk, kid: 'other-curve', crv: 'secp256k1' },
      { ...ec.jwk, kid: 'other-alg', alg: 'ES384' },
      { ...without(mldsa.jwk, 'alg'), kid: 'unnamed' },
      { ...mldsa.jwk, kid: 'short', pub: 'AAAA' },
      { ...ec.privateJwk, kid: 'private-ec' },
      { ...mldsa.privateJwk, kid: 'private-pq' },
      { ...ec.jwk, kid: 7 },
      'no key',
      null,
    ];
    const set = await parse([...rest, ed.jwk]);
    for (const { kid } of rest.filter((key): key is { kid: string } => key instanceof Object)) {
      for (const name of TOKEN_ALGORITHMS) expect(set.find(name, kid)).toBeUndefined();
    }
    expect(set.find('Ed25519', 'ed')).toBeDefined();
    await expect(parse(rest)).rejects.toThrow(/no key/u);
  });

  it('leaves out RSA keys under 2,048 bits', async () => {
    const { generateKeyPairSync } = await import('node:crypto');
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'short' };
    await expect(parse([jwk])).rejects.toThrow(/no key/u);
  });

  it('is refused with two keys of one kid, or two without', async () => {
    await expect(parse([ec.jwk, { ...mldsa.jwk, kid: 'ec' }])).rejects.toThrow(/same kid/u);
    const anonymous = [without(ec.jwk, 'kid'), without(mldsa.jwk, 'kid')];
    await expect(parse(anonymous)).rejects.toThrow(/same kid/u);
  });

  it('is refused with too many keys', async () => {
    const many = Array.from({ length: 101 }, (_, n) => ({ ...ec.jwk, kid: String(n) }));
    await expect(parse(many)).rejects.toThrow(/JWK Set/u);
  });
});
