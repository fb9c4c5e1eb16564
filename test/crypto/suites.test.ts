import { describe, expect, it } from '@jest/globals';

import { parseJwk, writeJwk } from '../../src/crypto/jwk.ts';
import { parseSpki, writePublicKeyPem, writeSpki } from '../../src/crypto/spki.ts';
import { purposesOf } from '../../src/crypto/suite.ts';
import { findSuite, findSuiteByNumber, NOT_OFFERED, SUITES } from '../../src/crypto/suites.ts';
import {
  engineOf,
  KEM_ROWS,
  randomKemKey,
  randomSignatureKey,
  SIGNATURE_ROWS,
} from './software-halves.ts';
import type { KemSuite, SignatureSuite } from '../../src/crypto/suite.ts';

const unknown = expect.objectContaining({ code: 'unknown_suite' });

describe('the table of suites', () => {
  // Stored data names these numbers: a row of this list may be added, never changed.
  it('keeps every number and id for ever', () => {
    const rows = Object.values(SUITES).map(({ id, number, kind }) => [number, id, kind]);
    expect(rows).toEqual([
      [0x0101, 'MLKEM768-P256', 'kem'],
      [0x0102, 'MLKEM768-X25519', 'kem'],
      [0x0103, 'MLKEM1024-P384', 'kem'],
      [0x0104, 'MLKEM1024-X25519', 'kem'],
      [0x0201, 'ML-KEM-512', 'kem'],
      [0x0202, 'ML-KEM-768', 'kem'],
      [0x0203, 'ML-KEM-1024', 'kem'],
      [0x0204, 'ML-KEM-1024-HKDF-SHA384', 'kem'],
      [0x0211, 'DHKEM-P256', 'kem'],
      [0x0212, 'DHKEM-P384', 'kem'],
      [0x0213, 'DHKEM-X25519', 'kem'],
      [0x0221, 'RSA-OAEP-2048-SHA256', 'kem'],
      [0x0222, 'RSA-OAEP-3072-SHA256', 'kem'],
      [0x0223, 'RSA-OAEP-4096-SHA256', 'kem'],
      [0x0301, 'A256GCM', 'aead'],
      [0x0401, 'MLDSA65-ECDSA-P256-SHA512', 'signature'],
      [0x0402, 'MLDSA87-ECDSA-P384-SHA512', 'signature'],
      [0x0403, 'MLDSA44-ECDSA-P256-SHA256', 'signature'],
      [0x0404, 'MLDSA65-ECDSA-P384-SHA512', 'signature'],
      [0x0405, 'MLDSA87-ECDSA-P521-SHA512', 'signature'],
      [0x0406, 'MLDSA44-Ed25519-SHA512', 'signature'],
      [0x0407, 'MLDSA65-Ed25519-SHA512', 'signature'],
      [0x0408, 'MLDSA44-RSA2048-PSS-SHA256', 'signature'],
      [0x0409, 'MLDSA44-RSA2048-PKCS15-SHA256', 'signature'],
      [0x040a, 'MLDSA65-RSA3072-PSS-SHA512', 'signature'],
      [0x040b, 'MLDSA65-RSA3072-PKCS15-SHA512', 'signature'],
      [0x040c, 'MLDSA65-RSA4096-PSS-SHA512', 'signature'],
      [0x040d, 'MLDSA65-RSA4096-PKCS15-SHA512', 'signature'],
      [0x040e, 'MLDSA87-RSA3072-PSS-SHA512', 'signature'],
      [0x040f, 'MLDSA87-RSA4096-PSS-SHA512', 'signature'],
      [0x0501, 'ML-DSA-44', 'signature'],
      [0x0502, 'ML-DSA-65', 'signature'],
      [0x0503, 'ML-DSA-87', 'signature'],
      [0x0511, 'SLH-DSA-SHA2-128s', 'signature'],
      [0x0512, 'SLH-DSA-SHA2-128f', 'signature'],
      [0x0513, 'SLH-DSA-SHA2-192s', 'signature'],
      [0x0514, 'SLH-DSA-SHA2-192f', 'signature'],
      [0x0515, 'SLH-DSA-SHA2-256s', 'signature'],
      [0x0516, 'SLH-DSA-SHA2-256f', 'signature'],
      [0x0517, 'SLH-DSA-SHAKE-128s', 'signature'],
      [0x0518, 'SLH-DSA-SHAKE-128f', 'signature'],
      [0x0519, 'SLH-DSA-SHAKE-192s', 'signature'],
      [0x051a, 'SLH-DSA-SHAKE-192f', 'signature'],
      [0x051b, 'SLH-DSA-SHAKE-256s', 'signature'],
      [0x051c, 'SLH-DSA-SHAKE-256f', 'signature'],
      [0x0521, 'Falcon-512', 'signature'],
      [0x0522, 'Falcon-1024', 'signature'],
      [0x0531, 'ECDSA-P256-SHA256', 'signature'],
      [0x0532, 'ECDSA-P384-SHA384', 'signature'],
      [0x0533, 'ECDSA-P521-SHA512', 'signature'],
      [0x0534, 'Ed25519', 'signature'],
      [0x0541, 'RSA-PSS-2048-SHA256', 'signature'],
      [0x0542, 'RSA-PSS-3072-SHA256', 'signature'],
      [0x0543, 'RSA-PSS-4096-SHA512', 'signature'],
      [0x0544, 'RSA-PSS-3072-SHA384', 'signature'],
      [0x0551, 'RSA-PKCS1-2048-SHA256', 'signature'],
      [0x0552, 'RSA-PKCS1-3072-SHA256', 'signature'],
      [0x0553, 'RSA-PKCS1-4096-SHA512', 'signature'],
      [0x0601, 'HS256', 'mac'],
      [0x0602, 'HS384', 'mac'],
      [0x0603, 'HS512', 'mac'],
    ]);
  });

  it('has numbers in the block of their purpose', () => {
    const blocks = { kem: [1, 2], aead: [3], signature: [4, 5], mac: [6] };
    for (const { number, kind } of Object.values(SUITES)) {
      expect(blocks[kind]).toContain(number >> 8);
    }
  });

  it('resolves every id and number to its row, and nothing else', () => {
    for (const suite of Object.values(SUITES)) {
      expect(findSuite(suite.id)).toBe(suite);
      expect(findSuiteByNumber(suite.number)).toBe(suite);
    }
    for (const id of ['', 'a256gcm', 'A256GCM ', '__proto__', 'constructor', 'toString']) {
      expect(() => findSuite(id)).toThrow(unknown);
    }
    for (const number of [0, 0x0100, 0x01ff, 0xffff, -1, Number.NaN]) {
      expect(() => findSuiteByNumber(number)).toThrow(unknown);
    }
  });

  it('cannot be changed', () => {
    const suite = findSuite('MLKEM768-P256') as KemSuite;
    expect(Object.getPrototypeOf(SUITES)).toBeNull();
    for (const target of [SUITES, suite, suite.hpke, suite.kem, suite.hsm, suite.parts[0]]) {
      expect(Object.isFrozen(target)).toBe(true);
    }
  });

  it('serves wrap and kem by a KEM suite, one purpose by each other', () => {
    const wanted = { kem: ['wrap', 'kem'], aead: ['wrap'], signature: ['sign'], mac: ['mac'] };
    for (const suite of Object.values(SUITES)) {
      expect(purposesOf(suite)).toEqual(wanted[suite.kind]);
    }
  });

  it.each([
    ['MLKEM768-P256', 1249, 1153],
    ['MLKEM768-X25519', 1216, 1120],
    ['MLKEM1024-P384', 1665, 1665],
    ['MLDSA65-ECDSA-P256-SHA512', 2017, 3381],
    ['MLDSA87-ECDSA-P384-SHA512', 2689, 4731],
  ])('%s has the lengths of its document', (id, publicKey, output) => {
    const suite = findSuite(id) as KemSuite | SignatureSuite;
    const lengths =
      suite.kind === 'kem'
        ? [suite.kem.lengths.publicKey, suite.kem.lengths.encapsulation]
        : [suite.signer.lengths.publicKey, suite.signer.lengths.signatureMax];
    expect(lengths).toEqual([publicKey, output]);
    const parts = suite.parts.reduce((sum, part) => sum + part.publicKeyLength, 0);
    expect(parts).toBe(publicKey);
  });

  it.each<[string, (number | null)[], (number | null)[]]>([
    // FIPS 203 table 3, FIPS 204 table 2, FIPS 205 table 2, Falcon 1.2 table 3.3, then the seeds.
    ['ML-KEM-512', [1632], [64]],
    ['ML-KEM-768', [2400], [64]],
    ['ML-KEM-1024', [3168], [64]],
    ['ML-DSA-44', [2560], [32]],
    ['ML-DSA-65', [4032], [32]],
    ['ML-DSA-87', [4896], [32]],
    ['SLH-DSA-SHA2-128s', [64], [48]],
    ['SLH-DSA-SHAKE-192f', [96], [72]],
    ['SLH-DSA-SHAKE-256s', [128], [96]],
    ['Falcon-512', [1281], [48]],
    ['Falcon-1024', [2305], [48]],
    ['MLKEM1024-P384', [3168, 48], [64, null]],
    ['MLKEM768-X25519', [2400, 32], [64, null]],
    ['MLDSA65-RSA3072-PSS-SHA512', [4032, null], [32, null]],
    ['DHKEM-P256', [32], [null]],
    ['ECDSA-P521-SHA512', [66], [null]],
    ['Ed25519', [32], [null]],
    ['RSA-OAEP-2048-SHA256', [null], [null]],
  ])('%s has private keys and seeds of their lengths', (id, privateKeys, seeds) => {
    const { parts } = findSuite(id);
    expect(parts.map((part) => part.privateKeyLength)).toEqual(privateKeys);
    expect(parts.map((part) => part.seedLength)).toEqual(seeds);
  });

  it.each([
    ['Kyber1024', 'Kyber (round 3)'],
    ['HQC-128', 'HQC'],
    ['mceliece348864', 'Classic McEliece'],
    ['FrodoKEM-640-AES', 'FrodoKEM'],
    ['Dilithium5', 'Dilithium and SPHINCS+ (round 3)'],
    ['LMS_SHA256_M32_H10', 'LMS and XMSS'],
    ['XMSSMT-SHA2_20/2_256', 'LMS and XMSS'],
    ['HashML-DSA-65', 'HashML-DSA and HashSLH-DSA'],
    ['MLDSA65-ECDSA-brainpoolP256r1-SHA512', 'LAMPS composites with brainpool curves'],
    ['MLKEM768-RSA2048', 'Composite ML-KEM with RSA'],
    ['MLKEM768-P521', 'Composite ML-KEM with RSA'],
    ['MAYO-2', 'Multivariate signatures'],
  ])('tells who asks for %s why it is not offered', (id, name) => {
    const row = NOT_OFFERED.find((one) => one.name.startsWith(name));
    expect(() => findSuite(id)).toThrow(
      expect.objectContaining({
        code: 'unknown_suite',
        detail: `${row?.name ?? ''} is not offered: ${row?.reason ?? ''}`,
      }),
    );
  });

  it('mistakes no suite of its own for one that is not offered', () => {
    for (const id of Object.keys(SUITES)) {
      // As it would be written by someone who gets it wrong by a letter.
      expect(() => findSuite(`${id}x`)).toThrow(
        expect.objectContaining({ detail: expect.stringMatching(/^Known suites: /u) as unknown }),
      );
    }
  });

  it('says what is not offered, and why', () => {
    const names = NOT_OFFERED.map(({ name }) => name).join(' ');
    for (const name of ['McEliece', 'HQC', 'Frodo', 'Multivariate', 'LMS', 'XMSS', 'Kyber']) {
      expect(names).toContain(name);
    }
    for (const { reason } of NOT_OFFERED) expect(reason.length).toBeGreaterThan(20);
  });
});

describe.each([...KEM_ROWS, ...SIGNATURE_ROWS])('public key of $id', (suite) => {
  const { publicKey } =
    suite.kind === 'kem'
      ? randomKemKey(engineOf(suite), suite)
      : randomSignatureKey(engineOf(suite), suite);
  const { encoding } = suite;

  it('is made of the parts of the row', () => {
    const { pq, classical } =
      suite.kind === 'kem'
        ? suite.kem.splitPublicKey(publicKey)
        : suite.signer.splitPublicKey(publicKey);
    const lengths = { pq: pq.length, classical: classical.length };
    const stated = suite.parts.map(({ half, publicKeyLength }) => [half, publicKeyLength]);
    expect(lengths).toEqual({ pq: 0, classical: 0, ...Object.fromEntries(stated) });
    expect(publicKey).toHaveLength(lengths.pq + lengths.classical);
  });

  it('as PEM is the SPKI in lines of 64, or the row says why not', () => {
    const pem = writePublicKeyPem(encoding, publicKey);
    if (pem === null) {
      expect(encoding.unavailable.spki?.length).toBeGreaterThan(20);
      return;
    }
    const lines = pem.split('\n');
    expect(lines.at(0)).toBe('-----BEGIN PUBLIC KEY-----');
    expect(lines.slice(-2)).toEqual(['-----END PUBLIC KEY-----', '']);
    expect(Math.max(...lines.slice(1, -2).map((line) => line.length))).toBeLessThanOrEqual(64);
    const der = Buffer.from(lines.slice(1, -2).join(''), 'base64');
    expect(der.equals(writeSpki(encoding, publicKey) ?? new Uint8Array())).toBe(true);
    expect(parseSpki(encoding, der)).toEqual(publicKey);
    expect(der.subarray(-publicKey.length).equals(publicKey)).toBe(true);
  });

  it('as JWK has the name of the row, or the row says why not', () => {
    const jwk = writeJwk(encoding, publicKey, 'k1');
    if (jwk === null) {
      expect(encoding.unavailable.jwk?.length).toBeGreaterThan(20);
      return;
    }
    expect(parseJwk(encoding, jwk)).toEqual(publicKey);
    const alg = encoding.jwk?.alg ?? undefined;
    expect(jwk).toMatchObject({ kid: 'k1', ...(alg === undefined ? {} : { alg }) });
    if (jwk.kty === 'AKP') expect(jwk.pub).toBe(Buffer.from(publicKey).toString('base64url'));
    expect(writeJwk(encoding, publicKey)).not.toHaveProperty('kid');
  });
});
