/**
 * `twofold import` beside a running service: keys that OpenSSL made, in every form and of every kind, come in
 * through SoftHSM and serve; and what is refused leaves nothing behind.
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { randomBytes, verify } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { DevelopmentIssuer } from '../../src/access/development-issuer.ts';
import { ClientError } from '../../src/client/client-error.ts';
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
async function signsAs(
  name: string,
  pem: string,
  options: object = {},
  digest: string | null = 'sha256',
): Promise<void> {
  const { json } = await service.request('POST', `/v1/keys/${name}/sign`, {
    message: b64(MESSAGE),
  });
  const signature = Buffer.from(String(json['signature']), 'base64');
  const key = { key: createPublicKey(pem), ...options };
  expect(verify(digest, MESSAGE, key, signature)).toBe(true);
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

/** What Node keeps of a key that its own OpenSSL made: the OpenSSL of the host may know none of these. */
const pqPem = (type: 'ml-dsa-65' | 'ml-kem-768' | 'slh-dsa-sha2-128f') =>
  // One overload for each family: the type is of the first.
  generateKeyPairSync(type as 'ml-dsa-65', {
    privateKeyEncoding: { format: 'pem', type: 'pkcs8' },
    publicKeyEncoding: { format: 'pem', type: 'spki' },
  });
const jwkOf = (pem: string) => createPrivateKey(pem).export({ format: 'jwk' });

describe('the kinds of keys', () => {
  it.each([
    ['ECDSA-P384-SHA384', 'P-384', 'sha384'],
    ['ECDSA-P521-SHA512', 'P-521', 'sha512'],
  ])('%s signs', async (suite, curve, digest) => {
    openssl('genpkey', ...EC, `ec_paramgen_curve:${curve}`, '-out', curve);
    await importFile(curve, suite.toLowerCase(), suite);
    await signsAs(suite.toLowerCase(), publicPem(curve), {}, digest);
  });

  it('DHKEM-P256 and RSA-OAEP unwrap what they wrap', async () => {
    p256('agreement');
    rsa('encryption');
    await importFile('agreement', 'dhkem', 'DHKEM-P256');
    await importFile('encryption', 'oaep', 'RSA-OAEP-2048-SHA256');
    await opensWhatItWraps('dhkem');
    await opensWhatItWraps('oaep');
  });

  it('seeds of ML-DSA, SLH-DSA and ML-KEM, as PKCS #8, JWK (AKP) and bytes', async () => {
    const [dsa, slh, kem] = [pqPem('ml-dsa-65'), pqPem('slh-dsa-sha2-128f'), pqPem('ml-kem-768')];
    writeFileSync(at('dsa'), dsa.privateKey);
    writeFileSync(at('slh'), slh.privateKey);
    writeFileSync(at('dsa.jwk'), JSON.stringify({ ...jwkOf(dsa.privateKey), key_ops: ['sign'] }));
    // The name of draft-ietf-jose-hpke-pq-pqt.
    writeFileSync(at('kem.jwk'), JSON.stringify({ ...jwkOf(kem.privateKey), alg: 'HPKE-12' }));
    const seed = createPrivateKey(kem.privateKey).export({ format: 'raw-seed' });
    writeFileSync(at('kem.seed'), seed);
    await importFile('dsa', 'ml-dsa-pem', 'ML-DSA-65');
    await importFile('dsa.jwk', 'ml-dsa-jwk', 'ML-DSA-65');
    await importFile('slh', 'slh-dsa-pem', 'SLH-DSA-SHA2-128f');
    await importFile('kem.jwk', 'kem-jwk', 'ML-KEM-768');
    await importFile('kem.seed', 'kem-seed', 'ML-KEM-768', true);
    await signsAs('ml-dsa-pem', dsa.publicKey, {}, null);
    await signsAs('ml-dsa-jwk', dsa.publicKey, {}, null);
    await signsAs('slh-dsa-pem', slh.publicKey, {}, null);
    await opensWhatItWraps('kem-jwk');
    await opensWhatItWraps('kem-seed');
  });

  it('secrets as bytes and as JWK (oct)', async () => {
    const [key, mac] = [randomBytes(32), randomBytes(48)];
    writeFileSync(at('aes'), key);
    writeFileSync(at('oct.jwk'), JSON.stringify({ kty: 'oct', k: mac.toString('base64url') }));
    await importFile('aes', 'aes', 'A256GCM', true);
    await importFile('oct.jwk', 'mac', 'HS384');
    await opensWhatItWraps('aes');
    const made = await service.request('POST', '/v1/keys/mac/mac', { message: b64(MESSAGE) });
    const expected = createHmac('sha384', mac).update(MESSAGE).digest();
    expect(made.json['mac']).toBe(b64(expected));
  });
});

describe('the command', () => {
  const of = (file: string, ...more: string[]) => [file, '--suite', 'ECDSA-P256-SHA256', ...more];
  const imported = async (name: string) =>
    (await service.request('GET', `/v1/keys/${name}`)).status === 200;

  it('imports an encrypted key; a dry run imports nothing', async () => {
    p256('c.pem');
    openssl('pkcs8', '-topk8', '-in', 'c.pem', '-out', 'c.enc', ...PASS);
    const argv = of('c.enc', '--name', 'by-command', '--passphrase-file', at('words'));
    const dry = await twofold(...argv, '--dry-run');
    expect(dry).toEqual({ status: 0, out: 'by-command would be imported\n', err: '' });
    expect(await imported('by-command')).toBe(false);
    const made = await twofold(...argv, '--label', 'team=a', '--deletion-protection', '--publish');
    expect([made.status, made.err]).toEqual([0, '']);
    expect(made.out).toMatch(/^by-command is imported: [0-9a-f-]{36}\n$/u);
    await signsAs('by-command', publicPem('c.pem'));
    const { json } = await service.request('GET', '/v1/keys/by-command');
    expect(json).toMatchObject({
      origin: 'imported',
      labels: { team: 'a' },
      deletionProtection: true,
    });
  }, 30_000);

  it('says what is wrong with a stable code, and nothing of a secret', async () => {
    const pass = ['--passphrase-file', at('wrong')];
    const open = ['--passphrase-file', at('open')];
    writeFileSync(at('open'), WORDS, { mode: 0o644 });
    const wanted: readonly (readonly [string, readonly string[]])[] = [
      ['passphrase_wrong', of('c.enc', '--name', 'x', ...pass)],
      ['passphrase_needed', of('c.enc', '--name', 'x')],
      ['invalid_value', of('c.enc', '--name', 'x', ...open)],
      ['file_failed', of('absent', '--name', 'x')],
      ['key_unfit', ['c.pem', '--suite', 'RSA-PSS-2048-SHA256', '--name', 'x']],
      ['unknown_suite', ['c.pem', '--suite', 'nothing', '--name', 'x']],
      ['key_exists', of('c.pem', '--name', 'by-command')],
      ['invalid_value', of('c.pem', '--name', 'x', '--approval', 'y')],
    ];
    const ended = await Promise.all(wanted.map(([, argv]) => twofold(...argv)));
    for (const [at_, { status, out, err }] of ended.entries()) {
      expect([status, out, err]).toEqual([1, '', expect.stringContaining(`(${wanted[at_]?.[0]})`)]);
      expect(err).not.toContain('horse');
    }
    const unfit = ended[4]?.err ?? '';
    expect(unfit).toContain('is for one of: DHKEM-P256, ECDSA-P256-SHA256.');
    expect(await imported('x')).toBe(false);
    expect((await twofold()).status).toBe(1);
  }, 60_000);

  it('waits for an approval where a rule asks for one, and sends the same once it is given', async () => {
    const rule = '/v1/admin/approval-rules/imports';
    const made = await service.request('PUT', rule, { guards: ['keys.import'], needed: 1 });
    expect(made.status).toBe(200);
    const asked = await twofold(...of('c.pem', '--name', 'approved'));
    expect([asked.status, asked.out]).toEqual([3, '']);
    const [, kept = '', id = ''] = /--resume (\S+) --approval (\S+)/u.exec(asked.err) ?? [];
    const early = await twofold('--resume', kept, '--approval', id);
    expect(early.err).toContain('(approval_pending)');
    const issuer = await DevelopmentIssuer.open({ folder: service.dataDir, create: false });
    const other = { roles: ['admin'], ttlSeconds: 600, subject: 'somebody-else' };
    const { token } = await issuer.issueToken(other);
    const given = await service.request('POST', `/v1/admin/approvals/${id}/approve`, undefined, {
      role: null,
      headers: { authorization: `Bearer ${token}` },
    });
    expect(given.status).toBe(200);
    const done = await twofold('--resume', kept, '--approval', id);
    expect([done.status, done.err]).toEqual([0, '']);
    await signsAs('approved', publicPem('c.pem'));
    expect((await twofold('--resume', kept, '--approval', id)).err).toContain('(approval_used)');
  }, 60_000);

  it('asks for a passphrase on a terminal, and does not show it', () => {
    const argv = ['import', ...of('c.enc', '--name', 'typed'), '--url', service.url];
    const line = [command, ...argv, '--authorization', at('header')].join(' ');
    const run = spawnSync('script', ['-qec', line, '/dev/null'], {
      cwd: folder,
      env: { ...COMMAND_ENVIRONMENT, HOME: folder, TERM: 'dumb' },
      input: `${WORDS}x\x7f\n`,
      encoding: 'latin1',
    });
    expect(run.stdout).toContain('Passphrase: ');
    expect(run.stdout).toContain('typed is imported');
  }, 30_000);
});

describe('what is no private key', () => {
  const words = (text = WORDS) => ({
    raw: false,
    passphrase: () => Promise.resolve(Buffer.from(text)),
  });
  const codeOf = async (bytes: Uint8Array, options = words()) => {
    try {
      await readPrivateKey(bytes, options);
      return 'read';
    } catch (error) {
      return ClientError.is(error) ? error.code : String(error);
    }
  };

  it('is refused as what it is', async () => {
    const pem = readFileSync(at('p256.pem'), 'latin1');
    const jwk = jwkOf(pem);
    const texts = [
      '',
      'nothing',
      '{',
      '{"kty":"EC"}',
      JSON.stringify({ kty: 'oct', k: 'a+/=' }),
      JSON.stringify({ ...jwk, d: `${String(jwk.d)}=` }),
      JSON.stringify({ ...jwkOf(readFileSync(at('rsa.pem'), 'latin1')), oth: [] }),
      pem + pem,
      readFileSync(at('p256.crt'), 'latin1'),
      pem.replace(/[A-Za-z0-9+/]{10}/u, 'AAAAAAAAAA'),
      pem.replaceAll('PRIVATE KEY', 'OPENSSH PRIVATE KEY'),
    ];
    for (const text of texts) {
      expect([text.slice(0, 60), await codeOf(Buffer.from(text))]).toEqual([
        text.slice(0, 60),
        'key_unreadable',
      ]);
    }
    expect(await codeOf(Buffer.alloc(262_145, 0x30))).toBe('key_unreadable');
  });

  it('and a PKCS #12 file that was altered anywhere, or has another passphrase', async () => {
    const file = readFileSync(at('form-10'));
    expect(await codeOf(file)).toBe('read');
    expect(await codeOf(file, words('another'))).toBe('passphrase_wrong');
    const found = new Set<string>();
    for (let place = 0; place < file.length; place += 97) {
      found.add(await codeOf(file.map((byte, index) => (index === place ? byte ^ 0x40 : byte))));
      found.add(await codeOf(file.subarray(0, place)));
    }
    expect([...found].sort()).toEqual(['key_unreadable', 'passphrase_wrong']);
    openssl(
      'pkcs12',
      '-export',
      '-inkey',
      'p256.pem',
      '-nocerts',
      '-nomac',
      '-out',
      'nomac',
      ...PASS,
    );
    expect(await codeOf(readFileSync(at('nomac')))).toBe('key_unreadable');
  });
});
