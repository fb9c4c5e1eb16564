/** The waits of destructions that a configuration sets. */
import type { Config } from '../config.ts';
import { parseDuration } from '../duration.ts';
import { DEFAULT_DESTRUCTION_RULES } from '../keyring/destruction.ts';
import type { DestructionRules } from '../keyring/destruction.ts';

export function destructionRulesOf({ destruction }: Pick<Config, 'destruction'>): DestructionRules {
  const { minimumWait, defaultWait, backupHorizon } = destruction;
  // A text that does not parse was refused with the configuration; should one come, the default holds.
  const { minimumWaitMs, defaultWaitMs } = DEFAULT_DESTRUCTION_RULES;
  return {
    minimumWaitMs: parseDuration(minimumWait) ?? minimumWaitMs,
    defaultWaitMs: parseDuration(defaultWait) ?? defaultWaitMs,
    backupHorizonMs: backupHorizon === undefined ? null : (parseDuration(backupHorizon) ?? null),
  };
}
