/** Checkpoints of logs as signed notes, and whose signatures they have: null or nothing in place of errors. */
import { TwofoldError } from '../errors.ts';
import { parseSignedCheckpoint } from './tree/checkpoint.ts';
import type { Checkpoint } from './tree/checkpoint.ts';
import { formatSignature, isKeyName } from './tree/note.ts';
import type { Note } from './tree/note.ts';
import { verifyNote } from './tree/signatures.ts';
import { parseVkey as parse } from './tree/vkey.ts';
import type { Vkey } from './tree/vkey.ts';

export type { Checkpoint } from './tree/checkpoint.ts';
export type { Vkey } from './tree/vkey.ts';
export { SIGNATURE_TYPE } from './tree/vkey.ts';

export interface CheckpointNote {
  readonly checkpoint: Checkpoint;
  /** Its `text` is what is signed. */
  readonly note: Note;
}

const orNull = <T>(read: () => T): T | null => {
  try {
    return read();
  } catch (error) {
    if (TwofoldError.is(error)) return null;
    throw error;
  }
};

/** A cosignature states it behind one byte (C2SP tlog-cosignature). */
const MAX_NAME_BYTES = 255;

/** A name of a key or log: a URL without its schema; no spaces and no plus. */
export const isNoteName = (text: string): boolean =>
  isKeyName(text) && Buffer.byteLength(text) <= MAX_NAME_BYTES;

/** Null for what is no vkey in its one form. */
export const parseVkey = (vkey: string): Vkey | null => {
  const parsed = orNull(() => parse(vkey));
  return parsed !== null && isNoteName(parsed.name) ? parsed : null;
};

/** Null for what is no signed note of a checkpoint without extension lines. */
export const parseNote = (text: string): CheckpointNote | null => {
  const signed = orNull(() => parseSignedCheckpoint(text));
  if (signed === null || !isNoteName(signed.origin)) return null;
  const { note, ...checkpoint } = signed;
  return { note, checkpoint };
};

/**
 * The keys of which the note has a signature, each with its line. Lines of other keys mean nothing; one
 * line of these keys that does not verify, and the note has none (C2SP signed-note).
 */
export const signersOf = (
  { note }: CheckpointNote,
  keys: readonly Vkey[],
): readonly { readonly key: Vkey; readonly line: string }[] => {
  const { verified, failed } = verifyNote(note, keys);
  if (failed.length > 0) return [];
  return verified.flatMap(({ vkey: key }) => {
    const { name, keyId } = key;
    const line = note.signatures.find((each) => each.name === name && each.keyId === keyId);
    return line === undefined ? [] : [{ key, line: formatSignature(line) }];
  });
};
