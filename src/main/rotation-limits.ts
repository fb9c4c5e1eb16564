/** The bounds of rotation policies that a configuration sets. */
import type { Config } from '../config.ts';
import { lengthOf, parseDuration } from '../keyring/durations.ts';
import { POLICY_LIMITS } from '../keyring/rotation-policy.ts';
import type { PolicyLimits } from '../keyring/rotation-policy.ts';
import { suitePolicyOf } from './suite-policy.ts';

/** So that a rotation can be watched where one develops. */
const DEVELOPMENT: PolicyLimits = Object.freeze({ minimumMs: 60_000 });

export function policyLimitsOf(
  config: Pick<Config, 'mode' | 'suites' | 'zone'> & {
    readonly rotation: Pick<Config['rotation'], 'minInterval'>;
  },
): PolicyLimits {
  return { ...shortest(config), suites: suitePolicyOf(config) };
}

function shortest({
  mode,
  rotation,
}: Pick<Config, 'mode'> & {
  readonly rotation: Pick<Config['rotation'], 'minInterval'>;
}): PolicyLimits {
  const given = rotation.minInterval === undefined ? null : parseDuration(rotation.minInterval);
  // A text that does not parse was refused with the configuration; should one come, the default holds.
  if (given !== null) return { minimumMs: lengthOf(given) };
  return mode === 'dev' ? DEVELOPMENT : POLICY_LIMITS;
}
