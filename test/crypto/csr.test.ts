/** Certification requests against OpenSSL: the command at hand, and pyca/cryptography where named. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { assembleRequest, parseRequest, requestInfo, requestPem } from '../../src/crypto/csr.ts';
import { writeName } from '../../src/crypto/distinguished-name.ts';
import { falconEncoding, mlKemEncoding, okpEncoding } from '../../src/crypto/key-encoding.ts';
import { report } from '../vectors/published.ts';
import { COMPOSITES, GENERATED, generated, NAMELESS, signWith } from './key-encodings.ts';
import { somePublicKey, verifyWith } from './key-encodings.ts';
import type { AlternativeName, RequestContent } from '../../src/crypto/csr.ts';
import type { DistinguishedName } from '../../src/crypto/distinguished-name.ts';
import type { GeneratedRow } from './key-encodings.ts';

const invalid = expect.objectContaining({ code: 'invalid_value' });

/** A Python with the package cryptography, whose wheels bring the newest OpenSSL. */
const PYTHON = process.env['CRYPTOGRAPHY_PYTHON'];
const VERIFY = `
import sys
from cryptography import x509
csr = x509.load_pem_x509_csr(open(sys.argv[1], 'rb').read())
print(csr.is_signature_valid, csr.subject.rfc4514_string())
`;

const CONTENT: RequestContent = {
  subject: [{ C: 'FI' }, { O: 'Esimerkki Öy' }, { CN: 'service', UID: 'a1' }],
  alternativeNames: [
    { dns: '*.example.org' },
    { uri: 'spiffe://example.org/service' },
    { email: 'ops@example.org' },
    { ip: '192.0.2.7' },
    { ip: '2001:db8::1' },
  ],
};

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-csr-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function request(row: GeneratedRow, content: RequestContent = CONTENT) {
  const { encoding } = row;
  const { publicKey, privateKey } = row.generate();
  const info = requestInfo(encoding, row.raw(publicKey), content);
  if (info === null) throw new Error('no request');
  const der = assembleRequest(encoding, info, signWith(encoding, privateKey, info));
  if (der === null) throw new Error('no request');
  return { der, info, publicKey, pem: requestPem(der) };
}

function save(name: string, text: string): string {
  const path = join(folder, `${name}.pem`);
  writeFileSync(path, text);
  return path;
}

function openssl(...parameters: string[]) {
  const { status, stdout, stderr } = spawnSync('openssl', parameters, { encoding: 'utf8' });
  return { status, output: `${stdout}${stderr}` };
}

/** SLH-DSA signs slowly and its sets differ in lengths alone: the shortest and the longest signature. */
const SLOW = /^SLH-DSA-(?!SHA2-128s$|SHAKE-256f$)/;
const SIGNING = GENERATED.filter(
  ({ encoding }) => encoding.signature !== null && !SLOW.test(encoding.algorithm),
);

describe.each(SIGNING.map((row) => [row.encoding.algorithm, row] as const))('%s', (name, row) => {
  const made = request(row);

  it('comes back with a signature that verifies', () => {
    const parsed = parseRequest(row.encoding, made.der);
    expect(parsed.publicKey).toEqual(row.raw(made.publicKey));
    expect(parsed.subject).toEqual(writeName(CONTENT.subject));
    expect(parsed.info).toEqual(made.info);
    expect(parsed.extensions).not.toBeNull();
    expect(verifyWith(row.encoding, made.publicKey, parsed.info, parsed.signature)).toBe(true);
  });

  it('is verified by the openssl at hand where that knows the algorithm', () => {
    const path = save(name, made.pem);
    const { status, output } = openssl('req', '-in', path, '-noout', '-verify', '-text');
    if (/^(?:ML-DSA|SLH-DSA)/.test(name) && status !== 0) {
      report(`openssl at hand: ${name} NOT verified, it does not know the algorithm`);
      return;
    }
    expect(output).toContain('verify OK');
    expect(output).toMatch(/CN ?= ?service/);
    expect(output).toContain('DNS:*.example.org, URI:spiffe://example.org/service');
    expect(output).toContain('email:ops@example.org, IP Address:192.0.2.7');
    expect(output).toContain('IP Address:2001:DB8:0:0:0:0:0:1');
  });

  it('is verified by pyca/cryptography where that knows the algorithm', () => {
    if (PYTHON === undefined) {
      report(`cryptography: ${name} NOT verified, CRYPTOGRAPHY_PYTHON names no Python`);
      return;
    }
    const path = save(`${name}-py`, made.pem);
    const { status, stdout, stderr } = spawnSync(PYTHON, ['-c', VERIFY, path], {
      encoding: 'utf8',
    });
    if (status !== 0 && /Unsupported/.test(stderr)) {
      report(`cryptography: ${name} NOT verified, it does not know the algorithm`);
      return;
    }
    expect(`${stdout}${stderr}`).toContain('True');
    expect(stdout).toContain('O=Esimerkki Öy');
    report(`cryptography: ${name} verified`);
  });

  it('is read for no other algorithm', () => {
    for (const other of SIGNING) {
      if (other.encoding.algorithm === name) continue;
      expect(() => parseRequest(other.encoding, made.der)).toThrow(invalid);
    }
  });
});

describe('what openssl asks for', () => {
  it.each([
    ['RSA2048-PKCS1-SHA-256', 'rsa:2048', ['-sha256']],
    [
      'RSA2048-PSS-SHA-256',
      'rsa:2048',
      ['-sha256', '-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:digest'],
    ],
    ['ECDSA-P384', 'ec', ['-pkeyopt', 'ec_paramgen_curve:P-384', '-sha384']],
    ['Ed25519', 'ed25519', []],
  ] as const)('is read: %s', (name, type, rest) => {
    const key = join(folder, 'openssl.key');
    const subject = ['-subj', '/CN=a', '-addext', 'subjectAltName=DNS:a.example'];
    const pem = execFileSync(
      'openssl',
      ['req', '-new', '-newkey', type, '-nodes', '-keyout', key, ...subject, ...rest],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    );
    const der = Buffer.from(pem.replaceAll(/-----.*-----|\n/g, ''), 'base64');
    const { encoding } = generated(name);
    const parsed = parseRequest(encoding, der);
    expect(parsed.extensions).not.toBeNull();
    // The same subject and names make the same bytes to sign.
    const content = { subject: [{ CN: 'a' }], alternativeNames: [{ dns: 'a.example' }] };
    expect(requestInfo(encoding, parsed.publicKey, content)).toEqual(parsed.info);
  });
});

describe('composites', () => {
  it('have their own identifier for the signature, without parameters', () => {
    for (const encoding of COMPOSITES) {
      const info = requestInfo(encoding, somePublicKey(encoding), CONTENT);
      if (encoding.signature === null) {
        expect(info).toBeNull();
        continue;
      }
      if (info === null) throw new Error('no request');
      const der = assembleRequest(encoding, info, Uint8Array.of(1, 2)) ?? info;
      expect(parseRequest(encoding, der).signature).toEqual(Uint8Array.of(1, 2));
      expect(encoding.signature.x509).toEqual(encoding.spki);
    }
  });

  it('without an identifier, Falcon and keys that do not sign have no request', () => {
    for (const encoding of [
      ...NAMELESS,
      falconEncoding('Falcon-512'),
      mlKemEncoding('ML-KEM-768'),
      okpEncoding('X25519'),
    ]) {
      expect(requestInfo(encoding, somePublicKey(encoding), CONTENT)).toBeNull();
      expect(assembleRequest(encoding, Uint8Array.of(0x30, 0), Uint8Array.of(1))).toBeNull();
    }
  });
});

describe('strictness', () => {
  const { encoding, generate, raw } = generated('Ed25519');
  const publicKey = raw(generate().publicKey);
  const info = (subject: unknown, alternativeNames: unknown = []) =>
    requestInfo(encoding, publicKey, {
      subject: subject as DistinguishedName,
      alternativeNames: alternativeNames as AlternativeName[],
    });

  it.each([
    [[{ CN: '' }]],
    [[{ CN: 'x'.repeat(65) }]],
    [[{ CN: 'a\u0000b' }]],
    [[{ CN: 'a\nb' }]],
    [[{ CN: '\ud800' }]],
    [[{ CN: 1 }]],
    [[{ C: 'fi' }]],
    [[{ C: 'FIN' }]],
    [[{ serialNumber: 'a_b' }]],
    [[{ DC: 'ö' }]],
    [[{ nope: 'x' }]],
    [[{ toString: 'x' }]],
    [[{}]],
    [Array.from({ length: 17 }, () => ({ CN: 'a' }))],
  ])('refuses the subject %j', (subject) => {
    expect(() => info(subject)).toThrow(invalid);
  });

  it.each([
    [{ dns: '' }],
    [{ dns: 'a..b' }],
    [{ dns: 'a.*.b' }],
    [{ dns: '-a.b' }],
    [{ dns: 'a.b\u0000.c' }],
    [{ dns: 'ä.example' }],
    [{ dns: `${'a'.repeat(64)}.b` }],
    [{ uri: 'no scheme' }],
    [{ uri: '/path' }],
    [{ uri: 'http://ä' }],
    [{ email: 'a' }],
    [{ email: 'a@b@c' }],
    [{ email: 'a@*.b' }],
    [{ ip: '1.2.3' }],
    [{ ip: '01.2.3.4' }],
    [{ ip: 'fe80::1%eth0' }],
    [{ ip: '::1/64' }],
    [{ ip: 7 }],
    [{ other: 'x' }],
    [{}],
    [{ dns: 'a', uri: 'b:c' }],
  ])('refuses the alternative name %j', (name) => {
    expect(() => info([{ CN: 'a' }], [name])).toThrow(invalid);
  });

  it('needs a name, takes none besides alternative ones, and bounds them', () => {
    expect(() => info([])).toThrow(invalid);
    const bytes = info([], [{ dns: 'a' }]);
    expect(Buffer.from(bytes ?? []).toString('hex')).toContain('0603551d110101ff');
    const many = Array.from({ length: 101 }, () => ({ dns: 'a' }));
    expect(() => info([{ CN: 'a' }], many)).toThrow(invalid);
  });

  it.each([
    ['::', '00'.repeat(16)],
    ['::ffff:192.0.2.1', '00000000000000000000ffffc0000201'],
    ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
    ['fe80::', 'fe80000000000000' + '00'.repeat(8)],
    ['255.0.0.1', 'ff000001'],
  ])('writes %s as its bytes', (ip, hex) => {
    const bytes = Buffer.from(info([], [{ ip }]) ?? []).toString('hex');
    expect(bytes).toContain(`87${(hex.length / 2).toString(16).padStart(2, '0')}${hex}`);
  });

  it('refuses a changed request or reads the change', () => {
    const { der } = request(generated('Ed25519'));
    for (let offset = 0; offset < der.length; offset += 1) {
      const bytes = Uint8Array.from(der);
      bytes[offset] = (bytes[offset] ?? 0) ^ 1;
      try {
        const { info: changed, signature } = parseRequest(encoding, bytes);
        expect(assembleRequest(encoding, changed, signature)).toEqual(bytes);
      } catch (error) {
        if (error instanceof Error && 'matcherResult' in error) throw error;
        expect(error).toEqual(invalid);
      }
    }
    expect(() => parseRequest(encoding, Uint8Array.from([...der, 0]))).toThrow(invalid);
  });
});
