/**
 * What the log says of its own keys. A change of the set is an entry of the log's own, signed by a pair of keys
 * that is trusted already:
 *
 *     operation  audit.key.add | audit.key.retire
 *     detail     vkey, by (key id of the signer, hex), signature (base64, Ed25519),
 *                pqBy, pqSignature (the same of its ML-DSA-44 key, with an empty context), zone, kind
 *
 * over ASCII `twofold audit key-set v1`, the origin, `add` or `retire`, and the vkey, a line each. By both, since
 * who can forge the one could else add a key of the other type and sign the rest with it. Where
 * they are empty nobody who was trusted vouches for the key: whoever verifies has to be
 * told of it another way. An entry may be there twice: of two instances that announce at once, both may.
 */
import type { AuditId } from './ports.ts';
import type { LogKey } from './key-ports.ts';
import { vkeyOf } from './log-vkeys.ts';
import type { SigningPair } from './signing-pair.ts';
import { formatVkey } from './tree/vkey.ts';

const LABEL = 'twofold audit key-set v1';

export type KeySetChange = 'add' | 'retire';

/** The bytes that the trusted keys sign. */
export const keySetStatement = (origin: string, change: KeySetChange, vkey: string): Uint8Array =>
  Buffer.from(`${[LABEL, origin, change, vkey].join('\n')}\n`, 'utf8');

export type RecordOwn = (
  operation: string,
  detail: Readonly<Record<string, string>>,
) => Promise<AuditId>;

/** Resolves once the entry is durable. `by` null: nobody vouches for it. */
export const recordKeySet = async (
  record: RecordOwn,
  origin: string,
  change: KeySetChange,
  { key, by }: { readonly key: LogKey; readonly by: SigningPair | null },
): Promise<AuditId> => {
  const { kind, zone } = key;
  const vkey = formatVkey(vkeyOf(origin, key));
  const signed = await by?.statement(keySetStatement(origin, change, vkey));
  return record(`audit.key.${change}`, {
    vkey,
    by: by === null ? '' : vkeyOf(origin, by.ed25519).keyId,
    signature: Buffer.from(signed?.ed25519 ?? []).toString('base64'),
    pqBy: by === null ? '' : vkeyOf(origin, by.mlDsa).keyId,
    pqSignature: Buffer.from(signed?.mlDsa ?? []).toString('base64'),
    zone,
    kind,
  });
};
