import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { effectivePolicy, rankPolicies, winningPolicy } from '../../src/keyring/selector-policy.ts';
import type { SelectorPolicy } from '../../src/keyring/selector-policy.ts';
import { policy } from './policies.ts';

const LABELS = { env: 'prod', team: 'ml' };
const of = (name: string, selector: SelectorPolicy['selector'], priority = 0): SelectorPolicy => ({
  name,
  selector,
  priority,
  policy: policy({ interval: 'P90D' }),
});
const ALL = of('all', {});
const PROD = of('prod', { env: 'prod' });
const TEAM = of('team', { env: 'prod', team: 'ml' });
const order = (policies: readonly SelectorPolicy[], own = false) => {
  const found = effectivePolicy(LABELS, own ? policy() : null, policies);
  return found && [found.reason, ...found.candidates.map(({ name }) => name)];
};

describe('the policy in effect', () => {
  it('is none where none selects', () => {
    expect(effectivePolicy(LABELS, null, [])).toBeNull();
    expect(effectivePolicy(LABELS, null, [of('dev', { env: 'dev' })])).toBeNull();
    expect(effectivePolicy(LABELS, null, [of('zone', { env: 'prod', zone: 'a' })])).toBeNull();
    expect(effectivePolicy(LABELS, null, [of('inherited', { toString: 'x' })])).toBeNull();
  });

  it('is the key’s own above all', () => {
    expect(order([TEAM], true)).toEqual(['own', null, 'team']);
    expect(order([], true)).toEqual(['own', null]);
  });

  it('is the one with more labels, then the higher priority, then the first name', () => {
    expect(order([ALL])).toEqual(['only', 'all']);
    expect(order([of('loud', {}, 100), PROD, TEAM])).toEqual([
      'more-labels',
      'team',
      'prod',
      'loud',
    ]);
    expect(order([PROD, of('loud', { team: 'ml' }, 1)])).toEqual([
      'higher-priority',
      'loud',
      'prod',
    ]);
    expect(order([of('b', { env: 'prod' }), of('a', { team: 'ml' })])).toEqual(['name', 'a', 'b']);
    expect(order([of('\u{1f600}', {}), of('\uff5e', {})])).toEqual(['name', '\uff5e', '\u{1f600}']);
  });

  it('is the same by the short way, in whatever order policies come', () => {
    const value = fc.constantFrom('a', 'b');
    const labels = fc.dictionary(fc.constantFrom('x', 'y', 'z'), value, { noNullPrototype: true });
    const selectors = fc.uniqueArray(
      fc.record({
        name: fc.string({ minLength: 1, maxLength: 3 }),
        selector: labels,
        priority: fc.integer({ min: 0, max: 2 }),
        policy: fc.integer({ min: 1, max: 9 }).map((revision) => policy({}, revision)),
      }),
      { selector: ({ name }) => name },
    );
    const own = fc.option(fc.constant(policy()), { nil: null });
    fc.assert(
      fc.property(labels, own, selectors, (given, ofKey, policies) => {
        const found = effectivePolicy(given, ofKey, policies);
        const ranked = rankPolicies(policies.toReversed());
        const facts = { labels: given, rotation: ofKey, rotationHold: null, primary: 1 };
        expect(winningPolicy(facts, ranked)).toBe(found?.policy ?? null);
        expect(effectivePolicy(given, ofKey, policies.toReversed())).toEqual(found);
      }),
    );
  });
});
