/** Stored policies decide: at once, about the key that is meant, and about nothing that is not permitted. */
import { afterEach, describe, expect, it } from '@jest/globals';
import { StoredAccess } from '../../src/governance/access-control.ts';
import { openGovernance } from '../../src/governance/governance.ts';
import { writeInitialPolicies } from '../../src/main/access.ts';
import { openService } from './service.ts';
import type { SetRun } from '../../src/governance/sealed-set.ts';
import { SealedSet } from '../../src/governance/sealed-set.ts';
import { policyFromStored, policyToStored } from '../../src/governance/stored-policy.ts';
import type { StoredPolicy } from '../../src/governance/stored-policy.ts';
import { aRun, requests } from '../keyring/world.ts';
import type { CallInit, Service } from './service.ts';

let service: Service | undefined;
afterEach(async () => {
  await service?.stop();
  service = undefined;
});

async function open(initial = true): Promise<Service> {
  service = await openService({
    replace: ({ governance, epoch }) => ({
      access: new StoredAccess({
        policies: governance.policies,
        namespaces: governance.namespaces,
        epoch,
        clock: () => new Date(),
      }),
    }),
  });
  if (initial) await writeInitialPolicies(service.deps.governance, service.deps.epoch);
  return service;
}

/** Without what would need its object. */
interface Calls {
  readonly call: (...given: Parameters<Service['call']>) => ReturnType<Service['call']>;
}
const callsOf = (of: Service): Calls => ({ call: (...given) => of.call(...given) });

const PATH = '/v1/admin/policies';
const put = (
  { call }: Calls,
  name: string,
  json: object,
  { tag, query = '' }: { readonly tag?: string; readonly query?: string } = {},
) =>
  call('admin', 'PUT', `${PATH}/${name}${query}`, {
    json,
    headers: tag === undefined ? {} : { 'if-match': tag },
  });
const tagOf = async ({ call }: Calls, name = '') => {
  const { headers } = await call('admin', 'GET', `${PATH}${name}`);
  return headers.get('etag') ?? '';
};
const code = ({ json }: { readonly json: Record<string, unknown> }) => json['code'];

describe('policies', () => {
  it('are all that permits: where there is none, nobody may do anything', async () => {
    const { call } = callsOf(await open(false));
    for (const role of ['admin', 'operator', 'user', 'auditor']) {
      for (const path of ['/v1/whoami', '/v1/keys', PATH]) {
        expect([role, path, code(await call(role, 'GET', path))]).toEqual([
          role,
          path,
          'forbidden',
        ]);
      }
    }
  });

  it('are not looked for under names of no namespace', async () => {
    const site = await open();
    const asked: string[] = [];
    const access = new StoredAccess({
      policies: {
        inForce: (namespace) => {
          asked.push(namespace);
          return site.deps.governance.policies.inForce(namespace);
        },
      },
      namespaces: site.deps.governance.namespaces,
      epoch: site.deps.epoch,
      clock: () => new Date(),
    });
    await access.in('default');
    for (const name of ['nowhere', 'x'.repeat(5_000), '']) await access.in(name);
    expect(asked).toEqual(['default']);
  });

  it('hold from the moment that their change is answered', async () => {
    const site = await open();
    const { call } = callsOf(site);
    expect((await call('user', 'POST', '/v1/random', { json: { bytes: 8 } })).status).toBe(200);
    const cedar = 'forbid (principal in Role::"user", action == Action::"random", resource);';
    const made = await put(site, 'no-random', { cedar });
    expect([made.status, made.json['setRevision']]).toEqual([200, 2]);
    const refused = await call('user', 'POST', '/v1/random', { json: { bytes: 8 } });
    expect(code(refused)).toBe('forbidden');
    expect(site.drafts.at(-1)?.decision).toMatchObject({ policies: ['no-random'] });
    const gone = await call('admin', 'DELETE', `${PATH}/no-random`, {
      headers: { 'if-match': await tagOf(site, '/no-random') },
    });
    expect(gone.status).toBe(200);
    expect((await call('user', 'POST', '/v1/random', { json: { bytes: 8 } })).status).toBe(200);
  });

  it('hold for a key however it is named: by name, id or alias', async () => {
    const site = await open();
    const { call } = callsOf(site);
    const json = { name: 'payments', suite: 'A256GCM', labels: { team: 'pay' } };
    const { json: made } = await call('admin', 'POST', '/v1/admin/keys', { json });
    await call('admin', 'PUT', '/v1/admin/keys/payments/aliases/pay', { json: {} });
    const names = ['payments', String(made['id']), String(made['id']).toUpperCase(), 'pay'];
    const outcomes = () =>
      Promise.all(
        names.map(async (name) => (await call('user', 'GET', `/v1/keys/${name}`)).status),
      );
    expect(await outcomes()).toEqual([200, 200, 200, 200]);
    const conditions = [
      'resource == Key::"payments"',
      'resource has name && resource.name == "payments"',
      `resource has id && resource.id == "${String(made['id'])}"`,
      'resource.aliases.contains("pay")',
      'resource.labels.hasTag("team") && resource.labels.getTag("team") == "pay"',
    ];
    for (const condition of conditions) {
      const tag = await tagOf(site, '/guard');
      const cedar = `forbid (principal in Role::"user", action == Action::"keys.read", resource)
        when { ${condition} };`;
      expect((await put(site, 'guard', { cedar }, tag === '' ? {} : { tag })).status).toBe(200);
      expect([condition, await outcomes()]).toEqual([condition, [403, 403, 403, 403]]);
    }
    const changed = await call('admin', 'PATCH', '/v1/admin/keys/payments', {
      body: '{"labels":{"team":null}}',
      headers: { 'content-type': 'application/merge-patch+json' },
    });
    expect(changed.status).toBe(200);
    expect(await outcomes()).toEqual([200, 200, 200, 200]);
  });

  it('can make a permit depend on what the body says', async () => {
    const site = await open();
    const { call } = callsOf(site);
    await call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'A256GCM' } });
    await put(site, 'own-tenant', {
      cedar: `permit (principal in Role::"tenant", action == Action::"wrap", resource)
        when { context has encryptionContext && context.encryptionContext.hasTag("tenant")
          && context.encryptionContext.getTag("tenant") == "a" };`,
    });
    const wrap = (encryptionContext?: object) =>
      call('tenant', 'POST', '/v1/keys/k/wrap', {
        json: { plaintext: 'AAAA', ...(encryptionContext && { encryptionContext }) },
      });
    expect((await wrap({ tenant: 'a' })).status).toBe(200);
    expect([code(await wrap({ tenant: 'b' })), code(await wrap())]).toEqual([
      'forbidden',
      'forbidden',
    ]);
    const batch = async (...contexts: (object | undefined)[]) =>
      (
        await call('tenant', 'POST', '/v1/keys/k/wrap/batch', {
          json: {
            items: contexts.map((encryptionContext) => ({
              plaintext: 'AAAA',
              ...(encryptionContext && { encryptionContext }),
            })),
          },
        })
      ).status;
    expect(await batch({ tenant: 'a' }, { tenant: 'a' })).toBe(200);
    // An item that says nothing does not stand on what another says.
    expect([await batch({ tenant: 'a' }, undefined), await batch(undefined)]).toEqual([403, 403]);
    expect(await batch({ tenant: 'a' }, { tenant: 'b' })).toBe(403);
  });

  it('can forbid a suite also to the rotation policies that rotate to it', async () => {
    const site = await open();
    const { call } = callsOf(site);
    await call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'A256GCM' } });
    const cedar = `forbid (principal, action, resource)
      when { context has suite && context.suite == "MLKEM768-P256" };`;
    expect((await put(site, 'no-p256', { cedar })).status).toBe(200);
    const upgradeTo = (suite: string) => ({
      upgrade: { suite, notBefore: '2035-01-01T00:00:00Z' },
    });
    const own = (json: object) =>
      call('admin', 'PUT', '/v1/admin/keys/k/rotation-policy', {
        json,
        headers: { 'if-match': '"1"' },
      });
    const shared = (json: object, name = 'p') =>
      call('admin', 'PUT', `/v1/admin/rotation-policies/${name}`, { json });
    const [banned, free] = [upgradeTo('MLKEM768-P256'), upgradeTo('MLKEM768-X25519')];
    for (const refused of [
      await own(banned),
      await shared({ selector: {}, ...banned }),
      await shared({ selector: {}, policy: banned }),
    ]) {
      expect([refused.status, code(refused)]).toEqual([403, 'forbidden']);
    }
    for (const made of [
      await own(free),
      await shared({ selector: {}, ...free }),
      await shared({ selector: {}, policy: free }, 'q'),
    ]) {
      expect(made.status).toBe(200);
    }
  });

  it('can demand that the service made what is opened, of single ones and of batches', async () => {
    const site = await open();
    const { call } = callsOf(site);
    await call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'MLKEM768-P256' } });
    const wrapped = await call('user', 'POST', '/v1/keys/k/wrap', { json: { plaintext: 'AAAA' } });
    const ciphertext = String(wrapped.json['ciphertext']);
    // The same header, as who has the public key alone would write it.
    const bytes = Buffer.from(ciphertext.slice(4), 'base64url');
    bytes[1] = 0;
    const anyones = `tf1.${bytes.toString('base64url')}`;
    const path = '/v1/keys/k/unwrap';
    const open1 = (text: string) => call('user', 'POST', path, { json: { ciphertext: text } });
    expect(code(await open1(anyones))).toBe('decryption_failed');
    const cedar = `forbid (principal, action in [Action::"unwrap", Action::"rewrap"], resource)
      unless { context has origin && context.origin == "service" };`;
    await put(site, 'ours-alone', { cedar });
    expect((await open1(ciphertext)).status).toBe(200);
    expect(code(await open1(anyones))).toBe('forbidden');
    const batch = (...texts: string[]) => ({
      json: { items: texts.map((text) => ({ ciphertext: text })) },
    });
    const ours = await call('user', 'POST', `${path}/batch`, batch(ciphertext, ciphertext));
    expect(ours.status).toBe(200);
    const mixed = await call('user', 'POST', `${path}/batch`, batch(ciphertext, anyones));
    expect(code(mixed)).toBe('forbidden');
    expect(
      code(await call('user', 'POST', '/v1/keys/k/rewrap', { json: { ciphertext: anyones } })),
    ).toBe('forbidden');
  });

  it('are refused with the place of what is wrong, and leave nothing', async () => {
    const site = await open();
    const bad = await put(site, 'bad', {
      cedar: 'permit (principal, action == Action::"wrap",\n  resource) when { context.tim };',
    });
    expect([bad.status, code(bad)]).toEqual([422, 'policy_invalid']);
    expect(bad.json['errors']).toMatchObject([{ path: '/cedar', code: 'policy_invalid' }]);
    expect(JSON.stringify(bad.json['errors'])).toContain('line 2, column 20');
    for (const cedar of [
      'permit (principal, action resource);',
      'permit (principal == ?principal, action, resource);',
      'permit (principal, action, resource); permit (principal, action, resource);',
      '@id("other") permit (principal, action, resource);',
      '',
    ]) {
      expect([cedar, code(await put(site, 'bad', { cedar }))]).toEqual([cedar, 'policy_invalid']);
    }
    expect(code(await put(site, 'bad', { cedar: 'x'.repeat(10_000_000) }))).toBe('body_too_large');
    expect(await tagOf(site)).toBe('"1"');
  });

  it('cannot lock everybody out', async () => {
    const site = await open();
    const { call } = callsOf(site);
    const all = await put(site, 'none', { cedar: 'forbid (principal, action, resource);' });
    expect([all.status, code(all)]).toEqual([422, 'would_lock_out']);
    const gone = await call('admin', 'DELETE', `${PATH}/role-admin`, {
      headers: { 'if-match': await tagOf(site, '/role-admin') },
    });
    expect(code(gone)).toBe('would_lock_out');
  });

  it('cannot take the right to change them from who asks for it', async () => {
    const site = await open();
    for (const cedar of [
      'forbid (principal in Role::"admin", action, resource);',
      'forbid (principal, action in Action::"govern", resource) when { true };',
      'forbid (principal, action, resource) unless { principal.subject == "nobody" };',
      'forbid (principal, action, resource) when { context.authentication.method == "jwt" };',
      'forbid (principal, action, resource) when { 9007199254740991 * 9007199254740991 == 0 };',
    ]) {
      const refused = await put(site, 'locking', { cedar });
      expect([cedar, refused.status, refused.json['detail']]).toEqual([
        cedar,
        422,
        'Who asks for it could not change policies any more.',
      ]);
    }
    for (const [name, cedar] of Object.entries({
      role: 'forbid (principal in Role::"operator", action, resource);',
      method:
        'forbid (principal, action, resource) when { context.authentication.method == "mtls" };',
    })) {
      expect([name, (await put(site, name, { cedar })).status]).toEqual([name, 200]);
    }
    // Nor is there a rule that they let nobody meet.
    const cedar = 'forbid (principal, action == Action::"approvals.decide", resource);';
    expect((await put(site, 'nobody-decides', { cedar })).status).toBe(200);
    const json = { guards: ['destroy'], needed: 1, mayLockOut: true };
    const rule = await site.call('admin', 'PUT', '/v1/admin/approval-rules/r', { json });
    expect([rule.status, code(rule)]).toEqual([400, 'invalid_value']);
  });

  it('cannot take it at a date either, but for a while', async () => {
    const site = await open();
    const day = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString();
    const forbid = (when: string) => `forbid (principal, action, resource) when { ${when} };`;
    const date = (days: number) => `datetime("${day(days)}")`;
    const from = forbid(`context.time > ${date(1)}`);
    const reckoned = forbid('context.time > datetime("2020-01-01").offset(duration("10000d"))');
    const months = forbid(`context.time > ${date(300)} && context.time < ${date(400)}`);
    for (const cedar of [from, reckoned, months]) {
      const refused = await put(site, 'dated', { cedar });
      expect([cedar, refused.status, code(refused)]).toEqual([cedar, 422, 'would_lock_out']);
    }
    const admin = { headers: { 'if-match': await tagOf(site, '/role-admin') } };
    const cedar = `permit (principal in Role::"admin", action, resource) when { context.time < ${date(9)} };`;
    const json = { cedar };
    const until = await site.call('admin', 'PUT', `${PATH}/role-admin`, { ...admin, json });
    expect(code(until)).toBe('would_lock_out');
    const pause = forbid(`context.time > ${date(300)} && context.time < ${date(320)}`);
    expect((await put(site, 'pause', { cedar: pause })).status).toBe(200);
    // What others may until a date is not the author's right.
    const guest = `permit (principal in Role::"guest", action, resource) when { context.time < ${date(9)} };`;
    expect((await put(site, 'guest', { cedar: guest })).status).toBe(200);
  });

  it('lock everybody out only by an approval, which shows that they would', async () => {
    const site = await open();
    const as = async (subject: string, method: string, path: string, more: CallInit = {}) => {
      const authorization = `Bearer ${await site.token('admin', 3600, subject)}`;
      return site.call(null, method, path, {
        ...more,
        headers: { ...more.headers, authorization },
      });
    };
    const all = { cedar: 'forbid (principal, action, resource);' };
    const rule = { guards: ['policies.change'], needed: 1, mayLockOut: true };
    await as('alice', 'PUT', '/v1/admin/approval-rules/policies', { json: rule });
    const path = `${PATH}/all`;
    const tried = await as('alice', 'PUT', `${path}?dryRun=true`, { json: all });
    expect([tried.status, tried.headers.get('twofold-approval-required')]).toEqual([
      200,
      'policies',
    ]);
    expect(tried.json).toMatchObject({ locksOut: true });
    const asked = await as('alice', 'PUT', path, { json: all });
    expect([asked.status, asked.json['preview']]).toMatchObject([202, { locksOut: true }]);
    const id = String(asked.json['id']);
    const headers = { 'twofold-approval': id };
    expect(code(await as('alice', 'PUT', path, { json: all, headers }))).toBe('approval_pending');
    expect((await as('bob', 'POST', `/v1/admin/approvals/${id}/approve`)).status).toBe(200);
    const done = await as('alice', 'PUT', path, { json: all, headers });
    expect([done.status, done.json]).toMatchObject([200, { locksOut: true, setRevision: 2 }]);
    const entry = await site.deps.audit.read(done.headers.get('twofold-audit-id') ?? '');
    expect(entry?.draft.detail).toMatchObject({ locksOut: true, approval: id });
    expect(code(await as('alice', 'GET', PATH))).toBe('forbidden');
  });

  it('are held to the rule against a lock-out, and to the schema, when they go back', async () => {
    const site = await open();
    const { world, deps } = site;
    const { policies } = deps.governance;
    const { grant } = requests(world.keyring, deps.epoch);
    const change = () => grant('policies.change', null);
    const run = (ifMatch: number | null = null): SetRun<StoredPolicy> => ({
      ...aRun(),
      ifMatch,
      render: () => ({ status: 200, body: '' }),
    });
    // As an earlier version of the schema would have let it in.
    const asStored = new SealedSet<StoredPolicy>(world.governing, {
      kind: 'policy',
      most: 10,
      reach: 'namespace',
      toJson: policyToStored,
      fromJson: policyFromStored,
    });
    const cedar = (text: string): StoredPolicy => ({
      description: '',
      source: { kind: 'cedar', text },
    });
    const store = (entries: readonly (readonly [string, StoredPolicy | null])[]) =>
      asStored.change(change(), run(), () => ({ entries: new Map(entries), detail: {} }));
    await store([['old', cedar('forbid (principal, action == Action::"fly", resource);')]]);
    await store([['old', null]]);
    await store([['all', cedar('forbid (principal, action, resource);')]]);
    await store([['all', null]]);
    const back = (to: number, from: number, confirmed: boolean) =>
      policies.rollBack(change(), to, run(from), { confirmed });
    await expect(back(2, 5, true)).rejects.toMatchObject({ code: 'policy_invalid' });
    await expect(back(4, 5, false)).rejects.toMatchObject({ code: 'would_lock_out' });
    expect((await back(3, 5, false)).change).toMatchObject({ changes: [] });
    expect((await back(4, 5, true)).change).toMatchObject({
      detail: { kind: 'roll-back', to: 4, locksOut: true },
    });
  });

  it('are at most 1 MiB in a namespace', async () => {
    const site = await open();
    const { grant } = requests(site.world.keyring, site.deps.epoch);
    const asStored = new SealedSet<StoredPolicy>(site.world.governing, {
      kind: 'policy',
      most: 200,
      reach: 'namespace',
      toJson: policyToStored,
      fromJson: policyFromStored,
    });
    const text = `forbid (principal in Role::"x", action, resource); //`.padEnd(8_130, 'x');
    const large = { description: '', source: { kind: 'cedar', text } } as const;
    const most = Array.from({ length: 128 }, (_, n) => [`p${String(n)}`, large] as const);
    const run = { ...aRun(), render: () => ({ status: 200, body: '' }) };
    await asStored.change(grant('policies.change', null), run, () => ({
      entries: new Map(most),
      detail: {},
    }));
    expect(code(await put(site, 'one-more', { cedar: text }))).toBe('quota_exceeded');
    expect((await put(site, 'small', { cedar: text.trimEnd().slice(0, 60) })).status).toBe(200);
  });

  it('go back to what they were, as a whole, for who has seen what they are', async () => {
    const site = await open();
    const { call } = callsOf(site);
    await put(site, 'a', { template: { name: 'user', principal: { role: 'ops' } } });
    await put(site, 'b', { cedar: 'forbid (principal in Role::"x", action, resource);' });
    const back = (headers: Record<string, string>, query = '') =>
      call('admin', 'POST', `/v1/admin/policy-revisions/1/roll-back${query}`, { headers });
    expect(code(await back({}))).toBe('precondition_required');
    expect(code(await back({ 'if-match': '"2"' }))).toBe('etag_mismatch');
    const tried = await back({ 'if-match': '"3"' }, '?dryRun=true');
    expect(tried.json).toMatchObject({ dryRun: true, changes: [{ name: 'a' }, { name: 'b' }] });
    const { json: diff } = await call('auditor', 'GET', '/v1/admin/policy-revisions/1/diff/3');
    expect(diff['changes']).toMatchObject([
      { name: 'a', before: null },
      { name: 'b', before: null },
    ]);
    expect((await back({ 'if-match': '"3"' })).json['setRevision']).toBe(4);
    expect(code(await call('admin', 'GET', `${PATH}/a`))).toBe('not_found');
    const { json: list } = await call('admin', 'GET', '/v1/admin/policy-revisions?name=a');
    expect(list['items']).toMatchObject([{ revision: 4, cedar: null }, { revision: 2 }]);
  });

  it('say nothing of a namespace to whom they permit nothing there', async () => {
    const site = await open();
    const { grant } = requests(site.world.keyring, site.deps.epoch);
    const { namespaces } = openGovernance(site.world.governing, 'roles');
    await namespaces.create(
      grant('namespaces.change', null),
      { name: 'quiet', description: '' },
      { ...aRun(), ifMatch: null, render: () => ({ status: 201, body: '' }) },
    );
    const questions = [
      ['GET', '/v1/whoami'],
      ['GET', '/v1/limits'],
      ['GET', '/v1/suites'],
      ['POST', '/v1/authorize', { operation: 'wrap', key: 'k' }],
      ['POST', '/v1/keys/k/wrap', { plaintext: 'AAAA' }],
    ] as const;
    const said = async (role: string, namespace: string) => {
      const answers = [];
      for (const [method, path, json] of questions) {
        const headers = { 'twofold-namespace': namespace };
        const init = json === undefined ? { headers } : { headers, json };
        const answer = await site.call(role, method, path, init);
        answers.push([path, answer.status, answer.json['code'], answer.json['detail']]);
      }
      return answers;
    };
    const nothing = await said('nobody', 'quiet');
    expect(nothing.map(([, status]) => status)).toEqual([403, 403, 403, 403, 403]);
    expect(await said('nobody', 'absent')).toEqual(nothing);
    const something = await said('user', 'quiet');
    expect(something.map(([, status]) => status)).toEqual([200, 200, 200, 200, 404]);
  });

  it('are not explained by a key that its asker may not read', async () => {
    const site = await open();
    const { call } = callsOf(site);
    const json = { name: 'k', suite: 'A256GCM', labels: { secret: 'yes' } };
    await call('admin', 'POST', '/v1/admin/keys', { json });
    await put(site, 'hidden', {
      cedar: `forbid (principal, action == Action::"keys.read", resource)
        when { resource has labels && resource.labels.hasTag("secret") };`,
    });
    const ask = async (key: string) => {
      const asked = { operation: 'keys.read', key };
      return (await call('user', 'POST', '/v1/authorize', { json: asked })).json;
    };
    expect(await ask('k')).toEqual(await ask('absent'));
  });

  it('are explained to who asks, by what decides', async () => {
    const { call } = callsOf(await open());
    const ask = async (role: string, json: object) =>
      (await call(role, 'POST', '/v1/authorize', { json })).json;
    expect(await ask('user', { operation: 'wrap', key: 'k' })).toMatchObject({
      allowed: true,
      policies: ['role-user'],
    });
    expect(await ask('user', { operation: 'audit.read' })).toMatchObject({ allowed: false });
    const principal = { issuer: 'i', subject: 's', roles: ['auditor'] };
    const about = { operation: 'audit.read', principal };
    expect(await ask('user', about)).toMatchObject({ code: 'forbidden' });
    expect(await ask('admin', about)).toMatchObject({ allowed: true, policies: ['role-auditor'] });
    expect(await ask('user', { operation: 'fly' })).toMatchObject({ code: 'invalid_value' });
  });
});
