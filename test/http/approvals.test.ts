/** Approvals over HTTP: what waits for others, who may consent, and what the repeated request stands on. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { SignJWT } from 'jose';
import { makeKey } from '../access/issuer-fixture.ts';
import { openService } from './service.ts';
import type { CallInit, Called, Service } from './service.ts';

let service: Service;
let now = Date.now();
beforeAll(async () => {
  service = await openService({ clock: () => new Date(now) });
});
afterAll(() => service.stop());

const RULES = '/v1/admin/approval-rules';
const APPROVALS = '/v1/admin/approvals';
const DAY_MS = 86_400_000;

type Role = 'admin' | 'operator' | 'auditor' | 'user';
/** A call by somebody of a name; within a namespace of the test's own. */
let namespace = '';
let count = 0;
async function as(
  subject: string,
  method: string,
  path: string,
  init: CallInit = {},
  role: Role = 'admin',
) {
  const token = await service.token(role, 3600, subject);
  const headers = { authorization: `Bearer ${token}`, 'twofold-namespace': namespace };
  return service.call(null, method, path, { ...init, headers: { ...headers, ...init.headers } });
}
const code = ({ json }: Called) => json['code'];
const outcome = (answer: Called) => [answer.status, code(answer) ?? answer.json['state']];

const rule = (name: string, json: object, headers = {}, by = 'founder') =>
  as(by, 'PUT', `${RULES}/${name}`, { json, headers });
const unprotect = (
  by: string,
  headers = {},
  json: object = { deletionProtection: false },
  query = '',
) => as(by, 'PATCH', `/v1/admin/keys/k${query}`, { json, headers });
const approve = (by: string, id: unknown, role: Role = 'admin') =>
  as(by, 'POST', `${APPROVALS}/${String(id)}/approve`, {}, role);
const end = (by: string, id: unknown, how: 'deny' | 'withdraw') =>
  as(by, 'POST', `${APPROVALS}/${String(id)}/${how}`, { json: { reason: 'changed my mind' } });
const under = (id: unknown) => ({ 'twofold-approval': String(id) });
/** A change that others agree to where a rule asks for it. */
async function agreed(
  change: (headers: Record<string, string>) => Promise<Called>,
): Promise<Called> {
  const asked = await change({});
  if (asked.status !== 202) return asked;
  for (const by of ['bob', 'carol']) await approve(by, asked.json['id']);
  return change(under(asked.json['id']));
}
const agreedRule = (name: string, json: object, headers = {}) =>
  agreed((more) => rule(name, json, { ...headers, ...more }));
const isProtected = async () => (await as('alice', 'GET', '/v1/keys/k')).json['deletionProtection'];

beforeEach(async () => {
  count += 1;
  namespace = 'default';
  const name = `team-${String(count)}`;
  await as('founder', 'POST', '/v1/admin/namespaces', { json: { name } });
  namespace = name;
  const json = { name: 'k', suite: 'A256GCM', deletionProtection: true };
  await as('founder', 'POST', '/v1/admin/keys', { json });
  const made = await rule('protection', {
    guards: ['keys.unprotect'],
    needed: 2,
    mayLockOut: true,
  });
  expect(made.status).toBe(200);
});

describe('a guarded request', () => {
  it('is answered with its approval and does nothing', async () => {
    const asked = await unprotect('alice');
    expect(asked.status).toBe(202);
    expect(asked.json).toMatchObject({
      state: 'pending',
      operation: 'keys.update',
      guards: ['keys.update', 'keys.unprotect'],
      requester: { subject: 'alice' },
      request: { method: 'PATCH', path: '/v1/admin/keys/k', query: '', ifMatch: null },
      needed: [{ rule: 'protection', needed: 2, approved: 0 }],
      approvals: [],
      // What the request would do, as its dry run says it.
      preview: {
        dryRun: true,
        changes: [{ field: 'deletionProtection', from: true, to: false }],
      },
    });
    const week = new Date(now + 7 * DAY_MS).toISOString();
    expect(asked.json['expiresAt']).toBe(week);
    expect(asked.headers.get('location')).toBe(`${APPROVALS}/${String(asked.json['id'])}`);
    expect(await isProtected()).toBe(true);
    expect(service.drafts.map(({ operation }) => operation)).not.toContain('approvals.request');
    const got = await as('alice', 'GET', `${APPROVALS}/${String(asked.json['id'])}`);
    expect(got.json).toEqual(asked.json);
  });

  it('is also what says that nothing is stored under versions of a Kubernetes provider', async () => {
    const record = (text: string, headers = {}) =>
      unprotect('alice', headers, { labels: { 'kubernetes/c1': `provider=twofold ${text}` } });
    expect((await record('announced=1')).status).toBe(200);
    const end = `announced=1 retired=1 proof=${'A'.repeat(43)}`;
    const asked = await record(end);
    expect(outcome(asked)).toEqual([202, 'pending']);
    expect(asked.json['guards']).toEqual(['keys.update', 'keys.unprotect']);
    const gone = { labels: { 'kubernetes/c1': null } };
    expect(outcome(await unprotect('alice', {}, gone))).toEqual([409, 'deletion_protected']);
    for (const by of ['bob', 'carol']) await approve(by, asked.json['id']);
    expect((await record(end, under(asked.json['id']))).status).toBe(200);
  });

  it('has one approval however often it is sent, with an idempotency key or without', async () => {
    const first = await unprotect('alice');
    expect((await unprotect('alice')).json['id']).toBe(first.json['id']);
    expect((await unprotect('bob')).json['id']).not.toBe(first.json['id']);
    expect((await unprotect('alice', { 'if-match': '"1"' })).json['id']).not.toBe(first.json['id']);
  });

  it('runs once it was approved, by the requester, and once', async () => {
    const { id } = (await unprotect('alice')).json;
    expect(outcome(await unprotect('alice', under(id)))).toEqual([409, 'approval_pending']);
    expect(outcome(await approve('bob', id))).toEqual([200, 'pending']);
    expect(outcome(await unprotect('alice', under(id)))).toEqual([409, 'approval_pending']);
    expect(outcome(await approve('carol', id))).toEqual([200, 'approved']);
    expect(await isProtected()).toBe(true);
    const done = await unprotect('alice', under(id));
    expect([done.status, done.json['deletionProtection']]).toEqual([200, false]);
    const entry = await service.deps.audit.read(done.headers.get('twofold-audit-id') ?? '');
    expect(entry?.draft).toMatchObject({ operation: 'keys.update', detail: { approval: id } });
    const after = await as('alice', 'GET', `${APPROVALS}/${String(id)}`);
    expect(after.json['state']).toBe('executed');
    expect(outcome(await unprotect('alice', under(id)))).toEqual([409, 'approval_used']);
    expect(outcome(await approve('dave', id))).toEqual([409, 'approval_used']);
    expect(outcome(await end('bob', id, 'deny'))).toEqual([409, 'approval_used']);
  });

  it('is not what another request, principal or namespace makes of its approval', async () => {
    const { id } = (await unprotect('alice')).json;
    await approve('bob', id);
    await approve('carol', id);
    const mismatch = [409, 'approval_mismatch'];
    const more = { deletionProtection: false, minUsableVersion: 1 };
    expect(outcome(await unprotect('alice', under(id), more))).toEqual(mismatch);
    expect(outcome(await unprotect('alice', { ...under(id), 'if-match': '"1"' }))).toEqual(
      mismatch,
    );
    expect(outcome(await unprotect('alice', under(id), undefined, '?dryRun=false'))).toEqual(
      mismatch,
    );
    expect(outcome(await unprotect('bob', under(id)))).toEqual(mismatch);
    const own = namespace;
    namespace = 'default';
    await as('founder', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'A256GCM' } });
    expect(outcome(await unprotect('alice', under(id)))).toEqual([404, 'not_found']);
    expect(outcome(await approve('dave', id))).toEqual([404, 'not_found']);
    namespace = own;
    expect(await isProtected()).toBe(true);
  });

  it.each([
    ['keys.set-rotation', '/v1/admin/keys/k/rotation-policy', { 'if-match': '"1"' }, {}],
    ['rotation-policies.change', '/v1/admin/rotation-policies/p', {}, { selector: {} }],
  ])('is bound to the dates of its body (%s)', async (guard, path, headers, rest) => {
    await agreedRule('rotation', { guards: [guard], needed: 1 });
    const put = (notBefore: string, more = {}) =>
      as('alice', 'PUT', path, {
        json: { ...rest, upgrade: { suite: 'A256GCM', notBefore } },
        headers: { ...headers, ...more },
      });
    const far = '2135-01-01T00:00:00Z';
    const { id } = (await put(far)).json;
    expect(outcome(await approve('bob', id))).toEqual([200, 'approved']);
    const soon = '1970-01-01T00:00:00Z';
    expect(outcome(await put(soon, under(id)))).toEqual([409, 'approval_mismatch']);
    expect((await put(soon)).json['id']).not.toBe(id);
    expect((await put(far, under(id))).status).toBe(200);
  });

  it('cannot be approved by who asked for it, nor twice by one', async () => {
    const { id } = (await unprotect('alice')).json;
    expect(outcome(await approve('alice', id))).toEqual([403, 'self_approval']);
    expect(outcome(await end('alice', id, 'deny'))).toEqual([403, 'self_approval']);
    for (let turn = 0; turn < 3; turn += 1) {
      expect(outcome(await approve('bob', id))).toEqual([200, 'pending']);
    }
    for (const role of ['operator', 'auditor', 'user'] as const) {
      expect(outcome(await approve('carol', id, role))).toEqual([403, 'forbidden']);
    }
    expect(outcome(await unprotect('alice', under(id)))).toEqual([409, 'approval_pending']);
  });

  it('ends with its time, its denial and its withdrawal', async () => {
    const make = async (json: object) => {
      const { id } = (await unprotect('alice', {}, json)).json;
      await approve('bob', id);
      await approve('carol', id);
      return id;
    };
    const denied = { deletionProtection: false, minUsableVersion: 1 };
    const first = await make(denied);
    expect(outcome(await end('dave', first, 'deny'))).toEqual([200, 'denied']);
    expect(outcome(await unprotect('alice', under(first), denied))).toEqual([
      409,
      'approval_ended',
    ]);
    const withdrawn = { deletionProtection: false, labels: { a: 'b' } };
    const second = await make(withdrawn);
    expect(outcome(await end('bob', second, 'withdraw'))).toEqual([403, 'forbidden']);
    expect(outcome(await end('alice', second, 'withdraw'))).toEqual([200, 'withdrawn']);
    expect(outcome(await unprotect('alice', under(second), withdrawn))).toEqual([
      409,
      'approval_ended',
    ]);
    const third = await make({ deletionProtection: false });
    now += 7 * DAY_MS;
    expect(outcome(await unprotect('alice', under(third)))).toEqual([409, 'approval_expired']);
    expect(outcome(await approve('dave', third))).toEqual([409, 'approval_expired']);
    const states = async (state: string) =>
      (
        (await as('alice', 'GET', `${APPROVALS}?state=${state}`)).json['items'] as { id: string }[]
      ).map(({ id }) => id);
    expect(await states('expired')).toEqual([third]);
    expect(await states('denied')).toEqual([first]);
    expect(await states('withdrawn')).toEqual([second]);
    expect(await states('approved')).toEqual([]);
    expect((await unprotect('alice')).json['id']).not.toBe(third);
  });

  it('stands on who may approve when it is executed', async () => {
    const principals = ['bob', 'carol'].map((subject) => ({
      issuer: 'urn:twofold:development',
      subject,
    }));
    const json = { guards: ['keys.unprotect'], needed: 1, approvers: { principals } };
    const made = await agreedRule('named', json);
    const { id } = (await unprotect('alice')).json;
    expect(outcome(await approve('dave', id))).toEqual([200, 'pending']);
    expect(outcome(await approve('bob', id))).toEqual([200, 'approved']);
    // A rule that is stronger meanwhile is met too.
    const tag = { 'if-match': made.headers.get('etag') ?? '' };
    expect((await agreedRule('named', { ...json, needed: 2 }, tag)).status).toBe(200);
    expect(outcome(await unprotect('alice', under(id)))).toEqual([409, 'approval_pending']);
    expect(outcome(await approve('carol', id))).toEqual([200, 'approved']);
    expect((await unprotect('alice', under(id))).status).toBe(200);
  });

  it('is for the key that its name meant, wherever the name goes', async () => {
    const json = { name: 'junk', suite: 'A256GCM', deletionProtection: true };
    await as('alice', 'POST', '/v1/admin/keys', { json });
    expect((await as('alice', 'PUT', '/v1/admin/keys/junk/aliases/x', { json: {} })).status).toBe(
      200,
    );
    const ask = (headers = {}) =>
      as('alice', 'PATCH', '/v1/admin/keys/x', { json: { deletionProtection: false }, headers });
    const { id } = (await ask()).json;
    await approve('bob', id);
    expect(outcome(await approve('carol', id))).toEqual([200, 'approved']);
    const moved = await as('alice', 'PUT', '/v1/admin/keys/k/aliases/x', {
      json: { from: 'junk' },
    });
    expect(moved.status).toBe(200);
    expect(outcome(await ask(under(id)))).toEqual([409, 'approval_mismatch']);
    expect((await ask()).json['id']).not.toBe(id);
    expect(await isProtected()).toBe(true);
  });

  it('does not count who is denied by then', async () => {
    const { id } = (await unprotect('alice')).json;
    await approve('bob', id);
    await approve('mallory', id);
    const issuer = String((await as('bob', 'GET', '/v1/whoami')).json['issuer']);
    const json = { issuer, subject: 'mallory', reason: 'stolen' };
    expect((await as('bob', 'POST', '/v1/admin/denials', { json })).status).toBe(201);
    expect(outcome(await unprotect('alice', under(id)))).toEqual([409, 'approval_pending']);
    expect(await isProtected()).toBe(true);
  });

  it('stands on somebody also where the rule that asked for it is gone', async () => {
    const issuer = String((await as('bob', 'GET', '/v1/whoami')).json['issuer']);
    const deny = (subject: string) =>
      as('dave', 'POST', '/v1/admin/denials', { json: { issuer, subject, reason: 'stolen' } });
    const ids = [];
    for (const by of ['alice', 'erin']) {
      const { id } = (await unprotect(by)).json;
      for (const other of ['bob', 'carol']) await approve(other, id);
      ids.push(id);
    }
    const { headers } = await as('dave', 'GET', `${RULES}/protection`);
    const tag = { 'if-match': headers.get('etag') ?? '' };
    const remove = (more = {}) =>
      as('dave', 'DELETE', `${RULES}/protection`, { headers: { ...tag, ...more } });
    const { id } = (await remove()).json;
    for (const by of ['bob', 'carol']) await approve(by, id);
    expect((await remove(under(id))).status).toBe(200);
    expect((await deny('bob')).status).toBe(201);
    // One of the two is left, and nobody asks for more.
    expect((await unprotect('erin', under(ids[1]))).status).toBe(200);
    expect((await deny('carol')).status).toBe(201);
    expect(outcome(await unprotect('alice', under(ids[0])))).toEqual([409, 'approval_pending']);
  });

  it('is no denial of what was denied and has ended', async () => {
    await agreedRule('denying', { guards: ['denials.change'], needed: 1 });
    const deny = async () => {
      const expiresAt = new Date(now + 5_000).toISOString();
      const json = { tokenId: 'stolen', reason: 'again', expiresAt };
      return (await as('bob', 'POST', '/v1/admin/denials', { json })).status;
    };
    expect(await deny()).toBe(201);
    expect(await deny()).toBe(202);
    now += 5_000;
    expect(await deny()).toBe(201);
  });

  it('is no denial of more than was denied, and is one of less', async () => {
    await agreedRule('denying', { guards: ['denials.change'], needed: 1 });
    const at = (ms: number) => new Date(now + ms).toISOString();
    const deny = async (json: object) => {
      const all = { issuer: 'https://thief.example', reason: 'a stolen key', ...json };
      return (await as('bob', 'POST', '/v1/admin/denials', { json: all })).status;
    };
    const outcomes = [];
    for (const json of [
      { issuedBefore: at(-2_000), expiresAt: at(60_000) },
      { issuedBefore: at(-3_000), expiresAt: at(60_000) },
      { issuedBefore: at(-1_000), expiresAt: at(50_000) },
      { issuedBefore: at(-1_000), expiresAt: at(60_000) },
      { issuedBefore: at(-1_000) },
      {},
      { reason: 'the same, said anew' },
      { issuedBefore: at(0) },
      { expiresAt: at(60_000) },
    ]) {
      outcomes.push(await deny(json));
    }
    expect(outcomes).toEqual([201, 202, 202, 201, 201, 201, 202, 202, 202]);
  });

  it.each(['gone', 'changed'])('does not count whose issuer is %s by then', async (how) => {
    const key = await makeKey('ES256', 'k');
    const issuer = `https://${how}.example`;
    const settings = { issuer, audience: 'kms', algorithms: ['ES256'], jwks: { keys: [key.jwk] } };
    const path = '/v1/admin/issuers/partner';
    const made = await agreed((headers) => as('founder', 'PUT', path, { json: settings, headers }));
    expect(made.status).toBe(200);
    // A moment later by the clock of the service, which does not run by itself here.
    now += 1_000;
    const token = await new SignJWT({ roles: ['admin'] })
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setIssuer(issuer)
      .setAudience('kms')
      .setSubject('partner')
      .setIssuedAt()
      .setExpirationTime('10m')
      .sign(key.privateKey);
    const consent = async (id: unknown) => {
      const headers = { authorization: `Bearer ${token}`, 'twofold-namespace': namespace };
      return service.call(null, 'POST', `${APPROVALS}/${String(id)}/approve`, { headers });
    };
    // While the issuer is as it was, the consent counts.
    const { id: counted } = (await unprotect('alice')).json;
    await approve('bob', counted);
    expect(outcome(await consent(counted))).toEqual([200, 'approved']);
    expect((await unprotect('alice', under(counted))).status).toBe(200);
    await as('alice', 'PATCH', '/v1/admin/keys/k', { json: { deletionProtection: true } });
    const { id } = (await unprotect('alice')).json;
    await approve('bob', id);
    expect(outcome(await consent(id))).toEqual([200, 'approved']);
    now += 1_000;
    const tag = { 'if-match': made.headers.get('etag') ?? '' };
    const ended =
      how === 'gone'
        ? await agreed((headers) => as('founder', 'DELETE', path, { headers }))
        : await agreed((headers) =>
            as('founder', 'PUT', path, {
              json: { ...settings, maxLifetime: 600 },
              headers: { ...tag, ...headers },
            }),
          );
    expect(ended.status).toBe(200);
    expect(outcome(await unprotect('alice', under(id)))).toEqual([409, 'approval_pending']);
    expect(await isProtected()).toBe(true);
    // Said again, by who is vouched for as the issuer is now, it counts.
    const again = how === 'gone' ? [401, 'token_invalid'] : [200, 'approved'];
    expect(outcome(await consent(id))).toEqual(again);
    expect((await unprotect('alice', under(id))).status).toBe(how === 'gone' ? 409 : 200);
  });

  it('is refused as the request itself would be', async () => {
    const asked = await unprotect('alice', { 'if-match': '"77"' });
    expect(outcome(asked)).toEqual([412, 'etag_mismatch']);
    expect((await unprotect('alice', under('none'))).status).toBe(400);
    const absent = await as('alice', 'PATCH', '/v1/admin/keys/absent', {
      json: { deletionProtection: false },
    });
    expect(outcome(absent)).toEqual([404, 'key_not_found']);
    expect((await as('alice', 'GET', APPROVALS)).json['items']).toEqual([]);
    const list = await as('alice', 'GET', '/v1/keys', { headers: under(namespace) });
    expect(code(list)).toBe('unknown_parameter');
  });

  it('says on a dry run which rules it would meet', async () => {
    const tried = await unprotect('alice', {}, undefined, '?dryRun=true');
    expect([tried.status, tried.json['dryRun']]).toEqual([200, true]);
    expect(tried.headers.get('twofold-approval-required')).toBe('protection');
    const plain = await unprotect('alice', {}, { labels: { a: 'b' } }, '?dryRun=true');
    expect(plain.headers.get('twofold-approval-required')).toBeNull();
    expect((await unprotect('alice', {}, { labels: { a: 'b' } })).status).toBe(200);
  });

  it('is answered from its record when it is repeated under its idempotency key', async () => {
    namespace = 'default';
    const json = { guards: ['namespaces.change'], needed: 1, mayLockOut: true };
    const made = await rule('all', json);
    const name = `made-${String(count)}`;
    const make = (headers: object) =>
      as('alice', 'POST', '/v1/admin/namespaces', {
        json: { name },
        headers: { 'idempotency-key': name, ...headers },
      });
    const { id } = (await make({})).json;
    await approve('bob', id);
    const first = await make(under(id));
    const again = await make(under(id));
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.json).toEqual(first.json);
    expect(outcome(await make({ ...under(id), 'idempotency-key': 'other' }))).toEqual([
      409,
      'approval_used',
    ]);
    const tag = made.headers.get('etag') ?? '';
    const drop = await as('alice', 'DELETE', `${RULES}/all`, { headers: { 'if-match': tag } });
    expect(outcome(drop)).toEqual([202, 'pending']);
    await approve('bob', drop.json['id']);
    const gone = { 'if-match': tag, ...under(drop.json['id']) };
    expect((await as('alice', 'DELETE', `${RULES}/all`, { headers: gone })).status).toBe(200);
  });

  it('guards what destroys by the name of the group', async () => {
    await agreedRule('destroying', { guards: ['destroy'], needed: 1 });
    const wish = { json: { reason: 'old', after: 'P30D' } };
    const key = await as('alice', 'POST', '/v1/admin/keys', {
      json: { name: 'old', suite: 'A256GCM' },
    });
    const destroy = (headers: object) =>
      as('alice', 'PUT', '/v1/admin/keys/old/destruction', {
        ...wish,
        headers: { 'if-match': key.headers.get('etag') ?? '', ...headers },
      });
    const asked = await destroy({});
    expect(asked.status).toBe(202);
    await approve('bob', asked.json['id']);
    const done = await destroy(under(asked.json['id']));
    expect([done.status, (done.json['destruction'] as object | null) !== null]).toEqual([
      200,
      true,
    ]);
    // What saves a key waits for nobody.
    const saved = await as('alice', 'DELETE', '/v1/admin/keys/old/destruction', {
      headers: { 'if-match': done.headers.get('etag') ?? '' },
    });
    expect(saved.status).toBe(200);
  });
});

describe('what destroys', () => {
  it('is also a compromise, which no way leads back from; what is suspended comes back', async () => {
    await agreedRule('destroying', { guards: ['destroy'], needed: 1 });
    const post = (path: string, headers: Record<string, string> = {}) =>
      as('alice', 'POST', `/v1/admin/keys/k${path}`, { json: { reason: 'leaked' }, headers });
    const fall = '/versions/1/compromise';
    const asked = await post(fall);
    expect([asked.status, asked.json['needed']]).toEqual([
      202,
      [{ rule: 'destroying', needed: 1, approved: 0 }],
    ]);
    expect(asked.json['preview']).toMatchObject({ state: 'compromised', dryRun: true });
    expect((await post('/suspend')).status).toBe(200);
    expect((await post('/resume')).status).toBe(200);
    const { id } = asked.json;
    expect(outcome(await post(fall, under(id)))).toEqual([409, 'approval_pending']);
    expect((await as('alice', 'GET', '/v1/keys/k/versions/1')).json['state']).toBe('active');
    await approve('bob', id);
    expect(outcome(await post(fall, under(id)))).toEqual([200, 'compromised']);
  });
});

describe('what decides whose consent counts', () => {
  const cedar = 'permit (principal, action, resource);';

  it('is guarded by every rule that there is, unless one names it', async () => {
    const policy = () => as('alice', 'PUT', '/v1/admin/policies/mine', { json: { cedar } });
    const before = await policy();
    expect(before.json['needed']).toEqual([{ rule: 'protection', needed: 2, approved: 0 }]);
    await agreedRule('policies', { guards: ['policies.change'], needed: 1 });
    const asked = await policy();
    expect(asked.json['needed']).toEqual([{ rule: 'policies', needed: 1, approved: 0 }]);
    const gone = await as('alice', 'DELETE', `${RULES}/none`);
    expect(outcome(gone)).toEqual([404, 'not_found']);
    const key = await as('alice', 'POST', '/v1/admin/keys', {
      json: { name: 'free', suite: 'A256GCM' },
    });
    expect(key.status).toBe(201);
  });

  it('is not made by one alone: an identity of his own issuer', async () => {
    const key = await makeKey('ES256', 'k');
    const name = `https://own-${String(count)}.example`;
    const own = { issuer: name, audience: 'kms', algorithms: ['ES256'], jwks: { keys: [key.jwk] } };
    const path = `/v1/admin/issuers/own-${String(count)}`;
    const made = await as('alice', 'PUT', path, { json: own });
    expect(outcome(made)).toEqual([202, 'pending']);
    const token = await new SignJWT({ roles: ['admin'] })
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setIssuer(name)
      .setAudience('kms')
      .setSubject('puppet')
      .setExpirationTime('10m')
      .sign(key.privateKey);
    const consent = (id: unknown) =>
      service.call(null, 'POST', `${APPROVALS}/${String(id)}/approve`, {
        headers: { authorization: `Bearer ${token}`, 'twofold-namespace': namespace },
      });
    const { id } = (await unprotect('alice')).json;
    await approve('bob', id);
    expect(outcome(await consent(id))).toEqual([401, 'token_invalid']);
    // Nor a shared one, of the root, where no rule stands.
    now += 1_000;
    const team = namespace;
    namespace = 'default';
    const shared = await as('alice', 'PUT', path, { json: { ...own, shared: true } });
    expect(shared.status).toBe(200);
    namespace = team;
    expect(outcome(await consent(id))).toEqual([403, 'forbidden']);
    expect(outcome(await unprotect('alice', under(id)))).toEqual([409, 'approval_pending']);
    // Where the root had a rule before, the change of its issuer was agreed to there.
    namespace = 'default';
    now += 1_000;
    const root = await rule('root', { guards: ['destroy'], needed: 1, mayLockOut: true });
    now += 1_000;
    const later = `later-${String(count)}`;
    await as('founder', 'POST', '/v1/admin/namespaces', { json: { name: later } });
    const tag = { 'if-match': shared.headers.get('etag') ?? '' };
    const change = (headers: object) =>
      as('alice', 'PUT', path, {
        json: { ...own, shared: true, clockTolerance: 30 },
        headers: { ...tag, ...headers },
      });
    namespace = later;
    await as('founder', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'A256GCM' } });
    await rule('protection', { guards: ['keys.unprotect'], needed: 1, mayLockOut: true });
    namespace = 'default';
    now += 1_000;
    expect(outcome(await change({}))).toEqual([202, 'pending']);
    expect((await agreed(change)).status).toBe(200);
    namespace = later;
    const asked = await unprotect('alice');
    expect(outcome(await consent(asked.json['id']))).toEqual([200, 'approved']);
    expect((await unprotect('alice', under(asked.json['id']))).status).toBe(200);
    namespace = 'default';
    const end = { 'if-match': root.headers.get('etag') ?? '' };
    const drop = (headers: object) =>
      as('alice', 'DELETE', `${RULES}/root`, { headers: { ...end, ...headers } });
    expect((await agreed(drop)).status).toBe(200);
  });
});

describe('the rules', () => {
  it('cannot be weakened but under the approval that they ask for', async () => {
    const { headers } = await as('alice', 'GET', `${RULES}/protection`);
    const tag = { 'if-match': headers.get('etag') ?? '' };
    const base = { guards: ['keys.unprotect'], needed: 2 };
    const weaker = [
      { ...base, needed: 1 },
      { ...base, guards: ['keys.export'] },
      { ...base, expiresAfter: 'P8D' },
      { ...base, approvers: { roles: ['admin'] } },
    ];
    for (const json of weaker) {
      const asked = await rule('protection', json, tag, 'alice');
      expect([asked.status, asked.json['rule']]).toEqual([202, 'protection']);
    }
    const gone = await as('alice', 'DELETE', `${RULES}/protection`, { headers: tag });
    expect([gone.status, gone.json['rule']]).toEqual([202, 'protection']);
    const lower = await rule('protection', weaker[0] ?? {}, tag, 'alice');
    const { id } = lower.json;
    await approve('bob', id);
    expect(
      outcome(await rule('protection', weaker[0] ?? {}, { ...tag, ...under(id) }, 'alice')),
    ).toEqual([409, 'approval_pending']);
    await approve('carol', id);
    const done = await rule('protection', weaker[0] ?? {}, { ...tag, ...under(id) }, 'alice');
    expect([done.status, done.json['needed']]).toEqual([200, 1]);
  });

  it('are made stronger as they are made weaker', async () => {
    const { headers } = await as('alice', 'GET', `${RULES}/protection`);
    const stronger = { guards: ['keys.unprotect', 'destroy'], needed: 3, expiresAfter: 'P1D' };
    const tag = { 'if-match': headers.get('etag') ?? '' };
    expect(outcome(await rule('protection', stronger, tag))).toEqual([202, 'pending']);
    const done = await agreedRule('protection', stronger, tag);
    expect(done.json).toMatchObject({ ...stronger, name: 'protection' });
    const list = await as('alice', 'GET', RULES, {}, 'auditor');
    expect(list.json['items']).toEqual([done.json]);
  });

  it('guard their own configuration where they say so', async () => {
    await agreedRule('govern', { guards: ['govern'], needed: 1 });
    const asked = await rule('another', { guards: ['keys.export'], needed: 1 }, {}, 'alice');
    expect([asked.status, asked.json['rule']]).toEqual([202, null]);
    expect(asked.json['needed']).toEqual([{ rule: 'govern', needed: 1, approved: 0 }]);
  });

  it.each([
    { guards: [], needed: 1 },
    { guards: ['destroy', 'destroy'], needed: 1 },
    { guards: ['whoami'], needed: 1 },
    { guards: ['destroy'], needed: 0 },
    { guards: ['destroy'], needed: 21 },
    { guards: ['destroy'], needed: 1, expiresAfter: 'P31D' },
    { guards: ['destroy'], needed: 1, expiresAfter: 'PT0H' },
    { guards: ['destroy'], needed: 1, expiresAfter: 'soon' },
    { guards: ['destroy'], needed: 1, approvers: { roles: [], principals: [] } },
    { guards: ['destroy'], needed: 2, approvers: { principals: [{ issuer: 'i', subject: 's' }] } },
    { guards: ['destroy'], needed: 1, approvers: { principals: [{ issuer: 'i', subject: 's' }] } },
    { guards: ['destroy'], needed: 1, mayLockOut: false },
  ])('are refused where they make no sense: %j', async (json) => {
    expect(outcome(await rule('bad', json))).toEqual([400, 'invalid_value']);
  });

  it('begin with one that others are known to meet, or that says it may lock out', async () => {
    const fresh = `fresh-${String(count)}`;
    namespace = 'default';
    await as('founder', 'POST', '/v1/admin/namespaces', { json: { name: fresh } });
    namespace = fresh;
    const issuer = String((await as('bob', 'GET', '/v1/whoami')).json['issuer']);
    const guards = ['destroy'];
    const named = (...subjects: string[]) => ({
      principals: subjects.map((subject) => ({ issuer, subject })),
    });
    const untold = [
      { guards, needed: 1 },
      { guards, needed: 20 },
      { guards, needed: 1, approvers: { roles: ['nobody'] } },
      { guards, needed: 1, approvers: named('founder') },
      { guards, needed: 2, approvers: named('founder', 'bob') },
    ];
    for (const json of untold) {
      expect(outcome(await rule('first', json))).toEqual([422, 'would_lock_out']);
      const tried = await as('founder', 'PUT', `${RULES}/first?dryRun=true`, { json });
      expect(code(tried)).toBe('would_lock_out');
    }
    const strangers = { principals: [{ issuer: 'https://unknown.example', subject: 'bob' }] };
    const never = { guards, needed: 1, approvers: strangers, mayLockOut: true };
    expect(outcome(await rule('first', never))).toEqual([400, 'invalid_value']);
    const first = { guards, needed: 1, approvers: named('founder', 'bob') };
    expect((await rule('first', first)).status).toBe(200);
    // Every further one is agreed to.
    const asked = await rule('second', { guards, needed: 20, mayLockOut: true });
    expect(outcome(asked)).toEqual([202, 'pending']);
  });

  it('are changed by who may, for the revision that was seen', async () => {
    const json = { guards: ['destroy'], needed: 1 };
    for (const role of ['operator', 'auditor', 'user'] as const) {
      const tried = await as('eve', 'PUT', `${RULES}/new`, { json }, role);
      expect(outcome(tried)).toEqual([403, 'forbidden']);
    }
    const stronger = { guards: ['keys.unprotect'], needed: 3 };
    expect(outcome(await rule('protection', stronger))).toEqual([428, 'precondition_required']);
    expect(outcome(await rule('protection', stronger, { 'if-match': '"9"' }))).toEqual([
      412,
      'etag_mismatch',
    ]);
    expect(code(await as('alice', 'GET', `${RULES}/absent`))).toBe('not_found');
    expect(code(await as('alice', 'DELETE', `${RULES}/absent`))).toBe('not_found');
  });
});

describe('approvals', () => {
  it('are listed newest first, in pages', async () => {
    const ids: unknown[] = [];
    for (let n = 1; n <= 3; n += 1) {
      now += 1000;
      const json = { deletionProtection: false, labels: { n: String(n) } };
      ids.unshift((await unprotect('alice', {}, json)).json['id']);
    }
    const listed: unknown[] = [];
    let token = '';
    do {
      const page = await as('alice', 'GET', `${APPROVALS}?pageSize=2${token}`, {}, 'auditor');
      listed.push(...(page.json['items'] as { id: string }[]).map(({ id }) => id));
      const next = page.json['nextPageToken'] as string | null;
      token = next === null ? '' : `&pageToken=${next}`;
    } while (token !== '');
    expect(listed).toEqual(ids);
  });

  it('are bounded for each principal', async () => {
    const one = { deletionProtection: false };
    const ask = (n: number) => unprotect('greedy', {}, { ...one, labels: { n: String(n) } });
    for (let n = 0; n < 100; n += 1) expect((await ask(n)).status).toBe(202);
    expect(outcome(await ask(100))).toEqual([429, 'quota_exceeded']);
    expect((await unprotect('alice')).status).toBe(202);
  });
});
