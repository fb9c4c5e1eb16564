/** Until when a copy of what is destroyed, or is to be, may exist elsewhere. */
import { rootGenerationOf } from '../keyring/destruction.ts';
import type { KeyVersion } from '../keyring/model.ts';
import type { TokenFacts } from './dependencies.ts';

/** `at`: when it is or was destroyed; nothing is said of what is not. */
export function copiesOf(
  at: Date | null | undefined,
  versions: readonly KeyVersion[],
  { backupHorizonMs }: Pick<TokenFacts, 'backupHorizonMs'>,
) {
  if (!at) return {};
  const backupsUntil =
    backupHorizonMs === null ? null : new Date(at.getTime() + backupHorizonMs).toISOString();
  return { copies: { backupsUntil, rootGeneration: rootGenerationOf(versions) } };
}
