/** Uses that fail: what their audit entries still name, and that a full token passes. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FAULTS } from '../hsm/software-hsm.ts';
import type { Fault } from '../hsm/software-hsm.ts';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

interface Entry {
  readonly outcome: string;
  readonly key: { readonly id: string | null; readonly version: number | null };
  readonly items: readonly { readonly keyVersion: number | null; readonly outcome: string }[];
}

const PLAIN = 'AAAA';
const KEYS = {
  box: { suite: 'A256GCM' },
  kem: { suite: 'MLKEM768-P256', purpose: 'kem' },
  sign: { suite: 'MLDSA65-ECDSA-P256-SHA512' },
  mac: { suite: 'HS256' },
} as const;

let service: Service;
const ids = new Map<string, unknown>();

const post = (path: string, json: unknown) => service.call('admin', 'POST', path, { json });

async function entryOf(answer: Called): Promise<Entry> {
  const id = answer.headers.get('twofold-audit-id') ?? '';
  const { json } = await service.call('auditor', 'GET', `/v1/audit/entries/${id}`);
  return json as unknown as Entry;
}

const fail = (call: Fault['call'], times = 1) =>
  service.world.device.hsm.inject({ call, when: 'before', error: FAULTS.deviceMemory, times });

beforeAll(async () => {
  service = await openService();
  for (const [name, key] of Object.entries(KEYS)) {
    const made = await post('/v1/admin/keys', { name, ...key });
    ids.set(name, made.json['id']);
  }
  // Its rows are read and checked now, so that a fault meets the use and not the check.
  await post('/v1/keys/mac/mac', { message: PLAIN });
});
afterAll(() => service.stop());

describe('the entry of a use that fails in the HSM', () => {
  it.each([
    ['box', 'wrap', 'encrypt', { plaintext: PLAIN }],
    ['sign', 'sign', 'sign', { message: PLAIN }],
    ['mac', 'mac', 'mac', { message: PLAIN }],
    ['mac', 'verify-mac', 'mac', { message: PLAIN, mac: PLAIN }],
  ] as const)('names key and version: %s/%s', async (key, route, call, body) => {
    fail(call);
    const refused = await post(`/v1/keys/${key}/${route}`, body);
    expect([refused.status, refused.json['code']]).toEqual([503, 'hsm_full']);
    const named = { id: ids.get(key), version: 1 };
    expect(await entryOf(refused)).toMatchObject({ outcome: 'hsm_full', key: named });
    expect((await post(`/v1/keys/${key}/${route}`, body)).status).toBe(200);
  });

  it('names the version of each item that failed', async () => {
    fail('mac');
    const items = [{ message: PLAIN }, { message: PLAIN, keyVersion: 9 }, { message: PLAIN }];
    const entry = await entryOf(await post('/v1/keys/mac/mac/batch', { items }));
    expect(entry.items.map(({ keyVersion }) => keyVersion)).toEqual([1, null, 1]);
    expect(entry.items.map(({ outcome }) => outcome).toSorted()).toEqual([
      'hsm_full',
      'ok',
      'version_not_found',
    ]);
    fail('mac', 2);
    const none = await post('/v1/keys/mac/mac/batch', { items: [items[0], items[2]] });
    expect(none.json['code']).toBe('hsm_full');
    const { key } = await entryOf(none);
    expect(key.id).toBe(ids.get('mac'));
  });
});

describe('the entry of a use of a version that does not exist', () => {
  it.each([
    ['box', 'wrap', { plaintext: PLAIN }],
    ['kem', 'encapsulate', {}],
    ['kem', 'decapsulate', { encapsulation: PLAIN }],
    ['sign', 'sign', { message: PLAIN }],
    ['sign', 'verify', { message: PLAIN, signature: PLAIN }],
    ['mac', 'mac', { message: PLAIN }],
    ['mac', 'verify-mac', { message: PLAIN, mac: PLAIN }],
  ] as const)('names the key: %s/%s', async (key, route, body) => {
    const refused = await post(`/v1/keys/${key}/${route}`, { ...body, keyVersion: 9 });
    expect(refused.json['code']).toBe('version_not_found');
    const named = { id: ids.get(key), version: null };
    expect(await entryOf(refused)).toMatchObject({ outcome: 'version_not_found', key: named });
  });
});

it('a full token refuses a key with hsm_full, and makes it once there is room', async () => {
  fail('generate');
  const json = { name: 'later', suite: 'MLKEM768-P256' };
  const refused = await post('/v1/admin/keys', json);
  expect([refused.status, refused.json['code']]).toEqual([503, 'hsm_full']);
  expect((await post('/v1/admin/keys', json)).status).toBe(201);
});
