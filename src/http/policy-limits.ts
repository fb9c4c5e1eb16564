/** What `@limit` of the policies that admit a request counts it against. */
import { PERIODS } from '../governance/limits.ts';
import { periodAt, quotaOf, rateOf } from '../limits/rate.ts';
import type { PolicyLimit } from '../access/policy-limit.ts';
import type { Limit } from '../limits/rate.ts';
import { whoOf } from './limited.ts';
import type { Limited } from './limited.ts';

/** Of each principal, over all that the policy admits it to. */
export const limitsOfPolicies = (
  asked: Pick<Limited, 'namespace' | 'principal'>,
  policies: readonly PolicyLimit[],
  now: Date,
): readonly Limit[] =>
  policies.flatMap(({ policy, rate, quotas }) => {
    const { namespace: owner } = asked;
    const bucket = (kind: string) => `n/${owner}/${kind}/${policy}/${whoOf(asked)}`;
    const ofRate =
      rate === null
        ? []
        : [
            {
              name: `policy.${policy}`,
              bucket: bucket('y'),
              owner,
              rate: rateOf(rate.perMinute, rate.burst ?? undefined),
            },
          ];
    const ofQuotas = PERIODS.flatMap((kind): Limit[] => {
      const most = quotas.get(kind);
      if (most === undefined) return [];
      const period = periodAt(kind, now);
      const name = `quota.policy.${policy}.${kind}`;
      return [{ name, bucket: bucket(`z/${period.name}`), owner, rate: quotaOf(most), period }];
    });
    return [...ofRate, ...ofQuotas];
  });
