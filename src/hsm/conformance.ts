/**
 * Tries a PKCS #11 module: what it is, which uses it has, whether it keeps the port's contract, and
 * what its PIN holder could extract. For the table of tested modules in the README.
 *
 * Keys that the checks make are session objects, or token objects that are destroyed at the end.
 */
import { CHECKS } from './conformance-checks.ts';
import type { Check } from './conformance-keys.ts';
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

/** Begins the name of every row about an attack on the root. */
export const ROOT_ATTACK = 'the root withstands: ';

export type ConformanceReport = (row: ConformanceRow) => void;

export type ConformanceOptions = Pick<
  HsmOptions,
  'module' | 'moduleParameters' | 'tokenSelector' | 'pinFile' | 'stateDir' | 'tokenKeyLabel' | 'log'
>;

/** A temporary root was made by the PIN alone and falls to it, so its attacks are not counted. */
export interface RunRoot extends RootOnToken {
  readonly temporary: boolean;
}

/** For a token over a network, or a slow one: the checks look at answers, not at their time. */
const DEADLINE_MS = 60_000;

export interface Conformed {
  readonly summary: ConformanceSummary;
  readonly custody: HsmStatus['custody'];
}

/**
 * Opens the module as the service does and runs everything; a token that cannot be opened so, or whose
 * root cannot be selected, is a failed row. Without a root, what needs wrapped keys is noted as not run.
 */
export async function runConformance(
  options: ConformanceOptions,
  root: RunRoot | null,
  report: ConformanceReport,
): Promise<Conformed> {
  const pool = { workers: 2, queueLimit: 256, deadlineMs: DEADLINE_MS };
  const hsm = await createHsm({ ...options, ...pool });
  const fails = (name: string, detail: string): Conformed => {
    report({ name, result: 'fail', detail });
    return { summary: { passed: 0, failed: 1, absent: 0 }, custody: 'unknown' };
  };
  try {
    const { ready, detail } = hsm.status();
    if (!ready) return fails('the token opens', detail);
    try {
      if (root !== null) await hsm.useRoot(root);
    } catch (error) {
      return fails('the root is selected', messageOf(error));
    }
    const summary = await conform(hsm, root ?? undefined, report);
    const custody = root?.temporary === false ? hsm.status().custody : 'unknown';
    return { summary, custody };
  } finally {
    await hsm.close();
  }
}

/** The same on an open port; `root` must be the selected one. */
export async function conform(
  hsm: Hsm,
  root: RootOnToken | RunRoot | undefined,
  report: ConformanceReport,
): Promise<ConformanceSummary> {
  const counts = { pass: 0, fail: 0, absent: 0, note: 0 };
  const count: ConformanceReport = (row) => {
    counts[row.result] += 1;
    report(row);
  };
  const temporary = root !== undefined && 'temporary' in root && root.temporary;
  describe(hsm.status(), temporary, count);
  for (const check of CHECKS) count(await attempt(hsm, root, check));
  return { passed: counts.pass, failed: counts.fail, absent: counts.absent };
}

/** Rows as aligned lines, for a terminal. */
export function formatRow({ name, result, detail }: ConformanceRow): string {
  return `${result.padEnd(7)}${name}${detail === '' ? '' : `: ${detail}`}`;
}

const TEMPORARY =
  'not attacked: the run made a root by the PIN alone; one made by the security officer is attacked';

function describe(status: HsmStatus, temporary: boolean, report: ConformanceReport): void {
  const { token } = status;
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
  if (temporary) {
    report({ name: 'the root withstands attacks', result: 'note', detail: TEMPORARY });
    return;
  }
  if (status.rootAttacks === null) {
    report({ name: 'the root withstands attacks', result: 'note', detail: 'not attacked' });
  }
  for (const { name, outcome, detail } of status.rootAttacks ?? []) {
    const seen = outcome === 'allowed' ? 'the token allows it' : detail;
    const result = outcome === 'refused' ? 'pass' : 'fail';
    report({ name: `${ROOT_ATTACK}${name}`, result, detail: seen });
  }
  report({ name: 'custody of wrapped keys', result: 'note', detail: status.custody });
}

async function attempt(
  hsm: Hsm,
  root: RootOnToken | undefined,
  { name, needs, run }: Check,
): Promise<ConformanceRow> {
  const offered = new Map(hsm.status().capabilities.map((one) => [one.name, one.available]));
  const missing = needs.find((need) => offered.get(need) !== true);
  if (missing !== undefined) return { name, result: 'absent', detail: `needs ${missing}` };
  if (root === undefined && needs.some((need) => need.startsWith('wrap'))) {
    return { name, result: 'note', detail: 'not run: the token has no root' };
  }
  try {
    await run(hsm, root ?? { installation: '', generation: 0 });
    return { name, result: 'pass', detail: '' };
  } catch (error) {
    return { name, result: 'fail', detail: messageOf(error) };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
