/** Routes of the life of keys and versions: who may, what is answered, and what the log says. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { aRun } from '../keyring/world.ts';
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

  it('that is compromised on a suspended key has fallen, and the answer says what was not made', async () => {
    await post('/suspend', WHY);
    const fallen = await post('/versions/1/compromise', { ...WHY, replace: true });
    expect(fallen.status).toBe(200);
    expect(fallen.json).toMatchObject({
      state: 'compromised',
      replacementRefused: 'version_not_usable',
      replacement: { method: 'POST', path: '/v1/admin/keys/k/rotate' },
    });
    const [entry] = await entries('versions.compromise');
    expect(entry?.detail).toMatchObject({ replacementRefused: 'version_not_usable' });
    await post('/resume', WHY);
    expect((await post('/rotate', {})).json).toMatchObject({ primary: 2 });
    expect((await mac()).json['keyVersion']).toBe(2);
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

/** What requests that name the version are answered, as the version would say it of itself. */
async function served(version: number): Promise<readonly string[]> {
  const message = 'AAAA';
  const ask = (path: string, json: object) =>
    service.call('user', 'POST', `/v1/keys/k/${path}`, { json: { message, ...json } });
  const made = await ask('mac', { keyVersion: version });
  const checked = await ask('verify-mac', {
    keyVersion: version,
    mac: Buffer.alloc(32).toString('base64'),
  });
  for (const { status, json } of [made, checked]) {
    if (status !== 200) expect([status, json['code']]).toEqual([409, 'version_not_usable']);
  }
  return [
    ...(made.status === 200 ? ['protect'] : []),
    ...(checked.status === 200 ? ['process'] : []),
  ];
}

describe('what a version says of its use', () => {
  const both = ['protect', 'process'];
  const expectUse = async (version: number, usableFor: readonly string[]) => {
    expect(await read(`/versions/${String(version)}`)).toMatchObject({
      usable: usableFor.length > 0,
      usableFor,
    });
    expect(await served(version)).toEqual(usableFor);
  };

  it('is what requests get, in every state and whatever closes it', async () => {
    await expectUse(1, both);
    await post('/rotate', {});
    await expectUse(1, both);
    await post('/versions/1/suspend', WHY);
    await expectUse(1, []);
    await post('/versions/1/resume', WHY);
    await post('/versions/1/deactivate', WHY);
    await expectUse(1, ['process']);
    await service.call('operator', 'PATCH', K, { json: { minUsableVersion: 2 } });
    await expectUse(1, []);
    await service.call('operator', 'PATCH', K, { json: { minUsableVersion: 1 } });
    await expectUse(1, ['process']);
    await post('/rotate', { activateAt: '2050-01-01T00:00:00Z' });
    await expectUse(3, []);
    await post('/versions/1/compromise', WHY);
    await expectUse(1, []);
    await post('/suspend', WHY);
    await expectUse(2, []);
    await post('/resume', WHY);
    await expectUse(2, both);
    const tag = async () => `"${String((await read())['revision'])}"`;
    await put('/versions/1/destruction', WHY, 'admin', await tag());
    await expectUse(1, []);
    await put('/destruction', WHY, 'admin', await tag());
    await expectUse(2, []);
  });

  it('is said beside the public key, and how to wrap to it only while that is right', async () => {
    await service.call('admin', 'POST', '/v1/admin/keys', {
      json: { name: 'w', suite: 'MLKEM768-P256' },
    });
    const W = '/v1/admin/keys/w';
    const act = async (path: string, json: unknown = WHY) => {
      expect((await service.call('operator', 'POST', `${W}${path}`, { json })).status).toBe(200);
    };
    const shown = async (version: number) => {
      const path = `/v1/keys/w/public-key?format=raw&version=${String(version)}`;
      const { status, json } = await service.call('auditor', 'GET', path);
      expect([status, typeof json['raw']]).toEqual([200, 'string']);
      const of = (await service.call('auditor', 'GET', `/v1/keys/w/versions/${String(version)}`))
        .json;
      expect(json).toMatchObject({ state: of['state'], usableFor: of['usableFor'] });
      return [json['state'], json['offline'] !== null];
    };
    expect(await shown(1)).toEqual(['active', true]);
    await act('/rotate', {});
    expect(await shown(1)).toEqual(['active', true]);
    await act('/versions/1/suspend');
    expect(await shown(1)).toEqual(['suspended', false]);
    await act('/versions/1/resume');
    await act('/versions/1/deactivate');
    expect(await shown(1)).toEqual(['deactivated', false]);
    await act('/versions/1/compromise');
    expect(await shown(1)).toEqual(['compromised', false]);
    await act('/suspend');
    expect(await shown(2)).toEqual(['active', false]);
    await act('/resume');
    const { revision } = (await service.call('auditor', 'GET', '/v1/keys/w')).json;
    await service.call('admin', 'PUT', `${W}/destruction`, {
      json: WHY,
      headers: { 'if-match': `"${String(revision)}"` },
    });
    expect(await shown(2)).toEqual(['active', false]);
  });

  it('is not shown of a namespace that is suspended: nothing of it is read', async () => {
    await service.call('admin', 'POST', '/v1/admin/namespaces', { json: { name: 'team' } });
    const within = (method: string, path: string, json?: unknown) =>
      service.call('admin', method, path, {
        headers: { 'twofold-namespace': 'team' },
        ...(json === undefined ? {} : { json }),
      });
    await within('POST', '/v1/admin/keys', { name: 'k', suite: 'HS256' });
    expect((await within('GET', '/v1/keys/k/versions/1')).json).toMatchObject({ usable: true });
    await service.call('admin', 'POST', '/v1/admin/namespaces/team/suspend', { json: WHY });
    expect(outcome(await within('GET', '/v1/keys/k/versions/1'))).toEqual([
      409,
      'namespace_suspended',
    ]);
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

  it('is cancelled before its key can be protected: protection cancels nothing without a word', async () => {
    const protect = (dry = '') =>
      service.call('admin', 'PATCH', `${K}${dry}`, { json: { deletionProtection: true } });
    const refused = [409, 'version_not_usable'];
    await put('/destruction', WHY, 'admin', await tag());
    for (const dry of ['', '?dryRun=true']) expect(outcome(await protect(dry))).toEqual(refused);
    const spare = async (path: string) =>
      service.call('admin', 'DELETE', `${K}${path}`, { headers: { 'if-match': await tag() } });
    await spare('/destruction');
    await post('/rotate', {});
    await post('/versions/1/deactivate', WHY);
    await put('/versions/1/destruction', WHY, 'admin', await tag());
    expect(outcome(await protect())).toEqual(refused);
    expect(await read()).toMatchObject({ deletionProtection: false });
    await spare('/versions/1/destruction');
    expect((await protect()).json).toMatchObject({ deletionProtection: true });
  });

  it('is in the log with when, why, and what it does not reach', async () => {
    const at = '2050-01-01T00:00:00.000Z';
    await put('/destruction', { at, ...WHY }, 'admin', await tag());
    const [entry] = await entries('keys.schedule-destruction');
    const detail = { reason: 'a drill', destroyAt: at, rootGeneration: 1, backupsUntil: null };
    expect(entry?.detail).toMatchObject(detail);
  });
});

it('the destruction of a key counts what its destroyed versions leave, as reading it does', async () => {
  const destruction = { minimumWaitMs: 0, defaultWaitMs: 86_400_000, backupHorizonMs: null };
  const own = await openService({ destruction });
  try {
    const call = async (method: string, path: string, json?: object) => {
      const { headers } = await own.call('auditor', 'GET', '/v1/keys/k');
      return own.call('admin', method, `${K}${path}`, {
        ...(json === undefined ? {} : { json }),
        ...(method === 'PUT' ? { headers: { 'if-match': String(headers.get('etag')) } } : {}),
      });
    };
    await own.call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'HS256' } });
    await call('POST', '/rotate', {});
    await call('POST', '/versions/1/deactivate', WHY);
    expect((await call('PUT', '/versions/1/destruction', { after: 'P0D', ...WHY })).status).toBe(
      200,
    );
    const { keyring, store } = own.world;
    const grant = own.world.grant('versions.destroy', 'k');
    await keyring.lifecycle.destroyVersion(grant, { version: 1 }, aRun());
    // Its root was of a later generation than that of the version that stays.
    for (const [id, left] of store.rows.tombstones) {
      store.rows.tombstones.set(
        id,
        left.map((each) => ({ ...each, rootGeneration: 7 })),
      );
    }
    const copies = { backupsUntil: null, rootGeneration: 7 };
    expect((await call('PUT', '/destruction', WHY)).json).toMatchObject({ copies });
    expect((await own.call('auditor', 'GET', '/v1/keys/k')).json).toMatchObject({ copies });
  } finally {
    await own.stop();
  }
});

describe('a destroyed key', () => {
  it('takes no change: every route of it says so by a code that it lists', async () => {
    const destruction = { minimumWaitMs: 0, defaultWaitMs: 0, backupHorizonMs: null };
    const gone = await openService({ destruction });
    try {
      const call = (method: string, path: string, json?: object) =>
        gone.call('admin', method, `${K}${path}`, {
          ...(json === undefined ? {} : { json }),
          ...(method === 'POST' || path === '' ? {} : { headers: { 'if-match': '"6"' } }),
        });
      await gone.call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'HS256' } });
      await call('POST', '/rotate', {});
      for (const alias of ['old', 'older']) {
        const path = `${K}/aliases/${alias}`;
        expect((await gone.call('admin', 'PUT', path, { json: {} })).status).toBe(200);
      }
      const doomed = { headers: { 'if-match': '"4"' }, json: { after: 'P0D', ...WHY } };
      expect((await gone.call('admin', 'PUT', `${K}/destruction`, doomed)).status).toBe(200);
      const { keyring } = gone.world;
      await keyring.lifecycle.destroyKey(gone.world.grant('keys.destroy', 'k'), aRun());
      const version = '/versions/1';
      const changes = [
        ['PATCH', '', { labels: { a: 'b' } }],
        ['POST', '/rotate', {}],
        ['POST', '/suspend', WHY],
        ['POST', '/resume', WHY],
        ['PUT', '/primary', { version: 1, ...WHY }],
        ['PUT', '/aliases/other', {}],
        ['PUT', '/rotation-policy', { interval: 'P30D' }],
        ['DELETE', '/rotation-policy'],
        ['POST', '/rotation-policy/pause', WHY],
        ['POST', '/rotation-policy/resume', WHY],
        ['PUT', '/destruction', WHY],
        ['DELETE', '/destruction'],
        ['POST', `${version}/activate`, WHY],
        ['POST', `${version}/deactivate`, WHY],
        ['POST', `${version}/suspend`, WHY],
        ['POST', `${version}/resume`, WHY],
        ['POST', `${version}/compromise`, WHY],
        ['PUT', `${version}/schedule`, { deactivateAt: null }],
        ['PUT', `${version}/destruction`, WHY],
        ['DELETE', `${version}/destruction`],
        ['DELETE', `${version}/certificate-chain`],
      ] as const;
      for (const [method, path, json] of changes) {
        const refused = await call(method, path, json);
        expect([method, path, ...outcome(refused)]).toEqual([
          ...[method, path],
          ...[409, 'version_not_usable'],
        ]);
      }
      const shown = await gone.call('auditor', 'GET', `/v1/keys/k${version}`);
      expect(shown.json).toMatchObject({ state: 'destroyed', usable: false, usableFor: [] });
      expect(shown.json['activatedAt']).not.toBeNull();
      expect(shown.json['copies']).toEqual({ backupsUntil: null, rootGeneration: 1 });

      // Its aliases stay its own: no other key answers by itself to who uses one of them.
      const use = (name: string) =>
        gone.call('user', 'POST', `/v1/keys/${name}/mac`, { json: { message: 'AAAA' } });
      const create = (name: string) =>
        gone.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite: 'HS256' } });
      const alias = (method: string, key: string, name: string, json?: object) =>
        gone.call('admin', method, `/v1/admin/keys/${key}/aliases/${name}`, json && { json });
      expect((await gone.call('auditor', 'GET', '/v1/keys/k')).json['aliases']).toEqual([
        'old',
        'older',
      ]);
      expect((await create('heir')).status).toBe(201);
      expect([
        outcome(await use('old')),
        outcome(await create('old')),
        outcome(await alias('PUT', 'heir', 'old', {})),
      ]).toEqual([
        [409, 'version_not_usable'],
        [409, 'name_retired'],
        [409, 'key_exists'],
      ]);
      // Until it is taken back, or given to another key, by name.
      expect((await alias('DELETE', 'k', 'old')).json['aliases']).toEqual(['older']);
      expect(outcome(await use('old'))[0]).toBe(404);
      expect((await create('old')).status).toBe(201);
      expect((await alias('PUT', 'heir', 'older', { from: 'k' })).status).toBe(200);
      expect((await use('older')).json['key']).toBe('heir');
      expect(outcome(await alias('DELETE', 'k', 'old'))).toEqual([404, 'not_found']);
    } finally {
      await gone.stop();
    }
  });
});
