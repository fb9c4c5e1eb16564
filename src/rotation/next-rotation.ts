/**
 * The next rotation of one key: when it is due, why, and to which suite. Both the scheduler's plan
 * (`due.ts`) and the forecast rest on these functions, so that they cannot tell different stories.
 *
 * `dueAt` is a function of stored facts (activation of the primary, policy, key id), never of the
 * clock, so that the same rotation has the same `dueAt` whoever computes it and however late.
 */
import { SUITES, findSuiteByNumber } from '../crypto/suites.ts';
import { later, storedDuration } from '../keyring/durations.ts';
import type { Purpose } from '../keyring/model.ts';
import { upgradeRefusal } from '../keyring/rotation-policy.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import { GCM_ROTATION } from '../keyring/usage.ts';
import { jitterMs } from './jitter.ts';
import type { UsesAsked } from './ports.ts';

export type RotationCause = 'interval' | 'uses' | 'upgrade' | 'gcm-limit';

/** What a rotation depends on; times in milliseconds since the epoch. */
export interface RotationFacts {
  readonly id: string;
  readonly purpose: Purpose;
  /** Null where no rotation can be: no active primary, suspended, destroyed or awaiting destruction. */
  readonly primary: {
    readonly suite: number;
    readonly activatedAt: number;
    /** Protecting uses; blocks reserved by instances count whole. */
    readonly uses: number;
  } | null;
}

export interface PlannedRotation {
  /**
   * Milliseconds since the epoch. For `uses` and `gcm-limit`, whose moment nobody recorded, it is the
   * activation of the primary: an identity, by which the rotation happens once, and no measure of lateness.
   */
  readonly dueAt: number;
  readonly cause: RotationCause;
}

const gcm = new Map<number, boolean>();

/** Whether versions of the suite are AES-GCM keys, whose random nonces bound their uses. */
function isGcm(suite: number): boolean {
  const found = gcm.get(suite);
  if (found !== undefined) return found;
  const is = findSuiteByNumber(suite).kind === 'aead';
  gcm.set(suite, is);
  return is;
}

/** What a forecast may look at, where these are the policies of the namespace. */
export const usesAsked = (
  policies: readonly Pick<RotationPolicy, 'maxUses' | 'retire'>[],
): UsesAsked => ({
  ofAll: policies.some(({ maxUses }) => maxUses !== null),
  suites: Object.values(SUITES)
    .map(({ number }) => number)
    .filter(isGcm),
  superseded: policies.some(({ retire }) => retire !== null),
});

/** When a primary that was activated at `activatedAt` is due by its age; null without an interval. */
export function intervalDueAt(
  keyId: string,
  activatedAt: number,
  policy: Pick<RotationPolicy, 'interval'>,
): number | null {
  if (policy.interval === null) return null;
  const end = later(activatedAt, storedDuration(policy.interval));
  return end - jitterMs(keyId, end - activatedAt);
}

/**
 * When the policy's upgrade is due; null where there is none, the primary has the suite already, or
 * the key may not have it (`upgradeRefusal`). Not before the activation of the primary, so that a
 * key which was taken out of the suite by hand is upgraded again, as another rotation.
 */
export function upgradeDueAt(
  facts: RotationFacts,
  { upgrade }: Pick<RotationPolicy, 'upgrade'>,
): number | null {
  const { primary, purpose } = facts;
  if (upgrade === null || primary === null || primary.suite === upgrade.suite) return null;
  if (upgradeRefusal(upgrade.suite, { purpose, suite: primary.suite }) !== null) return null;
  return Math.max(upgrade.notBefore.getTime(), primary.activatedAt);
}

/** What clocks may differ by, and still tell about the same. */
const CLOCKS_DIFFER_MS = 3_600_000;

/**
 * Whether the age counts from a time that is to come: the clock that dated the last rotation ran ahead, or the one
 * of `now` lags. Neither interval nor upgrade are due before that time, which may be years away; nothing is made
 * due by a guess, since which clock is wrong cannot be known.
 * @param now milliseconds since the epoch
 */
export const isDatedAhead = (
  facts: RotationFacts,
  policy: RotationPolicy | null,
  now: number,
): boolean =>
  facts.primary !== null &&
  facts.primary.activatedAt > now + CLOCKS_DIFFER_MS &&
  policy?.paused === null &&
  (policy.interval !== null || upgradeDueAt(facts, policy) !== null);

/** The suite of the version that a rotation at `at` makes. */
export function suiteAt(facts: RotationFacts, policy: RotationPolicy | null, at: number): number {
  if (facts.primary === null) throw new RangeError('no primary');
  if (policy === null || policy.paused !== null) return facts.primary.suite;
  const upgrade = upgradeDueAt(facts, policy);
  return policy.upgrade !== null && upgrade !== null && at >= upgrade
    ? policy.upgrade.suite
    : facts.primary.suite;
}

/**
 * The suite of the version that a rotation of this cause (null: of any other) makes at `at`. The one at the
 * limit of AES-GCM does not wait for an upgrade, which may be refused; that follows it.
 */
export const suiteOfRotation = (
  cause: RotationCause | null,
  facts: RotationFacts,
  policy: RotationPolicy | null,
  at: number,
): number =>
  cause === 'gcm-limit' && facts.primary !== null
    ? facts.primary.suite
    : suiteAt(facts, policy, at);

/**
 * The earliest rotation that the facts ask for, due or not; null when nothing will ever ask for one.
 * A paused policy asks for none, but the limit of AES-GCM holds whatever a policy says.
 */
export function nextRotation(
  facts: RotationFacts,
  policy: RotationPolicy | null,
): PlannedRotation | null {
  const { primary } = facts;
  if (primary === null) return null;
  const { uses, activatedAt, suite } = primary;
  if (uses >= GCM_ROTATION && isGcm(suite)) return { dueAt: activatedAt, cause: 'gcm-limit' };
  if (policy === null || policy.paused !== null) return null;
  if (policy.maxUses !== null && uses >= policy.maxUses) {
    return { dueAt: activatedAt, cause: 'uses' };
  }
  const upgrade = upgradeDueAt(facts, policy);
  const interval = intervalDueAt(facts.id, activatedAt, policy);
  if (upgrade !== null && (interval === null || upgrade <= interval)) {
    return { dueAt: upgrade, cause: 'upgrade' };
  }
  return interval === null ? null : { dueAt: interval, cause: 'interval' };
}
