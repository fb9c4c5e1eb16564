/** What a replay says for certain is what would have been decided; the rest it leaves undetermined. */
import { describe, expect, it } from '@jest/globals';
import { PolicyAuthorizer } from '../../src/access/authorize.ts';
import { SCHEMA } from '../../src/access/policies.ts';
import { PolicySet } from '../../src/access/policy-set.ts';
import { SERVICE } from '../../src/access/system.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { replay } from '../../src/governance/policy-replay.ts';

const USER = `User::${JSON.stringify(JSON.stringify(['i', 'u1']))}`;
const PRINCIPALS = [
  'principal',
  `principal == ${USER}`,
  'principal in Role::"a"',
  'principal is User in Role::"b"',
];
const ACTIONS = ['action', 'action == Action::"wrap"', 'action in Action::"read"'];
const RESOURCES = ['resource', 'resource == Key::"k"', 'resource in Namespace::"n"'];
const CONDITIONS = [
  '',
  '',
  ' when { principal.subject == "u1" }',
  ' when { context has suite && context.suite == "x" }',
  ' unless { context has tlsGroup && context.tlsGroup == "x25519" }',
  ' unless { principal in Role::"a" }',
];

/** Deterministic, so that a failure can be looked at. */
function picker(seed: number) {
  let state = seed;
  return <T>(from: readonly T[]): T => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return from[(state >>> 8) % from.length] as T;
  };
}

describe('a replay', () => {
  it('never says what would not have been', () => {
    const pick = picker(11);
    const policy = (id: string) =>
      `@id("${id}") ${pick(['permit', 'permit', 'forbid'])} (${pick(PRINCIPALS)}, ${pick(ACTIONS)}, ${pick(RESOURCES)})${pick(CONDITIONS)};`;
    const load = (texts: readonly string[]) => PolicySet.load(SCHEMA, texts.join('\n'));
    const seen = new Map<string, number>();
    for (let round = 0; round < 15; round += 1) {
      const kept = ['k0', 'k1'].map(policy);
      const then = load([...kept, policy('changed'), policy('gone')]);
      const now = load([...kept, policy('changed'), policy('new')]);
      const [before, after] = [then, now].map((policies) =>
        PolicyAuthorizer.of({ epoch: new SecurityEpoch(1), policies }),
      );
      if (before === undefined || after === undefined) throw new TypeError('two sets');
      for (let n = 0; n < 80; n += 1) {
        const subject = pick(['u1', 'u2']);
        const roles = pick([[], ['a'], ['b'], ['a', 'b']]);
        const principal = { ...SERVICE, issuer: 'i', subject, method: 'jwt', roles } as const;
        const [operation, key] = pick([
          ['wrap', 'k'],
          ['wrap', 'other'],
          ['keys.read', 'k'],
          ['keys.list', null],
        ] as const);
        const resource = { namespace: 'n', key, tlsGroup: pick([null, 'x25519']) };
        const facts = pick([{}, { suite: 'x' }]);
        const decided = before.decide(principal, operation, resource, facts);
        const real = after.decide(principal, operation, resource, facts).allowed;
        const record = {
          ...{ issuer: 'i', subject, method: 'jwt', operation, namespace: 'n', batch: false },
          ...{ key: pick([key, key, key === null ? null : undefined]) },
          ...{ policies: decided.policies, refused: !decided.allowed },
          roles: pick([roles, null]),
        };
        const sets = [then, now].map(
          ({ policies }) => new Map(policies.map(({ id, compiled }) => [id, compiled])),
        );
        const [past = new Map(), present = new Map()] = sets;
        const said = replay(record, past, present);
        seen.set(said, (seen.get(said) ?? 0) + 1);
        if (said === 'undetermined') continue;
        const texts = [then, now].map(({ policies }) => policies.map((p) => p.compiled.text));
        expect([texts, record, roles, said]).toEqual([
          texts,
          record,
          roles,
          real ? 'allowed' : 'denied',
        ]);
      }
    }
    expect([...seen.keys()].toSorted()).toEqual(['allowed', 'denied', 'undetermined']);
  });

  it('knows roles where the entry says them', () => {
    const load = (text: string) =>
      new Map(PolicySet.load(SCHEMA, text).policies.map(({ id, compiled }) => [id, compiled]));
    const permit = (rest: string) => `@id("p") permit (principal, action, resource)${rest};`;
    const then = load(permit(''));
    const record = {
      ...{ issuer: 'i', subject: 'u1', method: 'jwt', operation: 'wrap', namespace: 'n' },
      ...{ batch: false, key: 'k', policies: ['p'], refused: false },
    } as const;
    const scoped = load('@id("p") permit (principal in Role::"a", action, resource);');
    const tried = (now: typeof then) =>
      [['a'], ['b'], null].map((roles) => replay({ ...record, roles }, then, now));
    expect(tried(scoped)).toEqual(['allowed', 'denied', 'undetermined']);
    const conditional = load(permit(' unless { principal in Role::"a" }'));
    expect(tried(conditional)).toEqual(['denied', 'allowed', 'undetermined']);
  });
});
