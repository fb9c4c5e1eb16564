/** Limits and quotas through two real instances on one database. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { StoredAccess } from '../../src/governance/access-control.ts';
import { periodAt } from '../../src/limits/rate.ts';
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
/** Until all that they asked of the database has been answered: then each knows what the others took. */
const settled = async (...services: readonly Service<Instance>[]) => {
  for (const { limiter } of services) await limiter.settled();
};
/**
 * Until so many passed, however late allowance comes, and some more, each of which finds what was asked for
 * before it: the buckets do not fill, so the last is refused by who knows that nothing is left.
 */
async function askedUntil(
  enough: number,
  ask: (asked: number) => Promise<Called>,
  services: readonly Service<Instance>[] = [first, second],
) {
  const answers: Called[] = [];
  let passed = 0;
  for (let more = 12; more > 0 && answers.length < 1_000; more -= passed < enough ? 0 : 1) {
    if (passed >= enough) await settled(...services);
    const answer = await ask(answers.length);
    if (answer.status === 200) passed += 1;
    answers.push(answer);
  }
  return answers;
}
/** How many passed of rounds at once: until so many did, however late allowance comes, and twenty rounds more. */
async function passedAtOnce(
  enough: number,
  namespace: string,
  services: readonly Service<Instance>[],
): Promise<number> {
  let passed = 0;
  for (let [round, more] = [0, 20]; more > 0 && round < 500; round += 1) {
    if (passed >= enough) {
      await settled(first, second);
      more -= 1;
    }
    passed += await passedOf(services.map((service) => random(service, namespace)));
  }
  return passed;
}
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
    { quotas: { principal: { perDay: -1 } } },
    { quotas: { principal: { perWeek: 1 } } },
    { quotas: { all: { perDay: 1 } } },
    { quotas: { key: { perMonth: 100_000_001 } } },
    { rates: {} },
  ])('refuse what means nothing: %j', async (json) => {
    expect(['invalid_value', 'unknown_field']).toContain(code(await put('default', json)));
  });

  it('hold over two instances at once, within two leases of each', async () => {
    const name = await newNamespace('both');
    await put(name, { namespace: { use: { perMinute: 60, burst: 40 } } });
    const passed = await passedAtOnce(40, name, [first, second, first, second, first, second]);
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
    const answers = await askedUntil(5, (asked) => mac(names[asked % 2] ?? 'k'));
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
  for (let asked = 0; asked < 5; asked += 1) {
    await random(first, name, 'user');
    await settled(first);
  }
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

describe('limits that policies set', () => {
  let deciding: readonly Service<Instance>[] = [];
  beforeAll(async () => {
    const open = () =>
      site.service({
        now: () => 0,
        replace: ({ governance, epoch }) => ({
          access: new StoredAccess({
            policies: governance.policies,
            namespaces: governance.namespaces,
            epoch,
            clock: () => new Date(),
          }),
        }),
      });
    deciding = [await open(), await open()];
  }, 60_000);

  /** With the roles `admin` and `user`. */
  const newHome = async (name: string) => {
    await newNamespace(name);
    for (const role of ['admin', 'user']) {
      const template = { name: role, principal: { role } };
      expect((await putPolicy(name, role, { template })).status).toBe(200);
    }
    const cedar = 'permit (principal, action in Action::"identify", resource);';
    expect((await putPolicy(name, 'identify', { cedar })).status).toBe(200);
    return name;
  };
  const putPolicy = (namespace: string, name: string, json: object) =>
    first.call('admin', 'PUT', `/v1/admin/policies/${name}`, { json, headers: at(namespace) });
  const ask = (index: number, namespace: string, role = 'user') =>
    random(deciding[index % 2] ?? first, namespace, role);

  it('hold for each principal whom they admit, over all instances, whatever else permits', async () => {
    const name = await newHome('policy-rates');
    const cedar =
      '@limit("60/min burst 20") permit (principal in Role::"user", action in Action::"use", resource);';
    expect((await putPolicy(name, 'slow-users', { cedar })).status).toBe(200);
    const answers = await askedUntil(20, (asked) => ask(asked, name), deciding);
    const passed = answers.filter(({ status }) => status === 200).length;
    expect(passed).toBeGreaterThanOrEqual(20);
    // Two leases of two of each instance.
    expect(passed).toBeLessThanOrEqual(20 + 2 * 2 * 2);
    expect(answers[0]?.headers.get('ratelimit-policy')).toBe('"policy.slow-users";q=20;w=20');
    expect(answers[0]?.headers.get('ratelimit')).toMatch(/^"policy\.slow-users";r=19;t=1$/);
    const last = answers.at(-1);
    expect([last?.status, last && code(last)]).toEqual([429, 'rate_limited']);
    expect(last?.headers.get('ratelimit')).toMatch(/^"policy\.slow-users";r=0;/);
    // Another of those whom it admits has as much, and whom only others admit is not limited by it.
    const other = (await deciding[0]?.token('user', 3_600, 'other')) ?? '';
    const authorization = { authorization: `Bearer ${other}` };
    const headers = { ...at(name), ...authorization };
    const one = await deciding[0]?.call(null, 'POST', '/v1/random', {
      json: { bytes: 8 },
      headers,
    });
    expect([one?.status, one?.headers.get('ratelimit')]).toEqual([
      200,
      expect.stringMatching(/^"policy\.slow-users";r=19;/),
    ]);
    expect((await ask(0, name, 'admin')).headers.get('ratelimit')).toBeNull();
    const own = await deciding[0]?.call('user', 'GET', '/v1/limits', { headers: at(name) });
    expect(own?.json['items']).toEqual([
      { name: 'policy.slow-users', perMinute: 60, burst: 20, remaining: 0 },
    ]);
  });

  it('count for what of the body makes the policy permit, and with each item of a batch', async () => {
    const name = await newHome('policy-facts');
    const headers = at(name);
    await first.call('admin', 'POST', '/v1/admin/keys', {
      json: { name: 'k', suite: 'A256GCM' },
      headers,
    });
    const condition =
      'context has encryptionContext && context.encryptionContext.hasTag("tenant") && ' +
      'context.encryptionContext.getTag("tenant") == "slow"';
    const cedar = `@limit("60/min burst 50") permit (principal, action, resource) when { ${condition} };`;
    await putPolicy(name, 'slow-tenant', { cedar });
    const wrap = (tenant: string) =>
      deciding[0]?.call('user', 'POST', '/v1/keys/k/wrap', {
        json: { plaintext: 'AA==', encryptionContext: { tenant } },
        headers,
      });
    expect((await wrap('quick'))?.headers.get('ratelimit')).toBeNull();
    expect((await wrap('slow'))?.headers.get('ratelimit')).toMatch(/^"policy\.slow-tenant";r=49;/);
    const items = ['slow', 'quick', 'slow'].map((tenant) => ({
      plaintext: 'AA==',
      encryptionContext: { tenant },
    }));
    const batch = await deciding[0]?.call('user', 'POST', '/v1/keys/k/wrap/batch', {
      json: { items },
      headers,
    });
    expect([batch?.status, batch?.headers.get('ratelimit')]).toEqual([
      200,
      expect.stringMatching(/^"policy\.slow-tenant";r=46;/),
    ]);
  });

  it('count for the second key of a request, too', async () => {
    const name = await newHome('policy-second');
    const headers = at(name);
    for (const key of ['a', 'b']) {
      const json = { name: key, suite: 'A256GCM' };
      await first.call('admin', 'POST', '/v1/admin/keys', { json, headers });
    }
    const cedar = '@limit("60/min burst 3") permit (principal, action, resource == Key::"b");';
    await putPolicy(name, 'slow-b', { cedar });
    const wrapped = await deciding[0]?.call('user', 'POST', '/v1/keys/a/wrap', {
      json: { plaintext: 'AA==' },
      headers,
    });
    const { ciphertext } = wrapped?.json ?? {};
    const rewrap = () =>
      deciding[0]?.call('user', 'POST', '/v1/keys/a/rewrap', {
        json: { ciphertext, to: 'b' },
        headers,
      });
    const answers = [];
    for (let asked = 0; asked < 12; asked += 1) answers.push(await rewrap());
    expect(answers[0]?.headers.get('ratelimit')).toMatch(/^"policy\.slow-b";r=2;/);
    const last = answers.at(-1);
    expect([last?.status, last?.json['code']]).toEqual([429, 'rate_limited']);
  });

  it('are set with a template too', async () => {
    const name = await newHome('policy-template');
    const template = { name: 'user', principal: { role: 'guest' }, limit: '1/s burst 7' };
    const made = await putPolicy(name, 'guests', { template });
    expect(made.status).toBe(200);
    const shown = await first.call('admin', 'GET', '/v1/admin/policies/guests', {
      headers: at(name),
    });
    expect(shown.json).toMatchObject({
      cedar: expect.stringContaining('@limit("1/s burst 7")') as unknown,
      template: { limit: '1/s burst 7' },
    });
    expect((await ask(0, name, 'guest')).headers.get('ratelimit-policy')).toBe(
      '"policy.guests";q=7;w=7',
    );
  });

  it('hold in a day and month too, over all instances, for what the policy permits and nothing else', async () => {
    const name = await newHome('policy-quotas');
    const cedar =
      '@limit("600/min burst 500, 40/day, 400/month") permit (principal in Role::"user", action in Action::"use", resource);';
    expect((await putPolicy(name, 'few-uses', { cedar })).status).toBe(200);
    // Not what it permits, whoever asks.
    const own = () => deciding[1]?.call('user', 'GET', '/v1/limits', { headers: at(name) });
    for (let asked = 0; asked < 5; asked += 1) await own();
    const answers = await askedUntil(40, (asked) => ask(asked, name), deciding);
    expect(answers[0]?.headers.get('ratelimit')).toMatch(
      /^"policy\.few-uses";r=499;t=1, "quota\.policy\.few-uses\.day";r=39;t=\d+, "quota\.policy\.few-uses\.month";r=399;t=\d+$/u,
    );
    const month = periodAt('month', new Date());
    const seconds = String((month.ends - month.begins) / 1_000);
    expect(answers[0]?.headers.get('ratelimit-policy')).toBe(
      '"policy.few-uses";q=500;w=50, "quota.policy.few-uses.day";q=40;w=86400, ' +
        `"quota.policy.few-uses.month";q=400;w=${seconds}`,
    );
    const passed = answers.filter(({ status }) => status === 200).length;
    // Of each instance one that it held, 16 on credit and one request.
    expect(passed).toBeGreaterThanOrEqual(40);
    expect(passed).toBeLessThanOrEqual(40 + 2 * (1 + 16 + 1));
    const last = answers.at(-1);
    expect([last?.status, last && code(last)]).toEqual([429, 'rate_limited']);
    // Of all that hold, the one that refuses is named.
    expect(last?.headers.get('ratelimit-policy')).toBe('"quota.policy.few-uses.day";q=40;w=86400');
    expect(last?.headers.get('ratelimit')).toMatch(/^"quota\.policy\.few-uses\.day";r=0;t=\d+$/u);
    expect(Number(last?.headers.get('retry-after'))).toBeGreaterThan(1);
    expect((await ask(0, name, 'admin')).headers.get('ratelimit')).toBeNull();
    expect((await own())?.json).toMatchObject({
      items: [{ name: 'policy.few-uses', perMinute: 600, burst: 500 }],
      periods: [
        { name: 'quota.policy.few-uses.day', limit: 40, remaining: 0 },
        { name: 'quota.policy.few-uses.month', limit: 400 },
      ],
    });
  });

  it('give back to a quota what no key was used for', async () => {
    const name = await newHome('policy-given-back');
    const headers = at(name);
    const key = { name: 'k', suite: 'A256GCM' };
    await first.call('admin', 'POST', '/v1/admin/keys', { json: key, headers });
    const template = { name: 'user', principal: { role: 'user' }, limit: '100/day' };
    expect((await putPolicy(name, 'few', { template })).status).toBe(200);
    const items = Array.from({ length: 90 }, () => ({ plaintext: 'AAAA' }));
    const batch = (more: object[]) =>
      deciding[0]?.call('user', 'POST', '/v1/keys/k/wrap/batch', {
        json: { items: more },
        headers,
      });
    expect((await batch(items))?.status).toBe(200);
    expect((await batch(items))?.json['code']).toBe('rate_limited');
    await settled(...deciding);
    const after = await batch(items.slice(0, 4));
    expect(after?.headers.get('ratelimit')).toMatch(/^"quota\.policy\.few\.day";r=6;/u);
  });

  const permit = 'permit (principal, action, resource);';
  it.each([
    [`@limit("100") ${permit}`, 1, 1],
    [`// é\n  @limit("0/s") ${permit}`, 2, 3],
    [`@description("ü; @limit") @limit("5/h") ${permit}`, 1, 27],
    [`@limit("100000001/min") ${permit}`, 1, 1],
    [`@limit("2000000/s") ${permit}`, 1, 1],
    [`@limit("1/s burst 0") ${permit}`, 1, 1],
    [`@limit("1/s burst 100000001") ${permit}`, 1, 1],
    [`@limit(" 1/s") ${permit}`, 1, 1],
    [`@limit ${permit}`, 1, 1],
    [`@limits("1/s") ${permit}`, 1, 1],
    [`// x\r@limits("5/s")\n${permit}`, 1, 6],
    ['@limit("1/s") forbid (principal, action, resource) when { context has suite };', 1, 1],
    [`@limit("1/s") @limit("2/s") ${permit}`, 1, 15],
    [`@limit("1/week") ${permit}`, 1, 1],
    [`\n @limit("0/day") ${permit}`, 2, 2],
    [`@limit("100000001/month") ${permit}`, 1, 1],
    [`@limit("10/day burst 5") ${permit}`, 1, 1],
    [`@description("a") @limit("10/day, 20/day") ${permit}`, 1, 19],
    [`@limit("1/s, 60/min") ${permit}`, 1, 1],
    [`@limit("1/s,10/day") ${permit}`, 1, 1],
    [`@limit("1/s, ") ${permit}`, 1, 1],
    [`@limit("1/s, 2/day, 3/month, 4/day") ${permit}`, 1, 1],
    ['@limit("1/day") forbid (principal, action, resource) when { context has suite };', 1, 1],
  ])('are refused with their place: %s', async (cedar, line, column) => {
    const refused = await putPolicy('default', 'bad', { cedar });
    expect([refused.status, code(refused)]).toEqual([422, 'policy_invalid']);
    const [complaint] = refused.json['errors'] as readonly { message: string }[];
    expect(complaint?.message).toMatch(
      new RegExp(`^line ${String(line)}, column ${String(column)}: .*limit`, 'u'),
    );
  });

  it('are so many in a namespace and no more, those of templates too', async () => {
    const name = await newHome('many-limited');
    const limited = (at: number) => ({ cedar: `@limit("${String(at + 1)}/s") ${permit}` });
    for (let at = 0; at < 31; at += 1) {
      expect((await putPolicy(name, `p${String(at)}`, limited(at))).status).toBe(200);
    }
    const template = { name: 'user', principal: { role: 'guest' }, limit: '1/s' };
    expect((await putPolicy(name, 'last', { template })).status).toBe(200);
    for (const json of [limited(32), { template }]) {
      const refused = await putPolicy(name, 'more', json);
      expect([refused.status, code(refused)]).toEqual([429, 'quota_exceeded']);
      expect(refused.json['detail']).toBe('Policies of a namespace have at most 32 limits.');
    }
    // A rate and two quotas are three of them.
    const three = { cedar: `@limit("1/s, 10/day, 20/month") ${permit}` };
    expect(code(await putPolicy(name, 'more', three))).toBe('quota_exceeded');
    expect((await putPolicy(name, 'more', { cedar: permit })).status).toBe(200);
  });

  it.each([
    '1',
    '0/s',
    '1/h',
    '1/s burst 0',
    '1 /s',
    '0/day',
    '1/day burst 2',
    '1/s,2/day',
    '1/s, ',
  ])('of templates are refused: %s', async (limit) => {
    const template = { name: 'user', principal: { role: 'guest' }, limit };
    const refused = await putPolicy('default', 'bad', { template });
    expect([refused.status, code(refused)]).toEqual([400, 'invalid_value']);
  });
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
      { name: 'principal.use', perMinute: 600, burst: 100, remaining: 100 },
      { name: 'namespace.admin', perMinute: 60, burst: 10, remaining: 10 },
    ],
    quotas: { keys: { limit: null, used: 0 }, versions: { limit: null, used: 0 } },
  });
  // Who may not list keys does not learn how many there are.
  const none = await first.call('nobody', 'GET', '/v1/limits', { headers: at(name) });
  expect([none.status, none.json['quotas']]).toEqual([200, null]);
});

it('tells them also when they are used up, at a rate of its own', async () => {
  const name = await newNamespace('used-up');
  await put(name, { principal: { use: { perMinute: 1, burst: 1 } } });
  const refused = async () => (await random(first, name)).status === 429;
  while (!(await refused()));
  const headers = at(name);
  const ask = () => first.call('user', 'GET', '/v1/limits', { headers });
  const told = await ask();
  expect([told.status, told.json['items']]).toMatchObject([
    200,
    [{ name: 'principal.use', perMinute: 1, remaining: 0 }],
  ]);
  expect(told.headers.get('ratelimit-policy')).toBe('"service.limits";q=10;w=10');
  let last = told;
  let asked = 1;
  for (; last.status === 200 && asked < 200; asked += 1) last = await ask();
  expect(last.status).toBe(429);
  expect(last.json['detail']).toContain('The limit service.limits ');
  expect((await first.call('nobody', 'GET', '/v1/limits', { headers })).status).toBe(200);
  expect((await first.call('user', 'GET', '/v1/whoami', { headers })).status).toBe(429);
});

describe('quotas of uses in a day or month', () => {
  it('hold over two instances, for each of whom they are of, and say when they end', async () => {
    const name = await newNamespace('periods');
    const headers = at(name);
    const quotas = { principal: { perDay: 40 }, namespace: { perMonth: 1_000 }, keys: 5 };
    const made = await put(name, { quotas });
    expect([made.status, made.json['quotas']]).toEqual([200, quotas]);
    const passed = await passedAtOnce(40, name, [first, second, first, second]);
    expect(passed).toBeGreaterThanOrEqual(40);
    // Of each instance one that it held and 16 on credit.
    expect(passed).toBeLessThanOrEqual(40 + 2 * (1 + 16));
    const refused = await random(first, name);
    expect([refused.status, code(refused)]).toEqual([429, 'rate_limited']);
    expect(refused.json['detail']).toContain('quota.principal.day');
    const left = Math.ceil((periodAt('day', new Date()).ends - Date.now()) / 1_000);
    const wait = Number(refused.headers.get('retry-after'));
    expect(Math.abs(wait - left) < 5 || wait > 86_000).toBe(true);
    expect(refused.headers.get('ratelimit-policy')).toBe('"quota.principal.day";q=40;w=86400');
    expect(refused.headers.get('ratelimit')).toMatch(/^"quota\.principal\.day";r=0;t=\d+$/u);
    // Another principal has its own; of the namespace all of them count.
    const other = await random(second, name, 'admin');
    expect(other.status).toBe(200);
    expect(other.headers.get('ratelimit-policy')).toContain('"quota.namespace.month";q=1000;w=');
    const own = await second.call('user', 'GET', '/v1/limits', { headers });
    const periods = own.json['periods'] as { name: string; limit: number; remaining: number }[];
    expect(periods).toMatchObject([
      { name: 'quota.principal.day', limit: 40, remaining: 0 },
      { name: 'quota.namespace.month', limit: 1_000 },
    ]);
    // Raised, what was used stays used; taken away, it limits nothing.
    const raised = { quotas: { ...quotas, principal: { perDay: 50 } } };
    const etag = made.headers.get('etag') ?? '';
    expect(await put(name, raised, { 'if-match': etag })).toMatchObject({ status: 200 });
    const more = await askedUntil(10, () => random(first, name));
    expect(more.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(
      10 + 2 * (1 + 16),
    );
    expect(await put(name, {}, { 'if-match': '"2"' })).toMatchObject({ status: 200 });
    expect((await random(first, name)).status).toBe(200);
  });

  it('are of the configuration too, beside those of namespaces: the stricter one refuses', async () => {
    const rates = {
      ...{ principalUsesPerDay: 100, principalUsesPerMonth: 5_000 },
      ...{ namespaceUsesPerMonth: 6_000, keyUsesPerDay: 30 },
    };
    const now = () => 0;
    const both = [await site.service({ now, rates }), await site.service({ now, rates })];
    const [one] = both;
    const ask = (asked: number, namespace: string, path: string, json: object, role = 'user') =>
      (both[asked % 2] ?? first).call(role, 'POST', path, { json, headers: at(namespace) });
    const draw = (asked: number, namespace: string, role = 'user') =>
      ask(asked, namespace, '/v1/random', { bytes: 8 }, role);
    const [a, b] = [await newNamespace('configured-a'), await newNamespace('configured-b')];
    for (const namespace of [a, b]) {
      const json = { name: 'k', suite: 'HS256' };
      await first.call('admin', 'POST', '/v1/admin/keys', { json, headers: at(namespace) });
    }
    // Of a namespace's own, none is refused by the looser one.
    await put(a, { quotas: { principal: { perDay: 10 }, key: { perDay: 3_000 } } });
    const own = await askedUntil(10, (asked) => draw(asked, a), both);
    expect(own.at(-1)?.headers.get('ratelimit-policy')).toBe('"quota.principal.day";q=10;w=86400');
    // Of a key, whoever uses it: the one of the configuration is the stricter.
    const mac = (asked: number, role: string) =>
      ask(asked, b, '/v1/keys/k/mac', { message: 'AAAA' }, role);
    const ofKey = await askedUntil(30, (asked) => mac(asked, 'admin'), both);
    const used = ofKey.filter(({ status }) => status === 200).length;
    expect(used).toBeLessThanOrEqual(30 + 2 * (1 + 16 + 1));
    expect(ofKey.at(-1)?.headers.get('ratelimit')).toMatch(
      /^"quota\.service\.key\.day";r=0;t=\d+$/u,
    );
    // Of a principal, in all namespaces together.
    const before = own.filter(({ status }) => status === 200).length;
    const all = await askedUntil(100 - before, (asked) => draw(asked, b), both);
    const passed = all.filter(({ status }) => status === 200).length;
    expect(before + passed).toBeLessThanOrEqual(100 + 2 * (1 + 16 + 1));
    expect(all.at(-1)?.headers.get('ratelimit')).toMatch(
      /^"quota\.service\.principal\.day";r=0;t=\d+$/u,
    );
    expect((await draw(0, b, 'admin')).headers.get('ratelimit-policy')).toMatch(
      /^"quota\.service\.principal\.day";q=100;w=86400, "quota\.service\.principal\.month";q=5000;w=\d+, "quota\.service\.namespace\.month";q=6000;w=\d+$/u,
    );
    // Reads are no uses, and what is left of each is told.
    const limits = await one?.call('user', 'GET', '/v1/limits', { headers: at(b) });
    expect([limits?.status, limits?.json['periods']]).toMatchObject([
      200,
      [
        { name: 'quota.service.principal.day', limit: 100, remaining: 0 },
        { name: 'quota.service.principal.month', limit: 5_000 },
        { name: 'quota.service.namespace.month', limit: 6_000 },
      ],
    ]);
  });

  it('are of each key', async () => {
    const name = await newNamespace('key-periods');
    const headers = at(name);
    for (const key of ['a', 'b']) {
      const json = { name: key, suite: 'HS256' };
      await first.call('admin', 'POST', '/v1/admin/keys', { json, headers });
    }
    await put(name, { quotas: { key: { perMonth: 10 } } });
    const sign = (key: string) =>
      first.call('user', 'POST', `/v1/keys/${key}/mac`, { json: { message: 'AAAA' }, headers });
    const answers = await askedUntil(10, () => sign('a'));
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(10 + 1 + 10);
    expect(statuses.at(-1)).toBe(429);
    expect((await sign('b')).status).toBe(200);
  });

  it('do not refuse what comes at once, and are not passed by a batch', async () => {
    const name = await newNamespace('at-once');
    const headers = at(name);
    const json = { name: 'k', suite: 'A256GCM' };
    await first.call('admin', 'POST', '/v1/admin/keys', { json, headers });
    await put(name, { quotas: { principal: { perMonth: 30 } } });
    expect(await passedOf(Array.from({ length: 12 }, () => random(first, name)))).toBe(12);
    const items = Array.from({ length: 19 }, () => ({ plaintext: 'AAAA' }));
    const batch = (more: object[]) =>
      first.call('user', 'POST', '/v1/keys/k/wrap/batch', { json: { items: more }, headers });
    const refused = await batch(items);
    expect([refused.status, refused.json['detail']]).toEqual([
      429,
      'The limit quota.principal.month lets through less than this now; about 18 are left.',
    ]);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(1);
    expect((await batch(items.slice(1))).status).toBe(200);
    expect((await random(first, name)).json['detail']).toContain('is used up');
  });

  it('are used up by uses of keys alone, and by nobody who may not use them', async () => {
    const name = await newNamespace('not-uses');
    const headers = at(name);
    const json = { name: 'k', suite: 'HS256' };
    await first.call('admin', 'POST', '/v1/admin/keys', { json, headers });
    await put(name, { quotas: { namespace: { perMonth: 40 }, key: { perDay: 30 } } });
    for (let asked = 0; asked < 60; asked += 1) {
      const suites = await first.call('nobody', 'GET', '/v1/suites', { headers });
      expect([suites.status, suites.headers.get('ratelimit')]).toEqual([200, null]);
      expect((await first.call('user', 'GET', '/v1/keys/k', { headers })).status).toBe(200);
      const forbidden = await first.call('auditor', 'POST', '/v1/keys/k/mac', {
        json: { message: 'AAAA' },
        headers,
      });
      expect(code(forbidden)).toBe('forbidden');
    }
    const used = await random(first, name);
    expect(used.headers.get('ratelimit')).toMatch(/^"quota\.namespace\.month";r=39;/u);
  });

  const left = (answer: Called | undefined) =>
    Object.fromEntries(
      [...(answer?.headers.get('ratelimit') ?? '').matchAll(/"([^"]+)";r=(\d+)/gu)]
        .map(([, limit = '', rest]) => [limit, Number(rest)] as const)
        .toReversed(),
    );

  it('count each key that signs in parallel, and give back what was not permitted', async () => {
    const name = await newNamespace('parallel-uses');
    const headers = at(name);
    let refused: string | null = null;
    const service = await site.service({
      now: () => 0,
      replace: ({ authorizer }) => ({
        authorizer: {
          ...authorizer,
          authorize: (principal, operation, resource) => {
            if (resource.key !== null && resource.key === refused) {
              throw new TwofoldError('forbidden');
            }
            return authorizer.authorize(principal, operation, resource);
          },
          refine: (grant, facts) => authorizer.refine(grant, facts),
          may: (...asked) => authorizer.may(...asked),
          decide: (...asked) => authorizer.decide(...asked),
        },
      }),
    });
    const call = (path: string, json: object) =>
      service.call('user', 'POST', path, { json, headers });
    for (const [key, suite] of Object.entries({ s: 'ML-DSA-65', t: 'Ed25519', u: 'Ed25519' })) {
      await first.call('admin', 'POST', '/v1/admin/keys', { json: { name: key, suite }, headers });
    }
    await put(name, {
      key: { use: { perMinute: 60, burst: 200 } },
      quotas: { namespace: { perMonth: 2_000 }, key: { perDay: 1_900 } },
    });
    const json = { keys: ['s', 't', 'u'].map((key) => ({ key })), message: 'AAAA' };
    const path = '/v1/sign-parallel';
    const signed = await call(path, json);
    expect(signed.status).toBe(200);
    expect(signed.headers.get('ratelimit')).toContain('"quota.namespace.month";r=1997;');
    const ofKeys = signed.headers.get('ratelimit')?.match(/"(key\.use|quota\.key\.day)";r=\d+/gu);
    expect(ofKeys).toEqual(
      Array.from({ length: 3 }, () => ['"key.use";r=199', '"quota.key.day";r=1899']).flat(),
    );
    const one = { message: 'AAAA' };
    const alone = await call('/v1/keys/t/sign', one);
    expect([alone.status, left(alone)]).toMatchObject([
      200,
      { 'quota.namespace.month': 1_996, 'quota.key.day': 1_898, 'key.use': 198 },
    ]);
    // Some of the keys are none of the caller's: nothing of the quotas is used.
    refused = 'u';
    for (let asked = 0; asked < 5; asked += 1) {
      expect(code(await call(path, json))).toBe('forbidden');
    }
    refused = null;
    const after = await call('/v1/keys/t/sign', one);
    expect(left(after)).toMatchObject({ 'quota.namespace.month': 1_995, 'quota.key.day': 1_897 });
  });

  it('count the key that data goes to, and each item of a rewrap job', async () => {
    const name = await newNamespace('moved-uses');
    const headers = at(name);
    for (const key of ['a', 'b']) {
      const json = { name: key, suite: 'A256GCM' };
      await first.call('admin', 'POST', '/v1/admin/keys', { json, headers });
    }
    const call = (path: string, more: object) =>
      first.call('user', 'POST', path, { headers, ...more });
    const { json } = await call('/v1/keys/a/wrap', { json: { plaintext: 'AAAA' } });
    const { ciphertext } = json;
    await put(name, {
      key: { use: { perMinute: 60, burst: 200 } },
      quotas: { principal: { perDay: 2_000 }, key: { perMonth: 1_900 } },
    });
    expect((await call('/v1/keys/a/rewrap', { json: { ciphertext, to: 'b' } })).status).toBe(200);
    const items = [1, 2, 3].map(() => ({ ciphertext, to: 'b' }));
    const batch = await call('/v1/keys/a/rewrap/batch', { json: { items } });
    expect([batch.status, batch.text.includes('error')]).toEqual([200, false]);
    const of = async (key: string) =>
      left(await call(`/v1/keys/${key}/wrap`, { json: { plaintext: 'AAAA' } }));
    const taken = (uses: number, ofKey: number) => ({
      ...{ 'quota.principal.day': 2_000 - uses, 'quota.key.month': 1_900 - ofKey },
      ...{ 'key.use': 200 - ofKey },
    });
    expect(await of('a')).toEqual(taken(5, 5));
    expect(await of('b')).toEqual(taken(6, 5));
    const job = await call('/v1/admin/keys/a/rewrap-jobs', { json: { to: 'b' } });
    expect(job.status).toBe(202);
    const sent = await call(`/v1/admin/operations/${String(job.json['id'])}/items?offset=0`, {
      body: `${JSON.stringify({ ciphertext })}\n`.repeat(10),
      headers: { ...headers, 'content-type': 'application/x-ndjson' },
    });
    expect(sent.status).toBe(200);
    // To begin a job is one use, of both keys.
    expect(await of('a')).toEqual(taken(6 + 1 + 10 + 1, 5 + 1 + 10 + 1));
    expect(await of('b')).toEqual(taken(6 + 1 + 10 + 2, 5 + 1 + 10 + 1));
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

it.each(['limits.change', 'govern'])(
  'waits for approval (%s) of what loosens, and for nobody where it tightens',
  async (guard) => {
    const name = await newNamespace(`guarded-by-${guard}`);
    const headers = at(name);
    const rule = { guards: [guard], needed: 1, mayLockOut: true };
    await first.call('admin', 'PUT', '/v1/admin/approval-rules/limits', { json: rule, headers });
    const set = await put(name, { principal: { use: { perMinute: 600 } } });
    expect(set.status).toBe(200);
    const etag = { 'if-match': set.headers.get('etag') ?? '' };
    expect((await put(name, { principal: { use: { perMinute: 6_000 } } }, etag)).status).toBe(202);
    expect((await put(name, {}, etag)).status).toBe(202);
    expect((await put(name, { principal: { use: { perMinute: 60 } } }, etag)).status).toBe(200);
  },
);
