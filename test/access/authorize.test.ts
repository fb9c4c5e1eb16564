import { describe, expect, it } from '@jest/globals';
import { PolicyAuthorizer, builtInPolicies } from '../../src/access/authorize.ts';
import { OPERATIONS } from '../../src/access/grant.ts';
import type { Operation, Principal } from '../../src/access/grant.ts';
import { BUILT_IN_POLICIES, SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import type { TwofoldError } from '../../src/errors.ts';

const principal = (...roles: readonly string[]): Principal => ({
  issuer: 'https://issuer.example',
  subject: 'alice',
  method: 'jwt',
  roles,
  acr: null,
  amr: [],
  session: new Uint8Array(16),
  expiresAt: new Date(0),
  namespace: null,
});

const KEYLESS: readonly Operation[] = [
  'whoami',
  'suites.read',
  'random',
  'sign-parallel',
  'keys.list',
  'keys.create',
  'keys.import-parameters',
  'keys.import',
  'rewrap-jobs.continue',
  'operations.read',
  'operations.cancel',
  'operations.oversee',
  'rotations.read',
  'rotation-policies.change',
  'rotations.order',
  'rotations.carry-out',
  'root.read',
  'root.rotate',
  'root.carry-out',
  'root.retire',
  'backups.read',
  'backups.take',
  'policies.read',
  'policies.change',
  'access.ask',
  'namespaces.read',
  'namespaces.change',
  'issuers.read',
  'issuers.change',
  'denials.read',
  'denials.change',
  'limits.read',
  'limits.change',
  'approvals.read',
  'approvals.request',
  'approvals.decide',
  'approvals.withdraw',
  'approvals.configure',
  'local-tokens.read',
  'bootstrap.open',
  'break-glass.open',
  'audit.read',
  'audit.log',
  'audit.hash',
  'audit.configure',
  'audit.keys.rotate',
  'events.read',
];
const resourceOf = (operation: Operation, key = 'k') => ({
  namespace: 'default',
  key: KEYLESS.includes(operation) ? null : key,
});

const policies = builtInPolicies();
const authorizer = (epoch = new SecurityEpoch(1)) => PolicyAuthorizer.of({ epoch, policies });
const errorOf = (act: () => unknown): unknown => {
  try {
    return { accepted: act() };
  } catch (error) {
    return error;
  }
};

/** A: admin, o: operator, u: user, r: auditor, n: nobody's role. Written by hand, not derived. */
const EXPECTED: Readonly<Record<Operation, string>> = {
  whoami: 'aourn',
  'suites.read': 'aourn',
  random: 'a-u--',
  'keys.read': 'aour-',
  'keys.list': 'aour-',
  wrap: 'a-u--',
  unwrap: 'a-u--',
  rewrap: 'a-u--',
  'data-keys.create': 'a-u--',
  'data-keys.create-wrapped': 'a-u--',
  encapsulate: 'a-u--',
  decapsulate: 'a-u--',
  sign: 'a-u--',
  verify: 'a-u--',
  csr: 'a-u--',
  'sign-parallel': 'a-u--',
  mac: 'a-u--',
  'verify-mac': 'a-u--',
  'keys.create': 'ao---',
  'keys.import-parameters': 'ao---',
  'keys.import': 'ao---',
  'keys.export': 'a----',
  'keys.update': 'ao---',
  'keys.rotate': 'ao---',
  'keys.set-primary': 'ao---',
  'keys.put-alias': 'ao---',
  'keys.delete-alias': 'ao---',
  'keys.suspend': 'ao---',
  'keys.resume': 'ao---',
  'keys.set-rotation': 'ao---',
  'keys.announce': 'ao---',
  'versions.retire': 'ao---',
  'versions.suspend': 'ao---',
  'versions.resume': 'ao---',
  'versions.put-certificates': 'ao---',
  'versions.delete-certificates': 'ao---',
  'versions.uses': 'ao-r-',
  'rewrap-jobs.create': 'a-u--',
  'rewrap-jobs.continue': 'a-u--',
  'operations.read': 'aour-',
  'operations.cancel': 'aou--',
  'operations.oversee': 'ao-r-',
  'versions.activate': 'ao---',
  'versions.deactivate': 'ao---',
  'versions.compromise': 'ao---',
  'versions.schedule': 'ao---',
  'versions.schedule-destruction': 'a----',
  'versions.cancel-destruction': 'ao---',
  'versions.destroy': 'a----',
  'keys.schedule-destruction': 'a----',
  'keys.cancel-destruction': 'ao---',
  'keys.destroy': 'a----',
  'rotations.read': 'aour-',
  'rotation-policies.change': 'ao---',
  'policies.read': 'ao-r-',
  'policies.change': 'a----',
  'access.ask': 'aourn',
  'namespaces.read': 'ao-r-',
  'namespaces.change': 'a----',
  'rotations.order': 'ao---',
  'rotations.carry-out': '-----',
  'root.read': 'ao-r-',
  'root.rotate': 'a----',
  'root.carry-out': '-----',
  'root.retire': 'a----',
  'backups.read': 'ao-r-',
  'backups.take': 'a----',
  'issuers.read': 'ao-r-',
  'issuers.change': 'a----',
  'denials.read': 'ao-r-',
  'denials.change': 'a----',
  'limits.read': 'ao-r-',
  'limits.change': 'a----',
  'approvals.read': 'ao-r-',
  'approvals.request': 'aou--',
  'approvals.decide': 'a----',
  'approvals.withdraw': 'aou--',
  'approvals.configure': 'a----',
  'local-tokens.read': 'ao-r-',
  'bootstrap.open': 'a----',
  'break-glass.open': 'a----',
  'grants.read': 'ao-r-',
  'grants.create': 'a----',
  'grants.retire': 'a----',
  'audit.read': 'a--r-',
  'audit.log': 'a--r-',
  'audit.hash': 'a--r-',
  'audit.configure': 'a----',
  'audit.keys.rotate': 'a----',
  'events.read': 'ao-r-',
};

const ROLES: readonly (readonly [string, readonly string[]])[] = [
  ['admin', ['admin']],
  ['operator', ['operator']],
  ['user', ['user']],
  ['auditor', ['auditor']],
  ['no role that counts', ['Admin', 'admin ', 'root', 'users', '', 'Role::"admin"']],
];

describe('the built-in policies', () => {
  it('have a row for every operation', () => {
    expect(Object.keys(EXPECTED).sort()).toEqual(OPERATIONS.toSorted());
  });

  const pairs = OPERATIONS.flatMap((operation) =>
    ROLES.map(([role, names], column) => {
      const allowed = EXPECTED[operation][column] !== '-';
      return [role, allowed ? 'may' : 'may not', operation, names, allowed] as const;
    }),
  );
  it.each(pairs)('%s %s %s', (_role, _may, operation, names, allowed) => {
    const access = authorizer();
    const resource = resourceOf(operation);
    expect(access.may(principal(...names), operation, resource)).toBe(allowed);
    const result = errorOf(() => access.authorize(principal(...names), operation, resource));
    if (allowed) expect(result).toHaveProperty('accepted.operation', operation);
    else expect(result).toHaveProperty('code', 'forbidden');
  });

  it('give nothing more to someone without any role', () => {
    const may = OPERATIONS.filter((name) => authorizer().may(principal(), name, resourceOf(name)));
    expect(may).toEqual(['whoami', 'suites.read', 'access.ask']);
  });

  it('add up for someone with two roles', () => {
    const both = principal('auditor', 'user');
    const may = OPERATIONS.filter((name) => authorizer().may(both, name, resourceOf(name)));
    expect(may).toEqual(OPERATIONS.filter((name) => /[ur]/u.test(EXPECTED[name])));
  });

  it('deny what is asked of a key whose name is no text, and decide on any other', () => {
    const admin = principal('admin');
    const may = (key: string) => authorizer().may(admin, 'wrap', { namespace: 'default', key });
    expect(['\ud800', 'a\udfff'].map(may)).toEqual([false, false]);
    expect(['a\0b', '__proto__', '"', '\u{1f511}', 'x'.repeat(10_000)].map(may)).not.toContain(
      false,
    );
  });

  it('deny what is asked of the wrong kind of resource', () => {
    const admin = principal('admin');
    expect(authorizer().may(admin, 'audit.read', { namespace: 'default', key: 'k' })).toBe(false);
    expect(authorizer().may(admin, 'wrap', { namespace: 'default', key: null })).toBe(false);
    expect(authorizer().may(admin, 'no-such' as Operation, resourceOf('wrap'))).toBe(false);
  });
});

describe('a decision', () => {
  it('names the policy set and the policies that decided', () => {
    const resource = resourceOf('wrap');
    const allowed = authorizer().decide(principal('admin', 'user'), 'wrap', resource);
    expect(allowed).toEqual({
      allowed: true,
      revision: policies.revision,
      policies: ['admin-does-everything', 'user-uses-keys'],
    });
    const denied = authorizer().decide(principal('operator'), 'wrap', resource);
    expect(denied).toEqual({ allowed: false, revision: policies.revision, policies: [] });
  });

  it('is remembered until access changes, in bounded number', () => {
    const epoch = new SecurityEpoch(1);
    const access = PolicyAuthorizer.of({ epoch, policies, capacity: 3 });
    const user = principal('user');
    const ask = (key: string) => access.decide(user, 'wrap', { namespace: 'default', key });
    const first = ask('a');
    expect(ask('a')).toBe(first);
    for (const key of ['b', 'c', 'd']) ask(key);
    expect(access.cached).toBe(3);
    const last = ask('d');
    epoch.advance([{ epoch: 2, scope: 'key', namespace: 'default', keyId: 'x', keyName: 'd' }]);
    expect(ask('d')).toBe(last);
    epoch.advance([
      { epoch: 3, scope: 'access', namespace: 'default', keyId: null, keyName: null },
    ]);
    expect(access.cached).toBe(0);
    expect(ask('d')).not.toBe(last);
  });

  it('of one principal, operation, namespace or key is never another’s', () => {
    const set = PolicySet.load(
      SCHEMA,
      `@id("one") permit (principal, action == Action::"sign", resource in Namespace::"a")
       when { principal.subject == "alice" && resource has name && resource.name == "b" };`,
    );
    const access = PolicyAuthorizer.of({ epoch: new SecurityEpoch(1), policies: set });
    const alice = principal();
    expect(access.may(alice, 'sign', { namespace: 'a', key: 'b' })).toBe(true);
    expect(access.may({ ...alice, subject: 'bob' }, 'sign', { namespace: 'a', key: 'b' })).toBe(
      false,
    );
    expect(
      access.may({ ...alice, subject: 'alice","jwt' }, 'sign', { namespace: 'a', key: 'b' }),
    ).toBe(false);
    expect(access.may(alice, 'verify', { namespace: 'a', key: 'b' })).toBe(false);
    expect(access.may(alice, 'sign', { namespace: 'b', key: 'b' })).toBe(false);
    expect(access.may(alice, 'sign', { namespace: 'a', key: 'a' })).toBe(false);
    expect(access.may(alice, 'sign', { namespace: 'a', key: 'b","x' })).toBe(false);
    expect(access.may(alice, 'sign', { namespace: 'a', key: 'b' })).toBe(true);
  });
});

describe('a grant', () => {
  it('carries what was asked, by whom, under which epoch', () => {
    const epoch = new SecurityEpoch(7);
    const user = principal('user');
    const grant = authorizer(epoch).authorize(user, 'unwrap', { namespace: 'ns', key: 'k' });
    expect(grant).toMatchObject({ operation: 'unwrap', namespace: 'ns', key: 'k', epoch: 7 });
    expect(grant.principal).toBe(user);
    expect(grant.decision.policies).toEqual(['user-uses-keys']);
  });

  it('is refused without a word on whether the key exists', () => {
    const ask = (key: string) =>
      errorOf(() => authorizer().authorize(principal(), 'unwrap', { namespace: 'ns', key }));
    const [one, other] = [ask('one'), ask('00000000-0000-4000-8000-000000000000')];
    expect(one).toMatchObject({ code: 'forbidden' });
    expect((one as TwofoldError).detail).toContain('unwrap');
    expect((one as TwofoldError).detail).toBe((other as TwofoldError).detail);
  });
});

describe('what policy reads of a body', () => {
  const tenant = PolicySet.load(
    SCHEMA,
    `${BUILT_IN_POLICIES}
     @id("own-tenant") forbid (principal, action == Action::"wrap", resource)
     when { context has encryptionContext && context.encryptionContext.hasTag("tenant") }
     unless { context.encryptionContext.getTag("tenant") == principal.subject };
     @id("no-p384") forbid (principal, action == Action::"keys.create", resource)
     when { context has suite && context.suite == "MLKEM1024-P384" };
     @id("no-secret-label") forbid (principal, action, resource)
     when { context has labels && context.labels.hasTag("secret") };
     @id("names") forbid (principal, action, resource)
     when { context has encryptionContextNames && context.encryptionContextNames.contains("bad") };`,
  );
  const access = PolicyAuthorizer.of({ epoch: new SecurityEpoch(1), policies: tenant });
  const user = principal('user', 'operator');

  it('decides once more, and a grant that was given falls', () => {
    const grant = access.authorize(user, 'wrap', resourceOf('wrap'));
    const refined = access.refine(grant, { encryptionContext: { tenant: 'alice' } });
    expect(refined).toMatchObject({ operation: 'wrap', key: 'k', namespace: 'default' });
    const other = errorOf(() => access.refine(grant, { encryptionContext: { tenant: 'bob' } }));
    expect(other).toHaveProperty('code', 'forbidden');
    const bad = errorOf(() => access.refine(grant, { encryptionContext: { bad: '' } }));
    expect(bad).toHaveProperty('code', 'forbidden');
    const decision = access.decide(user, 'wrap', resourceOf('wrap'), {
      encryptionContext: { tenant: 'bob' },
    });
    expect(decision).toMatchObject({ allowed: false, policies: ['own-tenant'] });
  });

  it('includes suite and labels', () => {
    const grant = access.authorize(user, 'keys.create', resourceOf('keys.create'));
    const refined = (body: object) => errorOf(() => access.refine(grant, body));
    expect(refined({ suite: 'MLKEM768-P256', labels: { team: 'a' } })).toHaveProperty('accepted');
    expect(refined({ suite: 'MLKEM1024-P384' })).toHaveProperty('code', 'forbidden');
    expect(refined({ labels: { secret: '1' } })).toHaveProperty('code', 'forbidden');
  });

  it('is the same in any order, and names like members of Object are only names', () => {
    const ask = (encryptionContext: Record<string, string>) =>
      access.decide(user, 'wrap', resourceOf('wrap'), { encryptionContext });
    expect(ask({ a: '1', tenant: 'bob' })).toBe(ask({ tenant: 'bob', a: '1' }));
    const text = '{"__proto__":"x","constructor":"y","__entity":"z","__extn":"q"}';
    const odd = JSON.parse(text) as Record<string, string>;
    expect(ask(odd).allowed).toBe(true);
    expect(ask({ ...odd, tenant: 'bob' }).allowed).toBe(false);
  });

  it('changes nothing, and costs no entry, where no policy reads it', () => {
    const plain = authorizer();
    const one = plain.decide(user, 'wrap', resourceOf('wrap'), { encryptionContext: { a: '1' } });
    expect(plain.decide(user, 'wrap', resourceOf('wrap'), { suite: 'x' })).toBe(one);
    expect(plain.cached).toBe(1);
  });
});
