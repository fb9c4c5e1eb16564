/** Rotation policies as the API shows them: suites by their ids. */
import { findSuiteByNumber } from '../crypto/suites.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';

export function policyResource(policy: RotationPolicy) {
  const { interval, maxUses, upgrade, retire, notice, paused, revision } = policy;
  return {
    interval,
    maxUses,
    upgrade: upgrade && {
      suite: findSuiteByNumber(upgrade.suite).id,
      notBefore: upgrade.notBefore,
    },
    retire: retire && { keepVersions: retire.keepVersions, after: retire.after },
    notice,
    paused: paused && { at: paused.at, reason: paused.reason },
    revision,
  };
}
