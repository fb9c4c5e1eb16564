/** Batches of wraps and unwraps: each item is answered as the single route answers it. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { canonicalContext } from '../../src/crypto/context.ts';
import { FAULTS } from '../hsm/software-hsm.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

interface Item {
  readonly ref?: string;
  readonly ciphertext?: string;
  readonly encryptionContext?: Record<string, string>;
  readonly aad?: string;
}

const LIMIT = 1_000;
const base64 = (text: string) => Buffer.from(text).toString('base64');
const bound = { encryptionContext: { tenant: 'a' }, aad: base64('aad') };

let service: Service;
const wraps: Record<string, string> = {};

const post = (path: string, json: unknown) => service.call('admin', 'POST', path, { json });
const results = (json: Record<string, unknown>) => json['results'] as Record<string, unknown>[];

beforeAll(async () => {
  service = await openService({ options: { limits: { wrapBytes: LIMIT } } });
  for (const name of ['box', 'other']) {
    await post('/v1/admin/keys', { name, suite: 'A256GCM' });
  }
  const wrap = async (key: string, plaintext: string, more = {}) => {
    const { json } = await post(`/v1/keys/${key}/wrap`, { plaintext, ...more });
    return String(json['ciphertext']);
  };
  wraps['first'] = await wrap('box', base64('first'));
  await post('/v1/admin/keys/box/rotate', { suite: 'MLKEM768-P256' });
  wraps['hybrid'] = await wrap('box', base64('hybrid'));
  await post('/v1/admin/keys/box/rotate', { suite: 'A256GCM' });
  wraps['empty'] = await wrap('box', '');
  wraps['bound'] = await wrap('box', base64('bound'), bound);
  wraps['other'] = await wrap('other', base64('other'));
  const last = wraps['first'].at(-1) === 'A' ? 'Q' : 'A';
  wraps['changed'] = wraps['first'].slice(0, -1) + last;
});
afterAll(() => service.stop());

/** Position 21 of an audit entry: what stands behind each hash. */
function hashOf({ ref = '', encryptionContext = {}, aad = '' }: Item): string {
  const name = Buffer.from(ref);
  const length = Buffer.from([name.length >> 8, name.length & 0xff]);
  const context = canonicalContext({ encryptionContext, aad: Buffer.from(aad, 'base64') });
  const digest = createHash('sha256').update(length).update(name).update(context).digest();
  return digest.subarray(0, 16).toString('hex');
}

const lastItems = () =>
  (service.drafts.at(-1)?.items ?? []).map(({ hash, ...item }) => ({
    ...item,
    hash: Buffer.from(hash).toString('hex'),
  }));

describe('a batch of unwraps', () => {
  it('answers and records each item as one alone', async () => {
    const items: Item[] = [
      { ciphertext: wraps['first'] ?? '' },
      { ciphertext: wraps['first'] ?? '', ref: 'a' },
      { ciphertext: wraps['first'] ?? '', ref: 'a' },
      { ciphertext: wraps['hybrid'] ?? '', ref: 'b' },
      { ciphertext: wraps['changed'] ?? '' },
      { ciphertext: wraps['other'] ?? '', ref: 'c' },
      { ciphertext: wraps['empty'] ?? '' },
      { ciphertext: wraps['bound'] ?? '', ...bound, ref: 'd' },
      { ciphertext: wraps['bound'] ?? '', ...bound, ref: 'e' },
      { ciphertext: wraps['bound'] ?? '', ref: 'e' },
      { ciphertext: wraps['hybrid'] ?? '' },
    ];
    const alone = [];
    for (const { ref = null, ...item } of items) {
      const { status, json } = await post('/v1/keys/box/unwrap', item);
      const { code, title } = json;
      alone.push(status === 200 ? { ref, ...json } : { ref, error: { code, title, status } });
    }
    const many = await post('/v1/keys/box/unwrap/batch', { items });
    expect(many.status).toBe(200);
    expect(results(many.json)).toEqual(alone);
    expect(alone.filter((each) => 'plaintext' in each)).toHaveLength(8);
    expect(lastItems()).toEqual(
      items.map((item, index) => {
        const { error, keyVersion } = results(many.json)[index] as {
          error?: { code: string };
          keyVersion?: number;
        };
        const known = index === 4 ? 1 : index === 9 ? 3 : null;
        return {
          hash: hashOf(item),
          keyVersion: keyVersion ?? known,
          outcome: error?.code ?? 'ok',
        };
      }),
    );
  });
});

describe('a batch of wraps', () => {
  it('refuses an item over the limit, a version that is not there, and nothing else', async () => {
    const items = [
      { plaintext: base64('x'.repeat(LIMIT + 1)) },
      { plaintext: base64('x'.repeat(LIMIT)), ref: 'longest' },
      { plaintext: '', keyVersion: 9 },
      { plaintext: base64('one'), keyVersion: 1 },
      { plaintext: base64('two'), keyVersion: 2, ...bound },
      { plaintext: base64('three') },
    ];
    const { json } = await post('/v1/keys/box/wrap/batch', { items });
    const told = results(json).map((one) => {
      const error = one['error'] as { code: string } | undefined;
      return error?.code ?? one['keyVersion'];
    });
    expect(told).toEqual(['invalid_value', 3, 'version_not_found', 1, 2, 3]);
    expect(lastItems().map(({ keyVersion }) => keyVersion)).toEqual([null, 3, null, 1, 2, 3]);
    const good = results(json).flatMap(({ ciphertext }, index) =>
      ciphertext === undefined
        ? []
        : [{ ciphertext, ...(items[index]?.keyVersion === 2 ? bound : {}) }],
    );
    const opened = await post('/v1/keys/box/unwrap/batch', { items: good });
    expect(results(opened.json).map(({ plaintext }) => plaintext)).toEqual([
      base64('x'.repeat(LIMIT)),
      base64('one'),
      base64('two'),
      base64('three'),
    ]);
  });

  it('fails as a whole with what the HSM fails all items with', async () => {
    const error = FAULTS.busy;
    service.world.device.hsm.inject({ call: 'encryptMany', when: 'before', error });
    const items = [{ plaintext: base64('one') }, { plaintext: base64('two') }];
    const { status, json } = await post('/v1/keys/box/wrap/batch', { items });
    expect([status, json['code']]).toEqual([503, 'hsm_busy']);
    expect(lastItems().map(({ outcome, keyVersion }) => [outcome, keyVersion])).toEqual([
      ['hsm_busy', 3],
      ['hsm_busy', 3],
    ]);
  });
});
