/** Public keys as SPKI, PEM and JWK against OpenSSL (node's) and jose. */
import { createPublicKey } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { calculateJwkThumbprint } from 'jose';

import { jwkThumbprint, parseJwk, writeJwk } from '../../src/crypto/jwk.ts';
import { encodePem, decodePem } from '../../src/crypto/pem.ts';
import {
  parsePublicKeyPem,
  parseSpki,
  writePublicKeyPem,
  writeSpki,
} from '../../src/crypto/spki.ts';
import { COMPOSITES, fromSpki, GENERATED, generated, NAMELESS } from './key-encodings.ts';
import { somePublicKey, spkiOf } from './key-encodings.ts';

const invalid = expect.objectContaining({ code: 'invalid_value' });
const ALL = [...GENERATED.map(({ encoding }) => encoding), ...COMPOSITES];

describe.each(GENERATED.map((row) => [row.encoding.algorithm, row] as const))('%s', (_, row) => {
  const { encoding } = row;
  const { publicKey } = row.generate();
  const raw = row.raw(publicKey);

  it('is written as OpenSSL writes it, and read back from it', () => {
    expect(writeSpki(encoding, raw)).toEqual(spkiOf(publicKey));
    expect(parseSpki(encoding, spkiOf(publicKey))).toEqual(raw);
    const pem = publicKey.export({ format: 'pem', type: 'spki' });
    expect(writePublicKeyPem(encoding, raw)).toBe(pem);
    expect(parsePublicKeyPem(encoding, pem)).toEqual(raw);
    expect(fromSpki(writeSpki(encoding, raw) ?? raw).equals(publicKey)).toBe(true);
  });

  it('is a JWK with the members and thumbprint that others give it', async () => {
    const jwk = writeJwk(encoding, raw, 'some-kid');
    if (jwk === null) {
      expect(encoding.unavailable.jwk).toContain(encoding.algorithm);
      return;
    }
    expect(parseJwk(encoding, jwk)).toEqual(raw);
    const thumbprint = Buffer.from(jwkThumbprint(jwk)).toString('base64url');
    expect(thumbprint).toBe(await calculateJwkThumbprint({ ...jwk }));
    if (/HPKE|SLH-DSA/.test(jwk.alg ?? '')) return;
    expect(createPublicKey({ key: { ...jwk }, format: 'jwk' }).equals(publicKey)).toBe(true);
    expect(jwk).toMatchObject(publicKey.export({ format: 'jwk' }));
  });

  it('has one length', () => {
    for (const bytes of [raw.subarray(1), Uint8Array.from([...raw, 0]), new Uint8Array(0)]) {
      expect(() => writeSpki(encoding, bytes)).toThrow(invalid);
    }
  });
});

describe('forms of hybrids', () => {
  it.each(COMPOSITES.map((encoding) => [encoding.algorithm, encoding] as const))(
    '%s comes back from SPKI and, where JOSE names it, from a JWK',
    (_, encoding) => {
      const raw = somePublicKey(encoding);
      const spki = writeSpki(encoding, raw);
      expect(spki === null ? null : parseSpki(encoding, spki)).toEqual(raw);
      const jwk = writeJwk(encoding, raw);
      expect(jwk === null).toBe(encoding.algorithm.includes('RSA'));
      if (jwk !== null) expect(parseJwk(encoding, jwk)).toEqual(raw);
    },
  );

  it.each(NAMELESS.map((encoding) => [encoding.algorithm, encoding] as const))(
    '%s has no form, and says why',
    (_, encoding) => {
      const raw = somePublicKey(encoding);
      expect([writeSpki(encoding, raw), writePublicKeyPem(encoding, raw)]).toEqual([null, null]);
      expect(writeJwk(encoding, raw)).toBeNull();
      expect(() => parseJwk(encoding, { kty: 'AKP', alg: 'x', pub: 'AA' })).toThrow(invalid);
      expect(encoding.unavailable).toMatchObject({
        spki: expect.stringContaining('identifier') as unknown,
        jwk: expect.any(String) as unknown,
      });
    },
  );
});

describe('strictness', () => {
  it('takes no algorithm for another', () => {
    for (const encoding of ALL) {
      const spki = writeSpki(encoding, somePublicKey(encoding));
      const jwk = writeJwk(encoding, somePublicKey(encoding));
      for (const other of ALL) {
        const sameSpki = JSON.stringify([other.spki, other.publicKey]);
        if (spki !== null && sameSpki !== JSON.stringify([encoding.spki, encoding.publicKey])) {
          expect(() => parseSpki(other, spki)).toThrow(invalid);
        }
        if (jwk !== null && other !== encoding) {
          expect(() => parseJwk(other, jwk)).toThrow(invalid);
        }
      }
    }
  }, 60_000);

  it('gives each byte string one meaning: a changed SPKI fails or is another key', () => {
    for (const name of ['ECDSA-P256', 'Ed25519', 'RSA2048-PSS-SHA-256', 'ML-KEM-512']) {
      const { encoding, raw, generate } = generated(name);
      const spki = writeSpki(encoding, raw(generate().publicKey)) ?? new Uint8Array(0);
      const head = Math.min(spki.length, 320);
      const position = fc.integer({ min: 0, max: head - 1 });
      fc.assert(
        fc.property(position, fc.integer({ min: 1, max: 255 }), (offset, change) => {
          const bytes = Uint8Array.from(spki);
          bytes[offset] = (bytes[offset] ?? 0) ^ change;
          let read: Uint8Array;
          try {
            read = parseSpki(encoding, bytes);
          } catch (error) {
            expect(error).toEqual(invalid);
            return;
          }
          expect(writeSpki(encoding, read)).toEqual(bytes);
        }),
        { numRuns: 400 },
      );
    }
  });

  it('refuses points off the curve, compressed points, and X25519 of low order', () => {
    const { encoding, raw, generate } = generated('ECDSA-P256');
    const point = raw(generate().publicKey);
    const off = Uint8Array.from(point);
    off[64] = (off[64] ?? 0) ^ 1;
    const compressed = Uint8Array.from([2 + ((point[64] ?? 0) & 1), ...point.subarray(1, 33)]);
    for (const bytes of [off, compressed]) {
      expect(() => writeSpki(encoding, bytes)).toThrow(invalid);
    }
    const low = new Uint8Array(32);
    low[31] = 0x80;
    expect(() => writeSpki(generated('X25519').encoding, low)).toThrow(invalid);
  });

  it.each([
    // Orders 1, 2, 4 and 8, and what RFC 8032 section 5.1.3 calls no encoding.
    ['Ed25519', 'the neutral point', `01${'00'.repeat(31)}`],
    ['Ed25519', 'a point of order 2', `ec${'ff'.repeat(30)}7f`],
    ['Ed25519', 'a point of order 4', '00'.repeat(32)],
    [
      'Ed25519',
      'a point of order 8',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    ],
    ['Ed25519', 'a coordinate that is p + 1', `ee${'ff'.repeat(30)}7f`],
    ['Ed25519', 'a zero that is negative', `01${'00'.repeat(30)}80`],
    ['Ed25519', 'a coordinate of no point', `02${'00'.repeat(31)}`],
    ['Ed448', 'the neutral point', `01${'00'.repeat(56)}`],
    ['Ed448', 'a coordinate above p', `${'ff'.repeat(56)}00`],
  ])('refuses as a key of %s %s, alone and in a composite', (curve, _, hex) => {
    const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
    const { encoding } = generated(curve);
    const jwk = { kty: 'OKP', crv: curve, x: Buffer.from(bytes).toString('base64url') };
    expect(() => writeSpki(encoding, bytes)).toThrow(invalid);
    expect(() => parseJwk(encoding, jwk)).toThrow(invalid);
    for (const composite of COMPOSITES.filter(({ algorithm }) => algorithm.includes(curve))) {
      const whole = somePublicKey(composite);
      whole.set(bytes, whole.length - bytes.length);
      expect(() => writeSpki(composite, whole)).toThrow(invalid);
    }
  });

  it('refuses RSA keys of another size, of even numbers and of exponent 1', () => {
    const row = generated('RSA2048-PSS-SHA-256');
    const jwk = writeJwk(row.encoding, row.raw(row.generate().publicKey));
    const large = generated('RSA3072-PSS-SHA-384');
    const largeJwk = writeJwk(large.encoding, large.raw(large.generate().publicKey));
    if (jwk?.kty !== 'RSA' || largeJwk?.kty !== 'RSA') throw new Error('no RSA');
    for (const change of [
      { e: 'AQ' },
      { e: 'AQAA' },
      { e: 'AAEAAQ' },
      { e: '' },
      { n: largeJwk.n },
      { n: '' },
    ]) {
      expect(() => parseJwk(row.encoding, { ...jwk, ...change })).toThrow(invalid);
    }
  });

  it('reads a JWK with agreeing members only', () => {
    const { encoding, raw, generate } = generated('Ed25519');
    const key = raw(generate().publicKey);
    const jwk: Record<string, unknown> = { ...writeJwk(encoding, key) };
    expect(jwk).toMatchObject({ kty: 'OKP', crv: 'Ed25519', alg: 'Ed25519', use: 'sig' });
    const bare = { kty: jwk['kty'], crv: jwk['crv'], x: jwk['x'] };
    for (const good of [
      bare,
      { ...jwk, alg: 'EdDSA' },
      { ...jwk, key_ops: ['verify'] },
      { ...jwk, x5t: 'else' },
    ]) {
      expect(parseJwk(encoding, good)).toEqual(key);
    }
    for (const bad of [
      { ...jwk, alg: 'Ed448' },
      { ...jwk, alg: null },
      { ...jwk, use: 'enc' },
      { ...jwk, key_ops: ['sign'] },
      { ...jwk, key_ops: 'verify' },
      { ...jwk, d: 'AA' },
      { ...jwk, x: `${String(jwk['x'])}=` },
      { ...jwk, crv: 'X25519' },
      { ...jwk, kty: 'EC' },
      Object.create(jwk) as unknown,
      [jwk],
      null,
      'text',
    ]) {
      expect(() => parseJwk(encoding, bad)).toThrow(invalid);
    }
  });

  it('needs alg in an AKP key', () => {
    const { encoding } = generated('ML-DSA-44');
    const jwk = writeJwk(encoding, somePublicKey(encoding));
    expect(() => parseJwk(encoding, { ...jwk, alg: undefined })).toThrow(invalid);
  });
});

describe('PEM', () => {
  it('comes back for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), (bytes) => {
        const text = encodePem('PUBLIC KEY', bytes);
        expect(decodePem('PUBLIC KEY', text, 'it')).toEqual(bytes);
        expect(decodePem('PUBLIC KEY', text.replaceAll('\n', '\r\n'), 'it')).toEqual(bytes);
        expect(decodePem('PUBLIC KEY', text.trimEnd(), 'it')).toEqual(bytes);
      }),
    );
  });

  it('refuses text around the block, headers, other line lengths, other labels and two blocks', () => {
    const text = encodePem('PUBLIC KEY', new Uint8Array(100).fill(1));
    const [first = '', ...rest] = text.split('\n');
    for (const bad of [
      `comment\n${text}`,
      `${text}comment\n`,
      `${text}\n`,
      ` ${text}`,
      [first, 'Proc-Type: 4,ENCRYPTED', '', ...rest].join('\n'),
      [first, '', ...rest].join('\n'),
      [first, rest.join('').replace(/-.*/, ''), '-----END PUBLIC KEY-----'].join('\n'),
      text.replaceAll('PUBLIC KEY', 'CERTIFICATE'),
      text.replace('END PUBLIC', 'END PRIVATE'),
      text + text,
      text.replace('AQ==', 'AR=='),
      text.replace('==', ''),
      '-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n',
      '',
    ]) {
      expect(bad).not.toBe(text);
      expect(() => decodePem('PUBLIC KEY', bad, 'it')).toThrow(invalid);
    }
  });
});
