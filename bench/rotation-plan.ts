/**
 * What a forecast over many keys takes: reading their light projection from PostgreSQL in batches,
 * and the fold alone. The database is one of its own, filled by copies of one row, whose version is
 * narrower than a real one, so that a million fit anywhere; memory is that of this process.
 */
import { randomBytes } from 'node:crypto';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import pg from 'pg';

import { policyJson, newPolicy } from '../src/keyring/rotation-policy.ts';
import { Forecaster, forecast } from '../src/rotation/forecast.ts';
import type { Forecast, ForecastOptions } from '../src/rotation/forecast.ts';
import { usesAsked } from '../src/rotation/next-rotation.ts';
import type { LightKey } from '../src/rotation/ports.ts';
import { ReadGate } from '../src/store/read-gate.ts';
import { createRotationScan } from '../src/store/rotation-scan.ts';
import { openStore } from '../src/store/store.ts';
import type { Store } from '../src/store/store.ts';
import { startTestDatabase } from '../test/store/database.ts';
import { active, attested, changer, key, material } from '../test/store/samples.ts';

const DAYS = 90;
const DAY_MS = 86_400_000;
const TERMS = { maxUses: null, upgrade: null, retire: null, notice: null };
const OWN = newPolicy({ ...TERMS, interval: 'P1Y' });
const SELECTED = newPolicy({ ...TERMS, interval: 'P90D' });

export interface RotationPlanReport {
  readonly keys: number;
  readonly rotations: number;
  readonly peakMinute: number;
  readonly fillSeconds: number;
  /** Scan and fold. */
  readonly wholeSeconds: number;
  readonly foldMicrosecondsPerKey: number;
  /** Longest time for which nothing else in this process had its turn, ms. */
  readonly longestPause: number;
  /** Peak of this process, before and after. */
  readonly rssBefore: number;
  readonly rssPeak: number;
}

const COSTS = new Map([[0x0101, { hsmMs: 1, cpuMs: 0.1 }]]);
const options = (now: Date): ForecastOptions => ({
  now,
  days: DAYS,
  policies: [
    { name: 'prod', selector: { env: 'prod' }, priority: 0, policy: SELECTED },
    { name: 'all', selector: {}, priority: 0, policy: OWN },
  ],
  paused: null,
  budgets: { perMinute: 60, storageBytes: 1e9, hsmMsPerDay: 3_600_000 },
  lateAfterMs: 300_000,
  page: { size: 1_000, after: null },
});

async function fill(store: Store, ownerUrl: string, keys: number): Promise<void> {
  const [row, { classical, pq }] = [key({ name: 'pattern' }), material()];
  const narrow = pq && { ...pq, public: Uint8Array.from(randomBytes(32)) };
  const version = active(row.id, { material: { classical, pq: narrow, psk: null } });
  const changes = await changer(store);
  await changes.commit([
    { kind: 'insert-key', row: attested(row) },
    { kind: 'insert-version', row: attested(version) },
  ]);
  const owner = new pg.Client(ownerUrl);
  await owner.connect();
  try {
    const columns = async (table: string, replaced: Readonly<Record<string, string>>) => {
      const { rows } = await owner.query<{ name: string }>(
        `select column_name as name from information_schema.columns
          where table_schema = 'public' and table_name = $1 order by ordinal_position`,
        [table],
      );
      return rows.map(({ name }) => replaced[name] ?? `p.${name}`).join(', ');
    };
    const id = `md5('key' || i)::uuid`;
    const own = `case when i % 10 = 0 then '${JSON.stringify(policyJson(OWN))}'::jsonb end`;
    const ofKey = await columns('key', {
      id,
      name: `'k' || i`,
      labels: `jsonb_build_object('env', case when i % 2 = 0 then 'prod' else 'dev' end)`,
      rotation: own,
    });
    const ofVersion = await columns('key_version', {
      key_id: id,
      activated_at: `now() - (i % 400) * interval '1 day' + (i % 86400) * interval '1 second'`,
    });
    const from = `generate_series(1, ${String(keys - 1)}) i`;
    // One row that a transaction counts up a million times is read through a million of its versions.
    await owner.query(`alter table public.key disable trigger key_counted;
      alter table public.key_version disable trigger key_version_counted`);
    await owner.query(
      `insert into public.key select ${ofKey} from public.key p cross join ${from} where p.name = 'pattern'`,
    );
    await owner.query(
      `insert into public.key_version select ${ofVersion} from public.key_version p cross join ${from} where p.key_id = '${row.id}'`,
    );
    await owner.query(
      `insert into public.usage_counter select ${id} || '/1', i from ${from} where i % 5 = 0`,
    );
    await owner.query(`alter table public.key enable trigger key_counted;
      alter table public.key_version enable trigger key_version_counted`);
    await owner.query('select public.count_usage($1, $2, $2)', [row.namespace, keys - 1]);
    // As autovacuum leaves tables that are in use: else the scan would be the first to read rows that were
    // loaded a moment ago, and write each page once for that.
    await owner.query('vacuum (analyze)');
  } finally {
    await owner.end();
  }
}

async function scanned(store: Store, at: Date): Promise<Forecast> {
  const batches = createRotationScan(store.pool, new ReadGate(1)).keys(
    'default',
    usesAsked([OWN, SELECTED]),
  );
  const { signal } = new AbortController();
  return forecast(batches, options(at), { costs: () => Promise.resolve(COSTS), signal });
}

/** The fold over as many keys without a database: one object, of which nothing is kept. */
function folded(keys: number, at: Date): void {
  const forecaster = new Forecaster(options(at));
  for (let i = 0; i < keys; i += 1) {
    const each: LightKey = {
      id: `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
      name: 'each',
      purpose: 'wrap',
      labels: i % 2 === 0 ? { env: 'prod' } : {},
      rotation: i % 10 === 0 ? OWN : null,
      rotationHold: null,
      suspended: false,
      primary: {
        suite: 0x0101,
        activatedAt: at.getTime() - (i % 400) * DAY_MS,
        uses: i,
        deactivateAt: null,
      },
      next: null,
      superseded: [],
    };
    forecaster.add(each);
  }
  forecaster.result(COSTS);
}

export async function measureRotationPlan(keys: number): Promise<RotationPlanReport> {
  const database = await startTestDatabase();
  const store = openStore({ url: database.appUrl });
  const seconds = async (work: () => unknown) => {
    const began = performance.now();
    await work();
    return (performance.now() - began) / 1_000;
  };
  try {
    const fillSeconds = await seconds(() => fill(store, database.ownerUrl, keys));
    const at = new Date();
    const rssBefore = process.memoryUsage().rss;
    let result: Forecast | undefined;
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const wholeSeconds = await seconds(async () => {
      result = await scanned(store, at);
    });
    delay.disable();
    const rssPeak = process.resourceUsage().maxRSS * 1024;
    const fold = await seconds(() => {
      folded(keys, at);
    });
    if (result?.keys !== keys) throw new Error('the scan missed keys');
    return {
      keys,
      rotations: result.total.rotations,
      peakMinute: result.peakMinute.rotations,
      fillSeconds,
      wholeSeconds,
      foldMicrosecondsPerKey: (fold * 1e6) / keys,
      longestPause: delay.max / 1e6,
      rssBefore,
      rssPeak,
    };
  } finally {
    await store.close();
    await database.stop();
  }
}

export const renderRotationPlan = (report: RotationPlanReport): string =>
  [
    `keys                       ${String(report.keys)}, ${String(DAYS)} days, ${String(report.rotations)} rotations`,
    `peak minute                ${String(report.peakMinute)} rotations`,
    `scan and fold              ${report.wholeSeconds.toFixed(2)} s`,
    `fold alone                 ${report.foldMicrosecondsPerKey.toFixed(2)} µs a key`,
    `longest pause of others    ${report.longestPause.toFixed(1)} ms`,
    `RSS before, peak, growth   ${[report.rssBefore, report.rssPeak, report.rssPeak - report.rssBefore].map((bytes) => (bytes / 1e6).toFixed(0)).join(', ')} MB`,
    `(filling the database      ${report.fillSeconds.toFixed(1)} s)`,
  ].join('\n');
