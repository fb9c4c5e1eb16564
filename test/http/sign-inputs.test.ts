/** What is signed, through REST: the message, its digest, or its mu, as the suite takes them. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createEngine } from '../../src/crypto/combined-engine.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const SUITES = {
  'ml-dsa': 'ML-DSA-65',
  composite: 'MLDSA65-ECDSA-P256-SHA512',
  ecdsa: 'ECDSA-P384-SHA384',
  rsa: 'RSA-PKCS1-2048-SHA256',
  ed: 'Ed25519',
  falcon: 'Falcon-512',
  'slh-dsa': 'SLH-DSA-SHA2-128f',
} as const;
type Name = keyof typeof SUITES;

const engine = createEngine();
let service: Service;
beforeAll(async () => {
  service = await openService({ engine });
  for (const [name, suite] of Object.entries(SUITES)) {
    const made = await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite } });
    expect(made.json).toMatchObject({ suite });
  }
}, 60_000);
afterAll(async () => {
  await service.stop();
  await engine.close();
});

const b64 = (bytes: Uint8Array | string) => Buffer.from(bytes).toString('base64');
const message = Buffer.from('a message');
const context = Buffer.from('a context');
const other = b64('another message');

const post = (name: Name, operation: string, json: object) =>
  service.call('admin', 'POST', `/v1/keys/${name}/${operation}`, { json });
const signatureBy = async (name: Name, input: object) => {
  const answer = await post(name, 'sign', input);
  expect(answer).toMatchObject({ status: 200 });
  return answer.json['signature'] as string;
};
const expectValid = async (name: Name, json: object, valid = true) =>
  expect(await post(name, 'verify', json)).toMatchObject({ status: 200, json: { valid } });

/** FIPS 204 algorithm 7 line 6, with the M' of algorithm 2. */
async function muOf(ctx: Uint8Array, of: Uint8Array = message): Promise<string> {
  const path = '/v1/keys/ml-dsa/public-key?format=raw';
  const { json } = await service.call('admin', 'GET', path);
  const shake = (...parts: readonly Uint8Array[]) =>
    createHash('shake256', { outputLength: 64 }).update(Buffer.concat(parts)).digest();
  const tr = shake(Buffer.from(json['raw'] as string, 'base64'));
  return b64(shake(tr, Uint8Array.of(0, ctx.length), ctx, of));
}

const digestOf = (algorithm: 'SHA-256' | 'SHA-384' | 'SHA-512') => ({
  algorithm,
  value: createHash(algorithm).update(message).digest('base64'),
});

async function expectRefused(name: Name, json: object): Promise<void> {
  for (const [operation, body] of [
    ['sign', json],
    ['verify', { ...json, signature: b64('x') }],
  ] as const) {
    const refused = await post(name, operation, body);
    expect(refused).toMatchObject({ status: 400, json: { code: 'invalid_value' } });
    expect(service.drafts.at(-1)).toMatchObject({ outcome: 'invalid_value' });
  }
}

describe('an external mu', () => {
  it('is what ML-DSA signs of a message, with and without a context', async () => {
    const mu = await muOf(new Uint8Array(0));
    const signature = await signatureBy('ml-dsa', { mu });
    await expectValid('ml-dsa', { message: b64(message), signature });
    await expectValid('ml-dsa', { mu, signature });
    await expectValid('ml-dsa', { message: other, signature }, false);

    const bound = await signatureBy('ml-dsa', {
      message: b64(message),
      signatureContext: b64(context),
    });
    await expectValid('ml-dsa', { mu: await muOf(context), signature: bound });
    await expectValid('ml-dsa', { mu, signature: bound }, false);
  });

  it('goes through batches beside messages', async () => {
    const mu = await muOf(new Uint8Array(0));
    const items = [{ mu }, { message: b64(message) }, { mu, signatureContext: b64(context) }];
    const { json } = await post('ml-dsa', 'sign/batch', { items });
    const [first, second, third] = json['results'] as Record<string, unknown>[];
    expect(third).toMatchObject({ error: { code: 'invalid_value', status: 400 } });
    const checks = [
      { message: b64(message), signature: first?.['signature'] },
      { mu, signature: second?.['signature'] },
      { mu: await muOf(context), signature: first?.['signature'] },
    ];
    const verified = await post('ml-dsa', 'verify/batch', { items: checks });
    expect(verified.json['results']).toMatchObject([
      { valid: true },
      { valid: true },
      { valid: false },
    ]);
  });

  it.each(['composite', 'ecdsa', 'rsa', 'ed', 'falcon', 'slh-dsa'] as const)(
    'is refused by %s',
    async (name) => expectRefused(name, { mu: b64(new Uint8Array(64)) }),
  );

  it.each([0, 32, 63, 65])('of %i bytes is refused', async (length) => {
    await expectRefused('ml-dsa', { mu: b64(new Uint8Array(length)) });
  });

  it('takes no context beside it, and is the only input', async () => {
    const mu = b64(new Uint8Array(64));
    await expectRefused('ml-dsa', { mu, signatureContext: b64(context) });
    await expectRefused('ml-dsa', { mu, message: b64(message) });
    await expectRefused('ml-dsa', { mu, digest: digestOf('SHA-512') });
    await expectRefused('ml-dsa', {});
  });
});

describe('a digest', () => {
  it.each([
    ['composite', 'SHA-512'],
    ['ecdsa', 'SHA-384'],
    ['rsa', 'SHA-256'],
  ] as const)('is what %s signs of a message, by its own hash alone', async (name, own) => {
    const digest = digestOf(own);
    const signature = await signatureBy(name, { digest });
    await expectValid(name, { message: b64(message), signature });
    await expectValid(name, { digest, signature });
    await expectValid(name, { message: other, signature }, false);
    const foreign = (['SHA-256', 'SHA-384', 'SHA-512'] as const).filter((hash) => hash !== own);
    for (const hash of foreign) await expectRefused(name, { digest: digestOf(hash) });
  });

  it.each(['ml-dsa', 'ed', 'falcon', 'slh-dsa'] as const)('is refused by %s', async (name) => {
    await expectRefused(name, { digest: digestOf('SHA-512') });
  });
});

describe('a signature context', () => {
  it.each(['ml-dsa', 'composite', 'slh-dsa'] as const)('is bound by %s', async (name) => {
    const input = { message: b64(message), signatureContext: b64(context) };
    const signature = await signatureBy(name, input);
    await expectValid(name, { ...input, signature });
    await expectValid(name, { message: b64(message), signature }, false);
  });

  it.each(['ecdsa', 'rsa', 'ed', 'falcon'] as const)('is refused by %s', async (name) => {
    await expectRefused(name, { message: b64(message), signatureContext: b64(context) });
  });
});

it('takes a body of bytes for the message, as before', async () => {
  const bytes = { 'content-type': 'application/octet-stream', accept: 'application/json' };
  const path = '/v1/keys/ml-dsa/sign';
  const { json } = await service.call('admin', 'POST', path, { body: message, headers: bytes });
  await expectValid('ml-dsa', { mu: await muOf(new Uint8Array(0)), signature: json['signature'] });
});
