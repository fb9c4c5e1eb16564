/**
 * Deterministic CBOR (RFC 8949 section 4.2.1): the canonical bytes of row MACs and audit entries.
 *
 * Taken: integers from -2^64 to 2^64 - 1 (number or bigint), byte and text strings, arrays, maps
 * with text or integer keys, true, false, null. Not taken: floats, tags, undefined, indefinite
 * lengths. Lengths and integers are in their shortest form; map keys are sorted bytewise by their
 * encoding; duplicate keys are refused.
 */
export type CborKey = string | number | bigint;

/** What the decoder gives: integers as number where safe, else bigint; maps as Map. */
export type CborDecoded =
  | number
  | bigint
  | string
  | boolean
  | null
  | Uint8Array
  | CborDecoded[]
  | Map<CborKey, CborDecoded>;

/** What the encoder takes: also plain objects, as maps with text keys (undefined is refused). */
export type CborValue =
  | number
  | bigint
  | string
  | boolean
  | null
  | Uint8Array
  | readonly CborValue[]
  | ReadonlyMap<CborKey, CborValue>
  | { readonly [name: string]: CborValue };

/** @throws TypeError for a value outside the model above (a programming error) */
export function encodeCbor(_value: CborValue): Uint8Array {
  throw new Error('not built yet');
}

/**
 * Exactly one item, in exactly the form that `encodeCbor` writes.
 * @throws TwofoldError integrity_failed for anything else
 */
export function decodeCbor(_bytes: Uint8Array): CborDecoded {
  throw new Error('not built yet');
}
