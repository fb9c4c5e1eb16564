/** What a forecast reads: keys of a namespace in a light form, many at a time. */
import type { Labels, Purpose, RotationHold } from '../keyring/model.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';

/** A key that is not destroyed, nor going to be; times in milliseconds since the epoch. */
export interface LightKey {
  readonly id: string;
  readonly name: string;
  readonly purpose: Purpose;
  readonly labels: Labels;
  /** The key's own policy. */
  readonly rotation: RotationPolicy | null;
  /** Of the primary that the key has. */
  readonly rotationHold: RotationHold | null;
  readonly suspended: boolean;
  /** Null without an active primary. */
  readonly primary: {
    readonly suite: number;
    readonly activatedAt: number;
    /** 0 where they were not asked for. */
    readonly uses: number;
    /** When it is deactivated, as was set in advance. */
    readonly deactivateAt: number | null;
  } | null;
  /** The first version that takes the place of the primary at a time set in advance. */
  readonly next: { readonly suite: number; readonly activateAt: number } | null;
  /**
   * When each usable version under the primary was superseded, ascending; empty where they were not
   * asked for. Suspended versions are left out.
   */
  readonly superseded: readonly number[];
}

/** Whose uses and superseded versions a forecast asks for; those of other keys it never looks at. */
export interface UsesAsked {
  readonly ofAll: boolean;
  /** Numbers of suites all of whose keys are asked for, beside keys whose own policy counts uses. */
  readonly suites: readonly number[];
  /** Superseded versions of all keys, beside those whose own policy retires versions. */
  readonly superseded: boolean;
}

export interface RotationScan {
  /**
   * Every key of the namespace that is neither destroyed nor going to be, each once, in batches. The rows' MACs are not
   * verified: good enough for a forecast, which is information, and never for a decision.
   * @param labels leaves out keys that lack one of them, as far as an index tells: of one label
   */
  keys(namespace: string, uses: UsesAsked, labels?: Labels): AsyncIterable<readonly LightKey[]>;
}

export interface OldestVersions {
  readonly keyId: string;
  readonly skipped: number;
  readonly versions: number;
}

export interface ClosingUses {
  /**
   * Sums over the oldest so many usable versions of each key but the `skipped` oldest, its primary among them,
   * as `superseded` has them; what was never used is left out.
   */
  usesOfOldest(keys: readonly OldestVersions[]): Promise<
    readonly {
      readonly keyId: string;
      readonly usage: 'protect' | 'process';
      readonly uses: number;
      readonly lastAt: Date;
    }[]
  >;
}
