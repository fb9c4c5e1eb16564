/**
 * The operations on the life of keys and versions as routes and the scheduler call them; every one
 * redeems a grant (promise P4), and beside its own errors each has those of `operations.ts`.
 */
import type { Grant } from '../access/grant.ts';
import type { ChangeDone, ChangeRun } from './operations.ts';

export interface ReasonedVersion {
  readonly version: number;
  readonly reason: string;
}

export interface CompromiseVersion extends ReasonedVersion {
  /** A new version takes the place of a primary, in the same transaction; false unless told. */
  readonly replace?: boolean;
}

/** Absent members are left as they are; null takes a time back. */
export interface ScheduleVersion {
  readonly version: number;
  /** Of a pre-active version. */
  readonly activateAt?: Date | null;
  /** Of an active or suspended one, the primary too. */
  readonly deactivateAt?: Date | null;
}

/** One of the two, or neither: then after the default wait. */
export interface DestructionTime {
  readonly at?: Date;
  /** Milliseconds from now. */
  readonly afterMs?: number;
}

export interface ReasonedDestruction extends DestructionTime {
  readonly reason: string;
}

export interface KeyLifecycle {
  /** It becomes the primary when its number is higher than the primary's, or there is none. */
  activateVersion(
    grant: Grant<'versions.activate'>,
    input: ReasonedVersion,
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /** For the scheduler: refused (`version_not_usable`) before the version's `activateAt`. */
  activateDue(
    grant: Grant<'versions.activate'>,
    input: { readonly version: number },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /** `primary_protected` for the primary. */
  deactivateVersion(
    grant: Grant<'versions.deactivate'>,
    input: ReasonedVersion,
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /**
   * For the scheduler: refused (`version_not_usable`) before the version's `deactivateAt`. Of the primary
   * too, which leaves the key without one.
   */
  deactivateDue(
    grant: Grant<'versions.deactivate'>,
    input: { readonly version: number },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  compromiseVersion(
    grant: Grant<'versions.compromise'>,
    input: CompromiseVersion,
    run: ChangeRun,
  ): Promise<ChangeDone>;
  scheduleVersion(
    grant: Grant<'versions.schedule'>,
    input: ScheduleVersion,
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /**
   * `precondition_required` without `run.ifMatch`, as with the three below; `deletion_protected`;
   * `primary_protected`; `version_not_usable` unless it is pre-active, deactivated or compromised.
   */
  scheduleVersionDestruction(
    grant: Grant<'versions.schedule-destruction'>,
    input: ReasonedDestruction & { readonly version: number },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  cancelVersionDestruction(
    grant: Grant<'versions.cancel-destruction'>,
    input: { readonly version: number },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  scheduleDestruction(
    grant: Grant<'keys.schedule-destruction'>,
    input: ReasonedDestruction,
    run: ChangeRun,
  ): Promise<ChangeDone>;
  cancelDestruction(grant: Grant<'keys.cancel-destruction'>, run: ChangeRun): Promise<ChangeDone>;
  /**
   * For the scheduler, without a route: refused (`version_not_usable`) unless the destruction is due,
   * and `deletion_protected` when that was set meanwhile.
   */
  destroyVersion(
    grant: Grant<'versions.destroy'>,
    input: { readonly version: number },
    run: ChangeRun,
  ): Promise<ChangeDone>;
  /** As `destroyVersion`, of the key with every version of it. */
  destroyKey(grant: Grant<'keys.destroy'>, run: ChangeRun): Promise<ChangeDone>;
}
