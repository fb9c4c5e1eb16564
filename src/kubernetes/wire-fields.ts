/** Fields of a message of Protocol Buffers, as they come; lengths are checked before anything is read. */
import { TwofoldError } from '../errors.ts';

export interface WireField {
  readonly number: number;
  /** Of a length-delimited field, a view; else null. */
  readonly bytes: Uint8Array | null;
  /** Of a varint, above 2^53 only nearly; else null. */
  readonly integer: number | null;
}

const VARINT = 0;
const LENGTH = 2;
/** Of 64 bits in groups of seven. */
const MOST_GROUPS = 10;

const broken = () =>
  new TwofoldError('invalid_value', 'The value is not a message of Protocol Buffers.');

/** @throws TwofoldError invalid_value, at the field that is broken, of another wire type, or past the end */
export function* readFields(bytes: Uint8Array): Generator<WireField> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let group = 0; group < MOST_GROUPS; group += 1) {
      const byte = bytes[at];
      if (byte === undefined) throw broken();
      at += 1;
      value += (byte & 0x7f) * 2 ** (7 * group);
      if (byte < 0x80) return value;
    }
    throw broken();
  };
  while (at < bytes.length) {
    const tag = varint();
    const [number, type] = [Math.floor(tag / 8), tag % 8];
    if (number === 0) throw broken();
    if (type === VARINT) yield { number, bytes: null, integer: varint() };
    else if (type === LENGTH) {
      const length = varint();
      if (length > bytes.length - at) throw broken();
      yield { number, bytes: bytes.subarray(at, at + length), integer: null };
      at += length;
    } else throw broken();
  }
}
