/**
 * `twofold import` beside a running service: keys that OpenSSL made, in every form and of every kind, come in
 * through SoftHSM and serve; and what is refused leaves nothing behind.
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, randomBytes, verify } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { HttpConnection } from '../../src/client/http-connection.ts';
import { materialFor, prepareImport, sendImport } from '../../src/client/key-import.ts';
import { readPrivateKey } from '../../src/client/private-key-file.ts';
import { wipe } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

const command = join(import.meta.dirname, '../../scripts/twofold');
const WORDS = 'correct horse battery';
let service: TestService;
let folder: string;
let connection: HttpConnection;
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-import-'));
  writeFileSync(at('words'), `${WORDS}\n`, { mode: 0o600 });
  writeFileSync(at('wrong'), 'incorrect\n', { mode: 0o600 });
  service = await TestService.start();
  const token = await service.token('admin');
  writeFileSync(at('header'), `Authorization: Bearer ${token}\n`, { mode: 0o600 });
  connection = new HttpConnection({
    url: new URL(service.url),
    authorization: () => `Bearer ${token}`,
  });
}, 90_000);
afterAll(async () => {
  connection.close();
  await service.destroy();
  rmSync(folder, { recursive: true, force: true });
});

const openssl = (...argv: string[]) =>
  execFileSync('openssl', argv, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

const twofold = (...argv: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    const env = { ...COMMAND_ENVIRONMENT, HOME: folder };
    const all = ['import', ...argv, '--url', service.url, '--authorization', at('header')];
    const child = execFile(command, all, { cwd: folder, env }, (_error, out, err) => {
      resolve({ status: child.exitCode, out, err });
    });
  });

/** As the command does it, in this process. */
async function importFile(file: string, name: string, suite: string, raw = false): Promise<void> {
  const words = () => Promise.resolve(Buffer.from(WORDS));
  const foreign = await readPrivateKey(readFileSync(at(file)), { raw, passphrase: words });
  const material = await materialFor(findSuite(suite), foreign);
  const request = await prepareImport(connection, 'default', { name }, material);
  wipe(material.key);
  const options = { dryRun: false, idempotencyKey: name };
  expect((await sendImport(connection, request, options)).kind).toBe('imported');
}

const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const MESSAGE = Buffer.from('signed inside');

/** Signs with the service, and has OpenSSL verify with the public key that was there before. */
async function signsAs(name: string, pem: string, options: object = {}): Promise<void> {
  const { json } = await service.request('POST', `/v1/keys/${name}/sign`, {
    message: b64(MESSAGE),
  });
  const signature = Buffer.from(String(json['signature']), 'base64');
  const key = { key: createPublicKey(pem), ...options };
  expect(verify(name.includes('ml-dsa') ? null : 'sha256', MESSAGE, key, signature)).toBe(true);
}

async function opensWhatItWraps(name: string): Promise<void> {
  const plaintext = b64(MESSAGE);
  const wrapped = await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext });
  const { ciphertext } = wrapped.json;
  const opened = await service.request('POST', `/v1/keys/${name}/unwrap`, { ciphertext });
  expect(opened.json['plaintext']).toBe(plaintext);
}

const publicPem = (file: string, ...more: string[]) =>
  openssl('pkey', '-in', file, '-pubout', ...more).toString('latin1');

const EC = ['-algorithm', 'EC', '-pkeyopt'];
const p256 = (out: string) => openssl('genpkey', ...EC, 'ec_paramgen_curve:P-256', '-out', out);
const rsa = (out: string) =>
  openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', out);
const PASS = ['-passout', 'file:words'];
const self = (key: string, out: string) =>
  openssl('req', '-x509', '-new', '-key', key, '-subj', '/CN=x', '-days', '1', '-out', out);

/** By form, how OpenSSL makes a file of it from `p256.pem` or `rsa.pem`. */
const FORMS: readonly (readonly [string, string, (out: string) => void])[] = [
  ['PEM, PKCS #8', 'p256', (out) => void openssl('pkey', '-in', 'p256.pem', '-out', out)],
  [
    'PEM, encrypted PKCS #8',
    'p256',
    (out) => void openssl('pkcs8', '-topk8', '-in', 'p256.pem', '-out', out, ...PASS),
  ],
  [
    'DER, encrypted PKCS #8 by scrypt',
    'p256',
    (out) =>
      void openssl(
        'pkcs8',
        '-topk8',
        '-scrypt',
        '-in',
        'p256.pem',
        '-outform',
        'DER',
        '-out',
        out,
        ...PASS,
      ),
  ],
  ['PEM, SEC 1', 'p256', (out) => void openssl('ec', '-in', 'p256.pem', '-out', out)],
  [
    'PEM, SEC 1 after its parameters',
    'p256',
    (out) => {
      openssl('ec', '-in', 'p256.pem', '-out', 'sec1.pem');
      const parameters = openssl('ecparam', '-name', 'prime256v1');
      writeFileSync(at(out), Buffer.concat([parameters, readFileSync(at('sec1.pem'))]));
    },
  ],
  [
    'PEM, SEC 1, encrypted as of old',
    'p256',
    (out) => void openssl('ec', '-in', 'p256.pem', '-aes256', '-out', out, ...PASS),
  ],
  [
    'DER, SEC 1',
    'p256',
    (out) => void openssl('ec', '-in', 'p256.pem', '-outform', 'DER', '-out', out),
  ],
  [
    'DER, PKCS #8',
    'p256',
    (out) =>
      void openssl(
        'pkcs8',
        '-topk8',
        '-nocrypt',
        '-in',
        'p256.pem',
        '-outform',
        'DER',
        '-out',
        out,
      ),
  ],
  [
    'PEM, PKCS #1',
    'rsa',
    (out) => void openssl('rsa', '-in', 'rsa.pem', '-traditional', '-out', out),
  ],
  [
    'DER, PKCS #1',
    'rsa',
    (out) => void openssl('rsa', '-in', 'rsa.pem', '-traditional', '-outform', 'DER', '-out', out),
  ],
  [
    'PKCS #12',
    'rsa',
    (out) =>
      void openssl(
        'pkcs12',
        '-export',
        '-inkey',
        'rsa.pem',
        '-in',
        'rsa.crt',
        '-out',
        out,
        ...PASS,
      ),
  ],
  [
    'PKCS #12 as of old, 3DES and SHA-1',
    'p256',
    (out) =>
      void openssl(
        'pkcs12',
        '-export',
        '-inkey',
        'p256.pem',
        '-in',
        'p256.crt',
        '-out',
        out,
        ...PASS,
        '-keypbe',
        'PBE-SHA1-3DES',
        '-certpbe',
        'PBE-SHA1-3DES',
        '-macalg',
        'sha1',
      ),
  ],
  [
    'PKCS #12 with its key in the clear, SHA-512',
    'p256',
    (out) =>
      void openssl(
        'pkcs12',
        '-export',
        '-inkey',
        'p256.pem',
        '-nocerts',
        '-out',
        out,
        ...PASS,
        '-keypbe',
        'NONE',
        '-macalg',
        'sha512',
      ),
  ],
  [
    'JWK',
    'p256',
    (out) => {
      const { createPrivateKey } = process.getBuiltinModule('node:crypto');
      const jwk = createPrivateKey(readFileSync(at('p256.pem'))).export({ format: 'jwk' });
      writeFileSync(at(out), JSON.stringify({ ...jwk, use: 'sig', kid: 'one' }, null, 2));
    },
  ],
];

describe('the forms of private keys', () => {
  beforeAll(() => {
    p256('p256.pem');
    rsa('rsa.pem');
    self('p256.pem', 'p256.crt');
    self('rsa.pem', 'rsa.crt');
  });

  it.each(FORMS.map((row, index) => [...row, index] as const))(
    '%s',
    async (_form, key, make, index) => {
      const [file, name] = [`form-${String(index)}`, `form-${String(index)}`];
      make(file);
      await importFile(file, name, key === 'rsa' ? 'RSA-PKCS1-2048-SHA256' : 'ECDSA-P256-SHA256');
      await signsAs(name, publicPem(`${key}.pem`));
    },
  );
});
