/** Events as they happen: resumed where a reader left off, at its own pace, until its right ends. */
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { HttpLimits } from '../../src/http/dependencies.ts';
import { EventReader } from './event-reader.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const STREAM = '/v1/admin/events/stream';

describe('the stream of events', () => {
  let service: Service;
  const readers: EventReader[] = [];
  const start = async (limits: Partial<HttpLimits> = {}) => {
    await service.stop();
    service = await openService({ options: { limits } });
  };
  beforeEach(async () => {
    service = await openService();
  });
  afterEach(async () => {
    for (const reader of readers.splice(0)) reader.close();
    await service.stop();
  });
  const token = (role = 'operator', ttl?: number) => service.token(role, ttl);
  const follow = async (query = '', headers = {}, bearer?: string) => {
    const reader = await EventReader.open(
      service.url + STREAM + query,
      bearer ?? (await token()),
      headers,
    );
    readers.push(reader);
    return reader;
  };
  const create = (name: string) =>
    service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite: 'A256GCM' } });
  const subjects = (reader: EventReader) => reader.events.map(({ json }) => json['subject']);
  /** `access`: every right is to be looked at again. */
  const changeAccess = () => {
    const epoch = service.world.epoch.current + 1;
    service.world.store.audit.epoch = epoch;
    service.world.epoch.advance([
      { epoch, scope: 'access', namespace: '', keyId: null, keyName: null },
    ]);
  };

  it('begins with the oldest, and sends what happens after', async () => {
    await create('a');
    const reader = await follow();
    await reader.until(({ events }) => events.length === 1);
    expect(reader.retry).toBe(2000);
    await create('b');
    await reader.until(({ events }) => events.length === 2);
    expect(subjects(reader)).toEqual(['a', 'b']);
    const { json } = await service.call('admin', 'GET', '/v1/admin/events');
    expect(reader.events.map((event) => event.json)).toEqual(json['items']);
    expect(reader.events.map(({ id }) => id)).toEqual(reader.events.map(({ json: e }) => e['id']));
  });

  it('has one audit entry, which stands before its first byte', async () => {
    const reader = await follow();
    const id = String(reader.response.headers['twofold-audit-id']);
    const entry = await service.world.audit.read(id);
    expect(entry?.draft).toMatchObject({ operation: 'events.read', outcome: 'ok' });
    await create('a');
    await reader.until(({ events }) => events.length === 1);
    expect(service.drafts.filter(({ operation }) => operation === 'events.read')).toHaveLength(1);
  });

  it('sends nothing, and holds no place, when its entry cannot be written', async () => {
    await service.stop();
    const failing: { on: boolean } = { on: true };
    service = await openService({
      options: { limits: { streamsPerPrincipal: 1 } },
      replace: ({ audit }) => ({
        audit: {
          record: (draft, standing) =>
            failing.on ? Promise.reject(new Error('full')) : audit.record(draft, standing),
          change: (draft, commit) => audit.change(draft, commit),
          countAnonymous: () => undefined,
          refusal: () => null,
          confirmed: () => Promise.resolve(),
          leaving: () => 'durable',
          read: (id) => audit.read(id),
          list: (query) => audit.list(query),
          hash: (values) => audit.hash(values),
          reading: (draft, standing) => audit.reading(draft, standing),
        },
      }),
    });
    const bearer = await token();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      expect((await follow('', {}, bearer)).response.statusCode).toBe(503);
    }
    failing.on = false;
    expect((await follow('', {}, bearer)).response.statusCode).toBe(200);
  });

  it('goes on where a reader left off, by header before query', async () => {
    for (const name of ['a', 'b', 'c']) await create(name);
    const first = await follow();
    await first.until(({ events }) => events.length === 3);
    const [a, b] = first.events.map(({ id }) => id);
    const again = await follow(`?after=${String(a)}`);
    await again.until(({ events }) => events.length === 2);
    expect(subjects(again)).toEqual(['b', 'c']);
    const header = await follow(`?after=${String(a)}`, { 'last-event-id': String(b) });
    await header.until(({ events }) => events.length === 1);
    expect(subjects(header)).toEqual(['c']);
  });

  it('moves the place of a reader whose filter lets nothing through', async () => {
    await start({ heartbeatMs: 20 });
    const reader = await follow('?type=kms.twofold.key.destroyed');
    await create('a');
    const place = `${String(service.world.epoch.current + 1)}-0`;
    await reader.until(({ lastId }) => lastId === place);
    expect(reader.received).toEqual([]);
    const again = await follow('', { 'last-event-id': reader.lastId });
    await create('b');
    await again.until(({ events }) => events.length === 1);
    expect(subjects(again)).toEqual(['b']);
  });

  it('is not cut by the clock of silent connections, while its reader takes signs of life', async () => {
    await start({ heartbeatMs: 50, stalledMs: 1000 });
    const reader = await follow();
    await reader.until(({ beats }) => beats >= 40);
    await create('a');
    await reader.until(({ events }) => events.length === 1);
  });

  it('ends when its token does, and says so', async () => {
    const reader = await follow('', {}, await token('operator', 1));
    await reader.until(({ received }) => received.some(({ event }) => event === 'problem'));
    expect(reader.received.at(-1)?.json).toMatchObject({ code: 'token_expired', status: 401 });
    await reader.until(({ ended }) => ended);
  });

  it('asks again after a change of access, before it sends more', async () => {
    await service.stop();
    const right = { revoked: false };
    service = await openService({
      replace: ({ authorizer }) => ({
        authorizer: {
          authorize: (principal, operation, resource) =>
            authorizer.authorize(
              right.revoked && operation === 'events.read'
                ? { ...principal, roles: [] }
                : principal,
              operation,
              resource,
            ),
          refine: (grant, body) => authorizer.refine(grant, body),
          may: (principal, operation, resource) => authorizer.may(principal, operation, resource),
          decide: (principal, operation, resource) =>
            authorizer.decide(principal, operation, resource),
        },
      }),
    });
    const reader = await follow();
    await create('a');
    await reader.until(({ events }) => events.length === 1);
    changeAccess();
    await create('b');
    await reader.until(({ events }) => events.length === 2);
    right.revoked = true;
    changeAccess();
    await create('c');
    await reader.until(({ received }) => received.length === 3);
    expect(reader.received.at(-1)).toMatchObject({ event: 'problem', json: { code: 'forbidden' } });
  });

  it.each([
    ['suspended', 'POST', '/suspend', 'namespace_suspended'],
    ['removed', 'DELETE', '', 'not_found'],
  ])('ends when its namespace is %s, before it sends more', async (_, method, end, why) => {
    const path = '/v1/admin/namespaces';
    await service.call('admin', 'POST', path, { json: { name: 'team' } });
    const [own, other] = [await follow('', { 'twofold-namespace': 'team' }), await follow()];
    const json = method === 'POST' ? { json: { reason: 'r' } } : {};
    expect((await service.call('admin', method, `${path}/team${end}`, json)).status).toBe(200);
    await own.until(({ received }) => received.length === 1);
    expect(own.received).toMatchObject([{ event: 'problem', json: { code: why } }]);
    await create('a');
    await other.until(({ events }) => events.length === 1);
    expect(other.ended).toBe(false);
    const again = await service.call('operator', 'GET', STREAM, {
      headers: { 'twofold-namespace': 'team' },
    });
    expect(again.json['code']).toBe(why);
  });

  it('is bounded in number, by principal and in all, and places come free', async () => {
    await start({ streamsPerPrincipal: 1 });
    const one = await follow();
    expect((await follow()).response.statusCode).toBe(429);
    one.close();
    // The service learns of it when the connection has closed on its side.
    for (;;) {
      const { response } = await follow();
      if (response.statusCode === 200) break;
      await once(response.resume(), 'end').catch(() => undefined);
    }
    await start({ streams: 0 });
    const { response } = await follow();
    expect([response.statusCode, response.headers['retry-after']]).toEqual([429, '5']);
  });

  it('ends with the service, at once and in order', async () => {
    const reader = await follow();
    await create('a');
    await reader.until(({ events }) => events.length === 1);
    const closed = service.server.close();
    await reader.until(({ received }) => received.length === 2);
    expect(reader.received.at(-1)?.json).toMatchObject({ code: 'shutting_down' });
    await closed;
    expect(reader.lastId).toBe(reader.events[0]?.id);
  });

  it('serves a slow reader from the table, at its pace', async () => {
    const { store } = service.world;
    // Of more bytes than connections buffer.
    const names = Array.from({ length: 600 }, (_, i) => `k${String(i)}`);
    names.forEach((keyName, i) =>
      store.rows.events.push({
        epoch: store.audit.epoch,
        n: i + 1,
        at: new Date(),
        type: 'key.updated',
        namespace: 'default',
        keyId: '00000000-0000-4000-8000-000000000000',
        keyName,
        auditId: '1-1',
        data: { padding: 'x'.repeat(64 * 1024) },
      }),
    );
    let pages = 0;
    const { page } = service.deps.events;
    Object.assign(service.deps.events, {
      page: (query: Parameters<typeof page>[0]) => {
        pages += 1;
        return page(query);
      },
    });
    const reader = await follow();
    reader.response.pause();
    await create('last');
    expect(pages).toBeLessThan(names.length / 64);
    reader.response.resume();
    await reader.until(({ events }) => events.length > names.length);
    expect(subjects(reader)).toEqual([...names, 'last']);
  });

  it.each([
    ['?after=x', {}, 400, 'invalid_value'],
    ['', { 'last-event-id': '' }, 400, 'invalid_value'],
    ['?pageSize=1', {}, 400, 'unknown_parameter'],
    ['', { accept: 'application/json' }, 406, 'not_acceptable'],
  ])('refuses %s %j', async (query, headers, status, code) => {
    const answer = await service.call('operator', 'GET', STREAM + query, { headers });
    expect([answer.status, answer.json['code']]).toEqual([status, code]);
  });

  it('takes what browsers say that they accept, and a question for its head', async () => {
    const reader = await follow('', { accept: 'text/event-stream', 'cache-control': 'no-store' });
    expect(reader.response.statusCode).toBe(200);
    expect((await service.call('operator', 'HEAD', STREAM)).status).toBe(200);
    expect((await service.call('user', 'GET', STREAM)).status).toBe(403);
    const other = { headers: { 'last-event-id': '1-1' } };
    const elsewhere = await service.call('operator', 'GET', '/v1/admin/events', other);
    expect(elsewhere.json['code']).toBe('unknown_parameter');
  });
});
