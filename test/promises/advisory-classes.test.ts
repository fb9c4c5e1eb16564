/**
 * Classes of advisories that peers have published, one test each. Others of them stand in
 * `p4-every-operation-takes-a-grant` (another operation's name, a second path to a key), in
 * `p4-no-way-in-without-a-token` (failing discovery, a default without authentication, secrets in debug output).
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { isAnonymous } from '../../src/contract/route.ts';
import { ANONYMOUS_PATHS, ROUTES } from '../../src/contract/routes.ts';
import { TwofoldError } from '../../src/errors.ts';
import { openService } from '../http/service.ts';
import type { Service } from '../http/service.ts';

let service: Service;
let unwraps = 0;
/** Thrown by the next wrap, once. */
let broken: Error | null = null;
let ciphertext: unknown;

beforeAll(async () => {
  service = await openService({
    replace: ({ use }) => ({
      use: Object.assign(Object.create(use) as typeof use, {
        wrap: async (...given: Parameters<typeof use.wrap>) => {
          const error = broken;
          broken = null;
          if (error !== null) throw error;
          return use.wrap(...given);
        },
        unwrap: async (...given: Parameters<typeof use.unwrap>) => {
          unwraps += 1;
          return use.unwrap(...given);
        },
      }),
    }),
  });
  const json = { name: 'k', suite: 'MLKEM768-P256' };
  await service.call('admin', 'POST', '/v1/admin/keys', { json });
  ({ ciphertext } = (await wrap()).json);
}, 60_000);
afterAll(() => service.stop());

const wrap = () => service.call('user', 'POST', '/v1/keys/k/wrap', { json: { plaintext: 'AAAA' } });
const unwrap = (role = 'user') =>
  service.call(role, 'POST', '/v1/keys/k/unwrap', { json: { ciphertext } });
const change = (how: string) =>
  service.call('admin', 'POST', `/v1/admin/keys/k/${how}`, { json: { reason: 'a drill' } });
const material = () =>
  [...service.world.store.rows.versions.values()].map(({ value }) =>
    JSON.stringify([value.version, 'material' in value ? value.material : null]),
  );

describe('a class of advisories', () => {
  it('an unwrap in the HSM that bypassed permission checks', async () => {
    for (const role of ['nobody', 'auditor', 'operator']) {
      expect([role, (await unwrap(role)).json['code']]).toEqual([role, 'forbidden']);
    }
    expect(unwraps).toBe(0);
    expect((await unwrap()).status).toBe(200);
    expect(unwraps).toBe(1);
  });

  it('a copy unwrapped in place, and then persisted', async () => {
    const before = material();
    expect(before.join()).toContain('sealed');
    expect((await unwrap()).status).toBe(200);
    const json = { labels: { team: 'storage' } };
    expect((await service.call('admin', 'PATCH', '/v1/admin/keys/k', { json })).status).toBe(200);
    for (const how of ['suspend', 'resume']) expect((await change(how)).status).toBe(200);
    expect(material()).toEqual(before);
  });

  it('a cache of what was unwrapped that outlived the revocation', async () => {
    expect((await unwrap()).status).toBe(200);
    expect((await change('suspend')).status).toBe(200);
    expect((await unwrap()).json['code']).toBe('version_not_usable');
    expect((await change('resume')).status).toBe(200);
    expect((await unwrap()).status).toBe(200);
  });

  it('an update and its change of state as two calls of the database', async () => {
    const { store } = service.world;
    const commits = () => store.calls.filter((call) => call === 'commit').length;
    const before = [commits(), store.rows.events.length] as const;
    expect((await change('suspend')).status).toBe(200);
    expect([commits(), store.rows.events.length]).toEqual([before[0] + 1, before[1] + 1]);
    store.fault = (call) => (call === 'commit' ? 'before' : 'none');
    expect((await change('resume')).status).toBe(503);
    store.fault = () => 'none';
    const { json } = await service.call('admin', 'GET', '/v1/keys/k');
    expect([json['state'], store.rows.events.length]).toEqual(['suspended', before[1] + 1]);
    expect((await change('resume')).status).toBe(200);
  });

  it('a route outside the scope of authentication', async () => {
    expect(ANONYMOUS_PATHS).toEqual([
      '/healthz',
      '/readyz',
      '/openapi.yaml',
      '/public/log/checkpoint',
      '/public/{namespace}/{key}/jwks.json',
      '/public/{namespace}/{key}/key.pem',
    ]);
    for (const route of ROUTES) {
      const anonymous = ANONYMOUS_PATHS.includes(route.path);
      expect([route.id, isAnonymous(route)]).toEqual([route.id, anonymous]);
      if (anonymous) continue;
      const path = route.path.replaceAll(/\{\w+\}/gu, '1');
      const { status, json } = await service.call(null, route.method, path);
      expect([route.id, status, json['code']]).toEqual([route.id, 401, 'token_missing']);
    }
  });

  it('internals in the body of a 5xx', async () => {
    const internals = 'postgres://twofold:secret@10.0.0.7/db in /var/lib/twofold at row 7';
    for (const error of [
      new Error(internals),
      new TwofoldError('internal', internals),
      new TwofoldError('integrity_failed', internals),
      new TwofoldError('internal', undefined, { cause: new Error(internals) }),
    ]) {
      broken = error;
      const { status, text, headers } = await wrap();
      expect(status).toBe(500);
      const all = text + JSON.stringify([...headers]);
      for (const word of ['postgres', 'secret', '10.0.0.7', '/var', 'row 7', ' at ', '.ts']) {
        expect([word, all.includes(word)]).toEqual([word, false]);
      }
    }
  });
});
