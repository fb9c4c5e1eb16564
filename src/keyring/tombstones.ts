/** What the destroyed versions of a key leave, for those who are told of the key. */
import type { Tombstone } from './model.ts';
import type { KeyView } from './operations.ts';
import type { KeyStore } from './ports.ts';

/** By version. */
export async function tombstonesOf(
  store: Pick<KeyStore, 'tombstones'>,
  { key, versions }: KeyView,
): Promise<ReadonlyMap<number, Tombstone>> {
  if (versions.every(({ state }) => state !== 'destroyed')) return new Map();
  const found = await store.tombstones(key.id);
  return new Map(found.map((tombstone) => [tombstone.version, tombstone]));
}
