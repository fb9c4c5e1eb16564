/** What counts as a use, by which route, and how the sums are shown. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { changeUses } from '../../src/contract/change-uses.ts';
import { changeUsesResource } from '../../src/http/version-uses.ts';
import { transition } from '../../src/keyring/lifecycle.ts';
import type { VersionEvent } from '../../src/keyring/lifecycle.ts';
import type { KeyVersion } from '../../src/keyring/model.ts';
import { attestVersion } from '../../src/keyring/row-mac.ts';
import { usesAbout } from '../../src/keyring/use-report.ts';
import { aRun } from '../keyring/world.ts';
import { openService } from './service.ts';
import type { CallInit, Service } from './service.ts';

const b64 = (text: string) => Buffer.from(text).toString('base64');

let service: Service;
beforeEach(async () => {
  service = await openService();
});
afterEach(() => service.stop());

const create = (name: string, suite: string, more: object = {}) =>
  service.call('admin', 'POST', '/v1/admin/keys', { json: { name, suite, ...more } });
const post = async (path: string, json: object, role = 'user') =>
  (await service.call(role, 'POST', path, { json })).json;
const get = async (path: string, role = 'operator', init: CallInit = {}) => {
  const { status, json } = await service.call(role, 'GET', path, init);
  return {
    status,
    code: json['code'],
    items: json['items'] as Item[],
    next: json['nextPageToken'] as string | null,
  };
};
type Item = Readonly<Record<string, unknown>>;

/** `protect/process` of each version. */
const counts = async (key: string) =>
  (await get(`/v1/admin/keys/${key}/versions`)).items.map(
    ({ protectUses, processUses }) => `${String(protectUses)}/${String(processUses)}`,
  );

describe('a use', () => {
  it.each(['A256GCM', 'MLKEM768-P256'])(
    'of a wrapping key counts, alone and in batches: %s',
    async (suite) => {
      await create('k', suite);
      const { ciphertext } = await post('/v1/keys/k/wrap', { plaintext: b64('a') });
      expect(await counts('k')).toEqual(['1/0']);
      await post('/v1/keys/k/unwrap', { ciphertext });
      expect(await counts('k')).toEqual(['1/1']);
      await post('/v1/keys/k/data-keys', { bytes: 32 });
      await post('/v1/keys/k/data-keys/wrapped', { bytes: 32 });
      expect(await counts('k')).toEqual(['3/1']);
      const items = [{ plaintext: b64('a') }, { plaintext: b64('b') }, { plaintext: b64('c') }];
      await post('/v1/keys/k/wrap/batch', { items });
      expect(await counts('k')).toEqual(['6/1']);
      const broken = String(ciphertext).slice(0, -4) + 'AAAA';
      const opened = [{ ciphertext }, { ciphertext: broken }, { ciphertext }];
      await post('/v1/keys/k/unwrap/batch', { items: opened });
      expect(await counts('k')).toEqual(['6/3']);
    },
  );

  it('by rewrap is one of the version left and one of the version reached', async () => {
    await create('k', 'A256GCM');
    const { ciphertext } = await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    await post('/v1/keys/k/rewrap', { ciphertext });
    expect(await counts('k')).toEqual(['1/1']);
    await service.call('admin', 'POST', '/v1/admin/keys/k/rotate', { json: {} });
    await post('/v1/keys/k/rewrap', { ciphertext });
    expect(await counts('k')).toEqual(['1/2', '1/0']);
    await create('other', 'A256GCM');
    await post('/v1/keys/k/rewrap', { ciphertext, to: 'other' });
    expect([await counts('k'), await counts('other')]).toEqual([['1/3', '1/0'], ['1/0']]);
  });

  it('of keys that encapsulate, sign and authenticate counts', async () => {
    await create('kem', 'MLKEM768-P256', { purpose: 'kem' });
    const { encapsulation } = await post('/v1/keys/kem/encapsulate', {});
    await post('/v1/keys/kem/decapsulate', { encapsulation, keyVersion: 1 });
    await post('/v1/keys/kem/decapsulate', { encapsulation, keyVersion: 1 });
    expect(await counts('kem')).toEqual(['1/2']);
    await create('s', 'MLDSA65-ECDSA-P256-SHA512');
    const message = b64('m');
    const { signature } = await post('/v1/keys/s/sign', { message });
    await post('/v1/keys/s/verify', { message, signature });
    await post('/v1/keys/s/verify', { message: b64('n'), signature });
    await post('/v1/keys/s/csr', { subject: [{ CN: 'x' }] });
    await post('/v1/keys/s/sign/batch', { items: [{ message }, { message }] });
    await post('/v1/keys/s/verify/batch', { items: [{ message, signature }] });
    expect(await counts('s')).toEqual(['4/3']);
    await create('t', 'MLDSA87-ECDSA-P384-SHA512');
    await post('/v1/sign-parallel', { keys: ['s', 't'].map((key) => ({ key })), message });
    expect([await counts('s'), await counts('t')]).toEqual([['5/3'], ['1/0']]);
    await create('m', 'HS256');
    const { mac } = await post('/v1/keys/m/mac', { message });
    await post('/v1/keys/m/verify-mac', { message, mac });
    await post('/v1/keys/m/mac/batch', { items: [{ message }, { message }] });
    await post('/v1/keys/m/verify-mac/batch', { items: [{ message, mac }] });
    expect(await counts('m')).toEqual(['3/2']);
  });

  it('that fails or is not permitted does not count', async () => {
    await create('k', 'A256GCM');
    const { ciphertext } = await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    const broken = String(ciphertext).slice(0, -4) + 'AAAA';
    expect(await post('/v1/keys/k/unwrap', { ciphertext: broken })).toHaveProperty('code');
    expect(await post('/v1/keys/k/unwrap', { ciphertext }, 'auditor')).toHaveProperty('code');
    expect(await post('/v1/keys/k/wrap', { plaintext: '*' })).toHaveProperty('code');
    expect(await post('/v1/keys/k/sign', { message: b64('m') })).toHaveProperty('code');
    expect(await counts('k')).toEqual(['1/0']);
  });

  it('stays counted when changes drop what is cached, and after the key was suspended', async () => {
    await create('k', 'A256GCM');
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    await service.call('admin', 'POST', '/v1/admin/keys/k/rotate', { json: {} });
    await post('/v1/keys/k/wrap', { plaintext: b64('a'), keyVersion: 1 });
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    const json = { reason: 'r' };
    await service.call('admin', 'POST', '/v1/admin/keys/k/suspend', { json });
    expect(await counts('k')).toEqual(['2/0', '1/0']);
  });
});

describe('the versions of a key', () => {
  it('say since when they are silent, and how far AES-GCM has come', async () => {
    await create('k', 'A256GCM');
    const version = await service.call('admin', 'GET', '/v1/keys/k/versions/1');
    const path = '/v1/admin/keys/k/versions';
    const unused = (await get(path)).items[0];
    const createdAt = String(version.json['createdAt']);
    const began = service.world.store.uses.countedSince.toISOString();
    expect(unused).toMatchObject({
      version: 1,
      suite: 'A256GCM',
      state: 'active',
      primary: true,
      lastProtectedAt: null,
      lastProcessedAt: null,
      countedSince: createdAt > began ? createdAt : began,
      gcm: { used: 0, rotatesAt: 2 ** 31, refusedAt: 2 ** 32 },
    });
    expect(unused?.['silentSince']).toBe(unused?.['countedSince']);
    const { ciphertext } = await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    await post('/v1/keys/k/unwrap', { ciphertext });
    const used = (await get(path)).items[0];
    expect(used?.['silentSince']).toBe(used?.['lastProcessedAt']);
    expect(String(used?.['lastProcessedAt']) >= String(used?.['lastProtectedAt'])).toBe(true);
    expect(used?.['gcm']).toMatchObject({ used: 8 });
    await create('h', 'MLKEM768-P256');
    expect((await get('/v1/admin/keys/h/versions')).items[0]).toMatchObject({ gcm: null });
  });

  it('are told page by page, each page with its own sums', async () => {
    await create('k', 'A256GCM');
    for (let version = 1; version <= 5; version += 1) {
      if (version > 1) await service.call('admin', 'POST', '/v1/admin/keys/k/rotate', { json: {} });
      for (let use = 0; use < version; use += 1) {
        await post('/v1/keys/k/wrap', { plaintext: b64('a') });
      }
    }
    const seen: unknown[] = [];
    let token = '';
    do {
      const page = await get(`/v1/admin/keys/k/versions?pageSize=2${token}`);
      expect(page.items.length).toBeLessThanOrEqual(2);
      seen.push(...page.items.map(({ version, protectUses }) => [version, protectUses]));
      token = page.next === null ? '' : `&pageToken=${page.next}`;
    } while (token !== '');
    expect(seen).toEqual([1, 2, 3, 4, 5].map((version) => [version, version]));
  });

  it('keep their uses after they were destroyed', async () => {
    const { json: key } = await create('k', 'A256GCM');
    const id = String(key['id']);
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    await service.call('admin', 'POST', '/v1/admin/keys/k/rotate', { json: {} });
    expect(await counts('k')).toEqual(['1/0', '0/0']);
    const { store, root } = service.world;
    const slot = `${id}/1`;
    const before = store.rows.versions.get(slot);
    if (before === undefined) throw new Error('no version');
    const [at, reason] = [new Date(), 'r'];
    const events: readonly VersionEvent[] = [
      { kind: 'deactivate', at, reason },
      { kind: 'schedule-destruction', destruction: { at, requestedAt: at, reason } },
      { kind: 'destroy', at },
    ];
    const ended = events.reduce<KeyVersion>(transition, before.value);
    store.rows.versions.set(slot, await attestVersion(root.mac, ended));
    const other = await service.world.second();
    const { versions, uses } = await other.keyring.read.uses(other.grant('versions.uses', id), {
      pageSize: 10,
      afterVersion: 0,
    });
    expect(versions.map(({ state }) => state)).toEqual(['destroyed', 'active']);
    expect(uses.versions).toMatchObject([{ version: 1, protect: { uses: 1 }, process: null }]);
    const query = { version: 1, pageSize: 10, after: null };
    const { items } = await other.keyring.read.users(other.grant('versions.uses', id), query);
    expect(items).toMatchObject([{ usage: 'protect', uses: 1 }]);
  });

  it('are told to who changes or audits keys, and to no other', async () => {
    await create('k', 'A256GCM');
    const paths = ['/v1/admin/keys/k/versions', '/v1/admin/keys/k/versions/1/uses'];
    for (const path of paths) {
      for (const role of ['admin', 'operator', 'auditor']) {
        expect((await get(path, role)).status).toBe(200);
      }
      for (const role of ['user', 'nobody']) {
        expect(await get(path, role)).toMatchObject({ status: 403, code: 'forbidden' });
      }
      expect((await get(path.replace('/k/', '/none/'))).code).toBe('key_not_found');
    }
    expect((await get('/v1/admin/keys/k/versions/2/uses')).code).toBe('version_not_found');
  });

  it('are not told while the sums cannot be written', async () => {
    await create('k', 'A256GCM');
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    for (const fault of ['before', 'lost-after', 'refused'] as const) {
      service.world.store.uses.fault = () => fault;
      await post('/v1/keys/k/wrap', { plaintext: b64('a') });
      const { status, code } = await get('/v1/admin/keys/k/versions');
      expect([status, code]).toEqual([503, 'database_unavailable']);
    }
    service.world.store.uses.fault = () => 'none';
    expect((await get('/v1/admin/keys/k/versions')).status).toBe(200);
  });
});

describe('the principals of a version', () => {
  it('are told with their sums, the most recent first, page by page', async () => {
    await create('k', 'A256GCM');
    const { ciphertext } = await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    await post('/v1/keys/k/unwrap', { ciphertext }, 'admin');
    await post('/v1/keys/k/unwrap', { ciphertext }, 'admin');
    await post('/v1/keys/k/unwrap', { ciphertext }, 'user');
    const path = '/v1/admin/keys/k/versions/1/uses?pageSize=1';
    const seen: Item[] = [];
    let token = '';
    do {
      const page = await get(path + token);
      expect(page.items.length).toBe(1);
      seen.push(...page.items);
      token = page.next === null ? '' : `&pageToken=${page.next}`;
    } while (token !== '');
    const told = seen.map(({ usage, principal, uses }) => {
      const { subject } = principal as { subject: string };
      return `${subject} ${String(usage)} ${String(uses)}`;
    });
    expect(told.toSorted()).toEqual([
      'development-admin process 2',
      'development-user process 1',
      'development-user protect 1',
    ]);
    const times = seen.map(({ lastAt }) => String(lastAt));
    expect(times).toEqual(times.toSorted().toReversed());
    const first = await get(path);
    const foreign = `/v1/admin/keys/k/versions?pageToken=${first.next ?? ''}`;
    expect(await get(foreign)).toMatchObject({ status: 400, code: 'invalid_value' });
  });
});

describe('the uses that a dry run shows', () => {
  it('are those of all versions, or of the one that it is about with its users', async () => {
    const { world } = service;
    const { keyring } = world;
    await create('k', 'A256GCM');
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    await keyring.manage.rotate(world.grant('keys.rotate', 'k'), {}, aRun());
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    const view = await keyring.read.get(world.grant('keys.read', 'k'));
    const shown = async (version: number | null, users: readonly number[]) => {
      const about = await usesAbout(keyring.useReport, view.key.id, { version, users });
      const resource = changeUsesResource(view, about);
      const asSent: unknown = JSON.parse(JSON.stringify(resource));
      expect(changeUses.parse(asSent)).toEqual(asSent);
      return resource;
    };
    const all = await shown(null, [1, 2]);
    expect(all.versions).toMatchObject([
      { version: 1, protectUses: 1 },
      { version: 2, protectUses: 2 },
    ]);
    // Of both versions, as one.
    expect(all.users).toMatchObject([
      { usage: 'protect', principal: { subject: 'development-user' }, uses: 3 },
    ]);
    const one = await shown(1, [1]);
    expect(one.versions).toMatchObject([{ version: 1, protectUses: 1, processUses: 0 }]);
    expect(one.users).toMatchObject([
      { usage: 'protect', principal: { subject: 'development-user' }, uses: 1 },
    ]);
  });

  it('name the users of every version that a change of the key touches', async () => {
    await create('k', 'A256GCM');
    const admin = (method: string, path: string, json?: object, of = service) =>
      of.call('admin', method, `/v1/admin/keys/${path}`, {
        ...(json === undefined ? {} : { json }),
        headers: { 'if-match': '"3"' },
      });
    const rotate = () => service.call('admin', 'POST', '/v1/admin/keys/k/rotate');
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    const dry = await service.call('admin', 'POST', '/v1/admin/keys/k/rotate?dryRun=true');
    expect(dry.json).toMatchObject({ suite: 'A256GCM', primary: 2 });
    expect((await rotate()).status).toBe(200);
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    expect((await rotate()).status).toBe(200);
    const usesIn = async (method: string, path: string, json?: object) => {
      const answer = await admin(method, path, json);
      const { users } = answer.json['uses'] as { users: { uses: number }[] };
      return [answer.status, users.map(({ uses }) => uses)];
    };
    const reason = { reason: 'end of life' };
    expect(await usesIn('PATCH', 'k?dryRun=true', { minUsableVersion: 2 })).toEqual([200, [1]]);
    expect(await usesIn('PATCH', 'k?dryRun=true', { minUsableVersion: 3 })).toEqual([200, [3]]);
    const primary = { version: 2, ...reason };
    expect(await usesIn('PUT', 'k/primary?dryRun=true', primary)).toEqual([200, [2]]);
    const destruction = 'k/destruction?dryRun=true';
    expect(await usesIn('PUT', destruction, reason)).toEqual([200, [3]]);
  });

  it('name who used the primary that an activation supersedes', async () => {
    await create('k', 'A256GCM');
    await post('/v1/keys/k/wrap', { plaintext: b64('a') });
    const call = (method: string, path: string, json: object) =>
      service.call('admin', method, `/v1/admin/keys/k/${path}`, { json });
    await call('POST', 'rotate', { activateAt: '2050-01-01T00:00:00Z' });
    const activated = await call('POST', 'versions/2/activate?dryRun=true', { reason: 'r' });
    expect(activated.json['uses']).toMatchObject({
      versions: [{ version: 1, protectUses: 1 }, { version: 2 }],
      users: [{ usage: 'protect', principal: { subject: 'development-user' }, uses: 1 }],
    });
    // What is activated below the primary supersedes nothing.
    await call('POST', 'rotate', {});
    const below = await call('POST', 'versions/2/activate?dryRun=true', { reason: 'r' });
    expect(below.json['uses']).toMatchObject({ versions: [{ version: 2 }], users: [] });
  });

  it('name who used the key that loses an alias', async () => {
    await create('old', 'A256GCM');
    await create('next', 'A256GCM');
    const put = (path: string, json: object = {}) =>
      service.call('admin', 'PUT', `/v1/admin/keys/${path}`, { json });
    expect((await put('old/aliases/current')).status).toBe(200);
    await post('/v1/keys/current/wrap', { plaintext: b64('a') });
    const moved = await put('next/aliases/current?dryRun=true', { from: 'old' });
    expect(moved.json['uses']).toMatchObject({
      users: [],
      from: { key: 'old', users: [{ principal: { subject: 'development-user' }, uses: 1 }] },
    });
    const fresh = await put('next/aliases/other?dryRun=true');
    expect(fresh.json['uses']).not.toHaveProperty('from');
  });
});
