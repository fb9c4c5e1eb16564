/**
 * `twofold conformance`: what a PKCS#11 module can do of what the service asks, as a table to report.
 *
 * Without `--module` it makes a SoftHSM token of its own and removes it again.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import type { ParsedFlags } from '../cli/arguments.ts';
import { findSoftHsm, moduleEnvironment } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { formatRow, runConformance } from '../hsm/conformance.ts';
import type { ConformanceOptions } from '../hsm/conformance.ts';
import { ensureDevelopmentToken } from '../hsm/development-token.ts';
import { runRootCeremony } from '../hsm/run-ceremony.ts';
import { SILENT } from './silent-log.ts';

const FLAGS = {
  module: 'value',
  slot: 'value',
  'token-label': 'value',
  serial: 'value',
  'pin-file': 'value',
} as const;

type Place = Omit<ConformanceOptions, 'stateDir' | 'log'>;

function selectorOf(flag: (name: keyof typeof FLAGS) => string | undefined) {
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

async function placeOf(parsed: ParsedFlags, folder: string): Promise<Place> {
  const flag = (name: keyof typeof FLAGS) => parsed.values.get(name)?.[0];
  const module = flag('module');
  if (module === undefined) return ownToken(folder);
  const pinFile = flag('pin-file');
  if (pinFile === undefined) throw new TwofoldError('invalid_value', '--pin-file is missing.');
  return { module, tokenSelector: selectorOf(flag), pinFile };
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
  return { module, tokenSelector, pinFile, env: { SOFTHSM2_CONF: softhsmConf } };
}

/** Exit code 0 when nothing failed. */
export async function conformanceCommand(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const parsed = parseFlags(argv, FLAGS);
  requireNothingMore(parsed);
  const folder = mkdtempSync(join(tmpdir(), 'twofold-conformance-'));
  try {
    const place = await placeOf(parsed, folder);
    const options = { ...place, stateDir: folder, log: SILENT };
    const { passed, failed, absent } = await runConformance(options, (row) =>
      print(formatRow(row)),
    );
    print(`${String(passed)} passed, ${String(failed)} failed, ${String(absent)} absent`);
    return failed === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
