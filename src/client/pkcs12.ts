/**
 * The one private key of a PKCS #12 file (RFC 7292) whose integrity its passphrase vouches for, in DER. What
 * OpenSSL, keytool and Windows write is read: the key in a bag of its own, a MAC by password. A key inside an
 * encrypted safe, public-key modes and other MACs are refused.
 */
import { createHmac, hash, timingSafeEqual } from 'node:crypto';

import { concatBytes } from '../crypto/bytes.ts';
import { contextTag, readDer, TAG } from '../crypto/der.ts';
import type { DerReader } from '../crypto/der.ts';
import { wipe } from '../crypto/secret.ts';
import { ClientError } from './client-error.ts';
import { MAX_ITERATIONS, numberOf } from './key-encryption.ts';

const NAME = 'The PKCS #12 file';
const EXPLICIT = contextTag(0, 'constructed');
const DATA = '1.2.840.113549.1.7.1';
const BAGS = '1.2.840.113549.1.12.10.1';
const KEY_BAG = `${BAGS}.1`;
const SHROUDED_KEY_BAG = `${BAGS}.2`;

/** Digests of the MAC: name, length of the hash, length of its block. */
const DIGESTS: ReadonlyMap<string, readonly [string, number, number]> = new Map([
  ['1.3.14.3.2.26', ['sha1', 20, 64]],
  ['2.16.840.1.101.3.4.2.1', ['sha256', 32, 64]],
  ['2.16.840.1.101.3.4.2.2', ['sha384', 48, 128]],
  ['2.16.840.1.101.3.4.2.3', ['sha512', 64, 128]],
]);
/** RFC 7292 appendix B.3: what the derived bytes are for. */
const MAC_KEY = 3;

const refuse = (what: string) => new ClientError('key_unreadable', `${NAME} ${what}.`);

/** `PrivateKeyInfo`, or `EncryptedPrivateKeyInfo` under the passphrase of the file. */
export interface Pkcs12Key {
  readonly der: Uint8Array;
  readonly encrypted: boolean;
}

/**
 * Views of `file`.
 * @param passphrase UTF-8
 * @throws ClientError key_unreadable, passphrase_wrong
 * @throws TwofoldError invalid_value for what is not DER
 */
export function readPkcs12(file: Uint8Array, passphrase: Uint8Array): Pkcs12Key {
  const safes = readDer(file, NAME, (outer) => {
    const pfx = outer.enter();
    if (pfx.small() !== 3) throw refuse('is not of version 3');
    const content = contentOf(pfx.enter());
    if (content === null) throw refuse('is not protected by a passphrase');
    if (pfx.atEnd) throw refuse('has no MAC');
    checkMac(pfx.enter(), content, passphrase);
    pfx.end();
    return content;
  });
  const keys = readDer(safes, NAME, (outer) => {
    const found: Pkcs12Key[] = [];
    for (const list = outer.enter(); !list.atEnd;) {
      const content = contentOf(list.enter());
      if (content !== null) found.push(...keysIn(content));
    }
    return found;
  });
  const [key, another] = keys;
  if (key === undefined) throw refuse('has no private key that can be read');
  if (another !== undefined) throw refuse('has more than one private key');
  return key;
}

/** Of a ContentInfo of type data; null for one of another type. */
function contentOf(info: DerReader): Uint8Array | null {
  const type = info.objectIdentifier();
  const content = info.enter(EXPLICIT);
  info.end();
  if (type !== DATA) return null;
  const octets = content.octetString();
  content.end();
  return octets;
}

function keysIn(safe: Uint8Array): readonly Pkcs12Key[] {
  return readDer(safe, NAME, (outer) => {
    const found: Pkcs12Key[] = [];
    for (const bags = outer.enter(); !bags.atEnd;) {
      const bag = bags.enter();
      const type = bag.objectIdentifier();
      const value = bag.enter(EXPLICIT);
      const { encoded } = value.element();
      value.end();
      bag.optional(TAG.set);
      bag.end();
      if (type === KEY_BAG) found.push({ der: encoded, encrypted: false });
      if (type === SHROUDED_KEY_BAG) found.push({ der: encoded, encrypted: true });
    }
    return found;
  });
}

function checkMac(mac: DerReader, content: Uint8Array, passphrase: Uint8Array): void {
  const info = mac.enter();
  const algorithm = info.enter();
  const digest = DIGESTS.get(algorithm.objectIdentifier());
  if (digest === undefined) throw refuse('has a MAC of a kind that is not read here');
  algorithm.optional(TAG.null);
  algorithm.end();
  const stated = info.octetString();
  info.end();
  const salt = mac.octetString();
  const iterations = mac.atEnd ? 1 : numberOf(mac.unsigned());
  mac.end();
  if (iterations > MAX_ITERATIONS) throw refuse('asks for too many iterations');
  const key = macKey(digest, { salt, iterations, passphrase });
  try {
    const made = createHmac(digest[0], key).update(content).digest();
    if (made.length === stated.length && timingSafeEqual(made, stated)) return;
    throw new ClientError('passphrase_wrong');
  } finally {
    wipe(key);
  }
}

/** RFC 7292 appendix B.2, for as many bytes as the hash has: one turn of its outer loop. */
function macKey(
  [name, , block]: readonly [string, number, number],
  given: {
    readonly salt: Uint8Array;
    readonly iterations: number;
    readonly passphrase: Uint8Array;
  },
): Uint8Array {
  const password = bmpString(given.passphrase);
  const input = concatBytes(
    new Uint8Array(block).fill(MAC_KEY),
    filled(given.salt, block),
    filled(password, block),
  );
  try {
    let key: Uint8Array = hash(name, input, 'buffer');
    for (let turn = 1; turn < given.iterations; turn += 1) key = hash(name, key, 'buffer');
    return key;
  } finally {
    wipe(password, input);
  }
}

/** UTF-16, big-endian, with a zero at its end (appendix B.1). */
function bmpString(utf8: Uint8Array): Uint8Array {
  const text = Buffer.from(new TextDecoder().decode(utf8), 'utf16le').swap16();
  const whole = concatBytes(text, Uint8Array.of(0, 0));
  wipe(text);
  return whole;
}

/** As often as it takes to fill whole blocks. */
function filled(bytes: Uint8Array, block: number): Uint8Array {
  const length = block * Math.ceil(bytes.length / block);
  return Uint8Array.from({ length }, (_, at) => bytes[at % bytes.length] ?? 0);
}
