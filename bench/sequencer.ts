/**
 * The sequencer on a database of its own, beside two instances that append: entries a second that it
 * keeps up with, how far behind it is, bytes an entry. Then proofs of entries of a log of ten million, of
 * which only what proofs read is there: runs and tiles.
 */
import { execFile } from 'node:child_process';
import { createHmac, randomBytes, randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import pg from 'pg';

import type { CheckpointSigner } from '../src/audit/log-ports.ts';
import { Edge } from '../src/audit/tree/edge.ts';
import { inclusionProof, inclusionTiles, verifyInclusion } from '../src/audit/tree/proofs.ts';
import { startEmbedded } from '../src/store/embedded.ts';
import { migrate } from '../src/store/migrate.ts';
import { openStore } from '../src/store/store.ts';
import type { Store } from '../src/store/store.ts';
import { softwareSigner, testSequencer } from '../test/audit/sequenced-log.ts';

const APPENDERS = 2;
/** Whole tiles, since the leaves behind the last whole one are read from entries, which are not there. */
const PROVED = 39_063 * 256;
const PROOFS = 2_000;
/** Proofs that are not counted: connections are opened and statements prepared. */
const WARM = 200;
const RUN = 256;
/** Of an ML-DSA-44 cosignature line, so that checkpoints are as long as they are. */
const COSIGNATURE = 2_432;

export interface SequencerReport {
  readonly entriesPerSecond: number;
  readonly appended: number;
  readonly sequenced: number;
  readonly seconds: number;
  /** Entries without an index at most, of looks every 200 ms. */
  readonly behind: number;
  /** From the last append to an index for everything. */
  readonly tailMs: number;
  readonly checkpoints: number;
  readonly longestIntervalMs: number;
  /** Of one core. */
  readonly sequencerCpu: number;
  readonly appenders: readonly Record<string, number>[];
  readonly walBytesPerEntry: { readonly appended: number; readonly sequenced: number };
  readonly tableBytesPerEntry: Readonly<Record<string, number>>;
  readonly proofs: ProofReport | null;
}

export interface ProofReport {
  readonly entries: number;
  readonly hashes: number;
  /** Milliseconds: index of an entry, and its proof. */
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
}

export interface SequencerBench {
  readonly rate: number;
  readonly seconds: number;
  readonly proofs: boolean;
}

export async function measureSequencer(options: SequencerBench): Promise<SequencerReport> {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-bench-log-'));
  const database = await startEmbedded({ dataDir: folder });
  const owner = new pg.Client({ connectionString: database.ownerUrl });
  try {
    await migrate({ url: database.ownerUrl, version: 'bench' });
    await owner.connect();
    const store = openStore({ url: database.appUrl });
    try {
      const alone = await walOfAppends(owner, database.appUrl, options);
      const sustained = await sustain(owner, store, database.appUrl, options);
      const { appended } = alone;
      const { walBytes, ...rest } = sustained;
      const sequenced = walBytes - appended;
      const proofs = options.proofs ? await prove(owner, store) : null;
      return { ...rest, walBytesPerEntry: { appended, sequenced }, proofs };
    } finally {
      await store.close();
    }
  } finally {
    await owner.end().catch(() => undefined);
    await database.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function append(url: string, rate: number, seconds: number): Promise<Record<string, number>> {
  const script = join(import.meta.dirname, 'sequencer-appender.ts');
  const flags = [
    '--disable-warning=ExperimentalWarning',
    script,
    url,
    String(rate),
    String(seconds),
  ];
  const { stdout } = await promisify(execFile)(process.execPath, flags);
  return JSON.parse(stdout) as Record<string, number>;
}

const appenders = (url: string, rate: number, seconds: number) =>
  Promise.all(Array.from({ length: APPENDERS }, () => append(url, rate / APPENDERS, seconds)));

const one = async <T>(owner: pg.Client, sql: string, values: unknown[] = []): Promise<T> => {
  const { rows } = await owner.query<{ value: T }>(sql, values);
  const [row] = rows;
  if (row === undefined) throw new Error('no row');
  return row.value;
};

const walPosition = (owner: pg.Client): Promise<string> =>
  one<string>(owner, 'select pg_current_wal_insert_lsn()::text as value');
const walSince = async (owner: pg.Client, from: string): Promise<number> =>
  Number(
    await one<string>(owner, 'select (pg_current_wal_insert_lsn() - $1::pg_lsn)::text as value', [
      from,
    ]),
  );

/** Appends without a sequencer, after a checkpoint of the database: what full page writes cost is in both. */
async function walOfAppends(owner: pg.Client, url: string, { rate }: SequencerBench) {
  const from = await walPosition(owner);
  const done = await appenders(url, rate, 5);
  const entries = done.reduce((sum, { appended = 0 }) => sum + appended, 0);
  return { appended: (await walSince(owner, from)) / entries };
}

async function sustain(
  owner: pg.Client,
  store: Store,
  url: string,
  { rate: wanted, seconds }: SequencerBench,
) {
  const made: { readonly at: number; readonly size: number }[] = [];
  const sequencer = testSequencer(store, {
    signer: lengthened,
    intervalMs: 1_000,
    publish: ({ size }) => {
      made.push({ at: performance.now(), size });
    },
  });
  await sequencer.leader.tick();
  // What the part before left behind.
  do {
    await sequencer.sequencer.step();
    await new Promise((go) => setTimeout(go, 20));
  } while (sequencer.sequencer.unsequenced > 0);
  const before = await one<string>(owner, 'select size::text as value from public.log_head');
  made.length = 0;
  const from = await walPosition(owner);
  const cpu = process.cpuUsage();
  const began = performance.now();
  let behind = 0;
  const over = new AbortController();
  const looks = (async () => {
    while (!over.signal.aborted) {
      const step = await sequencer.sequencer.step();
      behind = Math.max(behind, sequencer.sequencer.unsequenced);
      if (step.kind !== 'committed' || !step.more) await new Promise((go) => setTimeout(go, 200));
    }
  })();
  const done = await appenders(url, wanted, seconds);
  const ended = performance.now();
  over.abort();
  await looks;
  const { user, system } = process.cpuUsage(cpu);
  const walBytes = await walSince(owner, from);
  do {
    await sequencer.sequencer.step();
    await new Promise((go) => setTimeout(go, 20));
  } while (sequencer.sequencer.unsequenced > 0);
  const tailMs = performance.now() - ended;
  const entries = done.reduce((sum, { appended = 0 }) => sum + appended, 0);
  const size = await one<string>(owner, 'select size::text as value from public.log_head');
  const sequenced = Number(size) - Number(before);
  const checkpoints = made.length;
  const gaps = made.map(({ at }, index) => at - (made[index - 1]?.at ?? at));
  // While they append: what is left afterwards comes later than it could.
  const [first, last] = [made[0], made.findLast(({ at }) => at <= ended)];
  if (first === undefined || last === undefined) throw new Error('nothing was sequenced');
  const rate = ((last.size - first.size) * 1000) / (last.at - first.at);
  return {
    entriesPerSecond: Math.round(rate),
    ...{ appended: entries, sequenced, seconds, behind, tailMs, checkpoints },
    longestIntervalMs: Math.max(...gaps),
    sequencerCpu: (user + system) / 1000 / (ended - began),
    appenders: done,
    walBytes: walBytes / entries,
    tableBytesPerEntry: await tableBytes(owner, Number(size)),
  };
}

async function tableBytes(owner: pg.Client, entries: number) {
  const sizes: Record<string, number> = {};
  for (const table of ['log_run', 'log_tile', 'log_checkpoint']) {
    const bytes = await one<string>(
      owner,
      'select pg_total_relation_size($1::regclass)::text as value',
      [`public.${table}`],
    );
    sizes[table] = Number(bytes) / entries;
  }
  const parts = await one<string>(
    owner,
    `select sum(pg_total_relation_size(inhrelid))::text as value from pg_inherits
      where inhparent = 'public.entry'::regclass`,
  );
  const heap = await one<string>(
    owner,
    `select sum(pg_table_size(inhrelid))::text as value from pg_inherits
      where inhparent = 'public.entry'::regclass`,
  );
  return {
    entry: Number(heap) / entries,
    indexes: (Number(parts) - Number(heap)) / entries,
    ...sizes,
  };
}

const lengthened: CheckpointSigner = {
  sign: async (size, root) =>
    `${await softwareSigner.sign(size, root)}— log.example/test ${randomBytes(COSIGNATURE).toString('base64')}\n`,
};

async function prove(owner: pg.Client, store: Store): Promise<ProofReport> {
  for (const table of ['log_run', 'log_tile']) {
    await owner.query(`alter table public.${table} disable trigger user`);
    await owner.query(`truncate public.${table}`);
  }
  const { edge, leaves } = await fill(owner);
  const root = edge.root();
  const lane = (index: number): number => 1 + (Math.floor(index / RUN) % 2);
  const n = (index: number): number => Math.floor(index / (2 * RUN)) * RUN + (index % RUN) + 1;
  const times: number[] = [];
  let hashes = 0;
  for (let each = -WARM; each < PROOFS; each += 1) {
    const proved = randomInt(PROVED);
    const began = performance.now();
    const index = await store.log.indexOf(lane(proved), n(proved));
    if (index !== proved) throw new Error('another index');
    const wanted = inclusionTiles(index, PROVED);
    const tiles = await store.log.tiles(wanted);
    const proof = await inclusionProof(index, PROVED, (level, tile) => {
      const at = wanted.findIndex((each) => each.level === level && each.index === tile);
      return Promise.resolve(tiles[at] ?? null);
    });
    if (each >= 0) times.push(performance.now() - began);
    hashes = Math.max(hashes, proof.length);
    const leaf = leaves(index);
    if (!verifyInclusion({ index, size: PROVED, leaf, root }, proof))
      throw new Error('wrong proof');
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? 0;
  return { entries: PROVED, hashes, p50: at(0.5), p99: at(0.99), most: at(1) };
}

const leafOf = (index: number): Uint8Array =>
  createHmac('sha256', 'leaf').update(String(index)).digest();

async function fill(owner: pg.Client) {
  let edge = Edge.EMPTY;
  const CHUNK = 256 * 256;
  while (edge.size < PROVED) {
    const count = Math.min(CHUNK, PROVED - edge.size);
    const first = edge.size;
    const grown = edge.grow(Array.from({ length: count }, (_, at) => leafOf(first + at)));
    edge = grown.edge;
    await owner.query(
      `insert into public.log_tile select * from unnest($1::integer[], $2::bigint[], $3::bytea[])
        on conflict (level, index) do update set hashes = excluded.hashes`,
      [
        grown.tiles.map(({ level }) => level),
        grown.tiles.map(({ index }) => index),
        grown.tiles.map(({ hashes }) => Buffer.from(hashes)),
      ],
    );
  }
  await owner.query(
    `insert into public.log_run (first, lane, from_n, count)
      select s * $2::bigint, 1 + s % 2, s / 2 * $2::bigint + 1, $2
      from generate_series(0::bigint, $1::bigint / $2 - 1) s`,
    [PROVED, RUN],
  );
  // A log of ten million was not written a minute ago: whoever looks first at a page writes to it, as a log's tiles are vacuumed long before.
  await owner.query('vacuum (analyze) public.log_run, public.log_tile');
  return { edge, leaves: leafOf };
}

export function renderSequencer(report: SequencerReport): string {
  const { appenders: instances, proofs, walBytesPerEntry: wal, tableBytesPerEntry } = report;
  const bytes = Object.entries(tableBytesPerEntry).map(
    ([name, per]) => `${name} ${per.toFixed(1)}`,
  );
  const lines = [
    `sequenced ${report.entriesPerSecond}/s (${report.sequenced} of ${report.appended} in ${report.seconds} s), ` +
      `at most ${report.behind} behind, ${report.checkpoints} checkpoints, ` +
      `${report.longestIntervalMs.toFixed(0)} ms apart at most, ${(report.sequencerCpu * 100).toFixed(0)} % of a core`,
    ...instances.map(
      ({ perSecond = 0, p50 = 0, p99 = 0, bodyBytes = 0 }) =>
        `appended ${perSecond.toFixed(0)}/s, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, ${bodyBytes.toFixed(0)} B an entry`,
    ),
    `WAL ${wal.appended.toFixed(0)} B an entry for the append, ${wal.sequenced.toFixed(0)} B more for its index`,
    `tables, B an entry: ${bytes.join(', ')}`,
  ];
  if (proofs !== null) {
    const { p50, p99, most, hashes } = proofs;
    lines.push(
      `proof among ${proofs.entries}: p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms, most ${most.toFixed(2)} ms, ${hashes} hashes at most`,
    );
  }
  return lines.join('\n');
}
