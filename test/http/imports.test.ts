/** Import over HTTP: keys of OpenSSL's come in, serve, and are told apart for ever. */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  verify,
} from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { sealImport, wrapForHsm } from '../../src/crypto/import-envelope.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { FAULTS } from '../hsm/software-hsm.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

let service: Service;
/** Milliseconds by which the service's clock is ahead. */
let ahead = 0;
beforeAll(async () => {
  service = await openService({ clock: () => new Date(Date.now() + ahead) });
});
afterAll(() => service.stop());

const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const PKCS8 = { format: 'der', type: 'pkcs8' } as const;

interface Given {
  readonly id: string;
  readonly parameters: string;
  readonly envelope: { readonly publicKey: string };
  readonly importingKey: string | null;
  readonly expiresAt: string;
}

async function parametersOf(suite: string): Promise<Given> {
  const path = `/v1/admin/imports/parameters?suite=${suite}`;
  const { status, json } = await service.call('operator', 'GET', path);
  expect(status).toBe(200);
  return json as unknown as Given;
}

interface ToImport {
  readonly suite: string;
  /** PKCS #8, the secret, or the seed. */
  readonly key: Uint8Array;
  readonly publicKey: Uint8Array | null;
}

/** `alter`: what somebody puts in the place of the content. */
async function sealed(
  given: Given,
  { suite: id, key, publicKey }: ToImport,
  trailing = 0,
  alter = (content: Buffer) => content,
) {
  const suite = findSuite(id);
  const binding = { id: given.id, namespace: 'default', suite, publicKey };
  const secret = SecretBytes.copyOf(key);
  const { importingKey } = given;
  const inner =
    importingKey === null
      ? secret
      : SecretBytes.own(wrapForHsm(binding, Buffer.from(importingKey, 'base64'), secret));
  const whole = Buffer.concat([inner.reveal(), Buffer.alloc(trailing)]);
  const content = SecretBytes.own(alter(whole));
  const target = Buffer.from(given.envelope.publicKey, 'base64');
  return sealImport(nativeEngine, target, binding, content);
}

const body = (
  name: string,
  given: Given,
  { suite, publicKey }: ToImport,
  envelope: Uint8Array,
) => ({
  name,
  suite,
  parameters: given.parameters,
  envelope: b64(envelope),
  ...(publicKey === null ? {} : { publicKey: b64(publicKey) }),
});

const post = (json: object, query = '', headers = {}): Promise<Called> =>
  service.call('operator', 'POST', `/v1/admin/imports${query}`, { json, headers });

async function importKey(name: string, key: ToImport): Promise<Called> {
  const given = await parametersOf(key.suite);
  return post(body(name, given, key, await sealed(given, key)));
}

function ecKey(
  suite: string,
  namedCurve: string,
  bytes: number,
): ToImport & { pem: string | Buffer } {
  const pair = generateKeyPairSync('ec', { namedCurve });
  const spki = pair.publicKey.export({ format: 'der', type: 'spki' });
  const pem = pair.publicKey.export({ format: 'pem', type: 'spki' });
  return { suite, key: pair.privateKey.export(PKCS8), publicKey: spki.subarray(-bytes), pem };
}
const p256 = () => ecKey('ECDSA-P256-SHA256', 'prime256v1', 65);
const p384 = () => ecKey('ECDSA-P384-SHA384', 'secp384r1', 97);

function rsaKey(suite: string, publicExponent = 65_537): ToImport {
  const pair = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent });
  const publicKey = pair.publicKey.export({ format: 'der', type: 'pkcs1' });
  return { suite, key: pair.privateKey.export(PKCS8), publicKey };
}

async function seedKey(suite: string): Promise<ToImport> {
  const row = findSuite(suite);
  const pair =
    row.kind === 'kem'
      ? await nativeEngine.mlKem.generate('ML-KEM-768')
      : await nativeEngine.signatures.generate('ML-DSA-65');
  return { suite, key: Uint8Array.from(pair.seed.reveal()), publicKey: pair.publicKey };
}

const use = (path: string, json: object) => service.call('user', 'POST', path, { json });

describe('an imported key', () => {
  it('signs, and OpenSSL verifies; its origin is shown for ever, and not of what follows', async () => {
    const key = p256();
    const made = await importKey('signer', key);
    expect(made.status).toBe(201);
    expect(made.json).toMatchObject({ name: 'signer', origin: 'imported', primary: 1 });
    const id = made.headers.get('twofold-audit-id') ?? '';
    const entry = await service.call('auditor', 'GET', `/v1/audit/entries/${id}`);
    expect(entry.json).toMatchObject({
      operation: 'keys.import',
      outcome: 'ok',
      detail: { origin: 'imported', custody: 'hsm-wrapped' },
    });
    const message = Buffer.from('signed inside');
    const { json } = await use('/v1/keys/signer/sign', { message: b64(message) });
    const signature = Buffer.from(String(json['signature']), 'base64');
    expect(verify('sha256', message, createPublicKey(key.pem), signature)).toBe(true);
    await service.call('operator', 'POST', '/v1/admin/keys/signer/rotate', { json: {} });
    const version = async (number: number) =>
      (await service.call('user', 'GET', `/v1/keys/signer/versions/${String(number)}`)).json;
    expect(await version(1)).toMatchObject({
      origin: 'imported',
      halves: [{ origin: 'imported' }],
    });
    expect(await version(2)).toMatchObject({ origin: 'generated', halves: [{ origin: 'hsm' }] });
    const shown = await service.call('user', 'GET', '/v1/keys/signer');
    expect(shown.json).toMatchObject({ origin: 'imported', primary: 2 });
  });

  it.each([
    ['wraps with ML-KEM-768', () => seedKey('ML-KEM-768')],
    ['wraps with A256GCM', () => ({ suite: 'A256GCM', key: randomBytes(32), publicKey: null })],
    ['wraps with RSA', () => rsaKey('RSA-OAEP-2048-SHA256')],
    ['wraps with DHKEM-P384', () => ({ ...p384(), suite: 'DHKEM-P384' })],
  ] as const)('%s', async (name, make) => {
    const named = name.replaceAll(' ', '-').toLowerCase();
    expect((await importKey(named, await make())).status).toBe(201);
    const { json } = await use(`/v1/keys/${named}/wrap`, { plaintext: b64(Buffer.from('x')) });
    const opened = await use(`/v1/keys/${named}/unwrap`, { ciphertext: json['ciphertext'] });
    expect(opened.json['plaintext']).toBe(b64(Buffer.from('x')));
  });

  it.each([
    ['ECDSA-P384-SHA384', p384],
    ['RSA-PSS-2048-SHA256', () => rsaKey('RSA-PSS-2048-SHA256')],
    ['ML-DSA-65', () => seedKey('ML-DSA-65')],
  ] as const)('signs and verifies: %s', async (suite, make) => {
    const name = suite.toLowerCase();
    expect((await importKey(name, await make())).status).toBe(201);
    const message = b64(Buffer.from('m'));
    const { json } = await use(`/v1/keys/${name}/sign`, { message });
    const { signature } = json;
    expect((await use(`/v1/keys/${name}/verify`, { message, signature })).json['valid']).toBe(true);
  });

  it('makes MACs', async () => {
    const key = { suite: 'HS256', key: randomBytes(32), publicKey: null };
    expect((await importKey('mac', key)).status).toBe(201);
    expect((await use('/v1/keys/mac/mac', { message: b64(Buffer.from('m')) })).status).toBe(200);
  });
});

describe('what is refused', () => {
  const absent = async (name: string) =>
    expect((await service.call('user', 'GET', `/v1/keys/${name}`)).status).toBe(404);

  it('parameters that were used, also at the same time; a repeated request is answered again', async () => {
    const key = p256();
    const given = await parametersOf(key.suite);
    const envelope = await sealed(given, key);
    const headers = { 'idempotency-key': 'import-once' };
    const first = await post(body('once', given, key, envelope), '', headers);
    expect(first.status).toBe(201);
    const replayed = await post(body('once', given, key, envelope), '', headers);
    expect(replayed.headers.get('idempotency-replayed')).toBe('true');
    const again = await post(body('twice', given, key, envelope));
    expect(again.json['code']).toBe('import_parameters_used');
    const dry = await post(body('twice', given, key, envelope), '?dryRun=true');
    expect([dry.status, dry.json['code']]).toEqual([again.status, 'import_parameters_used']);
    expect(service.drafts.at(-1)).toMatchObject({ outcome: 'import_parameters_used' });
    await absent('twice');
    const other = await parametersOf(key.suite);
    const both = await sealed(other, key);
    const raced = await Promise.all(
      ['race-a', 'race-b'].map((name) => post(body(name, other, key, both))),
    );
    expect(raced.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 409]);
  });

  it('parameters that are late: an hour after they were given, and not before', async () => {
    const key = p256();
    const given = await parametersOf(key.suite);
    const envelope = await sealed(given, key);
    const expires = Date.parse(given.expiresAt) - Date.now();
    expect(expires / 60_000).toBeCloseTo(60, 0);
    try {
      ahead = expires + 1_000;
      const late = await post(body('late', given, key, envelope));
      expect([late.status, late.json['code']]).toEqual([409, 'import_parameters_expired']);
      expect(service.drafts.at(-1)).toMatchObject({ outcome: 'import_parameters_expired' });
      await absent('late');
      ahead = expires - 5_000;
      expect((await post(body('in-time', given, key, envelope))).status).toBe(201);
    } finally {
      ahead = 0;
    }
  });

  it('labels of a Kubernetes provider, of whatever form, which only changes of a key may make', async () => {
    const key = p256();
    const given = await parametersOf(key.suite);
    const envelope = await sealed(given, key);
    const proof = 'A'.repeat(43);
    for (const more of ['1', `1 retired=2 proof=${proof}`, '5 retired=4', '999999999', 'never']) {
      const labels = { 'kubernetes/c1': `provider=twofold announced=${more}` };
      const { json } = await post({ ...body('held', given, key, envelope), labels });
      expect(json['code']).toBe('invalid_value');
    }
    await absent('held');
  });

  it('parameters of another suite, namespace or service, altered, and malformed', async () => {
    const key = p256();
    const given = await parametersOf(key.suite);
    const envelope = await sealed(given, key);
    const foreign = await parametersOf('ECDSA-P384-SHA384');
    const bytes = Buffer.from(given.parameters, 'base64url');
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    const texts = [foreign.parameters, bytes.toString('base64url'), 'AA', `${given.parameters}A`];
    for (const parameters of texts) {
      const { json } = await post({ ...body('bad', given, key, envelope), parameters });
      expect(json['code']).toBe('import_parameters_invalid');
    }
    await absent('bad');
  });

  it('halves that do not match, other kinds, trailing bytes, damage, and a weak RSA key', async () => {
    const key = p256();
    const [other, seeds] = [p256(), await seedKey('ML-DSA-65')];
    const stranger = await seedKey('ML-DSA-65');
    const code = async (name: string, of: ToImport, trailing = 0) => {
      const given = await parametersOf(of.suite);
      const { json } = await post(body(name, given, of, await sealed(given, of, trailing)));
      return json['code'];
    };
    expect(await code('x', { ...key, publicKey: other.publicKey })).toBe('import_mismatch');
    expect(await code('x', { ...seeds, publicKey: stranger.publicKey })).toBe('import_mismatch');
    expect(await code('x', { ...key, key: p384().key })).toBe('import_invalid');
    expect(await code('x', { ...key, key: randomBytes(32) })).toBe('import_invalid');
    expect(await code('x', key, 1)).toBe('import_invalid');
    expect(await code('x', seeds, 1)).toBe('import_invalid');
    expect(await code('x', { ...seeds, key: randomBytes(31) })).toBe('import_invalid');
    expect(await code('x', rsaKey('RSA-PSS-3072-SHA256'))).toBe('invalid_value');
    expect(await code('x', rsaKey('RSA-PSS-2048-SHA256', 3))).toBe('invalid_value');
    expect(await code('x', { suite: 'A256GCM', key: randomBytes(16), publicKey: null })).toBe(
      'import_invalid',
    );
    const given = await parametersOf(key.suite);
    const envelope = await sealed(given, key);
    for (const at of [0, 1100, 1160, envelope.length - 1]) {
      const damaged = envelope.map((byte, index) => (index === at ? byte ^ 1 : byte));
      const { json } = await post(body('x', given, key, damaged));
      expect(json['code']).toBe('import_invalid');
    }
    expect((await post(body('x', given, other, envelope))).json['code']).toBe('import_invalid');
    const large = await post({ ...body('x', given, key, randomBytes(8193)) });
    expect(large.json['code']).toBe('invalid_value');
    // An ephemeral key that is no point of the curve, and one of another form.
    for (const [at, byte] of [
      [20, 0xff],
      [0, 0x02],
    ] as const) {
      const off = await sealed(given, key, 0, (content) => {
        content[at] = (content[at] ?? 0) ^ byte;
        return content;
      });
      const { json } = await post(body('x', given, key, off));
      expect([json['code'], json['detail']]).toEqual([
        'import_invalid',
        expect.stringContaining('no point of P-256'),
      ]);
    }
    await absent('x');
    // What was refused has used nothing up.
    expect((await post(body('x', given, key, envelope))).status).toBe(201);
  });

  it.each([
    ['MLKEM768-P256', 'import_not_offered'],
    ['MLDSA65-ECDSA-P256-SHA512', 'import_not_offered'],
    ['Ed25519', 'import_not_offered'],
    ['DHKEM-X25519', 'import_not_offered'],
    ['nothing', 'unknown_suite'],
  ])('the suite %s: %s', async (suite, code) => {
    const path = `/v1/admin/imports/parameters?suite=${suite}`;
    expect((await service.call('operator', 'GET', path)).json['code']).toBe(code);
  });

  it('whoever may not import', async () => {
    const path = '/v1/admin/imports/parameters?suite=A256GCM';
    expect((await service.call('user', 'GET', path)).status).toBe(403);
  });

  it.each([
    ['importKey', 'before', 'sessionLost'],
    ['importKey', 'after', 'sessionLost'],
    ['importKey', 'before', 'deviceMemory'],
    ['ecdh', 'before', 'sessionLost'],
    ['ecdh', 'before', 'busy'],
  ] as const)(
    'an import during which the HSM fails (%s, %s, %s) makes nothing, and can be sent again',
    async (call, when, fault) => {
      const key = p256();
      const given = await parametersOf(key.suite);
      const envelope = await sealed(given, key);
      const name = `away-${call.toLowerCase()}-${when}-${fault.toLowerCase()}`;
      service.world.device.hsm.inject({ call, when, error: FAULTS[fault] });
      const refused = await post(body(name, given, key, envelope));
      expect([refused.status, refused.json['code']]).toEqual([503, FAULTS[fault].code]);
      expect(service.drafts.at(-1)).toMatchObject({ outcome: FAULTS[fault].code });
      await absent(name);
      expect((await post(body(name, given, key, envelope))).status).toBe(201);
    },
  );

  it('a dry run opens no envelope and uses nothing up', async () => {
    const key = p256();
    const given = await parametersOf(key.suite);
    const envelope = await sealed(given, key);
    const dry = await post(body('dry', given, key, envelope), '?dryRun=true');
    expect(dry).toMatchObject({ status: 200, json: { dryRun: true } });
    expect((await post(body('dry', given, key, envelope))).status).toBe(201);
    expect(createPrivateKey({ key: Buffer.from(key.key), ...PKCS8 }).asymmetricKeyType).toBe('ec');
  });
});
