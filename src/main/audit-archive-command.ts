/**
 * `twofold audit archive FOLDER`: removes from the database the rows of entries that a complete export has. On the
 * host, as the owner of the tables, with a lane of its own for the entries that say so; services go on meanwhile.
 */
import { resolve } from 'node:path';

import { archivable, archive } from '../audit/archive.ts';
import type { ArchiveRequest, ArchiveResult } from '../audit/archive.ts';
import { printable, printableJson } from '../audit/verify/printable.ts';
import { SINK_NAME } from '../config/audit-sinks.ts';
import type { VerifyReport } from '../audit/verify/verify.ts';
import { parseFlags } from '../cli/arguments.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { openArchiveStore } from '../store/archive-store.ts';
import type { OwnedArchive } from '../store/archive-store.ts';
import { findEmbedded } from '../store/embedded.ts';
import { placeIn } from './audit-places.ts';
import { auditVerifyCommand } from './audit-verify-command.ts';
import { besides, deviceBeside, instanceBeside, operator, storeBeside } from './beside.ts';
import type { Unwinding } from './unwinding.ts';

const FLAGS = { trust: 'value', before: 'value', place: 'value', 'dry-run': 'switch' } as const;

const USAGE =
  'The command is: twofold audit archive FOLDER --trust FILE --before PLACE [--place TEXT] [--dry-run]';

/** Its words go into an entry. */
const MOST_PLACE = 1_024;

const refuse = (why: string) => new TwofoldError('invalid_value', `${why} ${USAGE}`);

interface Output {
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

/** @returns the exit code: 0 done, 1 the export does not verify, 2 not understood, or the export could not be read */
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
  const place = values.get('place')?.[0] ?? resolve(folder);
  if (place.length > MOST_PLACE) throw refuse(`--place has over ${String(MOST_PLACE)} characters.`);
  const wanted = { before: placeIn(before, 'before'), place };
  // What is not what was logged must never be all that is left of it.
  const reports: VerifyReport[] = [];
  const verified = await auditVerifyCommand(
    [folder, '--trust', trust, '--log-only'],
    complain,
    complain,
    (report) => reports.push(report),
  );
  const [report] = reports;
  if (verified !== 0 || report === undefined) return verified;
  const request = { ...wanted, export: exportOf(report), operator: operator() };
  if (values.has('dry-run')) {
    const found = await besides((unwinding) => archivable(openOwned(config, unwinding), request));
    print(printableJson(JSON.stringify({ ...found, dryRun: true })));
    return 0;
  }
  const tell = (removed: number, until: number): void =>
    complain(`rows before ${String(removed)} of ${String(until)} are removed`);
  const done = await besides((unwinding) => archived(config, request, tell, unwinding));
  print(printableJson(JSON.stringify(done)));
  if (done.heldBy !== null) complain(heldByText(done.heldBy));
  return 0;
}

/** Whoever writes to the database names it: what is to be pasted into a shell has no such name in it. */
export function heldByText(sink: string): string {
  const name = SINK_NAME.test(sink) ? sink : 'NAME';
  return `the sink ${printable(sink)} keeps what it has not got; if it is gone for good: twofold audit forget-sink ${name}`;
}

async function archived(
  config: Config,
  request: ArchiveRequest,
  tell: (removed: number, until: number) => void,
  unwinding: Unwinding,
): Promise<ArchiveResult> {
  const store = await storeBeside(config, unwinding);
  const { hsm } = await deviceBeside(config, unwinding);
  const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const owned = openOwned(config, unwinding);
  const beside = await instanceBeside(config, store, root, unwinding);
  const { instance, epoch, audit } = beside;
  return archive(
    { ...owned, record: (operation, detail) => audit.recordOwn(operation, detail) },
    {
      ...request,
      onProgress: async (removed, until) => {
        tell(removed, until);
        // An instance that is silent for long is taken for dead, and its lane with it.
        await store.instances.beat(instance, epoch.current);
      },
    },
  );
}

/** The tables as their owner has them. @throws TwofoldError invalid_value where nobody says who that is */
export function openOwned(
  { dataDir, database: { ownerUrl, tls, caFile } }: Config,
  unwinding: Unwinding,
): OwnedArchive {
  const url = ownerUrl ?? findEmbedded(dataDir)?.ownerUrl;
  if (url === undefined) {
    throw new TwofoldError(
      'invalid_value',
      'database.ownerUrl is not configured, and no embedded database runs.',
    );
  }
  const owned = openArchiveStore({ url, tls, caFile });
  unwinding.add('database pool of the owner', () => owned.close());
  return owned;
}

/** What was verified, and not what the folder holds by now. */
const exportOf = ({ from, until, root }: VerifyReport): ArchiveRequest['export'] => ({
  from,
  until,
  root: Buffer.from(root, 'base64'),
});
