/**
 * `twofold audit archive FOLDER`: removes from the database the rows of entries that a complete export has. On the
 * host, as the owner of the tables; services go on meanwhile.
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { archivable, archive } from '../audit/archive.ts';
import type { ArchiveRequest } from '../audit/archive.ts';
import { parseSignedCheckpoint } from '../audit/tree/checkpoint.ts';
import { parseFlags } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { openArchiveStore } from '../store/archive-store.ts';
import type { OwnedArchive } from '../store/archive-store.ts';
import { findEmbedded } from '../store/embedded.ts';
import { placeIn } from './audit-places.ts';
import { auditVerifyCommand } from './audit-verify-command.ts';

const FLAGS = { trust: 'value', before: 'value', place: 'value', 'dry-run': 'switch' } as const;

const USAGE =
  'The command is: twofold audit archive FOLDER --trust FILE --before PLACE [--place TEXT] [--dry-run]';

const refuse = (why: string) => new TwofoldError('invalid_value', `${why} ${USAGE}`);

interface Output {
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

/** @returns the exit code: 0 done, 1 the export does not verify, 2 not understood */
export async function auditArchiveCommand(
  config: Config,
  argv: readonly string[],
  { print, complain }: Output,
): Promise<number> {
  const { values, positional } = parseFlags(argv, FLAGS);
  const [folder, ...more] = positional;
  const [trust, before] = [values.get('trust')?.[0], values.get('before')?.[0]];
  if (folder === undefined || more.length > 0) throw refuse('One folder is to be named.');
  if (trust === undefined) throw refuse('--trust is missing.');
  if (before === undefined) throw refuse('--before is missing.');
  const wanted = {
    before: placeIn(before, 'before'),
    place: values.get('place')?.[0] ?? resolve(folder),
  };
  // What is not what was logged must never be all that is left of it.
  const verified = await auditVerifyCommand(
    [folder, '--trust', trust, '--log-only'],
    complain,
    complain,
  );
  if (verified !== 0) return verified;
  const owned = openOwned(config);
  try {
    const request: ArchiveRequest = { ...wanted, export: exportIn(folder) };
    if (values.has('dry-run')) {
      print(JSON.stringify({ until: await archivable(owned, request), dryRun: true }));
      return 0;
    }
    const onProgress = (removed: number, until: number): void =>
      complain(`rows before ${String(removed)} of ${String(until)} are removed`);
    print(JSON.stringify(await archive(owned, { ...request, onProgress })));
    return 0;
  } finally {
    await owned.close();
  }
}

function openOwned({ dataDir, database: { ownerUrl, tls, caFile } }: Config): OwnedArchive {
  const url = ownerUrl ?? findEmbedded(dataDir)?.ownerUrl;
  if (url === undefined) {
    throw new TwofoldError(
      'invalid_value',
      'database.ownerUrl is not configured, and no embedded database runs.',
    );
  }
  return openArchiveStore({ url, tls, caFile });
}

/** Of an export that was verified. */
function exportIn(folder: string): ArchiveRequest['export'] {
  const { from } = JSON.parse(readFileSync(join(folder, 'export.json'), 'utf8')) as {
    readonly from: number;
  };
  const note = readFileSync(join(folder, 'checkpoint'), 'utf8');
  const { size, root } = parseSignedCheckpoint(note);
  return { from, until: size, root };
}
