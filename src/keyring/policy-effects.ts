/** What a dry run says that a change of rotation policies would do. `rotation/` finds it out. */
import type { Key, KeyVersion } from './model.ts';
import type { RankedPolicies } from './selector-policy.ts';

/** Rotation policies of a namespace, and what a change leaves of them. */
export interface PoliciesChange {
  readonly namespace: string;
  readonly before: RankedPolicies;
  readonly after: RankedPolicies;
  /** The policy that is changed; null: the pause of all. */
  readonly name: string | null;
}

export interface Uses {
  readonly uses: number;
  /** Null where there was none. */
  readonly lastAt: Date | null;
}

/** Versions of one key that a change closes. */
export interface ClosingKey {
  readonly keyId: string;
  readonly name: string;
  readonly versions: number;
  readonly protect: Uses;
  readonly process: Uses;
}

export interface PolicyEffects {
  readonly keys: {
    readonly examined: number;
    /** Otherwise each count is a lower bound: of the first so many keys by name. */
    readonly complete: boolean;
    /** That the policy selects, and of those the ones of which it is the one in effect; of a pause: all that have any. */
    readonly selected: number;
    readonly governed: number;
  };
  /** Keys that get another policy, by names; null: none. */
  readonly moved: readonly {
    readonly from: string | null;
    readonly to: string | null;
    readonly keys: number;
  }[];
  readonly rotations: {
    /** Due at once, and not without the change. */
    readonly atOnce: number;
    /** Due now, and no more with the change. */
    readonly held: number;
    /** What the budget needs for those at once. */
    readonly minutes: number;
  };
  /** Versions that would be closed, and would not be without the change. */
  readonly retirements: {
    readonly atOnce: number;
    /** After a notice, which is given at once. */
    readonly announced: number;
    /** When the first of those announced closes. */
    readonly from: Date | null;
    readonly keys: number;
    readonly protect: Uses;
    readonly process: Uses;
    /** Whether the uses of all of them were summed. */
    readonly summed: boolean;
    /** Those that were used last, first. */
    readonly recent: readonly ClosingKey[];
  };
}

/** The same of the policy of one key: what would be due, and would not be without the change. */
export interface KeyPolicyEffects {
  /** The rotation that would be due at once, to which suite (its number). */
  readonly rotates: { readonly cause: string; readonly suite: number } | null;
  /** Whether a rotation is due now that would wait. */
  readonly holds: boolean;
  readonly closes: readonly {
    readonly version: number;
    /** Not before. */
    readonly at: Date;
    readonly announced: boolean;
  }[];
  /** When anything comes next. */
  readonly nextAt: Date | null;
}

export interface PolicyPreviews {
  /** @throws TwofoldError rate_limited while another is made, database_unavailable */
  ofPolicies(change: PoliciesChange): Promise<PolicyEffects>;
  ofKey(before: WholeKey, after: WholeKey): Promise<KeyPolicyEffects>;
}

interface WholeKey {
  readonly key: Key;
  /** All, in order. */
  readonly versions: readonly KeyVersion[];
}
