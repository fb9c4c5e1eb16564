/**
 * Signatures of notes: Ed25519 of a log (type 0x01) and the cosignatures with a time (0x04, 0x06) of
 * C2SP tlog-cosignature. Who signs gives a function, so that the key may stay in an HSM.
 */
import { createPublicKey, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { concatBytes, utf8 } from '../../crypto/bytes.ts';
import { TwofoldError } from '../../errors.ts';
import { parseCheckpoint } from './checkpoint.ts';
import type { Note, NoteSignature } from './note.ts';
import { SIGNATURE_TYPE } from './vkey.ts';
import type { SignatureType, Vkey } from './vkey.ts';

/** Raw signature of these bytes: Ed25519 64 (RFC 8032), ML-DSA-44 2,420 with an empty context (FIPS 204). */
export type SignFunction = (message: Uint8Array) => Uint8Array | Promise<Uint8Array>;

const SIGNATURE_BYTES: Readonly<Record<SignatureType, number>> = {
  [SIGNATURE_TYPE.ed25519]: 64,
  [SIGNATURE_TYPE.ed25519Cosignature]: 64,
  [SIGNATURE_TYPE.mlDsa44Cosignature]: 2420,
};
const TIME_BYTES = 8;

/**
 * @param text of the note; of a checkpoint for a cosignature
 * @param seconds POSIX time of a cosignature; type 0x01 has none
 * @throws TwofoldError `internal` for a signature of another length, and whatever `sign` throws
 */
export async function signText(
  text: string,
  vkey: Vkey,
  seconds: number,
  sign: SignFunction,
): Promise<NoteSignature> {
  const { name, keyId, type } = vkey;
  if (!Number.isSafeInteger(seconds) || seconds < 0) throw new RangeError('no POSIX time');
  const signature = await sign(signedMessage(text, vkey, seconds));
  if (signature.length !== SIGNATURE_BYTES[type]) {
    throw new TwofoldError('internal', undefined, {
      cause: new TypeError('a signature of this type has another length'),
    });
  }
  if (type === SIGNATURE_TYPE.ed25519) return { name, keyId, signature };
  return { name, keyId, signature: concatBytes(uint64(seconds), signature) };
}

/** The bytes that a key of this type signs. */
export function signedMessage(text: string, { name, type }: Vkey, seconds: number): Uint8Array {
  switch (type) {
    case SIGNATURE_TYPE.ed25519:
      return utf8(text);
    case SIGNATURE_TYPE.ed25519Cosignature:
      return utf8(`cosignature/v1\ntime ${seconds}\n${text}`);
    case SIGNATURE_TYPE.mlDsa44Cosignature: {
      const { origin, size, root } = parseCheckpoint(text);
      const wholeTree = [uint64(0), uint64(size)];
      return concatBytes(
        utf8('subtree/v1\n\0'),
        opaque8(name),
        uint64(seconds),
        opaque8(origin),
        ...wholeTree,
        root,
      );
    }
  }
}

/** A signature that verified. */
export interface Verified {
  readonly vkey: Vkey;
  /** POSIX seconds of a cosignature, null for a signature of type 0x01. */
  readonly seconds: number | null;
}

/**
 * What a note's signatures are worth under these keys; lines of other keys are not looked at.
 * C2SP: whoever finds one in `failed` rejects the whole note.
 */
export function verifyNote(
  note: Note,
  vkeys: readonly Vkey[],
): { readonly verified: readonly Verified[]; readonly failed: readonly Vkey[] } {
  const verified: Verified[] = [];
  const failed: Vkey[] = [];
  for (const signature of note.signatures) {
    const vkey = vkeys.find(
      ({ name, keyId }) => name === signature.name && keyId === signature.keyId,
    );
    if (vkey === undefined) continue;
    const result = verifySignature(note.text, signature, vkey);
    if (result === null) failed.push(vkey);
    else if (!verified.some((other) => other.vkey === vkey)) verified.push(result);
  }
  return { verified, failed };
}

/** Null when the signature is not one of this key on this text. */
export function verifySignature(
  text: string,
  { name, keyId, signature }: NoteSignature,
  vkey: Vkey,
): Verified | null {
  if (name !== vkey.name || keyId !== vkey.keyId) return null;
  const timed = vkey.type !== SIGNATURE_TYPE.ed25519;
  const start = timed ? TIME_BYTES : 0;
  if (signature.length !== start + SIGNATURE_BYTES[vkey.type]) return null;
  const seconds = timed ? readTime(signature) : 0;
  const message = seconds === null ? null : messageOf(text, vkey, seconds);
  if (message === null || !verify(null, message, keyObject(vkey), signature.subarray(start))) {
    return null;
  }
  return { vkey, seconds: timed ? seconds : null };
}

/** Whether it is a signature of this key on bytes that are no note: 64 bytes of Ed25519, 2,420 of ML-DSA-44. */
export const verifyBytes = (message: Uint8Array, signature: Uint8Array, vkey: Vkey): boolean =>
  signature.length === SIGNATURE_BYTES[vkey.type] &&
  verify(null, message, keyObject(vkey), signature);

/** Null for a text that this type does not sign. */
function messageOf(text: string, vkey: Vkey, seconds: number): Uint8Array | null {
  try {
    return signedMessage(text, vkey, seconds);
  } catch (error) {
    if (error instanceof TwofoldError) return null;
    throw error;
  }
}

function readTime(signature: Uint8Array): number | null {
  const view = new DataView(signature.buffer, signature.byteOffset, signature.byteLength);
  const seconds = Number(view.getBigUint64(0));
  return Number.isSafeInteger(seconds) ? seconds : null;
}

function uint64(number: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
  return bytes;
}

/** TLS presentation language (RFC 8446 section 3.4): opaque<1..2^8-1>. */
function opaque8(text: string): Uint8Array {
  const bytes = utf8(text);
  if (bytes.length < 1 || bytes.length > 0xff) {
    throw new TwofoldError('invalid_value', 'A name in a cosignature has 1 to 255 bytes.');
  }
  return concatBytes(Uint8Array.of(bytes.length), bytes);
}

/** SubjectPublicKeyInfo up to the raw key (RFC 8410; RFC 9881 for ML-DSA-44). */
const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex');
const ML_DSA_44_SPKI = Buffer.from('30820532300b06096086480165030403110382052100', 'hex');

const keyObjects = new WeakMap<Vkey, KeyObject>();

function keyObject(vkey: Vkey): KeyObject {
  const known = keyObjects.get(vkey);
  if (known !== undefined) return known;
  const prefix = vkey.type === SIGNATURE_TYPE.mlDsa44Cosignature ? ML_DSA_44_SPKI : ED25519_SPKI;
  const der = Buffer.from(concatBytes(prefix, vkey.publicKey));
  const made = createPublicKey({ key: der, format: 'der', type: 'spki' });
  keyObjects.set(vkey, made);
  return made;
}
