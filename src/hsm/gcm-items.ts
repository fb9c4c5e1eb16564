/** AES-GCM and HMACs of many items in one call of a worker; see items.ts for their form. */
import { gcmOpen } from './check-value.ts';
import type { Connection } from './connection.ts';
import type { Handle } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { GCM } from './inputs.ts';
import { itemsOf, joinParts, splitParts } from './items.ts';
import { gcmEncryptInto, hmac, random } from './mechanisms.ts';
import type { HsmHash } from './port.ts';

/** Draws the IVs of all items at once. */
export function encryptItems(connection: Connection, key: Handle, joined: Uint8Array): Uint8Array {
  // A tag is twice as long as the lengths that stand before the parts of an item.
  const memory = new CallMemory(1 + joined.length * 4);
  try {
    const items = itemsOf(splitParts(memory.copy(joined)), 2);
    const ivs = Buffer.from(random(connection, items.length * GCM.ivBytes));
    const sealed: Buffer[] = [];
    for (const [at, [plaintext, aad]] of items.entries()) {
      const iv = ivs.subarray(at * GCM.ivBytes, (at + 1) * GCM.ivBytes);
      const input = required(plaintext);
      const room = memory.room(input.length + GCM.tagBytes);
      const sealing = { iv, plaintext: input, aad: required(aad), room };
      sealed.push(iv, gcmEncryptInto(connection, key, sealing));
    }
    return joinParts(sealed);
  } finally {
    memory.wipe();
  }
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
  const memory = new CallMemory(1 + joined.length * 2);
  try {
    const opened = itemsOf(splitParts(memory.copy(joined)), 3).map(([iv, ciphertext, aad]) => {
      const input = required(ciphertext);
      const room = memory.room(input.length);
      const opening = { iv: required(iv), ciphertext: input, aad: required(aad), room };
      return orNone(() => gcmOpen(connection, key, check, opening));
    });
    return joinParts(opened);
  } finally {
    memory.wipe();
  }
}

/** Enough for a full chunk of short items. */
const KEPT_BYTES = 65_536;
let kept: Buffer | undefined;

/**
 * What the token reads and writes in one call of a worker. Parts of a frame lie in memory that two threads share,
 * which no call takes. A worker makes one call at a time, so short ones use the same memory again: a piece of its
 * own for each would cost as much as the copy.
 */
class CallMemory {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(length: number) {
    kept ??= Buffer.allocUnsafeSlow(KEPT_BYTES);
    this.#bytes = length <= KEPT_BYTES ? kept : Buffer.allocUnsafeSlow(length);
  }

  /** In which an empty part at the end has an address too. */
  copy(bytes: Uint8Array): Buffer {
    const copied = this.room(bytes.length + 1);
    copied.set(bytes);
    return copied.subarray(0, bytes.length);
  }

  room(length: number): Buffer {
    const room = this.#bytes.subarray(this.#at, this.#at + length);
    if (room.length !== length) throw new Error('the memory of a call is too small');
    this.#at += length;
    return room;
  }

  wipe(): void {
    this.#bytes.fill(0, 0, this.#at);
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

function orNone(open: () => Buffer): Buffer | undefined {
  try {
    return open();
  } catch (error) {
    const { code, consequence } = failureOf(error, 'consume');
    if (code === 'decryption_failed' && consequence === 'none') return undefined;
    throw error;
  }
}

function required<P>(part: P | undefined): P {
  if (part === undefined) throw new Error('an item of a call lacks a part');
  return part;
}
