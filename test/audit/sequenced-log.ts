/**
 * Lanes, sequencers and a check of the whole log over a real database. The check shares nothing with
 * the sequencer but the bytes: it reads the tables as their owner, and hashes by a recursion of its own.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  randomUUID,
  sign,
  verify,
} from 'node:crypto';
import type pg from 'pg';
import { ownUnplaced, seal, startOf } from '../../src/audit/batch.ts';
import type { Position } from '../../src/audit/batch.ts';
import type { CheckpointSigner, LogHead } from '../../src/audit/log-ports.ts';
import { OwnBatches } from '../../src/audit/own-batches.ts';
import type { AppendBatch } from '../../src/audit/ports.ts';
import type { LaneFault } from '../../src/audit/intake.ts';
import type { SequencerStore } from '../../src/audit/sequencer-ports.ts';
import { Sequencer } from '../../src/audit/sequencer.ts';
import type { SequencerOptions } from '../../src/audit/sequencer.ts';
import { Leader } from '../../src/leader.ts';
import type { Store } from '../../src/store/store.ts';
import type { TestDatabase } from '../store/database.ts';
import { withOwner } from '../store/owner.ts';
import { softwareMac } from './memory-store.ts';

const ORIGIN = 'log.example/test';
/** The same in every process of a test: PKCS #8 of an Ed25519 seed (RFC 8410). */
const privateKey = createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 7)]),
  format: 'der',
  type: 'pkcs8',
});
const publicKey = createPublicKey(privateKey);

/** Signs with an Ed25519 key of the tests. */
export const softwareSigner: CheckpointSigner = {
  sign: async (size, root) => {
    const text = `${ORIGIN}\n${size}\n${Buffer.from(root).toString('base64')}\n`;
    const signature = sign(null, Buffer.from(text), privateKey).toString('base64');
    return `${text}\n— ${ORIGIN} ${signature}\n`;
  },
};

/** A lane whose entries are written as an instance writes them. */
export class TestLane {
  readonly lane: number;
  readonly instance: string;
  readonly #store: Store;
  #position: Position;
  /** Ids of entries whose append was acknowledged. */
  readonly acknowledged: string[] = [];
  /** What the writer knows of what it wrote. */
  readonly own = new OwnBatches();

  private constructor(store: Store, lane: number, instance: string) {
    this.#store = store;
    this.lane = lane;
    this.instance = instance;
    this.#position = startOf(lane);
  }

  static async open(store: Store, instance?: string): Promise<TestLane> {
    const id = instance ?? (await openInstance(store));
    return new TestLane(store, await store.audit.openLane(id, 'use'), id);
  }

  get next(): number {
    return this.#position.next;
  }

  /** A batch whose bytes stand. `after` moves the lane on. */
  async sealed(
    count: number,
    at = new Date(),
    detail: Readonly<Record<string, boolean>> = {},
  ): Promise<{ readonly batch: AppendBatch; readonly after: () => void }> {
    const origin = { at, zone: 'zone-a', instance: this.instance };
    const parts = Array.from({ length: count }, () => ownUnplaced('test', detail, origin));
    const { batch, after } = await seal(softwareMac, this.#position, 1, parts);
    return {
      batch,
      after: () => {
        this.#position = after;
        this.own.written(batch);
        for (let n = batch.first; n < after.next; n += 1)
          this.acknowledged.push(`${this.lane}-${n}`);
      },
    };
  }

  async append(count: number, at?: Date): Promise<void> {
    const { batch, after } = await this.sealed(count, at);
    const outcome = await this.#store.audit.append(batch);
    if ('stale' in outcome) throw new Error('stale');
    after();
  }

  /** Its last entry, and closed. */
  async close(detail: Readonly<Record<string, boolean>> = { last: true }): Promise<void> {
    const { batch, after } = await this.sealed(1, new Date(), detail);
    await this.#store.audit.append(batch);
    after();
    await this.#store.audit.closeLane(this.lane);
  }
}

export async function openInstance(store: Store): Promise<string> {
  const id = randomUUID();
  await store.instances.open({ id, zone: 'zone-a', suites: [], envelopes: [], graceMs: 0 });
  return id;
}

export interface TestSequencer {
  readonly sequencer: Sequencer;
  readonly leader: Leader;
  readonly published: LogHead[];
  readonly faults: LaneFault[];
  readonly mended: number[];
  /** Leads, and steps until nothing is left. */
  drain(): Promise<void>;
}

export function testSequencer(
  store: Store,
  over: Partial<SequencerOptions> & {
    readonly port?: SequencerStore;
    readonly silenceMs?: number;
  } = {},
): TestSequencer {
  const { port, silenceMs = 0, ...options } = over;
  const holder = randomUUID();
  const leader = new Leader({ store: store.scheduler, role: 'sequencer', holder, silenceMs });
  const published: LogHead[] = [];
  const faults: LaneFault[] = [];
  const mended: number[] = [];
  const sequencer = new Sequencer({
    store: port ?? store.sequencer,
    leader,
    holder,
    mac: softwareMac,
    signer: softwareSigner,
    publish: (head) => published.push(head),
    onFault: (fault) => faults.push(fault),
    onMended: (lane) => mended.push(lane),
    intervalMs: 0,
    ...options,
  });
  const drain = async (): Promise<void> => {
    while ((await leader.tick()) === null);
    while ((await sequencer.step()).kind === 'committed');
  };
  return { sequencer, leader, published, faults, mended, drain };
}

const TABLES = ['entry', 'lane', 'instance', 'log_head', 'log_run', 'log_tile', 'log_checkpoint'];

/** One statement as the owner with the triggers off: what somebody who has the database can do. */
export const editedAsOwner = (
  database: TestDatabase,
  sql: string,
  values: readonly unknown[] = [],
): Promise<unknown[]> =>
  withOwner(database, async (client) => {
    const { rows: parts } = await client.query<{ name: string }>(
      `select inhrelid::regclass::text as name from pg_inherits
        where inhparent = 'public.entry'::regclass`,
    );
    const names = [...TABLES.map((name) => `public.${name}`), ...parts.map(({ name }) => name)];
    const triggers = async (what: 'enable' | 'disable'): Promise<void> => {
      for (const name of names) await client.query(`alter table ${name} ${what} trigger user`);
    };
    await client.query('begin');
    await triggers('disable');
    const { rows } = await client.query(sql, [...values]);
    await triggers('enable');
    await client.query('commit');
    return rows as unknown[];
  });

interface Placed {
  readonly index: number;
  readonly id: string;
  readonly leaf: Buffer;
}

export interface WholeLog {
  readonly size: number;
  readonly root: Buffer;
  readonly entries: readonly Placed[];
  readonly checkpoints: readonly { readonly size: number; readonly note: string }[];
}

/** Everything as the tables have it, or an error that says what is wrong with it. */
export const wholeLog = (database: TestDatabase): Promise<WholeLog> =>
  withOwner(database, wholeLogBy);

export async function wholeLogBy(client: pg.Client): Promise<WholeLog> {
  await client.query('begin isolation level repeatable read');
  const runs = await client.query<Record<'first' | 'from_n' | 'count', string> & { lane: number }>(
    'select first, lane, from_n, count from public.log_run order by first',
  );
  const leaves = await client.query<{ lane: number; n: string; leaf: Buffer; body: Buffer }>(
    'select lane, n, leaf, body from public.entry',
  );
  const leafOf = new Map(
    leaves.rows.map(({ lane, n, body }) => [`${lane}-${n}`, sha(Buffer.from([0]), body)]),
  );
  const entries: Placed[] = [];
  for (const { first, lane, from_n: from, count } of runs.rows) {
    if (Number(first) !== entries.length) throw new Error(`gap or overlap at index ${first}`);
    for (let at = 0; at < Number(count); at += 1) {
      const id = `${lane}-${Number(from) + at}`;
      const leaf = leafOf.get(id);
      if (leaf === undefined) throw new Error(`entry ${id} has an index and is not there`);
      entries.push({ index: entries.length, id, leaf });
    }
  }
  if (new Set(entries.map(({ id }) => id)).size !== entries.length) throw new Error('twice');
  const head = await client.query<{ size: string; root: Buffer; note: string | null }>(
    'select size, root, note from public.log_head',
  );
  const checkpoints = await client.query<{ size: string; note: string }>(
    'select size, note from public.log_checkpoint order by size',
  );
  await client.query('commit');
  const { size = '0', root = Buffer.alloc(0), note = null } = head.rows[0] ?? {};
  if (Number(size) !== entries.length) throw new Error('the head has another size');
  const roots = rootsOf(
    entries.map(({ leaf }) => leaf),
    [...checkpoints.rows.map((row) => Number(row.size)), entries.length],
  );
  if (!root.equals(roots.get(entries.length) ?? Buffer.alloc(0))) throw new Error('wrong root');
  for (const row of checkpoints.rows) requireNote(row.note, Number(row.size), roots);
  if ((checkpoints.rows.at(-1)?.note ?? null) !== note) throw new Error('another last checkpoint');
  const listed = checkpoints.rows.map((row) => ({ size: Number(row.size), note: row.note }));
  return { size: entries.length, root, entries, checkpoints: listed };
}

function requireNote(note: string, size: number, roots: ReadonlyMap<number, Buffer>): void {
  const [text = '', signature = ''] = note.split('\n\n');
  const root = roots.get(size)?.toString('base64');
  if (text.slice(text.indexOf('\n')) !== `\n${size}\n${root}`)
    throw new Error(`checkpoint ${size} says another root`);
  if (!signature.startsWith(`— ${ORIGIN} `)) return;
  const bytes = Buffer.from(signature.trim().split(' ')[2] ?? '', 'base64');
  if (!verify(null, Buffer.from(`${text}\n`), publicKey, bytes)) throw new Error('signature');
}

const sha = (...parts: readonly Buffer[]): Buffer =>
  createHash('sha256').update(Buffer.concat(parts)).digest();

/** RFC 6962 section 2.1, for several sizes of one tree; perfect subtrees are hashed once. */
export function rootsOf(
  leaves: readonly Buffer[],
  sizes: readonly number[],
): ReadonlyMap<number, Buffer> {
  const known = new Map<string, Buffer>();
  const rootOf = (from: number, until: number): Buffer => {
    if (until === from) return sha();
    if (until - from === 1) return leaves[from] ?? Buffer.alloc(0);
    const key = `${from}-${until}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    let left = 1;
    while (left * 2 < until - from) left *= 2;
    const root = sha(Buffer.from([1]), rootOf(from, from + left), rootOf(from + left, until));
    known.set(key, root);
    return root;
  };
  return new Map(sizes.map((size) => [size, rootOf(0, size)]));
}
