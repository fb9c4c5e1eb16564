/** The keys that sign a zone's checkpoints, for statements that are none: backups. */
import { TwofoldError } from '../errors.ts';
import type { LogKeyStore } from './key-ports.ts';
import { verifyLogKeys } from './key-rows.ts';
import { vkeyOf } from './log-vkeys.ts';
import { SigningPair } from './signing-pair.ts';
import type { SigningParts } from './signing-pair.ts';
import type { Vkey } from './tree/vkey.ts';

export interface SignedStatement {
  readonly ed25519: { readonly vkey: Vkey; readonly signature: Uint8Array };
  readonly mlDsa44: { readonly vkey: Vkey; readonly signature: Uint8Array };
}

/**
 * By the pair that is in force now; its seed is in memory for this one statement.
 * @throws TwofoldError hsm_unavailable where the zone has none that can sign
 */
export async function signStatement(
  parts: SigningParts & { readonly store: Pick<LogKeyStore, 'read'>; readonly zone: string },
  message: Uint8Array,
): Promise<SignedStatement> {
  const stored = await parts.store.read();
  await verifyLogKeys(parts.seals.mac, stored);
  const active = stored.keys
    .map(({ value }) => value)
    .filter(({ zone, state }) => zone === parts.zone && state === 'active');
  const ed25519 = active.find(({ kind }) => kind === 'ed25519');
  const mlDsa = active.find(({ kind }) => kind === 'ml-dsa-44');
  const origin = stored.name?.value.origin;
  if (ed25519 === undefined || mlDsa === undefined || origin === undefined) {
    const detail = `Zone ${parts.zone} has no keys of the log that may sign a backup.`;
    throw new TwofoldError('hsm_unavailable', detail);
  }
  const pair = await SigningPair.open(parts, { ed25519, mlDsa });
  try {
    const signed = await pair.statement(message);
    return {
      ed25519: { vkey: vkeyOf(origin, ed25519), signature: signed.ed25519 },
      mlDsa44: { vkey: vkeyOf(origin, mlDsa), signature: signed.mlDsa },
    };
  } finally {
    pair.release();
  }
}
