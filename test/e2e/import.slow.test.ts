/**
 * `twofold import` beside a running service: keys that OpenSSL made, in every form and of every kind, come in
 * through SoftHSM and serve; and what is refused leaves nothing behind.
 */
import { execFile, spawn } from 'node:child_process';
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { randomBytes, sign, verify } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { DevelopmentIssuer } from '../../src/access/development-issuer.ts';
import { HttpConnection } from '../../src/client/http-connection.ts';
import { materialFor, prepareImport, sendImport } from '../../src/client/key-import.ts';
import { readPrivateKey } from '../../src/client/private-key-file.ts';
import { wipe } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { FORMS, jwkOf, makeForm, OpensslKeys, pqPem, WORDS } from '../client/openssl-keys.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { TestService } from './service.ts';

const command = join(import.meta.dirname, '../../scripts/twofold');
let service: TestService;
let keys: OpensslKeys;
let connection: HttpConnection;
const at = (name: string) => keys.at(name);

beforeAll(async () => {
  keys = new OpensslKeys();
  keys.write('wrong', 'incorrect\n');
  keys.write('open', WORDS, 0o644);
  service = await TestService.start();
  const token = await service.token('admin');
  keys.write('header', `Authorization: Bearer ${token}\n`);
  connection = new HttpConnection({
    url: new URL(service.url),
    authorization: () => `Bearer ${token}`,
  });
}, 90_000);
afterAll(async () => {
  connection.close();
  await service.destroy();
  keys.remove();
});

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

const run = (...argv: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    const env = { ...COMMAND_ENVIRONMENT, HOME: keys.folder };
    const child = execFile(command, argv, { cwd: keys.folder, env }, (_error, out, err) => {
      resolve({ status: child.exitCode, out, err });
    });
  });

const twofold = (...argv: string[]): Promise<Ended> =>
  run('import', ...argv, '--url', service.url, '--authorization', at('header'));

async function approve(id: string): Promise<void> {
  const issuer = await DevelopmentIssuer.open({ folder: service.dataDir, create: false });
  const other = { roles: ['admin'], ttlSeconds: 600, subject: 'somebody-else' };
  const { token } = await issuer.issueToken(other);
  const given = await service.request('POST', `/v1/admin/approvals/${id}/approve`, undefined, {
    role: null,
    headers: { authorization: `Bearer ${token}` },
  });
  expect(given.status).toBe(200);
}

/** As the command does it, in this process. */
async function importFile(file: string, name: string, suite: string, raw = false): Promise<void> {
  const words = () => Promise.resolve(Buffer.from(WORDS));
  const foreign = await readPrivateKey(keys.read(file), { raw, passphrase: words });
  const material = await materialFor(findSuite(suite), foreign);
  const request = await prepareImport(connection, 'default', { name }, material);
  wipe(material.key);
  const options = { dryRun: false, idempotencyKey: name };
  expect((await sendImport(connection, request, options)).kind).toBe('imported');
}

const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const MESSAGE = Buffer.from('signed inside');

/** Signs with the service, and has OpenSSL verify with the public key that was there before. */
async function signsAs(name: string, pem: string, digest: string | null = 'sha256'): Promise<void> {
  const { json } = await service.request('POST', `/v1/keys/${name}/sign`, {
    message: b64(MESSAGE),
  });
  const signature = Buffer.from(String(json['signature']), 'base64');
  const key = createPublicKey(pem);
  expect(verify(digest, MESSAGE, key, signature)).toBe(true);
}

async function opensWhatItWraps(name: string): Promise<void> {
  const plaintext = b64(MESSAGE);
  const wrapped = await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext });
  const { ciphertext } = wrapped.json;
  const opened = await service.request('POST', `/v1/keys/${name}/unwrap`, { ciphertext });
  expect(opened.json['plaintext']).toBe(plaintext);
}

describe('the forms of private keys', () => {
  it.each(FORMS)('$form', async (form) => {
    const name = form.form.toLowerCase().replaceAll(/[^a-z0-9]+/gu, '-');
    const suite = form.of === 'rsa' ? 'RSA-PKCS1-2048-SHA256' : 'ECDSA-P256-SHA256';
    await importFile(makeForm(keys, form), name, suite);
    await signsAs(name, keys.publicPem(`${form.of}.pem`));
  });
});

describe('the kinds of keys', () => {
  it.each([
    ['ECDSA-P384-SHA384', 'P-384', 'sha384'],
    ['ECDSA-P521-SHA512', 'P-521', 'sha512'],
  ])('%s signs', async (suite, curve, digest) => {
    keys.ec(curve, curve);
    await importFile(curve, suite.toLowerCase(), suite);
    await signsAs(suite.toLowerCase(), keys.publicPem(curve), digest);
  });

  it('DHKEM-P256 and RSA-OAEP unwrap what they wrap', async () => {
    keys.ec('P-256', 'agreement');
    keys.rsa('encryption');
    await importFile('agreement', 'dhkem', 'DHKEM-P256');
    await importFile('encryption', 'oaep', 'RSA-OAEP-2048-SHA256');
    await opensWhatItWraps('dhkem');
    await opensWhatItWraps('oaep');
  });

  it('seeds of ML-DSA, SLH-DSA and ML-KEM, as PKCS #8, JWK (AKP) and bytes', async () => {
    const [dsa, slh, kem] = [pqPem('ml-dsa-65'), pqPem('slh-dsa-sha2-128f'), pqPem('ml-kem-768')];
    keys.write('dsa', dsa.privateKey);
    keys.write('slh', slh.privateKey);
    keys.write('dsa.jwk', JSON.stringify({ ...jwkOf(dsa.privateKey), key_ops: ['sign'] }));
    // The name of draft-ietf-jose-hpke-pq-pqt.
    keys.write('kem.jwk', JSON.stringify({ ...jwkOf(kem.privateKey), alg: 'HPKE-12' }));
    const seed = createPrivateKey(kem.privateKey).export({ format: 'raw-seed' });
    keys.write('kem.seed', seed);
    await importFile('dsa', 'ml-dsa-pem', 'ML-DSA-65');
    await importFile('dsa.jwk', 'ml-dsa-jwk', 'ML-DSA-65');
    await importFile('slh', 'slh-dsa-pem', 'SLH-DSA-SHA2-128f');
    await importFile('kem.jwk', 'kem-jwk', 'ML-KEM-768');
    await importFile('kem.seed', 'kem-seed', 'ML-KEM-768', true);
    await signsAs('ml-dsa-pem', dsa.publicKey, null);
    await signsAs('ml-dsa-jwk', dsa.publicKey, null);
    await signsAs('slh-dsa-pem', slh.publicKey, null);
    await opensWhatItWraps('kem-jwk');
    await opensWhatItWraps('kem-seed');
  });

  it('secrets as bytes and as JWK (oct)', async () => {
    const [key, mac] = [randomBytes(32), randomBytes(48)];
    keys.write('aes', key);
    keys.write('oct.jwk', JSON.stringify({ kty: 'oct', k: mac.toString('base64url') }));
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
    keys.ec('P-256', 'c.pem');
    keys.encrypt('c.pem', 'c.enc');
    const argv = of('c.enc', '--name', 'by-command', '--passphrase-file', at('words'));
    const dry = await twofold(...argv, '--dry-run');
    expect(dry).toEqual({ status: 0, out: 'by-command would be imported\n', err: '' });
    expect(await imported('by-command')).toBe(false);
    const made = await twofold(...argv, '--label', 'team=a', '--deletion-protection', '--publish');
    expect([made.status, made.err]).toEqual([0, '']);
    expect(made.out).toMatch(/^by-command is imported: [0-9a-f-]{36}\n$/u);
    await signsAs('by-command', keys.publicPem('c.pem'));
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
    const wanted: readonly (readonly [string, readonly string[]])[] = [
      ['passphrase_wrong', of('c.enc', '--name', 'x', ...pass)],
      ['passphrase_needed', of('c.enc', '--name', 'x')],
      ['invalid_value', of('c.enc', '--name', 'x', ...open)],
      ['key_unfit', ['c.pem', '--suite', 'RSA-PSS-2048-SHA256', '--name', 'x']],
      ['key_exists', of('c.pem', '--name', 'by-command')],
    ];
    const ended = await Promise.all(wanted.map(([, argv]) => twofold(...argv)));
    for (const [at_, { status, out, err }] of ended.entries()) {
      expect([status, out, err]).toEqual([1, '', expect.stringContaining(`(${wanted[at_]?.[0]})`)]);
      expect(err).not.toContain('horse');
    }
    const unfit = ended[3]?.err ?? '';
    expect(unfit).toContain('is for one of: DHKEM-P256, ECDSA-P256-SHA256.');
    expect(await imported('x')).toBe(false);
  }, 60_000);

  it('asks for a passphrase on a terminal, and does not show it', async () => {
    const argv = ['import', ...of('c.enc', '--name', 'typed'), '--url', service.url];
    const line = [command, ...argv, '--authorization', at('header')].join(' ');
    const terminal = spawn('script', ['-qec', line, '/dev/null'], {
      cwd: keys.folder,
      env: { ...COMMAND_ENVIRONMENT, HOME: keys.folder, TERM: 'dumb' },
    });
    let shown = '';
    terminal.stdout.on('data', (piece: Buffer) => {
      if (!shown.includes('Passphrase: ') && piece.includes('Passphrase: ')) {
        // Typed once it is asked for; the last character is taken back.
        setTimeout(() => terminal.stdin.write(`${WORDS}\u00e4\x7f\r`), 300);
      }
      shown += piece.toString('latin1');
    });
    await once(terminal, 'close');
    expect(shown).toContain('typed is imported');
    expect(shown).not.toContain('horse');
  }, 30_000);

  it('waits for an approval where a rule asks for one, and sends the same once it is given', async () => {
    const rule = '/v1/admin/approval-rules/imports';
    const made = await service.request('PUT', rule, {
      guards: ['keys.import'],
      needed: 1,
      mayLockOut: true,
    });
    expect(made.status).toBe(200);
    const asked = await twofold(...of('c.pem', '--name', 'approved'));
    expect([asked.status, asked.out]).toEqual([3, '']);
    const [, kept = '', id = ''] = /--resume (\S+) --approval (\S+)/u.exec(asked.err) ?? [];
    const early = await twofold('--resume', kept, '--approval', id);
    expect(early.err).toContain('(approval_pending)');
    await approve(id);
    const done = await twofold('--resume', kept, '--approval', id);
    expect([done.status, done.err]).toEqual([0, '']);
    await signsAs('approved', keys.publicPem('c.pem'));
    // Whoever lost the answer asks again, and is given the same.
    expect(await twofold('--resume', kept, '--approval', id)).toEqual(done);
  }, 60_000);
});

describe('twofold export', () => {
  it('opens what its recipient was sent, and the key signs outside as it did inside', async () => {
    keys.ec('P-384', 'curve.pem');
    const mlKem = generateKeyPairSync('ml-kem-1024').privateKey;
    keys.write('ml-kem.pem', mlKem.export({ format: 'pem', type: 'pkcs8' }));
    const halves = ['--ml-kem', at('ml-kem.pem'), '--classical', at('curve.pem')];
    const described = await run('export', 'recipient', ...halves);
    expect([described.status, described.err]).toEqual([0, '']);
    const { suite, publicKey } = JSON.parse(described.out) as Record<string, string>;
    expect(suite).toBe('MLKEM1024-P384');

    const rule = { guards: ['keys.export'], needed: 1, mayLockOut: true };
    const rules = '/v1/admin/approval-rules/exports';
    const wanted = await service.request('PUT', rules, rule);
    if (wanted.status === 202) {
      // Under the rule that an earlier test made.
      await approve(String(wanted.json['id']));
      const agreed = { 'twofold-approval': String(wanted.json['id']) };
      expect((await service.request('PUT', rules, rule, { headers: agreed })).status).toBe(200);
    }
    const key = { name: 'leaving', suite: 'ML-DSA-65', exportable: true };
    expect((await service.request('POST', '/v1/admin/keys', key)).status).toBe(201);
    const path = '/v1/admin/keys/leaving/export';
    const body = { version: 1, recipient: { suite, publicKey } };
    const asked = await service.request('POST', path, body);
    expect(asked.status).toBe(202);
    const id = String(asked.json['id']);
    await approve(id);
    const headers = { 'twofold-approval': id };
    const answer = await service.request('POST', path, body, { headers });
    expect([answer.status, answer.json.code]).toEqual([200, undefined]);
    keys.write('answer.json', answer.bytes);

    const wrong = await run(
      'export',
      'open',
      'answer.json',
      ...halves.toSpliced(3, 1, at('p256.pem')),
      '--out',
      'x',
    );
    expect([wrong.status, wrong.out]).toEqual([1, '']);
    expect(wrong.err).toContain('(key_unfit)');
    const opened = await run('export', 'open', 'answer.json', ...halves, '--out', 'left.pem');
    expect([opened.status, opened.err]).toEqual([0, '']);
    const signature = b64(sign(null, MESSAGE, createPrivateKey(keys.text('left.pem'))));
    const message = b64(MESSAGE);
    const verified = await service.request('POST', '/v1/keys/leaving/verify', {
      message,
      signature,
    });
    expect(verified.json['valid']).toBe(true);
    const { json } = await service.request('GET', '/v1/keys/leaving');
    expect(json['exports']).toMatchObject([{ version: 1, approval: id, recipient: { suite } }]);
    const again = await run('export', 'open', 'answer.json', ...halves, '--out', 'left.pem');
    expect(again.err).toContain('(file_failed)');
  }, 60_000);
});
