/** Reads an export folder (`docs/audit-log.md`, "Export"), never more than a piece of it at a time. */
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { HASH_BYTES } from '../tree/hashes.ts';
import { tilePath, widthAt } from '../tree/tiles.ts';

/** What cannot be read as what it is to be; `message` says why. */
export class MalformedFile extends Error {}

const MAX_ENTRY_BYTES = 65_535;
const LENGTH_BYTES = 2;
/** Stands before an entry whose index columns say something else; no entry begins so. */
const MISFILED = 0xff;
const MAX_SMALL_FILE = 1024 * 1024;
/** A key of 100,000 versions still fits a line. */
const MAX_PIECE = 16 * 1024 * 1024;
const CHUNK = 256 * 1024;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Entries one behind another; where each begins and ends. Its bytes are the reader's to change. */
export interface Bundle {
  readonly bytes: Uint8Array;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  /** Those that the service said not to find by what they say, by their places in the bundle. */
  readonly misfiled: readonly number[];
}

export class ExportFolder {
  readonly #path: string;
  /** Size of the tree, which says how wide the last tiles are. */
  readonly #size: number;

  constructor(path: string, size = 0) {
    this.#path = path;
    this.#size = size;
  }

  /** The whole of a small file of text; null when it is not there. @throws MalformedFile */
  text(name: string): string | null {
    const bytes = this.#bytes(name, MAX_SMALL_FILE);
    return bytes === null ? null : asText(bytes);
  }

  /**
   * The first `width` hashes of a tile; null when its file is not there.
   * @throws MalformedFile when it has another length than the tree's size says
   */
  tile(level: number, index: number, width: number): Uint8Array | null {
    const full = widthAt(level, index, this.#size);
    if (full < width) return null;
    const bytes = this.#bytes(tilePath({ level, index, width: full }), full * HASH_BYTES);
    if (bytes === null) return null;
    if (bytes.length !== full * HASH_BYTES) throw new MalformedFile('it has another length');
    return bytes.subarray(0, width * HASH_BYTES);
  }

  /** The entries of a tile of leaves; null when the file is not there. @throws MalformedFile */
  bundle(index: number, width: number): Bundle | null {
    const path = tilePath({ level: 'entries', index, width });
    const bytes = this.#bytes(path, width * (MAX_ENTRY_BYTES + LENGTH_BYTES));
    return bytes === null ? null : parseBundle(bytes, width);
  }

  /**
   * Pieces of a file of text that separators follow, the last one too; nothing when it is not there.
   * @param separator ends with a line feed, which alone follows the last piece
   * @throws MalformedFile for a piece over 16 MiB, or text that does not end with a line feed
   */
  *pieces(name: string, separator: string): Generator<string> {
    const file = this.#open(name);
    if (file === null) return;
    try {
      yield* split(file, separator);
    } finally {
      closeSync(file);
    }
  }

  has(name: string): boolean {
    return this.#stat(name) !== null;
  }

  #bytes(name: string, limit: number): Uint8Array | null {
    const found = this.#stat(name);
    if (found === null) return null;
    if (found > limit) throw new MalformedFile('it is too long');
    return readFileSync(join(this.#path, name));
  }

  /** Its size in bytes. */
  #stat(name: string): number | null {
    const found = statSync(join(this.#path, name), { throwIfNoEntry: false });
    return found?.isFile() === true ? found.size : null;
  }

  #open(name: string): number | null {
    return this.has(name) ? openSync(join(this.#path, name), 'r') : null;
  }
}

function* split(file: number, separator: string): Generator<string> {
  const stream = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const chunk = new Uint8Array(CHUNK);
  let rest = '';
  for (;;) {
    const length = readSync(file, chunk);
    rest += orMalformed(() => stream.decode(chunk.subarray(0, length), { stream: length > 0 }));
    const pieces = rest.split(separator);
    rest = pieces.pop() ?? '';
    yield* pieces;
    if (rest.length > MAX_PIECE) throw new MalformedFile('a piece of it is too long');
    if (length === 0) break;
  }
  if (separator === '\n') {
    if (rest !== '') throw new MalformedFile('its last line does not end');
  } else if (rest !== '') {
    if (!rest.endsWith('\n')) throw new MalformedFile('its last line does not end');
    yield rest.slice(0, -1);
  }
}

function parseBundle(bytes: Uint8Array, width: number): Bundle {
  const starts = new Int32Array(width);
  const ends = new Int32Array(width);
  const misfiled: number[] = [];
  let at = 0;
  for (let entry = 0; entry < width; entry += 1) {
    const start = at + LENGTH_BYTES;
    if (start > bytes.length) throw new MalformedFile(`it ends before entry ${entry} of ${width}`);
    const end = start + (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
    if (end > bytes.length) throw new MalformedFile(`it ends within entry ${entry} of ${width}`);
    const marked = start < end && bytes[start] === MISFILED;
    if (marked) misfiled.push(entry);
    starts[entry] = marked ? start + 1 : start;
    ends[entry] = end;
    at = end;
  }
  if (at !== bytes.length) throw new MalformedFile('it goes on after its last entry');
  return { bytes, starts, ends, misfiled };
}

const asText = (bytes: Uint8Array): string => orMalformed(() => decoder.decode(bytes));

function orMalformed(decode: () => string): string {
  try {
    return decode();
  } catch (error) {
    throw new MalformedFile('it is no UTF-8', { cause: error });
  }
}
