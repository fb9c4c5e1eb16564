/** What the indexes of audit entries cost an append, and what searches beside it do. */
import { createHash, randomBytes, randomInt } from 'node:crypto';

import type pg from 'pg';

import type { AppendEntry, AuditQuery } from '../src/audit/ports.ts';
import type { Store } from '../src/store/store.ts';

const LANES = 4;
const BATCH = 16;
const SECONDS = 5;
const SEARCHES = 8;
/** Keys and subjects of the entries, so that their indexes are written all over. */
const KEYS = 10_000;

export interface AppendCost {
  readonly what: string;
  /** Entries. */
  readonly perSecond: number;
  /** Milliseconds of one batch. */
  readonly p50: number;
  readonly p99: number;
  /** Of each entry. */
  readonly walBytes: number;
}

interface Appending {
  readonly owner: pg.Client;
  readonly store: Store;
  readonly instance: string;
  /** A search that looks at all its candidates. */
  readonly search: AuditQuery;
}

function entryOfNow(): AppendEntry {
  const body = randomBytes(300);
  const key = String(randomInt(KEYS)).padStart(12, '0');
  return {
    leaf: createHash('sha256').update(body).digest(),
    body,
    index: {
      at: new Date(),
      namespace: 'default',
      operation: 'unwrap',
      keyId: `10000000-0000-4000-8000-${key}`,
      keyRef: `key-${key}`,
      subject: `subject-${String(randomInt(KEYS))}`,
      outcome: 'ok',
    },
  };
}

async function appended(
  { owner, store, instance }: Appending,
  what: string,
  beside: () => Promise<unknown> = () => Promise.resolve(),
): Promise<AppendCost> {
  const { epoch } = await store.instances.beat(instance, 0);
  const times: number[] = [];
  const lanes = await Promise.all(
    Array.from({ length: LANES }, () => store.audit.openLane(instance, 'use')),
  );
  const place = async (): Promise<string> => {
    const { rows } = await owner.query<{ lsn: string }>('select pg_current_wal_lsn() as lsn');
    return rows[0]?.lsn ?? '';
  };
  const from = await place();
  const began = performance.now();
  const until = began + SECONDS * 1000;
  const append = async (lane: number): Promise<void> => {
    for (let first = 1; performance.now() < until; first += BATCH) {
      const entries = Array.from({ length: BATCH }, entryOfNow);
      const started = performance.now();
      await store.audit.append({ lane, first, epoch, entries, hmac: randomBytes(32) });
      times.push(performance.now() - started);
    }
  };
  const search = async (): Promise<void> => {
    while (performance.now() < until) await beside();
  };
  const searching = Array.from({ length: SEARCHES }, search);
  await Promise.all(lanes.map(append));
  const seconds = (performance.now() - began) / 1000;
  await Promise.all(searching);
  const { rows } = await owner.query<{ bytes: string }>(
    'select pg_wal_lsn_diff(pg_current_wal_lsn(), $1::pg_lsn) as bytes',
    [from],
  );
  times.sort((a, b) => a - b);
  const entries = times.length * BATCH;
  const cost = {
    what,
    perSecond: entries / seconds,
    p50: times[Math.floor(times.length * 0.5)] ?? NaN,
    p99: times[Math.floor(times.length * 0.99)] ?? NaN,
    walBytes: Number(rows[0]?.bytes) / entries,
  };
  process.stderr.write(`${JSON.stringify(cost)}\n`);
  return cost;
}

/** Indexes are taken away one by one: the last row is what an entry cost with the one index of old. */
const INDEXES = [
  'entry_key_ref_idx',
  'entry_key_id_idx',
  'entry_subject_idx',
  'entry_operation_idx',
  'entry_failed_idx',
];

export async function measureAppends(appending: Appending): Promise<readonly AppendCost[]> {
  const { owner, store, search } = appending;
  const idle = () => new Promise((resolve) => setTimeout(resolve, 100));
  await appended(appending, 'warm', idle);
  const costs = [
    await appended(appending, 'all indexes', idle),
    await appended(appending, `all indexes, ${String(SEARCHES)} searches beside`, () =>
      store.audit.entries(search),
    ),
  ];
  for (const index of INDEXES) {
    await owner.query(`drop index public.${index}`);
    costs.push(await appended(appending, `without ${index} too`, idle));
  }
  return costs;
}
