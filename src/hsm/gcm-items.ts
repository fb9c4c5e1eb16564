/** AES-GCM and HMACs of many items in one call of a worker; see items.ts for their form. */
import { wipe } from '../crypto/secret.ts';
import { gcmOpen } from './check-value.ts';
import type { Connection } from './connection.ts';
import type { Handle } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { GCM } from './inputs.ts';
import { itemsOf, joinParts, splitParts } from './items.ts';
import type { Part } from './items.ts';
import { gcmEncryptUnder, hmac, random } from './mechanisms.ts';
import type { HsmHash } from './port.ts';

/** Draws the IVs of all items at once. */
export function encryptItems(connection: Connection, key: Handle, joined: Uint8Array): Uint8Array {
  const items = itemsOf(splitParts(joined), 2);
  const ivs = random(connection, items.length * GCM.ivBytes);
  return joinParts(
    items.flatMap(([plaintext, aad], index) => {
      const iv = ivs.subarray(index * GCM.ivBytes, (index + 1) * GCM.ivBytes);
      return [iv, gcmEncryptUnder(connection, key, iv, required(plaintext), required(aad))];
    }),
  );
}

/**
 * None for an item that does not open. Whatever the token fails for reasons of its own fails the call,
 * which the queue reports and repeats.
 */
export function decryptItems(
  connection: Connection,
  key: Handle,
  check: Uint8Array,
  joined: Uint8Array,
): Uint8Array {
  const opened: Part[] = [];
  const open = (iv: Part, ciphertext: Part, aad: Part) => {
    const sealed = { iv: required(iv), ciphertext: required(ciphertext) };
    return gcmOpen(connection, key, check, sealed, required(aad));
  };
  try {
    for (const [iv, ciphertext, aad] of itemsOf(splitParts(joined), 3)) {
      opened.push(orNone(() => open(iv, ciphertext, aad)));
    }
    return joinParts(opened);
  } finally {
    wipe(...opened);
  }
}

/** One after another, each as long as the hash. */
export function macItems(
  connection: Connection,
  hash: HsmHash,
  key: Handle,
  joined: Uint8Array,
): Uint8Array {
  const macs = splitParts(joined).map((item) => hmac(connection, hash, key, required(item)));
  return Uint8Array.from(Buffer.concat(macs));
}

function orNone(open: () => Uint8Array): Part {
  try {
    return open();
  } catch (error) {
    const { code, consequence } = failureOf(error, 'consume');
    if (code === 'decryption_failed' && consequence === 'none') return undefined;
    throw error;
  }
}

function required(part: Part): Uint8Array {
  if (part === undefined) throw new Error('an item of a call lacks a part');
  return part;
}
