/** C2SP signed-note: a text, an empty line, and signature lines. Read and written only in its one form. */
import { decodeBase64, encodeBase64 } from '../../crypto/base64.ts';
import { concatBytes } from '../../crypto/bytes.ts';
import { TwofoldError } from '../../errors.ts';

export const KEY_ID_BYTES = 4;
/** C2SP wants at least 16 to be taken; a post-quantum one has up to 5 kB. */
export const MAX_SIGNATURES = 64;
export const MAX_NOTE_CHARACTERS = 512 * 1024;

/** `— <name> base64(key id ‖ signature)`. */
export interface NoteSignature {
  readonly name: string;
  /** 8 lower-case hexadecimal digits. */
  readonly keyId: string;
  readonly signature: Uint8Array;
}

export interface Note {
  /** Ends with a line feed; what is signed. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

const refuse = (why: string): TwofoldError =>
  new TwofoldError('invalid_value', `This is no C2SP signed note: ${why}.`);

/** Not empty, no white space (of Unicode), no plus. */
export const isKeyName = (name: string): boolean =>
  name !== '' && name.isWellFormed() && !/[\s\u0085+\u0000-\u001f]/u.test(name);

/**
 * The text is up to the last empty line.
 * @throws TwofoldError `invalid_value` for anything that `formatNote` does not write
 */
export function parseNote(note: string): Note {
  if (note.length > MAX_NOTE_CHARACTERS) throw refuse('it is too long');
  requireText(note);
  const gap = note.lastIndexOf('\n\n');
  if (gap <= 0) throw refuse('it has no text');
  return {
    text: note.slice(0, gap + 1),
    signatures: parseSignatureLines(note.slice(gap + 2)),
  };
}

/**
 * Lines of signatures alone, as a witness answers them.
 * @throws TwofoldError `invalid_value`
 */
export function parseSignatureLines(lines: string): readonly NoteSignature[] {
  if (lines.length > MAX_NOTE_CHARACTERS) throw refuse('it is too long');
  if (!lines.endsWith('\n')) throw refuse('its last line does not end');
  const each = lines.slice(0, -1).split('\n');
  if (each.length > MAX_SIGNATURES) throw refuse('it has too many signatures');
  return each.map(parseSignatureLine);
}

const SIGNATURE_LINE = /^— (\S+) (\S+)$/u;

function parseSignatureLine(line: string): NoteSignature {
  const [, name = '', encoded = ''] = SIGNATURE_LINE.exec(line) ?? [];
  if (!isKeyName(name)) throw refuse('a signature line is malformed');
  const blob = decodeBase64(encoded, 'A signature of a note');
  if (blob.length <= KEY_ID_BYTES) throw refuse('a signature is too short');
  return {
    name,
    keyId: Buffer.from(blob.subarray(0, KEY_ID_BYTES)).toString('hex'),
    signature: blob.subarray(KEY_ID_BYTES),
  };
}

/** With its line feed. */
export function formatSignature({ name, keyId, signature }: NoteSignature): string {
  if (!isKeyName(name) || !/^[0-9a-f]{8}$/.test(keyId)) throw refuse('name or key id');
  return `— ${name} ${encodeBase64(concatBytes(Buffer.from(keyId, 'hex'), signature))}\n`;
}

/** @throws TwofoldError `invalid_value` when there is no such note */
export function formatNote({ text, signatures }: Note): string {
  if (!text.endsWith('\n') || signatures.length === 0) throw refuse('text or signatures');
  requireText(text);
  return `${text}\n${signatures.map(formatSignature).join('')}`;
}

function requireText(text: string): void {
  if (!text.isWellFormed() || /[\u0000-\u0009\u000b-\u001f]/.test(text)) {
    throw refuse('it holds control characters or is no UTF-8');
  }
}
