/**
 * The fixed header of a sealed file: what never changes from sealing on, and what its hash binds every
 * chunk, every wrapped data key and the manifest to. docs/sealed-files.md specifies the bytes.
 *
 *     "TWOFOLD" (7) ‖ version u8 (1) ‖ content suite u16 ‖ chunk size u32 ‖ file id (16)
 *     ‖ nonce prefix (7) ‖ length of the recipients' area u32 ‖ length of the context u16 ‖ context
 */
import { createHash, randomBytes } from 'node:crypto';

import { concatBytes, equalBytes, lengthPrefixed, uint16, uint32, utf8 } from '../crypto/bytes.ts';
import { canonicalContext } from '../crypto/context.ts';
import { NAME } from '../name.ts';
import { ClientError, parsedAs } from './client-error.ts';

export const SEALED_FILE_VERSION = 1;
/** AES-256-GCM in chunks as STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015), hashed with SHA-256. */
export const A256GCM_STREAM = 0x0701;
export const CHUNK_SIZE = 1_048_576;
export const MIN_CHUNK_SIZE = 4_096;
export const MAX_CHUNK_SIZE = 8_388_608;
export const MAX_RECIPIENTS_AREA = 1_048_576;

const MAGIC = utf8(NAME.sealedFile);
const FILE_ID_LENGTH = 16;
const NONCE_PREFIX_LENGTH = 7;
const OFFSETS = { version: 7, suite: 8, chunkSize: 10, fileId: 14, noncePrefix: 30 } as const;
const AREA_OFFSET = 37;
const CONTEXT_LENGTH_OFFSET = 41;
/** Bytes before the context. */
export const FIXED_HEADER_START = 43;
/** 16 pairs of 4,096 bytes together, their lengths, their number and the absent aad. */
export const MAX_CONTEXT_LENGTH = 4096 + 16 * 4 + 2 + 4;

export type EncryptionContext = Readonly<Record<string, string>>;

export interface FixedHeader {
  /** Bytes of plaintext in every chunk but the last: a power of two, 4 KiB to 8 MiB. */
  readonly chunkSize: number;
  /** Random, 16 bytes. */
  readonly fileId: Uint8Array;
  /** Random, 7 bytes: the first of every chunk's nonce. */
  readonly noncePrefix: Uint8Array;
  /** Room for the recipients, so that a rewrap moves no chunk. */
  readonly recipientsArea: number;
  /** Given to the service with every wrap and unwrap of the data key; not secret. */
  readonly encryptionContext: EncryptionContext;
}

const malformed = (detail: string) => new ClientError('invalid_sealed_file', detail);

function checkChunkSize(size: number): number {
  const power = size >= MIN_CHUNK_SIZE && size <= MAX_CHUNK_SIZE && (size & (size - 1)) === 0;
  if (!power) throw malformed('The chunk size is not a power of two from 4 KiB to 8 MiB.');
  return size;
}

function checkArea(length: number): number {
  if (length > MAX_RECIPIENTS_AREA) throw malformed("The recipients' area is over 1 MiB.");
  return length;
}

/** A header for a new file: nonce prefix and file id are random. */
export function newFixedHeader(
  options: Pick<FixedHeader, 'chunkSize' | 'recipientsArea' | 'encryptionContext'>,
): FixedHeader {
  return {
    ...options,
    fileId: randomBytes(FILE_ID_LENGTH),
    noncePrefix: randomBytes(NONCE_PREFIX_LENGTH),
  };
}

/**
 * @throws ClientError invalid_sealed_file for a value outside its bounds
 * @throws TwofoldError invalid_value for an encryption context outside its bounds
 */
export function encodeFixedHeader(header: FixedHeader): Uint8Array {
  return concatBytes(
    MAGIC,
    Uint8Array.of(SEALED_FILE_VERSION),
    uint16(A256GCM_STREAM),
    uint32(checkChunkSize(header.chunkSize)),
    header.fileId,
    header.noncePrefix,
    uint32(checkArea(header.recipientsArea)),
    lengthPrefixed(canonicalContext({ encryptionContext: header.encryptionContext })),
  );
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Reads length-prefixed text; every length is checked before it is used. */
class ContextReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  uint16(): number {
    const [high = 0, low = 0] = this.#take(2);
    return (high << 8) | low;
  }

  text(): string {
    const bytes = this.#take(this.uint16());
    try {
      return UTF8.decode(bytes);
    } catch {
      throw malformed('The context is not UTF-8.');
    }
  }

  #take(length: number): Uint8Array {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw malformed('The context is cut short.');
    const taken = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return taken;
  }
}

function parseContext(context: Uint8Array): EncryptionContext {
  const reader = new ContextReader(context);
  const pairs: [string, string][] = [];
  for (let left = reader.uint16(); left > 0; left -= 1) pairs.push([reader.text(), reader.text()]);
  // By entries: assignment would lose a pair named __proto__.
  const encryptionContext = Object.fromEntries(pairs);
  const again = parsedAs('invalid_sealed_file', () => canonicalContext({ encryptionContext }));
  if (!equalBytes(again, context)) throw malformed('The context is not in its canonical form.');
  return encryptionContext;
}

/**
 * How long the fixed header is, from its first `FIXED_HEADER_START` bytes.
 * @throws ClientError invalid_sealed_file, unsupported_sealed_file
 */
export function fixedHeaderLength(start: Uint8Array): number {
  if (start.length < FIXED_HEADER_START) throw malformed('The file ends inside its header.');
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  if (!equalBytes(start.subarray(0, MAGIC.length), MAGIC)) {
    throw malformed('The file does not begin as sealed files do.');
  }
  if (view.getUint8(OFFSETS.version) !== SEALED_FILE_VERSION) {
    throw new ClientError('unsupported_sealed_file', 'This client reads version 1.');
  }
  if (view.getUint16(OFFSETS.suite) !== A256GCM_STREAM) {
    throw new ClientError('unsupported_sealed_file', 'The content suite is not known.');
  }
  const context = view.getUint16(CONTEXT_LENGTH_OFFSET);
  if (context > MAX_CONTEXT_LENGTH) throw malformed('The context is too long.');
  return FIXED_HEADER_START + context;
}

/**
 * Parses strictly, so that encoding the result again gives `bytes`.
 * @throws ClientError invalid_sealed_file, unsupported_sealed_file
 */
export function parseFixedHeader(bytes: Uint8Array): FixedHeader {
  if (fixedHeaderLength(bytes) !== bytes.length) throw malformed('The header has another length.');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    chunkSize: checkChunkSize(view.getUint32(OFFSETS.chunkSize)),
    fileId: bytes.slice(OFFSETS.fileId, OFFSETS.noncePrefix),
    noncePrefix: bytes.slice(OFFSETS.noncePrefix, AREA_OFFSET),
    recipientsArea: checkArea(view.getUint32(AREA_OFFSET)),
    encryptionContext: parseContext(bytes.subarray(FIXED_HEADER_START)),
  };
}

/** SHA-256 of the encoded fixed header: the `aad` of every wrap and of every chunk. */
export function headerHash(fixedHeader: Uint8Array): Uint8Array {
  return createHash('sha256').update(fixedHeader).digest();
}
