/** Load on all zones with a fault in the midst of it: for how long the zones that it did not strike paused. */
import { setTimeout as sleep } from 'node:timers/promises';

import type { Ledger } from '../e2e/ledger.ts';
import { ZONES } from './cluster.ts';
import type { Zone } from './cluster.ts';
import type { ZoneService } from './zone-service.ts';
import type { Zones } from './zones.ts';

const WORKERS = 4;
const CALM_MS = 3_000;

export interface Fault {
  readonly make: (zone: Zone) => void;
  readonly mend: (zone: Zone) => Promise<void> | void;
  /** Whether the zone's Twofold is gone, and has to be started again. */
  readonly losesService: boolean;
}

export interface UnderFault {
  readonly zones: Zones;
  readonly ledger: Ledger;
  readonly fault: Fault;
  /** How long it lasts. */
  readonly milliseconds: number;
}

/** Longest time between two acknowledgements of the zones, ms. */
class Pauses {
  #last = performance.now();
  longest = 0;

  mark(): void {
    const now = performance.now();
    this.longest = Math.max(this.longest, now - this.#last);
    this.#last = now;
  }
}

/** @returns the longest pause, ms, from before the fault until the cluster is whole again */
export async function under(
  { zones, ledger, fault, milliseconds }: UnderFault,
  zone: Zone,
): Promise<number> {
  let over = false;
  const pauses = new Pauses();
  const loads = ZONES.map((one) => {
    const target = zones.service(one);
    const marked = {
      get running() {
        return target.running;
      },
      request: async (...args: Parameters<ZoneService['request']>) => {
        const answer = await target.request(...args);
        if (one !== zone && answer.status < 300) pauses.mark();
        return answer;
      },
    };
    return ledger.load(marked, WORKERS, () => over);
  });
  await sleep(CALM_MS);
  fault.make(zone);
  await sleep(milliseconds);
  await fault.mend(zone);
  if (fault.losesService) await zones.service(zone).start();
  await zones.cluster.healthy();
  await sleep(CALM_MS);
  over = true;
  await Promise.all(loads);
  pauses.mark();
  return pauses.longest;
}
