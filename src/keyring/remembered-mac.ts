/**
 * MACs of what is asked for again and again, remembered: a page of a list is 100 rows, and each use of a
 * key has the encryption context of the one before it in its audit entry; the HSM would be asked for
 * each of them each time. The MAC of the same bytes under the same key is the same for ever, so what is
 * remembered can not become untrue; rows that have changed since have other bytes. These MACs stand in
 * the database in the clear and are no secrets, but for the key of the hashes of a batch's items
 * (`audit/batch.ts`), which opens nothing. Of the bytes only their hash is kept. Callers change no MAC that they get.
 */
import { hash } from 'node:crypto';

import { HMAC_BYTES } from './root-mac.ts';
import type { RowMac } from './row-mac.ts';

/** The generation that a MAC states, if it does. */
const prefixOf = (like: Uint8Array | undefined): string =>
  like === undefined || like.length <= HMAC_BYTES
    ? ''
    : Buffer.from(like.subarray(0, -HMAC_BYTES)).toString('hex');

/**
 * @param limit MACs kept, some 250 bytes each; the least recently used go first
 */
export const rememberedMac = (mac: RowMac, limit: number): RowMac => {
  const known = new Map<string, Uint8Array>();
  return async (data, like) => {
    // What is remembered is true of one generation of the root; of another, it is asked for anew.
    const name = hash('sha256', data, 'latin1') + String(like?.length ?? 0) + prefixOf(like);
    const found = known.get(name) ?? (await mac(data, like));
    known.delete(name);
    known.set(name, found);
    const [oldest] = known.keys();
    if (known.size > limit && oldest !== undefined) known.delete(oldest);
    return found;
  };
};
