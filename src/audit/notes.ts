/**
 * Reading and verifying signed notes that hold checkpoints (C2SP signed-note, tlog-checkpoint,
 * tlog-cosignature). Strict: what is not canonical is no note.
 */
import { createPublicKey, verify } from 'node:crypto';
import type { Signatures } from '../crypto/engine.ts';
import { concatBytes, equalBytes } from '../crypto/bytes.ts';
import { cosignedBytes, keyIdOf } from './checkpoint-text.ts';

/** 0x01 Ed25519 of the log; 0x04 and 0x06 cosignatures with a time, Ed25519 and ML-DSA-44. */
export type NoteKeyType = 0x01 | 0x04 | 0x06;

export interface NoteKey {
  readonly name: string;
  /** 4 bytes. */
  readonly id: Uint8Array;
  readonly type: NoteKeyType;
  readonly publicKey: Uint8Array;
  /** The text that it was read from. */
  readonly vkey: string;
}

export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

export interface NoteSignature {
  readonly name: string;
  readonly id: Uint8Array;
  /** What follows the key id. */
  readonly bytes: Uint8Array;
  /** With its line end. */
  readonly line: string;
}

export interface CheckpointNote {
  /** The signed text, with its last line end. */
  readonly text: string;
  readonly checkpoint: Checkpoint;
  readonly signatures: readonly NoteSignature[];
}

const KEY_LENGTHS: Readonly<Record<number, number>> = { 0x01: 32, 0x04: 32, 0x06: 1312 };
const ROOT_LENGTH = 32;
const ID_LENGTH = 4;
const TIME_LENGTH = 8;
/** A note of ours has a line of each key and one of each witness; more is no work for us. */
const MAX_SIGNATURES = 64;
const MAX_NOTE = 1 << 18;
const NO_CONTEXT = new Uint8Array(0);

const fromBase64 = (text: string): Uint8Array | null => {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? Uint8Array.from(bytes) : null;
};

/** A name of a key or log: a URL without its schema; no spaces and no plus. */
export const isNoteName = (text: string): boolean =>
  text !== '' && !/[\s+\p{Cc}]/u.test(text) && Buffer.byteLength(text) <= 255;

/** Null for what is none of the three types, or not in its one form. */
export const parseVkey = (vkey: string): NoteKey | null => {
  const [, name = '', id = '', base64 = ''] = /^([^+]+)\+([0-9a-f]{8})\+(\S+)$/u.exec(vkey) ?? [];
  const bytes = fromBase64(base64);
  const type = bytes?.[0];
  if (bytes === null || type === undefined || !isNoteName(name)) return null;
  const publicKey = bytes.subarray(1);
  if (!(type === 0x01 || type === 0x04 || type === 0x06)) return null;
  if (publicKey.length !== KEY_LENGTHS[type]) return null;
  const expected = keyIdOf(name, type, publicKey);
  if (Buffer.from(expected).toString('hex') !== id) return null;
  return { name, id: expected, type, publicKey, vkey };
};

const parseSize = (text: string | undefined): number | null => {
  if (text === undefined || !/^(?:0|[1-9]\d{0,15})$/u.test(text)) return null;
  const size = Number(text);
  return Number.isSafeInteger(size) ? size : null;
};

const parseCheckpoint = (text: string): Checkpoint | null => {
  const [origin = '', sizeText, rootText = '', ...rest] = text.split('\n');
  const size = parseSize(sizeText);
  const root = fromBase64(rootText);
  // Extension lines are not empty, and each line ends.
  const ended = rest.length > 0 && rest.at(-1) === '' && !rest.slice(0, -1).includes('');
  if (!ended || size === null || root?.length !== ROOT_LENGTH) return null;
  return isNoteName(origin) ? { origin, size, root } : null;
};

const parseSignature = (text: string): NoteSignature | null => {
  const [, name = '', base64 = ''] = /^— (\S+) (\S+)$/u.exec(text) ?? [];
  const bytes = fromBase64(base64);
  if (bytes === null || bytes.length <= ID_LENGTH || !isNoteName(name)) return null;
  const id = bytes.subarray(0, ID_LENGTH);
  return { name, id, bytes: bytes.subarray(ID_LENGTH), line: `${text}\n` };
};

/** Null for what is no signed note of a checkpoint. */
export const parseNote = (note: string): CheckpointNote | null => {
  const end = note.lastIndexOf('\n\n');
  if (note.length > MAX_NOTE || end < 0 || !note.endsWith('\n')) return null;
  const text = note.slice(0, end + 1);
  const lines = note.slice(end + 2, -1).split('\n');
  if (lines.length > MAX_SIGNATURES) return null;
  const checkpoint = parseCheckpoint(text);
  const signatures = lines.map(parseSignature).filter((each) => each !== null);
  if (checkpoint === null || signatures.length !== lines.length) return null;
  return { text, checkpoint, signatures };
};

const verifyEd25519 = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array) => {
  const x = Buffer.from(publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, message, key, signature);
};

type Verifier = Pick<Signatures, 'verify'>;

/** Whether the line, which is of this key by name and id, is a signature by it. */
const isBy = async (
  engine: Verifier,
  { text, checkpoint }: CheckpointNote,
  key: NoteKey,
  { bytes }: NoteSignature,
): Promise<boolean> => {
  const { publicKey, name, type } = key;
  const body = Buffer.from(text, 'utf8');
  if (type === 0x01) return verifyEd25519(publicKey, body, bytes);
  if (bytes.length <= TIME_LENGTH) return false;
  const signature = bytes.subarray(TIME_LENGTH);
  const seconds = Buffer.from(bytes).readBigUInt64BE();
  if (type === 0x04) {
    const head = Buffer.from(`cosignature/v1\ntime ${String(seconds)}\n`, 'utf8');
    return verifyEd25519(publicKey, concatBytes(head, body), signature);
  }
  const message = cosignedBytes(name, seconds, checkpoint);
  return engine.verify('ML-DSA-44', publicKey, message, signature, NO_CONTEXT);
};

/** The keys of which the note has a signature, each with its line. Lines of other keys mean nothing. */
export const signersOf = async (
  engine: Verifier,
  note: CheckpointNote,
  keys: readonly NoteKey[],
): Promise<readonly { readonly key: NoteKey; readonly line: string }[]> => {
  const found: { readonly key: NoteKey; readonly line: string }[] = [];
  for (const key of keys) {
    const signature = note.signatures.find(
      ({ name, id }) => name === key.name && equalBytes(id, key.id),
    );
    if (signature === undefined) continue;
    if (await isBy(engine, note, key, signature)) found.push({ key, line: signature.line });
  }
  return found;
};
