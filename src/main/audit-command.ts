/** `twofold audit …`: what auditors do with the log of a service, as its clients. */
import { setImmediate } from 'node:timers/promises';

import { one, parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { Flags, ParsedFlags } from '../cli/arguments.ts';
import { CONNECTION_FLAGS, connectionOptions } from '../cli/connection.ts';
import { AuditLogClient } from '../client/audit-log.ts';
import { tailEntries } from '../client/audit-tail.ts';
import { ClientError, fileFailure } from '../client/client-error.ts';
import { ExportTarget } from '../client/export-folder.ts';
import type { Place } from '../client/export-plan.ts';
import { HttpConnection } from '../client/http-connection.ts';
import { exportLog } from '../client/log-export.ts';
import { printable, printableJson } from '../audit/verify/printable.ts';
import { TwofoldError } from '../errors.ts';
import { placeIn } from './audit-places.ts';
import { auditProveCommand } from './audit-prove-command.ts';
import { auditVerifyCommand, isVerifiable } from './audit-verify-command.ts';
import { complaintLines } from './complaint.ts';
import { linkExport } from './linked-export.ts';
import { withTemporaryFolder } from './temporary-folder.ts';

interface Output {
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
  /** Rejects once standard output takes nothing more. */
  readonly write: (text: string) => Promise<void>;
}

const USAGE = `usage: twofold audit COMMAND …
  export --out FOLDER [--from PLACE] [--until PLACE]     the log and its proofs, to be verified anywhere; goes on where it was
  verify FOLDER --trust FILE …                           whether an export is what was logged
  verify --live --trust FILE …                           the same of what the service holds now; [--archive FOLDER] with what is in cold storage, or [--from PLACE] without
  keys                                                   the keys that sign it, to be pinned
  prove ID --trust FILE                                  that an entry is in the log
  archive FOLDER --trust FILE --before PLACE             on the service's host: its rows go, which that export has
  forget-sink NAME                                       on the service's host: a sink that is gone for good keeps nothing any more
  tail [--follow] [--from INDEX] [--since TIME] [--actor SUBJECT] [--key NAME] [--key-id UUID] [--operation NAME] [--outcome CODE] [--namespace NAME]
A PLACE is an index or a time (RFC 3339).
All but verify FOLDER, archive and forget-sink: [--url http://127.0.0.1:8370] [--authorization .twofold/admin.header] [--ca FILE]`;

const refuse = (why: string) => new TwofoldError('invalid_value', why);

/** Aborts when the process is told to stop. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort());
  }
  return controller.signal;
}

/** Runs with a client of the service that the flags name, and closes it. */
export async function withLog<T>(
  flags: ParsedFlags,
  signal: AbortSignal,
  work: (log: AuditLogClient) => Promise<T>,
): Promise<T> {
  const connection = new HttpConnection(connectionOptions(flags, signal));
  try {
    return await work(new AuditLogClient(connection));
  } finally {
    connection.close();
  }
}

/** @throws TwofoldError invalid_value */
function placeOf(flags: ParsedFlags, name: string): Place | null {
  const text = one(flags, name);
  return text === undefined ? null : placeIn(text, name);
}

const EXPORT_FLAGS = {
  ...CONNECTION_FLAGS,
  out: 'value',
  from: 'value',
  until: 'value',
} as const satisfies Flags;

const PROGRESS_MS = 2_000;

async function exportCommand(argv: readonly string[], { print, complain }: Output) {
  const flags = parseFlags(argv, EXPORT_FLAGS);
  requireNothingMore(flags);
  const out = one(flags, 'out');
  if (out === undefined) throw refuse('--out FOLDER is missing.');
  const places = { from: placeOf(flags, 'from'), until: placeOf(flags, 'until') };
  const plan = await exportTo(out, flags, { ...places, complain }).catch((error: unknown) => {
    if (!ClientError.is(error, 'entry_archived')) throw error;
    for (const line of complaintLines(error)) complain(line);
    complain('Begin with a copy of the archive as that folder, or behind it with --from PLACE.');
    return null;
  });
  if (plan === null) return 1;
  print(printable(`${out}: entries ${plan.from} to ${plan.until - 1} of ${plan.origin}`));
  // One that goes on is what it was begun as, whatever the flags say now.
  if (!plan.rows) complain('Without rows of keys and lanes: verify it with --log-only.');
  return 0;
}

interface ExportWanted {
  readonly from: Place | null;
  readonly until: Place | null;
  readonly complain: (line: string) => void;
}

async function exportTo(
  out: string,
  flags: ParsedFlags,
  { from, until, complain }: ExportWanted,
  signal: AbortSignal = stopSignal(),
) {
  let told = Number.POSITIVE_INFINITY;
  const onProgress = (done: number, of: number): void => {
    // The first is no news.
    if (told === Number.POSITIVE_INFINITY) told = performance.now();
    if (performance.now() - told < PROGRESS_MS) return;
    told = performance.now();
    complain(`${done} of ${of} entries`);
  };
  return withLog(flags, signal, (log) =>
    exportLog(log, new ExportTarget(out), { from, until, onProgress }),
  );
}

const LIVE_FLAGS = {
  ...CONNECTION_FLAGS,
  archive: 'value',
  from: 'value',
} as const satisfies Flags;

/**
 * Of the service itself: what it gives is exported to a folder of its own, and verified there. What is in cold storage
 * comes from the archive.
 * @returns as `verify`; 2 also where there was nothing to verify, or a call of the system failed
 */
async function verifyLive(argv: readonly string[], output: Output): Promise<number> {
  try {
    return await verdictOnLive(argv, output);
  } catch (failure) {
    // Not what 1 says: that something was found. A full or missing TMPDIR and folders that may not be read are neither.
    const error = fileFailure(failure);
    if (!TwofoldError.is(error) && !ClientError.is(error)) throw error;
    for (const line of complaintLines(error)) output.complain(line);
    if (error.code === 'entry_archived') {
      output.complain(
        'Name the archive with --archive FOLDER, or begin behind it with --from PLACE.',
      );
    }
    return 2;
  }
}

async function verdictOnLive(
  argv: readonly string[],
  { print, complain }: Output,
): Promise<number> {
  const own = Object.keys(LIVE_FLAGS);
  const live: string[] = [];
  const rest: string[] = [];
  for (let index = 0; index < argv.length; index += 1) {
    const argument = argv[index] ?? '';
    const [, name = '', inline] = /^--([a-z-]+)(=.*)?$/su.exec(argument) ?? [];
    if (name === 'live') continue;
    if (!own.includes(name)) rest.push(argument);
    else live.push(argument, ...(inline === undefined ? [argv[++index] ?? ''] : []));
  }
  const flags = parseFlags(live, LIVE_FLAGS);
  const archive = one(flags, 'archive');
  const from = placeOf(flags, 'from');
  // Before a log is fetched that may be long.
  if (!(await isVerifiable(['.', ...rest], complain))) return 2;
  return endedBySignals((signal) =>
    withTemporaryFolder('verify', async (folder) => {
      if (archive !== undefined) linkExport(archive, folder);
      await exportTo(folder, flags, { from, until: null, complain }, signal);
      // The verifier reads and computes without a pause of its own: without this no signal would reach it.
      const pause = async () => {
        await setImmediate();
        signal.throwIfAborted();
      };
      return auditVerifyCommand([folder, ...rest], print, complain, undefined, pause);
    }),
  );
}

const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Runs with a signal that aborts when the process is to end; once that is over, the process ends by what ended it. */
async function endedBySignals<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const ended: NodeJS.Signals[] = [];
  const onSignal = (name: NodeJS.Signals): void => {
    ended.push(name);
    controller.abort();
  };
  for (const name of ENDING) process.on(name, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of ENDING) process.off(name, onSignal);
    const [by] = ended;
    if (by !== undefined) process.kill(process.pid, by);
  }
}

/** For a file to pin, once they were compared with what others know of them. */
async function keysCommand(argv: readonly string[], { print }: Output): Promise<number> {
  const flags = parseFlags(argv, CONNECTION_FLAGS);
  requireNothingMore(flags);
  const { origin, keys } = await withLog(flags, stopSignal(), (log) => log.keys());
  // A file of them is trusted: nothing of a comment may look like a line of its own.
  print(printable(`# keys of ${origin}`));
  for (const { vkey, kind, zone, state } of keys) {
    print(printable(`# ${kind}, ${zone}, ${state}`));
    print(printable(vkey));
  }
  return 0;
}

const TAIL_FLAGS = {
  ...CONNECTION_FLAGS,
  follow: 'switch',
  from: 'value',
  since: 'value',
  actor: 'value',
  key: 'value',
  'key-id': 'value',
  operation: 'value',
  outcome: 'value',
  namespace: 'value',
} as const satisfies Flags;

/** Flag -> parameter of the stream. */
const TAIL_PARAMETERS = {
  from: 'from',
  since: 'since',
  actor: 'subject',
  key: 'key',
  'key-id': 'keyId',
  operation: 'operation',
  outcome: 'outcome',
} as const;

async function tailCommand(argv: readonly string[], { complain, write }: Output): Promise<number> {
  const flags = parseFlags(argv, TAIL_FLAGS);
  requireNothingMore(flags);
  const follow = flags.values.has('follow');
  const query = new URLSearchParams({ follow: String(follow) });
  for (const [flag, parameter] of Object.entries(TAIL_PARAMETERS)) {
    const value = one(flags, flag);
    if (value !== undefined) query.set(parameter, value);
  }
  // Without a place there would be nothing to give before what comes.
  if (!follow && !query.has('from') && !query.has('since')) query.set('from', '0');
  const signal = stopSignal();
  const onInterruption = ({ message }: Error): void => complain(`${message} Connecting anew.`);
  const namespace = one(flags, 'namespace');
  await withLog(flags, signal, async (log) => {
    try {
      const lines = tailEntries(log, { query, follow, signal, onInterruption, namespace });
      // Lines that nobody takes yet hold up the reading of more, and those that nobody will take end it.
      for await (const line of lines) await write(`${printableJson(line)}\n`);
    } catch (error) {
      // Whoever follows ends it so; of one that does not, what it printed is cut off.
      if (!signal.aborted || !follow) throw error;
    }
  });
  return 0;
}

/** @returns the exit code; of `verify` 0 verified, 1 something was found, 2 not understood, or not to be read */
export async function auditCommand(
  [command = '', ...argv]: readonly string[],
  output: Output,
): Promise<number> {
  switch (command) {
    case 'export':
      return exportCommand(argv, output);
    case 'verify':
      return argv.includes('--live')
        ? verifyLive(argv, output)
        : auditVerifyCommand(argv, output.print, output.complain);
    case 'prove':
      return auditProveCommand(argv, output, (flags, work) => withLog(flags, stopSignal(), work));
    case 'keys':
      return keysCommand(argv, output);
    case 'tail':
      return tailCommand(argv, output);
    default:
      output.complain(USAGE);
      return 2;
  }
}
