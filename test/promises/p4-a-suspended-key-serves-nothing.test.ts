/**
 * Promise P4, generated from the table of routes: no use of a key is served while the key is suspended,
 * and each refusal is audited. A use that is added is missed by this test's requests, and fails it.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ROUTES } from '../../src/contract/routes.ts';
import { openService } from '../http/service.ts';
import type { Called, Service } from '../http/service.ts';

/** What does something with the material of a key. */
const USES = ROUTES.filter(
  ({ plane, method, path }) =>
    plane === 'use' && method === 'POST' && (path.includes('{key}') || path.includes('sign')),
);

const KEYS = {
  wrap: { suite: 'MLKEM768-P256' },
  kem: { suite: 'MLKEM768-P256', purpose: 'kem' },
  sign: { suite: 'MLDSA65-ECDSA-P256-SHA512' },
  second: { suite: 'MLDSA65-ECDSA-P256-SHA512' },
  mac: { suite: 'HS256' },
} as const;
type KeyName = keyof typeof KEYS;

const message = 'bQ==';
let service: Service;
/** By route: the key, and a request that succeeds while the key is in use. */
let requests: Readonly<Record<string, readonly [KeyName, object]>>;

const ask = (key: string, path: string, json: object) =>
  service.call('admin', 'POST', path.replace('{key}', key), { json });

beforeAll(async () => {
  service = await openService();
  for (const [name, key] of Object.entries(KEYS)) {
    const made = await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, ...key } });
    expect(made.status).toBe(201);
  }
  const made = async (key: KeyName, use: string, json: object) =>
    (await ask(key, `/v1/keys/{key}/${use}`, json)).json;
  const { ciphertext } = await made('wrap', 'wrap', { plaintext: message });
  const { encapsulation } = await made('kem', 'encapsulate', {});
  const { signature } = await made('sign', 'sign', { message });
  const { mac } = await made('mac', 'mac', { message });
  const both = (json: object) => ({ items: [json, json] });
  requests = {
    wrap: ['wrap', { plaintext: message }],
    wrapBatch: ['wrap', both({ plaintext: message })],
    unwrap: ['wrap', { ciphertext }],
    unwrapBatch: ['wrap', both({ ciphertext })],
    rewrap: ['wrap', { ciphertext }],
    rewrapBatch: ['wrap', both({ ciphertext })],
    createDataKey: ['wrap', { bytes: 32 }],
    createWrappedDataKey: ['wrap', { bytes: 32 }],
    encapsulate: ['kem', {}],
    decapsulate: ['kem', { encapsulation, keyVersion: 1 }],
    sign: ['sign', { message }],
    signBatch: ['sign', both({ message })],
    verify: ['sign', { message, signature }],
    verifyBatch: ['sign', both({ message, signature })],
    requestCertificate: ['sign', { subject: [{ CN: 'release' }] }],
    signParallel: ['sign', { keys: [{ key: 'sign' }, { key: 'second' }], message }],
    mac: ['mac', { message }],
    macBatch: ['mac', both({ message })],
    verifyMac: ['mac', { message, mac }],
    verifyMacBatch: ['mac', both({ message, mac })],
  };
}, 60_000);
afterAll(() => service.stop());

const suspend = (key: KeyName, how: 'suspend' | 'resume') =>
  service.call('admin', 'POST', `/v1/admin/keys/${key}/${how}`, { json: { reason: 'a drill' } });

/** Of a batch, the code of each item. */
function codes({ json }: Called): readonly unknown[] {
  const results = json['results'] as readonly { readonly error?: { code?: unknown } }[] | undefined;
  return results?.map(({ error }) => error?.code) ?? [json['code']];
}

describe.each(USES.map(({ id, path, operation }) => [id, path, String(operation)] as const))(
  '%s',
  (id, path, operation) => {
    it('is served, is refused and audited while its key is suspended, and is served again', async () => {
      const [key, json] = requests[id] ?? [];
      if (key === undefined || json === undefined) throw new Error(`no request for ${id}`);
      const served = async () => {
        const answer = await ask(key, path, json);
        expect([answer.status, ...new Set(codes(answer))]).toEqual([200, undefined]);
      };
      await served();
      expect((await suspend(key, 'suspend')).status).toBe(200);
      const before = service.drafts.length;
      const answer = await ask(key, path, json);
      expect(new Set(codes(answer))).toEqual(new Set(['version_not_usable']));
      const [entry, ...more] = service.drafts.slice(before);
      expect(more).toEqual([]);
      expect(entry).toMatchObject({ operation, namespace: 'default' });
      const outcomes =
        entry?.items.length === 0 ? [entry.outcome] : entry?.items.map(({ outcome }) => outcome);
      expect(new Set(outcomes)).toEqual(new Set(['version_not_usable']));
      expect((await suspend(key, 'resume')).status).toBe(200);
      await served();
    });
  },
);
