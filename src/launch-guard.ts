/**
 * Refuses to run where the process's memory could be read by a side door: inspector, heap snapshots,
 * diagnostic reports, profiles, core dumps (promise P1); and where Node would take any certificate, also
 * that of whoever stands between us and the database or an issuer.
 *
 * `scripts/launch` sets these things up; this check makes sure of them, however we were started.
 */
import { readFileSync } from 'node:fs';
import { url as inspectorUrl } from 'node:inspector';
import { TwofoldError } from './errors.ts';

/** What the check looks at. */
export interface LaunchFacts {
  /** `process.execArgv`. */
  readonly execArgv: readonly string[];
  /** NODE_OPTIONS as given. */
  readonly nodeOptions: string;
  /** Soft and hard limit of a core file as the kernel prints them (`0` or `unlimited`). */
  readonly coreLimit: readonly string[];
  /** Where the inspector listens, however it was opened. */
  readonly inspector: string | undefined;
  /** NODE_TLS_REJECT_UNAUTHORIZED as given. */
  readonly rejectUnauthorized?: string | undefined;
}

/** What the process was given, for `assertHardened`. */
export type Given = Pick<LaunchFacts, 'nodeOptions' | 'rejectUnauthorized'>;

/** `scripts/launch` refuses the same. */
const REFUSED = [
  '--inspect',
  '--debug',
  '--heap-prof',
  '--heapsnapshot',
  '--cpu-prof',
  '--prof',
  '--report',
  '--experimental-report',
  '--diagnostic-dir',
  '--abort-on-uncaught-exception',
  '--perf-',
  '--logfile',
  '--env-file',
  '--experimental-config-file',
  '--experimental-default-config-file',
  '--tls-keylog',
  '--trace-tls',
];

/**
 * As Node reads it: `_` means `-`, V8 takes its flags with one dash too, and in NODE_OPTIONS quotes
 * and backslashes may stand anywhere in a word (`--ins"pe"ct`, `"--ins\pect"`).
 */
const normal = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll('_', '-')
    .replaceAll(/["\\]/gu, '')
    .replaceAll(/(^|\s)-+/gu, '$1--');

const refusedIn = (text: string): string | undefined =>
  REFUSED.find((flag) => normal(text).includes(flag));

const nodeOptionsProblem = (text: string): string[] => {
  const option = refusedIn(text);
  return option === undefined ? [] : [`NODE_OPTIONS has ${option}.`];
};

/** What is wrong with the launch, as sentences; empty when nothing is. */
export const launchProblems = (facts: LaunchFacts): string[] => {
  const problems: string[] = [];
  for (const argument of facts.execArgv) {
    if (argument.startsWith('-') && refusedIn(argument) !== undefined) {
      problems.push(`Node was started with ${argument.split('=')[0] ?? ''}.`);
    }
  }
  problems.push(...nodeOptionsProblem(facts.nodeOptions));
  if (facts.inspector !== undefined) problems.push('The inspector listens.');
  if (!facts.execArgv.includes('--disable-sigusr1')) {
    problems.push('Node runs without --disable-sigusr1, so SIGUSR1 would open the inspector.');
  }
  if (facts.rejectUnauthorized === '0') {
    problems.push('NODE_TLS_REJECT_UNAUTHORIZED is 0, so no certificate would be verified.');
  }
  if (facts.coreLimit.some((limit) => limit !== '0')) {
    problems.push('The core file limit is not 0.');
  }
  return problems;
};

/** Soft and hard core limit of this process; empty where there is no /proc. */
export const coreLimit = (): readonly string[] => {
  try {
    const line = readFileSync('/proc/self/limits', 'utf8').match(
      /^Max core file size +(\S+) +(\S+)/mu,
    );
    return line === null ? [] : line.slice(1, 3);
  } catch {
    return [];
  }
};

/**
 * @throws TwofoldError `invalid_value` that names every problem and the launcher.
 */
export const assertHardened = (
  execArgv: readonly string[],
  given: Given,
  limit: readonly string[] = coreLimit(),
): void => {
  const inspector = inspectorUrl();
  const problems = launchProblems({ execArgv, ...given, coreLimit: limit, inspector });
  if (problems.length === 0) return;
  throw new TwofoldError(
    'invalid_value',
    `${problems.join(' ')} Secrets could leave the process that way; start it with scripts/launch.`,
  );
};
