/**
 * Rotation policies: what a key's `rotation` column and the policy rows of a namespace hold.
 *
 * A policy is immutable; a change makes a new value with `revision + 1`. Its stored form names every
 * member, and a member that this version does not know fails the integrity check like any row that
 * says what nobody here can mean. What a policy makes due and when is `rotation/due.ts`.
 */
import { encodeCbor } from '../crypto/cbor.ts';
import type { CborValue } from '../crypto/cbor.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { purposesOf } from '../crypto/suite.ts';
import type { Purpose } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { lengthOf, parseDuration } from './durations.ts';
import { requireAdmitted } from './suite-policy.ts';
import type { SuitePolicy } from './suite-policy.ts';

/** Rotate to another suite, once, at a date; later rotations stay in it. */
export interface Upgrade {
  /** Suite number. */
  readonly suite: number;
  readonly notBefore: Date;
}

/**
 * When superseded versions are retired, whichever comes first. To retire is to deactivate a version
 * (SP 800-57 part 1 section 7.4) and to raise `minUsableVersion` past it; nothing is destroyed.
 */
export interface Retirement {
  /** Usable versions that stay, the primary among them; at least 1. */
  readonly keepVersions: number | null;
  /** Duration since the version was superseded. */
  readonly after: string | null;
}

export interface Pause {
  readonly at: Date;
  readonly reason: string;
}

/** Durations are canonical texts of `durations.ts`. */
export interface RotationPolicy {
  /** Longest age of a primary version, from its activation; null: no rotation by age. */
  readonly interval: string | null;
  /** Protecting uses of a primary version; null: no rotation by use. */
  readonly maxUses: number | null;
  readonly upgrade: Upgrade | null;
  readonly retire: Retirement | null;
  /**
   * How long before a rotation, a deactivation set in advance or a destruction notice is given, and before
   * a retirement at least.
   */
  readonly notice: string | null;
  /** While set, what the policy asks for waits; on resumption what is overdue runs once. */
  readonly paused: Pause | null;
  /** From 1; rises with each change. Part of what makes a scheduled action happen exactly once. */
  readonly revision: number;
}

/** What a user states; the rest of a policy is the service's. */
export interface PolicyTerms {
  readonly interval: string | null;
  readonly maxUses: number | null;
  readonly upgrade: Upgrade | null;
  readonly retire: Retirement | null;
  readonly notice: string | null;
}

export interface PolicyLimits {
  /** Shortest interval and `retire.after` in milliseconds; an hour, or less in development. */
  readonly minimumMs: number;
  /** What the operator admits: an upgrade to anything else at its date is refused. Every suite unless told. */
  readonly suites?: SuitePolicy;
}

export const POLICY_LIMITS: PolicyLimits = Object.freeze({ minimumMs: 3_600_000 });
/** Every integer up to here is exact. */
export const MAX_USES = Number.MAX_SAFE_INTEGER;
export const MAX_KEPT_VERSIONS = 100_000;
export const MAX_REASON_LENGTH = 256;
const MAX_SUITE = 0xffff;
/** The last moment that RFC 3339 can write. */
const LAST_TIME = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

const isCount = (value: unknown, most: number): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= most;
const isDuration = (value: unknown): value is string =>
  typeof value === 'string' && parseDuration(value) !== null;
const isTime = (value: Date): boolean => value.getTime() >= 0 && value.getTime() <= LAST_TIME;
const isReason = (value: unknown): value is string =>
  typeof value === 'string' &&
  value.length >= 1 &&
  value.length <= MAX_REASON_LENGTH &&
  value.isWellFormed() &&
  !value.includes('\0');

// What users give ---------------------------------------------------------------------------------

const invalid = (detail: string) => new TwofoldError('invalid_value', detail);

function requireDuration(field: string, text: string | null, minimumMs: number): void {
  if (text === null) return;
  const duration = parseDuration(text);
  if (duration === null) {
    throw invalid(
      `${field} is an ISO 8601 duration such as P1Y, P90D or PT12H, of at most 100 years: units in order, without fraction, sign, zero or leading zero.`,
    );
  }
  if (lengthOf(duration) < minimumMs) {
    throw invalid(`${field} is at least ${String(minimumMs / 1_000)} seconds.`);
  }
}

function requireCount(field: string, value: number | null, most: number): void {
  if (value === null || isCount(value, most)) return;
  throw invalid(`${field} is an integer from 1 to ${String(most)}.`);
}

function requireRetirement(retire: Retirement | null, { minimumMs }: PolicyLimits): void {
  if (retire === null) return;
  if (retire.keepVersions === null && retire.after === null) {
    throw invalid('retire states keepVersions, after or both; null retires nothing.');
  }
  requireCount('retire.keepVersions', retire.keepVersions, MAX_KEPT_VERSIONS);
  requireDuration('retire.after', retire.after, minimumMs);
}

function requireNotice({ notice, interval }: PolicyTerms): void {
  requireDuration('notice', notice, 1_000);
  const [before, every] = [notice, interval].map((text) =>
    text === null ? null : parseDuration(text),
  );
  if (before && every && lengthOf(before) >= lengthOf(every)) {
    throw invalid('notice is shorter than interval, or it would be due before the version exists.');
  }
}

function upgradeOf(upgrade: PolicyTerms['upgrade'], { suites }: PolicyLimits): Upgrade | null {
  if (upgrade === null) return null;
  if (!isTime(upgrade.notBefore)) throw invalid('upgrade.notBefore is a time from 1970 to 9999.');
  // Whether the token can is not asked: until then it may be another one.
  if (suites) requireAdmitted(suites, findSuiteByNumber(upgrade.suite), upgrade.notBefore);
  return { suite: upgrade.suite, notBefore: new Date(upgrade.notBefore) };
}

/**
 * A policy of these terms, not paused. A policy whose terms are all null rotates nothing; as a key's
 * own it keeps policies of the namespace away.
 * @throws TwofoldError invalid_value; suite_unavailable_here for an upgrade that the operator does not admit
 */
export function newPolicy(
  terms: PolicyTerms,
  limits: PolicyLimits = POLICY_LIMITS,
  revision = 1,
): RotationPolicy {
  const { interval, maxUses, retire, notice } = terms;
  requireDuration('interval', interval, limits.minimumMs);
  requireCount('maxUses', maxUses, MAX_USES);
  requireRetirement(retire, limits);
  requireNotice(terms);
  return frozen({
    interval,
    maxUses,
    upgrade: upgradeOf(terms.upgrade, limits),
    retire: retire && { keepVersions: retire.keepVersions, after: retire.after },
    notice,
    paused: null,
    revision,
  });
}

/**
 * `policy` with other terms, still paused if it was; itself where they say the same.
 * @throws TwofoldError as `newPolicy`
 */
export function withTerms(
  policy: RotationPolicy,
  terms: PolicyTerms,
  limits: PolicyLimits = POLICY_LIMITS,
): RotationPolicy {
  const next = { ...newPolicy(terms, limits, policy.revision + 1), paused: policy.paused };
  return sameRules(policy, next) ? policy : frozen(next);
}

/**
 * Terms change no pause: who says what it is, as policies are read, has to say what stands.
 * @param asRead undefined: it is not said
 * @throws TwofoldError invalid_value
 */
export function requirePauseAsRead(
  policy: RotationPolicy | null,
  asRead: boolean | undefined,
): void {
  const stands = (policy?.paused ?? null) !== null;
  if (asRead === undefined || asRead === stands) return;
  throw invalid('paused is not what stands; to pause and to resume are requests of their own.');
}

/** Itself where it is paused already: the first pause and its reason stand. @throws TwofoldError invalid_value */
export function paused(policy: RotationPolicy, { at, reason }: Pause): RotationPolicy {
  if (policy.paused !== null) return policy;
  if (!isReason(reason)) {
    throw invalid(`reason is text of 1 to ${String(MAX_REASON_LENGTH)} characters.`);
  }
  return frozen({ ...policy, paused: { at, reason }, revision: policy.revision + 1 });
}

/** Itself where it is not paused. */
export function resumed(policy: RotationPolicy): RotationPolicy {
  if (policy.paused === null) return policy;
  return frozen({ ...policy, paused: null, revision: policy.revision + 1 });
}

/**
 * Why a key of this purpose and suite is never upgraded to `suite`, in words; null when it may be.
 * The rules are those of a rotation by hand: the purpose stays, and so does safety from quantum
 * computers. A key's own policy is refused with this; one of a namespace passes such keys over.
 */
export function upgradeRefusal(
  suite: number,
  key: { readonly purpose: Purpose; readonly suite: number },
): string | null {
  const [to, from] = [findSuiteByNumber(suite), findSuiteByNumber(key.suite)];
  if (!purposesOf(to).includes(key.purpose)) return `${to.id} does not serve ${key.purpose}.`;
  if (to.strength.quantumVulnerable && !from.strength.quantumVulnerable) {
    return `${to.id} falls to a quantum computer and ${from.id} does not.`;
  }
  return null;
}

// Bytes and JSON ------------------------------------------------------------------------------------

/** What the row MAC covers; members by position, times in milliseconds since the epoch. */
export function policyCbor(policy: RotationPolicy): CborValue {
  const { interval, maxUses, upgrade, retire, notice, revision } = policy;
  return [
    interval,
    maxUses,
    upgrade && [upgrade.suite, upgrade.notBefore.getTime()],
    retire && [retire.keepVersions, retire.after],
    notice,
    policy.paused && [policy.paused.at.getTime(), policy.paused.reason],
    revision,
  ];
}

const sameBytes = (a: RotationPolicy, b: RotationPolicy): boolean =>
  equalBytes(encodeCbor(policyCbor(a)), encodeCbor(policyCbor(b)));

/** Whether they are one value, revision included. */
export function samePolicy(a: RotationPolicy | null, b: RotationPolicy | null): boolean {
  return a === null || b === null ? a === b : sameBytes(a, b);
}

/** Whether they ask for the same, whatever their revisions are. */
export function sameRules(a: RotationPolicy, b: RotationPolicy): boolean {
  return sameBytes(a, { ...b, revision: a.revision });
}

/** As it is stored: every member, times as RFC 3339 with milliseconds. */
export interface PolicyJson {
  readonly interval: string | null;
  readonly maxUses: number | null;
  readonly upgrade: { readonly suite: number; readonly notBefore: string } | null;
  readonly retire: Retirement | null;
  readonly notice: string | null;
  readonly paused: { readonly at: string; readonly reason: string } | null;
  readonly revision: number;
}

export function policyJson(policy: RotationPolicy): PolicyJson {
  const { interval, maxUses, upgrade, retire, notice, revision } = policy;
  return {
    interval,
    maxUses,
    upgrade: upgrade && { suite: upgrade.suite, notBefore: upgrade.notBefore.toISOString() },
    retire: retire && { keepVersions: retire.keepVersions, after: retire.after },
    notice,
    paused: pauseJson(policy.paused),
    revision,
  };
}

const malformed = (member: string) =>
  new TwofoldError('integrity_failed', `A stored rotation policy is malformed: ${member}.`);

type Members = Readonly<Record<string, unknown>>;

/** An object with exactly these members. */
function membersOf(value: unknown, what: string, names: readonly string[]): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(what);
  const found = Object.keys(value);
  const exact = found.length === names.length && names.every((name) => Object.hasOwn(value, name));
  if (!exact) throw malformed(what);
  return value as Members;
}

function taken<T>(value: unknown, what: string, is: (value: unknown) => value is T): T {
  if (!is(value)) throw malformed(what);
  return value;
}

const perhaps = <T>(value: unknown, read: (value: unknown) => T): T | null =>
  value === null ? null : read(value);

/** Nothing but what `toISOString` writes, so that a time has one form. */
function timeOf(value: unknown, what: string): Date {
  const time = new Date(typeof value === 'string' ? value : Number.NaN);
  if (!isTime(time) || time.toISOString() !== value) throw malformed(what);
  return time;
}

const duration = (what: string) => (value: unknown) => taken(value, what, isDuration);
const count = (what: string, most: number) => (value: unknown) =>
  taken(value, what, (each): each is number => isCount(each, most));

function upgradeFrom(value: unknown): Upgrade {
  const members = membersOf(value, 'upgrade', ['suite', 'notBefore']);
  return {
    suite: count('upgrade.suite', MAX_SUITE)(members['suite']),
    notBefore: timeOf(members['notBefore'], 'upgrade.notBefore'),
  };
}

function retirementFrom(value: unknown): Retirement {
  const members = membersOf(value, 'retire', ['keepVersions', 'after']);
  const keepVersions = perhaps(
    members['keepVersions'],
    count('retire.keepVersions', MAX_KEPT_VERSIONS),
  );
  const after = perhaps(members['after'], duration('retire.after'));
  if (keepVersions === null && after === null) throw malformed('retire');
  return { keepVersions, after };
}

function pauseFrom(value: unknown): Pause {
  const members = membersOf(value, 'paused', ['at', 'reason']);
  return {
    at: timeOf(members['at'], 'paused.at'),
    reason: taken(members['reason'], 'paused.reason', isReason),
  };
}

/** @throws TwofoldError integrity_failed */
export const pauseFromJson = (json: unknown): Pause | null => perhaps(json, pauseFrom);

export const pauseJson = (pause: Pause | null): PolicyJson['paused'] =>
  pause && { at: pause.at.toISOString(), reason: pause.reason };

const MEMBERS = [
  'interval',
  'maxUses',
  'upgrade',
  'retire',
  'notice',
  'paused',
  'revision',
] as const satisfies readonly (keyof RotationPolicy)[];

/**
 * A policy from its stored JSON. The shortest interval is not asked for again: it may have been
 * another one when the policy was made.
 * @throws TwofoldError integrity_failed for a member too many, too few or out of its bounds
 */
export function policyFromJson(json: unknown): RotationPolicy {
  const members = membersOf(json, 'members', MEMBERS);
  return frozen({
    interval: perhaps(members['interval'], duration('interval')),
    maxUses: perhaps(members['maxUses'], count('maxUses', MAX_USES)),
    upgrade: perhaps(members['upgrade'], upgradeFrom),
    retire: perhaps(members['retire'], retirementFrom),
    notice: perhaps(members['notice'], duration('notice')),
    paused: perhaps(members['paused'], pauseFrom),
    revision: count('revision', Number.MAX_SAFE_INTEGER)(members['revision']),
  });
}

function frozen(policy: RotationPolicy): RotationPolicy {
  for (const member of [policy.upgrade, policy.retire, policy.paused]) Object.freeze(member);
  return Object.freeze(policy);
}
