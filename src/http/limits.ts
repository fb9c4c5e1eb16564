/** Routes of limits and quotas. */
import * as contract from '../contract/limits.ts';
import { CLASSES, PERIODS, SCOPES } from '../governance/limits.ts';
import { answerSet, memberTag } from './governed.ts';
import { route } from './route.ts';
import type { NamespaceLimits, SetRate } from '../governance/limits.ts';
import type { Member, PreparedSetChange } from '../governance/sealed-set.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { Call, GuardedRoute } from './route.ts';

type Body = Call<typeof contract.putLimits>['body'];
type RateBody = NonNullable<Body['keys']>[string];

const MEMBER = { day: 'perDay', month: 'perMonth' } as const;

const setRate = ({ perMinute, burst }: RateBody): SetRate => ({ perMinute, burst: burst ?? null });

export function limitsOfBody(body: Body): NamespaceLimits {
  const rates = SCOPES.flatMap((scope) =>
    CLASSES.flatMap((each) => {
      const rate = body[scope]?.[each];
      return rate === undefined ? [] : [[`${scope}.${each}`, setRate(rate)] as const];
    }),
  );
  const keys = Object.entries(body.keys ?? {}).map(
    ([name, rate]) => [name, setRate(rate)] as const,
  );
  const { keys: most, versions } = body.quotas ?? {};
  const periods = SCOPES.flatMap((scope) =>
    PERIODS.flatMap((period) => {
      const uses = body.quotas?.[scope]?.[MEMBER[period]];
      return uses === undefined ? [] : [[`${scope}.${period}`, uses] as const];
    }),
  );
  return {
    rates: new Map(rates),
    keys: new Map(keys),
    quotas: { keys: most ?? null, versions: versions ?? null },
    periods: new Map(periods),
  };
}

const shownRate = ({ perMinute, burst }: SetRate) =>
  burst === null ? { perMinute } : { perMinute, burst };

function resource(member: Member<NamespaceLimits> | null) {
  if (member === null) return { updatedAt: null, updatedBy: null, revision: 0 };
  const { value, at, by, revision } = member;
  const scopes = SCOPES.flatMap((scope) => {
    const classes = CLASSES.flatMap((each) => {
      const rate = value.rates.get(`${scope}.${each}`);
      return rate === undefined ? [] : [[each, shownRate(rate)] as const];
    });
    return classes.length === 0 ? [] : [[scope, Object.fromEntries(classes)] as const];
  });
  const keys = [...value.keys].map(([name, rate]) => [name, shownRate(rate)] as const);
  const uses = SCOPES.flatMap((scope) => {
    const periods = PERIODS.flatMap((period): [string, number][] => {
      const most = value.periods.get(`${scope}.${period}`);
      return most === undefined ? [] : [[MEMBER[period], most]];
    });
    return periods.length === 0 ? [] : [[scope, Object.fromEntries(periods)] as const];
  });
  const counts = Object.entries(value.quotas).filter(([, most]) => most !== null);
  return {
    ...Object.fromEntries(scopes),
    ...(keys.length === 0 ? {} : { keys: Object.fromEntries(keys) }),
    ...(counts.length + uses.length === 0
      ? {}
      : { quotas: { ...Object.fromEntries(counts), ...Object.fromEntries(uses) } }),
    updatedAt: at.toISOString(),
    updatedBy: by,
    revision,
  };
}

type Dependencies = Pick<HttpDependencies, 'governance' | 'limits' | 'access'>;

export function limitRoutes({ governance, limits, access }: Dependencies): readonly GuardedRoute[] {
  const quotasOf = async (namespace: string) => {
    const { quotas } = await governance.limits.inForce(namespace);
    const used = await limits.usage.usageOf(namespace);
    const of = (name: 'keys' | 'versions') => ({ limit: quotas[name], used: used[name] });
    return { keys: of('keys'), versions: of('versions') };
  };
  return [
    route(contract.getLimits, {
      handle: async ({ grant }) => {
        const member = await governance.limits.get(grant);
        const used = await limits.usage.usageOf(grant.namespace);
        const headers = member === null ? {} : memberTag(member);
        return { body: { ...resource(member), used }, headers };
      },
    }),
    route(contract.putLimits, {
      handle: async (call) => {
        const before = await governance.limits.get(call.grant);
        const show = ({ changes: [change] }: PreparedSetChange<NamespaceLimits>) =>
          resource(change?.after ?? before);
        const wanted = limitsOfBody(call.body);
        return answerSet(call, show, (run) => governance.limits.put(call.grant, wanted, run));
      },
    }),
    route(contract.ownLimits, {
      handle: async ({ grant, principal, grantIf }) => {
        const { namespace } = grant;
        const policies = (await access.in(namespace)).limitsOf(principal);
        const asked = { principal, namespace, key: null, plane: 'use', uses: true } as const;
        const held = await Promise.all(
          CLASSES.map((plane) => limits.gate.limitsOf({ ...asked, plane, uses: plane === 'use' })),
        );
        const all = [...held.flat(), ...limits.gate.ofPolicies(asked, policies)];
        const rates = all.filter(({ period }) => period === undefined);
        const periods = all.flatMap((limit) => {
          const { name, rate, period } = limit;
          if (period === undefined) return [];
          const remaining = limits.gate.remaining(limit);
          const resetsAt = new Date(period.ends).toISOString();
          return [{ name, limit: rate.burst, remaining, resetsAt }];
        });
        const items = rates.map((limit) => ({
          name: limit.name,
          perMinute: limit.rate.perMinute,
          burst: limit.rate.burst,
          remaining: limits.gate.remaining(limit),
        }));
        const maySee = grantIf('keys.list') ?? grantIf('limits.read');
        const quotas = maySee === null ? null : await quotasOf(namespace);
        return { body: { items, ...(periods.length === 0 ? {} : { periods }), quotas } };
      },
    }),
  ];
}
