/**
 * Policies that a namespace gives to its keys by their labels, and which policy a key has in effect.
 *
 * A key's own policy stands above all others; among those that select it the one with more matching
 * labels wins, then the higher priority, then the name that is first in byte order. The winner counts
 * as a whole: members of several policies are never mixed.
 */
import type { Labels, RotationHold } from './model.ts';
import { isHeld } from './rotation-hold.ts';
import type { NamedPolicy } from './rotation-hold.ts';
import type { Pause, RotationPolicy } from './rotation-policy.ts';

export interface SelectorPolicy {
  /** Unique in the namespace. */
  readonly name: string;
  /** Labels that a key must all have; none selects every key of the namespace. */
  readonly selector: Labels;
  readonly priority: number;
  readonly policy: RotationPolicy;
}

export interface Candidate {
  /** Null is the key's own policy. */
  readonly name: string | null;
  readonly matchingLabels: number;
  readonly priority: number;
  readonly policy: RotationPolicy;
}

/** What set the winner apart from the candidate after it; `only` when there is none. */
export type WinningReason = 'own' | 'only' | 'more-labels' | 'higher-priority' | 'name';

export interface EffectivePolicy {
  readonly policy: RotationPolicy;
  readonly reason: WinningReason;
  /** In order; the first is the winner. */
  readonly candidates: readonly Candidate[];
}

/** Policies of a namespace in the order in which they win, for `selectedPolicy` and its like. */
export interface RankedPolicies {
  readonly ranked: readonly RankedPolicy[];
  /** Of the whole namespace: what any policy asks for waits, a key's own too. */
  readonly paused: Pause | null;
}

interface RankedPolicy extends SelectorPolicy {
  readonly pairs: readonly (readonly [string, string])[];
}

const byRank = (a: RankedPolicy, b: RankedPolicy): number =>
  b.pairs.length - a.pairs.length ||
  b.priority - a.priority ||
  Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));

/** Once for many keys; the order is that of `effectivePolicy`. */
export function rankPolicies(
  policies: readonly SelectorPolicy[],
  paused: Pause | null = null,
): RankedPolicies {
  const ranked = policies.map((each) => ({ ...each, pairs: Object.entries(each.selector) }));
  return { ranked: ranked.sort(byRank), paused };
}

/** Whether the key has all labels of the selector. */
export const selects = ({ pairs }: Pick<RankedPolicy, 'pairs'>, labels: Labels): boolean =>
  pairs.every(([name, value]) => Object.hasOwn(labels, name) && labels[name] === value);

/** The winner alone, with its name; null when none applies. */
export function winnerOf(
  labels: Labels,
  own: RotationPolicy | null,
  { ranked }: Pick<RankedPolicies, 'ranked'>,
): NamedPolicy | null {
  if (own !== null) return { name: null, policy: own };
  return ranked.find((each) => selects(each, labels)) ?? null;
}

/** What of a key decides which policy acts on it, and whether that is held. */
export interface PolicyFacts {
  readonly labels: Labels;
  /** The key's own policy. */
  readonly rotation: RotationPolicy | null;
  readonly rotationHold: RotationHold | null;
  /** Null: it has none that is active. */
  readonly primary: number | null;
}

/** The winner alone, as it acts, as fast as a plan over a million keys needs it; null when none applies. */
export function winningPolicy(key: PolicyFacts, set: RankedPolicies): RotationPolicy | null {
  const winner = winnerOf(key.labels, key.rotation, set);
  return winner === null ? null : inForce(winner, key, set.paused);
}

/** The policy as it acts while its namespace is paused, or the key holds it, or neither is. */
export function inForce(
  winner: NamedPolicy,
  { rotationHold, primary }: Pick<PolicyFacts, 'rotationHold' | 'primary'>,
  paused: Pause | null,
): RotationPolicy {
  const { policy } = winner;
  if (policy.paused !== null) return policy;
  if (paused !== null) return { ...policy, paused };
  return isHeld(rotationHold, primary, winner) ? { ...policy, paused: rotationHold } : policy;
}

function reasonOf([first, second]: readonly Candidate[]): WinningReason {
  if (first?.name === null) return 'own';
  if (first === undefined || second === undefined) return 'only';
  if (first.matchingLabels !== second.matchingLabels) return 'more-labels';
  return first.priority !== second.priority ? 'higher-priority' : 'name';
}

/** Which policy a key has in effect and why; null when none applies. */
export function effectivePolicy(
  labels: Labels,
  own: RotationPolicy | null,
  policies: readonly SelectorPolicy[],
): EffectivePolicy | null {
  const selecting = rankPolicies(policies)
    .ranked.filter((each) => selects(each, labels))
    .map(({ name, pairs, priority, policy }) => ({
      name,
      matchingLabels: pairs.length,
      priority,
      policy,
    }));
  const ofKey = own === null ? [] : [{ name: null, matchingLabels: 0, priority: 0, policy: own }];
  const candidates: readonly Candidate[] = [...ofKey, ...selecting];
  const [winner] = candidates;
  if (winner === undefined) return null;
  return { policy: winner.policy, reason: reasonOf(candidates), candidates };
}
