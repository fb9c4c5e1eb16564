/** Effects of changes of rotation policies as dry runs show them. */
import { findSuiteByNumber } from '../crypto/suites.ts';
import type { KeyPolicyEffects, PolicyEffects } from '../keyring/policy-effects.ts';

/** None where nothing was found out, as of a change that is made. */
export function effectsMember(effects: PolicyEffects | undefined) {
  if (effects === undefined) return {};
  const { recent, ...retirements } = effects.retirements;
  const named = recent.map(({ name: key, ...closing }) => ({ key, ...closing }));
  return { effects: { ...effects, retirements: { ...retirements, recent: named } } };
}

export function keyEffectsMember(effects: KeyPolicyEffects | undefined) {
  if (effects === undefined) return {};
  const { rotates } = effects;
  const suite = rotates && findSuiteByNumber(rotates.suite).id;
  return { effects: { ...effects, rotates: rotates && { ...rotates, suite } } };
}
