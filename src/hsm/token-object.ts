/**
 * SoftHSM's own file of a token, kept whole: of the development token alone, whose folder is ours; a configured
 * module's files never come here. Each C_Login rewrites `token.object` (CKA_OS_TOKENFLAGS): SoftHSM 2.6.1
 * truncates it first and writes it then, so a process that is killed between the two, or a disk that is
 * full, leaves an empty file, and from then on no process that starts finds the token
 * (CKR_TOKEN_NOT_PRESENT), whatever is on it. So a copy is kept beside it, and an empty file has it again.
 *
 *     token.object   generation u64 ‖ attributes by type, each: type u64 ‖ kind u64 ‖ value       (big-endian)
 *     value          kind 1: u8; 2: u64; 3: length u64 ‖ bytes
 *
 * The copy holds what the file holds: the token's key under the PINs of the time. It is made anew after
 * each opening that finds another file. Where a PIN was changed since, the copy brings the earlier one back.
 */
import { chmod, chown, open, readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TwofoldError } from '../errors.ts';
import { writeDurably } from './durable.ts';
import type { TokenSelector } from './protocol.ts';

const FILE = 'token.object';
/** SoftHSM takes names that end in `.object` for objects. */
const COPY = 'token.object.kept';
/** Whoever is writing the file has done so long before; a stopped process is taken for a killed one. */
const PATIENCE_MS = 1_000;
const LOOK_MS = 50;

/** A token's file that could be neither mended nor copied. */
export interface UntouchedToken {
  readonly folder: string;
  readonly error: unknown;
}

export interface MendedTokens {
  /** Folders of the tokens that have their file again, as it was at the time of the copy. */
  readonly mended: readonly string[];
  readonly failed: readonly UntouchedToken[];
}

/** What is told where a token was mended. */
export const MENDED =
  'a login that was cut off had left the token without its file; it has the copy again, with the PINs of the time of the copy';

/**
 * Gives the token whose file was cut off the copy back, into the same file; to be called before the module
 * is initialised. Each token of the folder by itself; of another than the selected one nothing is touched.
 */
export async function mendTokenObjects(
  tokenFolder: string,
  selector: TokenSelector,
): Promise<MendedTokens> {
  const mended: string[] = [];
  const failed = await eachToken(tokenFolder, async (folder) => {
    const copy = await read(join(folder, COPY));
    if (copy === undefined || !isWhole(copy) || !isSelected(copy, selector)) return;
    if (!(await remainsCutOff(join(folder, FILE)))) return;
    if (await restore(join(folder, FILE), copy)) mended.push(folder);
  });
  return { mended, failed };
}

/** Copies the file of the selected token where it has another copy or none; to be called after a login. */
export function keepTokenObjects(
  tokenFolder: string,
  selector: TokenSelector,
): Promise<readonly UntouchedToken[]> {
  return eachToken(tokenFolder, async (folder) => {
    const [file, copy] = [await read(join(folder, FILE)), await read(join(folder, COPY))];
    if (file === undefined || !isWhole(file) || !isSelected(file, selector)) return;
    if (copy?.equals(file) !== true) await keep(folder, file);
  });
}

/** It is for whom the file is for: a command of root's must not keep it from the service. */
async function keep(folder: string, file: Uint8Array): Promise<void> {
  const copy = join(folder, COPY);
  const { uid, gid, mode } = await stat(join(folder, FILE));
  await writeDurably(copy, file);
  const own = await stat(copy);
  // Who is not root cannot give it away, and keeps it (0600) for itself.
  const given =
    (own.uid === uid && own.gid === gid) ||
    (await chown(copy, uid, gid).then(
      () => true,
      () => false,
    ));
  if (given) await chmod(copy, mode & 0o666);
}

/** False where somebody has written it meanwhile. */
async function restore(path: string, copy: Uint8Array): Promise<boolean> {
  const file = await open(path, 'r+');
  try {
    if (!isCutOff(await file.readFile())) return false;
    const { bytesWritten } = await file.write(copy, 0, copy.length, 0);
    if (bytesWritten < copy.length) {
      throw new TwofoldError('storage_full', "the token's file could not be written whole");
    }
    await file.truncate(copy.length);
    await file.sync();
    return true;
  } finally {
    await file.close();
  }
}

/** Not merely while another process logs in. An absent file is none of a token. */
async function remainsCutOff(path: string): Promise<boolean> {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const file = await read(path);
    if (file === undefined || !isCutOff(file)) return false;
    if (performance.now() > until) return true;
    await sleep(LOOK_MS);
  }
}

async function eachToken(
  tokenFolder: string,
  act: (folder: string) => Promise<void>,
): Promise<readonly UntouchedToken[]> {
  const entries = await readdir(tokenFolder, { withFileTypes: true }).catch(() => []);
  const failed: UntouchedToken[] = [];
  for (const each of entries) {
    if (!each.isDirectory()) continue;
    const folder = join(tokenFolder, each.name);
    await act(folder).catch((error: unknown) => failed.push({ folder, error }));
  }
  return failed;
}

/** Undefined where there is none, or where it is not ours to read: then the module says so. */
const read = (path: string): Promise<Buffer | undefined> => readFile(path).catch(() => undefined);

const KIND = { flag: 1, number: 2, bytes: 3 } as const;
const WORD_BYTES = 8;
/** CKA_VENDOR_DEFINED + CKA_VENDOR_SOFTHSM, of OSAttributes.h. */
const ATTRIBUTE = {
  label: 0x80005349n,
  serial: 0x8000534an,
  flags: 0x8000534bn,
  soPin: 0x8000534cn,
  userPin: 0x8000534dn,
} as const;
/** CKF_USER_PIN_INITIALIZED. */
const HAS_USER_PIN = 0x8n;

type Attributes = ReadonlyMap<bigint, Buffer>;

/** By what its file says; a slot's number is no part of it, so it selects none here. */
function isSelected(file: Buffer, { label, serial }: TokenSelector): boolean {
  const attributes = attributesOf(file);
  const text = (type: bigint) => attributes?.get(type)?.toString('utf8').trimEnd();
  return (
    (label === undefined || text(ATTRIBUTE.label) === label.trimEnd()) &&
    (serial === undefined || text(ATTRIBUTE.serial) === serial.trimEnd())
  );
}

/** Has all that a token is opened by. */
function isWhole(file: Buffer): boolean {
  const { serial, soPin, userPin } = ATTRIBUTE;
  const attributes = attributesOf(file);
  return [serial, soPin, userPin].every((type) => (attributes?.get(type)?.length ?? 0) > 0);
}

/** Attributes are written one by one, so a file can end between two. One of a token without user PIN is none. */
function isCutOff(file: Buffer): boolean {
  if (isWhole(file)) return false;
  const attributes = attributesOf(file);
  const flags = attributes?.get(ATTRIBUTE.flags);
  if (attributes?.has(ATTRIBUTE.soPin) !== true || flags?.length !== WORD_BYTES) return true;
  return (flags.readBigUInt64BE() & HAS_USER_PIN) !== 0n;
}

/** By type; undefined where the file ends inside one. */
function attributesOf(file: Buffer): Attributes | undefined {
  const attributes = new Map<bigint, Buffer>();
  let at = WORD_BYTES;
  while (at < file.length) {
    const value = valueAt(file, at);
    if (value === undefined || value.end > file.length) return undefined;
    attributes.set(file.readBigUInt64BE(at), file.subarray(value.start, value.end));
    at = value.end;
  }
  return at === file.length ? attributes : undefined;
}

function valueAt(
  file: Buffer,
  at: number,
): { readonly start: number; readonly end: number } | undefined {
  const start = at + 2 * WORD_BYTES;
  if (start > file.length) return undefined;
  const kind = Number(file.readBigUInt64BE(at + WORD_BYTES));
  if (kind === KIND.flag) return { start, end: start + 1 };
  if (kind === KIND.number) return { start, end: start + WORD_BYTES };
  if (kind !== KIND.bytes || start + WORD_BYTES > file.length) return undefined;
  const first = start + WORD_BYTES;
  return { start: first, end: first + Number(file.readBigUInt64BE(start)) };
}
