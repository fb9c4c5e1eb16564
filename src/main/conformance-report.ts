/** The report of a conformance run: what is printed, and what is sent in as JSON. */
import { writeDurably } from '../hsm/durable.ts';
import { SUITES } from '../crypto/suites.ts';
import type { HsmKeySpec } from '../crypto/hsm-key.ts';
import type { Suite } from '../crypto/suite.ts';
import { ROOT_ATTACK } from '../hsm/conformance.ts';
import type { ConformanceRow, ConformanceSummary } from '../hsm/conformance.ts';
import { CHECKS } from '../hsm/conformance-checks.ts';
import type { Speed } from '../hsm/conformance-speed.ts';
import { mechanismName } from '../hsm/module-facts.ts';
import type { ModuleFacts } from '../hsm/module-facts.ts';
import type { HsmCapability, HsmStatus } from '../hsm/port.ts';
import { capabilityOf, wrapCapabilityOf } from '../keyring/material.ts';
import type { Custody } from '../keyring/material.ts';

/** Rises with every change of what a member means; members are only added. */
export const REPORT_SCHEMA = 'twofold-conformance/1';

/**
 * Without the root's own keys (to seal post-quantum halves, to authenticate rows and audit batches,
 * and both wrapped) the service does not start, whatever else a token can do.
 */
export const SERVICE_NEEDS: readonly string[] = ['wrap', 'aes-gcm', 'hmac:SHA-256', 'random'];

export interface SuiteVerdict {
  readonly suite: string;
  readonly served: boolean;
  /** The capability of the classical half, or of the whole symmetric key; null: it asks for none. */
  readonly needs: string | null;
  /**
   * Where its keys live; `hsm-token` for private keys that the token does not wrap, `sealed` for
   * suites without a key in the token.
   */
  readonly custody: Custody | 'sealed';
  /** Why it is not served; empty where it is. */
  readonly reason: string;
}

export interface ReportedUse extends HsmCapability {
  /** Empty where none is needed. */
  readonly mechanism: string;
  readonly speeds: readonly Omit<Speed, 'use'>[];
}

/** Holds no PIN, no key material, no label, and a serial only where it was asked for. */
export interface ConformanceReportFile {
  readonly schema: typeof REPORT_SCHEMA;
  readonly made: string;
  readonly twofold: string;
  readonly node: string;
  readonly platform: string;
  readonly processor: string;
  readonly module: ModuleFacts;
  readonly token: {
    readonly manufacturer: string;
    readonly model: string;
    readonly firmware: string;
    /** Written to a file only where that was asked for. */
    readonly serial?: string;
  };
  /** Numbers of all that the token lists. */
  readonly mechanisms: readonly string[];
  /** Whose root the checks used; `none` where the token made none. */
  readonly root: 'of the security officer' | 'temporary' | 'none';
  readonly custody: HsmStatus['custody'];
  readonly uses: readonly ReportedUse[];
  readonly suites: readonly SuiteVerdict[];
  readonly checks: readonly ConformanceRow[];
  readonly summary: ConformanceSummary;
  readonly objects: {
    readonly before: number;
    readonly after: number;
    /** Left by interrupted runs and removed before this one. */
    readonly leftovers: number;
    /** Whether the token's objects after the run are those before it. */
    readonly unchanged: boolean;
  };
}

/** Whole or not at all; without the serial unless `withSerial`. */
export function writeReport(
  path: string,
  report: ConformanceReportFile,
  withSerial: boolean,
): Promise<void> {
  const { serial, ...token } = report.token;
  const shown = withSerial && serial !== undefined ? { ...token, serial } : token;
  const text = `${JSON.stringify({ ...report, token: shown }, null, 2)}\n`;
  return writeDurably(path, text);
}

export function usesOf(
  capabilities: readonly HsmCapability[],
  mechanisms: readonly string[],
  speeds: readonly Speed[],
): ReportedUse[] {
  return capabilities.map((capability) => ({
    ...capability,
    mechanism: capability.mechanism ?? mechanismName(capability.name, mechanisms),
    speeds: speeds.flatMap(({ use, ...speed }) => (use === capability.name ? [speed] : [])),
  }));
}

/** Every suite, by what was probed and what the checks found. */
export function suiteVerdicts(
  capabilities: readonly HsmCapability[],
  checks: readonly ConformanceRow[],
): SuiteVerdict[] {
  const without = new Map<string, string>();
  for (const { name, available, reason } of capabilities) {
    if (!available) without.set(name, reason);
  }
  for (const { name, result } of checks) {
    const need = result === 'fail' ? blamed(name) : undefined;
    if (need !== undefined && !without.has(need)) without.set(need, `the check failed: ${name}`);
  }
  return Object.values(SUITES).map((suite) => verdictOf(suite, without));
}

/** The one capability that a failed check is about, or `wrap`, without which nothing is served. */
function blamed(check: string): string | undefined {
  // Those decide the custody, which is reported of its own.
  if (check.startsWith(ROOT_ATTACK)) return undefined;
  const needs = CHECKS.find(({ name }) => name === check)?.needs ?? [];
  const [only, second] = needs.filter((need) => !need.startsWith('wrap'));
  return second === undefined && only !== undefined ? only : 'wrap';
}

function verdictOf(suite: Suite, without: ReadonlyMap<string, string>): SuiteVerdict {
  const needs = suite.hsm === null ? null : capabilityOf(suite.hsm);
  const wanted = needs === null ? SERVICE_NEEDS : [needs, ...SERVICE_NEEDS];
  const missing = [...new Set(wanted)].filter((name) => without.has(name));
  const reasons = missing.map((name) => {
    const why = `${name}: ${without.get(name) ?? ''}`;
    return SERVICE_NEEDS.includes(name) ? `the service needs ${why}` : why;
  });
  return {
    suite: suite.id,
    served: missing.length === 0,
    needs,
    custody: suite.hsm === null ? 'sealed' : custodyOf(suite.hsm, without),
    reason: reasons.join('; '),
  };
}

/** Secret keys of a token that wraps none are no custody but a service that does not run. */
function custodyOf(spec: HsmKeySpec, without: ReadonlyMap<string, string>): Custody {
  const wrapping = wrapCapabilityOf(spec);
  const stays = wrapping === null || (wrapping !== 'wrap' && without.has(wrapping));
  return stays ? 'hsm-token' : 'hsm-wrapped';
}
