/** What a plan warns of where policies ask for versions of suites that cannot be made. */
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import { upgradeDueAt } from './next-rotation.ts';
import type { RotationFacts } from './next-rotation.ts';

/** Why no version of the suite can be made at a time, in words; null when it can. */
export type SuiteRefusal = (suite: number, at: Date) => string | null;

/** An upgrade that a policy asks for cannot be made: these keys stay in the suite that they have. */
export interface UpgradeWarning {
  readonly kind: 'upgrade';
  readonly from: Date;
  /** Its number. */
  readonly suite: number;
  readonly keys: number;
  /** Why. */
  readonly detail: string;
}

/** Rotations from a day on make versions of a suite that cannot be made then. */
export interface SuiteWarning {
  readonly kind: 'suite';
  readonly from: Date;
  readonly suite: number;
  readonly rotations: number;
  readonly detail: string;
}

interface Day {
  readonly from: Date;
  readonly suites: readonly { readonly suite: number; readonly rotations: number }[];
}

/**
 * Upgrades that are not made, as the scheduler does without them: a key whose new suite is refused rotates
 * in its own when it is due for another reason.
 */
export class RefusedUpgrades {
  readonly #refusal: SuiteRefusal;
  readonly #found = new Map<string, UpgradeWarning>();
  /** Policies that ask for one, as they act without it. */
  readonly #without = new WeakMap<
    RotationPolicy,
    { readonly acts: RotationPolicy; detail: string | null }
  >();

  constructor(refusal: SuiteRefusal) {
    this.#refusal = refusal;
  }

  /** The policy as it acts on a key; counts the key where that is not what it says. */
  without(facts: RotationFacts, policy: RotationPolicy): RotationPolicy {
    if (policy.upgrade === null || policy.paused !== null) return policy;
    const { suite, notBefore: from } = policy.upgrade;
    let known = this.#without.get(policy);
    if (known === undefined) {
      const detail = this.#refusal(suite, from);
      known = { acts: detail === null ? policy : { ...policy, upgrade: null }, detail };
      this.#without.set(policy, known);
    }
    const { acts, detail } = known;
    if (detail !== null && upgradeDueAt(facts, policy) !== null) {
      const place = `${String(suite)}/${String(from.getTime())}`;
      const keys = (this.#found.get(place)?.keys ?? 0) + 1;
      this.#found.set(place, { kind: 'upgrade', from, suite, keys, detail });
    }
    return acts;
  }

  warnings(): readonly UpgradeWarning[] {
    return [...this.#found.values()].sort((a, b) => a.from.getTime() - b.from.getTime());
  }
}

/** Of each suite the first day on which it is refused, with the rotations from then on. */
export function suiteWarnings(
  days: readonly Day[],
  refusal: SuiteRefusal = () => null,
): readonly SuiteWarning[] {
  const found = new Map<number, { from: Date; rotations: number; detail: string }>();
  for (const { from, suites } of days) {
    for (const { suite, rotations } of suites) {
      const before = found.get(suite);
      const detail = before?.detail ?? refusal(suite, from);
      if (detail === null) continue;
      const sum = (before?.rotations ?? 0) + rotations;
      found.set(suite, { from: before?.from ?? from, rotations: sum, detail });
    }
  }
  return [...found].map(([suite, warning]) => ({ kind: 'suite', suite, ...warning }));
}
