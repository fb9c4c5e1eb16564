/**
 * The spool: audit entries of answers that left while no commit came back, in a file of the data folder
 * until the database has them. One file belongs to one lane of one instance; it holds whole batches in
 * the bytes that the database will get, each with its HMAC by `root-mac`.
 *
 *     header   "TFSPOOL1" ‖ lane u32 ‖ instance, 16 bytes
 *     record   length u32 ‖ payload ‖ first 16 bytes of SHA-256(payload)
 *     payload  CBOR [first n, epoch, batch HMAC, [entry, …]]
 *
 * A record counts once `fdatasync` has returned. One that is cut short or does not match its hash, with
 * no sound record behind it, whatever its length says, was never counted: a crash tore it. Whoever has the disk can cut off whole records
 * at the end unseen, as with any log that has no witness yet.
 */
import { hash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readFile, readdir, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { concatBytes, equalBytes, uint32, utf8 } from '../../crypto/bytes.ts';
import { decodeCbor, encodeCbor } from '../../crypto/cbor.ts';
import type { CborDecoded } from '../../crypto/cbor.ts';
import { uuidBytes, uuidText } from '../../crypto/uuid.ts';
import { TwofoldError } from '../../errors.ts';
import type { AppendBatch } from '../ports.ts';

/** Beyond this nothing more is answered: at 700 bytes an entry 6,000 answers a second for a minute. */
export const MOST_SPOOL_BYTES = 256 * 1024 * 1024;
/** A batch is at most a mebibyte and one entry. */
const MOST_RECORD_BYTES = 4 * 1024 * 1024;
const MAGIC = utf8('TFSPOOL1');
const HEADER_BYTES = 28;
const CHECK_BYTES = 16;
/** A CBOR array of four. */
const PAYLOAD_BEGINS = 0x84;
/** By chance some four in a mebibyte look like the head of a record. */
const MOST_LOOKS = 1_000;
const SUFFIX = '.spool';
const KEPT = '.kept-';
/** Behind the name of a kept one of which the audit log says what became of it. */
const TOLD = '.told';
const UNTOLD = /^([-\w]{1,200}\.spool)\.kept-\d{1,15}-(damaged|lost)-(\d{1,15})$/u;

/** Of a batch, what the file keeps; index columns are read from the entries again. */
export interface SpooledBatch {
  readonly first: number;
  readonly epoch: number;
  readonly hmac: Uint8Array;
  readonly bodies: readonly Uint8Array[];
}

export interface SpoolContent {
  readonly instance: string;
  readonly lane: number;
  readonly batches: readonly SpooledBatch[];
  /**
   * `torn`: the last record was not finished, and never counted. `damaged`: something that did count
   * cannot be read any more, and what is behind it neither.
   */
  readonly end: 'whole' | 'torn' | 'damaged';
}

/** What became of entries that are not in the database, and how many of their file are. */
export interface Loss {
  readonly state: 'damaged' | 'lost';
  readonly entries: number;
}

/** One that was set aside. */
export interface KeptSpool extends Loss {
  /** As it is called now. */
  readonly name: string;
  /** As it was called. */
  readonly file: string;
  /** 0 where its head cannot be read. */
  readonly lane: number;
}

/** What the lane that answers in the grace needs of a spool. */
export interface Spool {
  /** What is left is for answers, not for refusals: half of what it may hold. */
  readonly scarce: boolean;
  /** Durable when it resolves. When it rejects, nothing of the batch counts. */
  write(batch: AppendBatch): Promise<void>;
  /** The database has all of it. */
  remove(): Promise<void>;
  /**
   * The database will never have all of it, only `entries`: it stays, under another name, for people to
   * look at, and for the audit log to be told of.
   */
  setAside(entries: number): Promise<void>;
  /** It stays as it is, for the next start. */
  close(): Promise<void>;
}

export class SpoolFile implements Spool {
  readonly #folder: string;
  readonly #path: string;
  readonly #most: number;
  readonly #file: FileHandle;
  #size = HEADER_BYTES;
  /** After a failed sync nobody knows what the disk holds. */
  #broken = false;

  private constructor(folder: string, path: string, file: FileHandle, most: number) {
    this.#folder = folder;
    this.#path = path;
    this.#file = file;
    this.#most = most;
  }

  /** Makes the file, and its folder; durable when it resolves. `name` tells whose it is. */
  static async create(
    folder: string,
    name: string,
    of: { readonly instance: string; readonly lane: number },
    most = MOST_SPOOL_BYTES,
  ): Promise<SpoolFile> {
    const instance = uuidBytes(of.instance);
    if (instance === null) throw new TwofoldError('internal');
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, `${name}${SUFFIX}`);
    const file = await open(path, 'wx', 0o600);
    const made = new SpoolFile(folder, path, file, most);
    try {
      await writeAll(file, concatBytes(MAGIC, uint32(of.lane), instance), 0);
      await file.datasync();
      await syncFolder(folder);
      return made;
    } catch (error) {
      await made.remove().catch(() => undefined);
      throw error;
    }
  }

  get scarce(): boolean {
    return this.#size > this.#most / 2;
  }

  async write(batch: AppendBatch): Promise<void> {
    if (this.#broken) throw new TwofoldError('storage_full', 'The audit spool is not usable.');
    const record = recordOf(batch);
    if (this.#size + record.length > this.#most) {
      throw new TwofoldError('storage_full', 'The audit spool is full.');
    }
    try {
      await writeAll(this.#file, record, this.#size);
      await this.#file.datasync();
    } catch (error) {
      await this.#undo();
      throw error;
    }
    this.#size += record.length;
  }

  async remove(): Promise<void> {
    await this.#file.close();
    await rm(this.#path, { force: true });
    await syncFolder(this.#folder);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async setAside(entries: number): Promise<void> {
    await this.#file.close();
    await setAside(this.#folder, this.#path, { state: 'lost', entries });
  }

  /** Whatever the disk held of the record is gone, or nothing more is written behind it. */
  async #undo(): Promise<void> {
    try {
      await this.#file.truncate(this.#size);
      await this.#file.datasync();
    } catch {
      this.#broken = true;
    }
  }
}

/** Paths of spools whose name begins with `prefix`, oldest name first. */
export async function spoolFiles(folder: string, prefix: string): Promise<readonly string[]> {
  const names = await namesIn(folder, prefix);
  return names.filter((name) => name.endsWith(SUFFIX)).map((name) => join(folder, name));
}

/** Names of those that were set aside. */
export async function keptSpools(folder: string, prefix: string): Promise<readonly string[]> {
  return (await namesIn(folder, prefix)).filter((name) => name.includes(KEPT));
}

/** Those that were set aside and of which the audit log was not told, as far as is known. */
export async function untoldSpools(folder: string, prefix: string): Promise<readonly KeptSpool[]> {
  const untold: KeptSpool[] = [];
  for (const name of await namesIn(folder, prefix)) {
    const [, file, state, entries] = UNTOLD.exec(name) ?? [];
    if (file === undefined) continue;
    const lane = await laneOf(join(folder, name));
    untold.push({ name, file, lane, state: state as Loss['state'], entries: Number(entries) });
  }
  return untold;
}

/** The audit log says durably what became of it. What somebody has taken away needs no mark. */
export async function markTold(folder: string, { name }: KeptSpool): Promise<void> {
  try {
    await rename(join(folder, name), join(folder, `${name}${TOLD}`));
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  await syncFolder(folder);
}

async function laneOf(path: string): Promise<number> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const head = Buffer.alloc(HEADER_BYTES);
  try {
    const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      await file.read(head, 0, head.length, 0);
    } finally {
      await file.close();
    }
  } catch {
    return 0;
  }
  const known = equalBytes(head.subarray(0, MAGIC.length), MAGIC);
  return known ? head.readUInt32BE(MAGIC.length) : 0;
}

async function namesIn(folder: string, prefix: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  return names.filter((name) => name.startsWith(prefix)).toSorted();
}

/** What a spool holds; null for one that was not even begun when its writer died. */
export async function readSpool(path: string): Promise<SpoolContent | null> {
  const bytes = await readFile(path, { flag: constants.O_RDONLY | constants.O_NOFOLLOW });
  if (bytes.length < HEADER_BYTES) return null;
  const known = equalBytes(bytes.subarray(0, MAGIC.length), MAGIC);
  if (!known) throw new TwofoldError('integrity_failed', 'A spool file has no known form.');
  const lane = bytes.readUInt32BE(MAGIC.length);
  const instance = uuidText(bytes.subarray(MAGIC.length + 4, HEADER_BYTES));
  return { instance, lane, ...recordsOf(bytes.subarray(HEADER_BYTES)) };
}

export async function removeSpool(folder: string, path: string): Promise<void> {
  await rm(path, { force: true });
  await syncFolder(folder);
}

/** The new name says what became of it, whatever comes of whoever would have told it. */
export async function setAside(
  folder: string,
  path: string,
  { state, entries }: Loss,
): Promise<void> {
  await rename(path, `${path}${KEPT}${String(Date.now())}-${state}-${String(entries)}`);
  await syncFolder(folder);
}

function recordOf({ first, epoch, hmac, entries }: AppendBatch): Uint8Array {
  const payload = encodeCbor([first, epoch, hmac, entries.map(({ body }) => body)]);
  return concatBytes(uint32(payload.length), payload, checkOf(payload));
}

const checkOf = (payload: Uint8Array): Uint8Array =>
  hash('sha256', payload, 'buffer').subarray(0, CHECK_BYTES);

function recordsOf(bytes: Buffer): Pick<SpoolContent, 'batches' | 'end'> {
  const batches: SpooledBatch[] = [];
  let at = 0;
  while (at < bytes.length) {
    const left = bytes.length - at;
    const length = left < 4 ? Number.POSITIVE_INFINITY : bytes.readUInt32BE(at);
    const end = at + 4 + length + CHECK_BYTES;
    if (left >= 4 && (length === 0 || length > MOST_RECORD_BYTES))
      return { batches, end: tornOr(bytes, at) };
    if (end > bytes.length) return { batches, end: tornOrLonger(bytes, at) };
    const payload = bytes.subarray(at + 4, at + 4 + length);
    const sound = equalBytes(checkOf(payload), bytes.subarray(at + 4 + length, end));
    const batch = sound ? batchOf(payload) : null;
    if (batch === null) return { batches, end: end === bytes.length ? 'torn' : 'damaged' };
    batches.push(batch);
    at = end;
  }
  return { batches, end: 'whole' };
}

/** A length that was altered can point past the end: what was torn has no record behind it. */
function tornOrLonger(bytes: Buffer, at: number): 'torn' | 'damaged' {
  let looks = 0;
  for (let begin = at + 1; begin + 4 < bytes.length; begin += 1) {
    if (bytes[begin + 4] !== PAYLOAD_BEGINS) continue;
    const length = bytes.readUInt32BE(begin);
    const end = begin + 4 + length;
    if (length > MOST_RECORD_BYTES || end + CHECK_BYTES > bytes.length) continue;
    looks += 1;
    const payload = bytes.subarray(begin + 4, end);
    const sound = equalBytes(checkOf(payload), bytes.subarray(end, end + CHECK_BYTES));
    // What nearly looks so this often was made to.
    if (sound || looks > MOST_LOOKS) return 'damaged';
  }
  return 'torn';
}

/** A file that grew before its bytes were written ends in zeros. */
const tornOr = (bytes: Buffer, at: number): 'torn' | 'damaged' =>
  bytes.subarray(at).every((byte) => byte === 0) ? 'torn' : 'damaged';

function batchOf(payload: Uint8Array): SpooledBatch | null {
  const decoded = decoding(payload);
  if (!Array.isArray(decoded) || decoded.length !== 4) return null;
  const [first, epoch, hmac, bodies] = decoded as readonly CborDecoded[];
  const numbered = typeof first === 'number' && typeof epoch === 'number';
  if (!numbered || !(hmac instanceof Uint8Array) || !Array.isArray(bodies)) return null;
  if (bodies.length === 0 || !bodies.every((body) => body instanceof Uint8Array)) return null;
  return { first, epoch, hmac, bodies };
}

function decoding(payload: Uint8Array): CborDecoded {
  try {
    return decodeCbor(payload);
  } catch {
    return null;
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
    done += bytesWritten;
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const isMissing = (error: unknown): boolean =>
  (error as NodeJS.ErrnoException | null)?.code === 'ENOENT';
