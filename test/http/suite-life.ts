/** The life of a key of one suite through REST on a SoftHSM token of its own; every row of the table goes through it. */
import { createHash } from 'node:crypto';
import { expect } from '@jest/globals';
import { createEngine } from '../../src/crypto/combined-engine.ts';
import type { ServiceEngine } from '../../src/crypto/combined-engine.ts';
import { encodeEnvelopeText } from '../../src/crypto/envelope.ts';
import { muOf } from '../../src/crypto/self-tests.ts';
import type {
  AeadSuite,
  KemSuite,
  MacSuite,
  SignatureSuite,
  Suite,
} from '../../src/crypto/suite.ts';
import { encapsulateKey, sealEnvelope } from '../../src/crypto/wrap.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import { unavailability } from '../../src/keyring/material.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { makeToken } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { MemoryStore } from '../keyring/memory-store.ts';
import { openInstance, secret } from '../keyring/world.ts';
import type { Instance } from '../keyring/world.ts';
import { openServiceOver } from './service.ts';
import type { Called, Service } from './service.ts';

export const b64 = (bytes: Uint8Array | string): string => Buffer.from(bytes).toString('base64');

/** A service whose token and database outlive it. */
export class TokenService {
  readonly engine: ServiceEngine = createEngine();
  readonly #fixture: TokenFixture;
  readonly #store = new MemoryStore();
  #running: { readonly hsm: PooledHsm; readonly service: Service<Instance> } | undefined;

  private constructor(fixture: TokenFixture) {
    this.#fixture = fixture;
  }

  static async open(): Promise<TokenService> {
    const opened = new TokenService(await makeToken());
    await opened.#start();
    return opened;
  }

  get service(): Service<Instance> {
    if (this.#running === undefined) throw new Error('the service does not run');
    return this.#running.service;
  }

  get hsm(): PooledHsm {
    if (this.#running === undefined) throw new Error('the service does not run');
    return this.#running.hsm;
  }

  async #start(): Promise<void> {
    const [hsm, store, { engine }] = [await this.#fixture.open(), this.#store, this];
    const uses = new UsageCounters(store);
    const root = await openRoot(hsm, store, uses, null);
    const instance = await openInstance({ hsm, engine, store, root, uses });
    const availability = (suite: Suite) => {
      const reason = unavailability(hsm, engine, suite);
      return { available: reason === null, reason };
    };
    const service = await openServiceOver(instance, {
      engine,
      replace: ({ token }) => ({ token: { ...token, availability } }),
    });
    this.#running = { hsm, service };
  }

  async #stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.service.stop();
    await running?.hsm.close();
  }

  /** Stops all but the token and the database, and starts anew. */
  async restart(): Promise<void> {
    await this.#stop();
    await this.#start();
  }

  async close(): Promise<void> {
    await this.#stop();
    await this.engine.close();
    this.#fixture.remove();
  }

  /** The answer, which has the status given. */
  async post(path: string, json: object, status = 200): Promise<Record<string, unknown>> {
    return answered(await this.service.call('admin', 'POST', path, { json }), status);
  }

  async get(path: string, status = 200): Promise<Record<string, unknown>> {
    return answered(await this.service.call('admin', 'GET', path), status);
  }
}

function answered({ status, json }: Called, wanted: number): Record<string, unknown> {
  expect({ status, json }).toMatchObject({ status: wanted });
  return json;
}

/** What a life left behind and must still be good after a restart. */
export type Later = (service: TokenService) => Promise<void>;

const binding = { encryptionContext: { tenant: 'ä' }, aad: b64('aad') };
const context = { encryptionContext: binding.encryptionContext, aad: Buffer.from('aad') };
const PLAINTEXT = 'a data key';

export const nameOf = (suite: Suite, purpose = ''): string =>
  `${suite.id.toLowerCase()}${purpose === '' ? '' : `.${purpose}`}`;

/** Creates a key and rotates it once; answers its id. */
async function makeKey(at: TokenService, suite: Suite, purpose?: 'kem'): Promise<string> {
  const name = nameOf(suite, purpose);
  const named = purpose === undefined ? {} : { purpose };
  const made = await at.post('/v1/admin/keys', { name, suite: suite.id, ...named }, 201);
  expect(made).toMatchObject({ suite: suite.id, primary: 1 });
  return made['id'] as string;
}

async function rotate(at: TokenService, name: string): Promise<void> {
  const rotated = await at.post(`/v1/admin/keys/${name}/rotate`, {});
  expect(rotated).toMatchObject({ primary: 2, latestVersion: 2 });
}

async function expectHalves(at: TokenService, suite: Suite, name: string): Promise<void> {
  const { items } = await at.get(`/v1/keys/${name}/versions`);
  const custody =
    suite.hsm?.kind === 'x25519' || suite.hsm?.kind === 'ed25519' ? 'hsm-token' : 'hsm-wrapped';
  const parts = suite.parts.map(({ half, algorithm }) =>
    half === 'pq'
      ? { half: 'post-quantum', algorithm, custody: 'sealed', origin: 'software' }
      : { half: 'classical', algorithm, custody, origin: 'hsm' },
  );
  const whole = [{ half: 'symmetric', algorithm: suite.id, custody: 'hsm-wrapped', origin: 'hsm' }];
  const halves = parts.length === 0 ? whole : parts;
  const shown = items as readonly Record<string, unknown>[];
  expect(shown.map(({ version }) => version)).toEqual([1, 2]);
  for (const version of shown) {
    expect(version).toMatchObject({ suite: suite.id, state: 'active', halves });
    expect(version['halves']).toHaveLength(halves.length);
  }
}

/** The raw public key of a version, after every format was asked for. */
async function publicKeyOf(
  at: TokenService,
  suite: KemSuite | SignatureSuite,
  name: string,
): Promise<Uint8Array> {
  const { encoding } = suite;
  const path = `/v1/keys/${name}/public-key?version=1&format=`;
  for (const [format, form, part] of [
    ['pem', encoding.spki, 'spki'],
    ['jwk', encoding.jwk, 'jwk'],
  ] as const) {
    const found = await at.get(path + format, form === null ? 400 : 200);
    if (form !== null) expect(found).toHaveProperty(format);
    else expect(found).toMatchObject({ code: 'invalid_value', detail: encoding.unavailable[part] });
  }
  const { raw, offline } = await at.get(`${path}raw`);
  const ids = suite.kind === 'kem' ? { kem: suite.hpke.kem, kdf: suite.hpke.kdf, aead: 2 } : null;
  if (ids === null) expect(offline).toBeNull();
  else expect(offline).toMatchObject({ hpke: ids });
  return Buffer.from(raw as string, 'base64');
}

async function unwraps(at: TokenService, name: string, ciphertext: unknown, origin: string) {
  const opened = await at.post(`/v1/keys/${name}/unwrap`, { ciphertext, ...binding });
  expect(opened).toMatchObject({ plaintext: b64(PLAINTEXT), origin });
}

/** Rewraps to version 2, whose origin is that of version 1. */
async function rewraps(at: TokenService, name: string, ciphertext: unknown, origin: string) {
  const moved = await at.post(`/v1/keys/${name}/rewrap`, { ciphertext, ...binding });
  expect(moved).toMatchObject({ changed: true, keyVersion: 2 });
  await unwraps(at, name, moved['ciphertext'], origin);
  return moved['ciphertext'];
}

async function dataKeys(at: TokenService, name: string): Promise<void> {
  const made = await at.post(`/v1/keys/${name}/data-keys`, { bytes: 32, ...binding });
  const { ciphertext } = made;
  const opened = await at.post(`/v1/keys/${name}/unwrap`, { ciphertext, ...binding });
  expect(opened['plaintext']).toBe(made['plaintext']);
  const hidden = await at.post(`/v1/keys/${name}/data-keys/wrapped`, { bytes: 16, ...binding });
  expect(hidden).not.toHaveProperty('plaintext');
}

export async function wrapLife(at: TokenService, suite: KemSuite | AeadSuite): Promise<Later> {
  const name = nameOf(suite);
  const keyId = await makeKey(at, suite);
  const wrapped = await at.post(`/v1/keys/${name}/wrap`, {
    plaintext: b64(PLAINTEXT),
    ...binding,
  });
  expect(wrapped).toMatchObject({ suite: suite.id, keyVersion: 1 });
  const kept: [unknown, string][] = [[wrapped['ciphertext'], 'service']];
  if (suite.kind === 'kem') {
    const publicKey = await publicKeyOf(at, suite, name);
    const sealed = await sealEnvelope(at.engine, {
      suite,
      keyId,
      keyVersion: 1,
      publicKey,
      context,
      plaintext: secret(PLAINTEXT),
    });
    kept.push([encodeEnvelopeText(sealed), 'anyone']);
  } else {
    expect(await at.get(`/v1/keys/${name}/public-key`, 409)).toMatchObject({
      code: 'wrong_purpose',
    });
  }
  await rotate(at, name);
  for (const [ciphertext, origin] of [...kept]) {
    await unwraps(at, name, ciphertext, origin);
    kept.push([await rewraps(at, name, ciphertext, origin), origin]);
    const flipped = altered(ciphertext as string);
    const bad = { ciphertext: flipped, ...binding };
    expect(await at.post(`/v1/keys/${name}/unwrap`, bad, 422)).toMatchObject({
      code: 'decryption_failed',
    });
  }
  await dataKeys(at, name);
  await expectHalves(at, suite, name);
  return async (later) => {
    for (const [ciphertext, origin] of kept) await unwraps(later, name, ciphertext, origin);
  };
}

/** A ciphertext with one bit of its tag changed. */
function altered(text: string): string {
  const bytes = Buffer.from(text.slice(4), 'base64url');
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  return text.slice(0, 4) + bytes.toString('base64url');
}

export async function kemLife(at: TokenService, suite: KemSuite): Promise<Later> {
  const name = nameOf(suite, 'kem');
  const keyId = await makeKey(at, suite, 'kem');
  const publicKey = await publicKeyOf(at, suite, name);
  const made = await at.post(`/v1/keys/${name}/encapsulate`, {});
  const own = await encapsulateKey(at.engine, { suite, keyId, keyVersion: 1, publicKey });
  await rotate(at, name);
  await expectHalves(at, suite, name);
  const expected = [
    [made['encapsulation'], made['sharedSecret']],
    [b64(own.encapsulation), b64(own.sharedSecret.reveal())],
  ];
  const later: Later = async (service) => {
    for (const [encapsulation, sharedSecret] of expected) {
      const json = { encapsulation, keyVersion: 1 };
      const derived = await service.post(`/v1/keys/${name}/decapsulate`, json);
      expect(derived).toMatchObject({ sharedSecret, keyVersion: 1 });
    }
  };
  await later(at);
  const wrongPurpose = await at.service.call('admin', 'POST', `/v1/keys/${name}/wrap`, {
    json: { plaintext: b64('x') },
  });
  expect(wrongPurpose.json).toMatchObject({ code: 'wrong_purpose' });
  return later;
}

const MESSAGE = Buffer.from('a message');

/** Every form of input with whether the suite takes it; all that it takes without context stand for MESSAGE. */
function inputsOf(suite: SignatureSuite, publicKey: Uint8Array) {
  const { takes, prehash } = suite.signer;
  const digest = (algorithm: string) => ({
    digest: { algorithm, value: createHash(algorithm).update(MESSAGE).digest('base64') },
  });
  const mu = { mu: b64(muOf(publicKey, MESSAGE, new Uint8Array(0))) };
  const bound = { message: b64(MESSAGE), signatureContext: b64('a context') };
  return [
    [{ message: b64(MESSAGE) }, true],
    ...['SHA-256', 'SHA-384', 'SHA-512'].map((hash) => [digest(hash), hash === prehash] as const),
    [mu, takes.mu],
    [bound, takes.context],
    [{ ...mu, signatureContext: b64('a context') }, false],
  ] as const;
}

export async function signLife(at: TokenService, suite: SignatureSuite): Promise<Later> {
  const name = nameOf(suite);
  await makeKey(at, suite);
  const publicKey = await publicKeyOf(at, suite, name);
  const kept: object[] = [];
  const message = b64(MESSAGE);
  for (const [input, taken] of inputsOf(suite, publicKey)) {
    const answer = await at.post(`/v1/keys/${name}/sign`, input, taken ? 200 : 400);
    if (!taken) {
      expect(answer).toMatchObject({ code: 'invalid_value' });
      const checked = { ...input, signature: b64('x') };
      expect(await at.post(`/v1/keys/${name}/verify`, checked, 400)).toMatchObject({
        code: 'invalid_value',
      });
      continue;
    }
    const { signature } = answer;
    const bound = 'signatureContext' in input;
    kept.push({ ...input, signature }, ...(bound ? [] : [{ message, signature }]));
    const [wrong] = [Buffer.from(signature as string, 'base64')];
    wrong[wrong.length - 3] = (wrong.at(-3) ?? 0) ^ 1;
    for (const bad of [
      { ...input, signature: b64(wrong) },
      { message: b64('another'), signature },
      ...(bound ? [{ message, signature }] : []),
    ]) {
      expect(await at.post(`/v1/keys/${name}/verify`, bad)).toMatchObject({ valid: false });
    }
  }
  await rotate(at, name);
  await expectHalves(at, suite, name);
  const unnamed = { ...kept[0] };
  expect(await at.post(`/v1/keys/${name}/verify`, unnamed, 400)).toMatchObject({
    code: 'ambiguous_version',
  });
  const items = kept.flatMap((each) => [
    { ...each, keyVersion: 1 },
    { ...each, keyVersion: 2 },
  ]);
  const later: Later = async (service) => {
    const { results } = await service.post(`/v1/keys/${name}/verify/batch`, { items });
    const valid = (results as readonly Record<string, unknown>[]).map((result) => result['valid']);
    expect(valid).toEqual(kept.flatMap(() => [true, false]));
    const { signature, keyVersion } = await service.post(`/v1/keys/${name}/sign`, { message });
    const checked = { message, signature, keyVersion };
    expect(await service.post(`/v1/keys/${name}/verify`, checked)).toMatchObject({ valid: true });
  };
  await later(at);
  return later;
}

export async function macLife(at: TokenService, suite: MacSuite): Promise<Later> {
  const name = nameOf(suite);
  await makeKey(at, suite);
  const message = b64(MESSAGE);
  const { mac } = await at.post(`/v1/keys/${name}/mac`, { message });
  expect(Buffer.from(mac as string, 'base64')).toHaveLength(suite.mac.macLength);
  await rotate(at, name);
  await expectHalves(at, suite, name);
  expect(await at.get(`/v1/keys/${name}/public-key`, 409)).toMatchObject({ code: 'wrong_purpose' });
  const later: Later = async (service) => {
    for (const [json, valid] of [
      [{ message, mac, keyVersion: 1 }, true],
      [{ message, mac, keyVersion: 2 }, false],
      [{ message: b64('another'), mac, keyVersion: 1 }, false],
    ] as const) {
      expect(await service.post(`/v1/keys/${name}/verify-mac`, json)).toMatchObject({ valid });
    }
  };
  await later(at);
  return later;
}

/** Every life that a key of the suite can have. */
export async function livesOf(at: TokenService, suite: Suite): Promise<readonly Later[]> {
  switch (suite.kind) {
    case 'kem':
      return [await wrapLife(at, suite), await kemLife(at, suite)];
    case 'aead':
      return [await wrapLife(at, suite)];
    case 'signature':
      return [await signLife(at, suite)];
    case 'mac':
      return [await macLife(at, suite)];
  }
}

/** Suites whose keys take seconds: RSA of 4096 bits, and the small signatures of SLH-DSA. */
export const isSlow = ({ id }: Suite): boolean => /4096|^SLH-DSA-.*s$/.test(id);
