/** `twofold recovery …`: the ceremony of the recovery key's holders. Needs no service, database or token. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import { nativeEngine } from '../crypto/native-engine.ts';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { encodePublicKey, fingerprintText, newSeed, recoveryKeyOf } from '../recovery/key.ts';
import { readCarriedFile } from '../recovery/carried-file.ts';
import { checkShares, formatShare, shareSeed } from '../recovery/shares.ts';
import type { GivenShare } from '../recovery/shares.ts';

const CREATE_FLAGS = { shares: 'value', threshold: 'value', out: 'value' } as const;

const USAGE = `usage: twofold recovery COMMAND …
  create --shares N --threshold M --out FOLDER     a new recovery key: its public key, and a share for each holder
  check SHARE-FILE…                                whether shares are whole and of one key, and which is wrong`;

const refuse = (why: string) => new TwofoldError('invalid_value', why);

/** Shares as text; a file that others may read is refused nowhere, because holders bring what they have. */
export function readShares(files: readonly string[]): readonly GivenShare[] {
  return files.map((name) => ({ name, text: readCarriedFile(name) }));
}

/** @returns the exit code: 0, or 1 where the shares that were checked are not all good */
export function recoveryCommand(
  argv: readonly string[],
  print: (line: string) => void,
  complain: (line: string) => void,
): number {
  const [command, ...others] = argv;
  if (command === 'create') return create(others, print);
  if (command === 'check') return check(others, print);
  complain(USAGE);
  return 2;
}

const wholeNumber = (text: string | undefined, name: string): number => {
  if (text === undefined || !/^\d{1,3}$/u.test(text)) throw refuse(`--${name} N is needed.`);
  return Number(text);
};

function create(argv: readonly string[], print: (line: string) => void): number {
  const parsed = parseFlags(argv, CREATE_FLAGS);
  requireNothingMore(parsed);
  const one = (name: string) => parsed.values.get(name)?.[0];
  const out = one('out');
  if (out === undefined) throw refuse('--out FOLDER is missing.');
  const shares = wholeNumber(one('shares'), 'shares');
  const threshold = wholeNumber(one('threshold'), 'threshold');
  const seed = newSeed();
  try {
    const key = recoveryKeyOf(nativeEngine, seed);
    key.wipe();
    const made = shareSeed(seed, key.publicKey, { shares, threshold });
    try {
      const texts = made.map(formatShare);
      writeNew(out, [
        ['recovery.pem', encodePublicKey(key.publicKey)],
        ...texts.map((text, at) => [`share-${String(at + 1)}.txt`, text] as const),
      ]);
    } finally {
      wipe(...made.map(({ value }) => value));
    }
    print(`${out}: recovery.pem, and a share for each of ${String(shares)} holders`);
    print(`any ${String(threshold)} shares make the key`);
    print(`fingerprint ${fingerprintText(key.publicKey)}`);
    print('Give each holder one share, and delete the files.');
    return 0;
  } finally {
    wipe(seed);
  }
}

/**
 * All of them or none, also where it is killed: half a set of shares is nobody's key. They get the folder's
 * name once all are there.
 */
function writeNew(folder: string, files: readonly (readonly [string, string])[]): void {
  const path = folder.replace(/\/+$/u, '');
  const unfinished = `${path}.unfinished`;
  if (existsSync(path)) throw refuse(`${path} is there already: it must be a new folder.`);
  try {
    // Of one that was killed: nobody was told of its key.
    rmSync(unfinished, { recursive: true, force: true });
    mkdirSync(unfinished, { mode: 0o700 });
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw refuse(`${path} cannot be made: ${code}.`);
  }
  try {
    for (const [name, text] of files) {
      writeFileSync(join(unfinished, name), text, { flag: 'wx', mode: 0o600, flush: true });
    }
    syncFolder(unfinished);
    renameSync(unfinished, path);
    syncFolder(dirname(path));
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    const full = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code);
    throw new TwofoldError(
      full ? 'storage_full' : 'invalid_value',
      `The shares could not be written (${code}); nothing of them is left.`,
      { cause: error },
    );
  }
}

function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function check(argv: readonly string[], print: (line: string) => void): number {
  const { positional } = parseFlags(argv, {});
  if (positional.length === 0) throw refuse('Name the files of the shares.');
  const { findings, good, enough, problem } = checkShares(readShares(positional));
  wipe(...good.map(({ value }) => value));
  for (const { name, index, set, problem: wrong } of findings) {
    const what = index === null ? 'no share' : `share ${String(index)} of set ${String(set)}`;
    print(
      `${name}: ${wrong === null ? 'good' : 'WRONG'}, ${what}${wrong === null ? '' : `: ${wrong}`}`,
    );
  }
  print(
    enough
      ? 'These make the recovery key.'
      : `These do not make the recovery key: ${problem ?? ''}.`,
  );
  return enough ? 0 : 1;
}
