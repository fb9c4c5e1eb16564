/** Events as consumers get them: CloudEvents in pages that go on where the last one ended. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { EVENT_TYPES as SHOWN } from '../../src/contract/events.ts';
import { EVENT_TYPES } from '../../src/keyring/events.ts';
import { INSTALLATION } from '../keyring/world.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const EVENTS = '/v1/admin/events';

describe('the list of events', () => {
  let service: Service;
  beforeAll(async () => {
    service = await openService();
    for (const name of ['one', 'two']) {
      await service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite: 'A256GCM' } });
    }
    await service.call('operator', 'POST', '/v1/admin/keys/one/rotate', { json: {} });
  });
  afterAll(() => service.stop());
  const list = async (query = '', role = 'operator') => {
    const { json, status } = await service.call(role, 'GET', `${EVENTS}${query}`);
    return { status, code: json['code'], ...json } as {
      readonly status: number;
      readonly code: string | undefined;
      readonly items: readonly Record<string, unknown>[];
      readonly next: string;
      readonly more: boolean;
    };
  };

  it('knows the types that are written', () => {
    expect(SHOWN).toEqual(EVENT_TYPES);
  });

  it('is of CloudEvents 1.0', async () => {
    const { items } = await list('?type=kms.twofold.key.rotated');
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({
      specversion: '1.0',
      id: expect.stringMatching(/^[1-9]\d*-1$/),
      source: `urn:twofold:installation:${INSTALLATION}`,
      type: 'kms.twofold.key.rotated',
      subject: 'one',
      datacontenttype: 'application/json',
      data: { version: 2, suite: 'A256GCM' },
      twofoldnamespace: 'default',
      auditid: expect.stringMatching(/^[1-9]\d*-[1-9]\d*$/),
    });
    // Section 3.1 of the specification: names of attributes are lower-case letters and digits.
    for (const name of Object.keys(items[0] ?? {})) expect(name).toMatch(/^[a-z0-9]{1,20}$/);
  });

  it('goes on where it ended, also past the end', async () => {
    const one = await list('?pageSize=2');
    expect(one).toMatchObject({ more: true, next: one.items[1]?.['id'] });
    const two = await list(`?pageSize=2&after=${one.next}`);
    expect(two).toMatchObject({ more: false, items: [{ type: 'kms.twofold.key.rotated' }] });
    expect(await list(`?after=${two.next}`)).toMatchObject({ items: [], next: two.next });
    await service.call('admin', 'POST', '/v1/admin/keys/two/rotate', { json: {} });
    const { items } = await list(`?after=${two.next}`);
    expect(items).toMatchObject([{ subject: 'two', type: 'kms.twofold.key.rotated' }]);
    const keyId = String(items[0]?.['keyid']);
    const ofKey = await list(`?keyId=${keyId}`);
    expect(ofKey.items.map(({ subject }) => subject)).toEqual(['two', 'two']);
  });

  it('is for administrators, operators and auditors, with one entry for each page', async () => {
    for (const role of ['admin', 'operator', 'auditor']) {
      expect((await list('', role)).status).toBe(200);
      expect(service.drafts.at(-1)).toMatchObject({ operation: 'events.read', outcome: 'ok' });
    }
    for (const role of ['user', 'nobody']) expect((await list('', role)).code).toBe('forbidden');
  });

  it.each([
    ['?after=1', 'invalid_value'],
    ['?after=01-1', 'invalid_value'],
    ['?after=-1-1', 'invalid_value'],
    ['?after=9007199254740993-1', 'invalid_value'],
    ['?type=key.rotated', 'invalid_value'],
    ['?type=kms.twofold.key.Rotated', 'invalid_value'],
    ['?keyId=one', 'invalid_value'],
    ['?pageSize=1001', 'invalid_value'],
    ['?pageToken=x', 'unknown_parameter'],
  ])('refuses %s', async (query, code) => {
    expect((await list(query)).code).toBe(code);
  });
});
