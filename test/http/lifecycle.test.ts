/** Routes of the life of keys and versions: who may, what is answered, and what the log says. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

const WHY = { reason: 'a drill' };
const K = '/v1/admin/keys/k';

let service: Service;
beforeEach(async () => {
  service = await openService();
  await service.call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'HS256' } });
});
afterEach(() => service.stop());

const post = (path: string, json: unknown, role = 'operator') =>
  service.call(role, 'POST', `${K}${path}`, { json });
const put = (path: string, json: unknown, role = 'operator', tag?: string) =>
  service.call(role, 'PUT', `${K}${path}`, {
    json,
    ...(tag === undefined ? {} : { headers: { 'if-match': tag } }),
  });
const outcome = ({ status, json }: Called) => [status, json['code']];
const read = async (path = '') => (await service.call('auditor', 'GET', `/v1/keys/k${path}`)).json;
const mac = () => service.call('user', 'POST', '/v1/keys/k/mac', { json: { message: 'AAAA' } });
const entries = async (operation: string) => {
  const { json } = await service.call('auditor', 'GET', `/v1/audit/entries?operation=${operation}`);
  return json['items'] as { readonly detail: Record<string, unknown>; readonly key: object }[];
};

describe('a version', () => {
  it('is made to be activated later, and shows when', async () => {
    const activateAt = '2050-01-01T02:00:00+02:00';
    const rotated = await post('/rotate', { activateAt });
    expect(rotated.json).toMatchObject({ primary: 1, latestVersion: 2 });
    const shown = { state: 'pre-active', activateAt: '2050-01-01T00:00:00.000Z' };
    expect(await read('/versions/2')).toMatchObject(shown);
    for (const bad of ['2050-01-01', '2050-02-30T00:00:00Z', '2000-01-01T00:00:00Z', 5]) {
      expect(outcome(await post('/rotate', { activateAt: bad }))).toEqual([400, 'invalid_value']);
    }
    const again = await post('/versions/2/activate', WHY);
    expect(again.json).toMatchObject({ state: 'active', primary: true, activateAt: null });
    expect(outcome(await post('/versions/2/activate', WHY))).toEqual([200, undefined]);
  });

  it('is shown as it would be by a dry run, and stays as it is', async () => {
    const dry = await post('/versions/1/compromise?dryRun=true', { ...WHY, replace: true });
    expect(dry.json).toMatchObject({ state: 'compromised', dryRun: true });
    expect(await read()).toMatchObject({ primary: 1, latestVersion: 1 });
    expect((await mac()).status).toBe(200);
  });

  it('that is compromised is replaced where that is asked for, else the answer says how', async () => {
    const fallen = await post('/versions/1/compromise', WHY);
    const { replacement } = fallen.json as { replacement: { method: string; path: string } };
    expect(outcome(await mac())).toEqual([409, 'version_not_usable']);
    const { method, path } = replacement;
    expect((await service.call('operator', method, path, { json: {} })).status).toBe(200);
    expect((await mac()).json['keyVersion']).toBe(2);
    const replaced = await post('/versions/2/compromise', { ...WHY, replace: true });
    expect(replaced.json).toMatchObject({ version: 2, state: 'compromised', reason: 'a drill' });
    expect(replaced.json).not.toHaveProperty('replacement');
    expect((await mac()).json['keyVersion']).toBe(3);
    const [entry] = await entries('versions.compromise');
    expect(entry?.key).toMatchObject({ version: 2 });
    expect(entry?.detail).toMatchObject({ reason: 'a drill', replacement: 3 });
    expect(JSON.parse(String(entry?.detail['changed']))).toMatchObject({
      state: ['active', 'compromised'],
      primary: [2, 3],
    });
  });

  it('ends at a time that is set, which is taken back by null', async () => {
    const deactivateAt = '2050-01-01T00:00:00Z';
    const set = await put('/versions/1/schedule', { deactivateAt });
    expect(set.json['deactivateAt']).toBe('2050-01-01T00:00:00.000Z');
    const [entry] = await entries('versions.schedule');
    expect(JSON.parse(String(entry?.detail['changed']))).toEqual({
      deactivateAt: [null, '2050-01-01T00:00:00.000Z'],
    });
    const undone = await put('/versions/1/schedule', { deactivateAt: null });
    expect(undone.json['deactivateAt']).toBeNull();
    expect(outcome(await put('/versions/1/schedule', {}))).toEqual([400, 'invalid_value']);
    const wrong = await put('/versions/1/schedule', { activateAt: deactivateAt });
    expect(outcome(wrong)).toEqual([409, 'version_not_usable']);
  });
});

describe('a destruction', () => {
  const tag = async () => `"${String((await read())['revision'])}"`;

  it('is for the role that may destroy; who may change may cancel it', async () => {
    const denied = await put('/destruction', WHY, 'operator', await tag());
    expect(outcome(denied)).toEqual([403, 'forbidden']);
    const asked = await put('/destruction', { after: 'P30D', ...WHY }, 'admin', await tag());
    expect(asked.json['state']).toBe('pending-destruction');
    const headers = { 'if-match': await tag() };
    const saved = await service.call('operator', 'DELETE', `${K}/destruction`, { headers });
    expect(saved.json['state']).toBe('enabled');
  });

  it('never comes sooner than the least wait, and is as long as that is written', async () => {
    for (const after of ['P6D', 'PT1H', 'P0D']) {
      const refused = await put('/destruction', { after, ...WHY }, 'admin', await tag());
      expect(outcome(refused)).toEqual([400, 'invalid_value']);
    }
    for (const after of ['7 days', 'P1M', 'PT60S', 'P', 'PT', 'P-7D', 'p7d']) {
      const refused = await put('/destruction', { after, ...WHY }, 'admin', await tag());
      expect(outcome(refused)).toEqual([400, 'invalid_value']);
    }
    const asked = await put('/destruction', { after: 'P1W', ...WHY }, 'admin', await tag());
    const { at, requestedAt } = asked.json['destruction'] as Record<string, string>;
    expect(Date.parse(String(at)) - Date.parse(String(requestedAt))).toBe(7 * 86_400_000);
    const sooner = await put('/destruction', { after: 'P6D', ...WHY }, 'admin', await tag());
    expect(outcome(sooner)).toEqual([400, 'invalid_value']);
  });

  it('is refused while the key is protected against it', async () => {
    await service.call('admin', 'PATCH', K, { json: { deletionProtection: true } });
    const refused = await put('/destruction', WHY, 'admin', await tag());
    expect(outcome(refused)).toEqual([409, 'deletion_protected']);
    await post('/rotate', {});
    await post('/versions/1/deactivate', WHY);
    const version = await put('/versions/1/destruction', WHY, 'admin', await tag());
    expect(outcome(version)).toEqual([409, 'deletion_protected']);
  });

  it('is in the log with when, why, and what it does not reach', async () => {
    const at = '2050-01-01T00:00:00.000Z';
    await put('/destruction', { at, ...WHY }, 'admin', await tag());
    const [entry] = await entries('keys.schedule-destruction');
    const detail = { reason: 'a drill', destroyAt: at, rootGeneration: 1, backupsUntil: null };
    expect(entry?.detail).toMatchObject(detail);
  });
});
