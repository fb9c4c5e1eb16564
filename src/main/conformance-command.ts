/**
 * `twofold conformance`: what a PKCS#11 module can do of what the service asks, as a table, and as a
 * JSON report to send in.
 *
 * Without `--module` it makes a SoftHSM token of its own and removes it again. A token of the user's is
 * touched only after it was said what will happen and that was confirmed.
 */
import { randomUUID } from 'node:crypto';
import { accessSync, constants, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { ParsedFlags } from '../cli/arguments.ts';
import { findSoftHsm, moduleEnvironment } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { newRunName } from '../hsm/conformance-objects.ts';
import { ensureDevelopmentToken } from '../hsm/development-token.ts';
import { runRootCeremony } from '../hsm/run-ceremony.ts';
import type { ConformancePlace } from '../hsm/run-conformance.ts';
import { announcement, confirmedOnTerminal } from './conformance-announcement.ts';
import { conduct } from './conformance-conduct.ts';
import { writeReport } from './conformance-report.ts';
import { tableLines } from './conformance-table.ts';
import { SILENT } from './silent-log.ts';

const FLAGS = {
  module: 'value',
  'module-parameters': 'value',
  slot: 'value',
  'token-label': 'value',
  serial: 'value',
  'pin-file': 'value',
  yes: 'switch',
  json: 'value',
  'with-serial': 'switch',
  'no-speed': 'switch',
} as const;

/** What names a user's token or says how to reach it. */
const OF_MODULE = ['module-parameters', 'slot', 'token-label', 'serial', 'pin-file'] as const;

/** For each measured operation; none is measured with `--no-speed`. */
const MILLISECONDS = 250;

interface Place {
  readonly place: ConformancePlace;
  readonly environment: Readonly<Record<string, string>>;
}

type Flag = (name: keyof typeof FLAGS) => string | undefined;

function selectorOf(flag: Flag) {
  const slot = flag('slot');
  const label = flag('token-label');
  const serial = flag('serial');
  if (slot !== undefined && !/^\d{1,10}$/.test(slot)) {
    throw new TwofoldError('invalid_value', '--slot is a slot number.');
  }
  return {
    ...(slot === undefined ? {} : { slot: Number(slot) }),
    ...(label === undefined ? {} : { label }),
    ...(serial === undefined ? {} : { serial }),
  };
}

function namedToken(module: string, flag: Flag, stateDir: string): Place {
  const pinFile = flag('pin-file');
  if (pinFile === undefined) throw new TwofoldError('invalid_value', '--pin-file is missing.');
  const moduleParameters = flag('module-parameters');
  const place = {
    module,
    ...(moduleParameters === undefined ? {} : { moduleParameters }),
    tokenSelector: selectorOf(flag),
    pinFile,
    stateDir,
    run: newRunName(),
  };
  return { place, environment: moduleEnvironment() };
}

/** SoftHSM's report would be taken for that of the token that they name. */
function requireNoToken(parsed: ParsedFlags): void {
  const named = OF_MODULE.find((name) => parsed.values.has(name));
  if (named === undefined) return;
  throw new TwofoldError('invalid_value', `--${named} is of a module: name it by --module FILE.`);
}

async function ownToken(dataDir: string): Promise<Place> {
  const module = findSoftHsm();
  if (module === undefined) {
    throw new TwofoldError('invalid_value', 'Name a module: --module FILE --pin-file FILE.');
  }
  const environment = moduleEnvironment();
  const token = await ensureDevelopmentToken({ dataDir, module, log: SILENT, environment });
  const { pinFile, softhsmConf } = token;
  const tokenSelector = { label: token.tokenLabel };
  const root = { installation: randomUUID(), generation: 1 };
  await runRootCeremony({ ...token, tokenSelector, environment, ...root });
  return {
    place: { module, tokenSelector, pinFile, stateDir: dataDir, run: newRunName() },
    environment: { ...environment, SOFTHSM2_CONF: softhsmConf },
  };
}

async function requireConfirmed(parsed: ParsedFlags): Promise<void> {
  if (parsed.values.has('yes')) return;
  if (!process.stdin.isTTY) {
    throw new TwofoldError(
      'invalid_value',
      'Nothing was done. Add --yes to go on without a terminal.',
    );
  }
  if (!(await confirmedOnTerminal())) {
    throw new TwofoldError('invalid_value', 'Nothing was done.');
  }
}

/** A run takes the token's time: whether its report has a place is known before it begins. */
function requirePlaceOf(report: string | undefined): void {
  if (report === undefined) return;
  const refused = (why: string, cause?: unknown) =>
    new TwofoldError('invalid_value', `--json: ${why}.`, { cause });
  let isFile: boolean;
  try {
    accessSync(`${dirname(report)}/`, constants.W_OK);
    // The report takes the place of a file that is there, whatever its mode.
    isFile = statSync(report, { throwIfNoEntry: false })?.isFile() ?? true;
  } catch (cause) {
    throw refused(`${dirname(report)} cannot be written to`, cause);
  }
  if (!isFile || report.endsWith('/')) throw refused(`${report} is no file`);
}

/** Exit code 0 when nothing failed, 130 when it was interrupted. */
export async function conformanceCommand(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const parsed = parseFlags(argv, FLAGS);
  requireNothingMore(parsed);
  const flag: Flag = (name) => parsed.values.get(name)?.[0];
  const json = flag('json');
  requirePlaceOf(json);
  const folder = mkdtempSync(join(tmpdir(), 'twofold-conformance-'));
  try {
    const module = flag('module');
    if (module === undefined) requireNoToken(parsed);
    const where = module === undefined ? await ownToken(folder) : namedToken(module, flag, folder);
    const measures = !parsed.values.has('no-speed');
    for (const line of announcement({ ...where.place, measures })) print(line);
    if (module !== undefined) await requireConfirmed(parsed);
    const report = await conduct({ ...where, milliseconds: measures ? MILLISECONDS : 0, print });
    if (report === undefined) return 130;
    for (const line of tableLines(report)) print(line);
    if (json !== undefined) await writeReport(json, report, parsed.values.has('with-serial'));
    const { passed, failed, absent } = report.summary;
    print(`${String(passed)} passed, ${String(failed)} failed, ${String(absent)} absent`);
    return failed === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
