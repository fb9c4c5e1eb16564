/**
 * What the log says of its own keys. A change of the set is an entry of the log's own, signed by a key
 * that is trusted already:
 *
 *     operation  audit.key.add | audit.key.retire
 *     detail     vkey, by (key id of the signer, hex), signature (base64, Ed25519), zone, kind
 *
 * over ASCII `twofold audit key-set v1`, the origin, `add` or `retire`, and the vkey, a line each. Where
 * `by` and `signature` are empty nobody who was trusted vouches for the key: whoever verifies has to be
 * told of it another way. An entry may be there twice: of two instances that announce at once, both may.
 */
import type { AuditId } from './ports.ts';
import type { LogKey } from './key-ports.ts';
import { vkeyOf } from './log-vkeys.ts';
import type { SigningPair } from './signing-pair.ts';
import { formatVkey } from './tree/vkey.ts';

const LABEL = 'twofold audit key-set v1';

export type KeySetChange = 'add' | 'retire';

/** The bytes that the trusted key signs. */
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
  const signature = await by?.signEd25519(keySetStatement(origin, change, vkey));
  return record(`audit.key.${change}`, {
    vkey,
    by: by === null ? '' : vkeyOf(origin, by.ed25519).keyId,
    signature: signature === undefined ? '' : Buffer.from(signature).toString('base64'),
    zone,
    kind,
  });
};
