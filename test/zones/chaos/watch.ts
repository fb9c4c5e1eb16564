/** Looks at a cluster while it is broken: when another leads, and how many connections are in use. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

import { addressOf, ZONES } from '../cluster.ts';
import type { Cluster, Zone } from '../cluster.ts';

const LOOK_MS = 100;
const COUNT_MS = 1_000;
const PATIENCE_MS = 2_000;
/** What PostgreSQL says where it has no connection left. */
const RAN_OUT = /too many clients already|remaining connection slots are reserved/gu;

export class Watch {
  readonly #cluster: Cluster;
  readonly #promotions: number[] = [];
  #timeline = 0;
  #over = false;
  #work: Promise<unknown>;
  /** Of clients, at any PostgreSQL that answered. */
  mostConnections = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#work = Promise.all(
      ZONES.flatMap((zone) => [
        this.#everySoOften(LOOK_MS, () => this.#look(zone)),
        this.#counts(zone),
      ]),
    );
  }

  /** When Patroni first said that another leads, wall-clock ms. */
  get promotions(): readonly number[] {
    return this.#promotions;
  }

  async stop(): Promise<void> {
    this.#over = true;
    await this.#work;
  }

  /** How often a PostgreSQL said that it has no connection left. */
  get ranOut(): number {
    const logs = ZONES.map((zone) =>
      readFileSync(join(this.#cluster.folder, `patroni${String(zone)}.log`), 'utf8'),
    );
    return logs.reduce((sum, log) => sum + (log.match(RAN_OUT)?.length ?? 0), 0);
  }

  async #everySoOften(milliseconds: number, work: () => Promise<void>): Promise<void> {
    while (!this.#over) {
      // Who is struck does not answer, and is asked again.
      await work().catch(() => undefined);
      await sleep(milliseconds);
    }
  }

  /** A leader of a newer timeline was promoted; one that wakes up is of an older. */
  async #look(zone: Zone): Promise<void> {
    const response = await fetch(`http://${addressOf(zone)}:8008/primary`, {
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const { timeline = 0 } = (await response.json()) as { readonly timeline?: number };
    if (response.status !== 200 || timeline <= this.#timeline) return;
    if (this.#timeline > 0) this.#promotions.push(Date.now());
    this.#timeline = timeline;
  }

  async #counts(zone: Zone): Promise<void> {
    let client: pg.Client | null = null;
    await this.#everySoOften(COUNT_MS, async () => {
      try {
        client ??= await this.#connect(zone);
        const { rows } = await client.query<{ used: number }>(
          "select count(*)::int as used from pg_stat_activity where backend_type = 'client backend'",
        );
        this.mostConnections = Math.max(this.mostConnections, rows[0]?.used ?? 0);
      } catch (error) {
        void client?.end().catch(() => undefined);
        client = null;
        throw error;
      }
    });
    await (client as pg.Client | null)?.end().catch(() => undefined);
  }

  async #connect(zone: Zone): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: `postgres://postgres:super@${addressOf(zone)}:5432/postgres`,
      ssl: { ca: readFileSync(join(this.#cluster.folder, 'ca.pem')) },
      connectionTimeoutMillis: PATIENCE_MS,
      query_timeout: PATIENCE_MS,
    });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }
}
