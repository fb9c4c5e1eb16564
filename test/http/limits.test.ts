/** Limits and quotas through two real instances on one database. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import type { Instance } from '../keyring/world.ts';
import { setWallClock } from '../store/wall-clock.ts';
import type { Called, Service } from './service.ts';
import { Site } from './stored-service.ts';

const PATH = '/v1/admin/limits';
const START = Date.UTC(2030, 0, 1);

let site: Site;
let first: Service<Instance>;
let second: Service<Instance>;
let broken = false;
beforeAll(async () => {
  site = await Site.open();
  const now = () => 0;
  first = await site.service({
    now,
    replace: ({ use }) => ({
      use: new Proxy(use, {
        get: (target, name) => {
          if (broken && name === 'random') {
            return () => Promise.reject(new TwofoldError('hsm_unavailable'));
          }
          return Reflect.get(target, name) as unknown;
        },
      }),
    }),
  });
  second = await site.service({ now });
  await setWallClock(site.database, START);
}, 120_000);
afterAll(() => site.close(), 60_000);

const at = (namespace: string) => ({ 'twofold-namespace': namespace });
const code = ({ json }: Called) => json['code'];
const newNamespace = async (name: string) => {
  const made = await first.call('admin', 'POST', '/v1/admin/namespaces', { json: { name } });
  expect(made.status).toBe(201);
  return name;
};
const put = (namespace: string, json: object, headers = {}, query = '') =>
  first.call('admin', 'PUT', PATH + query, { json, headers: { ...at(namespace), ...headers } });
const random = (service: Service<Instance>, namespace: string, role = 'user') =>
  service.call(role, 'POST', '/v1/random', { json: { bytes: 8 }, headers: at(namespace) });
const passedOf = async (answers: readonly Promise<Called>[]) =>
  (await Promise.all(answers)).filter(({ status }) => status === 200).length;

describe('limits of a namespace', () => {
  it('are set, shown and changed with If-Match', async () => {
    const name = await newNamespace('shown');
    const headers = at(name);
    const none = await first.call('auditor', 'GET', PATH, { headers });
    expect(none.json).toMatchObject({ revision: 0, updatedAt: null, used: { keys: 0 } });
    const limits = { principal: { use: { perMinute: 60, burst: 5 } }, quotas: { keys: 3 } };
    expect((await put(name, limits, {}, '?dryRun=true')).json).toMatchObject({ dryRun: true });
    const made = await put(name, limits);
    expect([made.status, made.json['principal']]).toEqual([200, limits.principal]);
    expect(code(await put(name, {}))).toBe('precondition_required');
    expect(code(await put(name, {}, { 'if-match': '"7"' }))).toBe('etag_mismatch');
    const etag = made.headers.get('etag') ?? '';
    expect((await put(name, {}, { 'if-match': etag })).json).toMatchObject({ revision: 2 });
    expect(code(await first.call('user', 'GET', PATH, { headers }))).toBe('forbidden');
  });

  it.each([
    { principal: { use: { perMinute: 0 } } },
    { principal: { use: {} } },
    { principal: { uses: { perMinute: 1 } } },
    { keys: { 'a b': { perMinute: 1 } } },
    { quotas: { keys: -1 } },
    { rates: {} },
  ])('refuse what means nothing: %j', async (json) => {
    expect(['invalid_value', 'unknown_field']).toContain(code(await put('default', json)));
  });

  it('hold over two instances at once, within two leases of each', async () => {
    const name = await newNamespace('both');
    await put(name, { namespace: { use: { perMinute: 60, burst: 40 } } });
    let passed = 0;
    for (let round = 0; round < 20; round += 1) {
      const both = [first, second, first, second, first, second];
      passed += await passedOf(both.map((service) => random(service, name)));
    }
    expect(passed).toBeGreaterThanOrEqual(40);
    // Two leases of four of each instance.
    expect(passed).toBeLessThanOrEqual(40 + 2 * 2 * 4);
    const refused = await random(first, name);
    expect([refused.status, code(refused)]).toEqual([429, 'rate_limited']);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(refused.headers.get('ratelimit-policy')).toBe('"namespace.use";q=40;w=40');
    expect(refused.headers.get('ratelimit')).toMatch(/^"namespace\.use";r=0;t=\d+$/);
    // Another namespace, what is anonymous, and what raises the limit are not touched.
    expect((await random(first, 'default')).status).toBe(200);
    expect((await first.call('admin', 'GET', PATH, { headers: at(name) })).status).toBe(200);
  });

  it('are of each principal, and of each key however it is called', async () => {
    const name = await newNamespace('each');
    const headers = at(name);
    const key = { name: 'k', suite: 'HS256' };
    const made = await first.call('admin', 'POST', '/v1/admin/keys', { json: key, headers });
    await put(name, {
      principal: { use: { perMinute: 60, burst: 20 } },
      keys: { k: { perMinute: 60, burst: 5 } },
    });
    const mac = (reference: string) =>
      first.call('admin', 'POST', `/v1/keys/${reference}/mac`, {
        json: { message: 'AA==' },
        headers,
      });
    const names = ['k', String(made.json['id'])];
    const answers: Called[] = [];
    for (let asked = 0; asked < 16; asked += 1) answers.push(await mac(names[asked % 2] ?? 'k'));
    const passed = answers.filter(({ status }) => status === 200).length;
    expect(passed).toBeGreaterThanOrEqual(5);
    expect(passed).toBeLessThanOrEqual(5 + 2);
    expect(answers.at(-1)?.headers.get('ratelimit')).toMatch(/"key\.use";r=0/);
    expect((await random(first, name, 'admin')).status).toBe(200);
    expect((await random(first, name, 'user')).status).toBe(200);
  });

  it('are not used up by who may not, nor by what failed for the service', async () => {
    const name = await newNamespace('unpaid');
    await put(name, { namespace: { use: { perMinute: 60, burst: 20 } } });
    for (let asked = 0; asked < 60; asked += 1) {
      expect(code(await random(first, name, 'auditor'))).toBe('forbidden');
    }
    broken = true;
    for (let asked = 0; asked < 60; asked += 1) {
      expect(code(await random(first, name))).toBe('hsm_unavailable');
    }
    broken = false;
    expect((await random(first, name)).headers.get('ratelimit')).toMatch(/;r=19;/);
  });

  it('count each item of a batch', async () => {
    const name = await newNamespace('items');
    const headers = at(name);
    const key = { name: 'k', suite: 'A256GCM' };
    await first.call('admin', 'POST', '/v1/admin/keys', { json: key, headers });
    await put(name, { principal: { use: { perMinute: 60, burst: 20 } } });
    const items = Array.from({ length: 15 }, () => ({ plaintext: 'AA==' }));
    const batch = () =>
      first.call('user', 'POST', '/v1/keys/k/wrap/batch', { json: { items }, headers });
    const one = await batch();
    expect([one.status, one.headers.get('ratelimit')]).toEqual([
      200,
      expect.stringMatching(/;r=5;/),
    ]);
  });
});

it('audits the first refusal in full and the rest as a count', async () => {
  const name = await newNamespace('flood');
  await put(name, { principal: { use: { perMinute: 1, burst: 1 } } });
  await first.deps.limits.refusals.flush();
  for (let asked = 0; asked < 5; asked += 1) await random(first, name, 'user');
  const before = first.drafts.length;
  const answers = await Promise.all(Array.from({ length: 300 }, () => random(first, name, 'user')));
  expect(answers.every(({ status }) => status === 429)).toBe(true);
  expect(first.drafts.length).toBe(before);
  const { refusals } = first.deps.limits;
  await refusals.flush();
  const written = first.drafts.slice(before);
  expect(written.filter(({ namespace }) => namespace === name)).toMatchObject([
    {
      outcome: 'rate_limited',
      namespace: name,
      operation: 'random',
      detail: { limit: 'principal.use' },
    },
  ]);
  expect(Number(written.at(-1)?.detail['refused'])).toBeGreaterThanOrEqual(300);
  // The next one begins anew once an interval was quiet.
  await refusals.flush();
  await random(first, name, 'user');
  expect(first.drafts.at(-1)).toMatchObject({ outcome: 'rate_limited' });
});

it('tells callers their own limits', async () => {
  const name = await newNamespace('own');
  await put(name, {
    principal: { use: { perMinute: 600 } },
    namespace: { admin: { perMinute: 60 } },
  });
  const { json } = await first.call('user', 'GET', '/v1/limits', { headers: at(name) });
  expect(json).toEqual({
    items: [
      { name: 'principal.use', perMinute: 600, burst: 100, remaining: 99 },
      { name: 'namespace.admin', perMinute: 60, burst: 10, remaining: 10 },
    ],
  });
});

describe('quotas of a namespace', () => {
  const create = (service: Service<Instance>, namespace: string, name: string) =>
    service.call('admin', 'POST', '/v1/admin/keys', {
      json: { name, suite: 'HS256' },
      headers: at(namespace),
    });

  it('of keys are not exceeded by two instances at once', async () => {
    const name = await newNamespace('keys');
    await put(name, { quotas: { keys: 4 } });
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        create(index % 2 === 0 ? first : second, name, `k${String(index)}`),
      ),
    );
    const codes = answers.map((answer) => (answer.status === 201 ? 'made' : code(answer)));
    expect(codes.filter((each) => each === 'made')).toHaveLength(4);
    expect(new Set(codes)).toEqual(new Set(['made', 'quota_exceeded']));
    const shown = await first.call('admin', 'GET', PATH, { headers: at(name) });
    expect(shown.json['used']).toEqual({ keys: 4, versions: 4 });
  });

  it('of versions refuse a rotation, and a raised one lets it', async () => {
    const name = await newNamespace('versions');
    const { headers: set } = await put(name, { quotas: { versions: 2 } });
    await create(first, name, 'k');
    const rotate = () =>
      second.call('admin', 'POST', '/v1/admin/keys/k/rotate', { json: {}, headers: at(name) });
    expect((await rotate()).status).toBeLessThan(300);
    expect(code(await rotate())).toBe('quota_exceeded');
    await put(name, { quotas: { versions: 3 } }, { 'if-match': set.get('etag') ?? '' });
    expect((await rotate()).status).toBeLessThan(300);
  });
});

it('waits for approval of what loosens, and for nobody where it tightens', async () => {
  const name = await newNamespace('guarded');
  const headers = at(name);
  const rule = { guards: ['limits.change'], needed: 1 };
  await first.call('admin', 'PUT', '/v1/admin/approval-rules/limits', { json: rule, headers });
  const set = await put(name, { principal: { use: { perMinute: 600 } } });
  expect(set.status).toBe(200);
  const etag = { 'if-match': set.headers.get('etag') ?? '' };
  expect((await put(name, { principal: { use: { perMinute: 6_000 } } }, etag)).status).toBe(202);
  expect((await put(name, {}, etag)).status).toBe(202);
  expect((await put(name, { principal: { use: { perMinute: 60 } } }, etag)).status).toBe(200);
});
