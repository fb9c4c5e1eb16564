/** One conformance run from its first login to its clean-up, whatever happens in between. */
import { cpus } from 'node:os';

import { holdRunName } from '../hsm/conformance-objects.ts';
import { formatRow } from '../hsm/conformance.ts';
import type { ConformanceRow } from '../hsm/conformance.ts';
import type { Speed } from '../hsm/conformance-speed.ts';
import type { HsmStatus } from '../hsm/port.ts';
import { ConformanceRun } from '../hsm/run-conformance.ts';
import type { ConformancePlace, Finished, Prepared } from '../hsm/run-conformance.ts';
import { TwofoldError } from '../errors.ts';
import { REPORT_SCHEMA, suiteVerdicts, usesOf } from './conformance-report.ts';
import type { ConformanceReportFile } from './conformance-report.ts';
import { VERSION } from './version.ts';

export interface Conduct {
  readonly place: ConformancePlace;
  readonly environment: Readonly<Record<string, string>>;
  /** For each measured operation; 0 measures none. */
  readonly milliseconds: number;
  readonly print: (line: string) => void;
}

interface Seen {
  readonly prepared: Prepared;
  readonly custody: HsmStatus['custody'];
  readonly checks: readonly ConformanceRow[];
  readonly speeds: readonly Speed[];
}

/** What was made may still be on the token. */
class NotRemoved extends TwofoldError {}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Undefined when a signal stopped it: the step under way ends, and the clean-up still runs.
 *
 * @throws TwofoldError what made the token unusable; nothing was made on it then
 */
export async function conduct(options: Conduct): Promise<ConformanceReportFile | undefined> {
  const { place, environment, print } = options;
  const run = new ConformanceRun(place, environment);
  const stop = new AbortController();
  const onSignal = () => {
    if (!stop.signal.aborted) print('stopping; the run’s objects are removed first');
    stop.abort();
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  const release = await holdRunName(place.run);
  try {
    return await toTheEnd(run, options, stop.signal);
  } catch (error) {
    if (stop.signal.aborted && !(error instanceof NotRemoved)) return undefined;
    throw error;
  } finally {
    release();
    for (const signal of SIGNALS) process.off(signal, onSignal);
  }
}

/** Whatever a step came to, what the run made goes; unless no step ever got as far as making anything. */
async function toTheEnd(
  run: ConformanceRun,
  options: Conduct,
  signal: AbortSignal,
): Promise<ConformanceReportFile> {
  let seen: Seen;
  try {
    seen = await proceed(run, options, signal);
  } catch (error) {
    if (run.opened) await removed(run);
    throw error;
  }
  return reportOf(seen, await removed(run));
}

async function removed(run: ConformanceRun): Promise<Finished> {
  try {
    return await run.finish();
  } catch (error) {
    const detail = 'Objects of the run may be left on the token: run it again to remove them.';
    throw new NotRemoved(TwofoldError.from(error).code, detail, { cause: error });
  }
}

async function proceed(
  run: ConformanceRun,
  { milliseconds, print }: Conduct,
  signal: AbortSignal,
): Promise<Seen> {
  const prepared = await run.prepare(signal);
  const checks: ConformanceRow[] = [];
  const report = (row: ConformanceRow) => {
    checks.push(row);
    print(formatRow(row));
  };
  /** A module that ends its process has failed, and the run goes on without it. */
  const surviving = async <Result>(
    step: string,
    begun: Promise<Result>,
  ): Promise<Result | null> => {
    try {
      return await begun;
    } catch (error) {
      if (signal.aborted || !TwofoldError.is(error)) throw error;
      report({ name: `the module survives ${step}`, result: 'fail', detail: error.message });
      return null;
    }
  };
  const conformed = await surviving('the checks', run.check(prepared.root, report, signal));
  const available = prepared.capabilities.filter((one) => one.available).map(({ name }) => name);
  const speeds =
    milliseconds === 0
      ? []
      : await surviving('the measurements', run.measure(available, milliseconds, signal));
  return { prepared, custody: conformed?.custody ?? 'unknown', checks, speeds: speeds ?? [] };
}

function reportOf(
  { prepared, custody, checks, speeds }: Seen,
  { after }: Finished,
): ConformanceReportFile {
  const { module, token, mechanisms, capabilities, before, removed, root } = prepared;
  const { manufacturer, model, firmware, serial } = token;
  const count = (wanted: ConformanceRow['result']) =>
    checks.filter(({ result }) => result === wanted).length;
  return {
    schema: REPORT_SCHEMA,
    made: new Date().toISOString(),
    twofold: VERSION,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    processor: cpus()[0]?.model ?? '',
    module,
    token: { manufacturer, model, firmware, serial },
    mechanisms,
    root: root === null ? 'none' : root.temporary ? 'temporary' : 'of the security officer',
    custody,
    uses: usesOf(capabilities, mechanisms, speeds),
    suites: suiteVerdicts(capabilities, checks),
    checks,
    summary: { passed: count('pass'), failed: count('fail'), absent: count('absent') },
    objects: {
      before: before.length,
      after: after.length,
      leftovers: removed,
      unchanged: before.join() === after.join(),
    },
  };
}
