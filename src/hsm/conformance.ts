/**
 * Tries a PKCS #11 module: what it is, which uses it has, whether it keeps the port's contract, and
 * what its PIN holder could extract. For the table of tested modules in the README.
 *
 * Keys that the checks make are session objects, or token objects that are destroyed at the end.
 */
import { TwofoldError } from '../errors.ts';
import { CHECKS } from './conformance-checks.ts';
import type { Check } from './conformance-checks.ts';
import { createHsm } from './pool.ts';
import type { HsmOptions } from './pool.ts';
import type { Hsm, HsmStatus, RootOnToken } from './port.ts';

export interface ConformanceRow {
  readonly name: string;
  /** `absent`: the token does not offer what the check needs; `note`: nothing was decided. */
  readonly result: 'pass' | 'fail' | 'absent' | 'note';
  readonly detail: string;
}

export interface ConformanceSummary {
  readonly passed: number;
  readonly failed: number;
  readonly absent: number;
}

export type ConformanceReport = (row: ConformanceRow) => void;

export type ConformanceOptions = Pick<
  HsmOptions,
  'module' | 'tokenSelector' | 'pinFile' | 'stateDir' | 'env' | 'log'
>;

/**
 * Opens the module and runs everything; `hsm_unavailable` when it cannot be opened. Without a root on
 * the token, what needs wrapped keys is noted as not run.
 */
export async function runConformance(
  options: ConformanceOptions,
  report: ConformanceReport,
): Promise<ConformanceSummary> {
  const hsm = await createHsm({ ...options, workers: 2, queueLimit: 256, deadlineMs: 10_000 });
  try {
    const status = hsm.status();
    if (!status.ready) throw new TwofoldError('hsm_unavailable', status.detail);
    const [root] = await hsm.roots();
    if (root !== undefined) await hsm.useRoot(root);
    return await conform(hsm, root, report);
  } finally {
    await hsm.close();
  }
}

/** The same on an open port; `root` must be the selected one. */
export async function conform(
  hsm: Hsm,
  root: RootOnToken | undefined,
  report: ConformanceReport,
): Promise<ConformanceSummary> {
  const counts = { pass: 0, fail: 0, absent: 0, note: 0 };
  const count: ConformanceReport = (row) => {
    counts[row.result] += 1;
    report(row);
  };
  describe(hsm.status(), count);
  for (const check of CHECKS) count(await attempt(hsm, root, check));
  return { passed: counts.pass, failed: counts.fail, absent: counts.absent };
}

/** Rows as aligned lines, for a terminal. */
export function formatRow({ name, result, detail }: ConformanceRow): string {
  return `${result.padEnd(7)}${name}${detail === '' ? '' : `: ${detail}`}`;
}

function describe(status: HsmStatus, report: ConformanceReport): void {
  const { token, custody } = status;
  if (token !== null) {
    const detail = `${token.manufacturer} ${token.model}, firmware ${token.firmware}`;
    report({ name: 'token', result: 'note', detail });
  }
  for (const { name, available, reason, checked } of status.capabilities) {
    report({
      name: `use ${name}`,
      result: available ? 'pass' : 'absent',
      detail: available ? `by ${checked ?? 'nothing'}` : reason,
    });
  }
  if (status.rootAttacks === null) {
    report({ name: 'the root withstands attacks', result: 'note', detail: 'not attacked' });
  }
  for (const { name, outcome, detail } of status.rootAttacks ?? []) {
    const seen = outcome === 'allowed' ? 'the token allows it' : detail;
    const result = outcome === 'refused' ? 'pass' : 'fail';
    report({ name: `the root withstands: ${name}`, result, detail: seen });
  }
  report({ name: 'custody of wrapped keys', result: 'note', detail: custody });
}

async function attempt(
  hsm: Hsm,
  root: RootOnToken | undefined,
  { name, needs, run }: Check,
): Promise<ConformanceRow> {
  const offered = new Map(hsm.status().capabilities.map((one) => [one.name, one.available]));
  const missing = needs.find((need) => offered.get(need) !== true);
  if (missing !== undefined) return { name, result: 'absent', detail: `needs ${missing}` };
  if (root === undefined && needs.includes('wrap')) {
    return { name, result: 'note', detail: 'not run: the token has no root' };
  }
  try {
    await run(hsm, root ?? { installation: '', generation: 0 });
    return { name, result: 'pass', detail: '' };
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return { name, result: 'fail', detail };
  }
}
