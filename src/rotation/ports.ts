/** What a forecast reads: keys of a namespace in a light form, many at a time. */
import type { Labels, Purpose } from '../keyring/model.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';

/** A key that is not destroyed, nor going to be; times in milliseconds since the epoch. */
export interface LightKey {
  readonly id: string;
  readonly name: string;
  readonly purpose: Purpose;
  readonly labels: Labels;
  /** The key's own policy. */
  readonly rotation: RotationPolicy | null;
  readonly suspended: boolean;
  /** Null without an active primary. */
  readonly primary: {
    readonly suite: number;
    readonly activatedAt: number;
    /** 0 where they were not asked for. */
    readonly uses: number;
  } | null;
}

/** Whose uses a forecast asks for; those of other keys it never looks at. */
export interface UsesAsked {
  readonly ofAll: boolean;
  /** Numbers of suites all of whose keys are asked for, beside keys whose own policy counts uses. */
  readonly suites: readonly number[];
}

export interface RotationScan {
  /**
   * Every key of the namespace that is neither destroyed nor going to be, each once, in batches. The rows' MACs are not
   * verified: good enough for a forecast, which is information, and never for a decision.
   */
  keys(namespace: string, uses: UsesAsked): AsyncIterable<readonly LightKey[]>;
}
