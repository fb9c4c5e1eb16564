/**
 * Faults at random under mixed load, one after another. A checker in a process of its own records every
 * acknowledgement and judges afterwards. `npm run chaos` sets what is read here:
 * `CHAOS_SECONDS` of load (600; at least all faults once), `CHAOS_SEED` makes the same faults again,
 * `CHAOS_GRACE_MS` is `zone.graceMs`, `CHAOS_OUT` names a file for the report, and `CHAOS_SHORT=yes`
 * makes each fault once and briefly. `CHAOS_ONLY` is a part of the names of the faults to make. A run that
 * fails keeps the logs of everything, and says where.
 */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { resumed, triedEnough, unwrapsGoOn } from './chaos/bounds.ts';
import type { Ended, Order, Proof, Strike, Verdict } from './chaos/checker.ts';
import { FAULTS } from './chaos/faults.ts';
import type { Scene } from './chaos/faults.ts';
import { plan } from './chaos/plan.ts';
import type { Planned } from './chaos/plan.ts';
import { chaosReport } from './chaos/report.ts';
import type { Struck } from './chaos/report.ts';
import { seeded } from './chaos/seeded.ts';
import { Watch } from './chaos/watch.ts';
import { hasQuorumCommit, patroniVersion, ZONES } from './cluster.ts';
import type { Cluster, Zone } from './cluster.ts';
import { FAKETIME } from './zone-service.ts';
import type { Site } from './zone-service.ts';
import { Zones } from './zones.ts';

const IS_SHORT = process.env['CHAOS_SHORT'] === 'yes';
const SECONDS = IS_SHORT ? 0 : Number(process.env['CHAOS_SECONDS'] ?? '600');
const SEED = Number(process.env['CHAOS_SEED'] ?? String(Math.floor(Math.random() * 2 ** 31)));
/** What a short run takes, about. */
const SHORT_SECONDS = 90;
/** A change waits for it where an instance is gone, so it is short where faults are. */
const GRACE_MS = Number(process.env['CHAOS_GRACE_MS'] ?? (IS_SHORT ? '1000' : '10000'));
const OUT = process.env['CHAOS_OUT'];
const ONLY = process.env['CHAOS_ONLY'] ?? '';
const CHOSEN = FAULTS.filter(({ name }) => name.includes(ONLY));
/** Between two faults. */
const CALM_MS = IS_SHORT ? 200 : 1_500;
const LEAST_ACKNOWLEDGED = ONLY === '' ? 1_000 : 1;
const HEALED_MS = 150_000;
/** For faults that are made but once, however little time there is, and for judging. */
const BEYOND_MS = 900_000;

let zones: Zones;
let cluster: Cluster;
let site: Site;
const service = (zone: Zone) => zones.service(zone);

beforeAll(async () => {
  if (CHOSEN.length === 0) throw new Error(`no fault's name has ${JSON.stringify(ONLY)}`);
  // Without it the fault would be none.
  if (!existsSync(FAKETIME)) throw new Error(`${FAKETIME} of Debian's libfaketime is missing.`);
  zones = await Zones.up({ TWOFOLD_ZONE_GRACE_MS: String(GRACE_MS) });
  ({ cluster, site } = zones);
}, 180_000);

let checker: Checker | null = null;
let watch: Watch | null = null;
let isWhole = false;

afterAll(async () => {
  checker?.kill();
  await watch?.stop();
  if (!isWhole) keepLogs();
  await zones.down();
}, 60_000);

/** Of PostgreSQL, Patroni, etcd, HAProxy and the services. */
function keepLogs(): void {
  const kept = mkdtempSync(join(tmpdir(), 'twofold-chaos-logs-'));
  for (const name of readdirSync(zones.folder).filter((each) => each.endsWith('.log')))
    copyFileSync(join(zones.folder, name), join(kept, name));
  for (const zone of ZONES)
    writeFileSync(join(kept, `twofold${String(zone)}.log`), service(zone).output);
  process.stdout.write(`chaos: the logs are kept in ${kept}\n`);
}

class Checker {
  readonly #child: ChildProcess;
  #output = '';

  constructor(order: Order) {
    const script = join(import.meta.dirname, 'chaos/checker.ts');
    this.#child = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString('utf8')));
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  async ready(): Promise<void> {
    while (!this.#output.startsWith('ready\n')) {
      if (!this.running) throw new Error('the checker ended before it began');
      await sleep(20);
    }
  }

  /** Ends the load and lets it judge. */
  async verdict(ended: Ended): Promise<Verdict> {
    this.#child.stdin?.write(`${JSON.stringify(ended)}\n`);
    if (this.running) await once(this.#child, 'exit');
    return JSON.parse(this.#output.slice('ready\n'.length)) as Verdict;
  }

  /** For a run that failed before its end. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }
}

/** Strikes once; resolves when all is well again. */
async function strike(scene: Scene, { fault, milliseconds }: Planned): Promise<Struck & Strike> {
  const from = Date.now();
  const made = await fault.strike(scene);
  await sleep(milliseconds);
  await made.end();
  const ended = Date.now();
  await cluster.healthy(HEALED_MS);
  const served = await Promise.all(
    ZONES.map((zone) => service(zone).serves('/v1/keys/steady', HEALED_MS)),
  );
  const until = Date.now();
  const lastedMs = ended - from;
  process.stdout.write(
    `chaos: ${fault.name}: ${String(lastedMs)} ms, healed after ${String(until - ended)} ms\n`,
  );
  const gone = ZONES.filter((_, place) => served[place] !== true);
  const { zones: struck } = made;
  return { name: fault.name, zones: struck, from, until, lastedMs, healedMs: until - ended, gone };
}

/** The keys of the log; there are none before the first checkpoint. */
async function pinnedKeys(): Promise<string> {
  const until = performance.now() + 20_000;
  for (;;) {
    const keys = await site.audit(1, 'keys').catch(String);
    if (/^[^#\s]+\+[0-9a-f]{8}\+/mu.test(keys)) return keys;
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

/** Offline, by keys that were pinned before: the tree, the lanes, the states of keys. */
async function verifiedLog(trust: string): Promise<Proof> {
  const claim = 'The audit tree is consistent and complete';
  const file = join(zones.folder, 'trust');
  writeFileSync(file, trust);
  try {
    const said = await site.audit(1, 'verify', '--live', '--trust', file);
    const [line = ''] = said.split('\n').filter((one) => /entries/u.test(one));
    return { claim, checked: `\`twofold audit verify --live\`: ${line.trim()}`, faults: [] };
  } catch (error) {
    return { claim, checked: '`twofold audit verify --live`', faults: [String(error)] };
  }
}

function zonesServe(struck: readonly Struck[]): Proof {
  const restarts = ZONES.reduce((sum, zone) => sum + service(zone).restarts, 0);
  return {
    claim: 'Every zone serves again, and nobody helps it',
    checked: `after each of ${String(struck.length)} faults; instances that a change fenced while they were cut off ended and were started again ${String(restarts)} times`,
    faults: struck.flatMap(({ name, gone }) => gone.map((zone) => `${name}: ${String(zone)}`)),
  };
}

function connectionsLeft(watch: Watch): Proof {
  const most = `${String(watch.mostConnections)} of 100 in use at most`;
  const ranOut = watch.ranOut;
  const faults = ranOut === 0 ? [] : [`a server said so ${String(ranOut)} times`];
  return { claim: 'Connections do not run out', checked: most, faults };
}

const firstLine = (program: string, ...args: readonly string[]) =>
  execFileSync(program, args, { encoding: 'utf8' }).split('\n', 1)[0] ?? '';

const place = () => [
  `patroni ${patroniVersion()}, ${firstLine('/usr/lib/postgresql/15/bin/postgres', '--version')}, ${firstLine('etcd', '--version')}`,
  hasQuorumCommit()
    ? 'Quorum commit: a commit waits for any one of the standbys.'
    : 'Quorum commit: **not run**, as it needs Patroni 4 or newer (`PATRONI` names its program).',
  `${String(cpus().length)} processors for all three zones, the load and the checker`,
];

const commandOf = () => {
  const length = IS_SHORT ? '--short' : `--seconds ${String(SECONDS)}`;
  const only = ONLY === '' ? '' : ` --only ${JSON.stringify(ONLY)}`;
  return `npm run chaos -- ${length} --seed ${String(SEED)} --grace ${String(GRACE_MS)}${only}`;
};

it(
  'keeps what it acknowledged, whatever breaks',
  async () => {
    process.stdout.write(`chaos: ${commandOf()}\n`);
    const trust = await pinnedKeys();
    const addresses = await Promise.all(ZONES.map((zone) => site.address(zone)));
    const seconds = SECONDS === 0 ? SHORT_SECONDS : SECONDS;
    const judge = new Checker({ seed: SEED, seconds, workers: 2, zones: addresses, trust });
    const watching = new Watch(cluster);
    [checker, watch] = [judge, watching];
    const random = seeded(SEED);
    const scene: Scene = { cluster, site, service, random };
    const struck: (Struck & Strike)[] = [];
    await judge.ready();
    const from = performance.now();
    const until = from + SECONDS * 1_000;
    await sleep(CALM_MS);
    for (const planned of plan(random, IS_SHORT, CHOSEN)) {
      struck.push(await strike(scene, planned));
      await sleep(CALM_MS);
      const isDone = struck.length >= CHOSEN.length && performance.now() > until;
      if (isDone || !judge.running) break;
    }
    const lasted = (performance.now() - from) / 1_000;
    const strikes = struck.map(({ name, zones: of, from: since, until: healed }) => ({
      ...{ name, zones: of, from: since, until: healed },
    }));
    await watching.stop();
    const verdict = await judge.verdict({ strikes, promotions: watching.promotions });
    const proofs = [
      await verifiedLog(trust),
      zonesServe(struck),
      connectionsLeft(watching),
      resumed(verdict),
      // A short run has a grace of a second, and faults that are over before anyone sees them.
      ...(IS_SHORT ? [] : [unwrapsGoOn(GRACE_MS, verdict)]),
      ...(IS_SHORT || ONLY !== '' ? [] : [triedEnough(GRACE_MS, verdict)]),
    ];
    const report = chaosReport({
      ...{ command: commandOf(), lasted, graceMs: GRACE_MS, place: place() },
      ...{ struck, verdict, proofs },
    });
    const all = [...verdict.proofs, ...proofs];
    const broken = all.filter(({ faults }) => faults.length > 0);
    process.stdout.write(
      `${report}\n${saidOf(broken.flatMap(({ faults }) => faults)).join('\n')}\n`,
    );
    if (OUT !== undefined) writeFileSync(OUT, report);
    expect(broken.map(({ claim, faults }) => ({ claim, faults: faults.slice(0, 10) }))).toEqual([]);
    expect(verdict.acknowledged).toBeGreaterThan(LEAST_ACKNOWLEDGED);
    isWhole = true;
  },
  SECONDS * 1_000 + BEYOND_MS,
);
