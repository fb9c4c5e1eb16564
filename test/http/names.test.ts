/** Which name leads to which key, and which version protects: aliases, primary, usable versions. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openService } from './service.ts';
import type { Called, Service } from './service.ts';

const b64 = (text: string) => Buffer.from(text).toString('base64');

describe('names and versions that consumers stand on', () => {
  let service: Service;
  let made = 0;
  beforeAll(async () => {
    service = await openService();
  });
  afterAll(() => service.stop());

  const operator = (method: string, path: string, json?: unknown, etag?: string) =>
    service.call('operator', method, `/v1/admin/keys/${path}`, {
      ...(json === undefined ? {} : { json }),
      ...(etag === undefined ? {} : { headers: { 'if-match': etag } }),
    });
  const read = (key: string) => service.call('user', 'GET', `/v1/keys/${key}`);
  const etagOf = async (key: string) => (await read(key)).headers.get('etag') ?? '';
  const entryOf = async ({ headers }: Called) => {
    const id = headers.get('twofold-audit-id') ?? '';
    return (await service.call('auditor', 'GET', `/v1/audit/entries/${id}`)).json;
  };
  const codes = (answers: readonly Called[]) =>
    answers.map(({ status, json }) => [status, json['code']]);
  /** A key with as many versions as suites. */
  const make = async (...suites: readonly string[]): Promise<string> => {
    const name = `n${(made += 1)}`;
    const [suite = 'A256GCM', ...later] = suites;
    expect(
      (await service.call('operator', 'POST', '/v1/admin/keys', { json: { name, suite } })).status,
    ).toBe(201);
    for (const next of later) {
      expect((await operator('POST', `${name}/rotate`, { suite: next })).status).toBe(200);
    }
    return name;
  };
  const wrap = (key: string, keyVersion?: number) =>
    service.call('user', 'POST', `/v1/keys/${key}/wrap`, {
      json: { plaintext: b64('x'), ...(keyVersion === undefined ? {} : { keyVersion }) },
    });
  const unwrap = (key: string, ciphertext: unknown) =>
    service.call('user', 'POST', `/v1/keys/${key}/unwrap`, { json: { ciphertext } });

  describe('an alias', () => {
    it('names its key everywhere, is listed, and the key keeps its own name', async () => {
      const name = await make();
      const put = await operator('PUT', `${name}/aliases/prod-db`, {});
      expect([put.status, put.json['aliases']]).toEqual([200, ['prod-db']]);
      expect((await operator('PUT', `${name}/aliases/a-second`, {})).json['aliases']).toEqual([
        'a-second',
        'prod-db',
      ]);
      const { json } = await wrap('prod-db');
      expect(json['key']).toBe(name);
      expect((await unwrap(name, json['ciphertext'])).json['plaintext']).toBe(b64('x'));
      expect((await read('prod-db')).json).toMatchObject({
        name,
        aliases: ['a-second', 'prod-db'],
      });
      const rotated = await operator('POST', 'prod-db/rotate', {});
      expect(rotated.json['latestVersion']).toBe(2);
      expect(await entryOf(rotated)).toMatchObject({
        key: { reference: 'prod-db' },
        operation: 'keys.rotate',
      });
      // What the alias named before the rotation is not what it names now.
      expect((await wrap('prod-db')).json['keyVersion']).toBe(2);
    });

    it('shares the name space of names, and is free once it is dropped', async () => {
      const [one, other] = [await make(), await make()];
      await operator('PUT', `${one}/aliases/shared`, {});
      const body = { name: 'shared', suite: 'A256GCM' };
      const create = () => service.call('operator', 'POST', '/v1/admin/keys', { json: body });
      expect(
        codes([
          await operator('PUT', `${other}/aliases/shared`, {}),
          await operator('PUT', `${other}/aliases/${one}`, {}),
          await operator('PUT', `${other}/aliases/${other}`, {}),
          await create(),
        ]),
      ).toEqual(Array.from({ length: 4 }, () => [409, 'key_exists']));
      const dropped = await operator('DELETE', `${one}/aliases/shared`);
      expect([dropped.status, dropped.json['aliases']]).toEqual([200, []]);
      expect(codes([await read('shared')])).toEqual([[404, 'key_not_found']]);
      expect(codes([await operator('DELETE', `${one}/aliases/shared`)])).toEqual([
        [404, 'not_found'],
      ]);
      expect((await create()).status).toBe(201);
    });

    it('moves in one change, with the grant on both keys, and at once', async () => {
      const [one, other] = [await make(), await make()];
      await operator('PUT', `${one}/aliases/live`, {});
      expect((await wrap('live')).json['key']).toBe(one);
      const before = await etagOf(one);
      const moved = await operator('PUT', `${other}/aliases/live`, { from: one });
      expect(moved.status).toBe(200);
      expect((await wrap('live')).json['key']).toBe(other);
      expect((await read(one)).json['aliases']).toEqual([]);
      expect(await etagOf(one)).not.toBe(before);
      expect(codes([await operator('PUT', `${one}/aliases/live`, { from: 'nobody' })])).toEqual([
        [404, 'key_not_found'],
      ]);
      const third = await make();
      expect(codes([await operator('PUT', `${third}/aliases/live`, { from: one })])).toEqual([
        [404, 'not_found'],
      ]);
      expect((await read('live')).json['name']).toBe(other);
    });

    it.each(['UPPER', '00000000-0000-4000-8000-000000000000', 'a'.repeat(129), '-x'])(
      'may not be %s',
      async (alias) => {
        const name = await make();
        expect(codes([await operator('PUT', `${name}/aliases/${alias}`, {})])).toEqual([
          [400, 'invalid_value'],
        ]);
      },
    );

    it('is one of sixteen at most, changes nothing when it is there, and takes dry runs', async () => {
      const name = await make();
      for (let at = 1; at <= 16; at += 1)
        await operator('PUT', `${name}/aliases/${name}-${at}`, {});
      const full = await operator('PUT', `${name}/aliases/${name}-17`, {});
      expect(codes([full])).toEqual([[400, 'invalid_value']]);
      const etag = await etagOf(name);
      expect((await operator('PUT', `${name}/aliases/${name}-3`, {})).status).toBe(200);
      const dry = await operator('DELETE', `${name}/aliases/${name}-3?dryRun=true`);
      expect(dry.json['dryRun']).toBe(true);
      expect((dry.json['changes'] as { field: string }[]).map(({ field }) => field)).toEqual([
        'aliases',
      ]);
      expect(await etagOf(name)).toBe(etag);
    });
  });

  describe('the primary', () => {
    const set = (name: string, json: object, etag?: string) =>
      operator('PUT', `${name}/primary`, json, etag);
    const back = { version: 1, reason: 'the consumer broke' };

    it('goes back to an earlier version, under the tag that it was decided on', async () => {
      const name = await make('A256GCM', 'A256GCM');
      const etag = await etagOf(name);
      expect(codes([await set(name, back)])).toEqual([[428, 'precondition_required']]);
      expect(codes([await set(name, back, '"77"')])).toEqual([[412, 'etag_mismatch']]);
      const undone = await set(name, back, etag);
      expect([undone.status, undone.json['primary']]).toEqual([200, 1]);
      expect(await entryOf(undone)).toMatchObject({ detail: { reason: back.reason } });
      expect((await wrap(name)).json['keyVersion']).toBe(1);
      expect((await operator('POST', `${name}/rotate`, {})).json['primary']).toBe(3);
    });

    it('is never a version that could not protect', async () => {
      const name = await make('A256GCM', 'A256GCM', 'A256GCM');
      await operator('POST', `${name}/versions/1/suspend`, { reason: 'r' });
      await operator('PATCH', name, { minUsableVersion: 2 });
      const etag = await etagOf(name);
      expect(
        codes([
          await set(name, back, etag),
          await set(name, { ...back, version: 9 }, etag),
          await set(name, { version: 2 }, etag),
          await set(name, { version: 2, reason: '' }, etag),
        ]),
      ).toEqual([
        [409, 'version_not_usable'],
        [404, 'version_not_found'],
        [400, 'invalid_value'],
        [400, 'invalid_value'],
      ]);
      expect((await set(name, { version: 2, reason: 'r' }, etag)).json['primary']).toBe(2);
    });

    it('falls back to what a quantum computer breaks only when told so', async () => {
      const name = await make('DHKEM-P256', 'MLKEM768-P256');
      const etag = await etagOf(name);
      expect(codes([await set(name, back, etag)])).toEqual([[409, 'suite_unavailable_here']]);
      const told = await set(name, { ...back, acceptQuantumVulnerable: true }, etag);
      expect([told.status, told.json['suite']]).toEqual([200, 'DHKEM-P256']);
    });
  });

  it('tell in a dry run who used what they are about, and since when not', async () => {
    const name = await make('A256GCM', 'A256GCM');
    await wrap(name, 1);
    await wrap(name);
    const path = `${name}/versions/1/suspend?dryRun=true`;
    const { json } = await operator('POST', path, { reason: 'r' });
    const uses = json['uses'] as Record<string, Record<string, unknown>[]>;
    expect(uses['versions']).toMatchObject([{ version: 1, protectUses: 1, processUses: 0 }]);
    expect(uses['users']).toMatchObject([{ usage: 'protect', uses: 1 }]);
    const key = await operator('POST', `${name}/suspend?dryRun=true`, { reason: 'r' });
    expect((key.json['uses'] as typeof uses)['versions']).toMatchObject([
      { version: 1, protectUses: 1 },
      { version: 2, protectUses: 1 },
    ]);
    expect((await operator('POST', `${name}/rotate`, {})).json).not.toHaveProperty('uses');
  });

  describe('minUsableVersion', () => {
    it('closes old versions for everything and opens them again, up to the primary', async () => {
      const name = await make('A256GCM', 'A256GCM');
      const old = (await wrap(name, 1)).json['ciphertext'];
      expect(codes([await operator('PATCH', name, { minUsableVersion: 3 })])).toEqual([
        [400, 'invalid_value'],
      ]);
      const closed = await operator('PATCH', `${name}?dryRun=true`, { minUsableVersion: 2 });
      expect(closed.json['changes']).toEqual([{ field: 'minUsableVersion', from: 1, to: 2 }]);
      expect((await unwrap(name, old)).status).toBe(200);
      await operator('PATCH', name, { minUsableVersion: 2 });
      expect(codes([await unwrap(name, old), await wrap(name, 1)])).toEqual([
        [409, 'version_not_usable'],
        [409, 'version_not_usable'],
      ]);
      await operator('PATCH', name, { minUsableVersion: 1 });
      expect((await unwrap(name, old)).status).toBe(200);
    });
  });
});
