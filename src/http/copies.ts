/** Until when a copy of what is destroyed, or is to be, may exist elsewhere. */
import { rootGenerationOf } from '../keyring/destruction.ts';
import type { KeyVersion, Tombstone } from '../keyring/model.ts';
import type { TokenFacts } from './dependencies.ts';

/** Of destroyed versions, by number. */
export type Tombstones = ReadonlyMap<number, Tombstone>;
const NO_TOMBSTONES: Tombstones = new Map();

/** `at`: when it is or was destroyed; nothing is said of what is not. */
export function copiesOf(
  at: Date | null | undefined,
  versions: readonly KeyVersion[],
  { backupHorizonMs }: Pick<TokenFacts, 'backupHorizonMs'>,
  tombstones: Tombstones = NO_TOMBSTONES,
) {
  if (!at) return {};
  const generations = [
    rootGenerationOf(versions),
    ...versions.map(({ version }) => tombstones.get(version)?.rootGeneration ?? null),
  ].filter((generation) => generation !== null);
  const rootGeneration = generations.length === 0 ? null : Math.max(...generations);
  const backupsUntil =
    backupHorizonMs === null ? null : new Date(at.getTime() + backupHorizonMs).toISOString();
  return { copies: { backupsUntil, rootGeneration } };
}
