/**
 * What rotation will ask for over the next days: a fold over light projections of keys, in memory
 * that does not grow with them.
 *
 * Each key is rotated in thought whenever it is due, from its next rotation (the one that `due.ts`
 * names) to the end of the horizon. What is overdue counts at `now`. Rotations by use are those that
 * are due already, since nobody knows future use; suspended keys, paused policies and keys without an
 * active primary ask for none, and are counted as waiting. Times set in advance move the primary as
 * they come (`course.ts`). Intervals under a day count as an even rate, and so do rotations of one key
 * beyond some hundreds.
 */
import { setImmediate as turn } from 'node:timers/promises';

import { findSuiteByNumber } from '../crypto/suites.ts';
import { parseDuration } from '../keyring/durations.ts';
import type { Pause, RotationPolicy } from '../keyring/rotation-policy.ts';
import { rankPolicies, winningPolicy } from '../keyring/selector-policy.ts';
import type { RankedPolicies, SelectorPolicy } from '../keyring/selector-policy.ts';
import { courseOf, isByUseAlone } from './course.ts';
import { FirstItems } from './first-items.ts';
import type { RotationCursor } from './first-items.ts';
import { DAY_MS, Horizon } from './horizon.ts';
import { intervalDueAt, isDatedAhead, suiteOfRotation, upgradeDueAt } from './next-rotation.ts';
import type { PlannedRotation, RotationCause, RotationFacts } from './next-rotation.ts';
import type { LightKey } from './ports.ts';
import { RefusedUpgrades, suiteWarnings } from './refused-suites.ts';
import type { SuiteRefusal, SuiteWarning, UpgradeWarning } from './refused-suites.ts';
import { RetirementCount, supersessionsOf } from './retirement-count.ts';
import type { Supersessions } from './retirement-count.ts';
import { versionBytes } from './version-size.ts';

/** Longest horizon: its minutes are counted one by one. */
export const MAX_DAYS = 3_650;
export const MAX_PAGE = 1_000;
/** How long keys are folded before others have their turn, ms. */
const SLICE_MS = 8;

/** What the generation of one version takes, as measured. */
export interface SuiteCost {
  readonly hsmMs: number;
  readonly cpuMs: number;
}

export interface Budgets {
  /** Rotations that are run a minute. */
  readonly perMinute: number | null;
  /** What the horizon may add to the database. */
  readonly storageBytes: number | null;
  /** Milliseconds of the HSM on one day. */
  readonly hsmMsPerDay: number | null;
}

/** By suite number; what is not there costs nothing and is named in `unmeasured`. */
export type SuiteCosts = ReadonlyMap<number, SuiteCost>;

export interface ForecastOptions {
  readonly now: Date;
  /** 1 to `MAX_DAYS`. */
  readonly days: number;
  readonly policies: readonly SelectorPolicy[];
  /** Of the whole namespace: nothing that a policy asks for is done while it is so. */
  readonly paused: Pause | null;
  readonly budgets: Budgets;
  /** Any suite can be made unless told. */
  readonly refusal?: SuiteRefusal;
  /** How long after its due time a rotation counts as late. */
  readonly lateAfterMs: number;
  /** `size` 1 to `MAX_PAGE`. */
  readonly page: { readonly size: number; readonly after: RotationCursor | null };
}

/** The next rotation of one key. */
export interface UpcomingRotation extends RotationCursor {
  readonly name: string;
  readonly cause: RotationCause;
  /** Suite numbers. */
  readonly from: number;
  readonly to: number;
  readonly policyRevision: number;
}

export interface SuiteForecast {
  readonly suite: number;
  readonly rotations: number;
  readonly bytes: number;
  readonly hsmMs: number;
  readonly cpuMs: number;
}

/** What one rotation adds. */
type Unit = Pick<SuiteForecast, 'bytes' | 'hsmMs' | 'cpuMs'>;

/** 24 hours from `from` on; the first begins at `now`. */
export interface ForecastDay extends Omit<SuiteForecast, 'suite'> {
  readonly from: Date;
  /** By suite number; suites without a rotation on that day are left out. */
  readonly suites: readonly { readonly suite: number; readonly rotations: number }[];
}

export type ForecastWarning =
  | {
      readonly kind: 'per-minute';
      readonly from: Date;
      readonly lateMinutes: number;
      readonly worstAt: Date;
    }
  | UpgradeWarning
  /** Keys whose last rotation is dated between two moments to come: they are due by age no sooner. */
  | { readonly kind: 'clock'; readonly from: Date; readonly worstAt: Date; readonly keys: number }
  | SuiteWarning
  | { readonly kind: 'storage'; readonly from: Date; readonly bytes: number }
  | { readonly kind: 'hsm-time'; readonly from: Date; readonly hsmMs: number };

export interface Forecast {
  readonly keys: number;
  /** Keys that nothing rotates: no policy, or one that asks for no rotation of them. */
  readonly unplanned: number;
  /** Keys that their uses alone rotate, and not yet: when, nobody knows. */
  readonly byUseAlone: number;
  /** Keys whose primary is deactivated, as was set in advance, before another takes its place. */
  readonly ending: { readonly count: number; readonly first: Date | null };
  /** Versions that policies close within the horizon, and those of them that are due now. */
  readonly retirements: { readonly count: number; readonly due: number };
  readonly waiting: {
    readonly paused: number;
    /** Since a rotation of theirs was undone. */
    readonly held: number;
    readonly suspended: number;
    readonly withoutPrimary: number;
  };
  readonly late: {
    /** By age or upgrade, due longer ago than `lateAfterMs`. */
    readonly count: number;
    readonly oldest: Date | null;
    /** By use or the limit of AES-GCM, due now; since when nobody knows. */
    readonly byUse: number;
  };
  readonly days: readonly ForecastDay[];
  readonly suites: readonly SuiteForecast[];
  readonly total: Omit<SuiteForecast, 'suite'>;
  readonly peakMinute: { readonly at: Date; readonly rotations: number };
  readonly warnings: readonly ForecastWarning[];
  /** Suites of the forecast of which no cost was given. */
  readonly unmeasured: readonly number[];
  readonly next: {
    readonly items: readonly UpcomingRotation[];
    /** Where the next page goes on; null at the end. */
    readonly cursor: RotationCursor | null;
  };
}

const NO_COST: SuiteCost = { hsmMs: 0, cpuMs: 0 };

export class Forecaster {
  readonly #options: ForecastOptions;
  readonly #ranked: RankedPolicies;
  readonly #horizon: Horizon;
  readonly #now: number;
  readonly #first: FirstItems<UpcomingRotation>;
  readonly #waiting = { paused: 0, held: 0, suspended: 0, withoutPrimary: 0 };
  readonly #late = { count: 0, byUse: 0, oldest: Infinity };
  readonly #retirements: RetirementCount;
  readonly #ending = { count: 0, first: Infinity };
  readonly #upgrades: RefusedUpgrades;
  readonly #ahead = { keys: 0, first: Infinity, last: 0 };
  #keys = 0;
  #unplanned = 0;
  #byUseAlone = 0;

  /** @throws RangeError for a horizon or a page outside its bounds (the contract checks first) */
  constructor(options: ForecastOptions) {
    const { days, now, page } = options;
    const inRange = (value: number, most: number) =>
      Number.isSafeInteger(value) && value >= 1 && value <= most;
    if (!inRange(days, MAX_DAYS) || !inRange(page.size, MAX_PAGE)) {
      throw new RangeError('the horizon or the page is out of bounds');
    }
    this.#options = options;
    this.#now = now.getTime();
    this.#ranked = rankPolicies(options.policies, options.paused);
    this.#horizon = new Horizon(this.#now, days);
    this.#retirements = new RetirementCount(this.#now, this.#horizon.end);
    this.#upgrades = new RefusedUpgrades(options.refusal ?? (() => null));
    this.#first = new FirstItems(page.size, page.after);
  }

  add(key: LightKey): void {
    this.#keys += 1;
    if (key.primary === null && key.next === null) {
      this.#waiting.withoutPrimary += 1;
      return;
    }
    if (key.suspended) {
      this.#waiting.suspended += 1;
      return;
    }
    const { labels, rotation, rotationHold } = key;
    const primary = rotationHold?.primary ?? null;
    const winner = winningPolicy({ labels, rotation, rotationHold, primary }, this.#ranked);
    const policy = winner && this.#upgrades.without(key, winner);
    this.#countAhead(key, policy);
    const { facts, planned, activatedAt, endsAt } = courseOf(key, policy, this.#now);
    if (endsAt !== null) {
      this.#ending.count += 1;
      this.#ending.first = Math.min(this.#ending.first, endsAt);
    }
    const superseded = supersessionsOf(key, policy, activatedAt);
    if (planned !== null) this.#planned({ ...key, ...facts }, policy, planned, superseded);
    else if (policy?.paused === rotationHold && rotationHold !== null) this.#waiting.held += 1;
    else if (policy !== null && policy.paused !== null) this.#waiting.paused += 1;
    else if (endsAt === null && isByUseAlone(policy)) this.#byUseAlone += 1;
    else this.#unplanned += 1;
    if (superseded !== null) this.#retirements.add(superseded);
  }

  /** Numbers of the suites that rotations make versions of. */
  get suites(): readonly number[] {
    return [...this.#horizon.bySuite.keys()].sort((a, b) => a - b);
  }

  result(costs: SuiteCosts): Forecast {
    const steps = this.results(costs);
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
    }
  }

  /** The same in steps of a few milliseconds. */
  *results(costs: SuiteCosts): Generator<undefined, Forecast> {
    const { budgets } = this.#options;
    const rows = this.suites.map((suite) => ({
      suite,
      byDay: this.#horizon.bySuite.get(suite) ?? new Float64Array(0),
      unit: unitOf(suite, costs),
    }));
    const suites = rows.map(({ suite, byDay, unit }) =>
      sized(
        suite,
        byDay.reduce((sum, count) => sum + count, 0),
        unit,
      ),
    );
    const days = this.#days(rows);
    const { peak, overload } = yield* this.#horizon.load(budgets.perMinute);
    const { items, more } = this.#first;
    const last = items.at(-1);
    const { count, byUse, oldest } = this.#late;
    return {
      keys: this.#keys,
      unplanned: this.#unplanned,
      byUseAlone: this.#byUseAlone,
      ending: {
        count: this.#ending.count,
        first: this.#ending.count === 0 ? null : new Date(this.#ending.first),
      },
      retirements: this.#retirements.counts,
      waiting: { ...this.#waiting },
      late: { count, oldest: count === 0 ? null : new Date(oldest), byUse },
      days,
      suites,
      total: summed(suites),
      peakMinute: { at: new Date(peak.at), rotations: Math.ceil(peak.rotations - 1e-6) },
      warnings: [
        ...(overload === null
          ? []
          : [
              {
                kind: 'per-minute' as const,
                from: new Date(overload.from),
                lateMinutes: overload.lateMinutes,
                worstAt: new Date(overload.worstAt),
              },
            ]),
        ...budgetWarnings(days, budgets),
        ...this.#upgrades.warnings(),
        ...suiteWarnings(days, this.#options.refusal),
        ...this.#clockWarnings(),
      ],
      unmeasured: suites.map(({ suite }) => suite).filter((suite) => !costs.has(suite)),
      next: {
        items,
        cursor: more && last !== undefined ? { dueAt: last.dueAt, keyId: last.keyId } : null,
      },
    };
  }

  #countAhead(key: LightKey, policy: RotationPolicy | null): void {
    if (key.primary === null || !isDatedAhead(key, policy, this.#now)) return;
    const { activatedAt } = key.primary;
    const { keys, first, last } = this.#ahead;
    this.#ahead.keys = keys + 1;
    this.#ahead.first = Math.min(first, activatedAt);
    this.#ahead.last = Math.max(last, activatedAt);
  }

  #clockWarnings(): readonly ForecastWarning[] {
    const { keys, first, last } = this.#ahead;
    if (keys === 0) return [];
    return [{ kind: 'clock', from: new Date(first), worstAt: new Date(last), keys }];
  }

  #planned(
    facts: Pick<LightKey, 'name'> & RotationFacts,
    policy: RotationPolicy | null,
    planned: PlannedRotation,
    superseded: Supersessions | null,
  ): void {
    const { dueAt, cause } = planned;
    const isByUse = cause === 'uses' || cause === 'gcm-limit';
    // Of these `dueAt` says when the primary was activated, which a clock that ran ahead may have dated later than now.
    const at = isByUse ? this.#now : Math.max(dueAt, this.#now);
    const cursor = { dueAt, keyId: facts.id };
    this.#first.offer(cursor, () => ({
      ...cursor,
      name: facts.name,
      cause,
      from: facts.primary?.suite ?? 0,
      to: suiteOfRotation(cause, facts, policy, at),
      policyRevision: policy?.revision ?? 0,
    }));
    if (isByUse) this.#late.byUse += 1;
    else if (dueAt + this.#options.lateAfterMs < this.#now) {
      this.#late.count += 1;
      this.#late.oldest = Math.min(this.#late.oldest, dueAt);
    }
    this.#simulate({ facts, cause }, policy, at, superseded);
  }

  /** The rotation at `at` and all after it. */
  #simulate(
    start: { readonly facts: RotationFacts; readonly cause: RotationCause | null },
    policy: RotationPolicy | null,
    first: number,
    superseded: Supersessions | null,
  ): void {
    const horizon = this.#horizon;
    let [{ facts, cause }, at] = [start, first];
    while (at < horizon.end) {
      const suite = suiteOfRotation(cause, facts, policy, at);
      cause = null;
      horizon.add(at, suite);
      superseded?.times.push(at);
      if (policy === null || policy.paused !== null) return;
      facts = { ...facts, primary: { suite, activatedAt: at, uses: 0 } };
      const due = intervalDueAt(facts.id, at, policy) ?? Infinity;
      const upgrade = upgradeDueAt(facts, policy) ?? Infinity;
      const period = due - at;
      if (period < DAY_MS) {
        const until = Math.min(upgrade, horizon.end);
        horizon.spread(due, until, period, suite);
        superseded?.series.push({ from: due, until, period });
        at = upgrade;
      } else if (upgrade === Infinity && isEven(policy)) {
        horizon.addEach(due, period, suite);
        superseded?.series.push({ from: due, until: horizon.end, period });
        return;
      } else {
        at = Math.min(due, upgrade);
      }
    }
  }

  #days(rows: readonly SuiteRow[]): readonly ForecastDay[] {
    return Array.from({ length: this.#options.days }, (_, day) => {
      const counts = rows
        .map(({ suite, byDay, unit }) => sized(suite, byDay[day] ?? 0, unit))
        .filter(({ rotations }) => rotations > 0);
      return {
        from: new Date(this.#now + day * DAY_MS),
        ...summed(counts),
        suites: counts.map(({ suite, rotations }) => ({ suite, rotations })),
      };
    });
  }
}

interface SuiteRow {
  readonly suite: number;
  readonly byDay: Float64Array;
  readonly unit: Unit;
}

function unitOf(suite: number, costs: SuiteCosts): Unit {
  const { hsmMs, cpuMs } = costs.get(suite) ?? NO_COST;
  return { bytes: versionBytes(findSuiteByNumber(suite)), hsmMs, cpuMs };
}

function sized(suite: number, count: number, unit: Unit): SuiteForecast {
  const rotations = Math.round(count);
  return {
    suite,
    rotations,
    bytes: rotations * unit.bytes,
    hsmMs: rotations * unit.hsmMs,
    cpuMs: rotations * unit.cpuMs,
  };
}

/** Whether the interval is as long wherever it begins. */
const isEven = ({ interval }: RotationPolicy): boolean =>
  interval !== null && parseDuration(interval)?.months === 0;

function summed(rows: readonly SuiteForecast[]): Omit<SuiteForecast, 'suite'> {
  const of = (name: 'rotations' | 'bytes' | 'hsmMs' | 'cpuMs') =>
    rows.reduce((sum, row) => sum + row[name], 0);
  return {
    rotations: of('rotations'),
    bytes: of('bytes'),
    hsmMs: of('hsmMs'),
    cpuMs: of('cpuMs'),
  };
}

/** The first day on which each budget is broken. */
function budgetWarnings(days: readonly ForecastDay[], budgets: Budgets): ForecastWarning[] {
  const { storageBytes, hsmMsPerDay } = budgets;
  let bytes = 0;
  const full = days.find((day) => {
    bytes += day.bytes;
    return storageBytes !== null && bytes > storageBytes;
  });
  const busy = days.find(({ hsmMs }) => hsmMsPerDay !== null && hsmMs > hsmMsPerDay);
  return [
    ...(full === undefined ? [] : [{ kind: 'storage' as const, from: full.from, bytes }]),
    ...(busy === undefined
      ? []
      : [{ kind: 'hsm-time' as const, from: busy.from, hsmMs: busy.hsmMs }]),
  ];
}

export interface Folding {
  /** What versions of the suites that will be made cost; asked once all keys are known. */
  readonly costs: (suites: readonly number[]) => Promise<SuiteCosts>;
  readonly signal: AbortSignal;
}

/**
 * Folds batches as they come, a slice at a time; the caller bounds how many forecasts run at a time.
 * Rejects with the signal's reason once that is aborted.
 */
export async function forecast(
  keys: AsyncIterable<readonly LightKey[]>,
  options: ForecastOptions,
  { costs, signal }: Folding,
): Promise<Forecast> {
  const forecaster = new Forecaster(options);
  for await (const batch of keys) {
    signal.throwIfAborted();
    let since = performance.now();
    for (const key of batch) {
      forecaster.add(key);
      if (performance.now() - since < SLICE_MS) continue;
      await turn();
      signal.throwIfAborted();
      since = performance.now();
    }
  }
  const steps = forecaster.results(await costs(forecaster.suites));
  for (;;) {
    signal.throwIfAborted();
    const step = steps.next();
    if (step.done === true) return step.value;
    await turn();
  }
}
