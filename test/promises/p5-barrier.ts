/** The epoch barrier of a service's database, held by a test, and what is committed there, in order. */
import pg from 'pg';

import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import type { Entry } from '../../src/audit/entry.ts';
import type { AuditId } from '../../src/audit/ports.ts';
import { findEmbedded } from '../../src/store/embedded.ts';

const BARRIER = 7411;

export interface Committed extends Entry {
  readonly id: AuditId;
  /** Transaction number: an append or a change takes it behind the barrier, so these are in its order. */
  readonly xid: bigint;
}

/** A change as it is recorded: the epoch that it made, and its transaction. */
export interface CommittedChange {
  readonly epoch: number;
  readonly xid: bigint;
}

export class Barrier {
  readonly #client: pg.Client;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /** On the embedded database that runs in the folder. */
  static async open(dataDir: string): Promise<Barrier> {
    const running = findEmbedded(dataDir);
    if (running === null) throw new Error(`no database runs in ${dataDir}`);
    const client = new pg.Client({ connectionString: running.ownerUrl });
    await client.connect();
    return new Barrier(client);
  }

  /** Once this resolves nothing is appended and nothing changes before `release`. */
  async hold(): Promise<void> {
    await this.#client.query('select pg_advisory_lock($1)', [BARRIER]);
  }

  async release(): Promise<void> {
    await this.#client.query('select pg_advisory_unlock($1)', [BARRIER]);
  }

  /** How many changes wait at it. */
  async changesWaiting(): Promise<number> {
    const { rows } = await this.#client.query<{ count: number }>(
      `select count(*)::int as count from pg_locks
        where locktype = 'advisory' and objid = $1 and mode = 'ExclusiveLock' and not granted`,
      [BARRIER],
    );
    return rows[0]?.count ?? 0;
  }

  /** All entries of one reading, by id. */
  async entries(): Promise<ReadonlyMap<AuditId, Committed>> {
    const { rows } = await this.#client.query<{ body: Buffer; xid: string }>(
      'select body, xmin::text as xid from public.entry',
    );
    return new Map(
      rows.map(({ body, xid }) => {
        const entry = decodeEntry(Uint8Array.from(body));
        const id: AuditId = `${entry.lane}-${entry.n}`;
        return [id, { ...entry, id, xid: BigInt(xid) }];
      }),
    );
  }

  /** The change whose audit entry has this id; null when none has committed. */
  async change(id: AuditId): Promise<CommittedChange | null> {
    const { rows } = await this.#client.query<{ epoch: number; xid: string }>(
      `select epoch::int, xmin::text as xid from public.security_change
        where lane || '-' || n = $1`,
      [id],
    );
    const [row] = rows;
    return row === undefined ? null : { epoch: row.epoch, xid: BigInt(row.xid) };
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}
