/**
 * The checker of a chaos run, a process of its own: makes the load on all zones, records what was
 * acknowledged, and proves afterwards that nothing of it was lost, that no answer was wrong or not a
 * documented one, that no suspended key was used, and that the audit log has every acknowledged entry.
 *
 * Reads one line of JSON (`Order`); load begins at once and ends with a second line. Then it judges and
 * writes its report as JSON. A process of its own sees what clients see, whatever the test does meanwhile.
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { Ledger } from '../../e2e/ledger.ts';
import { ZoneClient } from '../zone-client.ts';
import type { ZoneAddress } from '../zone-client.ts';
import { seeded } from './seeded.ts';
import { Suspensions } from './suspensions.ts';

export interface Order {
  readonly seed: number;
  readonly workers: number;
  readonly zones: readonly ZoneAddress[];
}

export interface Verdict {
  readonly counts: Readonly<Record<string, number>>;
  /** Longest time without any acknowledgement, by zone and of all together, ms. */
  readonly pauses: Readonly<Record<string, number>>;
  readonly refusals: readonly string[];
  /** What may not be; empty in a run that passed. */
  readonly faults: readonly string[];
}

const RETRY_MS = 100;
/** So that each key can be asked for at the end. */
const MOST_KEYS = 400;

class Pause {
  #last = performance.now();
  longest = 0;

  mark(): void {
    const now = performance.now();
    this.longest = Math.max(this.longest, now - this.#last);
    this.#last = now;
  }
}

async function judge(order: Order, ended: Promise<unknown>): Promise<Verdict> {
  const random = seeded(order.seed);
  const ledger = new Ledger(random, 0, MOST_KEYS);
  const clients = order.zones.map((zone) => new ZoneClient(zone));
  let over = false;
  let acknowledged = 0;
  const all = new Pause();
  const pauses = clients.map(() => new Pause());
  const faults: string[] = [];
  const loaded = clients.map((client, zone) => ({
    running: true,
    request: async (...args: Parameters<ZoneClient['request']>) => {
      const answer = await client.request(...args).catch(async (error: unknown) => {
        // An answer that the contract does not list is no broken connection.
        if (error instanceof Error && error.message.includes(' answered '))
          faults.push(error.message);
        // As a client would wait that finds nobody there.
        await sleep(RETRY_MS);
        throw error;
      });
      if (answer.status < 300) {
        acknowledged += 1;
        all.mark();
        pauses[zone]?.mark();
      }
      return answer;
    },
  }));
  const suspensions = new Suspensions(clients, random, 'chaos-suspended');
  const work = [
    ...loaded.map((target) => ledger.load(target, order.workers, () => over)),
    suspensions.run(() => over),
  ];
  await ended;
  over = true;
  await Promise.all(work);
  for (const pause of [all, ...pauses]) pause.mark();

  const [first] = loaded;
  if (first === undefined) throw new Error('no zone');
  await ledger.finish(first);
  for (const [place, target] of loaded.entries()) {
    const lost = await ledger.lost(target, place === 0 ? Number.MAX_SAFE_INTEGER : 0);
    faults.push(...lost.map((what) => `lost, as zone ${String(place + 1)} says: ${what}`));
  }
  faults.push(...(await ledger.broken(first)), ...ledger.surprises, ...suspensions.breaches);
  const auditIds = ledger.takeAuditIds();
  faults.push(...(await missingEntries(clients, auditIds)));
  for (const client of clients) client.close();
  return {
    counts: {
      acknowledged,
      ...(ledger.counts as Record<string, number>),
      ...suspensions.counts,
      auditIds: auditIds.length,
    },
    pauses: Object.fromEntries([
      ['all', all.longest],
      ...pauses.map(({ longest }, place) => [`zone ${String(place + 1)}`, longest] as const),
    ]),
    refusals: [...ledger.refusals].toSorted(),
    faults,
  };
}

/** Entries of answers that were acknowledged and are not in the log. Lanes are read whole, newest last. */
async function missingEntries(
  clients: readonly ZoneClient[],
  auditIds: readonly string[],
): Promise<string[]> {
  const [client] = clients;
  const wanted = new Set(auditIds);
  let token: unknown;
  do {
    const page = typeof token === 'string' ? `&pageToken=${encodeURIComponent(token)}` : '';
    const answer = await client?.request('GET', `/v1/audit/entries?pageSize=1000${page}`);
    if (answer?.status !== 200) throw new Error(`entries: ${String(answer?.status)}`);
    for (const { id } of answer.json['items'] as { id: string }[]) wanted.delete(id);
    token = answer.json['nextPageToken'];
  } while (typeof token === 'string' && wanted.size > 0);
  return [...wanted].map((id) => `the log lacks entry ${id} of an answer`);
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const first = await lines.next();
const order = JSON.parse(String(first.value)) as Order;
const verdict = await judge(order, lines.next());
process.stdout.write(`${JSON.stringify(verdict)}\n`);
process.exit(0);
