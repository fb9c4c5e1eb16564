/**
 * The checker of a chaos run, a process of its own: makes the load on all zones, records what was
 * acknowledged, and proves afterwards that nothing of it was lost or done twice, that no answer was wrong or not a
 * documented one, that no suspended key was used, and that the audit log has every acknowledged entry.
 *
 * Reads one line of JSON (`Order`), writes `ready` once the load runs, and ends it with a second line
 * (`Ended`). Then it judges and writes its `Verdict` as JSON. A process of its own sees what clients
 * see, whatever the test does meanwhile.
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { Ledger } from '../../e2e/ledger.ts';
import type { Loaded } from '../../e2e/ledger.ts';
import { ZONES } from '../cluster.ts';
import type { Zone } from '../cluster.ts';
import { ZoneClient } from '../zone-client.ts';
import type { ZoneAddress } from '../zone-client.ts';
import { seeded } from './seeded.ts';
import { Suspensions } from './suspensions.ts';
import { calmBetween, CHANGES, COMMITS, operationOf, othersThan, Timeline } from './timeline.ts';
import type { Interval } from './timeline.ts';
import { Entries } from './entries.ts';
import { makeKnown, Proofs, Uses } from './uses.ts';

export interface Order {
  readonly seed: number;
  /** How long the load will last, about: keys are made during all of it. */
  readonly seconds: number;
  readonly workers: number;
  readonly zones: readonly ZoneAddress[];
  /** The log's keys, as they were pinned before the first fault. */
  readonly trust: string;
}

/** A fault with its healing; `zones` are those whose Twofold it struck. */
export interface Strike extends Interval {
  readonly name: string;
  readonly zones: readonly Zone[];
}

export interface Ended {
  readonly strikes: readonly Strike[];
  /** When another PostgreSQL was promoted. */
  readonly promotions: readonly number[];
}

/** In one zone by itself, ms: of wraps and signatures, and of unwraps. */
export interface ZonePause {
  readonly commits: number;
  readonly unwraps: number;
}

/**
 * Longest pauses where a fault did not strike, ms: of changes, and of wraps and signatures, in those zones
 * together; of unwraps in each.
 */
export interface StrikePause {
  readonly name: string;
  readonly zones: readonly ZonePause[];
  readonly changes: number;
  readonly commits: number;
  readonly unwraps: number;
}

export interface Proof {
  readonly claim: string;
  /** What was held against it. */
  readonly checked: string;
  /** What contradicts it; empty in a run that passed. */
  readonly faults: readonly string[];
}

export interface Verdict {
  readonly acknowledged: number;
  readonly counts: Readonly<Record<string, number>>;
  /** Longest time without an acknowledgement in all zones together, by operation, ms. */
  readonly pauses: Readonly<Record<string, number>>;
  readonly strikePauses: readonly StrikePause[];
  /** Longest time without an unwrap in one zone while nothing was struck, ms: how slow the machine is. */
  readonly calmUnwraps: number;
  /** From each promotion until the first acknowledged write, ms; null where none came. */
  readonly afterPromotion: readonly (number | null)[];
  readonly refusals: readonly string[];
  readonly proofs: readonly Proof[];
}

const RETRY_MS = 100;
/** So that each key can be asked for at the end; some at once, the others all the while. */
const [FIRST_KEYS, MOST_KEYS] = [10, 290];
/** Longer than an instance is stopped, so that what it answers when it goes on is seen. */
const STOPPED_MS = 45_000;
/** Of what other zones are asked again beside the first. */
const SAMPLE = 400;
const PROOFS_AT_THE_END = 100;
/** Longer than it takes Patroni to find its leader lost, and a change to wait for the grace. */
const JUDGED_AFTER_MS = 3_000;

interface Target extends Loaded {
  readonly zone: Zone;
}

class Run {
  readonly #timeline = new Timeline();
  readonly #undocumented: string[] = [];
  readonly #entries = new Entries();
  readonly #ledger: Ledger;
  readonly #random: () => number;
  readonly #proofs: Proofs;
  readonly #clients: readonly ZoneClient[];
  readonly #targets: readonly Target[];
  readonly #workers: number;
  #over = false;
  #began = Date.now();
  #work: Promise<unknown> = Promise.resolve();
  readonly #suspensions: readonly Suspensions[];
  #uses: Uses | null = null;

  constructor({ seed, seconds, workers, zones, trust }: Order) {
    this.#random = seeded(seed);
    this.#workers = workers;
    const mostKeys = () =>
      FIRST_KEYS + MOST_KEYS * Math.min(1, (Date.now() - this.#began) / (seconds * 1_000));
    this.#ledger = new Ledger(this.#random, 0, { mostKeys, repeats: true });
    this.#proofs = new Proofs(trust, this.#random);
    const clients = zones.map((zone) => new ZoneClient(zone));
    const patient = zones.map((zone) => new ZoneClient(zone, STOPPED_MS));
    this.#clients = [...clients, ...patient];
    const targets = (of: readonly ZoneClient[]) =>
      of.map((client, place) => this.#target(client, ZONES[place] ?? 1));
    this.#targets = targets(clients);
    const others = targets(patient);
    this.#suspensions = (['wrap', 'sign'] as const).map(
      (purpose) => new Suspensions(others, this.#random, purpose),
    );
  }

  #target(client: ZoneClient, zone: Zone): Target {
    return {
      zone,
      running: true,
      request: async (method, path, body, options) => {
        const answer = await client
          .request(method, path, body, { headers: options?.headers ?? {} })
          .catch(async (error: unknown) => {
            // An answer that the contract does not list is no broken connection.
            if (error instanceof Error && error.message.includes(' answered '))
              this.#undocumented.push(error.message);
            // As a client would wait that finds nobody there.
            await sleep(RETRY_MS);
            throw error;
          });
        const operation = operationOf(method, path);
        this.#entries.answered(operation, answer);
        if (answer.status < 300 && !this.#over) this.#mark(zone, operation, answer);
        if (answer.status === 503) await sleep(RETRY_MS);
        return answer;
      },
    };
  }

  #mark(zone: Zone, operation: string | null, answer: Awaited<ReturnType<Loaded['request']>>) {
    if (operation === null) return;
    this.#timeline.mark(zone, operation);
    const id = answer.headers.get('Twofold-Audit-Id');
    if (id !== null && operation !== 'proof') this.#proofs.answered(id);
  }

  get #first(): Target {
    const [first] = this.#targets;
    if (first === undefined) throw new Error('no zone');
    return first;
  }

  async start(): Promise<void> {
    const uses = new Uses(await makeKnown(this.#first.request), this.#random);
    this.#uses = uses;
    const requests = this.#targets.map(({ request }) => request);
    for (const request of requests) await uses.begin(request);
    this.#began = Date.now();
    const isOver = () => this.#over;
    this.#work = Promise.all([
      ...this.#targets.map((target) => this.#ledger.load(target, this.#workers, isOver)),
      ...requests.map((request) => uses.run(request, isOver)),
      ...requests.map((request) => uses.runWraps(request, isOver)),
      this.#proofs.run(requests, isOver),
      ...this.#suspensions.map((one) => one.run(isOver)),
    ]);
  }

  async end({ strikes, promotions }: Ended): Promise<Verdict> {
    const whole = { from: this.#began, until: Date.now() };
    this.#over = true;
    await this.#work;
    await sleep(JUDGED_AFTER_MS);
    const timeline = this.#timeline;
    const { counts } = timeline;
    const proofs = await this.#judge();
    for (const client of this.#clients) client.close();
    return {
      acknowledged: Object.values(counts).reduce((sum, count) => sum + count, 0),
      counts,
      pauses: Object.fromEntries([
        ['any of them', timeline.longest(whole, () => true)],
        ...Object.keys(counts).map(
          (name) => [name, timeline.longest(whole, (one) => one.operation === name)] as const,
        ),
      ]),
      strikePauses: strikes.map((strike) => {
        const zones = othersThan(strike.zones);
        const pauseOf = (operations: readonly string[], of: readonly Zone[] = zones) =>
          timeline.longest(
            strike,
            (one) => of.includes(one.zone) && operations.includes(one.operation),
          );
        const each = zones.map((zone) => ({
          commits: pauseOf(COMMITS, [zone]),
          unwraps: pauseOf(['unwrap'], [zone]),
        }));
        return {
          name: strike.name,
          zones: each,
          changes: pauseOf(CHANGES),
          commits: pauseOf(COMMITS),
          unwraps: Math.max(0, ...each.map(({ unwraps }) => unwraps)),
        };
      }),
      calmUnwraps: Math.max(
        0,
        ...calmBetween(strikes, whole.from).flatMap((calm) =>
          ZONES.map((zone) =>
            timeline.longestInside(calm, (one) => one.zone === zone && one.operation === 'unwrap'),
          ),
        ),
      ),
      afterPromotion: promotions.map((moment) => timeline.writeAfter(moment)),
      refusals: [...this.#ledger.refusals].toSorted(),
      proofs,
    };
  }

  async #judge(): Promise<readonly Proof[]> {
    const ledger = this.#ledger;
    const first = this.#first;
    const { keys, versions, wraps, signatures } = ledger.counts as Record<string, number>;
    const asked = await ledger.finish(first);
    const lost: string[] = [];
    for (const target of this.#targets) {
      const sample = target === first ? Number.MAX_SAFE_INTEGER : SAMPLE;
      const found = await ledger.lost(target, sample);
      lost.push(...found.map((what) => `as zone ${String(target.zone)} says: ${what}`));
    }
    lost.push(...(await ledger.broken(first)));
    const some = this.#entries.sample(this.#random, PROOFS_AT_THE_END);
    const missing = await this.#entries.missing(first.request);
    if (missing.length === 0) await this.#proofs.proveAll(first.request, some);
    const sum = (of: (one: Suspensions) => number) =>
      this.#suspensions.reduce((all, one) => all + of(one), 0);
    const suspensions = sum(({ counts }) => counts.suspensions);
    const refused = sum(({ counts }) => counts.refused);
    const { opened, verified } = this.#uses?.counts ?? { opened: 0, verified: 0 };
    return [
      {
        claim: 'Nothing acknowledged is lost, and nothing is done twice',
        checked: `${String(keys)} keys of ${String(versions)} versions, ${String(wraps)} wraps, ${String(signatures)} signatures; ${String(ledger.repeated + asked)} changes that had no answer, asked again`,
        faults: lost,
      },
      {
        claim: 'No wrong plaintext, no wrong signature',
        checked: `${String(opened)} unwraps and ${String(verified)} verifications as they came, besides those wraps and signatures`,
        faults: this.#uses?.wrong ?? ['there was no load'],
      },
      {
        claim: 'No use after an acknowledged suspension',
        checked: `${String(suspensions)} suspensions, ${String(refused)} uses refused under them`,
        faults: this.#suspensions.flatMap(({ breaches }) => breaches),
      },
      {
        claim: 'Every answer has its entry in the audit log, and the entry its proof',
        checked: `${String(this.#entries.count)} entries, those of refusals and of answers in the grace among them, ${String(this.#proofs.counts.proofs)} proofs by keys pinned before`,
        faults: [...this.#entries.shared, ...missing, ...this.#proofs.wrong],
      },
      {
        claim: 'Every error is a documented code',
        checked: `each answer against the contract; refused were ${[...ledger.refusals].toSorted().join(', ')}`,
        faults: [...this.#undocumented, ...ledger.surprises],
      },
    ];
  }
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const order = JSON.parse(String((await lines.next()).value)) as Order;
const run = new Run(order);
await run.start();
process.stdout.write('ready\n');
const ended = JSON.parse(String((await lines.next()).value)) as Ended;
const verdict = await run.end(ended);
await new Promise((done) => process.stdout.write(`${JSON.stringify(verdict)}\n`, done));
process.exit(0);
