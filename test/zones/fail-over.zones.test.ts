/**
 * P6 on a replicated database: whatever one zone loses, what was acknowledged is there afterwards, the
 * other zones go on, and every refusal meanwhile is a documented one.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { Ledger } from '../e2e/ledger.ts';
import { seeded } from './chaos/seeded.ts';
import { ZONES } from './cluster.ts';
import type { Cluster, Zone } from './cluster.ts';
import { under } from './under-fault.ts';
import type { Fault } from './under-fault.ts';
import type { ZoneService } from './zone-service.ts';
import { Zones } from './zones.ts';

const SEED = Number(process.env['ZONES_SEED'] ?? '1');
/** How long a fault lasts; longer than the 8 s after which Patroni takes a leader for lost. */
const FAULT_MS = 20_000;
/** From the fault on, until the other zones write again. */
const LONGEST_PAUSE_MS = 16_000;

let zones: Zones;
let cluster: Cluster;
const ledger = new Ledger(seeded(SEED), 0);
const service = (zone: Zone): ZoneService => zones.service(zone);

beforeAll(async () => {
  zones = await Zones.up();
  ({ cluster } = zones);
}, 180_000);

afterAll(async () => {
  await zones.down();
}, 60_000);

const report = (fault: string, pause: number) =>
  process.stdout.write(
    `${fault}: the others paused for ${pause.toFixed(0)} ms at most; acknowledged so far: ` +
      `${JSON.stringify(ledger.counts)}\n`,
  );

/** Asks again until it holds, as a client does while a fail-over lasts. */
async function eventually(holds: () => Promise<void>): Promise<void> {
  const until = performance.now() + 40_000;
  for (;;) {
    try {
      await holds();
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
      await sleep(200);
    }
  }
}

/** Every zone is asked, since each has caches of its own. */
async function expectKept(): Promise<void> {
  await ledger.finish(service(1));
  expect(ledger.surprises).toEqual([]);
  for (const zone of ZONES) {
    expect({ zone, lost: await ledger.lost(service(zone)) }).toEqual({ zone, lost: [] });
  }
  expect(await ledger.broken(service(2))).toEqual([]);
}

const REFUSED = { status: 503 };

describe('three zones', () => {
  it.each<[string, Fault]>([
    [
      'is killed',
      {
        make: (zone) => cluster.signal(zone, 'SIGKILL'),
        mend: (zone) => cluster.restore(zone),
        losesService: true,
      },
    ],
    [
      'is cut from everything',
      {
        make: (zone) => cluster.cut(zone),
        mend: (zone) => cluster.heal(zone),
        losesService: false,
      },
    ],
    [
      'stands still',
      {
        make: (zone) => cluster.signal(zone, 'SIGSTOP'),
        mend: (zone) => cluster.signal(zone, 'SIGCONT'),
        losesService: false,
      },
    ],
  ])(
    'go on and lose nothing when the zone of the primary %s',
    async (what, fault) => {
      const pause = await under(
        { zones, ledger, fault, milliseconds: FAULT_MS },
        await cluster.leader(),
      );
      report(`primary's zone ${what}`, pause);
      await expectKept();
      expect(pause).toBeLessThan(LONGEST_PAUSE_MS);
    },
    180_000,
  );

  it('read entries of the log from a standby, and show the whole of it', async () => {
    const name = 'much-used';
    const made = await service(1).request('POST', '/v1/admin/keys', { name, suite: 'A256GCM' });
    expect(made.status).toBe(201);
    const plaintext = Buffer.from('a data key').toString('base64');
    for (let use = 0; use < 300; use += 1) {
      const { status } = await service(1).request('POST', `/v1/keys/${name}/wrap`, { plaintext });
      expect(status).toBe(200);
    }
    // What a standby's sessions asked last.
    const sessions = `select query from pg_stat_activity
      where pg_is_in_recovery() and application_name = 'twofold' and query like '%log_run%'`;
    await eventually(async () => {
      const lines = (await zones.site.audit(1, 'tail', '--from', '0')).split('\n');
      expect(lines.length).toBeGreaterThan(300);
      const found = await Promise.all(ZONES.map((zone) => cluster.ask(zone, sessions)));
      expect(found.flat()).not.toEqual([]);
    });
  }, 180_000);

  it('go on and lose nothing when the zone of the synchronous standby is killed', async () => {
    const fault: Fault = {
      make: (zone) => cluster.signal(zone, 'SIGKILL'),
      mend: (zone) => cluster.restore(zone),
      losesService: true,
    };
    const pause = await under(
      { zones, ledger, fault, milliseconds: FAULT_MS },
      await cluster.synchronousStandby(),
    );
    report("standby's zone is killed", pause);
    await expectKept();
    expect(pause).toBeLessThan(LONGEST_PAUSE_MS);
  }, 180_000);

  it('let no answer out of a primary that nobody stopped and another has replaced', async () => {
    const stale = await cluster.leader();
    // Without a proxy in between, nobody ends its sessions: reads there go on succeeding.
    await service(stale).stop();
    const late = await zones.replace(stale, cluster.directUrl(stale));
    const name = 'to-be-suspended';
    await expect(
      late.request('POST', '/v1/admin/keys', { name, suite: 'MLKEM768-P256' }),
    ).resolves.toMatchObject({ status: 201 });
    const plaintext = Buffer.from('a data key').toString('base64');
    const wrapped = await late.request('POST', `/v1/keys/${name}/wrap`, { plaintext });
    const { ciphertext } = wrapped.json;

    cluster.signalPart(stale, 'patroni', 'SIGSTOP');
    try {
      const other = service(ZONES.find((zone) => zone !== stale) ?? stale);
      // Before that, the suspension would go through the old primary, and be nothing to test.
      await eventually(async () => {
        expect(await cluster.leaderSeenFrom(other.zone)).not.toBe(stale);
      });
      await eventually(async () => {
        const answer = await other.request('POST', `/v1/admin/keys/${name}/suspend`, {
          reason: 'a test',
        });
        expect(answer.status).toBe(200);
      });
      const asked = Array.from({ length: 8 }, () =>
        late.request('POST', `/v1/keys/${name}/unwrap`, { ciphertext }),
      );
      for (const answer of await Promise.all(asked)) expect(answer).toMatchObject(REFUSED);
    } finally {
      cluster.signalPart(stale, 'patroni', 'SIGCONT');
    }
    await cluster.healthy();
    await late.stop();
    const back = await zones.replace(stale);
    const answer = await back.request('POST', `/v1/keys/${name}/unwrap`, { ciphertext });
    expect([answer.status, answer.json.code]).toEqual([409, 'version_not_usable']);
    await back.request('POST', `/v1/admin/keys/${name}/resume`, { reason: 'a test' });
    await expectKept();
  }, 180_000);
});
