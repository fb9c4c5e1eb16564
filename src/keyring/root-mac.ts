/**
 * MACs by `root-mac`, and which generation of the root made one: a MAC of the installation's first
 * generation is the 32 bytes of HMAC-SHA-256, as all were before there was a second; one of a later
 * generation is the generation (u32, big-endian) before them. So rows that were written before keep
 * their MACs, and what a row says of itself stays outside of what it says of its MAC.
 */
import { concatBytes, uint32 } from '../crypto/bytes.ts';

/**
 * The MAC of `data` under the generation in force; with `like`, a MAC as it is stated, under the
 * generation that made that one. Where that is not open, or `like` is no MAC, the one in force all the
 * same: it states another generation, so it never equals what was stated.
 */
export type RootMac = (data: Uint8Array, like?: Uint8Array) => Promise<Uint8Array>;

export const HMAC_BYTES = 32;
const PREFIX_BYTES = 4;

/** The generation that a MAC states; `first` for one that states none; null for what is no MAC. */
export function generationOf(mac: Uint8Array, first: number): number | null {
  if (mac.length === HMAC_BYTES) return first;
  if (mac.length !== PREFIX_BYTES + HMAC_BYTES) return null;
  return new DataView(mac.buffer, mac.byteOffset, PREFIX_BYTES).getUint32(0);
}

/** A MAC as it is stored. */
export const stated = (hmac: Uint8Array, generation: number, first: number): Uint8Array =>
  generation === first ? hmac : concatBytes(uint32(generation), hmac);
