import { generateKeyPairSync, randomBytes } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { SecretSearch, searchPlace } from '../../src/cli/secret-search.ts';

const secret = (bytes: Uint8Array) => ({ name: 'the seed', bytes });
const found = (search: SecretSearch, place: Uint8Array | string) =>
  search
    .search('place', Buffer.from(place as Uint8Array))
    .map(({ what, form }) => `${what}: ${form}`);

describe('known secrets', () => {
  // Its first bytes are "+/" in base64 and "-_" in base64url, so that the forms always differ.
  const seed = Buffer.concat([Buffer.from([0xfb, 0xff]), randomBytes(62)]);
  const search = new SecretSearch([secret(seed)]);

  it.each(['hex', 'base64', 'base64url'] as const)('are found in %s', (encoding) => {
    const text = `{"log":"${seed.toString(encoding)}"}`;
    expect(found(search, text)).toContain(`the seed: ${encoding}`);
  });

  it('are found raw, at the offset where they stand', () => {
    const place = Buffer.concat([randomBytes(77), seed, randomBytes(9)]);
    expect(search.search('place', place)).toContainEqual({
      what: 'the seed',
      form: 'raw',
      where: 'place',
      offset: 77,
    });
  });

  it('are found inside longer encoded data, whatever stands around them', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 96 }),
        fc.uint8Array({ maxLength: 40 }),
        fc.uint8Array({ maxLength: 40 }),
        fc.constantFrom('hex', 'base64', 'base64url'),
        (bytes, before, after, encoding) => {
          const text = Buffer.concat([before, bytes, after]).toString(encoding);
          return found(new SecretSearch([secret(bytes)]), text).some((hit) =>
            hit.startsWith('the seed'),
          );
        },
      ),
    );
  });

  it('are found no more once the search is wiped', () => {
    const wiped = new SecretSearch([secret(seed)]);
    wiped.wipe();
    expect(wiped.searchKnown('place', seed)).toEqual([]);
    expect(search.searchKnown('place', seed)).not.toEqual([]);
  });

  it('are found across the border of two pieces', async () => {
    const place = Buffer.concat([randomBytes(20_000), seed, randomBytes(20_000)]);
    for (const cut of [20_001, 20_030, 20_063]) {
      const hits = await searchPlace(search, 'dump', [place.subarray(0, cut), place.subarray(cut)]);
      expect(hits).toEqual([{ what: 'the seed', form: 'raw', where: 'dump', offset: 20_000 }]);
    }
  });

  it('are not found where they are not', () => {
    const other = new SecretSearch([secret(randomBytes(64))]);
    expect(found(other, randomBytes(100_000).toString('base64'))).toEqual([]);
    expect(found(other, seed)).toEqual([]);
  });
});

describe('shapes', () => {
  const search = new SecretSearch([]);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'der' });
  const sec1 = privateKey.export({ type: 'sec1', format: 'der' });
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const mlKem = generateKeyPairSync('ml-kem-768').privateKey;

  it.each([
    ['PKCS#8 of P-256', pkcs8, 'PKCS#8 private key'],
    ['PKCS#8 of RSA', rsa.export({ type: 'pkcs8', format: 'der' }), 'PKCS#8 private key'],
    ['PKCS#8 of ML-KEM-768', mlKem.export({ type: 'pkcs8', format: 'der' }), 'PKCS#8 private key'],
    ['SEC1', sec1, 'SEC1 private key'],
  ])('%s is found raw, in hex and in base64', (_name, der, what) => {
    for (const place of [
      der,
      Buffer.from(der.toString('hex')),
      Buffer.from(der.toString('base64')),
    ]) {
      expect(
        found(search, Buffer.concat([Buffer.from('x: '), place, Buffer.from(' y')])),
      ).toContain(`${what}: shape`);
    }
  });

  it.each([
    ['PEM private key', privateKey.export({ type: 'pkcs8', format: 'pem' })],
    ['private JWK', JSON.stringify(privateKey.export({ format: 'jwk' }))],
    [
      'JWT',
      `Bearer ${Buffer.from('{"alg":"ML-DSA-65"}').toString('base64url')}.${Buffer.from('{"sub":"admin"}').toString('base64url')}.${randomBytes(64).toString('base64url')}`,
    ],
  ])('%s is found', (what, place) => {
    expect(found(search, place)).toContain(`${what}: shape`);
  });

  it('public keys and random bytes are not mistaken for private ones', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    expect(found(search, publicKey.export({ type: 'spki', format: 'der' }))).toEqual([]);
    expect(found(search, JSON.stringify(publicKey.export({ format: 'jwk' })))).toEqual([]);
    expect(found(search, randomBytes(200_000))).toEqual([]);
  });
});
