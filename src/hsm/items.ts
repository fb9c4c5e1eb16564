/**
 * Many byte strings as one, so that a call of many items is one frame with one input and one result:
 *
 *     (length u32 ‖ bytes)*        a length of 2^32 - 1 stands for none
 *
 * Integers are little-endian: both ends are one process. An item of `encrypt` is plaintext and aad, of
 * `decrypt` IV, ciphertext and aad; results are IV and ciphertext, and plaintext or none.
 */
export type Part = Uint8Array | undefined;

const LENGTH_BYTES = 4;
const NONE = 0xffff_ffff;

/** In memory of its own, to be wiped as a whole. */
export function joinParts(parts: readonly Part[]): Uint8Array {
  let total = 0;
  for (const part of parts) total += LENGTH_BYTES + (part?.length ?? 0);
  const joined = Buffer.allocUnsafeSlow(total);
  let at = 0;
  for (const part of parts) {
    at = joined.writeUInt32LE(part?.length ?? NONE, at);
    if (part === undefined) continue;
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Views of `joined`. @throws Error when a length is not that of its part */
export function splitParts(joined: Uint8Array): (Buffer | undefined)[] {
  const bytes = Buffer.from(joined.buffer, joined.byteOffset, joined.byteLength);
  const parts: (Buffer | undefined)[] = [];
  let at = 0;
  while (at < bytes.length) {
    const length = bytes.readUInt32LE(at);
    at += LENGTH_BYTES;
    if (length === NONE) {
      parts.push(undefined);
      continue;
    }
    if (length > bytes.length - at) throw malformed();
    parts.push(bytes.subarray(at, at + length));
    at += length;
  }
  return parts;
}

/** The parts of each item, `width` of them, as far as they are there. */
export function itemsOf<P>(parts: readonly P[], width: number): P[][] {
  if (parts.length % width !== 0) throw malformed();
  return Array.from({ length: parts.length / width }, (_, index) =>
    parts.slice(index * width, (index + 1) * width),
  );
}

/** A worker is held for no more than a few milliseconds by one call. */
const CHUNK = { items: 50, bytes: 16_384 } as const;

/** Even shares, in order, of few items and bytes each; an item that is too long is alone. */
export function chunksOf<T>(items: readonly T[], bytesOf: (item: T) => number): T[][] {
  const most = Math.ceil(items.length / Math.ceil(items.length / CHUNK.items));
  const chunks: T[][] = [];
  let chunk: T[] = [];
  let bytes = 0;
  for (const item of items) {
    const size = bytesOf(item);
    if (chunk.length === most || (chunk.length > 0 && bytes + size > CHUNK.bytes)) {
      chunks.push(chunk);
      chunk = [];
      bytes = 0;
    }
    chunk.push(item);
    bytes += size;
  }
  if (chunk.length > 0) chunks.push(chunk);
  return chunks;
}

function malformed(): Error {
  return new Error('the items of a call between the threads are malformed');
}
