/**
 * Faults at random under mixed load, one after another, for `CHAOS_SECONDS` (150 unless told). A checker
 * in a process of its own records every acknowledgement and judges afterwards. `CHAOS_SEED` makes the
 * same faults again; `CHAOS_REPORT` names a file for the report.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import type { Order, Verdict } from './chaos/checker.ts';
import { FAULTS } from './chaos/faults.ts';
import type { Scene } from './chaos/faults.ts';
import { chaosReport } from './chaos/report.ts';
import type { Struck } from './chaos/report.ts';
import { seeded } from './chaos/seeded.ts';
import { ZONES } from './cluster.ts';
import type { Cluster, Zone } from './cluster.ts';
import type { Site } from './zone-service.ts';
import { Zones } from './zones.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? '150');
const SEED = Number(process.env['CHAOS_SEED'] ?? String(Math.floor(Math.random() * 2 ** 31)));
const REPORT = process.env['CHAOS_REPORT'];
/** Longer than the 8 s after which Patroni takes a leader for lost, in part. */
const FAULT_MS = { least: 4_000, most: SECONDS > 300 ? 30_000 : 14_000 };
const JUDGING_MS = 300_000;

let zones: Zones;
let cluster: Cluster;
let site: Site;
const service = (zone: Zone) => zones.service(zone);

beforeAll(async () => {
  zones = await Zones.up();
  ({ cluster, site } = zones);
}, 180_000);

afterAll(async () => {
  await zones.down();
}, 60_000);

class Checker {
  readonly #child: ChildProcess;
  #output = '';

  constructor(order: Order) {
    const script = join(import.meta.dirname, 'chaos/checker.ts');
    this.#child = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString('utf8')));
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  /** Ends the load and lets it judge. */
  async verdict(): Promise<Verdict> {
    this.#child.stdin?.write('end\n');
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
    return JSON.parse(this.#output) as Verdict;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }
}

/** Strikes once; resolves when all is well again. */
async function strike(scene: Scene): Promise<Struck> {
  const fault = FAULTS[Math.floor(scene.random() * FAULTS.length)];
  if (fault === undefined) throw new Error('no fault');
  const lasts = FAULT_MS.least + scene.random() * (FAULT_MS.most - FAULT_MS.least);
  const from = performance.now();
  const end = await fault.strike(scene);
  await sleep(lasts);
  await end();
  const ended = performance.now();
  await cluster.healthy(90_000);
  // An instance that ended by itself was not to end.
  const gone = ZONES.filter((zone) => !service(zone).running);
  return { name: fault.name, lastedMs: ended - from, healedMs: performance.now() - ended, gone };
}

/** The keys of the log, in a file; there are none before the first checkpoint. */
async function pinnedKeys(): Promise<string> {
  const file = join(zones.folder, 'trust');
  const until = performance.now() + 20_000;
  for (;;) {
    const keys = await site.audit(1, 'keys').catch(String);
    writeFileSync(file, keys);
    if (/^[^#\s]+\+[0-9a-f]{8}\+/mu.test(keys)) return file;
    if (performance.now() > until) throw new Error(`no keys of the log: ${keys}`);
    await sleep(500);
  }
}

/** What the logs of the zones say of requests that ended in a fault. */
function saidOf(faults: readonly string[]): readonly string[] {
  const ids = faults.flatMap((fault) => /"requestId":"([0-9a-f-]+)"/u.exec(fault)?.[1] ?? []);
  return ZONES.flatMap((zone) =>
    service(zone)
      .output.split('\n')
      .filter((line) => ids.some((id) => line.includes(id)))
      .map((line) => `zone ${String(zone)}: ${line}`),
  );
}

it(
  'keeps what it acknowledged, whatever breaks',
  async () => {
    process.stdout.write(`chaos: seed ${String(SEED)}, ${String(SECONDS)} s\n`);
    const trust = await pinnedKeys();
    const addresses = await Promise.all(ZONES.map((zone) => site.address(zone)));
    const checker = new Checker({ seed: SEED, workers: 3, zones: addresses });
    const scene: Scene = { cluster, site, service, random: seeded(SEED) };
    const struck: Struck[] = [];
    const until = performance.now() + SECONDS * 1_000;
    await sleep(2_000);
    while (performance.now() < until && checker.running) {
      struck.push(await strike(scene));
      await sleep(1_500);
    }
    const verdict = await checker.verdict();
    const report = chaosReport({ seed: SEED, seconds: SECONDS, struck, verdict });
    process.stdout.write(`${report}\n${saidOf(verdict.faults).join('\n')}\n`);
    if (REPORT !== undefined) writeFileSync(REPORT, report);
    expect(verdict.faults.slice(0, 20)).toEqual([]);
    expect(
      struck.flatMap(({ name, gone }) => gone.map((zone) => `${name}: ${String(zone)}`)),
    ).toEqual([]);
    // Offline checks by the keys that were pinned before: the tree, the lanes, the states of keys.
    await expect(site.audit(1, 'verify', '--live', '--trust', trust)).resolves.toMatch(/\S/u);
    expect(verdict.counts['acknowledged']).toBeGreaterThan(1_000);
  },
  SECONDS * 1_000 + JUDGING_MS,
);
