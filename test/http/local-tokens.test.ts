/** Tokens made with the HSM's PIN, over HTTP: what they may do, where, how long, and on every instance. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { operatorGrant } from '../../src/access/local-access.ts';
import type { LocalKind } from '../../src/access/local-access.ts';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { OPERATIONS } from '../../src/access/grant.ts';
import { SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { openGovernance } from '../../src/governance/governance.ts';
import { SealedSet } from '../../src/governance/sealed-set.ts';
import type { SetKind, SetRun } from '../../src/governance/sealed-set.ts';
import { aRun } from '../keyring/world.ts';
import type { Instance } from '../keyring/world.ts';
import { withOwner } from '../store/owner.ts';
import type { Called, Service } from './service.ts';
import { Site } from './stored-service.ts';

let now = Date.now();
const clock = () => new Date(now);
let site: Site;
let first: Service<Instance>;
let second: Service<Instance>;
beforeAll(async () => {
  site = await Site.open();
  first = await site.service({}, clock);
  second = await site.service({}, clock);
  await first.call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'A256GCM' } });
  await first.call('admin', 'POST', '/v1/admin/namespaces', { json: { name: 'team' } });
}, 60_000);
afterAll(() => site.close(), 60_000);

const governanceOf = ({ world }: Service<Instance>) => openGovernance(world.governing);
const setRun = <T>(changes: Partial<SetRun<T>> = {}): SetRun<T> => ({
  ...aRun(),
  render: () => ({ status: 200, body: '{}' }),
  ...changes,
});

/** As the command on the machine does it, beside the first service. */
async function open(kind: LocalKind, namespace = 'default'): Promise<string> {
  const { epoch } = first.world;
  await first.world.governing.refreshEpoch();
  const about = { operator: 'root(0)', namespace: 'default', epoch };
  const grant = operatorGrant(`${kind}.open`, about);
  const input = { kind, namespace, reason: 'tested' };
  return (await governanceOf(first).localTokens.open(grant, input, setRun())).token;
}

const call = (
  token: string,
  method: string,
  path: string,
  {
    namespace = 'default',
    json,
    on = second,
  }: {
    readonly namespace?: string;
    readonly json?: unknown;
    readonly on?: Service<Instance>;
  } = {},
) =>
  on.call(null, method, path, {
    headers: { authorization: `Bearer ${token}`, 'twofold-namespace': namespace },
    ...(json === undefined ? {} : { json }),
  });
const outcome = ({ status, json }: Called) => [status, json['code']];
const RULE = '/v1/admin/approval-rules/r';
const rule = { guards: ['govern'], needed: 1, mayLockOut: true };

describe('a break-glass token', () => {
  it('sees and repairs access at once on every instance, and is seen', async () => {
    const token = await open('break-glass');
    const me = await call(token, 'GET', '/v1/whoami');
    expect(me.json).toMatchObject({
      method: 'break-glass',
      issuer: 'urn:twofold:system',
      roles: [],
    });
    const list = await second.call('auditor', 'GET', '/v1/admin/local-tokens');
    expect(list.json['items']).toMatchObject([
      {
        kind: 'break-glass',
        namespace: 'default',
        reason: 'tested',
        openedBy: 'operator/root(0)',
        expiresAt: new Date(now + 15 * 60_000).toISOString(),
        usedAt: null,
        state: 'open',
      },
    ]);
    // A rule that guards its own configuration keeps it out no more than a policy does.
    const made = await call(token, 'PUT', RULE, { json: rule });
    expect(made.status).toBe(200);
    const tag = made.headers.get('etag') ?? '';
    const json = { ...rule, needed: 2 };
    const asked = await second.call('admin', 'PUT', RULE, { json, headers: { 'if-match': tag } });
    expect(asked.status).toBe(202);
    const gone = await second.call(null, 'DELETE', RULE, {
      headers: { authorization: `Bearer ${token}`, 'if-match': tag },
    });
    expect(gone.status).toBe(200);
    const entry = await second.deps.audit.read(gone.headers.get('twofold-audit-id') ?? '');
    expect(entry?.draft.actor).toMatchObject({ method: 'break-glass' });
    expect(entry?.draft.decision).toEqual({ revision: 'local', policies: ['break-glass'] });
  });

  it('uses, changes and destroys no key, and approves nothing', async () => {
    const token = await open('break-glass');
    const denied: readonly (readonly [string, string, unknown?])[] = [
      ['POST', '/v1/keys/k/wrap', { plaintext: 'AAAA' }],
      ['POST', '/v1/random', { bytes: 8 }],
      ['POST', '/v1/admin/keys', { name: 'l', suite: 'A256GCM' }],
      ['POST', '/v1/admin/keys/k/rotate', {}],
      ['PATCH', '/v1/admin/keys/k', { deletionProtection: false }],
      ['PUT', '/v1/admin/keys/k/destruction', { reason: 'r' }],
      ['POST', '/v1/admin/approvals/8c2a4a0e-5f0f-4c5e-9d5d-1d2f6a3b4c5d/approve'],
    ];
    for (const [method, path, json] of denied) {
      expect([path, outcome(await call(token, method, path, { json }))]).toEqual([
        path,
        [403, 'forbidden'],
      ]);
    }
    expect((await call(token, 'GET', '/v1/keys/k')).status).toBe(200);
  });

  it('is of one namespace and one quarter of an hour', async () => {
    const token = await open('break-glass', 'team');
    expect((await call(token, 'GET', '/v1/keys', { namespace: 'team' })).status).toBe(200);
    expect(outcome(await call(token, 'GET', '/v1/keys'))).toEqual([403, 'forbidden']);
    expect(outcome(await call(`${token}A`, 'GET', '/v1/keys'))).toEqual([401, 'token_invalid']);
    now += 15 * 60_000 - 1;
    expect((await call(token, 'GET', '/v1/keys', { namespace: 'team' })).status).toBe(200);
    now += 1;
    const over = await call(token, 'GET', '/v1/keys', { namespace: 'team' });
    expect(outcome(over)).toEqual([401, 'token_invalid']);
  });

  it('works where the policies permit nobody anything', async () => {
    const empty = PolicyAuthorizer.of({
      epoch: second.world.epoch,
      policies: PolicySet.load(SCHEMA, ''),
    });
    const authorizer = await second.deps.access.in('default');
    const token = await open('break-glass');
    const principal = await second.deps.authenticator.authenticate({
      authorization: `Bearer ${token}`,
      namespace: 'default',
    });
    const resource = { namespace: 'default', key: null };
    expect(OPERATIONS.filter((name) => empty.may(principal, name, resource))).toEqual([]);
    expect(authorizer.may(principal, 'approvals.configure', resource)).toBe(true);
    // Only who was authenticated here is who he says.
    expect(authorizer.may({ ...principal }, 'approvals.configure', resource)).toBe(false);
  });
});

describe('a bootstrap token', () => {
  it('may do nothing but write the first policies and issuers', async () => {
    const token = await open('bootstrap');
    const principal = await second.deps.authenticator.authenticate({
      authorization: `Bearer ${token}`,
      namespace: 'default',
    });
    const may = async (namespace: string) => {
      const authorizer = await second.deps.access.in(namespace);
      return OPERATIONS.filter((name) => authorizer.may(principal, name, { namespace, key: null }));
    };
    expect(await may('default')).toEqual(['policies.change', 'issuers.change']);
    expect(await may('team')).toEqual([]);
    for (const [method, path, json] of [
      ['PUT', RULE, rule],
      ['POST', '/v1/admin/namespaces', { name: 'n' }],
      ['GET', '/v1/whoami'],
    ] as const) {
      expect(outcome(await call(token, method, path, { json }))).toEqual([403, 'forbidden']);
    }
  });

  it('lives for half an hour', async () => {
    const token = await open('bootstrap');
    expect((await call(token, 'GET', '/v1/whoami')).status).toBe(403);
    now += 30 * 60_000;
    expect(outcome(await call(token, 'GET', '/v1/whoami'))).toEqual([401, 'token_invalid']);
  });

  it('ends with its use on every instance, and every other with the first policy', async () => {
    const [token, other] = [await open('bootstrap'), await open('bootstrap')];
    const { subject } = await second.deps.authenticator.authenticate({
      authorization: `Bearer ${token}`,
      namespace: 'default',
    });
    const { governing } = first.world;
    const kind: SetKind<null> = {
      kind: 'policy',
      most: 1,
      reach: 'namespace',
      toJson: () => ({}),
      fromJson: () => null,
    };
    await governing.refreshEpoch();
    const grant = first.world.grant('namespaces.change', null);
    const spent = await governanceOf(first).localTokens.spend(
      grant,
      subject.slice('bootstrap/'.length),
    );
    // Spent with a change that writes no policy: the token alone ends.
    const alone = new SealedSet(governing, { ...kind, kind: 'other', reach: 'installation' });
    const put = () => ({ entries: new Map([['p', { v: 1 } as never]]), detail: {} });
    await alone.change(grant, setRun({ alongside: spent }), put);
    expect(outcome(await call(token, 'GET', '/v1/whoami'))).toEqual([401, 'token_invalid']);
    expect(outcome(await call(other, 'GET', '/v1/whoami'))).toEqual([403, 'forbidden']);
    await governing.refreshEpoch();
    const again = first.world.grant('namespaces.change', null);
    await new SealedSet(governing, kind).change(again, setRun(), put);
    expect(outcome(await call(other, 'GET', '/v1/whoami'))).toEqual([401, 'token_invalid']);
  });

  it('that is spent with a change of policies ends at once for who has looked at it', async () => {
    const { governing } = first.world;
    // Whoever has looked goes on by what was seen, until a change is learnt that touches it.
    const looking = new Map([first, second].map((on) => [on, governanceOf(on)] as const));
    const listed = async (on: typeof first) => {
      await on.world.governing.refreshEpoch();
      const { localTokens } = looking.get(on) ?? governanceOf(on);
      const all = await localTokens.list(on.world.grant('local-tokens.read', null));
      return new Map(all.map(({ member, state }) => [member.name, state]));
    };
    const before = await listed(first);
    await open('bootstrap');
    const id = [...(await listed(first)).keys()].find((name) => !before.has(name)) ?? '';
    const states = async (on: typeof first) => [(await listed(on)).get(id)];
    expect([await states(first), await states(second)]).toEqual([['open'], ['open']]);
    const kind: SetKind<object> = {
      kind: 'policy',
      most: 2,
      reach: 'namespace',
      toJson: () => ({}),
      fromJson: () => ({}),
    };
    const grant = first.world.grant('namespaces.change', null);
    const alongside = await governanceOf(first).localTokens.spend(grant, id);
    const put = () => ({ entries: new Map([['q', {}]]), detail: {} });
    await new SealedSet(governing, kind).change(grant, setRun({ alongside }), put);
    expect([await states(first), await states(second)]).toEqual([['used'], ['used']]);
  });
});

describe('a token in the database', () => {
  it.each([
    ['lives on', `value = jsonb_set(value, '{expiresAt}', '"2099-01-01T00:00:00.000Z"')`],
    ['is of another namespace', `value = jsonb_set(value, '{namespace}', '"team"')`],
  ])('is refused where somebody wrote that it %s', async (_what, set) => {
    const token = await open('break-glass');
    await withOwner(site.database, async (owner) => {
      await owner.query(`update public.set_member set ${set} where kind = 'break-glass'`);
    });
    const third = await site.service({}, clock);
    expect(outcome(await call(token, 'GET', '/v1/keys', { on: third }))).toEqual([
      500,
      'integrity_failed',
    ]);
    await withOwner(site.database, async (owner) => {
      await owner.query(`update public.set_member m set value = h.value from public.set_history h
        where m.kind = 'break-glass' and h.kind = m.kind and h.name = m.name
          and h.revision = m.revision`);
    });
  });
});
