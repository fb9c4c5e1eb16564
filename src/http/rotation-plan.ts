/** The route of the plan of rotations. */
import { DEFAULT_PAGE_SIZE } from '../contract/answer.ts';
import { DEFAULT_PLAN_DAYS, getRotationPlan } from '../contract/rotation-plan.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { pageScope } from './keys.ts';
import { PageTokens } from './page-token.ts';
import { route } from './route.ts';
import type { RotationCursor } from '../rotation/first-items.ts';
import type { ForecastDay, ForecastWarning, UpcomingRotation } from '../rotation/forecast.ts';
import type { PlannedSuite } from '../rotation/planning.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

const suiteIdOf = (number: number): string => findSuiteByNumber(number).id;

/** Position of a page: `<due in ms>/<key id>`. */
const positionOf = ({ dueAt, keyId }: RotationCursor): string => `${String(dueAt)}/${keyId}`;

function afterPosition(position: string | null): RotationCursor | null {
  if (position === null) return null;
  const [, dueAt, keyId] = /^(-?[0-9]{1,16}(?:\.[0-9]+)?)\/(.+)$/.exec(position) ?? [];
  if (dueAt === undefined || keyId === undefined) throw new TwofoldError('internal');
  return { dueAt: Number(dueAt), keyId };
}

const suiteResource = ({ suite, ...facts }: PlannedSuite) => ({
  suite: suiteIdOf(suite),
  ...facts,
});

const dayResource = ({ suites, ...day }: ForecastDay) => ({
  ...day,
  suites: suites.map(({ suite, rotations }) => ({ suite: suiteIdOf(suite), rotations })),
});

const warningResource = (warning: ForecastWarning) =>
  'suite' in warning ? { ...warning, suite: suiteIdOf(warning.suite) } : warning;

const itemResource = (item: UpcomingRotation) => ({
  key: item.name,
  keyId: item.keyId,
  dueAt: new Date(item.dueAt),
  cause: item.cause,
  suite: suiteIdOf(item.from),
  newSuite: suiteIdOf(item.to),
  policyRevision: item.policyRevision,
});

const DAY_MS = 86_400_000;

export function rotationPlanRoutes({
  plans,
  pageTokenKey,
}: Pick<HttpDependencies, 'plans' | 'pageTokenKey'>): readonly GuardedRoute[] {
  const tokens = new PageTokens(pageTokenKey);
  return [
    route(getRotationPlan, {
      handle: async ({ grant, query, gone }) => {
        const { days = DEFAULT_PLAN_DAYS, pageSize: size = DEFAULT_PAGE_SIZE } = query;
        const scope = pageScope(getRotationPlan.id, grant, { ...query, days });
        const after = afterPosition(tokens.open(scope, query.pageToken));
        const plan = await plans.plan(grant, { days, page: { size, after } }, gone());
        const { next, from, keys, unplanned, waiting, late, total, peakMinute, budgets } = plan;
        const position = next.cursor === null ? null : positionOf(next.cursor);
        return {
          body: {
            from,
            until: new Date(from.getTime() + days * DAY_MS),
            keys,
            paused: plan.paused,
            unplanned,
            byUseAlone: plan.byUseAlone,
            ending: plan.ending,
            retirements: plan.retirements,
            waiting,
            late,
            total,
            suites: plan.suites.map(suiteResource),
            days: plan.days.filter(({ rotations }) => rotations > 0).map(dayResource),
            peakMinute,
            budgets,
            warnings: plan.warnings.map(warningResource),
            items: next.items.map(itemResource),
            nextPageToken: tokens.seal(scope, position),
          },
        };
      },
    }),
  ];
}
