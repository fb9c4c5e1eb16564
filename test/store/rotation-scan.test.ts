import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { SUITES } from '../../src/crypto/suites.ts';
import { policyJson } from '../../src/keyring/rotation-policy.ts';
import { handleId } from '../../src/keyring/material.ts';
import type { LightKey, UsesAsked } from '../../src/rotation/ports.ts';
import { rowBytes } from '../../src/rotation/version-size.ts';
import { ReadGate } from '../../src/store/read-gate.ts';
import { createRotationScan } from '../../src/store/rotation-scan.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { FULL } from '../keyring/policies.ts';
import { startTestDatabase } from './database.ts';
import type { TestDatabase } from './database.ts';
import { active, attested, changer, insert, key, material, rejection } from './samples.ts';

let database: TestDatabase;
let store: Store;
let owner: pg.Client;
beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
  owner = new pg.Client(database.ownerUrl);
  await owner.connect();
}, 60_000);
afterAll(async () => {
  await owner.end();
  await store.close();
  await database.stop();
});

const ALL: UsesAsked = { ofAll: true, suites: [], superseded: false };
const scan = async (
  batch: number,
  namespace = 'default',
  uses = ALL,
): Promise<readonly LightKey[]> => {
  const found: LightKey[] = [];
  const keys = createRotationScan(store.pool, new ReadGate(1), batch).keys(namespace, uses);
  for await (const some of keys) found.push(...some);
  return found;
};

describe('the scan for a forecast', () => {
  const rows = Array.from({ length: 25 }, (_, index) =>
    key({ name: `scan-${String(index).padStart(2, '0')}`, labels: { shard: String(index % 3) } }),
  );

  it('gives each key once, in batches of any size', async () => {
    const changes = await changer(store);
    for (const row of rows) await changes.commit(insert(row));
    for (const batch of [1, 7, 25, 1_000]) {
      expect((await scan(batch)).map(({ id }) => id)).toEqual(rows.map(({ id }) => id));
    }
    expect(await scan(10, 'elsewhere')).toEqual([]);
  });

  it('gives primary, uses, labels, policy and suspension', async () => {
    const [first, second, third, fourth] = rows;
    if (!first || !second || !third || !fourth) throw new Error('no rows');
    await store.keys.reserveUses(handleId(first.id, 1), 64);
    await store.keys.reserveUses(handleId(first.id, 1), 256);
    const alter = (set: string, id: string, value: unknown) =>
      owner.query(
        `update public.key set ${set} where id = $1`,
        [id, value].slice(0, value === null ? 1 : 2),
      );
    await alter('rotation = $2', first.id, policyJson(FULL));
    await alter("suspended_at = now(), suspension_reason = 'x'", second.id, null);
    await alter('primary_version = null', third.id, null);
    await owner.query('alter table public.key disable trigger key_destroyed_when_due');
    await alter('destroyed_at = now()', fourth.id, null);
    const found = await scan(1_000);
    expect(found).toHaveLength(24);
    const of = (id: string) => found.find((each) => each.id === id);
    expect(of(first.id)).toEqual({
      id: first.id,
      name: first.name,
      purpose: 'wrap',
      labels: { shard: '0' },
      rotation: FULL,
      rotationHold: null,
      suspended: false,
      primary: {
        suite: 0x0101,
        activatedAt: active(first.id).activatedAt.getTime(),
        uses: 320,
        deactivateAt: null,
      },
      next: null,
      superseded: [],
    });
    expect(of(second.id)).toMatchObject({ suspended: true, primary: { uses: 0 } });
    expect(of(third.id)).toMatchObject({ primary: null });
    expect(of(fourth.id)).toBeUndefined();
  });

  it('gives the hold of an undone rotation while the key has the primary of it', async () => {
    const row = key({ name: 'scan-held' });
    const changes = await changer(store);
    await changes.commit(insert(row));
    const hold = { reason: 'r', primary: 1, policy: null, policyRevision: 3 };
    const stored = JSON.stringify({ at: '2030-01-01T00:00:00.000Z', ...hold });
    await owner.query('update public.key set rotation_hold = $2 where id = $1', [row.id, stored]);
    const held = async () => (await scan(1_000)).find(({ id }) => id === row.id)?.rotationHold;
    expect(await held()).toEqual({ at: new Date(Date.UTC(2030, 0, 1)), ...hold });
    await owner.query('update public.key set primary_version = null where id = $1', [row.id]);
    expect(await held()).toBeNull();
  });

  it('looks for uses where they are asked for: of a suite, and of policies that count them', async () => {
    const [first, second] = rows;
    if (!first || !second) throw new Error('no rows');
    await store.keys.reserveUses(handleId(second.id, 1), 7);
    const usesOf = async (uses: UsesAsked) => {
      const found = await scan(1_000, 'default', uses);
      return [first, second].map(({ id }) => found.find((each) => each.id === id)?.primary?.uses);
    };
    // The policy of the first counts them.
    expect(await usesOf({ ofAll: false, suites: [], superseded: false })).toEqual([320, 0]);
    expect(await usesOf({ ofAll: false, suites: [0x0401], superseded: false })).toEqual([320, 0]);
    expect(await usesOf({ ofAll: false, suites: [0x0401, 0x0101], superseded: false })).toEqual([
      320, 7,
    ]);
    expect(await usesOf(ALL)).toEqual([320, 7]);
  });

  it('gives what was set in advance, and when usable versions were superseded', async () => {
    const day = (n: number) => new Date(Date.UTC(2030, 0, n));
    const row = key({ name: 'scan-times' });
    const changes = await changer(store);
    await changes.commit(insert(row));
    const copy = (set: Readonly<Record<string, string>>) =>
      owner.query(
        `insert into public.key_version select (jsonb_populate_record(v, $2)).*
          from public.key_version v where key_id = $1 and version = 1`,
        [row.id, JSON.stringify(set)],
      );
    const none = { activated_at: null, deactivate_at: null } as unknown as Record<string, string>;
    await owner.query('update public.key_version set activated_at = $2 where key_id = $1', [
      row.id,
      day(1),
    ]);
    const made = (version: number, set: object) => copy({ version: String(version), ...set });
    const [second, third] = [day(2).toISOString(), day(3).toISOString()];
    await made(2, { activated_at: second });
    await made(3, { activated_at: third, deactivate_at: day(30).toISOString() });
    const waits = { state: 'pre-active', ...none };
    await made(4, { ...waits, activate_at: day(21).toISOString(), suite: String(0x0102) });
    await made(5, { ...waits, activate_at: day(20).toISOString() });
    await made(6, waits);
    await owner.query(
      'update public.key set primary_version = 3, latest_version = 6 where id = $1',
      [row.id],
    );
    const found = async (superseded: boolean) => {
      const all = await scan(7, 'default', { ofAll: true, suites: [], superseded });
      return all.find(({ id }) => id === row.id);
    };
    expect(await found(true)).toMatchObject({
      primary: { activatedAt: day(3).getTime(), deactivateAt: day(30).getTime() },
      next: { suite: 0x0101, activateAt: day(20).getTime() },
      superseded: [day(2).getTime(), day(3).getTime()],
    });
    expect(await found(false)).toMatchObject({ superseded: [] });
    // What is closed is not retired again.
    await owner.query('update public.key set min_usable_version = 2 where id = $1', [row.id]);
    expect(await found(true)).toMatchObject({ superseded: [day(3).getTime()] });
    await owner.query('update public.key set primary_version = null where id = $1', [row.id]);
    expect(await found(true)).toMatchObject({ primary: null, next: { suite: 0x0101 } });
  });

  it('refuses a policy that nobody here can mean', async () => {
    const [first] = rows;
    await owner.query(`update public.key set rotation = '{"interval":"P1D"}' where id = $1`, [
      first?.id,
    ]);
    expect(await rejection(scan(10))).toMatchObject({ code: 'integrity_failed' });
    await owner.query('update public.key set rotation = null where id = $1', [first?.id]);
  });
});

describe('the estimated size of a version', () => {
  it.each(['MLKEM768-P256', 'MLKEM1024-P384', 'ML-KEM-1024', 'ML-DSA-87'])(
    'of %s is within a tenth of its row',
    async (id) => {
      const suite = SUITES[id];
      if (suite === undefined || suite.pq === null) throw new Error('no such suite');
      const [row, curve] = [key(), { 'P-256': 65, 'P-384': 97 }];
      const seed = suite.kind === 'kem' ? 64 : 32;
      const length = suite.parts.find(({ half }) => half === 'pq')?.publicKeyLength ?? 0;
      const point =
        suite.hsm?.kind === 'ec' && suite.hsm.curve !== 'P-521' ? curve[suite.hsm.curve] : 0;
      const pq = {
        public: Uint8Array.from(randomBytes(length)),
        half: { custody: 'sealed', generation: 1, sealed: Uint8Array.from(randomBytes(29 + seed)) },
      } as const;
      const { classical, psk } = material();
      const ofHsm = classical && {
        public: Uint8Array.from(randomBytes(point)),
        hsm: { ...classical.hsm, check: Uint8Array.from(randomBytes(point)) },
      };
      const made = active(row.id, {
        suite: suite.number,
        material: { classical: suite.hsm && ofHsm, pq, psk: suite.kind === 'kem' ? psk : null },
      });
      const changes = await changer(store);
      await changes.commit([
        { kind: 'insert-key', row: attested(row) },
        { kind: 'insert-version', row: attested(made) },
      ]);
      const { rows: sizes } = await owner.query<{ bytes: number }>(
        'select pg_column_size(v.*) as bytes from public.key_version v where key_id = $1',
        [row.id],
      );
      const bytes = sizes[0]?.bytes ?? 0;
      expect(Math.abs(rowBytes(suite) / bytes - 1)).toBeLessThan(0.1);
    },
  );
});
