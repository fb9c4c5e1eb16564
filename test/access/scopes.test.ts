/** Matching scopes here and asking Cedar about the rest decides as Cedar does over the whole set. */
import { isDeepStrictEqual } from 'node:util';
import { preparsePolicySet, statefulIsAuthorized } from '@cedar-policy/cedar-wasm/nodejs';
import { describe, expect, it } from '@jest/globals';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { OPERATIONS } from '../../src/access/grant.ts';
import type { Operation } from '../../src/access/grant.ts';
import { SERVICE } from '../../src/access/system.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { readSchema } from '../../src/access/cedar-schema.ts';
import { linkTemplate } from '../../src/access/link.ts';
import {
  BUILT_IN_POLICIES,
  EVERYONE_IDENTIFIES,
  SCHEMA,
  TEMPLATE_NAMES,
} from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';

const PRINCIPALS = [
  'principal',
  'principal == User::"u1"',
  'principal == User::"u2"',
  'principal in Role::"a"',
  'principal in User::"u1"',
  'principal is User',
  'principal is User in Role::"b"',
];
const ACTIONS = [
  'action',
  'action == Action::"wrap"',
  'action in Action::"use"',
  'action in [Action::"read", Action::"wrap"]',
];
const RESOURCES = [
  'resource',
  'resource == Key::"k"',
  'resource in Namespace::"n"',
  'resource == Namespace::"n"',
  'resource is Key',
  'resource is Key in Namespace::"m"',
];
const CONDITIONS = [
  '',
  ' when { principal.subject == "s1" }',
  ' when { context has suite && context.suite == "x" }',
  ' unless { resource is Key && resource.labels.hasTag("t") }',
  ' when { principal in Role::"a" }',
  ' unless { resource in Namespace::"n" }',
  ' when { User::"u1" in Role::"a" }',
  ' when { action in Action::"use" } unless { principal.subject == "s1" }',
  ' when { context has labels && context.labels.hasTag("t") }',
  ' unless { context has labels && context.labels.hasTag("t") && context.labels.getTag("t") == "1" }',
  ' when { context.authentication.amr.contains("otp") }',
  ' when { context has labels && resource is Key && resource.labels == context.labels }',
  ' unless { [principal].contains(User::"u2") }',
];
/** What slots of templates are filled with. */
const LINKS = TEMPLATE_NAMES.flatMap((name) =>
  [
    { type: 'Namespace', id: 'n' },
    { type: 'Key', id: 'k' },
  ].map((what) => linkTemplate(name, { type: 'Role', id: 'a' }, what)),
);

/** Deterministic, so that a failure can be looked at. */
function picker(seed: number) {
  let state = seed;
  return <T>(from: readonly T[]): T => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return from[(state >>> 8) % from.length] as T;
  };
}

readSchema(SCHEMA);
const load = (texts: readonly string[]) => PolicySet.load(SCHEMA, texts.join('\n'));

function questionBy(pick: ReturnType<typeof picker>) {
  const name = pick(['u1', 'u2']);
  const user = { type: 'User', id: name };
  const home = { type: 'Namespace', id: pick(['n', 'm']) };
  const key = { type: 'Key', id: pick(['k', 'other']) };
  const labels = { type: 'Pairs', id: 'l' };
  const other = { type: 'Pairs', id: 'o' };
  const parents = pick([['a'], ['b'], ['a', 'b'], []]).map((id) => ({ type: 'Role', id }));
  const action = pick(['wrap', 'unwrap', 'keys.read', 'keys.list', 'audit.read']);
  const resource = pick([key, home]);
  const attrs = { issuer: 'i', subject: name === 'u1' ? 's1' : 's2', method: 'jwt' };
  const keyAttrs = { name: key.id, aliases: [], labels: { __entity: labels } };
  return {
    principal: user,
    action,
    resource,
    context: {
      time: { __extn: { fn: 'datetime', arg: '2026-01-01' } },
      authentication: { method: 'jwt', amr: pick([[], ['otp']]) },
      ...pick([{}, { suite: 'x' }, { suite: 'y' }]),
      ...pick([{}, { labels: { __entity: labels } }, { labels: { __entity: other } }]),
    },
    entities: [
      { uid: user, attrs, parents },
      { uid: home, attrs: {}, parents: [] },
      { uid: key, attrs: keyAttrs, parents: [home] },
      { uid: labels, attrs: {}, parents: [], tags: pick([{}, { t: '1' }]) },
      { uid: other, attrs: {}, parents: [], tags: pick([{}, { t: '1' }, { t: '2' }]) },
    ],
  };
}

describe('a decision by scopes', () => {
  it('is Cedar’s own over the whole set', () => {
    const pick = picker(7);
    const seen = new Map<string, number>();
    for (let round = 0; round < 20; round += 1) {
      const texts = Array.from({ length: 12 }, (_, n) => {
        if (n === 0) return `@id("p0") ${pick(LINKS)}`;
        const [p, a, r, c] = [pick(PRINCIPALS), pick(ACTIONS), pick(RESOURCES), pick(CONDITIONS)];
        return `@id("p${String(n)}") ${pick(['permit', 'permit', 'forbid'])} (${p}, ${a}, ${r})${c};`;
      }).filter((text) => {
        try {
          return load([text]).policies.length > 0;
        } catch {
          // A policy that can never apply is refused; it is no case.
          return false;
        }
      });
      const set = load(texts);
      const staticPolicies = Object.fromEntries(
        set.policies.map(({ id, compiled }) => [id, compiled.text]),
      );
      expect(preparsePolicySet(`whole ${String(round)}`, { staticPolicies }).type).toBe('success');
      for (let n = 0; n < 60; n += 1) {
        const asked = questionBy(pick);
        const answer = statefulIsAuthorized({
          ...asked,
          action: { type: 'Action', id: asked.action },
          // As `readSchema` named it.
          preparsedSchemaName: 'schema',
          validateRequest: true,
          preparsedPolicySetId: `whole ${String(round)}`,
        });
        const ours = set.decide(asked);
        const theirs =
          answer.type === 'success'
            ? { ...answer.response, reason: answer.response.diagnostics.reason.toSorted() }
            : { decision: 'deny', reason: [] };
        const [own, whole] = [
          { allowed: ours.allowed, policies: ours.policies },
          { allowed: theirs.decision === 'allow', policies: theirs.reason },
        ];
        // Twelve hundred matchers over whole sets would take longer than the decisions.
        if (!isDeepStrictEqual(own, whole))
          expect({ texts, asked, ...own }).toEqual({ texts, asked, ...whole });
        const kind = `${theirs.decision} ${theirs.reason.length > 0 ? 'for a policy' : 'for none'}`;
        seen.set(kind, (seen.get(kind) ?? 0) + 1);
      }
    }
    expect([...seen.keys()].sort()).toEqual([
      'allow for a policy',
      'deny for a policy',
      'deny for none',
    ]);
  });

  it('does not outlast the time that a policy reads', () => {
    const home = { type: 'Namespace', id: 'n' };
    const question = { ...questionBy(picker(1)), action: 'whoami', resource: home };
    const timed = load([
      '@id("t") permit (principal, action, resource) when { context.time > datetime("2025-01-01") };',
    ]);
    expect(timed.explain(question).lasting).toBe(false);
    expect(PolicySet.load(SCHEMA, BUILT_IN_POLICIES).explain(question).lasting).toBe(true);
  });
});

describe('a denial before the body', () => {
  const asked = {
    principal: { type: 'User', id: 'u1' },
    action: 'wrap',
    resource: { type: 'Key', id: 'k' },
    context: {},
    entities: [],
  };
  const permit =
    '@id("p") permit (principal, action, resource) when { context has suite && context.suite == "x" };';
  const waits = (policies: string) => PolicySet.load(SCHEMA, policies).awaitsBody(asked);

  it('waits for what the body could still say, and for nothing where it could say nothing', () => {
    expect(waits(permit)).toBe(true);
    const unless = permit
      .replace('permit', 'forbid')
      .replace(' when', ' unless')
      .replace('"p"', '"f"');
    expect(waits(`${unless}${permit}`)).toBe(true);
    expect(waits('@id("a") permit (principal == User::"u2", action, resource);')).toBe(false);
    // What is forbidden whatever is said is refused before a byte of it is read.
    expect(waits(`${permit} @id("f") forbid (principal, action, resource);`)).toBe(false);
  });
});

describe('the templates', () => {
  const ask = (
    set: PolicySet,
    operation: Operation,
    roles: readonly string[],
    key: string | null,
  ) =>
    PolicyAuthorizer.of({ epoch: new SecurityEpoch(1), policies: set }).may(
      { ...SERVICE, issuer: 'i', subject: 's', method: 'jwt', roles },
      operation,
      { namespace: 'n', key },
    );

  it('linked to the roles decide as the built-in roles do, about every operation', () => {
    const links = TEMPLATE_NAMES.map(
      (name) =>
        `@id("${name}") ${linkTemplate(name, { type: 'Role', id: name }, { type: 'Namespace', id: 'n' })}`,
    );
    const linked = load([`@id("everyone") ${EVERYONE_IDENTIFIES}`, ...links]);
    const built = PolicySet.load(SCHEMA, BUILT_IN_POLICIES);
    // Every set of roles: a permit of one never depends on another.
    const some = Array.from({ length: 2 ** TEMPLATE_NAMES.length }, (_, bits) =>
      TEMPLATE_NAMES.filter((_name, n) => ((bits >> n) & 1) === 1).toSorted(),
    );
    const seen = new Set<boolean>();
    for (const operation of OPERATIONS) {
      for (const roles of some) {
        for (const key of ['k', null]) {
          const expected = ask(built, operation, roles, key);
          seen.add(expected);
          const found = ask(linked, operation, roles, key);
          expect([operation, roles, key, found]).toEqual([operation, roles, key, expected]);
        }
      }
    }
    expect(seen.size).toBe(2);
    // By themselves each of them says who somebody is and what they may.
    const alone = load(links);
    for (const name of TEMPLATE_NAMES) {
      for (const operation of ['whoami', 'suites.read', 'access.ask'] as const) {
        expect([name, operation, ask(alone, operation, [name], null)]).toEqual([
          name,
          operation,
          true,
        ]);
      }
    }
    expect(ask(alone, 'whoami', [], null)).toBe(false);
  });
});
