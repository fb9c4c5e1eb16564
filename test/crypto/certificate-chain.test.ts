/** Certificate chains made by the openssl at hand, and the examples of the LAMPS documents. */
import { execFileSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, it } from '@jest/globals';

import {
  MAX_CHAIN_LENGTH,
  MAX_CHAIN_TEXT,
  parseCertificateChain,
} from '../../src/crypto/certificate-chain.ts';
import { ecEncoding } from '../../src/crypto/key-encoding.ts';
import { decodePem, encodePem } from '../../src/crypto/pem.ts';
import { parsePublicKeyPem } from '../../src/crypto/spki.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { hasPublishedFolder, vectorsOf } from '../vectors/published.ts';
import { generated, NAMELESS, somePublicKey } from './key-encodings.ts';
import type { SignatureSuite } from '../../src/crypto/suite.ts';

const invalid = expect.objectContaining({ code: 'invalid_value' });

const folder = mkdtempSync(join(tmpdir(), 'twofold-chain-'));
afterAll(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);
const CA = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n';

interface Authority {
  readonly name: string;
  readonly certificate: string;
  readonly publicKey: string;
}

/** A certificate of a new P-256 key, issued by `issuer` or by itself. */
function issue(name: string, issuer?: Authority, extensions = CA): Authority {
  const run = (...parameters: string[]) =>
    execFileSync('openssl', parameters, { stdio: ['ignore', 'pipe', 'ignore'] });
  writeFileSync(at(`${name}.ext`), extensions);
  run(
    'genpkey',
    '-algorithm',
    'EC',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-out',
    at(`${name}.key`),
  );
  run('req', '-new', '-key', at(`${name}.key`), '-subj', `/CN=${name}`, '-out', at(`${name}.csr`));
  const signer =
    issuer === undefined
      ? ['-signkey', at(`${name}.key`)]
      : ['-CA', at(`${issuer.name}.crt`), '-CAkey', at(`${issuer.name}.key`), '-CAcreateserial'];
  const paths = [
    '-in',
    at(`${name}.csr`),
    '-out',
    at(`${name}.crt`),
    '-extfile',
    at(`${name}.ext`),
  ];
  run('x509', '-req', '-sha256', '-days', '30', ...paths, ...signer);
  const certificate = readFileSync(at(`${name}.crt`), 'utf8');
  const publicKey = createPublicKey(certificate).export({ format: 'pem', type: 'spki' });
  return { name, certificate, publicKey };
}

const root = issue('root');
const middle = issue('middle', root);
const leaf = issue('leaf', middle, 'subjectAltName=DNS:leaf.example\n');
const encoding = ecEncoding('P-256', 'sign');
const keyOf = ({ publicKey }: Authority) => parsePublicKeyPem(encoding, publicKey);
const chain = (...parts: readonly Authority[]) =>
  parts.map(({ certificate }) => certificate).join('');
const parse = (pem: string, of = leaf) => parseCertificateChain(encoding, keyOf(of), pem);

describe('a chain', () => {
  it('is read from the leaf to the root with every signature verified', () => {
    const { certificates, endsInRoot, fullyVerified } = parse(chain(leaf, middle, root));
    expect(certificates.map(({ subject, signature }) => [subject, signature])).toEqual([
      ['CN=leaf', 'verified'],
      ['CN=middle', 'verified'],
      ['CN=root', 'verified'],
    ]);
    expect(certificates[0]?.issuer).toBe('CN=middle');
    expect(certificates[0]?.notAfter.getTime()).toBeGreaterThan(Date.now());
    expect(certificates[0]?.der).toEqual(decodePem('CERTIFICATE', leaf.certificate, 'it'));
    expect([endsInRoot, fullyVerified]).toEqual([true, true]);
  });

  it('may end before the root', () => {
    const { certificates, endsInRoot } = parse(chain(leaf, middle));
    expect(certificates.map(({ signature }) => signature)).toEqual(['verified', 'issuer-absent']);
    expect(endsInRoot).toBe(false);
    expect(parse(chain(leaf)).certificates.length).toBe(1);
    expect(parse(chain(root), root).endsInRoot).toBe(true);
  });

  it('is of the key', () => {
    expect(() => parse(chain(leaf, middle), middle)).toThrow(invalid);
    const { encoding: other } = generated('ECDSA-P384');
    expect(() => parseCertificateChain(other, somePublicKey(other), chain(leaf))).toThrow(invalid);
    for (const nameless of NAMELESS) {
      expect(() => parseCertificateChain(nameless, somePublicKey(nameless), chain(leaf))).toThrow(
        invalid,
      );
    }
  });

  it('is in order, without gaps, repeats or strangers', () => {
    for (const pem of [
      chain(leaf, root),
      chain(leaf, root, middle),
      chain(leaf, leaf),
      chain(leaf, middle, root, root),
      chain(leaf, middle, root, middle),
      '',
    ]) {
      expect(() => parse(pem)).toThrow(invalid);
    }
  });

  it('has no issuer of the right name and another key', () => {
    const impostor = { ...issue('middle', root) };
    expect(() => parse(chain(leaf, impostor, root))).toThrow(invalid);
  });

  it('has no issuer that is no CA', () => {
    const server = issue('server', root, 'basicConstraints=critical,CA:FALSE\n');
    const forged = issue('forged', server, 'subjectAltName=DNS:forged.example\n');
    expect(() => parse(chain(forged, server, root), forged)).toThrow(invalid);
  });

  it('has no signature that was changed', () => {
    const der = decodePem('CERTIFICATE', leaf.certificate, 'it');
    der[der.length - 1] = (der[der.length - 1] ?? 0) ^ 1;
    const changed = { ...leaf, certificate: encodePem('CERTIFICATE', der) };
    expect(() => parse(chain(changed, middle))).toThrow(invalid);
    const ownDer = decodePem('CERTIFICATE', root.certificate, 'it');
    ownDer[ownDer.length - 1] = (ownDer[ownDer.length - 1] ?? 0) ^ 1;
    expect(() => parse(encodePem('CERTIFICATE', ownDer), root)).toThrow(invalid);
  });

  it('is bounded and strict', () => {
    const many = Array.from({ length: MAX_CHAIN_LENGTH + 1 }, () => root);
    expect(() => parse(chain(...many), root)).toThrow(invalid);
    expect(() => parse(`${chain(leaf)}${' '.repeat(MAX_CHAIN_TEXT)}`)).toThrow(invalid);
    const der = decodePem('CERTIFICATE', leaf.certificate, 'it');
    for (const bytes of [
      Uint8Array.from([...der, 0]),
      der.subarray(0, -1),
      Uint8Array.of(0x30, 0),
      Uint8Array.of(0x30, 0x80, 0, 0),
    ]) {
      expect(() => parse(encodePem('CERTIFICATE', bytes))).toThrow(invalid);
    }
    expect(() => parse(leaf.publicKey)).toThrow(invalid);
  });

  it('fails with the one code or reads other bytes, whatever byte of it changes', () => {
    const der = decodePem('CERTIFICATE', leaf.certificate, 'it');
    for (let offset = 0; offset < der.length; offset += 1) {
      const bytes = Uint8Array.from(der);
      bytes[offset] = (bytes[offset] ?? 0) ^ 0x01;
      const pem = encodePem('CERTIFICATE', bytes) + middle.certificate;
      expect(() => parse(pem)).toThrow(invalid);
    }
  });
});

describe('examples of RFC 9881, RFC 9909 and RFC 9935', () => {
  const vectors = vectorsOf('x509-certificates');

  it.each(vectors.map((vector) => [vector.name, vector] as const))('%s', (_, vector) => {
    const { encoding: row } = generated(vector.algorithm);
    const publicKey = parsePublicKeyPem(row, vector.publicKey);
    const { certificates } = parseCertificateChain(row, publicKey, vector.certificate);
    const expected = vector.algorithm.startsWith('ML-KEM') ? 'issuer-absent' : 'verified';
    expect(certificates.map(({ signature }) => signature)).toEqual([expected]);
  });
});

describe('examples of RFC 9935 with their issuer of RFC 9881', () => {
  it('are a chain although both have one name', () => {
    const vectors = vectorsOf('x509-certificates');
    const issuer = vectors.find(({ name }) => name === 'ML-DSA-44.crt');
    const kem = vectors.find(({ name }) => name === 'ML-KEM-512.crt');
    if (issuer === undefined || kem === undefined) throw new Error('no vectors');
    const { encoding: row } = generated(kem.algorithm);
    const pem = kem.certificate + issuer.certificate;
    const { certificates, endsInRoot, fullyVerified } = parseCertificateChain(
      row,
      parsePublicKeyPem(row, kem.publicKey),
      pem,
    );
    expect(certificates.map(({ signature }) => signature)).toEqual(['verified', 'verified']);
    expect([endsInRoot, fullyVerified]).toEqual([true, true]);
  });
});

describe('examples of the composite drafts', () => {
  it('have the key of the vector and a signature that OpenSSL cannot check', () => {
    let read = 0;
    for (const { suite, pk, certificate } of vectorsOf('composite-sigs-certificates')) {
      const row = (findSuite(suite) as SignatureSuite).encoding;
      const publicKey = Uint8Array.from(Buffer.from(pk, 'hex'));
      const pem = encodePem('CERTIFICATE', Uint8Array.from(Buffer.from(certificate, 'hex')));
      const { certificates, fullyVerified, endsInRoot } = parseCertificateChain(
        row,
        publicKey,
        pem,
      );
      expect([certificates[0]?.signature, fullyVerified, endsInRoot]).toEqual([
        'unsupported',
        false,
        true,
      ]);
      read += 1;
    }
    expect(read).toBe(hasPublishedFolder() ? 15 : 1);
  });
});
