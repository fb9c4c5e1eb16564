/**
 * The end of every set of a namespace at once: each member is taken away under its set's seal, and the
 * history keeps what it was. Which kinds there are is asked of the storage, so a kind that is new is
 * not forgotten. Sets of single keys stay, since what they lend ended with their keys.
 */
import type { Grant } from '../access/grant.ts';
import { inTurns } from '../keyring/in-turns.ts';
import type { KeyWrite } from '../keyring/ports.ts';
import type { SealedSetParts } from './sealed-set.ts';
import { attestMember, attestSeal, hashOfHashes, verifySet } from './set-mac.ts';

const MACS_AT_ONCE = 16;

export interface EmptiedSets {
  readonly writes: readonly KeyWrite[];
  /** How many members of which kind go. */
  readonly counts: ReadonlyMap<string, number>;
}

/** @throws TwofoldError integrity_failed, database_unavailable */
export async function emptySets(
  parts: SealedSetParts,
  { principal: { issuer, subject } }: Grant<'namespaces.change'>,
  namespace: string,
): Promise<EmptiedSets> {
  const { sets, mac, epoch, integrity, clock } = parts;
  const at = clock();
  const writes: KeyWrite[] = [];
  const counts = new Map<string, number>();
  for (const kind of await sets.kinds(namespace)) {
    const stored = await integrity.over(JSON.stringify([kind, namespace]), async () => {
      const read = await sets.set(kind, namespace, epoch.current);
      await verifySet(mac, kind, namespace, read);
      return read;
    });
    const expected = stored.seal?.value.revision ?? 0;
    const revision = expected + 1;
    await inTurns(stored.members, MACS_AT_ONCE, async ({ value: { name } }) => {
      const gone = { kind, namespace, name, revision, at, by: { issuer, subject }, value: null };
      writes.push({ kind: 'put-member', row: await attestMember(mac, gone) });
    });
    const row = await attestSeal(mac, { kind, namespace, revision, hash: hashOfHashes([]) });
    writes.push({ kind: 'put-seal', row, expected });
    counts.set(kind, stored.members.length);
  }
  return { writes, counts };
}
