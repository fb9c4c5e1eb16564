/** The policy over suites that a configuration sets. */
import { parseUntil } from '../config.ts';
import type { Config } from '../config.ts';
import type { SuitePolicy } from '../keyring/suite-policy.ts';

export function suitePolicyOf({ suites, zone }: Pick<Config, 'suites' | 'zone'>): SuitePolicy {
  const { profile, allow, classicalUntil, experimental } = suites;
  // A text that does not parse was refused with the configuration; should one come, nothing is granted.
  const until = classicalUntil === undefined ? null : (parseUntil(classicalUntil) ?? 'never');
  const tokenKeysNamed = zone.others.length > 0;
  return { profile, allow, classicalUntil: until, experimental, tokenKeysNamed };
}
