/**
 * The first members of an entry, which are the same in every version: version, lane, n, previous. Read
 * by themselves, since the sequencer takes whatever else an entry says, also of a version that is newer
 * than it.
 */
import { LEAF_BYTES } from './entry.ts';

export interface EntryPlace {
  readonly version: number;
  readonly lane: number;
  readonly n: number;
  /** Leaf hash of the lane's entry before: 32 bytes. */
  readonly previous: Uint8Array;
}

/** Null for what is not the beginning of an entry. */
export function placeOf(body: Uint8Array): EntryPlace | null {
  const [initial = 0] = body;
  // An array with less than 24 members, or of as many as one or two bytes say (RFC 8949 section 3).
  const header = ARRAY_HEADERS.get(initial) ?? (initial >= 0x84 && initial <= 0x97 ? 1 : null);
  if (header === null) return null;
  const version = unsigned(body, header);
  const lane = version === null ? null : unsigned(body, version.end);
  const n = lane === null ? null : unsigned(body, lane.end);
  if (version === null || lane === null || n === null) return null;
  const start = n.end + BYTES_32.length;
  if (!BYTES_32.every((byte, at) => body[n.end + at] === byte)) return null;
  if (body.length < start + LEAF_BYTES) return null;
  const previous = body.subarray(start, start + LEAF_BYTES);
  return { version: version.value, lane: lane.value, n: n.value, previous };
}

const ARRAY_HEADERS: ReadonlyMap<number, number> = new Map([
  [0x98, 2],
  [0x99, 3],
]);

/** Header of a byte string of 32 bytes. */
const BYTES_32 = [0x58, 0x20];

interface Unsigned {
  readonly value: number;
  readonly end: number;
}

/** How many bytes of value follow the initial byte 24 to 27. */
const LONGER = [1, 2, 4, 8];

/** An unsigned integer in its shortest form, up to 2^53 - 1; null for anything else. */
function unsigned(body: Uint8Array, at: number): Unsigned | null {
  const initial = body[at];
  if (initial === undefined || initial > 27) return null;
  if (initial < 24) return { value: initial, end: at + 1 };
  const length = LONGER[initial - 24] ?? 0;
  let value = 0;
  for (let position = 1; position <= length; position += 1) {
    const byte = body[at + position];
    if (byte === undefined) return null;
    value = value * 256 + byte;
  }
  const shortest = value >= (length === 1 ? 24 : 256 ** (length / 2));
  return shortest && Number.isSafeInteger(value) ? { value, end: at + 1 + length } : null;
}
