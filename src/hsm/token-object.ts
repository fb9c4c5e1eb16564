/**
 * SoftHSM's own file of a token, kept whole. Each C_Login rewrites `token.object` (CKA_OS_TOKENFLAGS): SoftHSM
 * 2.6.1 truncates it first and writes it then, so a process that is killed between the two, or a disk that is
 * full, leaves an empty file, and from then on no process that starts finds the token
 * (CKR_TOKEN_NOT_PRESENT), whatever is on it. So a copy is kept beside it, and an empty file has it again.
 *
 *     token.object   generation u64 ‖ attributes, each: type u64 ‖ kind u64 ‖ value       (big-endian)
 *     value          kind 1: u8; 2: u64; 3: length u64 ‖ bytes
 *
 * The copy holds what the file holds: the token's key under the PINs of the time. It is made anew after
 * each opening that finds another file.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeDurably } from './durable.ts';

const FILE = 'token.object';
/** SoftHSM takes names that end in `.object` for objects. */
const COPY = 'token.object.kept';
/** Whoever is writing the file has done so long before; a stopped process is taken for a killed one. */
const PATIENCE_MS = 1_000;
const LOOK_MS = 50;

/**
 * Gives each token of the folder whose file was cut off the copy back; to be called before the module
 * is initialised. Returns the folders of those.
 */
export async function mendTokenObjects(tokenFolder: string): Promise<readonly string[]> {
  const mended: string[] = [];
  for (const folder of await tokensIn(tokenFolder)) {
    const copy = await read(join(folder, COPY));
    if (copy === undefined || !isWhole(copy)) continue;
    if (await remainsCutOff(join(folder, FILE))) {
      await writeDurably(join(folder, FILE), copy);
      mended.push(folder);
    }
  }
  return mended;
}

/** Copies the file of each token that has another copy or none; to be called after a login. */
export async function keepTokenObjects(tokenFolder: string): Promise<void> {
  for (const folder of await tokensIn(tokenFolder)) {
    const [file, copy] = [await read(join(folder, FILE)), await read(join(folder, COPY))];
    if (file === undefined || !isWhole(file) || copy?.equals(file) === true) continue;
    await writeDurably(join(folder, COPY), file);
  }
}

/** Not merely while another process logs in. An absent file is none of a token. */
async function remainsCutOff(path: string): Promise<boolean> {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const file = await read(path);
    if (file === undefined || isWhole(file)) return false;
    if (performance.now() > until) return true;
    await sleep(LOOK_MS);
  }
}

async function tokensIn(tokenFolder: string): Promise<readonly string[]> {
  const entries = await readdir(tokenFolder, { withFileTypes: true }).catch(() => []);
  return entries.filter((each) => each.isDirectory()).map(({ name }) => join(tokenFolder, name));
}

/** Undefined where there is none, or where it is not ours to read: then the module says so. */
const read = (path: string): Promise<Buffer | undefined> => readFile(path).catch(() => undefined);

const KIND = { flag: 1, number: 2, bytes: 3 } as const;
const WORD_BYTES = 8;

function isWhole(file: Buffer): boolean {
  let at = WORD_BYTES;
  while (at < file.length) {
    const end = endOfAttribute(file, at);
    if (end === undefined || end > file.length) return false;
    at = end;
  }
  return at === file.length && at > WORD_BYTES;
}

function endOfAttribute(file: Buffer, at: number): number | undefined {
  const value = at + 2 * WORD_BYTES;
  if (value > file.length) return undefined;
  const kind = Number(file.readBigUInt64BE(at + WORD_BYTES));
  if (kind === KIND.flag) return value + 1;
  if (kind === KIND.number) return value + WORD_BYTES;
  if (kind !== KIND.bytes || value + WORD_BYTES > file.length) return undefined;
  return value + WORD_BYTES + Number(file.readBigUInt64BE(value));
}
