/** Keys of classical suites move to hybrid ones: their data goes with them, and never rises in origin. */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { findSuite } from '../../src/crypto/suites.ts';
import { encodeEnvelopeText } from '../../src/crypto/envelope.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { sealEnvelope } from '../../src/crypto/wrap.ts';
import { secret } from '../keyring/world.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

jest.setTimeout(60_000);

const b64 = (text: string) => Buffer.from(text).toString('base64');
type Json = Record<string, unknown>;

let service: Service;
beforeAll(async () => {
  service = await openService();
});
afterAll(() => service.stop());

async function post(path: string, json: object, status = 200): Promise<Json> {
  const answer = await service.call('admin', 'POST', path, { json });
  expect({ status: answer.status, json: answer.json }).toMatchObject({ status });
  return answer.json;
}
const create = (name: string, suite: string) =>
  post('/v1/admin/keys', { name, suite }, 201).then(({ id }) => id as string);
const rotate = (name: string, suite: string) => post(`/v1/admin/keys/${name}/rotate`, { suite });

/** As someone does it who has the public key alone. */
async function wrapOffline(name: string, keyId: string, text: string): Promise<string> {
  const { json } = await service.call('admin', 'GET', `/v1/keys/${name}/public-key?format=raw`);
  const suite = findSuite(json['suite'] as string);
  if (suite.kind !== 'kem') throw new TypeError('not a KEM');
  const sealed = await sealEnvelope(nativeEngine, {
    suite,
    keyId,
    keyVersion: json['keyVersion'] as number,
    publicKey: Buffer.from(json['raw'] as string, 'base64'),
    context: { encryptionContext: {}, aad: new Uint8Array(0) },
    plaintext: secret(text),
  });
  return encodeEnvelopeText(sealed);
}

const wrap = async (name: string, text: string) =>
  (await post(`/v1/keys/${name}/wrap`, { plaintext: b64(text) }))['ciphertext'] as string;
const unwrap = (name: string, ciphertext: unknown) =>
  post(`/v1/keys/${name}/unwrap`, { ciphertext });

describe.each(['RSA-OAEP-2048-SHA256', 'DHKEM-P256', 'DHKEM-X25519'])('a key of %s', (old) => {
  const name = `moves.${old.toLowerCase()}`;
  let byService: string;
  let byAnyone: string;
  beforeAll(async () => {
    const keyId = await create(name, old);
    byService = await wrap(name, 'by the service');
    byAnyone = await wrapOffline(name, keyId, 'by anyone');
    expect(await rotate(name, 'MLKEM768-P256')).toMatchObject({
      suite: 'MLKEM768-P256',
      primary: 2,
    });
  });

  it('opens what it wrapped before, each with its origin', async () => {
    const [one, other] = [await unwrap(name, byService), await unwrap(name, byAnyone)];
    expect(one).toMatchObject({ plaintext: b64('by the service'), origin: 'service', suite: old });
    expect(other).toMatchObject({ plaintext: b64('by anyone'), origin: 'anyone', suite: old });
  });

  it('rewraps it to the hybrid, each with its origin', async () => {
    for (const [ciphertext, text, origin] of [
      [byService, 'by the service', 'service'],
      [byAnyone, 'by anyone', 'anyone'],
    ] as const) {
      const moved = await post(`/v1/keys/${name}/rewrap`, { ciphertext });
      expect(moved).toMatchObject({ changed: true, keyVersion: 2, suite: 'MLKEM768-P256' });
      expect(await unwrap(name, moved['ciphertext'])).toMatchObject({
        plaintext: b64(text),
        origin,
        keyVersion: 2,
      });
    }
  });

  it('rewraps to a symmetric key only what the service wrapped', async () => {
    const to = `box.${old.toLowerCase()}`;
    await create(to, 'A256GCM');
    const moved = await post(`/v1/keys/${name}/rewrap`, { ciphertext: byService, to });
    expect(await unwrap(to, moved['ciphertext'])).toMatchObject({ origin: 'service' });
    const refused = await post(`/v1/keys/${name}/rewrap`, { ciphertext: byAnyone, to }, 409);
    expect(refused).toMatchObject({ code: 'origin_would_rise' });
    const items = [
      { ref: 'a', ciphertext: byAnyone, to },
      { ref: 'b', ciphertext: byService, to },
    ];
    const { results } = await post(`/v1/keys/${name}/rewrap/batch`, { items });
    expect(results).toMatchObject([
      { ref: 'a', error: { code: 'origin_would_rise' } },
      { ref: 'b', changed: true, key: to },
    ]);
  });
});

it.each(['RSA-OAEP-2048-SHA256', 'DHKEM-P256'])(
  'a batch of 1,000 of %s moves in order, with errors of their own',
  async (old) => {
    const name = `many.${old.toLowerCase()}`;
    const keyId = await create(name, old);
    const texts = Array.from({ length: 8 }, (_, index) => `data key ${String(index)}`);
    const wrapped = await Promise.all(
      texts.map((text, index) =>
        index % 2 === 0 ? wrap(name, text) : wrapOffline(name, keyId, text),
      ),
    );
    await rotate(name, 'MLKEM768-P256');
    const items = Array.from({ length: 1000 }, (_, index) => {
      const ciphertext = wrapped[index % 8] ?? '';
      return {
        ref: `r${String(index)}`,
        ciphertext: index % 100 === 99 ? `${ciphertext.slice(0, -4)}AAAA` : ciphertext,
      };
    });
    const { results } = await post(`/v1/keys/${name}/rewrap/batch`, { items });
    const found = results as readonly Json[];
    expect(found.map(({ ref }) => ref)).toEqual(items.map(({ ref }) => ref));
    const moved = found.filter((_, index) => index % 100 !== 99);
    const failed = found.filter((_, index) => index % 100 === 99);
    expect(failed).toHaveLength(10);
    for (const each of failed) expect(each).toMatchObject({ error: { code: 'decryption_failed' } });
    for (const each of moved) expect(each).toMatchObject({ changed: true, keyVersion: 2 });
    const ciphertexts = found.map(({ ciphertext }) => ciphertext);
    const opened = await post(`/v1/keys/${name}/unwrap/batch`, {
      items: ciphertexts.slice(0, 90).map((ciphertext) => ({ ciphertext })),
    });
    expect((opened['results'] as readonly Json[]).map(({ plaintext }) => plaintext)).toEqual(
      items.slice(0, 90).map((_, index) => b64(texts[index % 8] ?? '')),
    );
    expect((opened['results'] as readonly Json[]).map(({ origin }) => origin)).toEqual(
      items.slice(0, 90).map((_, index) => (index % 2 === 0 ? 'service' : 'anyone')),
    );
  },
);

describe('a key of ECDSA-P256-SHA256 that became a composite', () => {
  const message = b64('m');
  let old: unknown;
  const check = (name: string, json: object, status = 200) =>
    post(`/v1/keys/${name}/verify`, json, status);
  beforeAll(async () => {
    await create('signer', 'ECDSA-P256-SHA256');
    old = (await post('/v1/keys/signer/sign', { message }))['signature'];
    await rotate('signer', 'MLDSA65-ECDSA-P256-SHA512');
  });

  it('verifies what it signed before under the version that signed it', async () => {
    expect(await check('signer', { message, signature: old, keyVersion: 1 })).toMatchObject({
      valid: true,
      suite: 'ECDSA-P256-SHA256',
    });
    expect(await check('signer', { message, signature: old, keyVersion: 2 })).toMatchObject({
      valid: false,
    });
    expect(await check('signer', { message, signature: old }, 400)).toMatchObject({
      code: 'ambiguous_version',
    });
    const made = await post('/v1/keys/signer/sign', { message });
    expect(made).toMatchObject({ keyVersion: 2, suite: 'MLDSA65-ECDSA-P256-SHA512' });
    const { signature } = made;
    expect(await check('signer', { message, signature, keyVersion: 2 })).toMatchObject({
      valid: true,
    });
  });

  it('signs nothing by a version that is suspended', async () => {
    await post('/v1/admin/keys/signer/versions/1/suspend', { reason: 'classical' });
    const refused = await post('/v1/keys/signer/sign', { message, keyVersion: 1 }, 409);
    expect(refused).toMatchObject({ code: 'version_not_usable' });
    expect(await post('/v1/keys/signer/sign', { message })).toMatchObject({ keyVersion: 2 });
    await post('/v1/admin/keys/signer/versions/1/resume', { reason: 'still needed' });
    expect(await check('signer', { message, signature: old, keyVersion: 1 })).toMatchObject({
      valid: true,
    });
  });
});

it('a signature of a classical version ends with the window of minUsableVersion', async () => {
  const message = b64('m');
  await create('closing', 'ECDSA-P256-SHA256');
  const { signature } = await post('/v1/keys/closing/sign', { message });
  await rotate('closing', 'MLDSA65-ECDSA-P256-SHA512');
  const json = { message, signature, keyVersion: 1 };
  expect(await post('/v1/keys/closing/verify', json)).toMatchObject({ valid: true });
  const closed = await service.call('admin', 'PATCH', '/v1/admin/keys/closing', {
    json: { minUsableVersion: 2 },
  });
  expect(closed.status).toBe(200);
  expect(await post('/v1/keys/closing/verify', json, 409)).toMatchObject({
    code: 'version_not_usable',
  });
  const made = await post('/v1/keys/closing/sign', { message });
  const checked = { message, signature: made['signature'] };
  expect(await post('/v1/keys/closing/verify', checked)).toMatchObject({ valid: true });
});

describe('a custody', () => {
  it.each(['ML-KEM-768', 'ML-DSA-65', 'SLH-DSA-SHA2-128f'])(
    'is not named for %s, which has no half in the HSM',
    async (suite) => {
      for (const custody of ['hsm-wrapped', 'hsm-token']) {
        const name = `no-${suite.toLowerCase()}`;
        const json = { name, suite, custody };
        const refused = await post('/v1/admin/keys', json, 400);
        expect(refused).toMatchObject({ code: 'invalid_value' });
        const asked = await service.call('admin', 'POST', '/v1/admin/keys?dryRun=true', { json });
        expect(asked).toMatchObject({ status: 400 });
      }
    },
  );

  it.each(['Ed25519', 'DHKEM-X25519', 'MLDSA44-Ed25519-SHA512', 'MLKEM1024-X25519'])(
    'of %s is hsm-token alone',
    async (suite) => {
      const name = `token-${suite.toLowerCase()}`;
      const objects = service.world.device.token.objects.size;
      const wrapped = { name, suite, custody: 'hsm-wrapped' };
      expect(await post('/v1/admin/keys', wrapped, 409)).toMatchObject({
        code: 'suite_unavailable_here',
      });
      expect(service.world.device.token.objects.size).toBe(objects);
      await post('/v1/admin/keys', { name, suite, custody: 'hsm-token' }, 201);
      expect(service.world.device.token.objects.size).toBe(objects + 1);
    },
  );

  it('is repeated by its idempotency key, with one key made', async () => {
    const init = {
      json: { name: 'once', suite: 'Ed25519' },
      headers: { 'idempotency-key': 'the-only-one' },
    };
    const objects = service.world.device.token.objects.size;
    const [first, again] = [
      await service.call('admin', 'POST', '/v1/admin/keys', init),
      await service.call('admin', 'POST', '/v1/admin/keys', init),
    ];
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.json).toEqual(first.json);
    expect(service.world.device.token.objects.size).toBe(objects + 1);
  });
});
