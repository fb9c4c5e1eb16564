/** C2SP tlog-checkpoint: origin, size and root, without extension lines. */
import { decodeBase64, encodeBase64 } from '../../crypto/base64.ts';
import { TwofoldError } from '../../errors.ts';
import { HASH_BYTES, requireSize } from './hashes.ts';
import { isKeyName, parseNote } from './note.ts';
import type { Note } from './note.ts';

export interface Checkpoint {
  /** The log's name, also that of its keys: not empty, no white space, no plus. */
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
}

const refuse = (why: string): TwofoldError =>
  new TwofoldError('invalid_value', `This is no checkpoint: ${why}.`);

/** Decimal, no leading zero, at most 2^53 - 1; null for anything else. */
export function parseDecimal(text: string): number | null {
  const number = /^(?:0|[1-9]\d{0,15})$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(number) ? number : null;
}

/** The text of the note: `<origin>\n<size>\n<base64 root>\n`. */
export function formatCheckpoint({ origin, size, root }: Checkpoint): string {
  requireSize(size);
  if (!isKeyName(origin)) throw refuse('the origin is empty or holds spaces or a plus');
  if (root.length !== HASH_BYTES) throw refuse('the root is no SHA-256 hash');
  return `${origin}\n${size}\n${encodeBase64(root)}\n`;
}

/**
 * @param text of a note, not the whole note
 * @throws TwofoldError `invalid_value` or `invalid_base64` for anything that `formatCheckpoint` does not write
 */
export function parseCheckpoint(text: string): Checkpoint {
  const lines = text.split('\n');
  const [origin = '', decimal = '', encoded = '', end] = lines;
  const size = parseDecimal(decimal);
  if (lines.length !== 4 || end !== '') throw refuse('it has not three lines');
  if (!isKeyName(origin)) throw refuse('the origin is empty or holds spaces or a plus');
  if (size === null) throw refuse('the size is no number');
  const root = decodeBase64(encoded, 'The root of a checkpoint');
  if (root.length !== HASH_BYTES) throw refuse('the root is no SHA-256 hash');
  return { origin, size, root };
}

export interface SignedCheckpoint extends Checkpoint {
  readonly note: Note;
}

/**
 * Reads, does not verify.
 * @throws as `parseNote` and `parseCheckpoint`
 */
export function parseSignedCheckpoint(signed: string): SignedCheckpoint {
  const note = parseNote(signed);
  return { ...parseCheckpoint(note.text), note };
}
