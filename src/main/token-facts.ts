/** What is known of this process and its token before anything is served. */
import type { Engine } from '../crypto/engine.ts';
import { runKnownAnswers } from '../crypto/known-answers.ts';
import { TwofoldError } from '../errors.ts';
import type { HttpDependencies } from '../http/dependencies.ts';
import type { DestructionRules } from '../keyring/destruction.ts';
import { unavailability, usualCustody } from '../keyring/material.ts';
import { admits } from '../keyring/suite-policy.ts';
import type { SuitePolicy } from '../keyring/suite-policy.ts';
import type { Device } from './device.ts';

/**
 * The algorithms whose known answers passed.
 *
 * @throws TwofoldError internal: a process with a primitive that answers wrongly must not serve
 */
export async function selfTest(engine: Engine): Promise<readonly string[]> {
  const results = await runKnownAnswers(engine);
  const failed = results.filter(({ passed }) => !passed);
  if (failed.length > 0) {
    const names = failed.map(({ algorithm }) => algorithm).join(', ');
    throw new TwofoldError('internal', `Self-tests failed: ${names}.`, { cause: failed[0]?.cause });
  }
  return results.map(({ algorithm }) => algorithm);
}

/** What this zone's token and the operator's rules make of each suite. */
export function tokenFacts(
  { hsm }: Device,
  engine: Engine,
  policy: SuitePolicy,
  { backupHorizonMs }: DestructionRules,
): HttpDependencies['token'] {
  return {
    availability: (suite) => {
      const reason = unavailability(hsm, engine, suite);
      return { available: reason === null, reason };
    },
    custodyOf: (suite) => usualCustody(hsm, suite),
    refusal: (suite) => admits(policy, suite, new Date()),
    custody: () => hsm.status().custody,
    backupHorizonMs,
    now: () => Date.now(),
  };
}
