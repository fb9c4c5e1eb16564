/**
 * P6: the database is killed under load. The server starts it again by itself; what it had
 * acknowledged is kept, what it cannot make durable it refuses, and it needs no restart.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import type { PooledHsm } from '../../src/hsm/pool.ts';
import type { HsmKey } from '../../src/hsm/port.ts';
import { attestIntent } from '../../src/keyring/row-mac.ts';
import { brokenChains } from '../audit/instances.ts';
import { entriesAfter, openTokenOf, strayTokenObjects, withDatabaseOf } from '../e2e/inspection.ts';
import { testSeed } from '../e2e/kill-driver.ts';
import { Ledger } from '../e2e/ledger.ts';
import { leftOf, ofProcess, processesOf } from '../e2e/processes.ts';
import { TestService } from '../e2e/service.ts';
import { eventually } from '../store/eventually.ts';
import { seeded } from '../store/embedded-harness.ts';

/** One short outage and one long; P6_ROUNDS makes it more. */
const ROUNDS = Number(process.env['P6_ROUNDS'] ?? 2);
/** Longer than a heartbeat stands for the database, by which `/readyz` goes. */
const LONG_MS = 5_000;
const random = seeded(testSeed());
const auditIds: string[] = [];

let service: TestService;
let ledger: Ledger;

beforeAll(async () => {
  service = await TestService.start();
  ledger = new Ledger(random, 20);
}, 120_000);

afterAll(async () => {
  await service.destroy();
  expect(await leftOf(service.dataDir)).toEqual([]);
});

const ready = async (): Promise<boolean> =>
  (await service.request('GET', '/readyz', undefined, { role: null })).status === 200;

const databaseProcesses = (): number[] =>
  processesOf(service.dataDir).filter((pid) => /postgres/u.test(ofProcess(pid, 'cmdline')));

/** Keeps the database away for a while: it is started again by the server, and killed again. */
async function keepDatabaseAway(milliseconds: number): Promise<void> {
  const until = performance.now() + milliseconds;
  do {
    killDatabase();
    await sleep(25);
  } while (performance.now() < until);
}

/** kill -9 of postmaster and backends alike, so that nothing is written on the way. */
function killDatabase(): void {
  for (const pid of databaseProcesses()) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It went with its postmaster.
    }
  }
}

/** Readiness, seen every few milliseconds until `isOver`. */
async function watchReadiness(isOver: () => boolean): Promise<boolean[]> {
  const seen: boolean[] = [];
  while (!isOver()) {
    seen.push(await ready());
    await sleep(10);
  }
  return seen;
}

describe('P6: the database is lost and comes back', () => {
  it('is refused meanwhile, recovers without a restart, and has lost nothing', async () => {
    const { pid } = service;
    for (let round = 0; round < ROUNDS; round += 1) {
      let over = false;
      const load = ledger.load(service, 6, () => over);
      const readiness = watchReadiness(() => over);
      await sleep(100 + random() * 500);
      const long = round % 2 === 1;
      await keepDatabaseAway(long ? LONG_MS : 0);
      await eventually(ready, 60_000);
      await sleep(200);
      over = true;
      await load;
      // An outage shorter than the second that an append may take is ridden out.
      if (long) expect(await readiness).toContain(false);
      await readiness;
      auditIds.push(...ledger.takeAuditIds());
      await ledger.finish(service);
      expect(await ledger.lost(service, 50)).toEqual([]);
    }
    expect({ pid: service.pid, running: service.running }).toEqual({ pid, running: true });
    process.stdout.write(`${JSON.stringify(ledger.counts)} ${[...ledger.refusals].join(', ')}\n`);
    expect(ledger.surprises).toEqual([]);
    expect([...ledger.refusals].filter((code) => !code.endsWith('_unavailable'))).toEqual([]);
    expect(ledger.refusals.size).toBeGreaterThan(0);
    expect(await ledger.broken(service)).toEqual([]);
  }, 300_000);

  it('every acknowledged request is in the log, whose chains are whole', async () => {
    auditIds.push(...ledger.takeAuditIds());
    const entries = await withDatabaseOf(service.dataDir, (client) => entriesAfter(client, 0));
    const outcomes = new Map(entries.map(({ id, outcome }) => [id, outcome]));
    expect(auditIds.length).toBeGreaterThan(0);
    expect(auditIds.filter((id) => outcomes.get(id) !== 'ok')).toEqual([]);
    expect(brokenChains(entries)).toEqual([]);
  }, 60_000);

  it('a restart removes what was begun and never became a key', async () => {
    const hsm = await openTokenOf(service.dataDir);
    const stray = () => withDatabaseOf(service.dataDir, (client) => strayTokenObjects(client, hsm));
    try {
      const before = await stray();
      await plantOrphan(hsm);
      expect(await stray()).toHaveLength(before.length + (before.length === 0 ? 2 : 1));
      expect(await service.stop()).toBe(0);
      service = await TestService.start({ dataDir: service.dataDir });
      expect(await stray()).toEqual([]);
    } finally {
      await hsm.close();
    }
    expect(await ledger.broken(service)).toEqual([]);
  }, 120_000);
});

/** The service's own `root-mac`, in the token. */
async function rootMacOf(hsm: PooledHsm): Promise<HsmKey> {
  const { rows } = await withDatabaseOf(service.dataDir, (client) =>
    client.query<{ generation: number; mac_blob: Buffer; mac_check: Buffer }>(
      'select generation, mac_blob, mac_check from public.root_generation',
    ),
  );
  const [row] = rows;
  const [root] = await hsm.roots();
  if (row === undefined || root === undefined) throw new Error('there is no root');
  await hsm.useRoot(root);
  const { generation, mac_blob: blob, mac_check: check } = row;
  const material = { custody: 'hsm-wrapped', generation, blob, check } as const;
  return { id: 'root-mac', spec: { kind: 'hmac', hash: 'SHA-256', bytes: 32 }, material };
}

/** What a process leaves that is killed between the object and the row that would name it. */
async function plantOrphan(hsm: PooledHsm): Promise<void> {
  const [root] = await hsm.roots();
  const installation = root?.installation ?? '';
  const objectId = Buffer.concat([
    Buffer.from(installation.replaceAll('-', ''), 'hex'),
    randomBytes(21),
  ]);
  const rootMac = await rootMacOf(hsm);
  const tokenSerial = hsm.status().token?.serial ?? '';
  const intent = {
    objectId,
    installation,
    tokenSerial,
    instance: randomUUID(),
    createdAt: new Date(),
  };
  const { mac } = await attestIntent((data) => hsm.mac(rootMac, data), intent);
  await withDatabaseOf(service.dataDir, (client) =>
    client.query(
      `insert into public.token_intent
          (object_id, installation, token_serial, instance, created_at, mac)
        values ($1, $2, $3, $4, $5, $6)`,
      [objectId, installation, tokenSerial, intent.instance, intent.createdAt, Buffer.from(mac)],
    ),
  );
  await hsm.generate({ kind: 'x25519', use: 'derive' }, { custody: 'hsm-token', objectId });
}
