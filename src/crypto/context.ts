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
import { concatBytes, lengthPrefixed, uint16, uint32, utf8 } from './bytes.ts';

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

interface EncodedPair {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

function encodePair(name: string, value: string): EncodedPair {
  if (name === '') throw new TwofoldError('invalid_value', 'encryptionContext has an empty name.');
  if (!name.isWellFormed() || !value.isWellFormed()) {
    throw new TwofoldError('invalid_value', 'encryptionContext holds a lone surrogate.');
  }
  return { name: utf8(name), value: utf8(value) };
}

/**
 * The bytes above, which nobody may change.
 * @throws TwofoldError invalid_value over 16 pairs or 4 KiB, for an empty name or a lone surrogate
 */
export function canonicalContext(context: WrapContext): Uint8Array {
  const { encryptionContext = {}, aad: associated = NO_BYTES } = context;
  const names = Object.keys(encryptionContext);
  if (names.length === 0 && associated.length === 0) return NO_CONTEXT;
  const pairs = names.map((name) => encodePair(name, encryptionContext[name] ?? ''));
  if (pairs.length > MAX_CONTEXT_PAIRS) {
    throw new TwofoldError('invalid_value', 'encryptionContext has more than 16 pairs.');
  }
  const size = pairs.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
  if (size > MAX_CONTEXT_BYTES) {
    throw new TwofoldError('invalid_value', 'encryptionContext is longer than 4096 bytes.');
  }
  pairs.sort((a, b) => Buffer.compare(a.name, b.name));
  return concatBytes(
    uint16(pairs.length),
    ...pairs.flatMap(({ name, value }) => [lengthPrefixed(name), lengthPrefixed(value)]),
    uint32(associated.length),
    associated,
  );
}
