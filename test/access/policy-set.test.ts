import { schemaToJson } from '@cedar-policy/cedar-wasm/nodejs';
import { describe, expect, it } from '@jest/globals';
import { builtInPolicies } from '../../src/access/authorize.ts';
import { OPERATIONS } from '../../src/access/grant.ts';
import { BUILT_IN_POLICIES, SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { TwofoldError } from '../../src/errors.ts';

const permit = (id: string, rest = ''): string =>
  `@id("${id}") permit (principal, action, resource)${rest};`;

const codeOf = (policies: string, schema = SCHEMA): unknown => {
  try {
    return { loaded: PolicySet.load(schema, policies) };
  } catch (error) {
    return error instanceof TwofoldError ? error.code : error;
  }
};

describe('the schema', () => {
  it('has the operations as its actions, each in one group', () => {
    const answer = schemaToJson(SCHEMA);
    if (answer.type === 'failure') throw new Error('the schema does not parse');
    const actions = Object.entries(answer.json['']?.actions ?? {});
    const isGroup = ({ appliesTo }: (typeof actions)[number][1]) =>
      (appliesTo?.principalTypes ?? []).length === 0;
    const groups = actions.filter(([, action]) => isGroup(action));
    expect(groups.map(([name]) => name).sort()).toEqual([
      'attend',
      'change',
      'destroy',
      'follow',
      'govern',
      'identify',
      'inspect',
      'oversee',
      'read',
      'schedule',
      'use',
    ]);
    const operations = actions.filter(([, action]) => !isGroup(action));
    expect(operations.map(([name]) => name).sort()).toEqual(OPERATIONS.toSorted());
    for (const [, action] of operations) expect(action.memberOf).toHaveLength(1);
  });
});

describe('the built-in policy set', () => {
  it('fits its schema, and does not read the context', () => {
    expect(builtInPolicies()).toMatchObject({ readsContext: false });
  });

  it('is named by its content', () => {
    const { revision } = builtInPolicies();
    expect(revision).toMatch(/^[0-9a-f]{32}$/u);
    expect(builtInPolicies().revision).toBe(revision);
    expect(PolicySet.load(SCHEMA, `${BUILT_IN_POLICIES}\n`).revision).not.toBe(revision);
    expect(PolicySet.load(`${SCHEMA}\n`, BUILT_IN_POLICIES).revision).not.toBe(revision);
  });
});

describe('a policy set', () => {
  it('loads', () => {
    expect(codeOf(permit('all'))).toHaveProperty('loaded');
    expect(codeOf('')).toHaveProperty('loaded');
  });

  it.each([
    ['a syntax error', 'permit (principal'],
    ['no @id', 'permit (principal, action, resource);'],
    ['an empty @id', permit('')],
    ['an @id with a blank', permit('a b')],
    ['two policies of one @id', permit('a') + permit('a')],
    ['an unknown action', '@id("a") permit (principal, action == Action::"fly", resource);'],
    ['an unknown entity type', '@id("a") permit (principal is Robot, action, resource);'],
    ['an unknown attribute', permit('a', ' when { principal.admin }')],
    ['a type error', permit('a', ' when { principal.subject == 7 }')],
    ['an optional attribute unguarded', permit('a', ' when { context.suite == "x" }')],
    ['a policy that can never apply', permit('a', ' when { false }')],
    ['a template', '@id("a") permit (principal == ?principal, action, resource);'],
  ])('is refused with %s', (_name, policies) => {
    expect(codeOf(policies)).toBe('policy_invalid');
  });

  it('is refused with a schema that does not parse', () => {
    expect(codeOf(permit('a'), 'entity')).toBe('policy_invalid');
  });

  it('notices every way to read the context', () => {
    const reads = (condition: string) =>
      PolicySet.load(SCHEMA, permit('a', condition)).readsContext;
    expect(reads(' when { context has suite }')).toBe(true);
    expect(reads(' unless { context has labels && context.labels.hasTag("a") }')).toBe(true);
    expect(reads(' when { principal.subject == "a" || [context has suite].contains(true) }')).toBe(
      true,
    );
    expect(reads(' when { principal.subject == "context" }')).toBe(false);
  });
});

describe('evaluation that fails', () => {
  it('denies, even when a permit holds', () => {
    const set = PolicySet.load(
      'entity User { n: Long }; action a appliesTo { principal: User, resource: User, context: {} };',
      '@id("all") permit (principal, action, resource);' +
        '@id("never") forbid (principal, action, resource) when { principal.n * 2 == 0 };',
    );
    const user = { type: 'User', id: 'u' };
    const ask = (n: number) =>
      set.decide({
        principal: user,
        action: 'a',
        resource: user,
        context: {},
        entities: [{ uid: user, attrs: { n }, parents: [] }],
      });
    expect(ask(1).allowed).toBe(true);
    expect(ask(0)).toMatchObject({ allowed: false, policies: ['never'] });
    // It is no denial by default, which what was lent could overcome.
    expect(ask(2 ** 62)).toMatchObject({ allowed: false, policies: ['never'] });
    expect(ask('1' as unknown as number)).toMatchObject({ allowed: false, policies: ['never'] });
  });
});
