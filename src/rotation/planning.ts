/** What will rotate in a namespace over the next days, and what that takes: for those who ask. */
import type { Grant } from '../access/grant.ts';
import type { Suite } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import type { GenerationMeasures, MeasuredGeneration } from '../keyring/generation-times.ts';
import type { Pause } from '../keyring/rotation-policy.ts';
import type { SelectorPolicy } from '../keyring/selector-policy.ts';
import type { RotationCursor } from './first-items.ts';
import { forecast } from './forecast.ts';
import type { Budgets, Forecast, SuiteForecast } from './forecast.ts';
import { usesAsked } from './next-rotation.ts';
import type { RotationScan } from './ports.ts';
import { LATE_MS } from './reading.ts';
import { versionBytes } from './version-size.ts';

/** When to come again while another plan is made, seconds. */
const RETRY_AFTER = 5;

export interface PlanningParts {
  readonly scan: RotationScan;
  readonly policies: {
    of(
      namespace: string,
    ): Promise<{ readonly policies: readonly SelectorPolicy[]; readonly paused: Pause | null }>;
  };
  readonly generation: GenerationMeasures;
  readonly budgets: Budgets;
  /** Why no version of a suite can be made here, in words; null when it can. */
  readonly refusal?: (suite: Suite, at: Date) => string | null;
  readonly clock: () => Date;
}

export interface PlanRequest {
  /** 1 to `MAX_DAYS`. */
  readonly days: number;
  readonly page: { readonly size: number; readonly after: RotationCursor | null };
}

export interface PlannedSuite extends SuiteForecast {
  readonly bytesPerVersion: number;
  /** What is known of making a version. */
  readonly measured: MeasuredGeneration | null;
}

export interface RotationPlan extends Omit<Forecast, 'suites'> {
  readonly from: Date;
  readonly budgets: Budgets;
  /** Of the whole namespace. */
  readonly paused: Pause | null;
  readonly suites: readonly PlannedSuite[];
}

export class RotationPlanning {
  readonly #parts: PlanningParts;
  #busy = false;

  constructor(parts: PlanningParts) {
    this.#parts = parts;
  }

  /**
   * Reads every key of the namespace, one plan of this process at a time.
   * @throws TwofoldError rate_limited while another is made; malformed_request once `gone` is aborted;
   *   integrity_failed, database_unavailable
   */
  async plan(
    grant: Grant<'rotations.read'>,
    request: PlanRequest,
    gone: AbortSignal,
  ): Promise<RotationPlan> {
    if (this.#busy) {
      throw new TwofoldError('rate_limited', 'Another rotation plan is being made here.', {
        retryAfter: RETRY_AFTER,
      });
    }
    this.#busy = true;
    try {
      return await this.#plan(grant, request, gone);
    } catch (error) {
      if (!gone.aborted || error !== gone.reason) throw error;
      throw new TwofoldError('malformed_request', 'The client went before its answer.');
    } finally {
      this.#busy = false;
    }
  }

  async #plan(
    { namespace }: Grant<'rotations.read'>,
    { days, page }: PlanRequest,
    signal: AbortSignal,
  ): Promise<RotationPlan> {
    const { scan, policies, generation, budgets, refusal, clock } = this.#parts;
    const set = await policies.of(namespace);
    const now = clock();
    const measured = new Map<number, MeasuredGeneration>();
    const costs = async (suites: readonly number[]) => {
      for (const suite of suites) {
        const time = await generation.measured(findSuiteByNumber(suite));
        signal.throwIfAborted();
        if (time !== null) measured.set(suite, time);
      }
      return measured;
    };
    const told = await forecast(
      scan.keys(namespace, usesAsked(set.policies.map(({ policy }) => policy))),
      {
        now,
        days,
        page,
        budgets,
        policies: set.policies,
        paused: set.paused,
        lateAfterMs: LATE_MS,
        ...(refusal === undefined
          ? {}
          : { refusal: (suite, at) => refusal(findSuiteByNumber(suite), at) }),
      },
      { costs, signal },
    );
    const suites = told.suites.map((each) => ({
      ...each,
      bytesPerVersion: versionBytes(findSuiteByNumber(each.suite)),
      measured: measured.get(each.suite) ?? null,
    }));
    return { ...told, suites, from: now, budgets, paused: set.paused };
  }
}
