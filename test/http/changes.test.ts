import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { findSuite } from '../../src/crypto/suites.ts';
import { openService } from './service.ts';
import type { CallInit, Service } from './service.ts';

describe('changes', () => {
  let service: Service;
  beforeAll(async () => {
    service = await openService();
  });
  afterAll(() => service.stop());

  const create = (name: string, init: CallInit = {}, query = '') =>
    service.call('operator', 'POST', `/v1/admin/keys${query}`, {
      json: { name, suite: 'A256GCM' },
      ...init,
    });

  it('answer 201 with Location and ETag on create', async () => {
    const { status, headers, json } = await create('a');
    expect(status).toBe(201);
    expect(headers.get('location')).toBe('/v1/keys/a');
    expect(headers.get('etag')).toBe(`"${String(json['revision'])}"`);
    const entry = await service.call(
      'auditor',
      'GET',
      `/v1/audit/entries/${headers.get('twofold-audit-id') ?? ''}`,
    );
    expect(entry.json).toMatchObject({ operation: 'keys.create', outcome: 'ok' });
    expect(entry.json['requestId']).toBe(headers.get('twofold-request-id'));
  });

  describe('dry runs', () => {
    it('check everything, change nothing, and are recorded as such', async () => {
      const { status, json, headers } = await create('dry', {}, '?dryRun=true');
      expect(status).toBe(200);
      expect(json).toMatchObject({ name: 'dry', dryRun: true });
      expect(service.drafts.at(-1)).toMatchObject({
        operation: 'keys.create',
        outcome: 'ok',
        detail: { dryRun: true },
      });
      expect(headers.get('twofold-audit-id')).not.toBeNull();
      expect((await service.call('user', 'GET', '/v1/keys/dry')).status).toBe(404);
      expect((await create('a', {}, '?dryRun=true')).json['code']).toBe('key_exists');
      expect(service.drafts.at(-1)).toMatchObject({ keyRef: 'a', outcome: 'key_exists' });
      const rotated = await service.call('operator', 'POST', '/v1/admin/keys/a/rotate?dryRun=true');
      expect(rotated.json).toMatchObject({ dryRun: true });
      expect((await service.call('user', 'GET', '/v1/keys/a')).json).toMatchObject({ primary: 1 });
    });

    it.each([
      ['?dryrun=true', 'unknown_parameter'],
      ['?dryRun=True', 'invalid_value'],
      ['?dryRun=1', 'invalid_value'],
      ['?dryRun=', 'invalid_value'],
      ['?dryRun', 'invalid_value'],
      ['?dryRun=true&dryRun=false', 'unknown_parameter'],
      ['?', 'unknown_parameter'],
      ['?&', 'unknown_parameter'],
    ])('%s is %s and rotates nothing', async (query, code) => {
      const path = `/v1/admin/keys/a/rotate${query}`;
      expect((await service.call('operator', 'POST', path)).json['code']).toBe(code);
      expect((await service.call('user', 'GET', '/v1/keys/a')).json).toMatchObject({ primary: 1 });
    });
  });

  describe('idempotency', () => {
    const headers = { 'idempotency-key': 'once-1' };

    it('replays the first answer and says so', async () => {
      const first = await create('idem', { headers });
      const again = await create('idem', { headers });
      expect([again.status, again.json]).toEqual([first.status, first.json]);
      expect(first.headers.get('idempotency-replayed')).toBeNull();
      expect(again.headers.get('idempotency-replayed')).toBe('true');
      for (const header of ['etag', 'location']) {
        expect(first.headers.get(header)).not.toBeNull();
        expect(again.headers.get(header)).toBe(first.headers.get(header));
      }
      expect(again.headers.get('twofold-audit-id')).not.toBe(first.headers.get('twofold-audit-id'));
      expect(service.drafts.at(-1)?.detail).toMatchObject({
        replayed: true,
        replayedFrom: first.headers.get('twofold-audit-id'),
      });
    });

    it('begins one backup, which is answered as it stands', async () => {
      const path = '/v1/admin/backups';
      const ask = (json: object, init: object = { headers }) =>
        service.call('admin', 'POST', path, { json, ...init });
      const looked = await service.call('admin', 'POST', `${path}?dryRun=true`, {
        ...{ json: {}, headers },
      });
      expect(looked.status).toBe(200);
      const first = await ask({ entries: 'tail' });
      expect([first.status, first.json['state']]).toEqual([201, 'running']);
      expect(first.headers.get('idempotency-replayed')).toBeNull();
      const again = await ask({ entries: 'tail' });
      expect([again.status, again.json['id']]).toEqual([201, first.json['id']]);
      expect(again.headers.get('idempotency-replayed')).toBe('true');
      expect(again.headers.get('location')).toBe(first.headers.get('location'));
      expect(service.drafts.at(-1)?.detail).toMatchObject({
        ...{ backup: first.json['id'], replayed: true },
      });
      expect((await ask({ entries: 'all' })).json['code']).toBe('idempotency_mismatch');
      const other = await ask({ entries: 'tail' }, { headers: { 'idempotency-key': 'once-2' } });
      const without = await ask({ entries: 'tail' }, {});
      const ids = [first, other, without].map(({ json }) => json['id']);
      expect(new Set(ids).size).toBe(3);
      const list = await service.call('admin', 'GET', path);
      expect(list.json['items']).toHaveLength(3);
    });

    it('refuses the same key with other content, and takes it from another principal', async () => {
      expect((await create('idem2', { headers })).json['code']).toBe('idempotency_mismatch');
      const admin = { json: { name: 'idem3', suite: 'A256GCM' }, headers };
      expect((await service.call('admin', 'POST', '/v1/admin/keys', admin)).status).toBe(201);
    });

    it('rotates once', async () => {
      const init = { headers: { 'idempotency-key': 'rotate-1' } };
      await service.call('operator', 'POST', '/v1/admin/keys/idem/rotate', init);
      await service.call('operator', 'POST', '/v1/admin/keys/idem/rotate', init);
      const { json } = await service.call('user', 'GET', '/v1/keys/idem');
      expect(json).toMatchObject({ primary: 2, latestVersion: 2 });
    });

    it('is refused where it would mean nothing', async () => {
      const wrap = { json: { plaintext: '' }, headers };
      expect((await service.call('user', 'POST', '/v1/keys/idem/wrap', wrap)).json['code']).toBe(
        'unknown_parameter',
      );
      const patch = { json: {}, headers };
      const patched = await service.call('operator', 'PATCH', '/v1/admin/keys/idem', patch);
      expect(patched.json['code']).toBe('unknown_parameter');
    });

    it('wants a key that is one', async () => {
      const long = { headers: { 'idempotency-key': 'x'.repeat(256) } };
      expect((await create('long', long)).json['code']).toBe('invalid_value');
    });
  });

  describe('If-Match', () => {
    const patch = (tag: string, json: object = { deletionProtection: true }) =>
      service.call('operator', 'PATCH', '/v1/admin/keys/a', { json, headers: { 'if-match': tag } });

    it('holds a change to the revision it was made for', async () => {
      const { headers } = await service.call('user', 'GET', '/v1/keys/a');
      const tag = headers.get('etag') ?? '';
      const changed = await patch(tag);
      expect(changed.status).toBe(200);
      expect(changed.headers.get('etag')).not.toBe(tag);
      for (const other of [tag, '"0"', '"x"', 'W/"1"']) {
        expect((await patch(other, { deletionProtection: false })).json).toMatchObject({
          code: 'etag_mismatch',
          status: 412,
        });
      }
      expect((await patch('7')).json['code']).toBe('invalid_value');
    });
  });

  it('merge labels (RFC 7396), by either media type', async () => {
    const path = '/v1/admin/keys/a';
    const send = (json: object, type: string) =>
      service.call('operator', 'PATCH', path, {
        body: JSON.stringify(json),
        headers: { 'content-type': type },
      });
    await send({ labels: { team: 'ml', tier: 'gold' } }, 'application/merge-patch+json');
    const merged = await send({ labels: { tier: null, cost: '7' } }, 'application/json');
    expect(merged.json['labels']).toEqual({ team: 'ml', cost: '7' });
    expect((await send({ labels: null }, 'application/json')).json['code']).toBe('invalid_value');
    expect((await send({ name: 'b' }, 'application/json')).json['code']).toBe('unknown_field');
  });

  it('suspend at once, and resume', async () => {
    const wrap = () => service.call('user', 'POST', '/v1/keys/a/wrap', { json: { plaintext: '' } });
    const reason = { json: { reason: 'a drill' } };
    expect((await wrap()).status).toBe(200);
    expect(
      (await service.call('operator', 'POST', '/v1/admin/keys/a/suspend', reason)).status,
    ).toBe(200);
    expect((await wrap()).json['code']).toBe('version_not_usable');
    expect((await service.call('operator', 'POST', '/v1/admin/keys/a/resume', reason)).status).toBe(
      200,
    );
    expect((await wrap()).status).toBe(200);
  });

  it('are for those who may', async () => {
    for (const role of ['user', 'auditor', 'nobody']) {
      const json = { name: `of-${role}`, suite: 'A256GCM' };
      const { status } = await service.call(role, 'POST', '/v1/admin/keys', { json });
      expect([role, status]).toEqual([role, 403]);
    }
  });
});

describe('lists', () => {
  let service: Service;
  beforeAll(async () => {
    service = await openService();
    for (let index = 1; index <= 5; index += 1) {
      const json = { name: `key-${index}`, suite: index < 3 ? 'A256GCM' : 'HS256' };
      await service.call('admin', 'POST', '/v1/admin/keys', { json });
    }
  });
  afterAll(() => service.stop());

  const names = (json: Record<string, unknown>) =>
    (json['items'] as { name: string }[]).map(({ name }) => name);

  it('page by name, without gap or repetition', async () => {
    const found: string[] = [];
    let path = '/v1/keys?pageSize=2';
    for (;;) {
      const { json } = await service.call('user', 'GET', path);
      found.push(...names(json));
      const token = json['nextPageToken'] as string | null;
      if (token === null) break;
      path = `/v1/keys?pageSize=2&pageToken=${token}`;
    }
    expect(found).toEqual(['key-1', 'key-2', 'key-3', 'key-4', 'key-5']);
  });

  it('bind the token to the filter and the principal', async () => {
    const { json } = await service.call('user', 'GET', '/v1/keys?pageSize=4&namePrefix=key');
    const token = String(json['nextPageToken']);
    const code = async (role: string, query: string) => {
      const answer = await service.call(role, 'GET', `/v1/keys?${query}&pageToken=${token}`);
      return answer.json['code'] ?? names(answer.json);
    };
    expect(await code('user', 'namePrefix=key')).toEqual(['key-5']);
    expect(await code('user', 'pageSize=1&namePrefix=key')).toEqual(['key-5']);
    expect(await code('user', 'namePrefix=k')).toBe('invalid_value');
    expect(await code('user', 'pageSize=2')).toBe('invalid_value');
    expect(await code('admin', 'namePrefix=key')).toBe('invalid_value');
    const flipped = (token[0] === 'A' ? 'B' : 'A') + token.slice(1);
    for (const bad of [flipped, `${token}A`, 'x', '']) {
      const answer = await service.call('user', 'GET', `/v1/keys?namePrefix=key&pageToken=${bad}`);
      expect(answer.json['code']).toBe('invalid_value');
    }
  });

  it('of versions and of audit entries page too', async () => {
    for (let round = 0; round < 3; round += 1) {
      await service.call('admin', 'POST', '/v1/admin/keys/key-1/rotate');
    }
    const first = await service.call('user', 'GET', '/v1/keys/key-1/versions?pageSize=3');
    const token = String(first.json['nextPageToken']);
    const second = await service.call('user', 'GET', `/v1/keys/key-1/versions?pageToken=${token}`);
    const versions = [first, second].flatMap(({ json }) =>
      (json['items'] as { version: number }[]).map(({ version }) => version),
    );
    expect(versions).toEqual([1, 2, 3, 4]);
    const other = await service.call('user', 'GET', `/v1/keys/key-2/versions?pageToken=${token}`);
    expect(other.json['code']).toBe('invalid_value');

    const query = '/v1/audit/entries?operation=keys.rotate&pageSize=2';
    const entries = await service.call('auditor', 'GET', query);
    const next = `${query}&pageToken=${String(entries.json['nextPageToken'])}`;
    const rest = await service.call('auditor', 'GET', next);
    const ids = [entries, rest].flatMap(({ json }) =>
      (json['items'] as { id: string }[]).map(({ id }) => id),
    );
    expect(new Set(ids).size).toBe(3);
  });

  it('of audit entries finds a key by its id in either case', async () => {
    const { json: key } = await service.call('user', 'GET', '/v1/keys/key-1');
    const list = async (id: string): Promise<unknown> => {
      const path = `/v1/audit/entries?operation=keys.create&keyId=${id}`;
      return (await service.call('auditor', 'GET', path)).json['items'];
    };
    const id = String(key['id']);
    expect(await list(id.toUpperCase())).toHaveLength(1);
    expect(await list(id.toUpperCase())).toEqual(await list(id));
    const path = `/v1/keys/${id.toUpperCase()}`;
    expect(await service.call('user', 'GET', path)).toMatchObject({ status: 200, json: { id } });
  });

  it.each([
    'pageSize=0',
    'pageSize=1001',
    'pageSize=01',
    'pageSize=-1',
    'pageSize=1e2',
    'pageSize=',
    'state=Enabled',
    'namePrefix=',
    'label.=x',
    'label.a=',
    'label.a%00=x',
    'pageSize=1&pageSize=1',
    'label.a=1&label.a=1',
    'labels=x',
    'Label.a=x',
    'pagesize=1',
    'label=a',
    'name=key-1',
  ])('refuse ?%s', async (query) => {
    const { status, json } = await service.call('user', 'GET', `/v1/keys?${query}`);
    expect(status).toBe(400);
    expect(['invalid_value', 'unknown_parameter']).toContain(json['code']);
  });

  it.each([
    'from=0000-01-01T00:00:00Z',
    'until=0000-12-31T23:59:59Z',
    'from=0001-01-01T00:00:00%2B23:59',
    'until=9999-12-31T23:59:59-01:00',
    'from=yesterday',
  ])('of audit entries refuse ?%s', async (query) => {
    const path = `/v1/audit/entries?${query}`;
    const { status, json } = await service.call('auditor', 'GET', path);
    expect([status, json['code']]).toEqual([400, 'invalid_value']);
  });

  it('hand their filters on', async () => {
    const seen: unknown[] = [];
    const spied = await openService({
      replace: ({ read }) => ({
        read: {
          get: (grant) => read.get(grant),
          fresh: (grant) => read.fresh(grant),
          tombstones: (grant, view) => read.tombstones(grant, view),
          certificateChain: (grant, version) => read.certificateChain(grant, version),
          uses: (grant, query) => read.uses(grant, query),
          users: (grant, query) => read.users(grant, query),
          list: (grant, query) => {
            seen.push(query);
            return read.list(grant, query);
          },
        },
      }),
    });
    try {
      const query = 'state=enabled&suite=A256GCM&label.team=m%26l&label.a%2Fb=1+2&namePrefix=k';
      await spied.call('user', 'GET', `/v1/keys?${query}`);
      expect(seen).toMatchObject([
        {
          pageSize: 50,
          state: 'enabled',
          suite: findSuite('A256GCM').number,
          labels: { team: 'm&l', 'a/b': '1 2' },
          namePrefix: 'k',
          afterName: null,
        },
      ]);
    } finally {
      await spied.stop();
    }
  });
});
