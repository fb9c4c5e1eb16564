/**
 * Quorum commit (Patroni 4 or newer): a commit waits for whichever standby is first, so that the loss or
 * the silence of one of them pauses nothing. `scripts/test-zones` says so where `PATRONI` names no such.
 */
import { afterAll, beforeAll, expect, it } from '@jest/globals';

import { Ledger } from '../e2e/ledger.ts';
import { seeded } from './chaos/seeded.ts';
import { hasQuorumCommit } from './cluster.ts';
import type { Cluster } from './cluster.ts';
import { under } from './under-fault.ts';
import type { Fault } from './under-fault.ts';
import { Zones } from './zones.ts';

const FAULT_MS = 15_000;
const LONGEST_PAUSE_MS = 1_000;

let zones: Zones;
let cluster: Cluster;
const ledger = new Ledger(seeded(1), 0);

beforeAll(async () => {
  expect(hasQuorumCommit()).toBe(true);
  zones = await Zones.up();
  ({ cluster } = zones);
}, 180_000);

afterAll(async () => {
  await zones.down();
}, 60_000);

it.each<[string, Fault]>([
  [
    'stands still',
    {
      make: (zone) => cluster.signal(zone, 'SIGSTOP'),
      mend: (zone) => cluster.signal(zone, 'SIGCONT'),
      losesService: false,
    },
  ],
  [
    'is killed',
    {
      make: (zone) => cluster.signal(zone, 'SIGKILL'),
      mend: (zone) => cluster.restore(zone),
      losesService: true,
    },
  ],
])(
  "the others go on within a second when a standby's zone %s, and lose nothing",
  async (what, fault) => {
    const struck = await cluster.synchronousStandby();
    const pause = await under({ zones, ledger, fault, milliseconds: FAULT_MS }, struck);
    process.stdout.write(
      `a standby's zone ${what}: the others paused for ${pause.toFixed(0)} ms\n`,
    );
    const [other] = [1, 2, 3].filter((zone) => zone !== struck) as (1 | 2 | 3)[];
    await ledger.finish(zones.service(other ?? 1));
    expect(ledger.surprises).toEqual([]);
    for (const zone of [1, 2, 3] as const) {
      expect({ zone, lost: await ledger.lost(zones.service(zone)) }).toEqual({ zone, lost: [] });
    }
    expect(pause).toBeLessThan(LONGEST_PAUSE_MS);
  },
  240_000,
);
