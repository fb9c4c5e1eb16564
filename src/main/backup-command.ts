/** `twofold backup …`: takes, lists, verifies and restores backups. What it prints is JSON, a line each. */
import { realpathSync } from 'node:fs';
import { dirname } from 'node:path';

import { parseVkeys } from '../audit/tree/vkey.ts';
import type { Vkey } from '../audit/tree/vkey.ts';
import { copyBackup } from '../backup/copy.ts';
import { backupsIn } from '../backup/folder.ts';
import type { Manifest } from '../backup/manifest.ts';
import { openBackup, verifyContent } from '../backup/verify.ts';
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { ParsedFlags } from '../cli/arguments.ts';
import { fileFailure } from '../client/client-error.ts';
import type { Config } from '../config.ts';
import { nativeEngine } from '../crypto/native-engine.ts';
import { wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { readCarriedFile } from '../recovery/carried-file.ts';
import { seedOf } from '../recovery/shares.ts';
import { besides, deviceBeside, instanceBeside, operator, storeBeside } from './beside.ts';
import { readShares } from './recovery-command.ts';
import { restoreBackup, signerOf } from './restore-command.ts';
import { takeOne } from './taking-backups.ts';
import { Unwinding } from './unwinding.ts';

const CREATE_FLAGS = { entries: 'value' } as const;
const LIST_FLAGS = { trust: 'value' } as const;
const VERIFY_FLAGS = { trust: 'value', share: 'list' } as const;
const COPY_FLAGS = { trust: 'value', to: 'value' } as const;
const RESTORE_FLAGS = {
  trust: 'value',
  share: 'list',
  'so-pin-file': 'value',
  older: 'switch',
} as const;

export const BACKUP_USAGE = `usage: twofold backup COMMAND …
  create [--entries tail|all]                            takes a backup into the configured folder
  list FOLDER [--trust FILE]                             the backups of a folder, oldest first
  verify FOLDER [--trust FILE] [--share FILE]…           whether one is whole: in full with enough shares
  copy FOLDER --to FOLDER [--trust FILE]                 into another folder; goes on where it was cut off
  restore FOLDER --share FILE… --so-pin-file FILE [--trust FILE] [--older]
                                                         into an empty database and onto a token`;

const refuse = (why: string) => new TwofoldError('invalid_value', why);

/** Those that need no configuration. @returns null for the others */
export async function offlineBackupCommand(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number | null> {
  const [command, ...others] = argv;
  if (command === 'list') await list(others, print);
  else if (command === 'verify') await verify(others, print);
  else if (command === 'copy') await copy(others, print);
  else return null;
  return 0;
}

export async function backupCommand(
  config: Config,
  argv: readonly string[],
  { print, complain }: { print: (line: string) => void; complain: (line: string) => void },
): Promise<number> {
  const [command, ...others] = argv;
  if (command === 'create') return create(config, others, { print, complain });
  if (command !== 'restore') {
    complain(BACKUP_USAGE);
    return 2;
  }
  const parsed = parseFlags(others, RESTORE_FLAGS);
  const soPinFile = parsed.values.get('so-pin-file')?.[0];
  const shareFiles = parsed.values.get('share') ?? [];
  if (soPinFile === undefined || shareFiles.length === 0) {
    throw refuse('--share FILE, as often as it takes, and --so-pin-file FILE are needed.');
  }
  const path = folderOf(parsed);
  const trust = trustOf(parsed);
  if (!parsed.values.has('older')) await requireNewest(path, trust, complain);
  const wanted = { path, soPinFile, shareFiles, trust };
  const result = await withUnwinding((unwinding) =>
    restoreBackup(config, wanted, unwinding, (line) => complain(line)),
  );
  print(JSON.stringify(result, null, 2));
  return 0;
}

async function withUnwinding<T>(work: (unwinding: Unwinding) => Promise<T>): Promise<T> {
  const unwinding = new Unwinding((step, error) => {
    process.emitWarning(`${step} could not be closed: ${String(error)}`);
  });
  try {
    return await work(unwinding);
  } finally {
    await unwinding.unwind();
  }
}

/** By its own name: what stands beside it is looked at, and a copy is called as it is. */
function folderOf({ positional }: ParsedFlags): string {
  const [folder, ...more] = positional;
  if (folder === undefined || more.length > 0) throw refuse('One folder is to be named.');
  try {
    return realpathSync(folder);
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw new TwofoldError('not_found', `${folder} cannot be read: ${code}.`);
  }
}

function trustOf({ values }: ParsedFlags): readonly Vkey[] | null {
  const file = values.get('trust')?.[0];
  if (file === undefined) return null;
  const vkeys = parseVkeys(readCarriedFile(file));
  if (vkeys.length > 0) return vkeys;
  throw refuse(`${file} names no verifier key: "twofold audit keys" prints those of the log.`);
}

const shown = ({ id, takenAt, installation, generations, entries, log, tables }: Manifest) => ({
  id,
  takenAt,
  installation,
  generations,
  entries,
  log: { origin: log.origin, size: log.size, root: log.root },
  keys: tables.find(({ name }) => name === 'key')?.rows ?? 0,
  rows: tables.reduce((sum, { rows }) => sum + rows, 0),
});

async function manifestOf(path: string, trust: readonly Vkey[] | null): Promise<Manifest> {
  const backup = await openBackup(nativeEngine, path, trust);
  await backup.close();
  return backup.manifest;
}

async function list(argv: readonly string[], print: (line: string) => void): Promise<void> {
  const parsed = parseFlags(argv, LIST_FLAGS);
  const trust = trustOf(parsed);
  for (const path of await backupsIn(folderOf(parsed))) {
    const line = await manifestOf(path, trust).then(shown, (error: unknown) => {
      if (!TwofoldError.is(error)) throw error;
      return { problem: error.message, code: error.code };
    });
    print(JSON.stringify({ path, ...line }));
  }
}

async function verify(argv: readonly string[], print: (line: string) => void): Promise<void> {
  const parsed = parseFlags(argv, VERIFY_FLAGS);
  const files = parsed.values.get('share') ?? [];
  const backup = await openBackup(nativeEngine, folderOf(parsed), trustOf(parsed));
  const seed = files.length === 0 ? null : seedOf(readShares(files));
  try {
    await verifyContent(nativeEngine, backup, seed);
  } finally {
    wipe(seed ?? undefined);
    await backup.close();
  }
  const { manifest } = backup;
  const signedBy = signerOf(backup);
  const verified = seed === null ? 'signatures and content, unopened' : 'everything';
  const trusted = parsed.values.has('trust');
  print(JSON.stringify({ verified, signedBy, trusted, ...shown(manifest) }, null, 2));
}

async function copy(argv: readonly string[], print: (line: string) => void): Promise<void> {
  const parsed = parseFlags(argv, COPY_FLAGS);
  const to = parsed.values.get('to')?.[0];
  if (to === undefined) throw refuse('--to FOLDER is missing.');
  const backup = await openBackup(nativeEngine, folderOf(parsed), trustOf(parsed));
  try {
    print(JSON.stringify(await copyBackup(backup, to)));
  } finally {
    await backup.close();
  }
}

/**
 * An older one is restored only by who says so: what came between would be lost for nothing. What nobody who is
 * trusted has signed holds up no restore, and is told: the keys of the log may have changed since they were noted.
 * Nor does one that could not be restored itself, as its content is damaged; that is told as well.
 */
async function requireNewest(
  path: string,
  trust: readonly Vkey[] | null,
  tell: (line: string) => void,
): Promise<void> {
  const { id, takenAt, installation } = await manifestOf(path, trust);
  for (const other of (await backupsIn(dirname(path))).toReversed()) {
    const trusted = await manifestOf(other, trust).catch(() => null);
    const found = trusted ?? (await manifestOf(other, null).catch(() => null));
    const newer =
      found !== null &&
      found.id !== id &&
      found.installation === installation &&
      found.takenAt > takenAt;
    if (!newer) continue;
    if (trusted === null) {
      tell(
        `${other} says that it is newer (${found.takenAt}), and is signed with keys that --trust does not name: ` +
          'where the keys of the log changed since, add them to that file, and restore that one',
      );
      continue;
    }
    const damage = await damageOf(other, trust);
    if (damage !== null) {
      tell(
        `${other} is newer (${found.takenAt}), and is passed over, as it is not whole: ${damage}`,
      );
      continue;
    }
    throw new TwofoldError(
      'conflict',
      `${other} is newer (${found.takenAt}, this one ${takenAt}): restore that, or say --older.`,
    );
  }
}

/** What keeps all of a backup from being read; null where nothing does. A manifest may be whole without its content. */
async function damageOf(path: string, trust: readonly Vkey[] | null): Promise<string | null> {
  try {
    const backup = await openBackup(nativeEngine, path, trust);
    try {
      await verifyContent(nativeEngine, backup, null);
    } finally {
      await backup.close();
    }
    return null;
  } catch (error) {
    const failure = fileFailure(error);
    // Of one that cannot be read now nothing is known.
    if (TwofoldError.is(failure, 'integrity_failed')) return failure.message;
    throw failure;
  }
}

async function create(
  config: Config,
  argv: readonly string[],
  { print, complain }: { print: (line: string) => void; complain: (line: string) => void },
): Promise<number> {
  const parsed = parseFlags(argv, CREATE_FLAGS);
  requireNothingMore(parsed);
  const entries = parsed.values.get('entries')?.[0] ?? config.backup.entries;
  if (entries !== 'tail' && entries !== 'all') throw refuse('--entries is tail or all.');
  const taken = await besides(async (unwinding) => {
    const store = await storeBeside(config, unwinding);
    const { hsm } = await deviceBeside(config, unwinding);
    const uses = new UsageCounters(store.keys);
    const root = await openRoot(hsm, store.roots, uses, null);
    const parts = { config, store, hsm, root, uses, engine: nativeEngine };
    const taking = { ...parts, openSnapshot: store.openSnapshot };
    const done = await takeOne(taking, {
      ...{ requestedBy: null, entries },
      onUnsettled: (error) => {
        complain(`The backup was taken; its row will say so later: ${String(error)}`);
      },
    });
    const { audit } = await instanceBeside(config, store, root, unwinding);
    const { id, log } = done.manifest;
    const at = { atSize: log.size, atRoot: log.root };
    await audit.recordOwn('backup.taken', { backup: id, ...at, operator: operator() });
    return done;
  });
  print(JSON.stringify({ path: taken.path, ...shown(taken.manifest) }));
  return 0;
}
