/**
 * What a request counts against, once it is authorized: limits of the configuration, those of its
 * namespace, and those of the policies that permitted it. Nothing here waits for the database but the first look at a namespace's limits.
 */
import { TwofoldError } from '../errors.ts';
import { PERIODS } from '../governance/limits.ts';
import { periodAt, quotaOf, rateOf } from '../limits/rate.ts';
import { ConfiguredLimits } from './configured-limits.ts';
import { whoOf } from './limited.ts';
import { limitsOfPolicies } from './policy-limits.ts';
import type { Operation } from '../access/grant.ts';
import type { PolicyLimit } from '../access/policy-limit.ts';
import type { NamespaceLimitSets, NamespaceLimits, Scope, SetRate } from '../governance/limits.ts';
import type { KeyReferences } from '../keyring/references.ts';
import type { Charge, Limiter } from '../limits/limiter.ts';
import type { Limit, PeriodKind, Rate } from '../limits/rate.ts';
import type { LimitSettings } from './configured-limits.ts';
import type { Limited } from './limited.ts';

export interface LimitGateParts {
  readonly limiter: Limiter;
  readonly governance: { readonly limits: Pick<NamespaceLimitSets, 'inForce'> };
  readonly keys: Pick<KeyReferences, 'resolve'>;
  readonly settings: LimitSettings;
  /** For the period of a quota. */
  readonly clock?: () => Date;
}

type Periods = NamespaceLimits['periods'];
type QuotaName = `${Scope}.${PeriodKind}`;

/** What stops a harm, or says who is limited, is never refused for a limit. */
const UNLIMITED: ReadonlySet<Operation> = new Set<Operation>([
  'keys.suspend',
  'versions.suspend',
  'versions.compromise',
  'keys.cancel-destruction',
  'versions.cancel-destruction',
  'denials.change',
  'limits.read',
  'limits.change',
  'approvals.decide',
]);

/** To ask for one's limits, of each principal in a namespace. */
const ASKING = rateOf(60, 10);

/** Rates that all who use a key use up together. */
const OF_KEY: ReadonlySet<string> = new Set(['key.use', 'service.key.use']);
/** Rates of the principal itself, which nobody else uses up. */
const OF_SELF: ReadonlySet<string> = new Set(['principal.use', 'service.principal.use']);

/** Refused for a limit: its entries are counted where they are many. */
export class RateRefused extends TwofoldError {
  readonly limit: Limit;

  /** @param left of the limit, as far as this instance knows */
  constructor(limit: Limit, { retryAfterMs, left }: { retryAfterMs: number; left: number }) {
    const retryAfter = Math.max(1, Math.ceil(retryAfterMs / 1_000));
    const says =
      left < 1 ? 'is used up' : `lets through less than this now; about ${String(left)} are left`;
    super('rate_limited', `The limit ${limit.name} ${says}.`, { retryAfter });
    this.limit = limit;
  }
}

export class LimitGate {
  readonly #parts: LimitGateParts;
  readonly #configured: ConfiguredLimits;

  constructor(parts: LimitGateParts) {
    this.#parts = parts;
    this.#configured = new ConfiguredLimits(parts.settings);
  }

  /**
   * Counts an authorized request of so many items; null where nothing limits it.
   * @throws RateRefused, TwofoldError integrity_failed, database_unavailable
   */
  async count(
    asked: Limited,
    operation: Operation,
    cost: number,
    policies: readonly PolicyLimit[],
  ): Promise<Charge | null> {
    if (UNLIMITED.has(operation)) return null;
    return this.#charge(await this.limitsOf(asked, policies), cost);
  }

  /**
   * Counts the question for one's own limits: it is asked when they are used up, so none of them refuses it
   * but a rate of its own.
   * @throws RateRefused
   */
  countAsking(asked: Pick<Limited, 'namespace' | 'principal'>): Charge {
    const { namespace } = asked;
    const bucket = `a/${namespace}/${whoOf(asked)}`;
    return this.#admitted(
      this.#parts.limiter.charge(
        [{ name: 'service.limits', bucket, owner: namespace, rate: ASKING }],
        1,
      ),
      1,
    );
  }

  /** What is known to limit it only after the count. @throws RateRefused */
  countMore(operation: Operation, limits: readonly Limit[], cost: number): Charge | null {
    return UNLIMITED.has(operation) ? null : this.#charge(limits, cost);
  }

  /** Of policies that admit it. */
  ofPolicies(
    asked: Pick<Limited, 'namespace' | 'principal'>,
    policies: readonly PolicyLimit[],
  ): readonly Limit[] {
    return limitsOfPolicies(asked, policies, this.#now());
  }

  /** Of another key that it uses: uses of it, whatever the request itself is. @throws as `count` */
  async limitsOfKey(asked: Limited, key: string): Promise<readonly Limit[]> {
    const found: Limit[] = [];
    const limits = await this.#parts.governance.limits.inForce(asked.namespace);
    await this.#addKey(found, { ...asked, plane: 'use' }, key, limits);
    return found;
  }

  /**
   * Counts a use by one of the service's own principals, which nobody else's uses may keep from its key. What
   * may refuse it, once known to be used up: rates of the principal, and the rate of the key, of which it has a
   * bucket of its own. All that others use too (the key's own bucket, rates of the namespace, quotas) counts it
   * and lets it through.
   * @throws as `count`
   */
  async countOwn(asked: Limited): Promise<Charge | null> {
    const limits = await this.limitsOf(asked);
    if (limits.length === 0) return null;
    const own = limits.filter(({ name }) => OF_KEY.has(name)).map(alone);
    const mayRefuse = new Set([...own, ...limits.filter(({ name }) => OF_SELF.has(name))]);
    const charge = this.#parts.limiter.chargeKnown([...own, ...limits], (limit) =>
      mayRefuse.has(limit),
    );
    return this.#admitted(charge, 1);
  }

  #charge(limits: readonly Limit[], cost: number): Charge | null {
    if (limits.length === 0) return null;
    return this.#admitted(this.#parts.limiter.charge(limits, cost), cost);
  }

  /** @throws RateRefused */
  #admitted(charge: Charge, cost: number): Charge {
    const { refused, retryAfter, left } = charge;
    if (refused === null) return charge;
    // A quota that has too little left lasts as long as its period; of another some may have to be leased.
    const { period } = refused;
    const ends = period === undefined || left >= cost ? null : period.ends;
    const retryAfterMs = ends === null ? retryAfter : Math.max(0, ends - this.#now().getTime());
    throw new RateRefused(refused, { retryAfterMs, left });
  }

  #now(): Date {
    return this.#parts.clock?.() ?? new Date();
  }

  refund(charge: Charge): void {
    this.#parts.limiter.refund(charge);
  }

  /** Gives back what was taken of quotas; rates were spent. */
  refundQuotas(charge: Charge): void {
    const limits = charge.limits.filter(({ period }) => period !== undefined);
    this.#parts.limiter.refund({ ...charge, limits });
  }

  remaining(limit: Limit): number {
    return this.#parts.limiter.remaining(limit);
  }

  /** All that hold, the one that is likeliest to refuse in no particular place. */
  async limitsOf(asked: Limited, policies: readonly PolicyLimit[] = []): Promise<readonly Limit[]> {
    const { namespace, plane, uses } = asked;
    const who = whoOf(asked);
    const found = [...this.#configured.of(asked, who, this.#now())];
    const { rates, keys, periods } = await this.#parts.governance.limits.inForce(namespace);
    if (rates.size > 0) {
      add(
        found,
        `principal.${plane}`,
        { bucket: `n/${namespace}/p/${plane}/${who}`, owner: namespace },
        rates.get(`principal.${plane}`),
      );
      add(
        found,
        `namespace.${plane}`,
        { bucket: `n/${namespace}/n/${plane}`, owner: namespace },
        rates.get(`namespace.${plane}`),
      );
    }
    if (uses && periods.size > 0) this.#addQuotas(found, namespace, who, periods);
    if (asked.key !== null) await this.#addKey(found, asked, asked.key, { rates, keys, periods });
    return policies.length === 0 ? found : [...found, ...this.ofPolicies(asked, policies)];
  }

  /** By the key's id, whatever the request calls it; what is no key has no limit. */
  async #addKey(
    found: Limit[],
    { namespace, plane, uses }: Limited,
    reference: string,
    { rates, keys, periods }: Pick<NamespaceLimits, 'rates' | 'keys' | 'periods'>,
  ): Promise<void> {
    const configured = this.#configured.limitsKeys({ plane, uses });
    const ofAll = rates.get(`key.${plane}`);
    const quotas = uses && PERIODS.some((kind) => periods.has(`key.${kind}`));
    if (!configured && ofAll === undefined && keys.size === 0 && !quotas) return;
    const key = await this.#parts.keys.resolve(namespace, reference);
    if (key === null) return;
    const own = plane === 'use' ? keys.get(key.name) : undefined;
    found.push(...this.#configured.ofKey({ namespace, plane, uses }, key.id, this.#now()));
    add(
      found,
      `key.${plane}`,
      { bucket: `n/k/${plane}/${key.id}`, owner: namespace },
      own ?? ofAll,
    );
    if (!quotas) return;
    for (const kind of PERIODS) this.#addQuota(found, namespace, `key.${kind}`, key.id, periods);
  }

  #addQuotas(found: Limit[], namespace: string, who: string, periods: Periods): void {
    for (const kind of PERIODS) {
      this.#addQuota(found, namespace, `principal.${kind}`, who, periods);
      this.#addQuota(found, namespace, `namespace.${kind}`, '', periods);
    }
  }

  /** @param name `<scope>.<period>` */
  #addQuota(
    found: Limit[],
    namespace: string,
    name: QuotaName,
    whose: string,
    periods: Periods,
  ): void {
    const most = periods.get(name);
    if (most === undefined) return;
    const period = periodAt(name.endsWith('.day') ? 'day' : 'month', this.#now());
    found.push({
      name: `quota.${name}`,
      bucket: `n/${namespace}/q/${name}/${period.name}/${whose}`,
      owner: namespace,
      rate: quotaOf(most),
      period,
    });
  }
}

/** The same rate for the service's own uses of a key alone. */
const alone = (limit: Limit): Limit => ({ ...limit, bucket: `own/${limit.bucket}` });

function add(
  found: Limit[],
  name: string,
  limited: Pick<Limit, 'bucket' | 'owner'>,
  rate: SetRate | undefined,
): void {
  if (rate === undefined) return;
  found.push({ name, ...limited, rate: rateOf(rate.perMinute, rate.burst ?? undefined) });
}

/** What a request counts. */
export interface Cost {
  readonly items: number;
  /** Of each key that is named in the body or comes of it. */
  readonly ofKey: number;
}

/** Each item of a body counts, and where it names keys to be used at once, each of them. */
export function costOf(body: unknown): Cost {
  const member = (name: string): unknown =>
    typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined;
  const [items, keys] = [Array.isArray(body) ? body : member('items'), member('keys')];
  if (Array.isArray(keys)) return { items: Math.max(1, keys.length), ofKey: 1 };
  const count = Array.isArray(items) ? Math.max(1, items.length) : 1;
  return { items: count, ofKey: count };
}

/** Limits that headers name; a request that more policies admit than that is counted against all of them. */
const SHOWN = 16;

/**
 * `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers), as lists of RFC 9651 strings
 * with parameters: `q` may come at once and is full again after `w` seconds; `r` is left, and all of it
 * is back in `t` seconds unless more is used. Of a quota `w` is its period, of which `t` seconds are left.
 */
export function limitHeaders(
  all: readonly Limit[],
  remaining: (limit: Limit) => number,
  now = Date.now(),
): Readonly<Record<string, string>> {
  if (all.length === 0) return {};
  const limits = all.slice(0, SHOWN);
  const seconds = (count: number, { perMinute }: Rate) => Math.ceil((count * 60) / perMinute);
  const policies = limits.map(({ name, rate, period }) => {
    if (period !== undefined) {
      const length = (period.ends - period.begins) / 1_000;
      return `"${name}";q=${String(rate.burst)};w=${String(length)}`;
    }
    const window = Math.max(1, seconds(rate.burst, rate));
    return `"${name}";q=${String(rate.burst)};w=${String(window)}`;
  });
  const states = limits.map((limit) => {
    const left = remaining(limit);
    if (limit.period !== undefined) {
      const ends = Math.max(0, Math.ceil((limit.period.ends - now) / 1_000));
      return `"${limit.name}";r=${String(left)};t=${String(ends)}`;
    }
    const reset = seconds(limit.rate.burst - left, limit.rate);
    return `"${limit.name}";r=${String(left)};t=${String(reset)}`;
  });
  return { 'RateLimit-Policy': policies.join(', '), RateLimit: states.join(', ') };
}
