/**
 * The MAC of a wrapped root. Who writes the database could else put another root in the place of ours, and
 * backups would carry it, verified and signed, until a restore that then opens nothing.
 */
import { concatBytes, equalBytes, utf8 } from '../crypto/bytes.ts';
import { encodeCbor } from '../crypto/cbor.ts';
import { NAME } from '../name.ts';
import type { StoredEscrow } from './ports.ts';

/** As `Root.auditMac`: with `like`, under the generation that made that one, also one that has gone. */
export type LastingMac = (data: Uint8Array, like?: Uint8Array) => Promise<Uint8Array>;

export type Wrapped = Omit<StoredEscrow, 'mac'>;

const macInput = ({
  generation,
  installation,
  publicKey,
  point,
  ciphertext,
  wrapped,
  transcript,
}: Wrapped): Uint8Array =>
  concatBytes(
    utf8(NAME.escrow),
    encodeCbor([generation, installation, publicKey, point, ciphertext, wrapped, transcript]),
  );

/** The row to be stored. */
export async function attested(escrow: Wrapped, mac: LastingMac): Promise<StoredEscrow> {
  return { ...escrow, mac: await mac(macInput(escrow)) };
}

/** Whether the row is one that this installation has stored. */
export async function isAttested(
  { mac, ...escrow }: StoredEscrow,
  by: LastingMac,
): Promise<boolean> {
  return mac !== null && equalBytes(await by(macInput(escrow), mac), mac);
}
