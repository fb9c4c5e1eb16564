/**
 * Plans that say which versions count: the primary, which protects, and the lowest that is usable.
 */
import { findSuiteByNumber } from '../crypto/suites.ts';
import type { Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import { versionOf } from './catalog.ts';
import type { Plan } from './changes.ts';
import { requireUsable } from './lifecycle.ts';
import type { Key } from './model.ts';
import { checkReason } from './names.ts';
import type { KeyView, SetPrimary } from './operations.ts';
import { requireAnnounceable, requireNotHeld } from './provider-record.ts';
import type { KeyWrite } from './ports.ts';
import { isUndo } from './rotation-hold.ts';
import type { RowMac } from './row-mac.ts';
import { planKeyChange, planNothing, planVersionChange, standing } from './row-plans.ts';
import { rankPolicies, winnerOf } from './selector-policy.ts';
import type { RankedPolicies } from './selector-policy.ts';

/**
 * Makes a version the primary that could be it: an earlier one when a rotation broke a consumer, or a
 * later one again. Where a newer one was in use, the policy in effect is held, or it would rotate at once.
 * @throws TwofoldError version_not_found, version_not_usable, suite_unavailable_here for a fallback to a
 *   quantum-vulnerable suite that was not accepted by name, wrong_purpose for one that a provider of the key
 *   does not seal with
 */
export async function planSetPrimary(
  { mac, clock, rotationPolicies }: PrimaryParts,
  view: KeyView,
  { version: number, reason, acceptQuantumVulnerable }: SetPrimary,
): Promise<Plan> {
  checkReason(reason);
  const version = versionOf(view, number);
  const detail = { reason, primary: number };
  if (view.key.primary === number) return planNothing(view, detail, version);
  requireUsable(view.key, version, 'protect', clock().getTime());
  const suite = findSuiteByNumber(version.suite);
  requireAnnounceable(view.key, suite);
  if (!acceptQuantumVulnerable) requireNoFallback(view, suite);
  if (!isUndo(number, view.versions)) {
    return planKeyChange(mac, view, { primary: number, rotationHold: null }, detail);
  }
  const set = (await rotationPolicies?.(view.key.namespace)) ?? NO_POLICIES;
  const winner = winnerOf(view.key.labels, view.key.rotation, set);
  const rotationHold = winner && {
    ...{ at: clock(), reason, primary: number },
    ...{ policy: winner.name, policyRevision: winner.policy.revision },
  };
  const plan = await planKeyChange(mac, view, { primary: number, rotationHold }, detail);
  const { namespace } = view.key;
  const stands: KeyWrite = { kind: 'require-policy-set', namespace, revision: set.revision };
  return { ...plan, writes: [...plan.writes, stands] };
}

/** What the primary depends on; `rotationPolicies` reads those of a namespace as they stand. */
export interface PrimaryParts {
  readonly mac: RowMac;
  readonly clock: () => Date;
  readonly rotationPolicies?:
    ((namespace: string) => Promise<RankedPolicies & { readonly revision: number }>) | undefined;
}

const NO_POLICIES = { ...rankPolicies([]), revision: 0 };

/**
 * A key never falls back by itself: what was protected from a quantum computer would be rewrapped to a
 * version that is not.
 * @throws TwofoldError suite_unavailable_here
 */
export function requireNoFallback(view: KeyView, suite: Suite): void {
  const before = findSuiteByNumber(standing(view).suite);
  if (before.strength.quantumVulnerable || !suite.strength.quantumVulnerable) return;
  throw new TwofoldError(
    'suite_unavailable_here',
    `${suite.id} falls to a quantum computer and ${before.id} does not.`,
  );
}

/**
 * Retires a superseded version and all before it: an active one is deactivated, all are closed. Nothing is destroyed,
 * and the window may open again.
 * @throws TwofoldError primary_protected, version_not_found, version_not_usable
 */
export async function planRetire(
  { mac, clock }: { readonly mac: RowMac; readonly clock: () => Date },
  view: KeyView,
  { version: number, reason }: { readonly version: number; readonly reason: string },
): Promise<Plan> {
  checkReason(reason);
  const version = versionOf(view, number);
  if (view.key.primary === null || number >= view.key.primary) {
    throw new TwofoldError('primary_protected');
  }
  requireNotHeld(view.key, number);
  const minUsableVersion = Math.max(view.key.minUsableVersion, number + 1);
  const key = { ...view.key, minUsableVersion };
  const detail = { reason, minUsableVersion };
  // Also a suspended one: deactivated, it would process again once the window opens.
  if (version.state !== 'active') {
    return planKeyChange(mac, view, { minUsableVersion }, detail);
  }
  const event = { kind: 'deactivate', at: clock(), reason } as const;
  return planVersionChange(mac, { ...view, key }, { version, event, detail, before: view });
}

/**
 * The window of usable versions may close up to the primary, never beyond: that would close the key.
 * It may open again, as far as versions are not destroyed.
 * @throws TwofoldError invalid_value
 */
export function checkWindow(key: Key, minUsableVersion: number): void {
  const highest = key.primary ?? key.latestVersion;
  if (minUsableVersion <= highest) return;
  throw new TwofoldError(
    'invalid_value',
    `minUsableVersion is at most ${String(highest)}: it may not close the primary version.`,
  );
}
