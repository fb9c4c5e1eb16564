/** JWS by the service: read by jose where it knows the algorithm, else by independent code here. */
import { createHash, createPublicKey, verify as verifySignature } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { compactVerify, importJWK } from 'jose';
import type { JWK } from 'jose';
import { SUITES } from '../../src/crypto/suites.ts';
import type { SignatureSuite } from '../../src/crypto/suite.ts';
import { openService } from './service.ts';
import type { CallInit, Service } from './service.ts';

const b64 = (text: string) => Buffer.from(text).toString('base64');
const PAYLOAD = '{"it":"works"}';
const message = b64(PAYLOAD);

/** What jose 6.2 with OpenSSL 3.5 verifies. */
const IN_JOSE = /^(?:ES|PS|RS|EdDSA$|Ed25519$|ML-DSA-\d\d$)/;
const SIGNING = Object.values(SUITES).filter(
  (suite): suite is SignatureSuite => suite.kind === 'signature',
);
const FORMED = SIGNING.filter(({ encoding }) => typeof encoding.signature?.jose === 'string');

interface Composite {
  readonly label: string;
  readonly pq: 'ml-dsa-65' | 'ml-dsa-87';
  readonly pqKey: number;
  readonly pqSignature: number;
  readonly curve: 'P-256' | 'P-384';
  readonly hash: 'sha256' | 'sha384';
}
/** By `alg`, from draft-ietf-lamps-pq-composite-sigs-19 and FIPS 204. */
const COMPOSITES: Readonly<Record<string, Composite>> = {
  'ML-DSA-65-ES256': {
    label: 'COMPSIG-MLDSA65-ECDSA-P256-SHA512',
    pq: 'ml-dsa-65',
    pqKey: 1952,
    pqSignature: 3309,
    curve: 'P-256',
    hash: 'sha256',
  },
  'ML-DSA-87-ES384': {
    label: 'COMPSIG-MLDSA87-ECDSA-P384-SHA512',
    pq: 'ml-dsa-87',
    pqKey: 2592,
    pqSignature: 4627,
    curve: 'P-384',
    hash: 'sha384',
  },
};

/** Node's OpenSSL over the bytes of the draft; none of the code under test. */
function verifyComposite(form: Composite, publicKey: Buffer, input: string, signature: Buffer) {
  const prehash = createHash('sha512').update(input).digest();
  const context = Buffer.from(form.label);
  const prefix = Buffer.from('CompositeAlgorithmSignatures2025');
  const whole = Buffer.concat([prefix, context, Buffer.of(0), prehash]);
  const pq = createPublicKey({
    key: publicKey.subarray(0, form.pqKey),
    format: 'raw-public',
    asymmetricKeyType: form.pq,
  });
  const classical = createPublicKey({
    key: publicKey.subarray(form.pqKey),
    format: 'raw-public',
    asymmetricKeyType: 'ec',
    namedCurve: form.curve,
  });
  return (
    verifySignature(null, whole, { key: pq, context }, signature.subarray(0, form.pqSignature)) &&
    verifySignature(form.hash, whole, classical, signature.subarray(form.pqSignature))
  );
}

async function verifyAlone(jws: string, jwk: JWK): Promise<boolean> {
  const { alg = '' } = jwk;
  const composite = COMPOSITES[alg];
  if (composite === undefined) {
    const { payload } = await compactVerify(jws, await importJWK(jwk, alg), { algorithms: [alg] });
    return Buffer.from(payload).toString() === PAYLOAD;
  }
  const [head = '', body = '', signature = ''] = jws.split('.');
  expect(Buffer.from(body, 'base64url').toString()).toBe(PAYLOAD);
  const raw = Buffer.from(String(jwk['pub']), 'base64url');
  return verifyComposite(composite, raw, `${head}.${body}`, Buffer.from(signature, 'base64url'));
}

describe('a JWS', () => {
  let service: Service;
  const ids = new Map<string, string>();
  const post = (path: string, json: unknown, init: CallInit = {}) =>
    service.call('user', 'POST', path, { json, ...init });
  const create = async (name: string, suite: string) => {
    const made = await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });
    expect(made.status).toBe(201);
    ids.set(name, String(made.json['id']));
  };
  const signed = async (key: string, more: object = {}) => {
    const { status, json } = await post(`/v1/keys/${key}/sign`, {
      message,
      format: 'jws',
      ...more,
    });
    expect(status).toBe(200);
    return String(json['jws']);
  };
  const headerOf = (jws: string) =>
    JSON.parse(Buffer.from(jws.split('.')[0] ?? '', 'base64url').toString()) as object;
  const refusal = async (path: string, json: unknown) => {
    const answer = await post(path, json);
    return [answer.status, answer.json['code']];
  };
  const reheaded = (jws: string, header: unknown) =>
    [Buffer.from(JSON.stringify(header)).toString('base64url'), ...jws.split('.').slice(1)].join(
      '.',
    );

  beforeAll(async () => {
    service = await openService();
    for (const { id } of FORMED) await create(`of-${id.toLowerCase()}`, id);
    await create('k', 'MLDSA65-ECDSA-P256-SHA512');
    await create('other', 'MLDSA65-ECDSA-P256-SHA512');
    await create('large', 'MLDSA87-ECDSA-P384-SHA512');
    await create('w', 'MLKEM768-P256');
  });
  afterAll(() => service.stop());

  it('is made by some suites', () => expect(FORMED.length).toBeGreaterThanOrEqual(2));

  it.each(FORMED.map(({ id, encoding }) => [id, encoding] as const))(
    'of %s is verified by others, and by the service',
    async (id, encoding) => {
      const key = `of-${id.toLowerCase()}`;
      const jws = await signed(key);
      const alg = encoding.signature?.jose ?? '';
      const kid = `${ids.get(key) ?? ''}.1`;
      expect(headerOf(jws)).toEqual({ alg, kid });
      const { json } = await service.call('user', 'GET', `/v1/keys/${key}/jwks`);
      const found = (json['keys'] as JWK[]).find((jwk) => jwk.kid === kid);
      if (IN_JOSE.test(alg) || alg in COMPOSITES) {
        expect(await verifyAlone(jws, found ?? {})).toBe(true);
      }
      const { json: verdict } = await post(`/v1/keys/${key}/verify`, { jws });
      expect(verdict).toMatchObject({ valid: true, keyVersion: 1, keyId: ids.get(key) });
    },
  );

  it('answers jws and what was used, and no signature', async () => {
    const { json } = await post('/v1/keys/k/sign', { message, format: 'jws' });
    expect(Object.keys(json)).toEqual(['jws', 'key', 'keyId', 'keyVersion', 'suite']);
    const raw = await post('/v1/keys/k/sign', { message, format: 'raw' });
    expect(Object.keys(raw.json)).toEqual(['signature', 'key', 'keyId', 'keyVersion', 'suite']);
    expect(service.drafts.at(-2)).toMatchObject({ operation: 'sign', keyVersion: 1 });
  });

  it('comes as text where the body is bytes', async () => {
    const headers = { 'content-type': 'application/octet-stream', 'twofold-format': 'jws' };
    const answer = await service.call('user', 'POST', '/v1/keys/k/sign', {
      body: PAYLOAD,
      headers,
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toBe('application/octet-stream');
    expect(answer.headers.get('twofold-key-version')).toBe('1');
    const { json } = await post('/v1/keys/k/verify', { jws: answer.text });
    expect(json['valid']).toBe(true);
    const asJson = await service.call('user', 'POST', '/v1/keys/k/sign', {
      body: PAYLOAD,
      headers: { ...headers, accept: 'application/json' },
    });
    expect(asJson.json).toHaveProperty('jws');
  });

  it('names its version, which is the one that verifies after a rotation', async () => {
    await create('rotating', 'MLDSA65-ECDSA-P256-SHA512');
    const old = await signed('rotating');
    await service.call('admin', 'POST', '/v1/admin/keys/rotating/rotate', { json: {} });
    const fresh = await signed('rotating');
    const named = await signed('rotating', { keyVersion: 1 });
    const of = async (jws: string, more: object = {}) => {
      const { json } = await post('/v1/keys/rotating/verify', { jws, ...more });
      return [json['valid'] ?? json['code'], json['keyVersion']];
    };
    expect(await of(old)).toEqual([true, 1]);
    expect(await of(fresh)).toEqual([true, 2]);
    expect(await of(named)).toEqual([true, 1]);
    expect(await of(old, { keyVersion: 2 })).toEqual(['invalid_value', undefined]);
    // The kid is signed: another one names another version, whose key did not sign it.
    const kid = `${ids.get('rotating') ?? ''}.2`;
    expect(await of(reheaded(old, { alg: 'ML-DSA-65-ES256', kid }))).toEqual([false, 2]);
    const foreign = reheaded(old, { alg: 'ML-DSA-65-ES256', kid: 'theirs' });
    expect(await of(foreign)).toEqual(['ambiguous_version', undefined]);
    expect(await of(foreign, { keyVersion: 1 })).toEqual([false, 1]);
    const absent = reheaded(old, { alg: 'ML-DSA-65-ES256', kid: kid.replace('.2', '.9') });
    expect(await of(absent)).toEqual(['version_not_found', undefined]);
    const suspended = '/v1/admin/keys/rotating/versions/1/suspend';
    await service.call('admin', 'POST', suspended, { json: { reason: 'a drill' } });
    expect(await of(old)).toEqual(['version_not_usable', undefined]);
  });

  it('is false when payload, header or signature is another', async () => {
    const jws = await signed('k');
    const [head = '', body = '', signature = ''] = jws.split('.');
    const flipped = Buffer.from(signature, 'base64url');
    flipped[0] = (flipped[0] ?? 0) ^ 1;
    const header = { ...headerOf(jws), typ: 'x' };
    for (const bad of [
      `${head}.${Buffer.from('other').toString('base64url')}.${signature}`,
      `${head}.${body}.${flipped.toString('base64url')}`,
      `${head}.${body}.`,
      `${head}.${body}.AAAA`,
      reheaded(jws, header),
    ]) {
      const { status, json } = await post('/v1/keys/k/verify', { jws: bad });
      expect([status, json['valid']]).toEqual([200, false]);
    }
  });

  it('of another key is refused by its kid, and by its alg', async () => {
    const jws = await signed('other');
    expect(await refusal('/v1/keys/k/verify', { jws })).toEqual([409, 'key_mismatch']);
    const kid = `${ids.get('k') ?? ''}.1`;
    for (const alg of ['ML-DSA-87-ES384', 'none', 'HS256', 'ES256', '', undefined, 7]) {
      const forged = reheaded(jws, { alg, kid });
      expect(await refusal('/v1/keys/k/verify', { jws: forged })).toEqual([400, 'invalid_value']);
    }
    expect(await refusal('/v1/keys/w/verify', { jws })).toEqual([409, 'wrong_purpose']);
  });

  it.each([
    ['is empty', () => ''],
    ['is no JWS', () => 'abc'],
    ['has two parts', (jws: string) => jws.split('.').slice(0, 2).join('.')],
    ['has four parts', (jws: string) => `${jws}.AAAA`],
    ['is padded', (jws: string) => `${jws}=`],
    ['has a line break', (jws: string) => `${jws}\n`],
    ['has a header that is no JSON', (jws: string) => jws.replace(/^[^.]+/, 'AAAA')],
    ['has a critical member', (jws: string) => reheaded(jws, { ...headerOf(jws), crit: ['x'] })],
    ['has a detached encoding', (jws: string) => reheaded(jws, { ...headerOf(jws), b64: false })],
    ['has a kid that is no text', (jws: string) => reheaded(jws, { ...headerOf(jws), kid: 1 })],
  ])('that %s is refused', async (_name, broken) => {
    const jws = broken(await signed('k'));
    expect(await refusal('/v1/keys/k/verify', { jws })).toEqual([400, 'invalid_value']);
  });

  it.each<[string, string, object]>([
    ['a digest', 'sign', { digest: { algorithm: 'SHA-512', value: b64('x'.repeat(64)) } }],
    ['a context', 'sign', { message, signatureContext: b64('c') }],
    ['nothing to sign', 'sign', {}],
    ['an unknown format', 'sign', { message, format: 'JWS' }],
    ['a message beside it', 'verify', { message, jws: 'a.b.c' }],
    ['a signature beside it', 'verify', { signature: 'AAAA', jws: 'a.b.c' }],
    ['a context beside it', 'verify', { signatureContext: 'AAAA', jws: 'a.b.c' }],
    ['no signature at all', 'verify', { message }],
    ['a JWS that is no text', 'verify', { jws: 7 }],
  ])('%s is refused', async (_name, operation, more) => {
    const format = operation === 'sign' ? { format: 'jws' } : {};
    const path = `/v1/keys/k/${operation}`;
    expect(await refusal(path, { ...format, ...more })).toEqual([400, 'invalid_value']);
  });

  it('comes and goes in batches, each item by itself', async () => {
    const items = [{ message, format: 'jws', ref: 'a' }, { message }];
    const { json } = await post('/v1/keys/k/sign/batch', { items });
    const [formed, plain] = json['results'] as Record<string, unknown>[];
    expect(formed).toMatchObject({ ref: 'a', keyVersion: 1 });
    expect(plain).not.toHaveProperty('jws');
    const { json: checked } = await post('/v1/keys/k/verify/batch', {
      items: [
        { jws: formed?.['jws'] },
        { message, signature: plain?.['signature'] },
        { jws: await signed('other') },
        { jws: 'x.y.z' },
      ],
    });
    expect(checked['results']).toMatchObject([
      { valid: true },
      { valid: true },
      { error: { code: 'key_mismatch' } },
      { error: { code: 'invalid_value' } },
    ]);
  });
});
