/**
 * Which suites may get new key versions here: the operator's profile over the table of suites. It
 * decides on create and rotate alone; what exists stays usable for everything else, since a narrower
 * profile must not make ciphertexts unreadable.
 */
import type { Standing, Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';

export type SuiteProfile = 'default' | 'cnsa2' | 'fips';

export interface SuitePolicy {
  readonly profile: SuiteProfile;
  /** Ids; none: every suite of the profile. */
  readonly allow: readonly string[];
  /** First moment without new quantum-vulnerable versions; null: they may be made for ever. */
  readonly classicalUntil: Date | 'never' | null;
  /** Whether experimental suites are offered. */
  readonly experimental: boolean;
  /**
   * Whether a key that lives and dies with one token is made only where the request names that custody:
   * where there is more than one zone.
   */
  readonly tokenKeysNamed: boolean;
}

/** The standing that a profile asks for; null: none. */
const STANDING: Readonly<Record<SuiteProfile, Standing | null>> = {
  default: null,
  cnsa2: 'cnsa2',
  fips: 'approved',
};

function ended(until: SuitePolicy['classicalUntil'], now: Date): string | null {
  if (until === null) return null;
  if (until === 'never') return 'suites.classicalUntil is never';
  return now < until ? null : `suites.classicalUntil ended at ${until.toISOString()}`;
}

/** Why `suite` gets no new version at `now`, in words; null when it does. */
export function admits(policy: SuitePolicy, suite: Suite, now: Date): string | null {
  const { profile, allow, classicalUntil, experimental } = policy;
  const standing = STANDING[profile];
  if (standing !== null && !suite.standings.includes(standing)) {
    return `The profile ${profile} of this service does not list ${suite.id}.`;
  }
  if (allow.length > 0 && !allow.includes(suite.id)) {
    return `suites.allow of this service does not list ${suite.id}.`;
  }
  if (suite.status === 'experimental' && !experimental) {
    return `${suite.id} is experimental, and suites.experimental is false.`;
  }
  const end = suite.strength.quantumVulnerable ? ended(classicalUntil, now) : null;
  return end === null ? null : `${suite.id} is quantum-vulnerable, and ${end}.`;
}

/** @throws TwofoldError suite_unavailable_here with the reason */
export function requireAdmitted(policy: SuitePolicy, suite: Suite, now: Date): void {
  const reason = admits(policy, suite, now);
  if (reason !== null) throw new TwofoldError('suite_unavailable_here', reason);
}
