/**
 * The manifest of a sealed file: what its signer says about it. Deterministic CBOR (RFC 8949 section
 * 4.2.1); docs/sealed-files.md specifies its members.
 *
 *     signed manifest = [ manifest (bytes), signature (bytes) ]
 */
import { decodeCbor, encodeCbor } from '../crypto/cbor.ts';
import { uuidBytes, uuidText } from '../crypto/uuid.ts';
import { NAME } from '../name.ts';
import { ClientError, parsedAs } from './client-error.ts';
import type { CborDecoded } from '../crypto/cbor.ts';

/** Largest signed manifest that is read, bytes. */
export const MAX_SIGNED_MANIFEST = 65_536;
const MAX_NAME_BYTES = 255;

export interface Manifest {
  readonly fileId: Uint8Array;
  readonly headerHash: Uint8Array;
  /** Over every chunk as it is stored; the recipients' envelopes are not in it. */
  readonly contentHash: Uint8Array;
  readonly keyCommitment: Uint8Array;
  /** Bytes of plaintext. */
  readonly size: number;
  /** The name of the file that was sealed, without a folder. */
  readonly name: string;
  readonly sealedAt: Date;
  readonly signer: {
    readonly keyId: string;
    readonly keyVersion: number;
    /** Number of a signature suite. */
    readonly suite: number;
  };
}

export interface SignedManifest {
  readonly manifest: Manifest;
  /** What is signed. */
  readonly encoded: Uint8Array;
  readonly signature: Uint8Array;
}

const malformed = (detail: string) => new ClientError('invalid_manifest', detail);

/** @throws ClientError invalid_value for a name that is none */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const { fileId, headerHash, contentHash, keyCommitment, size, name, sealedAt } = manifest;
  const { keyId, keyVersion, suite } = manifest.signer;
  if (!isFileName(name)) {
    throw new ClientError('invalid_value', 'A file name is 1 to 255 bytes without / and NUL.');
  }
  return encodeCbor({
    format: NAME.sealedFileManifest,
    fileId,
    headerHash,
    contentHash,
    keyCommitment,
    size,
    name,
    sealedAt: sealedAt.getTime(),
    signer: { keyId: uuidBytes(keyId), keyVersion, suite },
  });
}

export function encodeSignedManifest(encoded: Uint8Array, signature: Uint8Array): Uint8Array {
  return encodeCbor([encoded, signature]);
}

/**
 * Parses strictly: every member, no other, and nothing that encodes differently again. Says nothing
 * about the signature.
 * @throws ClientError invalid_manifest
 */
export function parseSignedManifest(bytes: Uint8Array): SignedManifest {
  if (bytes.length > MAX_SIGNED_MANIFEST) throw malformed('The manifest is too long.');
  const pair = parsedAs('invalid_manifest', () => decodeCbor(bytes));
  if (!Array.isArray(pair) || pair.length !== 2) throw malformed('It is not a signed manifest.');
  const [encoded, signature] = pair;
  if (!(encoded instanceof Uint8Array) || !(signature instanceof Uint8Array)) {
    throw malformed('It is not a signed manifest.');
  }
  return { manifest: parseManifest(encoded), encoded, signature };
}

function parseManifest(encoded: Uint8Array): Manifest {
  const members = new Members(
    parsedAs('invalid_manifest', () => decodeCbor(encoded)),
    9,
  );
  if (members.text('format') !== NAME.sealedFileManifest) {
    throw malformed('The manifest is of another format.');
  }
  const signer = new Members(members.get('signer'), 3);
  return {
    fileId: members.bytes('fileId', 16),
    headerHash: members.bytes('headerHash', 32),
    contentHash: members.bytes('contentHash', 32),
    keyCommitment: members.bytes('keyCommitment', 32),
    size: members.integer('size', 0, Number.MAX_SAFE_INTEGER),
    name: members.name('name'),
    sealedAt: new Date(members.integer('sealedAt', 0, MAX_TIME)),
    signer: {
      keyId: uuidText(signer.bytes('keyId', 16)),
      keyVersion: signer.integer('keyVersion', 1, 0xffff_ffff),
      suite: signer.integer('suite', 0, 0xffff),
    },
  };
}

/** The last millisecond of the year 9999, which RFC 3339 can still write. */
const MAX_TIME = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/** A CBOR map with exactly so many members; each is asked for by name, so none is unknown. */
class Members {
  readonly #members: ReadonlyMap<unknown, CborDecoded>;

  constructor(value: CborDecoded | undefined, size: number) {
    if (!(value instanceof Map) || value.size !== size) throw malformed('A member is not known.');
    this.#members = value;
  }

  get(name: string): CborDecoded | undefined {
    return this.#members.get(name);
  }

  bytes(name: string, length: number): Uint8Array {
    const value = this.get(name);
    if (value instanceof Uint8Array && value.length === length) return value;
    throw malformed(`${name} is not ${length} bytes.`);
  }

  integer(name: string, least: number, most: number): number {
    const value = this.get(name);
    if (typeof value === 'number' && value >= least && value <= most) return value;
    throw malformed(`${name} is not a number in its range.`);
  }

  text(name: string): string {
    const value = this.get(name);
    if (typeof value === 'string') return value;
    throw malformed(`${name} is not text.`);
  }

  name(name: string): string {
    const value = this.text(name);
    if (isFileName(value)) return value;
    throw malformed(`${name} is not a file name.`);
  }
}

function isFileName(name: string): boolean {
  const length = name.isWellFormed() ? Buffer.byteLength(name) : 0;
  const folder = name === '.' || name === '..' || /[/\0]/u.test(name);
  return length >= 1 && length <= MAX_NAME_BYTES && !folder;
}
