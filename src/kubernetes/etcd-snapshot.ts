/**
 * The database file of etcd, as `etcdctl snapshot save` writes it (with its SHA-256 behind it) or as it lies in
 * `member/snap/db` of a member that is stopped: the pages of bbolt, read one after the other.
 *
 *     page      id u64 | flags u16 | count u16 | overflow u32 | elements …
 *     meta      magic u32 | version u32 | page size u32 | flags u32 | root u64 | sequence u64 |
 *               freelist u64 | pages u64 | transaction u64 | FNV-1a of what is before u64
 *     branch    (offset u32 | key length u32 | page u64) …
 *     leaf      (flags u32 | offset u32 | key length u32 | value length u32) …
 *     bucket    root u64 | sequence u64 | a page, where the root is 0
 *
 * Offsets count from their element. The bucket `key` holds revisions: main u64 | '_' | sub u64, big-endian, and
 * `t` behind it where the revision removes the key; the value is a message mvccpb.KeyValue.
 *
 * No page is read twice, so that a file that was made to go in circles ends; nothing is read past its page.
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

import { TwofoldError } from '../errors.ts';
import type { EtcdRecord } from './etcd-record.ts';
import { readFields } from './wire-fields.ts';

const MAGIC = 0xed_0c_da_ed;
const VERSION = 2;
const [BRANCH, LEAF, META] = [0x01, 0x02, 0x04] as const;
const BUCKET = 0x01;
const PAGE_HEAD = 16;
const ELEMENT = 16;
const META_LENGTH = 64;
const HASH_LENGTH = 32;
const PAGE_SIZES = [4_096, 8_192, 16_384, 32_768, 65_536] as const;
/** Pages of one value: etcd takes requests of 1.5 MiB unless told otherwise. */
const LONGEST_PAGE = 67_108_864;
const DEEPEST = 32;
const REVISION = 17;
const TOMBSTONE = 't'.charCodeAt(0);

const broken = (why: string) =>
  new TwofoldError(
    'invalid_value',
    `The snapshot is broken: ${why}. Take it by etcdctl snapshot save.`,
  );

const u64 = (bytes: Buffer, at: number): number => {
  const value = bytes.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken('a number is too large');
  return Number(value);
};

interface Meta {
  readonly pageSize: number;
  readonly root: number;
  readonly pages: number;
  readonly transaction: number;
}

interface Page {
  readonly flags: number;
  readonly count: number;
  readonly bytes: Buffer;
}

interface Element {
  readonly bucket: boolean;
  readonly key: Buffer;
  readonly value: Buffer;
}

export class EtcdSnapshot {
  readonly #file: number;
  readonly #size: number;
  readonly #meta: Meta;
  readonly #seen = new Set<number>();

  /** @throws TwofoldError invalid_value for a file that is no snapshot, or whose hash is not its own */
  constructor(path: string) {
    try {
      this.#file = openSync(path, 'r');
    } catch (cause) {
      throw new TwofoldError('invalid_value', `${path} cannot be read.`, { cause });
    }
    try {
      const { size } = fstatSync(this.#file);
      const hashed = size % 512 === HASH_LENGTH;
      this.#size = hashed ? size - HASH_LENGTH : size;
      if (hashed) this.#checkHash();
      this.#meta = this.#newestMeta();
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  close(): void {
    closeSync(this.#file);
  }

  /** Every revision that was not compacted, oldest first. */
  *records(): Generator<EtcdRecord> {
    this.#seen.clear();
    for (const { bucket, key, value } of this.#elements(this.#meta.root, 0)) {
      if (!bucket || key.toString('latin1') !== 'key') continue;
      if (value.length < ELEMENT) throw broken('a bucket is too short');
      const root = u64(value, 0);
      const inside =
        root === 0 ? leafElements(pageOf(value.subarray(ELEMENT))) : this.#elements(root, 0);
      for (const each of inside) yield recordOf(each);
      return;
    }
    throw broken('it has no revisions');
  }

  #checkHash(): void {
    const hash = createHash('sha256');
    const step = 1_048_576;
    for (let at = 0; at < this.#size; at += step) {
      hash.update(this.#read(at, Math.min(step, this.#size - at)));
    }
    if (!hash.digest().equals(this.#read(this.#size, HASH_LENGTH))) {
      throw broken('its SHA-256 is another');
    }
  }

  #read(at: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    if (readSync(this.#file, bytes, 0, length, at) === length) return bytes;
    throw broken('it ends early');
  }

  /** Of two, of which one may be half written: that of the later transaction. */
  #newestMeta(): Meta {
    const first = this.#metaAt(0);
    const sizes = first === null ? PAGE_SIZES : [first.pageSize];
    const found = [first, ...sizes.map((size) => this.#metaAt(size))].filter(
      (each) => each !== null,
    );
    const [newest] = found.toSorted((a, b) => b.transaction - a.transaction);
    if (newest === undefined) throw broken('it has no meta page');
    if (newest.pages * newest.pageSize > this.#size) throw broken('it ends early');
    return newest;
  }

  #metaAt(at: number): Meta | null {
    if (this.#size < at + PAGE_HEAD + META_LENGTH) return null;
    const bytes = this.#read(at, PAGE_HEAD + META_LENGTH);
    const meta = bytes.subarray(PAGE_HEAD);
    if ((bytes.readUInt16LE(8) & META) === 0 || meta.readUInt32LE(0) !== MAGIC) return null;
    if (meta.readUInt32LE(4) !== VERSION) throw broken('it is of another version of bbolt');
    if (fnv1a(meta.subarray(0, 56)) !== meta.readBigUInt64LE(56)) return null;
    const pageSize = meta.readUInt32LE(8);
    if (!PAGE_SIZES.some((size) => size === pageSize))
      throw broken('its pages are of a strange size');
    return {
      pageSize,
      root: u64(meta, 16),
      pages: u64(meta, 40),
      transaction: u64(meta, 48),
    };
  }

  #page(id: number): Page {
    const { pageSize, pages } = this.#meta;
    if (id < 2 || id >= pages || this.#seen.has(id)) throw broken('a page is out of its place');
    this.#seen.add(id);
    const head = this.#read(id * pageSize, PAGE_HEAD);
    const length = (head.readUInt32LE(12) + 1) * pageSize;
    if (u64(head, 0) !== id || length > LONGEST_PAGE || id * pageSize + length > this.#size) {
      throw broken('a page is not its own');
    }
    return pageOf(this.#read(id * pageSize, length));
  }

  *#elements(id: number, depth: number): Generator<Element> {
    if (depth > DEEPEST) throw broken('its tree is too deep');
    const page = this.#page(id);
    if ((page.flags & LEAF) !== 0) yield* leafElements(page);
    else if ((page.flags & BRANCH) !== 0) {
      for (let index = 0; index < page.count; index += 1) {
        yield* this.#elements(u64(page.bytes, PAGE_HEAD + index * ELEMENT + 8), depth + 1);
      }
    } else throw broken('a page is of another kind');
  }
}

function pageOf(bytes: Buffer): Page {
  if (bytes.length < PAGE_HEAD) throw broken('a page is too short');
  const count = bytes.readUInt16LE(10);
  if (PAGE_HEAD + count * ELEMENT > bytes.length) throw broken('a page has too many elements');
  return { flags: bytes.readUInt16LE(8), count, bytes };
}

function* leafElements({ count, bytes }: Page): Generator<Element> {
  for (let index = 0; index < count; index += 1) {
    const at = PAGE_HEAD + index * ELEMENT;
    const start = at + bytes.readUInt32LE(at + 4);
    const middle = start + bytes.readUInt32LE(at + 8);
    const end = middle + bytes.readUInt32LE(at + 12);
    if (end > bytes.length) throw broken('an element leaves its page');
    const bucket = (bytes.readUInt32LE(at) & BUCKET) !== 0;
    yield { bucket, key: bytes.subarray(start, middle), value: bytes.subarray(middle, end) };
  }
}

function recordOf({ bucket, key, value }: Element): EtcdRecord {
  if (bucket || (key.length !== REVISION && key.length !== REVISION + 1)) {
    throw broken('a revision is none');
  }
  const removes = key[REVISION] === TOMBSTONE;
  let name: Uint8Array | null = null;
  let stored: Uint8Array = new Uint8Array(0);
  for (const { number, bytes } of readFields(value)) {
    if (number === 1) name = bytes;
    else if (number === 5 && bytes !== null) stored = bytes;
  }
  if (name === null) throw broken('a revision has no key');
  return { key: Buffer.from(name).toString('utf8'), value: removes ? null : stored };
}

const FNV_OFFSET = 0xcb_f2_9c_e4_84_22_23_25n;
const FNV_PRIME = 0x1_00_00_00_01_b3n;

function fnv1a(bytes: Uint8Array): bigint {
  let hash = FNV_OFFSET;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * FNV_PRIME);
  return hash;
}
