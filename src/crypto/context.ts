/**
 * The canonical context: one encoding of `encryptionContext` and `aad`, bound to every wrap.
 *
 *     context = u16 number of pairs
 *               ‖ for each pair, sorted by the UTF-8 bytes of its name:
 *                   u16 length ‖ name ‖ u16 length ‖ value        (both UTF-8)
 *               ‖ u32 length ‖ aad
 *
 * All integers are big-endian. Every field is length-prefixed, so two different inputs never have
 * the same encoding. Absent `encryptionContext` is no pairs, absent `aad` is empty. There is no
 * Unicode normalisation; a string with a lone surrogate has no UTF-8 form and is refused.
 */
import { TwofoldError } from '../errors.ts';

export const MAX_CONTEXT_PAIRS = 16;
/** Names and values together, UTF-8 bytes. */
export const MAX_CONTEXT_BYTES = 4096;

/** What a wrap is bound to; neither is secret. */
export interface WrapContext {
  readonly encryptionContext?: Readonly<Record<string, string>>;
  readonly aad?: Uint8Array;
}

/** No pairs, no aad: what most wraps are bound to. */
const NO_CONTEXT = new Uint8Array(6);
const NO_BYTES = new Uint8Array(0);

interface Pair {
  /** UTF-8. */
  readonly name: Uint8Array;
  readonly value: string;
  /** Bytes of it in UTF-8. */
  readonly length: number;
}

function pairOf(name: string, value: string): Pair {
  if (name === '') throw new TwofoldError('invalid_value', 'encryptionContext has an empty name.');
  if (!name.isWellFormed() || !value.isWellFormed()) {
    throw new TwofoldError('invalid_value', 'encryptionContext holds a lone surrogate.');
  }
  return { name: Buffer.from(name, 'utf8'), value, length: Buffer.byteLength(value, 'utf8') };
}

/**
 * The bytes above, which nobody may change.
 * @throws TwofoldError invalid_value over 16 pairs or 4 KiB, for an empty name or a lone surrogate
 */
export function canonicalContext(context: WrapContext): Uint8Array {
  const { encryptionContext = {}, aad: associated = NO_BYTES } = context;
  const names = Object.keys(encryptionContext);
  if (names.length === 0 && associated.length === 0) return NO_CONTEXT;
  const pairs = names.map((name) => pairOf(name, encryptionContext[name] ?? ''));
  if (pairs.length > MAX_CONTEXT_PAIRS) {
    throw new TwofoldError('invalid_value', 'encryptionContext has more than 16 pairs.');
  }
  const size = pairs.reduce((sum, { name, length }) => sum + name.length + length, 0);
  if (size > MAX_CONTEXT_BYTES) {
    throw new TwofoldError('invalid_value', 'encryptionContext is longer than 4096 bytes.');
  }
  pairs.sort((a, b) => Buffer.compare(a.name, b.name));
  // Each use of a key makes one: written in one piece.
  const bytes = Buffer.alloc(NO_CONTEXT.length + pairs.length * 4 + size + associated.length);
  let at = bytes.writeUInt16BE(pairs.length);
  for (const { name, value, length } of pairs) {
    at = bytes.writeUInt16BE(name.length, at);
    bytes.set(name, at);
    at = bytes.writeUInt16BE(length, at + name.length);
    at += bytes.write(value, at, 'utf8');
  }
  bytes.set(associated, bytes.writeUInt32BE(associated.length, at));
  return bytes;
}
