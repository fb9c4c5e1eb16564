/**
 * An API server before a provider that lives and is not well: it writes for 3 minutes more and then stops, as it
 * must, for what is written then may be under a key that nobody opens any more.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from '@jest/globals';

import { encodeEnvelope } from '../../src/crypto/envelope.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { KeyManagement } from '../../src/kubernetes/key-management.ts';
import type { KeyService, ProviderState } from '../../src/kubernetes/ports.ts';
import { KmsServer } from '../../src/kubernetes/server.ts';
import { ApiServer } from './apiserver.ts';

const KEY = '00112233-4455-6677-8899-aabbccddeeff';
const OTHER = '10112233-4455-6677-8899-aabbccddeeff';
const POLL_MS = 10_000;

let now = 0;
let failure: ErrorCode | null = null;
let stateNow: Pick<ProviderState, 'keyId' | 'announced'>;
const seeds = new Map<string, Uint8Array>();
const suite = findSuite('A256GCM');
const envelopeOf = (keyId: string, keyVersion: number) => {
  if (suite.kind !== 'aead') throw new TypeError('not an AEAD');
  const [nonce, ciphertext] = [randomBytes(suite.aead.nonceLength), randomBytes(48)];
  return encodeEnvelope({ mode: 'symmetric', suite, keyId, keyVersion, nonce, ciphertext });
};
const service: KeyService = {
  refuse: ({ failure: refused }) => Promise.reject(refused),
  state: () =>
    failure === null
      ? Promise.resolve({
          ...stateNow,
          keyName: 'secrets',
          versions: [{ version: stateNow.announced, state: 'active' }],
        })
      : Promise.reject(new TwofoldError(failure)),
  wrap: ({ plaintext, keyVersion }) => {
    const envelope = envelopeOf(stateNow.keyId, keyVersion);
    seeds.set(Buffer.from(envelope).toString('hex'), Uint8Array.from(plaintext.reveal()));
    return Promise.resolve(envelope);
  },
  unwrap: ({ envelope }) => {
    const seed = seeds.get(Buffer.from(envelope).toString('hex')) ?? new Uint8Array(0);
    return Promise.resolve({ plaintext: SecretBytes.copyOf(seed), origin: 'service' });
  },
};

let folder: string;
let provider: KmsServer;
let server: ApiServer;
beforeEach(async () => {
  [now, failure, stateNow] = [0, null, { keyId: KEY, announced: 3 }];
  seeds.clear();
  folder = mkdtempSync(join(tmpdir(), 'kms-'));
  const path = join(folder, 'kms.sock');
  const about = { provider: 'twofold', cluster: 'c1', key: 'secrets' };
  provider = new KmsServer({
    management: new KeyManagement({ service, ...about, now: () => now }),
    ...{ path, group: null, observe: () => undefined, onTrouble: () => undefined },
  });
  await provider.serve();
  server = new ApiServer(path, new Map(), () => now);
  await server.start();
});
afterEach(async () => {
  server.stop();
  await provider.stop();
  rmSync(folder, { recursive: true });
});

/** When it had stopped to write, ms; it asks every 10 s. Until then it may. */
async function stopped(): Promise<number> {
  while (now < 600_000) {
    now += POLL_MS;
    await server.poll();
    if (!server.writes) return now;
  }
  return Infinity;
}

const failing = (code: ErrorCode) => () => {
  failure = code;
};
const AT_ONCE = 180_000 + POLL_MS;
/** First seen at 10 s; told well then, at 20 and at 30 s. */
const AFTER_GRACE = 30_000 + AT_ONCE;

test.each<[string, () => void, string, number]>([
  ['its certificate expired', failing('certificate_expired'), 'certificate_expired', AT_ONCE],
  ['its token expired', failing('token_expired'), 'token_expired', AT_ONCE],
  ['the key is suspended', failing('version_not_usable'), 'version_not_usable', AT_ONCE],
  ['its record is gone', failing('not_found'), 'not_found', AT_ONCE],
  ['it may not use the key', failing('forbidden'), 'forbidden', AT_ONCE],
  [
    'the service was set back',
    () => (stateNow = { keyId: KEY, announced: 2 }),
    'log_rolled_back',
    AT_ONCE,
  ],
  [
    'the key is another',
    () => (stateNow = { keyId: OTHER, announced: 3 }),
    'invalid_value',
    AT_ONCE,
  ],
  ['the service is away', failing('service_unreachable'), 'service_unreachable', AFTER_GRACE],
  ['the database is away', failing('database_unavailable'), 'database_unavailable', AFTER_GRACE],
])('writes stop where %s', async (_what, happens, code, after) => {
  const seed = randomBytes(32);
  const value = await server.plugin.encrypt(seed);
  happens();
  expect(await stopped()).toBe(after);
  // The cause is what /readyz/kms-providers shows.
  expect(server.health).toContain(`${code}: `);
  await expect(server.plugin.status()).rejects.toMatchObject({
    details: expect.stringMatching(new RegExp(`^${code}: `, 'u')) as unknown,
  });
  if (stateNow.keyId === KEY) expect(seed.equals(await server.plugin.decrypt(value))).toBe(true);
  // Once it is well, the same source writes again.
  [failure, stateNow] = [null, { keyId: KEY, announced: 3 }];
  now += POLL_MS;
  await server.poll();
  expect([server.health, server.writes, server.counts.encrypt]).toEqual([null, true, 1]);
});

test('writes go on while what passes by itself is within its grace', async () => {
  for (let fault = 0; fault < 12; fault += 1) {
    failure = 'hsm_unavailable';
    for (let polls = 0; polls < 2; polls += 1) {
      now += POLL_MS;
      await server.poll();
      expect([server.health, server.writes]).toEqual([null, true]);
    }
    failure = null;
    now += POLL_MS;
    await server.poll();
  }
  expect(server.counts.encrypt).toBe(1);
});
