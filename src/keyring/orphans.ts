/** Token objects whose maker died before it could name them in a version. */
import type { AuditDraft } from '../audit/ports.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm } from '../hsm/port.ts';
import type { Attested, KeyStore, TokenIntent } from './ports.ts';
import { canonicalIntent } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';

export interface OrphanParts {
  readonly hsm: Hsm;
  readonly store: KeyStore;
  readonly mac: RowMac;
  readonly installation: string;
  /** Resolves once an entry of the log's own is durable. */
  readonly record: (operation: string, detail: AuditDraft['detail']) => Promise<unknown>;
}

export interface RemovedOrphans {
  readonly removed: number;
  /** Intents that no holder of `root-mac` wrote; they and what they name are left alone. */
  readonly refused: number;
}

/**
 * Removes what the abandoned intents of this token name. A removal cannot be undone, so nothing but
 * a genuine intent causes one, and its audit entry is durable before it (promise P3).
 */
export async function removeOrphans(parts: OrphanParts): Promise<RemovedOrphans> {
  const { hsm, store, mac, installation } = parts;
  const serial = hsm.status().token?.serial;
  if (serial === undefined) throw new TwofoldError('hsm_unavailable');
  const intents = await store.abandonIntents(installation, serial);
  const counts = { removed: 0, refused: 0 };
  for (const intent of intents) {
    const genuine = equalBytes(await mac(canonicalIntent(intent.value), intent.mac), intent.mac);
    if (genuine) await removeOrphan(parts, intent);
    counts[genuine ? 'removed' : 'refused'] += 1;
  }
  return counts;
}

async function removeOrphan(
  { hsm, store, installation, record }: OrphanParts,
  { value }: Attested<TokenIntent>,
): Promise<void> {
  const { objectId, tokenSerial, instance } = value;
  const wanted = Buffer.from(objectId);
  for (const object of await hsm.tokenKeys(installation)) {
    if (!wanted.equals(object.objectId)) continue;
    await record('hsm.remove-orphan', {
      object: wanted.toString('hex'),
      token: tokenSerial,
      maker: instance,
    });
    await hsm.destroyTokenKey(object);
  }
  await store.dropIntent(objectId);
}
