/**
 * Reads of an entry's bytes (versions 1 and 2, `docs/audit-log.md`) what verifying needs, and checks the
 * form of the rest, without making objects: a million entries are a million calls. It shares nothing
 * with the service's own reader.
 */

/** Not the canonical bytes of an entry of a known version. */
export class MalformedEntry extends Error {}

const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const SIMPLE = 7;
const FALSE = 20;
const TRUE = 21;
const NULL = 22;

/** Major types that a position may have, one bit each; `SIMPLE` stands for null alone. */
const one = (...majors: readonly number[]): number => majors.reduce((all, m) => all | (1 << m), 0);
const text = one(TEXT);
const textOrNull = one(TEXT, SIMPLE);
const bytesOrNull = one(BYTES, SIMPLE);
const unsigned = one(UNSIGNED);
const unsignedOrNull = one(UNSIGNED, SIMPLE);

/** By position; 0 is the version. */
const FORMS: readonly number[] = [
  unsigned,
  unsigned,
  unsigned,
  one(BYTES),
  unsigned,
  unsigned,
  text,
  one(BYTES),
  text,
  one(ARRAY),
  text,
  text,
  textOrNull,
  bytesOrNull,
  unsignedOrNull,
  unsignedOrNull,
  text,
  one(ARRAY, SIMPLE),
  text,
  one(ARRAY),
  bytesOrNull,
  one(ARRAY),
  one(MAP),
  one(ARRAY),
  one(ARRAY, SIMPLE),
  textOrNull,
  bytesOrNull,
  bytesOrNull,
  textOrNull,
  textOrNull,
  unsignedOrNull,
  one(MAP),
  bytesOrNull,
];
/** Lengths of byte strings, by position. */
const LENGTHS: Readonly<Record<number, number>> = {
  3: 32,
  7: 16,
  13: 16,
  20: 32,
  26: 16,
  27: 16,
  32: 32,
};
const BYTE_LENGTHS: readonly number[] = FORMS.map((_, position) => LENGTHS[position] ?? -1);
/** Members of each version. */
const MEMBERS: readonly number[] = [-1, 23, 33];
const MAX_DEPTH = 8;

const decoder = new TextDecoder('utf-8', { fatal: true });

/** One for many entries: what it holds is of the last that was read. */
export class EntryView {
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;
  #major = 0;
  #argument = 0;
  readonly #starts = new Int32Array(FORMS.length);
  readonly #sizes = new Float64Array(FORMS.length);

  lane = 0;
  n = 0;
  epoch = 0;
  /** Null for an entry about no key or no version of one. */
  keyVersion: number | null = null;

  /**
   * @param bytes of a bundle, in which the entry stands from `start` to before `end`
   * @throws MalformedEntry
   */
  read(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#head();
    const members = this.#argument;
    const version = this.#at < end ? (bytes[this.#at] ?? 0) : 0;
    if (this.#major !== ARRAY || MEMBERS[version] !== members)
      throw new MalformedEntry('version or number of members');
    for (let position = 0; position < members; position += 1) this.#member(position);
    if (this.#at !== end) throw new MalformedEntry('bytes after the entry');
    this.lane = this.#sizes[1] ?? 0;
    this.n = this.#sizes[2] ?? 0;
    this.epoch = this.#sizes[4] ?? 0;
    const keyVersion = this.#sizes[14] ?? -1;
    this.keyVersion = keyVersion < 0 ? null : keyVersion;
  }

  /** A view, of the 32 bytes of position 3. */
  get previous(): Uint8Array {
    return this.#slice(3);
  }

  /** 16 bytes in hexadecimal. */
  get instance(): string {
    return hex(this.#slice(7));
  }

  get namespace(): string {
    return this.#text(11);
  }

  get outcome(): string {
    return this.#text(16);
  }

  /** 16 bytes in hexadecimal; null for an entry about no key. */
  get keyId(): string | null {
    return (this.#sizes[13] ?? -1) < 0 ? null : hex(this.#slice(13));
  }

  get operation(): string {
    return this.#text(10);
  }

  /** Whether it may say something of a key's rows, of the log's own keys or of a lane. */
  get tells(): boolean {
    return (this.#sizes[22] ?? 0) > 0 && this.#isOk();
  }

  /** @throws MalformedEntry */
  detail(): ReadonlyMap<string, string | number | boolean | null> {
    this.#at = this.#starts[22] ?? 0;
    const pairs = this.#sizes[22] ?? 0;
    const detail = new Map<string, string | number | boolean | null>();
    for (let pair = 0; pair < pairs; pair += 1) {
      const name = this.#plain();
      if (typeof name !== 'string' || detail.has(name)) throw new MalformedEntry('detail');
      detail.set(name, this.#plain());
    }
    return detail;
  }

  #isOk(): boolean {
    const start = this.#starts[16] ?? 0;
    return this.#sizes[16] === 2 && this.#bytes[start] === 0x6f && this.#bytes[start + 1] === 0x6b;
  }

  #slice(position: number): Uint8Array {
    const start = this.#starts[position] ?? 0;
    return this.#bytes.subarray(start, start + (this.#sizes[position] ?? 0));
  }

  #text(position: number): string {
    return asText(this.#slice(position));
  }

  /** Where its content starts, and its argument: a length, a count or the number itself; -1 for null. */
  #member(position: number): void {
    this.#head();
    const major = this.#major;
    if (((FORMS[position] ?? 0) & (1 << major)) === 0)
      throw new MalformedEntry(`member ${position}`);
    this.#starts[position] = this.#at;
    this.#sizes[position] = major === SIMPLE ? -1 : this.#argument;
    if (major === SIMPLE) {
      if (this.#argument !== NULL) throw new MalformedEntry(`member ${position}`);
    } else if (major === BYTES || major === TEXT) {
      const length = BYTE_LENGTHS[position] ?? -1;
      if (length >= 0 && this.#argument !== length) throw new MalformedEntry(`member ${position}`);
      this.#skipBytes();
    } else if (major === ARRAY) {
      for (let left = this.#argument; left > 0; left -= 1) this.#skip(1);
    } else if (major === MAP) {
      this.#map(this.#argument);
    }
  }

  /** RFC 8949 section 4.2.1: by the bytes of the encoded keys, each once. */
  #map(pairs: number): void {
    let [before, beforeEnd] = [0, 0];
    for (let left = pairs; left > 0; left -= 1) {
      const start = this.#at;
      this.#skip(1);
      const end = this.#at;
      if (left < pairs && !this.#isBefore(before, beforeEnd, start, end))
        throw new MalformedEntry('the order of a map');
      [before, beforeEnd] = [start, end];
      this.#skip(1);
    }
  }

  #isBefore(a: number, aEnd: number, b: number, bEnd: number): boolean {
    for (let at = 0; a + at < aEnd && b + at < bEnd; at += 1) {
      const difference = (this.#bytes[a + at] ?? 0) - (this.#bytes[b + at] ?? 0);
      if (difference !== 0) return difference < 0;
    }
    return aEnd - a < bEnd - b;
  }

  #skip(depth: number): void {
    this.#head();
    const major = this.#major;
    if (major === BYTES || major === TEXT) {
      this.#skipBytes();
    } else if (major === ARRAY || major === MAP) {
      if (depth === MAX_DEPTH) throw new MalformedEntry('depth');
      const items = major === ARRAY ? this.#argument : 2 * this.#argument;
      for (let left = items; left > 0; left -= 1) this.#skip(depth + 1);
    } else if (major === SIMPLE && (this.#argument < FALSE || this.#argument > NULL)) {
      throw new MalformedEntry('a simple value');
    }
  }

  #skipBytes(): void {
    this.#at += this.#argument;
    if (this.#at > this.#end) throw new MalformedEntry('it ends early');
  }

  /** RFC 8949 section 3: the initial byte and its argument, in the shortest form alone. */
  #head(): void {
    if (this.#at >= this.#end) throw new MalformedEntry('it ends early');
    const initial = this.#bytes[this.#at] ?? 0;
    this.#at += 1;
    this.#major = initial >> 5;
    const low = initial & 0x1f;
    if (this.#major === 6) throw new MalformedEntry('a tag');
    this.#argument = low < 24 ? low : this.#longArgument(low);
  }

  #longArgument(low: number): number {
    if (low > 27 || this.#major === SIMPLE) throw new MalformedEntry('an initial byte');
    const width = 1 << (low - 24);
    if (this.#at + width > this.#end) throw new MalformedEntry('it ends early');
    let argument = 0;
    for (let left = width; left > 0; left -= 1) {
      argument = argument * 256 + (this.#bytes[this.#at] ?? 0);
      this.#at += 1;
    }
    const least = width === 1 ? 24 : 2 ** (4 * width);
    if (argument < least || !Number.isSafeInteger(argument)) throw new MalformedEntry('a number');
    return argument;
  }

  #plain(): string | number | boolean | null {
    this.#head();
    const [major, argument] = [this.#major, this.#argument];
    switch (major) {
      case UNSIGNED:
        return argument;
      case NEGATIVE:
        return -1 - argument;
      case TEXT: {
        const start = this.#at;
        this.#skipBytes();
        return asText(this.#bytes.subarray(start, this.#at));
      }
      case SIMPLE:
        if (argument === NULL) return null;
        if (argument === TRUE || argument === FALSE) return argument === TRUE;
        break;
      default:
    }
    throw new MalformedEntry('detail');
  }
}

function asText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new MalformedEntry('text that is no UTF-8');
  }
}

const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
