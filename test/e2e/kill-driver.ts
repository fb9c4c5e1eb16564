/** kill -9 at seeded random moments, and what must be true after the next start. */
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import type pg from 'pg';

import type { PooledHsm } from '../../src/hsm/pool.ts';
import { brokenChains } from '../audit/instances.ts';
import { seeded } from '../store/embedded-harness.ts';
import { entriesAfter, openTokenOf, strayTokenObjects, withDatabaseOf } from './inspection.ts';
import { Ledger } from './ledger.ts';
import { killAll, leftOf } from './processes.ts';
import { TestService } from './service.ts';

/** The run's seed: TWOFOLD_TEST_SEED repeats one; printed, so that it can be. */
export const testSeed = (): number => {
  const given = Number(process.env['TWOFOLD_TEST_SEED']);
  const seed = Number.isSafeInteger(given) && given > 0 ? given : Date.now() % 1_000_000_000;
  process.stdout.write(`TWOFOLD_TEST_SEED=${seed}\n`);
  return seed;
};

/** What one round left to complain about; empty is good. */
export interface KillReport {
  readonly wrong: readonly string[];
  readonly summary: string;
}

const WORKERS = 6;
/** SoftHSM reads every object of a token at each login: more would measure SoftHSM. */
const MAX_TOKEN_OBJECTS = 200;

/** Kills of one service under load, each followed by a start and every check. */
export class KillRounds {
  readonly #random: () => number;
  readonly #ledger: Ledger;
  readonly #wrong: string[] = [];
  #service: TestService;
  readonly #hsm: PooledHsm;
  #lane = 0;
  #audited = 0;
  #repeated = 0;
  #slowestStart = 0;

  private constructor(seed: number, service: TestService, hsm: PooledHsm) {
    this.#random = seeded(seed);
    this.#ledger = new Ledger(this.#random, MAX_TOKEN_OBJECTS);
    this.#service = service;
    this.#hsm = hsm;
  }

  static async open(seed: number): Promise<KillRounds> {
    const service = await TestService.start();
    return new KillRounds(seed, service, await openTokenOf(service.dataDir));
  }

  async run(rounds: number): Promise<KillReport> {
    for (let round = 1; round <= rounds; round += 1) {
      const everything = this.#random() < 0.25;
      const after = 30 + Math.floor(this.#random() * 900);
      await this.#kill(after, everything);
      // Also a start that completes another, and a stop, may be cut short.
      if (this.#random() < 0.2) await this.#cutStart(this.#random() * 1_500);
      const began = performance.now();
      this.#service = await TestService.start({ dataDir: this.#service.dataDir });
      this.#slowestStart = Math.max(this.#slowestStart, performance.now() - began);
      const found = await this.#check();
      const how = `round ${round}, killed ${everything ? 'with its database ' : ''}after ${after} ms`;
      this.#wrong.push(...found.map((text) => `${how}: ${text}`));
      if (this.#wrong.length > 20) break;
    }
    this.#wrong.push(...(await this.#ledger.lost(this.#service)));
    this.#wrong.push(...(await this.#ledger.broken(this.#service)));
    this.#wrong.push(...this.#ledger.surprises);
    return { wrong: this.#wrong, summary: this.#summary(rounds) };
  }

  #summary(rounds: number): string {
    const facts = {
      rounds,
      audited: this.#audited,
      sentAgain: this.#repeated,
      slowestStartMs: Math.round(this.#slowestStart),
      ...this.#ledger.counts,
    };
    return JSON.stringify(facts);
  }

  async #kill(after: number, everything: boolean): Promise<void> {
    const service = this.#service;
    const load = this.#ledger.load(service, WORKERS, () => !service.running);
    await sleep(after);
    if (this.#random() < 0.15) {
      service.child.kill('SIGTERM');
      await sleep(this.#random() * 200);
    }
    if (everything) await killAll(service.dataDir);
    await service.kill();
    await load;
  }

  async #cutStart(after: number): Promise<void> {
    const service = await TestService.start({ dataDir: this.#service.dataDir, ready: false });
    await sleep(after);
    await service.kill();
  }

  async #check(): Promise<string[]> {
    const service = this.#service;
    const wrong = await withDatabaseOf(service.dataDir, async (client) => {
      const ids = this.#ledger.takeAuditIds();
      this.#audited += ids.length;
      const audited = await wrongInLog(client, ids, this.#lane);
      // The new incarnation's lanes are not over yet, and are looked at in the next round.
      const { rows } = await client.query<{ lane: number }>(
        'select max(l.id)::int as lane from public.lane l join public.instance i on i.id = l.instance where i.closed',
      );
      this.#lane = rows[0]?.lane ?? 0;
      return [...audited, ...(await strayTokenObjects(client, this.#hsm))];
    });
    wrong.push(...(await this.#ledger.lost(service, 5)));
    this.#repeated += await this.#ledger.finish(service);
    return wrong;
  }

  /** Ends everything; what was still running afterwards. */
  async close(): Promise<string[]> {
    await this.#hsm.close();
    await this.#service.stop();
    const left = await leftOf(this.#service.dataDir);
    await this.#service.destroy();
    return left;
  }
}

/** Which acknowledged entries the lanes after `lane` lack, and where their chains are broken. */
async function wrongInLog(client: pg.Client, ids: readonly string[], lane = 0): Promise<string[]> {
  const entries = await entriesAfter(client, lane);
  const outcomes = new Map<string, string>(entries.map(({ id, outcome }) => [id, outcome]));
  const lost = ids.filter((id) => outcomes.get(id) !== 'ok');
  return [
    ...lost.map((id) => `acknowledged ${id} is ${outcomes.get(id) ?? 'not'} in the log`),
    ...brokenChains(entries),
  ];
}

/** One first start after the other, killed on the way and then completed. */
export async function killFirstStarts(
  seed: number,
  starts: number,
  longestMs: number,
): Promise<KillReport> {
  const random = seeded(seed);
  const wrong: string[] = [];
  const points: number[] = [];
  for (let start = 1; start <= starts; start += 1) {
    const kills = random() < 0.3 ? 2 : 1;
    const plan = Array.from({ length: kills }, () => ({
      after: Math.floor(random() * longestMs),
      everything: random() < 0.5,
    }));
    points.push(...plan.map(({ after }) => after));
    const found = await killedFirstStart(plan).catch((error: unknown) => [String(error)]);
    wrong.push(...found.map((text) => `first start ${start}, ${JSON.stringify(plan)}: ${text}`));
  }
  return { wrong, summary: `killed after ${points.join(', ')} ms` };
}

interface Kill {
  readonly after: number;
  readonly everything: boolean;
}

async function killedFirstStart(plan: readonly Kill[]): Promise<string[]> {
  let service = await TestService.start({ first: true, ready: false });
  const { dataDir } = service;
  const ledger = new Ledger(seeded(1), 2);
  try {
    for (const { after, everything } of plan) {
      const load = loadOnceReady(service, ledger);
      await sleep(after);
      if (everything) await killAll(dataDir);
      await service.kill();
      await load;
      service = await TestService.start({ dataDir, ready: false });
    }
    await service.untilReady();
    await ledger.finish(service);
    // Something to use, however early the kill was.
    let actions = 0;
    await ledger.load(service, 1, () => ++actions > 4);
    const wrong = [...(await ledger.lost(service)), ...(await ledger.broken(service))];
    wrong.push(...ledger.surprises, ...(await strayOf(dataDir)));
    const ids = ledger.takeAuditIds();
    // The last four actions alone have one each: none here would be a check of nothing.
    if (ids.length < 4) wrong.push(`only ${ids.length} requests were acknowledged`);
    wrong.push(...(await withDatabaseOf(dataDir, (client) => wrongInLog(client, ids))));
    const code = await service.stop();
    if (code !== 0) wrong.push(`the stop ended with ${String(code)}:\n${service.output}`);
    return [...wrong, ...(await leftOf(dataDir)).map((text) => `left: ${text}`)];
  } finally {
    await service.kill();
    await killAll(dataDir);
    rmSync(dataDir, { recursive: true, force: true });
  }
}

async function loadOnceReady(service: TestService, ledger: Ledger): Promise<void> {
  try {
    await service.untilReady();
  } catch {
    return;
  }
  await ledger.load(service, 2, () => !service.running);
}

async function strayOf(dataDir: string): Promise<string[]> {
  const hsm = await openTokenOf(dataDir);
  try {
    return await withDatabaseOf(dataDir, (client) => strayTokenObjects(client, hsm));
  } finally {
    await hsm.close();
  }
}
