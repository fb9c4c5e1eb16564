/** Plans that change the state of one version, and the times at which it will change by itself. */
import { findSuiteByNumber } from '../crypto/suites.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { versionOf } from './catalog.ts';
import type { Plan } from './changes.ts';
import { checkAhead } from './lead-time.ts';
import { destructionOf, transition } from './lifecycle.ts';
import type { Key, KeyVersion } from './model.ts';
import { checkReason } from './names.ts';
import type { NewVersionParts } from './new-version.ts';
import type {
  CompromiseVersion,
  ReasonedVersion,
  ScheduleVersion,
} from './lifecycle-operations.ts';
import type { KeyView } from './operations.ts';
import { planNothing, planVersionChange, planVersionRow, standing } from './row-plans.ts';
import type { RowMac } from './row-mac.ts';
import { usedOf } from './selection.ts';
import { planSuccessor } from './succession.ts';
import { requireNoFallback } from './windows.ts';

/** Why a version changed by the clock. */
export const BY_CLOCK = {
  activate: 'It was to be activated at this time.',
  deactivate: 'It was to be deactivated at this time.',
} as const;

/** A replacement that took so long to fail is not tried again: the compromise waits for it. */
const TRIED_LONG_MS = 2_000;

interface Parts {
  readonly mac: RowMac;
  readonly clock: () => Date;
}

export function planActivation(
  parts: Parts,
  view: KeyView,
  { version: number, reason }: ReasonedVersion,
): Promise<Plan> | Plan {
  checkReason(reason);
  const version = versionOf(view, number);
  if (version.state === 'active') return planNothing(view, { reason }, version);
  return activation(parts, view, version, reason);
}

/** @throws TwofoldError version_not_usable before the version's `activateAt`, or without one */
export function planDueActivation(
  parts: Parts,
  view: KeyView,
  { version: number }: { readonly version: number },
): Promise<Plan> | Plan {
  const version = versionOf(view, number);
  const reason = BY_CLOCK.activate;
  if (version.state === 'active') return planNothing(view, { reason }, version);
  requirePassed(version.state === 'pre-active' ? version.activateAt : null, parts.clock());
  return activation(parts, view, version, reason);
}

function activation(
  { mac, clock }: Parts,
  view: KeyView,
  version: KeyVersion,
  reason: string,
): Promise<Plan> {
  const changed = transition(version, { kind: 'activate', at: clock() });
  const { key } = view;
  const { version: number } = version;
  if (destructionOf(version) !== null) {
    throw new TwofoldError('version_not_usable', 'The version awaits its destruction; cancel it.');
  }
  if (number < key.minUsableVersion) {
    throw new TwofoldError('version_not_usable', 'The version is closed by minUsableVersion.');
  }
  const leads = key.primary === null || number > key.primary;
  if (leads) requireNoFallback(view, findSuiteByNumber(version.suite));
  const fields: Partial<Key> = leads ? { primary: number } : {};
  return planVersionRow(mac, view, { version, changed, fields, detail: { reason } });
}

/** @throws TwofoldError primary_protected */
export function planDeactivation(
  { mac, clock }: Parts,
  view: KeyView,
  { version: number, reason }: ReasonedVersion,
): Promise<Plan> | Plan {
  checkReason(reason);
  const version = versionOf(view, number);
  if (version.state === 'deactivated') return planNothing(view, { reason }, version);
  if (view.key.primary === number) throw new TwofoldError('primary_protected');
  const event = { kind: 'deactivate', at: clock(), reason } as const;
  return planVersionChange(mac, view, { version, event, detail: { reason } });
}

/**
 * Of the primary too, which leaves the key without one: its time was set by who may rotate the key.
 * @throws TwofoldError version_not_usable before the version's `deactivateAt`, or without one
 */
export function planDueDeactivation(
  { mac, clock }: Parts,
  view: KeyView,
  { version: number }: { readonly version: number },
): Promise<Plan> | Plan {
  const version = versionOf(view, number);
  const reason = BY_CLOCK.deactivate;
  if (version.state === 'deactivated') return planNothing(view, { reason }, version);
  const now = clock();
  requirePassed('deactivateAt' in version ? version.deactivateAt : null, now);
  const changed = transition(version, { kind: 'deactivate', at: now, reason });
  const fields = withoutPrimary(view, number);
  return planVersionRow(mac, view, { version, changed, fields, detail: { reason } });
}

function requirePassed(time: Date | null, now: Date): void {
  if (time !== null && time <= now) return;
  throw new TwofoldError('version_not_usable', 'The version has no time for this that has come.');
}

const withoutPrimary = ({ key }: KeyView, number: number): Partial<Key> =>
  key.primary === number ? { primary: null } : {};

/**
 * The primary falls like any other; with `replace` a new version of its suite takes its place in the
 * same transaction, else the key protects nothing until it is rotated. Where none may be made now (the
 * key is suspended, its suite cannot be had), it falls all the same, and the detail says why it has no
 * successor; the same again makes one then, while the key has no primary. `refused`: what a replacement met before, so that none is tried.
 */
export async function planCompromise(
  parts: NewVersionParts,
  view: KeyView,
  { version: number, reason, replace = false }: CompromiseVersion,
  { dryRun, refused = null }: { readonly dryRun: boolean; readonly refused?: ErrorCode | null },
): Promise<Plan> {
  checkReason(reason);
  const version = versionOf(view, number);
  if (version.state === 'compromised') {
    // The same request again makes the replacement that the first one could not.
    const lacks = replace && view.key.primary === null && number === standing(view).version;
    if (!lacks) return planNothing(view, { reason }, version);
    return planMissingReplacement(parts, view, { version, reason }, { dryRun, refused });
  }
  const changed = transition(version, { kind: 'compromise', at: parts.clock(), reason });
  const unreplaced = (more: Readonly<Record<string, string>>) => {
    const fields = withoutPrimary(view, number);
    const detail = { reason, ...more };
    return planVersionRow(parts.mac, view, { version, changed, fields, detail });
  };
  if (!replace || view.key.primary !== number) return unreplaced({});
  if (refused !== null) return unreplaced({ replacementRefused: refused });
  const successor = () => planSuccessor(parts, view, {}, { dryRun, changed });
  try {
    return fallen(await twiceIfPassing(successor), changed, reason);
  } catch (error) {
    // What stops a new version must not keep a compromise from being heeded.
    if (!TwofoldError.is(error)) throw error;
    return unreplaced({ replacementRefused: error.code });
  }
}

/** @throws TwofoldError what may pass; any other refusal is in the detail, as at the compromise itself */
async function planMissingReplacement(
  parts: NewVersionParts,
  view: KeyView,
  { version, reason }: { readonly version: KeyVersion; readonly reason: string },
  { dryRun, refused }: { readonly dryRun: boolean; readonly refused: ErrorCode | null },
): Promise<Plan> {
  const without = (replacementRefused: ErrorCode) =>
    planNothing(view, { reason, replacementRefused }, version);
  if (refused !== null) return without(refused);
  try {
    return fallen(await planSuccessor(parts, view, {}, { dryRun }), version, reason);
  } catch (error) {
    if (!TwofoldError.is(error) || ERRORS[error.code].retryable) throw error;
    return without(error.code);
  }
}

/** Tries again, once and soon, what failed by something that may pass. */
async function twiceIfPassing<T>(attempt: () => Promise<T>): Promise<T> {
  const began = performance.now();
  try {
    return await attempt();
  } catch (error) {
    const passing = TwofoldError.is(error) && ERRORS[error.code].retryable;
    if (!passing || performance.now() - began > TRIED_LONG_MS) throw error;
    return attempt();
  }
}

/** The plan of a successor, told as one of the version that fell. */
function fallen(plan: Plan, changed: KeyVersion, reason: string): Plan {
  const detail = { reason };
  const { version: number } = changed;
  const { change } = plan;
  const replacement = change.after.key.latestVersion;
  const used = usedOf(change.after.key, changed);
  const { suite: replacementSuite = null } = change.detail;
  // `version` and `suite` are those of the one that fell; what replaces it is named apart.
  const fell = { version: number, suite: used.suite };
  return {
    ...plan,
    change: {
      ...change,
      used,
      detail: { ...change.detail, ...fell, ...detail, replacement, replacementSuite },
    },
  };
}

/** Absent members are left as they are. @throws TwofoldError invalid_value, version_not_usable */
export function planSchedule(
  { mac, clock }: Parts,
  view: KeyView,
  { version: number, activateAt, deactivateAt }: ScheduleVersion,
): Promise<Plan> | Plan {
  const version = versionOf(view, number);
  const now = clock();
  if (activateAt) checkAhead('activateAt', activateAt, now);
  if (deactivateAt) checkAhead('deactivateAt', deactivateAt, now);
  const events = [
    ...(activateAt === undefined ? [] : [{ kind: 'schedule-activation', activateAt } as const]),
    ...(deactivateAt === undefined
      ? []
      : [{ kind: 'schedule-deactivation', deactivateAt } as const]),
  ];
  // No state takes both, so that there is one step at most.
  const changed = events.reduce(transition, version);
  if (sameTimes(version, changed)) return planNothing(view, {}, version);
  return planVersionRow(mac, view, { version, changed, detail: {} });
}

const timesOf = (version: KeyVersion): readonly (Date | null)[] => [
  'activateAt' in version ? version.activateAt : null,
  'deactivateAt' in version ? version.deactivateAt : null,
];

function sameTimes(one: KeyVersion, other: KeyVersion): boolean {
  const others = timesOf(other);
  return timesOf(one).every((time, index) => time?.getTime() === others[index]?.getTime());
}
