/**
 * Limits and quotas that a namespace sets itself: how fast its keys are used, by whom, and how many keys
 * and versions it may have. They hold beside those of the configuration.
 */
import type { Grant } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import type { Json, JsonObject } from '../keyring/set-ports.ts';
import { SealedSet, requireMatch } from './sealed-set.ts';
import type { Member, SealedSetParts, SetDone, SetRun } from './sealed-set.ts';

/** A namespace has one set of limits. */
export const LIMITS_NAME = 'limits';
/** Keys that have a limit of their own. */
export const MAX_KEY_LIMITS = 200;

/** Of one principal, of the namespace, and of each key that has none of its own. */
export const SCOPES = ['principal', 'namespace', 'key'] as const;
export type Scope = (typeof SCOPES)[number];
/** Of quotas of uses, in UTC. */
export const PERIODS = ['day', 'month'] as const;
/** Uses of keys, and what is under `/v1/admin`. */
export const CLASSES = ['use', 'admin'] as const;
export type RateClass = (typeof CLASSES)[number];

export interface SetRate {
  readonly perMinute: number;
  /** Null: ten seconds' worth. */
  readonly burst: number | null;
}

export interface NamespaceLimits {
  /** By `<scope>.<class>`. */
  readonly rates: ReadonlyMap<string, SetRate>;
  /** Uses of single keys, by name; in place of `key.use`. */
  readonly keys: ReadonlyMap<string, SetRate>;
  /** Null: any number. */
  readonly quotas: { readonly keys: number | null; readonly versions: number | null };
  /** Most uses in a day or month, by `<scope>.<period>`. */
  readonly periods: ReadonlyMap<string, number>;
}

const NONE: NamespaceLimits = {
  rates: new Map(),
  keys: new Map(),
  quotas: { keys: null, versions: null },
  periods: new Map(),
};

type ChangeGrant = Grant<'limits.change'>;

const ratesToJson = (rates: ReadonlyMap<string, SetRate>): JsonObject =>
  Object.fromEntries(
    [...rates].map(([name, { perMinute, burst }]) => [name, { perMinute, burst }]),
  );

const malformed = () => new TwofoldError('integrity_failed', 'Stored limits are malformed.');

function objectFrom(value: Json | undefined): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed();
  return value as JsonObject;
}

function countFrom(value: Json | undefined): number | null {
  if (value === null) return null;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed();
  return value;
}

function ratesFrom(value: Json | undefined): ReadonlyMap<string, SetRate> {
  return new Map(
    Object.entries(objectFrom(value)).map(([name, each]) => {
      const { perMinute, burst } = objectFrom(each);
      const rate = countFrom(perMinute);
      if (rate === null || rate === 0) throw malformed();
      return [name, { perMinute: rate, burst: countFrom(burst) }];
    }),
  );
}

function periodsFrom(value: Json | undefined): ReadonlyMap<string, number> {
  if (value === undefined) return new Map();
  return new Map(
    Object.entries(objectFrom(value)).map(([name, each]) => {
      const most = countFrom(each);
      if (most === null) throw malformed();
      return [name, most];
    }),
  );
}

const LIMITS = {
  kind: 'limits',
  most: 1,
  reach: 'namespace',
  toJson: ({ rates, keys, quotas, periods }: NamespaceLimits): JsonObject => ({
    rates: ratesToJson(rates),
    keys: ratesToJson(keys),
    quotas: { keys: quotas.keys, versions: quotas.versions },
    // Written where there is one alone, so that what was stored before keeps its form.
    ...(periods.size === 0 ? {} : { periods: Object.fromEntries(periods) }),
  }),
  fromJson: (json: JsonObject): NamespaceLimits => {
    const quotas = objectFrom(json['quotas']);
    return {
      rates: ratesFrom(json['rates']),
      keys: ratesFrom(json['keys']),
      quotas: { keys: countFrom(quotas['keys']), versions: countFrom(quotas['versions']) },
      periods: periodsFrom(json['periods']),
    };
  },
} as const;

export class NamespaceLimitSets {
  readonly #set: SealedSet<NamespaceLimits>;

  constructor(parts: SealedSetParts) {
    this.#set = new SealedSet(parts, LIMITS);
  }

  /** What holds in a namespace; nothing is limited where nothing was set. */
  async inForce(namespace: string): Promise<NamespaceLimits> {
    const view = this.#set.known(namespace) ?? (await this.#set.of(namespace));
    return view.members.get(LIMITS_NAME)?.value ?? NONE;
  }

  /** Null where nothing was set. */
  async get({
    namespace,
  }: Grant<'limits.read'> | ChangeGrant): Promise<Member<NamespaceLimits> | null> {
    return (await this.#set.of(namespace)).members.get(LIMITS_NAME) ?? null;
  }

  /** @throws TwofoldError precondition_required, etag_mismatch, invalid_value */
  put(
    grant: ChangeGrant,
    limits: NamespaceLimits,
    run: SetRun<NamespaceLimits>,
  ): Promise<SetDone<NamespaceLimits>> {
    if (limits.keys.size > MAX_KEY_LIMITS) {
      const detail = `At most ${String(MAX_KEY_LIMITS)} keys have limits of their own.`;
      throw new TwofoldError('invalid_value', detail);
    }
    return this.#set.change(grant, run, ({ members }) => {
      const before = members.get(LIMITS_NAME) ?? null;
      requireMatch(run, before);
      const loosened = loosens(before?.value ?? NONE, limits);
      return { entries: new Map([[LIMITS_NAME, limits]]), detail: { loosened } };
    });
  }

  /** Whether any limit in force would let through more: that may need approval, to tighten does not. */
  async wouldLoosen(namespace: string, after: NamespaceLimits): Promise<boolean> {
    return loosens(await this.inForce(namespace), after);
  }
}

const isHigher = (before: number | null, after: number | null): boolean =>
  before !== null && (after === null || after > before);

const burstOf = ({ perMinute, burst }: SetRate): number => burst ?? Math.ceil(perMinute / 6);

function loosensRate(before: SetRate, after: SetRate | undefined): boolean {
  return (
    after === undefined || after.perMinute > before.perMinute || burstOf(after) > burstOf(before)
  );
}

/** A limit of a single key is in place of the one of all keys, whatever that was. */
export function loosens(before: NamespaceLimits, after: NamespaceLimits): boolean {
  const rates = [...before.rates].some(([name, rate]) => loosensRate(rate, after.rates.get(name)));
  const standing = ({ rates, keys }: NamespaceLimits, key: string) =>
    keys.get(key) ?? rates.get('key.use');
  const keys = [...new Set([...before.keys.keys(), ...after.keys.keys()])].some((key) => {
    const rate = standing(before, key);
    return rate !== undefined && loosensRate(rate, standing(after, key));
  });
  const periods = [...before.periods].some(([name, most]) =>
    isHigher(most, after.periods.get(name) ?? null),
  );
  return (
    rates ||
    keys ||
    periods ||
    isHigher(before.quotas.keys, after.quotas.keys) ||
    isHigher(before.quotas.versions, after.quotas.versions)
  );
}
