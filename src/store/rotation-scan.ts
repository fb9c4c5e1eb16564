/**
 * Keys of a namespace for a forecast, in batches by keyset.
 *
 * Batches are statements of their own, not one snapshot: a snapshot held for seconds over all keys
 * keeps dead rows from being removed and ends with its connection, and a forecast gains nothing by it.
 * Names are unique for ever and never change, so each key that stood throughout is seen exactly once;
 * one that is made meanwhile may be missed.
 *
 * The rows' MACs are not verified: a forecast is information. What decides (the scheduler) reads the
 * key through the keyring.
 */
import type { Labels, Purpose } from '../keyring/model.ts';
import { holdFromJson } from '../keyring/rotation-hold.ts';
import { policyFromJson } from '../keyring/rotation-policy.ts';
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import type { ClosingUses, LightKey, RotationScan } from '../rotation/ports.ts';
import { refuse } from './failures.ts';
import type { GuardedPool } from './pool.ts';
import type { ReadGate } from './read-gate.ts';
import { read } from './transaction.ts';

const BATCH = 1_000;
/** Texts of labels and policies that are remembered; most keys share theirs with others. */
const REMEMBERED = 4_096;

/**
 * Index scan by (namespace, name), then one look-up each by primary key, and one of the counter where
 * it is asked for, and of superseded versions where a policy retires any. The limits and the aggregate keep them so: a plain join was planned as a hash of the
 * whole table for every batch, which grows with the square of the keys (seen). `handleId` of the keyring
 * names the counter. Times are whole milliseconds, as the service writes them; `date_part` is float8,
 * `extract` numeric and several times slower.
 */
const scanOf = (name: string, chosen: string) => ({
  name,
  rowMode: 'array' as const,
  text: `select k.name, k.id::text, k.purpose, k.labels::text, k.rotation::text,
      k.suspended_at is not null, v.suite,
      round(date_part('epoch', v.activated_at) * 1000), coalesce(u.used, 0)::float8,
      round(date_part('epoch', v.deactivate_at) * 1000), v.next, w.superseded,
      case when k.rotation_hold->>'primary' = k.primary_version::text then k.rotation_hold::text end
    from (${chosen}) k
    left join lateral (select max(activated_at) as activated_at,
        max(suite) filter (where version = k.primary_version and state = 'active') as suite,
        max(deactivate_at) filter (where version = k.primary_version and state = 'active')
          as deactivate_at,
        min(array[round(date_part('epoch', activate_at) * 1000), suite]) filter (
          where state = 'pre-active' and activate_at is not null and destroy_at is null
            and version >= k.min_usable_version) as next
      from public.key_version
      where key_id = k.id and version >= coalesce(k.primary_version, 1)) v on true
    left join lateral (select array_agg(at order by at) as superseded
      from (select state,
          round(date_part('epoch', min(activated_at) over (order by version
            rows between 1 following and unbounded following)) * 1000) as at
        from public.key_version
        where key_id = k.id and version between k.min_usable_version and k.primary_version
          and activated_at is not null
          and ($6 or k.rotation->>'retire' is not null)
          and k.min_usable_version < k.primary_version) s
      where at is not null and state in ('active', 'deactivated')) w on true
    left join lateral (select used from public.usage_counter
      where counter = k.id::text || '/' || k.primary_version::text
        and ($4 or v.suite = any($5) or k.rotation->>'maxUses' is not null) limit 1) u on true
    order by k.name`,
});

const EVERY_KEY = scanOf(
  'rotation_scan',
  `select * from public.key where namespace = $1 and name > $2
        and destroyed_at is null and destroy_at is null
      order by name limit $3`,
);

/** Those with a label, in the order of its index. Of one that is destroyed, or is to be, the name alone is there. */
const KEYS_OF_FACET = scanOf(
  'rotation_scan_of_facet',
  `select f.name, c.id, c.purpose, c.labels, c.rotation, c.suspended_at, c.primary_version,
          c.min_usable_version, c.rotation_hold
        from (select name from public.key_facet
          where namespace = $1 and facet = $7 and name > $2 order by name limit $3) f
        left join lateral (select * from public.key where namespace = $1 and name = f.name
          and destroyed_at is null and destroy_at is null limit 1) c on true`,
);

/** The label that fewest keys have, as far as `$3` keys tell. */
const FEWEST = {
  name: 'rotation_scan_facet',
  text: `select w.facet from unnest($2::text[]) w(facet) cross join lateral (
      select count(*) from (
        select from public.key_facet f where f.namespace = $1 and f.facet = w.facet limit $3) c
    ) matching(keys) order by matching.keys, w.facet limit 1`,
};
const COUNTED = 2_000;

/** Of one version those are summed that used it last: principals by way of use. More are rare. */
const USERS = 500;
/** One look-up for each key and version, whatever the planner thinks of the tables' sizes. */
const USES_OF_OLDEST = {
  name: 'uses_of_oldest',
  text: `select o.id::text as key_id, u.usage, sum(u.uses)::float8 as uses, max(u.last_at) as last_at
    from unnest($1::uuid[], $2::integer[], $3::integer[]) o(id, skipped, versions)
    cross join lateral (select min_usable_version, primary_version from public.key
      where id = o.id limit 1) k
    cross join lateral (select version from public.key_version
      where key_id = o.id and version between k.min_usable_version and k.primary_version
        and activated_at is not null and state in ('active', 'deactivated')
      order by version offset o.skipped limit o.versions) v
    cross join lateral (select usage, uses, last_at from public.version_use
      where key_id = o.id and version = v.version
      order by last_at desc, id desc limit ${String(USERS)}) u
    group by o.id, u.usage`,
};

type Row = readonly [
  name: string,
  id: string | null,
  purpose: Purpose,
  labels: string,
  rotation: string | null,
  suspended: boolean,
  suite: number | null,
  activatedAt: number | null,
  uses: number,
  deactivateAt: number | null,
  next: readonly [activateAt: number, suite: number] | null,
  superseded: readonly number[] | null,
  hold: string | null,
];

/** Remembers what `parse` made of a text, within bounds. */
function remembering<T>(parse: (text: string) => T): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    const found = known.get(text);
    if (found !== undefined) return found;
    const value = parse(text);
    if (known.size >= REMEMBERED) known.clear();
    known.set(text, value);
    return value;
  };
}

interface Texts {
  readonly labels: (text: string) => Labels;
  readonly policy: (text: string) => RotationPolicy;
}

function lightKey(row: Row, id: string, texts: Texts): LightKey {
  const [name, , purpose, labels, rotation, suspended, suite, activatedAt, uses] = row;
  const [, , , , , , , , , deactivateAt, next, superseded, hold] = row;
  return {
    id,
    name,
    purpose,
    labels: texts.labels(labels),
    rotation: rotation === null ? null : texts.policy(rotation),
    rotationHold: hold === null ? null : holdFromJson(JSON.parse(hold)),
    suspended,
    primary:
      suite === null || activatedAt === null ? null : { suite, activatedAt, uses, deactivateAt },
    next: next === null ? null : { activateAt: next[0], suite: next[1] },
    superseded: superseded ?? [],
  };
}

export const createRotationScan = (
  pool: GuardedPool,
  searches: ReadGate,
  batch = BATCH,
): RotationScan & ClosingUses => ({
  async *keys(namespace, { ofAll, suites, superseded }, labels = {}) {
    const texts: Texts = {
      labels: remembering((text) => JSON.parse(text) as Labels),
      policy: remembering((text) => policyFromJson(JSON.parse(text))),
    };
    const facets = Object.entries(labels).map(([name, value]) => `label:${name}=${value}`);
    const facet =
      facets.length < 2 ? (facets[0] ?? null) : await fewest(pool, searches, namespace, facets);
    const statement = facet === null ? EVERY_KEY : KEYS_OF_FACET;
    const rowsAfter = (name: string): Promise<readonly Row[]> =>
      searches.run(() =>
        read(async () => {
          const common = [namespace, name, batch, ofAll, suites, superseded];
          const values = facet === null ? common : [...common, facet];
          const { rows } = await pool.query<Row & unknown[]>({ ...statement, values });
          return rows;
        }).catch(refuse),
      );
    let coming = rowsAfter('');
    try {
      for (;;) {
        const rows = await coming;
        const last = rows.length < batch ? undefined : rows.at(-1);
        // The database reads on while these are folded.
        if (last !== undefined) coming = rowsAfter(last[0]);
        if (rows.length > 0) {
          yield rows.flatMap((row) => (row[1] === null ? [] : [lightKey(row, row[1], texts)]));
        }
        if (last === undefined) return;
      }
    } finally {
      // What was read in advance for a reader that stopped: its outcome, whatever it is, concerns nobody.
      await Promise.allSettled([coming]);
    }
  },

  usesOfOldest: async (keys) => {
    const values = [
      keys.map(({ keyId }) => keyId),
      keys.map(({ skipped }) => skipped),
      keys.map(({ versions }) => versions),
    ];
    const { rows } = await searches
      .run(() => read(() => pool.query<OldestUses>({ ...USES_OF_OLDEST, values })))
      .catch(refuse);
    return rows.map(({ key_id: keyId, usage, uses, last_at: lastAt }) => ({
      ...{ keyId, usage, uses, lastAt },
    }));
  },
});

interface OldestUses {
  readonly key_id: string;
  readonly usage: 'protect' | 'process';
  readonly uses: number;
  readonly last_at: Date;
}

async function fewest(
  pool: GuardedPool,
  searches: ReadGate,
  namespace: string,
  facets: readonly string[],
): Promise<string | null> {
  const values = [namespace, facets, COUNTED];
  const { rows } = await searches
    .run(() => read(() => pool.query<{ facet: string }>({ ...FEWEST, values })))
    .catch(refuse);
  return rows[0]?.facet ?? null;
}
