/**
 * `twofold audit verify FOLDER --trust FILE`: whether an export of the audit log is what was logged.
 * Works offline, reads no configuration and asks no service. Ends with 0 when it is verified, 1 when
 * something was found, 2 when the command was not understood, or a file or folder could not be read.
 */

import { parseDecimal } from '../audit/tree/checkpoint.ts';
import { parseVkeys } from '../audit/tree/vkey.ts';
import type { Vkey } from '../audit/tree/vkey.ts';
import { printable, printableJson } from '../audit/verify/printable.ts';
import { claimText, reportLines } from '../audit/verify/report-lines.ts';
import { verifyExport } from '../audit/verify/verify.ts';
import type { VerifyOptions, VerifyReport } from '../audit/verify/verify.ts';
import { parseFlags } from '../cli/arguments.ts';
import type { ParsedFlags } from '../cli/arguments.ts';
import { ClientError, fileFailure } from '../client/client-error.ts';
import { TwofoldError } from '../errors.ts';
import { readCarriedFile } from '../recovery/carried-file.ts';

const FLAGS = {
  trust: 'value',
  witnesses: 'value',
  threshold: 'value',
  seen: 'list',
  against: 'list',
  'log-only': 'switch',
  json: 'switch',
} as const;

const USAGE =
  'The command is: twofold audit verify FOLDER --trust FILE [--witnesses FILE --threshold K] ' +
  '[--seen FILE]… [--against FOLDER]… [--log-only] [--json]';

const refuse = (why: string) => new TwofoldError('invalid_value', why);

/**
 * @param onReport gets what was found, for who goes on with it
 * @param pause see `VerifyOptions`
 * @returns the exit code: 0 verified, 1 something was found, 2 not understood, or not to be read
 */
export async function auditVerifyCommand(
  argv: readonly string[],
  print: (line: string) => void,
  complain: (line: string) => void,
  onReport: (report: VerifyReport) => void = () => undefined,
  pause: () => Promise<void> = () => Promise.resolve(),
): Promise<number> {
  return orNotUnderstood(complain, async () => {
    const { folder, options, json } = parseArguments(argv);
    const report = await verifyExport(folder, { ...options, pause });
    onReport(report);
    if (json) {
      const claims = claimText(report.claim);
      print(printableJson(JSON.stringify({ ...report, claims }, null, 2)));
    } else {
      reportLines(report).forEach(print);
    }
    return report.verified ? 0 : 1;
  });
}

/** Whether the arguments are understood, for who has to fetch first what is to be verified; else says why not. */
export async function isVerifiable(
  argv: readonly string[],
  complain: (line: string) => void,
): Promise<boolean> {
  const understood = () => {
    parseArguments(argv);
    return Promise.resolve(0);
  };
  return (await orNotUnderstood(complain, understood)) === 0;
}

async function orNotUnderstood(
  complain: (line: string) => void,
  work: () => Promise<number>,
): Promise<number> {
  try {
    return await work();
  } catch (failure) {
    // What could not be read says nothing of the log: 1 would be that something was found.
    const error = fileFailure(failure);
    if (!TwofoldError.is(error) && !ClientError.is(error)) throw error;
    complain(printable(`twofold: ${error.message} (${error.code})`));
    if (TwofoldError.is(error)) complain(USAGE);
    return 2;
  }
}

function parseArguments(argv: readonly string[]) {
  const flags = parseFlags(argv, FLAGS);
  const [folder, ...more] = flags.positional;
  if (folder === undefined || more.length > 0) throw refuse('One folder is to be named.');
  const trust = value(flags, 'trust');
  if (trust === undefined)
    throw refuse('--trust is missing: a file of the verifier keys of the log.');
  const witnesses = witnessesOf(flags);
  const options: VerifyOptions = {
    trust: keysOf(trust),
    seen: (flags.values.get('seen') ?? []).map((file) => readCarriedFile(file)),
    against: flags.values.get('against') ?? [],
    rows: !flags.values.has('log-only'),
    ...(witnesses === undefined ? {} : { witnesses }),
  };
  return { folder, options, json: flags.values.has('json') };
}

function witnessesOf(flags: ParsedFlags): VerifyOptions['witnesses'] {
  const [file, text] = [value(flags, 'witnesses'), value(flags, 'threshold')];
  if (file === undefined && text === undefined) return undefined;
  if (file === undefined || text === undefined) {
    throw refuse('--witnesses and --threshold are given together.');
  }
  const vkeys = keysOf(file);
  const threshold = parseDecimal(text) ?? 0;
  const names = new Set(vkeys.map(({ name }) => name));
  if (threshold < 1 || threshold > names.size) {
    throw refuse(`--threshold is a number from 1 to ${names.size}, the number of witnesses.`);
  }
  return { vkeys, threshold };
}

const value = ({ values }: ParsedFlags, name: string): string | undefined => values.get(name)?.[0];

function keysOf(file: string): readonly Vkey[] {
  const vkeys = parseVkeys(readCarriedFile(file));
  if (vkeys.length === 0) throw refuse(`${file} names no verifier key.`);
  return vkeys;
}
