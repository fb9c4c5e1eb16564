/** Namespaces over HTTP: made in the root, apart from each other, ended at once. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openService } from './service.ts';
import type { CallInit, Service } from './service.ts';

let service: Service;
beforeAll(async () => {
  service = await openService();
});
afterAll(() => service.stop());

const PATH = '/v1/admin/namespaces';
const make = (name: string, role = 'admin', init: CallInit = {}) =>
  service.call(role, 'POST', PATH, { json: { name }, ...init });
const within = (namespace: string, method: string, path: string, json?: unknown) =>
  service.call('admin', method, path, {
    headers: { 'twofold-namespace': namespace },
    ...(json === undefined ? {} : { json }),
  });
const key = (namespace: string, name: string) =>
  within(namespace, 'POST', '/v1/admin/keys', { name, suite: 'A256GCM' });
const code = ({ json }: { readonly json: Record<string, unknown> }) => json['code'];

describe('a namespace', () => {
  it('is made, shown and listed after the root', async () => {
    const made = await make('list-a');
    expect(made.status).toBe(201);
    expect(made.json).toMatchObject({ name: 'list-a', state: 'active', suspension: null });
    expect(made.headers.get('etag')).toBe(`"${String(made.json['revision'])}"`);
    await make('list-b');
    const got = await service.call('auditor', 'GET', `${PATH}/list-a`);
    expect(got.json).toEqual(made.json);
    const page = await service.call('operator', 'GET', `${PATH}?pageSize=1`);
    const names = ({ items }: { items?: unknown }) =>
      (items as { readonly name: string }[]).map(({ name }) => name);
    expect(names(page.json).slice(0, 2)).toEqual(['default', 'list-a']);
    const token = String(page.json['nextPageToken']);
    const next = await service.call('operator', 'GET', `${PATH}?pageSize=1&pageToken=${token}`);
    expect(names(next.json)).toEqual(['list-b']);
  });

  it('is made once, by who may, under a name that can be one', async () => {
    expect((await make('once')).status).toBe(201);
    expect(code(await make('once'))).toBe('already_exists');
    expect(code(await make('default'))).toBe('already_exists');
    expect(code(await make('Not a name'))).toBe('invalid_value');
    for (const role of ['operator', 'user', 'auditor']) {
      expect([(await make('twice', role)).status, role]).toEqual([403, role]);
    }
    expect((await service.call('user', 'GET', PATH)).status).toBe(403);
    expect(code(await service.call('admin', 'GET', `${PATH}/twice`))).toBe('not_found');
  });

  it('is made in the root alone, whatever another namespace permits', async () => {
    await make('inner');
    const made = await within('inner', 'POST', PATH, { name: 'from-inner' });
    expect([made.status, code(made)]).toEqual([403, 'forbidden']);
    expect(code(await within('inner', 'GET', PATH))).toBe('forbidden');
    const ended = await within('inner', 'POST', `${PATH}/inner/suspend`, { reason: 'r' });
    expect(code(ended)).toBe('forbidden');
  });

  it('is not made on a dry run, and is made once for one idempotency key', async () => {
    const tried = await service.call('admin', 'POST', `${PATH}?dryRun=true`, {
      json: { name: 'dry' },
    });
    expect([tried.status, tried.json['dryRun']]).toEqual([200, true]);
    expect(code(await service.call('admin', 'GET', `${PATH}/dry`))).toBe('not_found');
    const headers = { 'idempotency-key': 'make-dry' };
    const first = await make('dry', 'admin', { json: { name: 'dry' }, headers });
    const again = await make('dry', 'admin', { json: { name: 'dry' }, headers });
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.json).toEqual(first.json);
  });
});

describe('what is in a namespace', () => {
  it('is nothing that another one shows', async () => {
    await make('team-a');
    await make('team-b');
    const [a, b] = [await key('team-a', 'shared'), await key('team-b', 'shared')];
    expect([a.status, b.status]).toEqual([201, 201]);
    expect(a.json['id']).not.toBe(b.json['id']);
    const path = `/v1/keys/${String(a.json['id'])}`;
    expect((await within('team-a', 'GET', path)).status).toBe(200);
    // A key's id is as unknown elsewhere as any.
    expect(code(await within('team-b', 'GET', path))).toBe('key_not_found');
    expect(code(await service.call('admin', 'GET', '/v1/keys/shared'))).toBe('key_not_found');
    const listed = await within('team-b', 'GET', '/v1/keys');
    expect(listed.json['items']).toMatchObject([{ id: b.json['id'] }]);
    expect(code(await within('team-c', 'GET', '/v1/keys/shared'))).toBe('key_not_found');
  });

  it('cannot be used while it is suspended, and can be when it is resumed', async () => {
    await make('held');
    await key('held', 'k');
    const wrap = () => within('held', 'POST', '/v1/keys/k/wrap', { plaintext: 'AAAA' });
    expect((await wrap()).status).toBe(200);
    const suspend = `${PATH}/held/suspend`;
    const held = await service.call('admin', 'POST', suspend, { json: { reason: 'leak' } });
    expect(held.json).toMatchObject({ state: 'suspended', suspension: { reason: 'leak' } });
    for (const answer of [
      await wrap(),
      await within('held', 'GET', '/v1/keys'),
      await key('held', 'l'),
    ]) {
      expect([answer.status, code(answer)]).toEqual([409, 'namespace_suspended']);
    }
    // Twice is as good as once, and the first reason stands.
    const again = await service.call('admin', 'POST', suspend, { json: { reason: 'other' } });
    expect(again.json).toMatchObject({
      revision: held.json['revision'],
      suspension: { reason: 'leak' },
    });
    await service.call('admin', 'POST', `${PATH}/held/resume`, { json: { reason: 'ok' } });
    expect((await wrap()).status).toBe(200);
  });

  it('is published no more while it is suspended', async () => {
    await make('shown');
    const json = { name: 'k', suite: 'ECDSA-P256-SHA256', publish: true };
    expect((await within('shown', 'POST', '/v1/admin/keys', json)).status).toBe(201);
    const jwks = () => service.call(null, 'GET', '/public/shown/k/jwks.json');
    expect((await jwks()).status).toBe(200);
    const at = (what: string) =>
      service.call('admin', 'POST', `${PATH}/shown/${what}`, { json: { reason: 'r' } });
    await at('suspend');
    expect([(await jwks()).status, code(await jwks())]).toEqual([404, 'key_not_found']);
    await at('resume');
    expect((await jwks()).status).toBe(200);
  });

  it('cannot be the root that is suspended, nor one that is not there', async () => {
    const at = (name: string) =>
      service.call('admin', 'POST', `${PATH}/${name}/suspend`, { json: { reason: 'r' } });
    expect(code(await at('default'))).toBe('not_found');
    expect(code(await at('nowhere'))).toBe('not_found');
  });

  it('is changed for the revision that If-Match names', async () => {
    const made = await make('matched');
    const suspend = (tag: string) =>
      service.call('admin', 'POST', `${PATH}/matched/suspend`, {
        json: { reason: 'r' },
        headers: { 'if-match': tag },
      });
    expect(code(await suspend('"1"'))).toBe('etag_mismatch');
    expect((await suspend(made.headers.get('etag') ?? '')).status).toBe(200);
  });

  it('is audited under its own name, and under the root where there is no such namespace', async () => {
    await make('audited');
    await key('audited', 'k');
    await within('absent', 'GET', '/v1/keys/k');
    const namespaces = service.drafts.map(({ namespace, outcome }) => [namespace, outcome]);
    expect(namespaces).toContainEqual(['default', 'key_not_found']);
    expect(namespaces.map(([namespace]) => namespace)).not.toContain('absent');
    expect((await within('audited', 'GET', '/v1/keys/k')).status).toBe(200);
    expect(service.drafts.at(-1)).toMatchObject({ namespace: 'audited', operation: 'keys.read' });
  });
});
