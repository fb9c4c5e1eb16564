import { createECDH, generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ROUTES } from '../../src/contract/routes.ts';
import type { RouteContract } from '../../src/contract/route.ts';
import { sealImport, wrapForHsm } from '../../src/crypto/import-envelope.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import type { LightKey, RotationScan } from '../../src/rotation/ports.ts';
import { policy } from '../keyring/policies.ts';
import { placeGeneration } from '../keyring/place-generation.ts';
import { openService } from './service.ts';
import { testChain } from './test-chain.ts';
import type { Called, Service } from './service.ts';

const b64 = (text: string) => Buffer.from(text).toString('base64');
const contractOf = (id: string): RouteContract => {
  const found = ROUTES.find((route) => route.id === id);
  if (found === undefined) throw new Error(`no route ${id}`);
  return found;
};

/** Examples of the API's document: long texts are cut, so that they can be read. */
const examples: Record<string, { request?: unknown; response?: unknown }> = {};
const LONGEST = 96;
const shortened = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_name, member: unknown) =>
      typeof member === 'string' && member.length > LONGEST
        ? `${member.slice(0, LONGEST)}…`
        : member,
    ),
  ) as unknown;

/** A value with its members and without its content. */
function formOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(formOf);
  if (typeof value !== 'object' || value === null) return value === null ? null : typeof value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, formOf(member)]));
}

/** Keeps the first exchange of each route. */
function record(id: string, request: unknown, { json }: Called): void {
  examples[id] ??= {
    ...(request === undefined ? {} : { request: shortened(request) }),
    response: shortened(json),
  };
}

/** The answer has the status and shape that the contract says. */
function expectContract(id: string, answer: Called, status?: number): void {
  const contract = contractOf(id);
  expect({ id, status: answer.status, body: answer.json }).toMatchObject({
    id,
    status: status ?? contract.status,
  });
  expect(contract.response.safeParse(answer.json)).toMatchObject({ success: true });
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.get('twofold-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  if (contract.plane !== 'public') {
    expect(answer.headers.get('twofold-audit-id')).toMatch(/^[1-9]\d*-[1-9]\d*$/);
  }
}

/** For the plan of rotations: a key that is due soon. */
const ONE_KEY: RotationScan = {
  async *keys() {
    const key: LightKey = {
      id: '7d3f1c52-8a35-4b0f-9c53-2f6f7a1e2b90',
      name: 'model-weights',
      purpose: 'wrap',
      labels: {},
      rotation: policy({ interval: 'P90D' }),
      rotationHold: null,
      suspended: false,
      primary: {
        suite: findSuite('MLKEM768-P256').number,
        activatedAt: Date.now() - 40 * 86_400_000,
        uses: 0,
        deactivateAt: null,
      },
      next: null,
      superseded: [],
    };
    yield await Promise.resolve([key]);
  },
};

/** Administrative routes that are no GET and have no dry run, and why. */
const WITHOUT_DRY_RUN = {
  sendRewrapItems: 'what it changes is how far its job is, and to answer items is to work on them',
};

const AUDIT_ID = /^[1-9]\d*-[1-9]\d*$/u;

interface GoOptions {
  readonly role?: string;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

describe('every route, as the contract says it', () => {
  let service: Service;
  const seen = new Set<string>();
  const triedDry = new Set<string>();

  /** The same change as a dry run: the contract's form, no approval needed, and nothing is changed. */
  const tryDry = async (
    id: string,
    path: string,
    init: { readonly json?: unknown; readonly headers?: Readonly<Record<string, string>> },
    role: string,
  ) => {
    const { method, response } = contractOf(id);
    const { audit } = service.world.store;
    const { epoch } = audit;
    const headers = { ...init.headers };
    delete headers['twofold-approval'];
    const dry = await service.call(role, method, `${path}?dryRun=true`, { ...init, headers });
    expect([id, dry.status, dry.json['dryRun']]).toEqual([id, 200, true]);
    expect([id, response.safeParse(dry.json)]).toMatchObject([id, { success: true }]);
    expect([id, audit.epoch]).toEqual([id, epoch]);
    triedDry.add(id);
  };

  const go = async (
    id: string,
    path: string,
    json?: unknown,
    { role = 'admin', status, headers }: GoOptions = {},
  ): Promise<Called> => {
    const { method, plane, query } = contractOf(id);
    const init = {
      ...(json === undefined ? {} : { json }),
      ...(headers === undefined ? {} : { headers }),
    };
    if (plane === 'admin' && 'dryRun' in query.shape && !path.includes('?')) {
      await tryDry(id, path, init, role);
    }
    const answer = await service.call(plane === 'public' ? null : role, method, path, init);
    expectContract(id, answer, status);
    // Whoever is told something is told where that is on record: of every route but the anonymous ones.
    const entry = answer.headers.get('twofold-audit-id');
    expect([id, entry]).toEqual([id, plane === 'public' ? null : expect.stringMatching(AUDIT_ID)]);
    seen.add(id);
    record(id, json, answer);
    return answer;
  };

  beforeAll(async () => {
    service = await openService({
      scan: ONE_KEY,
      publicCheckpoint: 'shown to anybody\n',
      budgets: { perMinute: 600, storageBytes: 1_000, hsmMsPerDay: 3_600_000 },
    });
    const suites = {
      wrap: 'MLKEM768-P256',
      box: 'A256GCM',
      sign: 'MLDSA65-ECDSA-P256-SHA512',
      mac: 'HS256',
    };
    for (const [name, suite] of Object.entries(suites)) {
      await go('createKey', '/v1/admin/keys', { name, suite });
    }
    await go('createKey', '/v1/admin/keys', {
      name: 'kem',
      suite: 'MLKEM768-X25519',
      purpose: 'kem',
      custody: 'hsm-token',
    });
  });
  afterAll(() => service.stop());

  it('health, readiness, document', async () => {
    await go('health', '/healthz');
    await go('ready', '/readyz');
    const document = await service.call(null, 'GET', '/openapi.yaml');
    expect(document.headers.get('content-type')).toBe('application/yaml');
    seen.add('openapi');
  });

  it('whoami, suites, random', async () => {
    const { json } = await go('whoami', '/v1/whoami', undefined, { role: 'auditor' });
    expect(json).toMatchObject({ roles: ['auditor'], namespace: 'default', method: 'jwt' });
    const { json: suites } = await go('listSuites', '/v1/suites');
    expect((suites['items'] as unknown[]).length).toBeGreaterThanOrEqual(7);
    expect((suites['notOffered'] as unknown[]).length).toBeGreaterThan(3);
    await go('getSuite', '/v1/suites/MLKEM768-P256');
    const { json: random } = await go('random', '/v1/random', { bytes: 48 });
    expect(Buffer.from(random['random'] as string, 'base64')).toHaveLength(48);
  });

  it('wraps, unwraps, rewraps, across a rotation', async () => {
    const binding = { encryptionContext: { tenant: 'a' }, aad: b64('aad') };
    const { json: wrapped } = await go('wrap', '/v1/keys/wrap/wrap', {
      plaintext: b64('data key'),
      ...binding,
    });
    expect(wrapped).toMatchObject({ key: 'wrap', keyVersion: 1, refreshAfter: null });
    const { ciphertext } = wrapped;
    const rotated = await go('rotateKey', '/v1/admin/keys/wrap/rotate', {});
    expect(rotated.json).toMatchObject({ primary: 2, latestVersion: 2 });
    const opened = await go('unwrap', '/v1/keys/wrap/unwrap', { ciphertext, ...binding });
    expect(opened.json).toMatchObject({
      plaintext: b64('data key'),
      origin: 'service',
      keyVersion: 1,
    });
    const moved = await go('rewrap', '/v1/keys/wrap/rewrap', { ciphertext, ...binding });
    expect(moved.json).toMatchObject({ changed: true, keyVersion: 2 });
    const other = await go('rewrap', '/v1/keys/wrap/rewrap', { ciphertext, to: 'box', ...binding });
    expect(other.json).toMatchObject({ changed: true, key: 'box', suite: 'A256GCM' });
    expect(service.drafts.at(-1)).toMatchObject({ operation: 'rewrap', detail: { to: 'box' } });
    expect(service.drafts.at(-1)?.contextKeys).toEqual(['tenant']);
  });

  it('data keys', async () => {
    const { json } = await go('createDataKey', '/v1/keys/wrap/data-keys', { bytes: 32 });
    const { json: opened } = await go('unwrap', '/v1/keys/wrap/unwrap', {
      ciphertext: json['ciphertext'],
    });
    expect(opened['plaintext']).toBe(json['plaintext']);
    const hidden = await go('createWrappedDataKey', '/v1/keys/wrap/data-keys/wrapped', {
      bytes: 32,
    });
    expect(hidden.json).not.toHaveProperty('plaintext');
  });

  it('key agreement', async () => {
    const { json: made } = await go('encapsulate', '/v1/keys/kem/encapsulate', {});
    const { json: derived } = await go('decapsulate', '/v1/keys/kem/decapsulate', {
      encapsulation: made['encapsulation'],
      keyVersion: made['keyVersion'],
    });
    expect(derived['sharedSecret']).toBe(made['sharedSecret']);
  });

  it('signatures and MACs', async () => {
    const message = b64('a message');
    const { json: signed } = await go('sign', '/v1/keys/sign/sign', { message });
    const checked = { message, signature: signed['signature'] };
    expect((await go('verify', '/v1/keys/sign/verify', checked)).json['valid']).toBe(true);
    const other = { ...checked, message: b64('another') };
    expect((await go('verify', '/v1/keys/sign/verify', other)).json['valid']).toBe(false);
    const { json: formed } = await go('sign', '/v1/keys/sign/sign', { message, format: 'jws' });
    const { jws } = formed;
    expect((await go('verify', '/v1/keys/sign/verify', { jws })).json['valid']).toBe(true);
    const { json: made } = await go('mac', '/v1/keys/mac/mac', { message });
    const mac = { message, mac: made['mac'] };
    expect((await go('verifyMac', '/v1/keys/mac/verify-mac', mac)).json['valid']).toBe(true);
  });

  it('certification requests, and signatures by several keys', async () => {
    const { json } = await go('requestCertificate', '/v1/keys/sign/csr', {
      subject: [{ C: 'FI' }, { CN: 'release' }],
      alternativeNames: [{ uri: 'spiffe://example.org/release' }],
    });
    expect(json['csr']).toMatch(/^-----BEGIN CERTIFICATE REQUEST-----\n/);
    await go('createKey', '/v1/admin/keys', { name: 'sign2', suite: 'MLDSA87-ECDSA-P384-SHA512' });
    const { json: signed } = await go('signParallel', '/v1/sign-parallel', {
      keys: [{ key: 'sign' }, { key: 'sign2', keyVersion: 1 }],
      message: b64('a message'),
    });
    expect(signed['keys']).toMatchObject([{ key: 'sign' }, { key: 'sign2' }]);
  });

  it('a key comes in from outside', async () => {
    const path = '/v1/admin/imports/parameters?suite=A256GCM';
    const { json: given } = await go('importParameters', path);
    const suite = findSuite('A256GCM');
    const binding = { id: String(given['id']), namespace: 'default', suite, publicKey: null };
    const importing = Buffer.from(String(given['importingKey']), 'base64');
    const key = SecretBytes.copyOf(Buffer.alloc(32, 7));
    const content = SecretBytes.own(wrapForHsm(binding, importing, key));
    const { publicKey } = given['envelope'] as { readonly publicKey: string };
    const target = Buffer.from(publicKey, 'base64');
    const envelope = await sealImport(nativeEngine, target, binding, content);
    const { json } = await go('importKey', '/v1/admin/imports', {
      name: 'imported',
      suite: suite.id,
      parameters: given['parameters'],
      envelope: Buffer.from(envelope).toString('base64'),
    });
    expect(json).toMatchObject({ name: 'imported', origin: 'imported' });
  });

  it('batches answer in order with refs and per-item errors', async () => {
    const items = [
      { ref: 'one', plaintext: b64('1'), encryptionContext: { n: '1' } },
      { plaintext: b64('2') },
      { ref: 'three', plaintext: b64('3'), keyVersion: 99 },
    ];
    const { json: wrapped } = await go('wrapBatch', '/v1/keys/wrap/wrap/batch', { items });
    const results = wrapped['results'] as Record<string, unknown>[];
    expect(results.map(({ ref }) => ref)).toEqual(['one', null, 'three']);
    expect(results[2]).toMatchObject({ error: { code: 'version_not_found', status: 404 } });
    const draft = service.drafts.at(-1);
    expect(draft?.items.map(({ outcome }) => outcome)).toEqual(['ok', 'ok', 'version_not_found']);
    expect(draft?.items.every(({ hash }) => hash.length === 16)).toBe(true);
    expect(draft?.contextKeys).toEqual(['n']);

    const ciphertexts = results.slice(0, 2).map(({ ciphertext }) => ({ ciphertext }));
    const { json: opened } = await go('unwrapBatch', '/v1/keys/wrap/unwrap/batch', {
      items: [ciphertexts[1], { ...ciphertexts[0], encryptionContext: { n: '1' } }, ciphertexts[0]],
    });
    const [second, first, bad] = opened['results'] as Record<string, unknown>[];
    expect(second?.['plaintext']).toBe(b64('2'));
    expect(first?.['plaintext']).toBe(b64('1'));
    expect(bad).toMatchObject({ error: { code: 'decryption_failed' } });
    await go('rewrapBatch', '/v1/keys/wrap/rewrap/batch', { items: [ciphertexts[1]] });

    const message = b64('m');
    const { json: signed } = await go('signBatch', '/v1/keys/sign/sign/batch', {
      items: [{ message }, { message, signatureContext: b64('c') }],
    });
    const [plain] = signed['results'] as Record<string, unknown>[];
    const { json: verified } = await go('verifyBatch', '/v1/keys/sign/verify/batch', {
      items: [{ message, signature: plain?.['signature'] }],
    });
    expect(verified['results']).toMatchObject([{ valid: true }]);
    const { json: macs } = await go('macBatch', '/v1/keys/mac/mac/batch', { items: [{ message }] });
    const [mac] = macs['results'] as Record<string, unknown>[];
    const { json: checked } = await go('verifyMacBatch', '/v1/keys/mac/verify-mac/batch', {
      items: [{ message, mac: mac?.['mac'] }],
    });
    expect(checked['results']).toMatchObject([{ valid: true }]);
  });

  it('the life of versions, and destruction', async () => {
    const reason = { reason: 'a drill' };
    const life = '/v1/admin/keys/life';
    await go('createKey', '/v1/admin/keys', { name: 'life', suite: 'HS256' });
    const activateAt = '2050-01-01T00:00:00Z';
    const made = await go('rotateKey', `${life}/rotate`, { activateAt });
    expect(made.json).toMatchObject({ primary: 1, latestVersion: 2 });
    const timed = await go('scheduleVersion', `${life}/versions/2/schedule`, { activateAt: null });
    expect(timed.json).toMatchObject({ state: 'pre-active', activateAt: null });
    const activated = await go('activateVersion', `${life}/versions/2/activate`, reason);
    expect(activated.json).toMatchObject({ state: 'active', primary: true });
    const ended = await go('deactivateVersion', `${life}/versions/1/deactivate`, reason);
    expect(ended.json).toMatchObject({ state: 'deactivated' });
    const version = `${life}/versions/1/destruction`;
    const match = { headers: { 'if-match': String(ended.headers.get('etag')) } };
    const pending = await go('putVersionDestruction', version, { after: 'P30D', ...reason }, match);
    expect(pending.json).toMatchObject({ copies: { backupsUntil: null, rootGeneration: 1 } });
    const later = { headers: { 'if-match': String(pending.headers.get('etag')) } };
    const kept = await go('deleteVersionDestruction', version, undefined, later);
    expect(kept.json).toMatchObject({ destruction: null });
    const fallen = await go('compromiseVersion', `${life}/versions/2/compromise`, reason);
    expect(fallen.json).toMatchObject({
      state: 'compromised',
      replacement: { method: 'POST', path: `${life}/rotate` },
    });
    const whole = { headers: { 'if-match': String(fallen.headers.get('etag')) } };
    const doomed = await go('putKeyDestruction', `${life}/destruction`, reason, whole);
    expect(doomed.json).toMatchObject({ state: 'pending-destruction', primary: null });
    const last = { headers: { 'if-match': String(doomed.headers.get('etag')) } };
    const saved = await go('deleteKeyDestruction', `${life}/destruction`, undefined, last);
    expect(saved.json).toMatchObject({ state: 'enabled', destruction: null });
  });

  it('keeps certificate chains beside versions', async () => {
    const { json: key } = await go('getPublicKey', '/v1/keys/sign/public-key?format=raw');
    const pem = testChain(String(key['suite']), String(key['raw'])).join('');
    const chain = '/v1/admin/keys/sign/versions/1/certificate-chain';
    const put = await go('putCertificateChain', chain, { pem });
    expect(put.json['certificateChain']).toMatch(/^[0-9a-f]{64}$/);
    const read = await go('getCertificateChain', '/v1/keys/sign/versions/1/certificate-chain');
    expect(read.json).toMatchObject({ pem, endsInRoot: true, fullyVerified: true });
    const deleted = await go('deleteCertificateChain', chain);
    expect(deleted.json['certificateChain']).toBeNull();
  });

  it('shows the keys that are published', async () => {
    await go('updateKey', '/v1/admin/keys/sign2', { publish: true });
    const set = await service.call(null, 'GET', '/public/default/sign2/jwks.json');
    const { keys } = JSON.parse(set.text) as { keys: unknown[] };
    expect(keys).toMatchObject([{ kty: 'AKP', alg: 'ML-DSA-87-ES384' }]);
    seen.add('publishedJwks');
    const pem = await service.call(null, 'GET', '/public/default/sign2/key.pem');
    expect(pem.text).toMatch(/^-----BEGIN PUBLIC KEY-----\n/);
    seen.add('publishedPem');
  });

  it('gives keys further names, and says which version protects', async () => {
    const alias = '/v1/admin/keys/box/aliases/vault';
    await go('createKey', '/v1/admin/keys', { name: 'other', suite: 'A256GCM' });
    await go('putAlias', '/v1/admin/keys/other/aliases/vault', {});
    expect((await go('putAlias', alias, { from: 'other' })).json['aliases']).toEqual(['vault']);
    const { headers } = await go('rotateKey', '/v1/admin/keys/vault/rotate', {});
    const primary = await go(
      'setPrimary',
      '/v1/admin/keys/box/primary',
      { version: 1, reason: 'a consumer broke' },
      { headers: { 'if-match': headers.get('etag') ?? '' } },
    );
    expect(primary.json).toMatchObject({ primary: 1, latestVersion: 2 });
    expect((await go('deleteAlias', alias)).json['aliases']).toEqual([]);
  });

  it('gives keys rotation policies of their own', async () => {
    const path = '/v1/admin/keys/other/rotation-policy';
    const etag = async () =>
      (await service.call('admin', 'GET', '/v1/keys/other')).headers.get('etag') ?? '';
    const terms = { interval: 'P90D', retire: { keepVersions: 3 }, notice: 'P14D' };
    const headers = { 'if-match': await etag() };
    const { json } = await go('putRotationPolicy', path, terms, { headers });
    expect(json['rotation']).toMatchObject({ interval: 'P90D', paused: null });
    const reason = { reason: 'end of quarter' };
    const paused = await go('pauseRotationPolicy', `${path}/pause`, reason);
    expect(paused.json['rotation']).toMatchObject({ paused: reason });
    const resumed = await go('resumeRotationPolicy', `${path}/resume`, reason);
    expect(resumed.json['rotation']).toMatchObject({ paused: null });
    const { json: rotation } = await go('getRotation', path);
    expect(rotation).toMatchObject({ effective: { source: 'key' }, reason: 'own', late: false });
    expect((await go('listRotations', '/v1/admin/keys/other/rotations')).json['items']).toEqual([]);
    const deleted = await go('deleteRotationPolicy', path, undefined, {
      headers: { 'if-match': await etag() },
    });
    expect(deleted.json['rotation']).toBeNull();
  });

  it('forecasts what will rotate', async () => {
    const { json } = await go('getRotationPlan', '/v1/admin/rotation-plan?days=90');
    expect(json).toMatchObject({ total: { rotations: 1 }, warnings: [{ kind: 'storage' }] });
  });

  it('waits for the consent of others where a rule says so', async () => {
    const rule = '/v1/admin/approval-rules/unprotect';
    const terms = { guards: ['keys.unprotect'], needed: 1, expiresAfter: 'P2D' };
    const guard = { ...terms, mayLockOut: true };
    const { json, headers } = await go('putApprovalRule', rule, guard);
    expect((await go('getApprovalRule', rule)).json).toEqual(json);
    expect((await go('listApprovalRules', '/v1/admin/approval-rules')).json['items']).toEqual([
      json,
    ]);
    const other = { authorization: `Bearer ${await service.token('admin', 3600, 'second')}` };
    const ask = async (label: string) => {
      const change = { deletionProtection: false, labels: { label } };
      const asked = await service.call('admin', 'PATCH', '/v1/admin/keys/box', { json: change });
      expect([asked.status, asked.json['state']]).toEqual([202, 'pending']);
      return `/v1/admin/approvals/${String(asked.json['id'])}`;
    };
    const [first, second] = [await ask('a'), await ask('b')];
    expect((await go('getApproval', first)).json).toMatchObject({ state: 'pending' });
    await go('approveApproval', `${first}/approve`, undefined, { headers: other });
    const listed = await go('listApprovals', '/v1/admin/approvals?state=approved');
    expect(listed.json['items']).toMatchObject([{ needed: [{ needed: 1, approved: 1 }] }]);
    const reason = { reason: 'not this one' };
    const local = await go('listLocalTokens', '/v1/admin/local-tokens');
    expect(local.json['items']).toEqual([]);
    await go('denyApproval', `${first}/deny`, reason, { headers: other });
    await go('withdrawApproval', `${second}/withdraw`, reason);
    const tag = { 'if-match': headers.get('etag') ?? '' };
    const end = await service.call('admin', 'DELETE', rule, { headers: tag });
    const id = String(end.json['id']);
    await go('approveApproval', `/v1/admin/approvals/${id}/approve`, undefined, { headers: other });
    const gone = { ...tag, 'twofold-approval': id };
    const { json: deleted } = await go('deleteApprovalRule', rule, undefined, { headers: gone });
    expect(deleted).toMatchObject({ deleted: true });
  });

  it('a key leaves, sealed to its recipient and approved', async () => {
    const rule = { guards: ['keys.export'], needed: 1, mayLockOut: true };
    const rulePath = '/v1/admin/approval-rules/exports';
    const made = await go('putApprovalRule', rulePath, rule);
    const key = { name: 'leaving', suite: 'ML-DSA-65', exportable: true };
    await go('createKey', '/v1/admin/keys', key);
    const pq = await nativeEngine.mlKem.generate('ML-KEM-768');
    const publicKey = Buffer.concat([pq.publicKey, createECDH('prime256v1').generateKeys()]);
    const recipient = { suite: 'MLKEM768-P256', publicKey: publicKey.toString('base64') };
    const body = { version: 1, recipient };
    const path = '/v1/admin/keys/leaving/export';
    const asked = await service.call('admin', 'POST', path, { json: body });
    const id = String(asked.json['id']);
    const other = { authorization: `Bearer ${await service.token('admin', 3600, 'second')}` };
    await go('approveApproval', `/v1/admin/approvals/${id}/approve`, undefined, { headers: other });
    const { json } = await go('exportKey', path, body, { headers: { 'twofold-approval': id } });
    expect(json).toMatchObject({ key: 'leaving', recipient: { suite: 'MLKEM768-P256' } });
    // While it stands, issuers, policies and denials would wait for others too.
    const tag = { 'if-match': made.headers.get('etag') ?? '' };
    const end = await service.call('admin', 'DELETE', rulePath, { headers: tag });
    const ending = String(end.json['id']);
    const consent = `/v1/admin/approvals/${ending}/approve`;
    await service.call(null, 'POST', consent, { headers: other });
    const gone = { ...tag, 'twofold-approval': ending };
    expect((await service.call('admin', 'DELETE', rulePath, { headers: gone })).status).toBe(200);
  });

  it('gives keys of a namespace policies by their labels', async () => {
    const path = '/v1/admin/rotation-policies/gold';
    const terms = { selector: { tier: 'gold' }, priority: 10, interval: 'P90D' };
    const { json, headers } = await go('putNamespacePolicy', path, terms);
    expect(json).toMatchObject({ name: 'gold', priority: 10, policy: { interval: 'P90D' } });
    const read = await go('getNamespacePolicy', path);
    expect(read.headers.get('etag')).toBe(headers.get('etag'));
    expect(read.json).toEqual(json);
    const reason = { reason: 'end of quarter' };
    await go('pauseNamespacePolicy', `${path}/pause`, reason);
    const resumed = await go('resumeNamespacePolicy', `${path}/resume`, reason);
    const list = await go('listRotationPolicies', '/v1/admin/rotation-policies');
    expect(list.json['items']).toEqual([resumed.json]);
    const deleted = await go('deleteNamespacePolicy', path, undefined, {
      headers: { 'if-match': resumed.headers.get('etag') ?? '' },
    });
    expect(deleted.json).toMatchObject({ name: 'gold', deleted: true });
  });

  it('makes namespaces and ends their use', async () => {
    const path = '/v1/admin/namespaces';
    const made = await go('createNamespace', path, { name: 'research', description: 'Models.' });
    expect((await go('getNamespace', `${path}/research`)).json).toEqual(made.json);
    const reason = { reason: 'moved away' };
    await go('suspendNamespace', `${path}/research/suspend`, reason);
    const resumed = await go('resumeNamespace', `${path}/research/resume`, reason);
    const list = await go('listNamespaces', path);
    expect(list.json['items']).toMatchObject([{ name: 'default' }, resumed.json]);
    const removed = await go('deleteNamespace', `${path}/research`);
    expect(removed.json).toMatchObject({ name: 'research', deleted: true, removed: {} });
  });

  it('orders rotations of many keys', async () => {
    const order = { selector: { labels: { team: 'storage' } }, reason: 'a leaked backup' };
    const { json } = await go('orderRotations', '/v1/admin/rotations', order, { status: 202 });
    expect(json).toMatchObject({ kind: 'rotation', state: 'running' });
    const failures = `/v1/admin/operations/${String(json['id'])}/failures`;
    await go('listOrderFailures', failures);
    const reason = { reason: 'end of year' };
    const paused = await go('pauseRotations', '/v1/admin/rotations/pause', reason);
    expect(paused.json).toMatchObject({ paused: reason });
    const { json: pause } = await go('getRotationPause', '/v1/admin/rotations/pause');
    expect(pause).toEqual(paused.json);
    await go('resumeRotations', '/v1/admin/rotations/resume', reason);
    await go('listNamespaceRotations', '/v1/admin/rotations?state=failing');
  });

  it('rotates the root', async () => {
    await placeGeneration(service.world, 2);
    const path = '/v1/admin/root/rotations';
    const reason = { reason: 'every five years' };
    const { json, headers } = await go('rotateRoot', path, reason, { status: 201 });
    const one = `${path}/${String(json['id'])}`;
    expect(headers.get('location')).toBe(one);
    expect(json).toMatchObject({ kind: 'root-rotation', root: { generation: 2 } });
    expect((await go('getRootRotation', one)).json).toEqual(json);
    expect((await go('listRootRotations', path)).json['items']).toEqual([json]);
    const root = await go('getRoot', '/v1/admin/root');
    expect(root.json).toMatchObject({ inForce: 2, generations: [{ state: 'retiring' }, {}] });
  });

  it('takes a backup', async () => {
    const path = '/v1/admin/backups';
    const looked = await go('takeBackup', `${path}?dryRun=true`, {}, { status: 200 });
    expect(looked.json).toMatchObject({ dryRun: true, entries: 'tail' });
    const { json, headers } = await go('takeBackup', path, { entries: 'tail' }, { status: 201 });
    const one = `${path}/${String(json['id'])}`;
    expect(headers.get('location')).toBe(one);
    expect(json).toMatchObject({ state: 'running', verified: false });
    const found = await go('getBackup', one);
    expect(found.json).toMatchObject({ state: 'succeeded', verified: true, keys: 10_000 });
    expect((await go('listBackups', path)).json['items']).toMatchObject([{ id: json['id'] }]);
  });

  it('denies credentials and takes denials back', async () => {
    const path = '/v1/admin/denials';
    const lost = { tokenId: '0b1f3c5e', reason: 'sent to the wrong address' };
    const made = await go('createDenial', path, lost);
    const one = `${path}/${String(made.json['id'])}`;
    expect((await go('getDenial', one)).json).toEqual(made.json);
    expect((await go('listDenials', path)).json['items']).toEqual([made.json]);
    expect((await go('deleteDenial', one)).json).toMatchObject({ deleted: true });
  });

  it('limits a namespace', async () => {
    await go('ownLimits', '/v1/limits');
    const path = '/v1/admin/limits';
    const limits = { principal: { use: { perMinute: 6_000 } }, quotas: { keys: 1_000 } };
    const made = await go('putLimits', path, limits);
    expect((await go('getLimits', path)).json).toMatchObject(made.json);
  });

  it('lets issuers in', async () => {
    const path = '/v1/admin/issuers/partner';
    const { publicKey } = generateKeyPairSync('ed25519');
    const made = await go('putIssuer', path, {
      issuer: 'https://issuer.example',
      audience: 'kms',
      algorithms: ['EdDSA'],
      jwks: { keys: [publicKey.export({ format: 'jwk' })] },
    });
    expect((await go('getIssuer', path)).json).toEqual(made.json);
    const { items } = (await go('listIssuers', '/v1/admin/issuers')).json;
    expect(items).toMatchObject([{ source: 'configuration' }, { name: 'partner' }]);
    expect((await go('deleteIssuer', path)).json).toMatchObject({ deleted: true });
  });

  it('keeps policies, and asks what they permit', async () => {
    const path = '/v1/admin/policies';
    await go('getPolicySchema', '/v1/policy-schema');
    const template = { name: 'admin', principal: { role: 'admin' } };
    await go('putPolicy', `${path}/role-admin`, { description: 'Administrators.', template });
    const { headers } = await go('getPolicy', `${path}/role-admin`);
    await go('putPolicy', `${path}/no-random`, {
      cedar: 'forbid (principal in Role::"guest", action == Action::"random", resource);',
    });
    const list = await go('listPolicies', path);
    expect(list.json['items']).toMatchObject([{ name: 'no-random' }, { name: 'role-admin' }]);
    const { headers: one } = await go('getPolicy', `${path}/no-random`);
    await go('deletePolicy', `${path}/no-random`, undefined, {
      headers: { 'if-match': one.get('etag') ?? '' },
    });
    const revisions = '/v1/admin/policy-revisions';
    const history = await go('listPolicyRevisions', revisions);
    expect(history.json['items']).toHaveLength(3);
    await go('diffPolicies', `${revisions}/1/diff/2`);
    const back = await go('rollBackPolicies', `${revisions}/2/roll-back`, undefined, {
      headers: { 'if-match': '"3"' },
    });
    expect(back.json).toMatchObject({ setRevision: 4, changes: [{ name: 'no-random' }] });
    expect(headers.get('etag')).toBe('"1"');
    await go('askAccess', '/v1/authorize', { operation: 'keys.read', key: 'wrap' });
    await go('replayPolicies', '/v1/audit/policy-replays', { changes: [{ name: 'role-admin' }] });
  });

  it('lends uses of a key, and ends that', async () => {
    const path = '/v1/admin/keys/wrap/grants';
    const body = {
      grantee: { issuer: 'https://issuer.example', subject: 'trainer' },
      operations: ['wrap', 'unwrap'],
      encryptionContext: { kind: 'includes', pairs: { run: '17' } },
      expiresAt: new Date(Date.now() + 86_400_000).toISOString(),
      name: 'training run 17',
    };
    const made = await go('createGrant', path, body);
    const id = String(made.json['id']);
    const shown = { ...made.json };
    delete shown['ended'];
    expect((await go('getGrant', `${path}/${id}`)).json).toEqual(shown);
    expect((await go('listGrants', path)).json['items']).toEqual([shown]);
    await go('retireGrant', `${path}/${id}/retire`);
    const again = await go('createGrant', path, body);
    await go('revokeGrant', `${path}/${String(again.json['id'])}`);
  });

  it('reads keys, versions and public keys', async () => {
    const { json, headers } = await go('getKey', '/v1/keys/wrap');
    expect(headers.get('etag')).toBe(`"${String(json['revision'])}"`);
    await go('getKey', `/v1/keys/${String(json['id'])}`);
    const { json: versions } = await go('listVersions', '/v1/keys/wrap/versions');
    const [version] = versions['items'] as Record<string, unknown>[];
    expect(version?.['halves']).toMatchObject([
      { half: 'post-quantum', custody: 'sealed', algorithm: 'ML-KEM-768' },
      { half: 'classical', custody: 'hsm-wrapped', extractable: 'no' },
    ]);
    await go('getVersion', '/v1/keys/wrap/versions/1');
    const { json: used } = await go('listVersionUses', '/v1/admin/keys/wrap/versions');
    const [first] = used['items'] as Record<string, unknown>[];
    expect(first).toMatchObject({ version: 1, gcm: null });
    const { json: users } = await go(
      'listVersionUsers',
      '/v1/admin/keys/wrap/versions/1/uses?pageSize=1',
    );
    expect(users['items']).toMatchObject([{ principal: { subject: 'development-admin' } }]);
    for (const format of ['pem', 'jwk', 'raw']) {
      const { json: found } = await go('getPublicKey', `/v1/keys/wrap/public-key?format=${format}`);
      expect(found).toHaveProperty(format);
      expect(found['offline']).toMatchObject({ hpke: { kem: 0x50, kdf: 0x11, aead: 2 } });
    }
    expect((await go('getPublicKey', '/v1/keys/sign/public-key')).json['offline']).toBeNull();
    const { json: set } = await go('getJwks', '/v1/keys/sign/jwks');
    expect(set['keys']).toMatchObject([{ kty: 'AKP', alg: 'ML-DSA-65-ES256' }]);
  });

  it('changes keys', async () => {
    const { json } = await go('updateKey', '/v1/admin/keys/box', { labels: { team: 'ml' } });
    expect(json['labels']).toEqual({ team: 'ml' });
    const { json: list } = await go('listKeys', '/v1/keys?namePrefix=b');
    expect((list['items'] as Record<string, unknown>[]).map(({ name }) => name)).toEqual(['box']);
    const reason = { reason: 'a drill' };
    expect((await go('suspendKey', '/v1/admin/keys/box/suspend', reason)).json['state']).toBe(
      'suspended',
    );
    expect((await go('resumeKey', '/v1/admin/keys/box/resume', reason)).json['state']).toBe(
      'enabled',
    );
    const version = '/v1/admin/keys/wrap/versions/1';
    const suspended = await go('suspendVersion', `${version}/suspend`, reason);
    expect(suspended.json).toMatchObject({ state: 'suspended', version: 1 });
    const resumed = await go('resumeVersion', `${version}/resume`, reason);
    expect(resumed.json).toMatchObject({ state: 'active', version: 1 });
  });

  it('keeps the record of a Kubernetes provider at its key', async () => {
    const { json: key } = await go('getKey', '/v1/keys/wrap');
    const record = `provider=twofold announced=${String(key['primary'])}`;
    const label = 'kubernetes/cluster-a';
    const made = await go('updateKey', '/v1/admin/keys/wrap', { labels: { [label]: record } });
    expect(made.json['labels']).toMatchObject({ [label]: record });
    const json = { labels: { [label]: null } };
    const away = await service.call('admin', 'PATCH', '/v1/admin/keys/wrap', { json });
    expect([away.status, away.json['code']]).toEqual([409, 'deletion_protected']);
    // By the proof that nothing is stored under it: it stays, and holds nothing.
    const ended = `${record} retired=${String(key['primary'])} proof=${'A'.repeat(43)}`;
    const { json: after } = await go('updateKey', '/v1/admin/keys/wrap', {
      labels: { [label]: ended },
    });
    expect(after['labels']).toMatchObject({ [label]: ended });
  });

  it('moves ciphertexts by a job', async () => {
    const { json: wrapped } = await go('wrap', '/v1/keys/wrap/wrap', {
      plaintext: b64('old'),
      keyVersion: 1,
    });
    const { json: job, headers } = await go('createRewrapJob', '/v1/admin/keys/wrap/rewrap-jobs', {
      total: 2,
      itemsPerSecond: 1000,
      note: 'quarterly',
    });
    expect(job).toMatchObject({ key: 'wrap', to: { key: 'wrap' }, state: 'running' });
    const place = `/v1/admin/operations/${String(job['id'])}`;
    expect(headers.get('location')).toBe(place);
    const lines = [{ ref: 'a', ciphertext: wrapped['ciphertext'] }, { ciphertext: 'tf1.AAAA' }];
    const sent = await service.call('admin', 'POST', `${place}/items?offset=0`, {
      body: lines.map((line) => `${JSON.stringify(line)}\n`).join(''),
      headers: { 'content-type': 'application/x-ndjson' },
    });
    expect(sent.headers.get('content-type')).toBe('application/x-ndjson');
    const answers = sent.text.split('\n').map((line) => JSON.parse(line || 'null') as unknown);
    expect(answers).toMatchObject([
      { ref: 'a', changed: true, keyVersion: 2 },
      { ref: null, error: { code: 'invalid_envelope' } },
      {
        offset: 2,
        state: 'running',
        progress: { succeeded: 1, failed: 1, unchanged: 0, total: 2 },
      },
      null,
    ]);
    seen.add('sendRewrapItems');
    examples['sendRewrapItems'] = { request: shortened(lines[0]), response: shortened(answers[0]) };
    expect((await go('getOperation', place)).json).toMatchObject({ progress: { offset: 2 } });
    const finished = await go('finishOperation', `${place}/finish`, {});
    expect(finished.json['state']).toBe('succeeded');
    const { json: other } = await go('createRewrapJob', '/v1/admin/keys/wrap/rewrap-jobs', {});
    const stopped = `/v1/admin/operations/${String(other['id'])}/cancel`;
    const cancelled = await go('cancelOperation', stopped, { reason: 'a drill' });
    expect(cancelled.json).toMatchObject({ state: 'cancelled', reason: 'a drill' });
    const { json: list } = await go('listOperations', '/v1/admin/operations?state=succeeded');
    expect(list['items']).toMatchObject([{ id: job['id'] }]);
  });

  it('reads the audit log', async () => {
    const { json } = await go('listAuditEntries', '/v1/audit/entries?operation=wrap&pageSize=1');
    const [entry] = json['items'] as Record<string, unknown>[];
    expect(entry).toMatchObject({ operation: 'wrap', outcome: 'ok', namespace: 'default' });
    const { json: one } = await go('getAuditEntry', `/v1/audit/entries/${String(entry?.['id'])}`);
    expect(one).toEqual(entry);
  });

  it('reads the log as a whole', async () => {
    const raw = async (id: string, path: string, type: string) => {
      const answer = await service.call('auditor', 'GET', path);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([200, type]);
      expect(answer.headers.get('cache-control')).toBe('no-store');
      expect(answer.headers.get('twofold-audit-id')).not.toBeNull();
      seen.add(id);
      return answer;
    };
    const note = await raw('getCheckpoint', '/v1/audit/checkpoint', 'text/plain');
    expect(note.text).toMatch(/^example\.com\/log\n[1-9]\d*\n/);
    await go('listCheckpoints', '/v1/audit/checkpoints?pageSize=1');
    const { json: signers } = await go('listLogKeys', '/v1/audit/keys');
    expect(signers).toMatchObject({ keys: [{ state: 'active' }, { state: 'active' }] });
    const rotate = '/v1/admin/audit/checkpoint-keys/rotate';
    const rotated = await go('rotateLogKeys', rotate, { reason: 'The year is over.' });
    expect(rotated.json).toMatchObject({ keys: [{ state: 'pending' }, { state: 'pending' }] });
    const open = await service.call(null, 'GET', '/public/log/checkpoint');
    expect(open.text).toBe('shown to anybody\n');
    seen.add('publicCheckpoint');
    const octets = 'application/octet-stream';
    const tile = await raw('getLogTile', '/v1/audit/tile/0/000.p/5', octets);
    expect(tile.bytes).toHaveLength(160);
    const { json } = await go('listLogEntries', '/v1/audit/log?from=4&pageSize=1');
    const [entry] = json['items'] as Record<string, unknown>[];
    expect(entry).toMatchObject({
      index: 4,
      leafHash: tile.bytes.subarray(128).toString('base64'),
    });
    const proof = `/v1/audit/entries/${note.headers.get('twofold-audit-id') ?? ''}/proof`;
    expect((await raw('getEntryProof', proof, 'text/plain')).text).toMatch(
      /^c2sp\.org\/tlog-proof@v1\nindex [1-9]\d*\n/,
    );
    await go('getConsistencyProof', '/v1/audit/consistency?from=3&to=7');
    const states = await go('listKeyStates', '/v1/audit/key-states?pageSize=1');
    // Keys come in the order of their random ids, with a primary or none, and one version or several.
    const items = (states.json['items'] as { versions: unknown[] }[]).map((item) => ({
      ...item,
      primary: 1,
      versions: item.versions.slice(0, 1),
    }));
    examples['listKeyStates'] = { response: shortened({ ...states.json, items }) };
    await go('listLanes', '/v1/audit/lanes?pageSize=1');
    const stop = new AbortController();
    const stream = await fetch(`${service.url}/v1/audit/stream?from=0`, {
      headers: { authorization: `Bearer ${await service.token('auditor')}` },
      signal: stop.signal,
    });
    expect(stream.headers.get('content-type')).toBe('text/event-stream');
    stop.abort();
    seen.add('streamAuditEntries');
  });

  it('declares what entries say in clear, and looks for the rest', async () => {
    const path = '/v1/admin/audit/loggable-context';
    const before = await go('getLoggableContext', path);
    expect(before.json).toMatchObject({ names: [], revision: 0 });
    const declared = await go('putLoggableContext', path, { names: ['tenant'] });
    expect(declared.json).toMatchObject({ names: ['tenant'], revision: 1 });
    const asked = { encryptionContext: { tenant: 'a' }, aad: 'AAEC' };
    const { json } = await go('hashAuditValues', '/v1/audit/hash', asked);
    const hash = Buffer.from(String(json['contextHmac']), 'base64');
    expect(hash).toHaveLength(32);
  });

  it('tells what happened to keys', async () => {
    const { json } = await go('listEvents', '/v1/admin/events?pageSize=1', undefined, {
      role: 'auditor',
    });
    expect(json['items']).toMatchObject([{ type: 'kms.twofold.key.created', subject: 'wrap' }]);
    const last = { 'last-event-id': String(json['next']) };
    const stop = new AbortController();
    const stream = await fetch(`${service.url}/v1/admin/events/stream`, {
      headers: { authorization: `Bearer ${await service.token('operator')}`, ...last },
      signal: stop.signal,
    });
    expect(stream.headers.get('content-type')).toBe('text/event-stream');
    expect(stream.headers.get('twofold-audit-id')).toMatch(/^[1-9]\d*-[1-9]\d*$/);
    stop.abort();
    seen.add('streamEvents');
  });

  it('left none out', () => {
    expect(ROUTES.map(({ id }) => id).filter((id) => !seen.has(id))).toEqual([]);
  });

  it('made every administrative change as a dry run first', () => {
    const changes = ROUTES.filter(({ plane, method }) => plane === 'admin' && method !== 'GET');
    const untried = changes.map(({ id }) => id).filter((id) => !triedDry.has(id));
    expect(untried).toEqual(Object.keys(WITHOUT_DRY_RUN));
  });

  it('shows in the document what it saw here, but for the values', () => {
    const file = join(import.meta.dirname, 'examples.json');
    if (process.env['UPDATE_EXAMPLES'] === '1') {
      const sorted = Object.entries(examples).toSorted(([a], [b]) => (a < b ? -1 : 1));
      writeFileSync(file, `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`);
    }
    const shown = JSON.parse(readFileSync(file, 'utf8')) as typeof examples;
    expect(formOf(shown)).toEqual(formOf(examples));
  });
});
