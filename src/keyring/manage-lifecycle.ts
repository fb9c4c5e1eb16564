/** The administrative operations on the life of keys and versions. */
import type { Grant, Operation } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { Plan } from './changes.ts';
import {
  planDestroyedKey,
  planDestroyedVersion,
  planKeyCancellation,
  planKeyDestruction,
  planVersionCancellation,
  planVersionDestruction,
} from './destruction.ts';
import type { DestructionParts, DestructionRules } from './destruction.ts';
import type {
  CompromiseVersion,
  KeyLifecycle,
  ReasonedDestruction,
  ReasonedVersion,
  ScheduleVersion,
} from './lifecycle-operations.ts';
import type { NewVersionParts } from './new-version.ts';
import type { ChangeDone, ChangeRun, KeyView } from './operations.ts';
import type { KeyStore } from './ports.ts';
import { tombstonesOf } from './tombstones.ts';
import { TokenRemovals } from './token-removals.ts';
import type { RemovalParts } from './token-removals.ts';
import {
  planActivation,
  planCompromise,
  planDeactivation,
  planDueActivation,
  planDueDeactivation,
  planSchedule,
} from './version-changes.ts';

type Planner = (view: KeyView) => Promise<Plan> | Plan;

/** Runs a plan on the key's rows, read for this change. */
export type OnKey = (
  grant: Grant<Operation>,
  run: ChangeRun,
  plan: (view: KeyView) => Promise<Plan>,
  urgency?: 'urgent',
) => Promise<ChangeDone>;

export interface LifecycleParts extends NewVersionParts, RemovalParts {
  readonly store: Pick<KeyStore, 'dropIntent' | 'tombstones' | 'wallClock'>;
  readonly rules: DestructionRules;
}

interface Numbered {
  readonly version: number;
}

export class LifecycleAdministration implements KeyLifecycle {
  readonly #parts: LifecycleParts;
  readonly #destruction: DestructionParts;
  readonly #onKey: OnKey;
  readonly #removals: TokenRemovals;

  constructor(parts: LifecycleParts, onKey: OnKey) {
    this.#parts = parts;
    this.#onKey = onKey;
    this.#removals = new TokenRemovals(parts);
    this.#destruction = { ...parts, removals: this.#removals };
  }

  activateVersion(grant: Grant<'versions.activate'>, input: ReasonedVersion, run: ChangeRun) {
    return this.#change(grant, run, (view) => planActivation(this.#parts, view, input));
  }

  activateDue(grant: Grant<'versions.activate'>, input: Numbered, run: ChangeRun) {
    return this.#change(grant, run, (view) => planDueActivation(this.#parts, view, input));
  }

  deactivateVersion(grant: Grant<'versions.deactivate'>, input: ReasonedVersion, run: ChangeRun) {
    return this.#change(grant, run, (view) => planDeactivation(this.#parts, view, input));
  }

  deactivateDue(grant: Grant<'versions.deactivate'>, input: Numbered, run: ChangeRun) {
    return this.#change(grant, run, (view) => planDueDeactivation(this.#parts, view, input));
  }

  async compromiseVersion(
    grant: Grant<'versions.compromise'>,
    input: CompromiseVersion,
    run: ChangeRun,
  ) {
    const { dryRun } = run;
    const mark = (refused: ErrorCode | null) => {
      const plan: Planner = (view) => planCompromise(this.#parts, view, input, { dryRun, refused });
      return this.#change(grant, run, plan, 'urgent');
    };
    try {
      return await mark(null);
    } catch (error) {
      // Quotas are counted at the commit. Then the version falls without a replacement.
      if (input.replace !== true || !TwofoldError.is(error, 'quota_exceeded')) throw error;
      return mark(error.code);
    }
  }

  scheduleVersion(grant: Grant<'versions.schedule'>, input: ScheduleVersion, run: ChangeRun) {
    return this.#change(grant, run, (view) => planSchedule(this.#parts, view, input));
  }

  scheduleVersionDestruction(
    grant: Grant<'versions.schedule-destruction'>,
    input: ReasonedDestruction & Numbered,
    run: ChangeRun,
  ) {
    const plan: Planner = (view) => planVersionDestruction(this.#destruction, view, input);
    return this.#conditional(grant, run, plan);
  }

  cancelVersionDestruction(
    grant: Grant<'versions.cancel-destruction'>,
    input: Numbered,
    run: ChangeRun,
  ) {
    const plan: Planner = (view) => planVersionCancellation(this.#destruction, view, input);
    return this.#conditional(grant, run, plan);
  }

  scheduleDestruction(
    grant: Grant<'keys.schedule-destruction'>,
    input: ReasonedDestruction,
    run: ChangeRun,
  ) {
    const plan: Planner = async (view) => {
      const planned = await planKeyDestruction(this.#destruction, view, input);
      const tombstones = await tombstonesOf(this.#parts.store, view);
      return { ...planned, change: { ...planned.change, tombstones } };
    };
    return this.#conditional(grant, run, plan);
  }

  cancelDestruction(grant: Grant<'keys.cancel-destruction'>, run: ChangeRun) {
    const plan: Planner = (view) => planKeyCancellation(this.#destruction, view);
    return this.#conditional(grant, run, plan);
  }

  destroyVersion(grant: Grant<'versions.destroy'>, input: Numbered, run: ChangeRun) {
    const plan: Planner = (view) => planDestroyedVersion(this.#destruction, view, input);
    return this.#destroy(grant, run, plan);
  }

  destroyKey(grant: Grant<'keys.destroy'>, run: ChangeRun) {
    return this.#destroy(grant, run, (view) => planDestroyedKey(this.#destruction, view));
  }

  /** What earlier ones owe the token goes first. */
  async #destroy(grant: Grant<Operation>, run: ChangeRun, plan: Planner): Promise<ChangeDone> {
    await this.#removals.retry();
    return this.#change(grant, run, plan);
  }

  /** Of a revision that the caller has seen: who cancels or delays knows what. */
  #conditional(grant: Grant<Operation>, run: ChangeRun, plan: Planner): Promise<ChangeDone> {
    return this.#change(grant, run, (view) => {
      if (run.ifMatch === null) throw new TwofoldError('precondition_required');
      return plan(view);
    });
  }

  #change(
    grant: Grant<Operation>,
    run: ChangeRun,
    plan: Planner,
    urgency?: 'urgent',
  ): Promise<ChangeDone> {
    return this.#onKey(grant, run, async (view) => plan(view), urgency);
  }
}
