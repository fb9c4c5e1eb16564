/** Rotations of the root over the memory HSM and store, with every step failing once. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mintGrant } from '../../src/access/grant.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { SCHEDULER } from '../../src/access/system.ts';
import { GOVERNED_FORMS, paceOf } from '../../src/main/root-rotation.ts';
import { RootRotation } from '../../src/keyring/root-rotation.ts';
import { followRoot, openRoot } from '../../src/keyring/root-opening.ts';
import { generationOf } from '../../src/keyring/root-mac.ts';
import { verifyStored } from '../../src/keyring/row-mac.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { generationsOf } from './memory-root-rotations.ts';
import { placeGeneration } from './place-generation.ts';
import { watchedHsm } from './watched-hsm.ts';
import { INSTALLATION, aRun, codeOf, openWorld } from './world.ts';
import type { World } from './world.ts';

const DATA = Buffer.from('data');

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.stop());

const place = (generation: number) => placeGeneration(world, generation);

const begin = (reason = 'yearly', dryRun = false) =>
  world.rootRotations.begin(
    world.grant('root.rotate', null),
    { generation: null, reason },
    {
      ...aRun(),
      dryRun,
      render: (view) => ({ status: 202, body: JSON.stringify(view) }),
    },
  );

const grantOf = <O extends 'operations.oversee' | 'root.carry-out'>(operation: O) =>
  mintGrant({
    operation,
    namespace: 'default',
    key: null,
    principal: SCHEDULER,
    decision: { allowed: true, revision: 'test', policies: [] },
    epoch: world.epoch.current,
  });

function worker(altered: string[] = [], rests: number[] = []): RootRotation {
  return new RootRotation(
    {
      ...world.governing,
      clock: () => new Date(),
      operations: world.store.operations,
      root: world.root,
      roots: world.store,
      rotations: world.store.rotations,
      forms: GOVERNED_FORMS,
      batch: 32,
      rest: ({ rows }) => {
        rests.push(rows);
        return Promise.resolve();
      },
      onFailure: (what) => altered.push(what),
    },
    {
      oversee: () => grantOf('operations.oversee'),
      carryOut: () => grantOf('root.carry-out'),
    },
  );
}

const rotate = async () => {
  await begin();
  await worker().run(() => Promise.resolve(true));
};

const rotation = async () => {
  const { items } = await world.rootRotations.list(world.grant('root.read', null), {
    pageSize: 1,
    after: null,
  });
  return items[0];
};

const left = async (generation: number) =>
  (await world.store.rotations.references()).filter((each) => each.generation !== generation);

describe('a rotation', () => {
  it('moves every half, secret and MAC, and everything serves as before', async () => {
    const hybrid = await world.create();
    const symmetric = await world.create({ suite: 'A256GCM' });
    const signing = await world.create({ suite: 'MLDSA65-ECDSA-P256-SHA512' });
    const before = [await world.wrap(hybrid, 'one'), await world.wrap(symmetric, 'two')];
    const old = await world.root.mac(DATA);
    const value = await world.root.valueMac(DATA);
    await place(2);
    await rotate();
    expect(await left(2)).toEqual([]);
    expect(await rotation()).toMatchObject({
      state: 'succeeded',
      counts: { altered: 0, versions: 3 },
    });
    for (const { value: version } of world.store.rows.versions.values()) {
      expect(new Set(generationsOf(version))).toEqual(new Set([2]));
    }
    expect(await world.unwrap(hybrid, before[0] ?? new Uint8Array())).toBe('one');
    expect(await world.unwrap(symmetric, before[1] ?? new Uint8Array())).toBe('two');
    // Old MACs verify as long as their generation is open, and values are found by the same MAC for ever.
    expect(await world.root.mac(DATA, old)).toEqual(old);
    expect(generationOf(await world.root.mac(DATA), 1)).toBe(2);
    expect(await world.root.valueMac(DATA)).toEqual(value);
    // A process that starts now reads what is there, with the old generation gone from the token.
    world.store.roots = world.store.roots.map((row) =>
      row.generation === 1 ? { ...row, state: 'retired' } : row,
    );
    world.device.token.roots.delete(`${INSTALLATION}/1`);
    const next = await world.second();
    expect(await next.unwrap(hybrid, before[0] ?? new Uint8Array())).toBe('one');
    const { key } = await next.keyring.read.get(next.grant('keys.read', signing));
    expect(key.id).toBe(signing);
    expect(await next.unwrap(symmetric, before[1] ?? new Uint8Array())).toBe('two');
  });

  it('rests after each few rows of a batch, for all that it moves', async () => {
    for (let key = 0; key < 20; key += 1) await world.create({ suite: 'HS256' });
    await place(2);
    await begin();
    const rests: number[] = [];
    await worker([], rests).run(() => Promise.resolve(true));
    const { state, position = 0 } = (await rotation()) ?? {};
    expect([state, rests.slice(0, 4)]).toEqual(['succeeded', [16, 4, 16, 4]]);
    expect(Math.max(...rests)).toBe(16);
    // What a rotation takes over is no row of a table.
    expect(rests.reduce((sum, rows) => sum + rows, 0)).toBe(position - 1);
  });

  it('puts what is made after its beginning under the new generation', async () => {
    await place(2);
    await begin();
    const id = await world.create();
    const made = [...world.store.rows.versions.values()].filter(({ value }) => value.keyId === id);
    for (const { value, mac } of made) {
      expect(new Set(generationsOf(value))).toEqual(new Set([2]));
      expect(generationOf(mac, 1)).toBe(2);
    }
    expect(made).toHaveLength(1);
  });

  it('is one at a time, takes the newest complete generation, and can be tried dry', async () => {
    expect(await codeOf(begin())).toBe('conflict');
    await world.store.intend(2, INSTALLATION);
    // An empty generation: its ceremony has not ended.
    expect(await codeOf(begin())).toBe('conflict');
    world.store.roots = world.store.roots.filter(({ generation }) => generation === 1);
    await place(2);
    await begin('try', true);
    expect(world.store.roots.map(({ state }) => state)).toEqual(['in-force', 'complete']);
    const both = await Promise.allSettled([begin('first'), begin('second')]);
    expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(await codeOf(begin('third'))).toBe('conflict');
    await worker().run(() => Promise.resolve(true));
    expect(await codeOf(begin('again'))).toBe('conflict');
  });

  it('waits until every instance has opened the generation', async () => {
    await place(2);
    const elsewhere = { id: 'other', zone: 'z2', generations: [1], epochSeen: 1 };
    world.store.rotations.instances = [elsewhere];
    await expect(begin()).rejects.toThrow(/z2/u);
    const { generations } = await world.rootRotations.facts(world.grant('root.read', null));
    expect(generations.map(({ missing }) => missing.length)).toEqual([0, 1]);
    world.store.rotations.instances = [{ ...elsewhere, generations: [1, 2] }];
    await begin();
  });

  it('goes on after another, to the third generation', async () => {
    const id = await world.create();
    const wrapped = await world.wrap(id, 'text');
    await place(2);
    await rotate();
    await place(3);
    await begin();
    await worker().run(() => Promise.resolve(true));
    expect(await left(3)).toEqual([]);
    expect(await world.unwrap(id, wrapped)).toBe('text');
    expect(world.store.roots.map(({ kept }) => kept?.value.generation)).toEqual([3, 3, undefined]);
  });

  it('leaves what was altered as it is, and says so', async () => {
    const id = await world.create();
    await world.create();
    await place(2);
    const [slot, row] =
      [...world.store.rows.versions].find(([, { value }]) => value.keyId === id) ?? [];
    if (slot === undefined || row === undefined) throw new TypeError('no version');
    world.store.rows.versions.set(slot, { ...row, value: { ...row.value, suite: 0x0102 } });
    await begin();
    const altered: string[] = [];
    await worker(altered).run(() => Promise.resolve(true));
    expect(altered).toContain('version');
    expect(await rotation()).toMatchObject({ state: 'failed', counts: { altered: 1 } });
    expect(world.store.rows.versions.get(slot)?.mac).toEqual(row.mac);
  });

  it('meets changes of the rows that it moves: both take effect', async () => {
    const id = await world.create();
    const wrapped = await world.wrap(id, 'text');
    await place(2);
    await begin();
    let once = true;
    world.device.meanwhile = async (call) => {
      if (call !== 'rewrap' || !once) return;
      once = false;
      const reason = { reason: 'meanwhile' };
      await world.keyring.manage.rotate(world.grant('keys.rotate', id), {}, aRun());
      await world.keyring.manage.suspend(world.grant('keys.suspend', id), reason, aRun());
    };
    await worker().run(() => Promise.resolve(true));
    expect(await left(2)).toEqual([]);
    await world.keyring.manage.resume(world.grant('keys.resume', id), { reason: 'over' }, aRun());
    expect(await world.unwrap(id, wrapped)).toBe('text');
  });
});

describe('a rotation that is cut off', () => {
  /** One run with the call of that number failing, and one without; how many calls the first one made. */
  async function cutAt(cut: number, kind: 'before' | 'after'): Promise<number> {
    const ids = [await world.create(), await world.create({ suite: 'A256GCM' })];
    const wrapped = await Promise.all(ids.map((id) => world.wrap(id, id)));
    await place(2);
    await begin();
    const { device, store } = world;
    let calls = 0;
    const fault = () => ((calls += 1) === cut ? kind : 'none');
    device.fault = (call) => (call === 'forget' ? 'none' : fault());
    store.rotations.fault = fault;
    await worker()
      .run(() => Promise.resolve(true))
      .catch((error: unknown) => error);
    const made = calls;
    device.fault = () => 'none';
    store.rotations.fault = () => 'none';
    for (const [index, id] of ids.entries()) {
      expect(await world.unwrap(id, wrapped[index] ?? new Uint8Array())).toBe(id);
      const stored = await store.find('default', { id }, world.epoch.current);
      if (stored !== null) await verifyStored(world.root.mac, stored);
    }
    await worker().run(() => Promise.resolve(true));
    expect(await left(2)).toEqual([]);
    expect(await rotation()).toMatchObject({ state: 'succeeded', counts: { versions: 2 } });
    return made;
  }

  it.each(['before', 'after'] as const)('%s a step is completed by the next', async (kind) => {
    for (let cut = 1; ; cut += 1) {
      const calls = await cutAt(cut, kind);
      if (calls < cut) break;
      await world.stop();
      world = await openWorld();
    }
  });

  it('by an HSM that is away from a call on runs still, counts nothing as altered, and ends', async () => {
    let cut = 1;
    for (; ; cut += 1) {
      const id = await world.create();
      const wrapped = await world.wrap(id, 'text');
      await place(2);
      await begin();
      const altered: string[] = [];
      let calls = 0;
      world.device.fault = (call) => (call !== 'forget' && (calls += 1) >= cut ? 'before' : 'none');
      const code = await codeOf(worker(altered).run(() => Promise.resolve(true)));
      world.device.fault = () => 'none';
      if (calls < cut) break;
      expect([cut, code]).toEqual([cut, 'hsm_unavailable']);
      expect(await rotation()).toMatchObject({ state: 'running', counts: { altered: 0 } });
      expect(await world.unwrap(id, wrapped)).toBe('text');
      await worker(altered).run(() => Promise.resolve(true));
      expect(await left(2)).toEqual([]);
      const ended = { state: 'succeeded', counts: { altered: 0, versions: 1 } };
      expect(await rotation()).toMatchObject(ended);
      expect(altered).toEqual([]);
      expect(await world.unwrap(id, wrapped)).toBe('text');
      await world.stop();
      world = await openWorld();
    }
    // Rows, halves, and the audit key of the old generation.
    expect(cut).toBeGreaterThan(10);
  });
});

describe('generations that do not fit together', () => {
  const start = () =>
    openRoot(watchedHsm(world.device.token).hsm, world.store, new UsageCounters(world.store), null);

  it('stop a start: one that the token lacks, and one that the database does not know', async () => {
    await place(2);
    world.device.token.roots.delete(`${INSTALLATION}/2`);
    await expect(start()).rejects.toThrow(/holds root generation 2 .* but the token does not/u);
    world.device.token.makeRoot({ generation: 2, installation: INSTALLATION });
    world.store.roots = world.store.roots.filter(({ generation }) => generation === 1);
    await expect(start()).rejects.toThrow(/token holds root generation 2/u);
    expect(world.store.roots).toHaveLength(1);
  });

  it('one that went from the token before anything was under it is not open any more', async () => {
    const { hsm, store, root, device } = world;
    await place(2);
    expect(root.generations).toEqual([1, 2]);
    const { token } = device;
    const placed = token.roots.get(`${INSTALLATION}/2`);
    // As a join that is withdrawn takes along what it had placed.
    token.roots.delete(`${INSTALLATION}/2`);
    const follow = () => followRoot(hsm, store, root, () => false);
    await expect(follow()).rejects.toThrow(/root generation 2 .* the token does not/u);
    expect(root.generations).toEqual([1]);
    if (placed === undefined) throw new TypeError('no root');
    token.roots.set(`${INSTALLATION}/2`, placed);
    await follow();
    expect(root.generations).toEqual([1, 2]);
    // Once it is in force, what it served is not given up for a look at the token.
    await begin();
    token.roots.delete(`${INSTALLATION}/1`);
    await follow();
    expect(root.generations).toEqual([1, 2]);
  });

  it('an empty one is left to its ceremony, and nothing is made under it', async () => {
    await world.store.intend(2, INSTALLATION);
    world.device.token.makeRoot({ generation: 2, installation: INSTALLATION });
    const root = await start();
    expect(root.generations).toEqual([1]);
    expect(root.generation).toBe(1);
  });

  it('a canary that is not its own stops the start', async () => {
    await place(2);
    world.store.roots = world.store.roots.map((row, index, all) =>
      index === 1 ? { ...row, canary: all[0]?.canary ?? null } : row,
    );
    expect(await codeOf(start())).toBe('integrity_failed');
  });

  it('MACs of a generation that is not open equal none, whatever is stated', async () => {
    const { root } = world;
    const genuine = await root.mac(DATA);
    const stated = [
      new Uint8Array(0),
      new Uint8Array(32),
      Buffer.concat([Buffer.from([0, 0, 0, 7]), genuine]),
      Buffer.concat([Buffer.from([0, 0, 0, 1]), genuine]),
      Buffer.concat([genuine, Buffer.from([0])]),
    ];
    for (const like of stated) {
      expect(Buffer.from(await root.mac(DATA, like)).equals(Buffer.from(like))).toBe(false);
    }
    const half = await root.seal(SecretBytes.own(Buffer.from('seed')), {
      ...{ keyId: INSTALLATION, version: 1, suite: 1, part: 'pq' },
    });
    expect(half.generation).toBe(1);
  });
});

describe('its pace', () => {
  /** Rows a second of so many batches of 60 that take `ms` each, where a rest overruns by `over`. */
  const perSecond = (ms: number, over: number): number => {
    let now = 5_000;
    const pauseAfter = paceOf(300, () => now);
    const first = now;
    for (let batch = 0; batch < 100; batch += 1) {
      now += ms;
      now += pauseAfter({ rows: 60, ms }) + over;
    }
    return (60 * 100 * 1_000) / (now - first);
  };

  it('is the one that is configured, though rests take longer than they should', () => {
    expect(perSecond(50, 0)).toBeCloseTo(300, 0);
    expect(perSecond(50, 30)).toBeCloseTo(300, -0.5);
  });

  it('leaves requests a share of the time where batches take longer than they may', () => {
    expect(perSecond(400, 0)).toBeCloseTo((60 * 1_000) / 440, 0);
  });

  it('catches up with no more than half a second of what was late', () => {
    let now = 0;
    const pauseAfter = paceOf(300, () => now);
    const restAfter = (ms: number): number => {
      now += ms;
      const rest = pauseAfter({ rows: 60, ms });
      now += rest;
      return rest;
    };
    expect(restAfter(20)).toBeCloseTo(180, 5);
    now += 10_000;
    const rests = Array.from({ length: 6 }, () => restAfter(20));
    expect(rests.map(Math.round)).toEqual([2, 2, 36, 180, 180, 180]);
  });
});
