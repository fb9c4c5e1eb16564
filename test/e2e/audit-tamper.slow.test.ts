/**
 * Whoever owns the database of a running service and changes what its audit log stands on is found: by
 * who exports and verifies, or because the service refuses. Each change is taken back: those of whatever the log
 * stands on one at a time, and of entries many at a time, where each has to be named by its own index.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type pg from 'pg';

import { leafHash } from '../../src/audit/tree/hashes.ts';
import { SIGNATURE_TYPE, makeVkey } from '../../src/audit/tree/vkey.ts';
import type { Vkey } from '../../src/audit/tree/vkey.ts';
import { verifyExport } from '../../src/audit/verify/verify.ts';
import { AuditLogClient } from '../../src/client/audit-log.ts';
import { ClientError } from '../../src/client/client-error.ts';
import { ExportTarget } from '../../src/client/export-folder.ts';
import { HttpConnection } from '../../src/client/http-connection.ts';
import { exportLog } from '../../src/client/log-export.ts';
import { INDEX_COLUMNS } from '../../src/store/entry-columns.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

const MUTATIONS = Number(process.env['TWOFOLD_TAMPERINGS'] ?? 10_000);
/** Of them one at a time. */
const ALONE = Math.min(MUTATIONS, Number(process.env['TWOFOLD_TAMPERINGS_ALONE'] ?? 119));
/** Entries that are changed at once. */
const AT_ONCE = 200;

let service: TestService;
let folder: string;
let connection: HttpConnection;
let trust: readonly Vkey[];

const asOwner = <T>(work: (owner: pg.Client) => Promise<T>) =>
  withDatabaseOf(service.dataDir, work);

/** What is found: codes of problems, or of the refusal; empty when nothing is. */
async function found(): Promise<readonly string[]> {
  return (await problems()).map(({ code }) => code);
}

/** All of them; of a refusal its code, at no index. */
async function problems(): Promise<
  readonly { readonly code: string; readonly index: number | null }[]
> {
  const out = mkdtempSync(join(folder, 'export-'));
  try {
    const options = { from: null, until: null, settlingMs: 0 };
    await exportLog(new AuditLogClient(connection), new ExportTarget(out), options);
    return (await verifyExport(out, { trust, limit: 10_000 })).problems;
  } catch (error) {
    if (!ClientError.is(error)) throw error;
    return [{ code: `refused: ${error.code}`, index: null }];
  } finally {
    rmSync(out, { recursive: true });
  }
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-tamper-'));
  service = await TestService.start();
  const token = await service.token('admin');
  const authorization = () => `Bearer ${token}`;
  connection = new HttpConnection({ url: new URL(service.url), authorization, attempts: 1 });
  for (let at = 0; at < 12; at += 1) {
    const json = { name: `key-${at}`, suite: 'HS256' };
    expect((await service.request('POST', '/v1/admin/keys', json)).status).toBe(201);
  }
  await keepOld();
  for (let at = 0; at < 12; at += 1) {
    const reason = { reason: 'a drill' };
    await service.request('POST', `/v1/admin/keys/key-${at}/suspend`, reason);
  }
  for (let at = 0; at < 700; at += 20) {
    await Promise.all(Array.from({ length: 20 }, () => service.request('GET', '/v1/whoami')));
  }
  await sleep(3_000);
  const note = (await service.request('GET', '/v1/audit/checkpoint')).bytes.toString('utf8');
  const [origin = ''] = note.split('\n');
  const { rows } = await asOwner((owner) =>
    owner.query<{ kind: string; public_key: Buffer }>('select kind, public_key from log_key'),
  );
  trust = rows.map(({ kind, public_key }) => {
    const { ed25519, mlDsa44Cosignature } = SIGNATURE_TYPE;
    return makeVkey(origin, kind === 'ed25519' ? ed25519 : mlDsa44Cosignature, public_key);
  });
  expect(await found()).toEqual([]);
}, 180_000);

afterAll(async () => {
  connection.close();
  await service.destroy();
  rmSync(folder, { recursive: true });
});

type Row = Readonly<Record<string, string | number | boolean | null>>;
interface Change {
  readonly name: string;
  readonly table: string;
  /** Columns that tell rows apart. */
  readonly key: readonly string[];
  /** Rows to begin with, at random. */
  readonly rows: number;
  readonly where?: string;
  readonly change: (rows: readonly Row[]) => readonly Row[];
  /**
   * Whether it can be without effect: what is exported is what was signed, so nothing is there to find. At
   * least one of these has to be found, too.
   */
  readonly effectless?: boolean;
}

const old = new Map<string, Row>();
async function keepOld(): Promise<void> {
  const rows = await asOwner((owner) => rowsOf(owner, 'key', 'true', 100));
  for (const row of rows) old.set(String(row['id']), row);
}

async function rowsOf(owner: pg.Client, table: string, where: string, most: number) {
  const { rows } = await owner.query<{ row: Row }>(
    `select to_jsonb(t) as row from public.${table} t where ${where} order by random() limit ${most}`,
  );
  return rows.map(({ row }) => row);
}

const random = (below: number) => Math.floor(Math.random() * below);
const bytesOf = (value: unknown) => Buffer.from(String(value).slice(2), 'hex');
const bytea = (bytes: Uint8Array) => `\\x${Buffer.from(bytes).toString('hex')}`;
const flipped = (value: unknown): string => {
  const bytes = bytesOf(value);
  const at = random(bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
  return bytea(bytes);
};
const each = (change: (row: Row) => Row) => (rows: readonly Row[]) => rows.map(change);
const swap =
  (...columns: readonly string[]) =>
  (rows: readonly Row[]) => {
    const [a, b] = rows;
    if (a === undefined || b === undefined) throw new Error('two rows are to be swapped');
    const of = (row: Row) => Object.fromEntries(columns.map((name) => [name, row[name] ?? null]));
    return [
      { ...a, ...of(b) },
      { ...b, ...of(a) },
    ];
  };

/** One of the columns by which lists find an entry, with another value. */
function otherColumn(row: Row): Row {
  const name = INDEX_COLUMNS[random(INDEX_COLUMNS.length)] ?? 'at';
  if (name === 'at') {
    return { at: new Date(Date.parse(String(row['at'])) + 1 + random(1e9)).toISOString() };
  }
  if (name === 'key_id') return { key_id: randomUUID() };
  return { [name]: `${String(row[name] ?? '')}${random(2) === 0 ? ' ' : 'x'}` };
}

const ENTRY = { table: 'entry', key: ['lane', 'n'], where: SEQUENCED() } as const;
/** Those that the log has. */
function SEQUENCED() {
  return 'n < (select next from public.lane l where l.id = t.lane)';
}
const CHANGES: readonly Change[] = [
  {
    ...ENTRY,
    name: 'a bit of an entry',
    rows: 1,
    change: each((row) => ({ ...row, body: flipped(row['body']) })),
  },
  {
    ...ENTRY,
    name: 'a bit of an entry, with its hash',
    rows: 1,
    change: each((row) => {
      const body = flipped(row['body']);
      return { ...row, body, leaf: bytea(leafHash(bytesOf(body))) };
    }),
  },
  {
    ...ENTRY,
    name: 'what lists find an entry by',
    rows: 1,
    change: each((row) => ({ ...row, ...otherColumn(row) })),
  },
  { ...ENTRY, name: 'an entry is deleted', rows: 1, change: () => [] },
  { ...ENTRY, name: 'two entries change places', rows: 2, change: swap('body', 'leaf') },
  {
    name: 'a run begins elsewhere',
    table: 'log_run',
    key: ['first'],
    rows: 1,
    change: each((row) => ({ ...row, from_n: Number(row['from_n']) + 100_000 })),
  },
  {
    name: 'a run is of another length',
    table: 'log_run',
    key: ['first'],
    rows: 1,
    // Where the lane ends there, or goes on there.
    effectless: true,
    change: each((row) => ({ ...row, count: Number(row['count']) + 1 })),
  },
  { name: 'a run is deleted', table: 'log_run', key: ['first'], rows: 1, change: () => [] },
  {
    name: 'a bit of a tile',
    table: 'log_tile',
    key: ['level', 'index'],
    rows: 1,
    // The sequencer writes those above anew, whole, whenever there is something to add.
    where: 'level = 0',
    change: each((row) => ({ ...row, hashes: flipped(row['hashes']) })),
  },
  {
    name: 'tiles change places',
    table: 'log_tile',
    key: ['level', 'index'],
    rows: 2,
    where: 'level = 0',
    change: swap('hashes'),
  },
  {
    name: 'a checkpoint is edited',
    table: 'log_checkpoint',
    key: ['size'],
    rows: 1,
    change: each((row) => {
      const note = Buffer.from(String(row['note']));
      const at = random(note.length);
      note[at] = note[at] === 0x41 ? 0x42 : 0x41;
      return { ...row, note: note.toString('latin1') };
    }),
  },
  {
    name: 'checkpoints change places',
    table: 'log_checkpoint',
    key: ['size'],
    rows: 2,
    change: swap('note'),
  },
  {
    name: 'the newest checkpoint is deleted',
    table: 'log_checkpoint',
    key: ['size'],
    rows: 1,
    where: 'size = (select size from public.log_head)',
    change: () => [],
    // Where another came meanwhile: that one between others is gone, nothing shows.
    effectless: true,
  },
  {
    name: 'a key is put back as it was',
    table: 'key',
    key: ['id'],
    rows: 1,
    change: each((row) => old.get(String(row['id'])) ?? row),
  },
  {
    name: 'a key is edited',
    table: 'key',
    key: ['id'],
    rows: 1,
    change: each((row) => ({ ...row, suspended_at: null, suspension_reason: null })),
  },
  {
    name: 'a version is edited',
    table: 'key_version',
    key: ['key_id', 'version'],
    rows: 1,
    change: each((row) => ({ ...row, revision: Number(row['revision']) + 1 })),
  },
  {
    name: 'a cursor is put back',
    table: 'lane',
    key: ['id'],
    rows: 1,
    where: 'next > 20',
    change: each((row) => ({ ...row, instance: '00000000-0000-4000-8000-000000000001' })),
  },
];

/** As if nothing ruled the tables: rows of both are edited, others deleted or inserted. */
async function replace(
  owner: pg.Client,
  { table, key }: Change,
  from: readonly Row[],
  to: readonly Row[],
) {
  const named = (row: Row) => JSON.stringify(key.map((name) => row[name]));
  const [before, after] = [from, to].map((rows) => new Set(rows.map(named)));
  const same = key.map((name) => `t.${name} = o.${name}`).join(' and ');
  const record = `jsonb_populate_record(null::public.${table}, $1) o`;
  const one = async (sql: string, row: Row) => {
    const { rowCount } = await owner.query(sql, [JSON.stringify(row)]);
    if (rowCount !== 1) throw new Error(`not one row: ${sql}`);
  };
  await owner.query('begin');
  await owner.query(`alter table public.${table} disable trigger user`);
  for (const row of from) {
    if (after?.has(named(row)) === true) continue;
    await one(`delete from public.${table} t using ${record} where ${same}`, row);
  }
  for (const row of to) {
    // What else the service has written into the row meanwhile stays.
    const other = from.find((each) => named(each) === named(row)) ?? {};
    const columns = Object.keys(row).filter(
      (name) => JSON.stringify(row[name]) !== JSON.stringify(other[name]),
    );
    if (columns.length === 0) continue;
    const set = columns.map((name) => `${name} = o.${name}`).join(', ');
    const sql =
      before?.has(named(row)) === true
        ? `update public.${table} t set ${set} from ${record} where ${same}`
        : `insert into public.${table} select o.* from ${record}`;
    await one(sql, row);
  }
  await owner.query(`alter table public.${table} enable trigger user`);
  await owner.query('commit');
}

it(
  `${ALONE} changes are found`,
  async () => {
    const missed: string[] = [];
    const seen = new Map<string, number>();
    for (let at = 0; at < ALONE; at += 1) {
      const change = CHANGES[at % CHANGES.length];
      if (change === undefined) break;
      await asOwner(async (owner) => {
        const rows = await rowsOf(owner, change.table, change.where ?? 'true', change.rows);
        const changed = change.change(rows);
        if (JSON.stringify(rows) === JSON.stringify(changed)) return;
        await replace(owner, change, rows, changed);
        const codes = await found();
        await replace(owner, change, changed, rows);
        if (codes.length === 0 && change.effectless === true) return;
        if (codes.length === 0)
          missed.push(`${change.name}: ${JSON.stringify(rows).slice(0, 300)}`);
        else
          seen.set(
            `${change.name}: ${String(codes[0])}`,
            (seen.get(`${change.name}: ${String(codes[0])}`) ?? 0) + 1,
          );
      });
    }
    if (process.env['SHOW_FOUND'] === '1')
      process.stdout.write(`${JSON.stringify([...seen], null, 1)}\n`);
    expect(missed).toEqual([]);
    const kinds = new Set([...seen.keys()].map((each) => each.split(':')[0]));
    expect(CHANGES.filter(({ name }) => !kinds.has(name)).map(({ name }) => name)).toEqual([]);
    expect(await found()).toEqual([]);
  },
  Math.max(600_000, ALONE * 1_000),
);

type Placed = Row & { readonly index: number };

/** Those of whole tiles, whose leaves the log has in a row of its own. */
async function entriesOfTiles(): Promise<readonly Placed[]> {
  const { rows } = await asOwner((owner) =>
    owner.query<{ row: Row; index: string }>(
      `select to_jsonb(e) as row, r.first + e.n - r.from_n as index
         from public.log_run r join public.entry e
           on e.lane = r.lane and e.n >= r.from_n and e.n < r.from_n + r.count
         where r.first + e.n - r.from_n < (select size / 256 * 256 from public.log_head)`,
    ),
  );
  return rows.map(({ row, index }) => ({ ...row, index: Number(index) }));
}

/** Changes of an entry, and what it is then; null: it is gone. */
const OF_ENTRIES: readonly ((row: Row, other: Row) => Row | null)[] = [
  (row) => ({ ...row, body: flipped(row['body']) }),
  (row) => ({ ...row, leaf: flipped(row['leaf']), body: flipped(row['body']) }),
  (row) => {
    const body = flipped(row['body']);
    return { ...row, body, leaf: bytea(leafHash(bytesOf(body))) };
  },
  (row) => ({ ...row, body: bytea(bytesOf(row['body']).subarray(0, random(100))) }),
  (row, other) => ({ ...row, body: other['body'] ?? null, leaf: other['leaf'] ?? null }),
  (row) => ({ ...row, ...otherColumn(row) }),
  (row) => ({ ...row, ...otherColumn(row) }),
  () => null,
];

/** Rows with these keys are then as they are here. */
async function putEntries(rows: readonly Row[], gone: readonly Row[]): Promise<void> {
  const of = `jsonb_populate_recordset(null::public.entry, $1) o`;
  await asOwner(async (owner) => {
    await owner.query('begin');
    await owner.query('alter table public.entry disable trigger user');
    await owner.query(
      `delete from public.entry t using ${of} where t.lane = o.lane and t.n = o.n`,
      [JSON.stringify([...rows, ...gone])],
    );
    await owner.query(`insert into public.entry select o.* from ${of}`, [JSON.stringify(rows)]);
    await owner.query('alter table public.entry enable trigger user');
    await owner.query('commit');
  });
}

it(
  `${MUTATIONS - ALONE} changes of entries are found, each by its index`,
  async () => {
    const all = await entriesOfTiles();
    expect(all.length).toBeGreaterThanOrEqual(2 * AT_ONCE);
    const missed: string[] = [];
    for (let done = ALONE; done < MUTATIONS;) {
      const count = Math.min(AT_ONCE, MUTATIONS - done);
      const from = random(all.length);
      const stride = 1 + random(Math.floor(all.length / count));
      const picked = Array.from({ length: count }, (_, at) => at * stride)
        .map((at) => all[(from + at) % all.length])
        .filter((each) => each !== undefined)
        .map(({ index, ...row }, at) => {
          const other = all[(from + at * stride + 1) % all.length] ?? {};
          const kind = random(OF_ENTRIES.length);
          return { index, row, kind, changed: OF_ENTRIES[kind]?.(row, other) ?? null };
        });
      const changed = picked.map((each) => each.changed).filter((row) => row !== null);
      await putEntries(
        changed,
        picked.filter((each) => each.changed === null).map(({ row }) => row),
      );
      const named = new Set((await problems()).map(({ index }) => index));
      await putEntries(
        picked.map(({ row }) => row),
        [],
      );
      for (const { index, kind, row } of picked) {
        if (!named.has(index))
          missed.push(`${index}, ${kind}: ${JSON.stringify(row).slice(0, 300)}`);
      }
      done += count;
    }
    expect(missed).toEqual([]);
    expect(await found()).toEqual([]);
  },
  Math.max(300_000, MUTATIONS * 20),
);
