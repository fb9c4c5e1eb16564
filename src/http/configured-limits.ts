/** Limits and quotas of the configuration, which hold beside those of namespaces and policies. */
import { PERIODS } from '../governance/limits.ts';
import { periodAt, quotaOf, rateOf } from '../limits/rate.ts';
import type { Scope } from '../governance/limits.ts';
import type { Limit, PeriodKind, Rate } from '../limits/rate.ts';
import { lengthAnd } from './limited.ts';
import type { Limited } from './limited.ts';

/** Of the configuration; 0: none. */
export interface LimitSettings {
  readonly principalPerMinute: number;
  readonly adminPerMinute: number;
  readonly namespacePerMinute: number;
  readonly keyPerMinute: number;
  readonly principalUsesPerDay: number;
  readonly principalUsesPerMonth: number;
  readonly namespaceUsesPerDay: number;
  readonly namespaceUsesPerMonth: number;
  readonly keyUsesPerDay: number;
  readonly keyUsesPerMonth: number;
}

/** Of a bucket: whose it is, unique among those of its scope. */
type Whose = Pick<Limit, 'owner'> & { readonly whose: string };

export class ConfiguredLimits {
  readonly #rates: Readonly<Record<Scope | 'admin', Rate | null>>;
  /** Most uses; none where there is no such quota. */
  readonly #quotas: Readonly<Record<Scope, ReadonlyMap<PeriodKind, number>>>;

  constructor(settings: LimitSettings) {
    const rate = (perMinute: number) => (perMinute === 0 ? null : rateOf(perMinute));
    this.#rates = {
      principal: rate(settings.principalPerMinute),
      admin: rate(settings.adminPerMinute),
      namespace: rate(settings.namespacePerMinute),
      key: rate(settings.keyPerMinute),
    };
    this.#quotas = {
      principal: quotas(settings.principalUsesPerDay, settings.principalUsesPerMonth),
      namespace: quotas(settings.namespaceUsesPerDay, settings.namespaceUsesPerMonth),
      key: quotas(settings.keyUsesPerDay, settings.keyUsesPerMonth),
    };
  }

  /**
   * Of a principal over all namespaces, and of a namespace.
   * @param who the principal, the same text for no other of its issuer's namespace
   */
  of({ principal, namespace, plane, uses }: Limited, who: string, now: Date): readonly Limit[] {
    const found: Limit[] = [];
    const own = plane === 'use' ? this.#rates.principal : this.#rates.admin;
    // Over all namespaces, so of the one whose issuer named them, or of nobody.
    const owner = principal.namespace ?? '';
    const self = { whose: `${lengthAnd(owner)}${who}`, owner };
    if (own !== null) {
      const name = `service.principal.${plane}`;
      found.push({ name, bucket: `c/p/${plane}/${self.whose}`, owner, rate: own });
    }
    if (plane === 'use' && this.#rates.namespace !== null) {
      const limited = { bucket: `c/n/${namespace}`, owner: namespace };
      found.push({ name: 'service.namespace.use', ...limited, rate: this.#rates.namespace });
    }
    if (!uses) return found;
    const home = { whose: namespace, owner: namespace };
    return [
      ...found,
      ...this.#quotasOf('principal', self, now),
      ...this.#quotasOf('namespace', home, now),
    ];
  }

  /** Whether `ofKey` finds any. */
  limitsKeys({ plane, uses }: Pick<Limited, 'plane' | 'uses'>): boolean {
    return (plane === 'use' && this.#rates.key !== null) || (uses && this.#quotas.key.size > 0);
  }

  /** @param id of the key */
  ofKey(
    { namespace, plane, uses }: Pick<Limited, 'namespace' | 'plane' | 'uses'>,
    id: string,
    now: Date,
  ): readonly Limit[] {
    const { key: rate } = this.#rates;
    const limited = { bucket: `c/k/${id}`, owner: namespace };
    const rates =
      plane === 'use' && rate !== null ? [{ name: 'service.key.use', ...limited, rate }] : [];
    const self = { whose: id, owner: namespace };
    return uses ? [...rates, ...this.#quotasOf('key', self, now)] : rates;
  }

  #quotasOf(scope: Scope, { whose, owner }: Whose, now: Date): readonly Limit[] {
    return PERIODS.flatMap((kind): Limit[] => {
      const most = this.#quotas[scope].get(kind);
      if (most === undefined) return [];
      const period = periodAt(kind, now);
      const bucket = `c/q/${scope}.${kind}/${period.name}/${whose}`;
      return [
        { name: `quota.service.${scope}.${kind}`, bucket, owner, rate: quotaOf(most), period },
      ];
    });
  }
}

const quotas = (perDay: number, perMonth: number): ReadonlyMap<PeriodKind, number> =>
  new Map(
    (
      [
        ['day', perDay],
        ['month', perMonth],
      ] as const
    ).filter(([, most]) => most > 0),
  );
