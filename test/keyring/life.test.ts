/** Activation, deactivation, compromise, times set in advance, and destruction: what each refuses and leaves. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Grant, Operation } from '../../src/access/grant.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { ChangeDone, ChangeRun } from '../../src/keyring/operations.ts';
import { removeOrphans } from '../../src/keyring/orphans.ts';
import { aKey, aRun, codeOf, INSTALLATION, openWorld } from './world.ts';
import type { World } from './world.ts';

const DAY = 86_400_000;
const RULES = { minimumWaitMs: DAY, defaultWaitMs: 3 * DAY, backupHorizonMs: 10 * DAY };
const WHY = { reason: 'a drill' };

let world: World;
let now: number;
let key: string;
const inDays = (days: number) => new Date(now + days * DAY);

beforeEach(async () => {
  now = Date.parse('2030-01-01T00:00:00Z');
  world = await openWorld({ clock: () => new Date(now), destruction: RULES });
  key = await world.create({ suite: 'HS256' });
});
afterEach(() => world.stop());

const life = () => world.keyring.lifecycle;
const view = () => world.keyring.read.get(world.grant('keys.read', key));
const version = async (number: number) => (await view()).versions[number - 1];
const matching = async (): Promise<ChangeRun> => aRun({ ifMatch: (await view()).key.revision });
const g = <O extends Operation>(operation: O): Grant<O> => world.grant(operation, key);
const rotate = (input = {}) => world.keyring.manage.rotate(g('keys.rotate'), input, aRun());
const deactivate = (number: number) =>
  life().deactivateVersion(g('versions.deactivate'), { version: number, ...WHY }, aRun());
const compromise = (number: number, more = {}) =>
  life().compromiseVersion(g('versions.compromise'), { version: number, ...WHY, ...more }, aRun());
const doom = async (number: number, more = {}) =>
  life().scheduleVersionDestruction(
    g('versions.schedule-destruction'),
    { version: number, ...WHY, ...more },
    await matching(),
  );
const doomKey = async (more = {}) =>
  life().scheduleDestruction(g('keys.schedule-destruction'), { ...WHY, ...more }, await matching());
const destroy = (number: number) =>
  life().destroyVersion(g('versions.destroy'), { version: number }, aRun());
const destroyKey = () => life().destroyKey(g('keys.destroy'), aRun());
const mac = () =>
  world.keyring.use
    .mac(g('mac'), { message: Buffer.from('m') })
    .then(({ used }) => used.keyVersion);

describe('times set in advance', () => {
  it('make a version that protects only once it is activated', async () => {
    await rotate({ activateAt: inDays(2) });
    expect(await version(2)).toMatchObject({ state: 'pre-active', activateAt: inDays(2) });
    expect(await mac()).toBe(1);
    const due = () => life().activateDue(g('versions.activate'), { version: 2 }, aRun());
    expect(await codeOf(due())).toBe('version_not_usable');
    now += 2 * DAY;
    await due();
    expect(await mac()).toBe(2);
  });

  it('leave a created key without a primary until then', async () => {
    const input = aKey({ suite: 'HS256', activateAt: inDays(1) });
    await world.keyring.manage.create(world.grant('keys.create', input.name), input, aRun());
    key = input.name;
    expect(await codeOf(mac())).toBe('version_not_usable');
    await life().activateVersion(g('versions.activate'), { version: 1, ...WHY }, aRun());
    expect(await mac()).toBe(1);
  });

  it('are to come, and within thirty years', async () => {
    for (const activateAt of [new Date(now), inDays(-1), inDays(31 * 365)]) {
      expect(await codeOf(rotate({ activateAt }))).toBe('invalid_value');
    }
    const set = (input: object) =>
      life().scheduleVersion(g('versions.schedule'), { version: 1, ...input }, aRun());
    expect(await codeOf(set({ deactivateAt: inDays(-1) }))).toBe('invalid_value');
    expect(await codeOf(set({ activateAt: inDays(1) }))).toBe('version_not_usable');
  });

  it('end the primary, which leaves the key without one', async () => {
    const set = { version: 1, deactivateAt: inDays(1) };
    await life().scheduleVersion(g('versions.schedule'), set, aRun());
    const due = () => life().deactivateDue(g('versions.deactivate'), { version: 1 }, aRun());
    expect(await codeOf(due())).toBe('version_not_usable');
    now += DAY;
    expect(await codeOf(mac())).toBe('version_not_usable');
    await due();
    expect((await view()).key.primary).toBeNull();
    expect(await version(1)).toMatchObject({ state: 'deactivated' });
    await rotate();
    expect(await mac()).toBe(2);
  });
});

describe('deactivation and compromise', () => {
  it('deactivation spares the primary, and is the same when repeated', async () => {
    expect(await codeOf(deactivate(1))).toBe('primary_protected');
    await rotate();
    const first = await deactivate(1);
    const again = await deactivate(1);
    expect(again.change?.changes).toBe(false);
    expect(again.change?.after.key.revision).toBe(first.change?.after.key.revision);
  });

  it('compromise of the primary leaves none until a rotation', async () => {
    await compromise(1);
    expect((await view()).key.primary).toBeNull();
    expect(await codeOf(mac())).toBe('version_not_usable');
    await rotate();
    expect(await mac()).toBe(2);
  });

  it('compromise with `replace` makes the next primary in the same change', async () => {
    const before = (await view()).key.revision;
    const { change } = await compromise(1, { replace: true });
    expect(change?.used.keyVersion).toBe(1);
    expect(change?.after.key).toMatchObject({ primary: 2, latestVersion: 2, revision: before + 1 });
    expect(await version(1)).toMatchObject({ state: 'compromised', revision: 2 });
    expect(await mac()).toBe(2);
  });

  it('compromise stands where no replacement may be made, which says why', async () => {
    await world.keyring.manage.suspend(g('keys.suspend'), WHY, aRun());
    const dry = await life().compromiseVersion(
      g('versions.compromise'),
      { version: 1, ...WHY, replace: true },
      aRun({ dryRun: true }),
    );
    expect(dry.change?.detail).toMatchObject({ replacementRefused: 'version_not_usable' });
    expect(await version(1)).toMatchObject({ state: 'active' });
    const { change } = await compromise(1, { replace: true });
    expect(change?.detail).toMatchObject({ replacementRefused: 'version_not_usable', ...WHY });
    expect(await version(1)).toMatchObject({ state: 'compromised', reason: 'a drill' });
    expect((await view()).key).toMatchObject({ primary: null, latestVersion: 1 });
    await world.keyring.manage.resume(g('keys.resume'), WHY, aRun());
    expect(await codeOf(mac())).toBe('version_not_usable');
    await rotate();
    expect(await mac()).toBe(2);
  });

  it('compromise stands where a quota that is counted at the commit refuses its replacement', async () => {
    const { store } = world;
    const commit = store.commit.bind(store);
    let refused = 0;
    store.commit = (change) => {
      if (!change.writes.some(({ kind }) => kind === 'insert-version')) return commit(change);
      refused += 1;
      return Promise.reject(new TwofoldError('quota_exceeded'));
    };
    try {
      const { change } = await compromise(1, { replace: true });
      expect(change?.detail).toMatchObject({ replacementRefused: 'quota_exceeded' });
    } finally {
      store.commit = commit;
    }
    expect(refused).toBe(1);
    expect(await version(1)).toMatchObject({ state: 'compromised' });
    expect((await view()).key).toMatchObject({ primary: null, latestVersion: 1 });
  });

  /** While it runs, the next so many generations are refused with a code; how many were asked for. */
  async function whileRefused(
    code: 'hsm_busy' | 'hsm_unavailable',
    times: number,
    run: () => Promise<void>,
  ) {
    const { device } = world;
    let asked = 0;
    device.fault = (call) => {
      if (call !== 'generate') return 'none';
      asked += 1;
      return asked > times ? 'none' : new TwofoldError(code);
    };
    try {
      await run();
    } finally {
      device.fault = () => 'none';
    }
    return asked;
  }

  it('compromise tries its replacement again where that failed by something that passes', async () => {
    const asked = await whileRefused('hsm_busy', 1, async () => {
      const { change } = await compromise(1, { replace: true });
      expect(change?.detail).not.toHaveProperty('replacementRefused');
    });
    expect(asked).toBe(2);
    expect(await mac()).toBe(2);
  });

  it('compromise that got no replacement gets it when it is asked for again', async () => {
    await whileRefused('hsm_unavailable', 3, async () => {
      const { change } = await compromise(1, { replace: true });
      expect(change?.detail).toMatchObject({ replacementRefused: 'hsm_unavailable' });
      expect(await version(1)).toMatchObject({ state: 'compromised' });
      expect((await view()).key.primary).toBeNull();
      expect(await codeOf(compromise(1, { replace: true }))).toBe('hsm_unavailable');
    });
    expect((await compromise(1)).change?.changes).toBe(false);
    await world.keyring.manage.suspend(g('keys.suspend'), WHY, aRun());
    const held = await compromise(1, { replace: true });
    expect(held.change).toMatchObject({
      changes: false,
      detail: { replacementRefused: 'version_not_usable' },
    });
    await world.keyring.manage.resume(g('keys.resume'), WHY, aRun());
    const { change } = await compromise(1, { replace: true });
    expect(change?.after.key).toMatchObject({ primary: 2, latestVersion: 2 });
    expect(change?.detail).toMatchObject({ version: 1, replacement: 2, ...WHY });
    expect(await version(1)).toMatchObject({ state: 'compromised', revision: 2 });
    expect(await mac()).toBe(2);
    expect((await compromise(1, { replace: true })).change?.changes).toBe(false);
  });

  it('an earlier version activated later does not become the primary', async () => {
    await rotate({ activateAt: inDays(2) });
    await rotate();
    await life().activateVersion(g('versions.activate'), { version: 2, ...WHY }, aRun());
    expect((await view()).key.primary).toBe(3);
  });
});

describe('destruction', () => {
  it('is asked for with If-Match, after the least wait, and not of what is in force', async () => {
    const input = { version: 1, ...WHY };
    const without = life().scheduleVersionDestruction(
      g('versions.schedule-destruction'),
      input,
      aRun(),
    );
    expect(await codeOf(without)).toBe('precondition_required');
    expect(await codeOf(doom(1))).toBe('primary_protected');
    await rotate();
    expect(await codeOf(doom(1))).toBe('version_not_usable');
    await deactivate(1);
    expect(await codeOf(doom(1, { at: inDays(0.9) }))).toBe('invalid_value');
    expect(await codeOf(doomKey({ afterMs: DAY - 1 }))).toBe('invalid_value');
    await doom(1);
    expect(await version(1)).toMatchObject({ destruction: { at: inDays(3) } });
  });

  it('is refused under deletion protection, which is not set while one is scheduled', async () => {
    const protect = (deletionProtection: boolean) =>
      world.keyring.manage.update(g('keys.update'), { deletionProtection }, aRun());
    await protect(true);
    expect(await codeOf(doomKey())).toBe('deletion_protected');
    await protect(false);
    await doomKey({ afterMs: DAY });
    expect(await codeOf(protect(true))).toBe('version_not_usable');
    await life().cancelDestruction(g('keys.cancel-destruction'), await matching());
    await rotate();
    await deactivate(1);
    await doom(1);
    expect(await codeOf(protect(true))).toBe('version_not_usable');
  });

  it('ends use at once, and gives it back when cancelled', async () => {
    await doomKey();
    expect(await codeOf(mac())).toBe('version_not_usable');
    expect(await codeOf(rotate())).toBe('version_not_usable');
    const cancel = async () =>
      life().cancelDestruction(g('keys.cancel-destruction'), await matching());
    await cancel();
    expect(await mac()).toBe(1);
    expect((await cancel()).change?.changes).toBe(false);
  });

  it('runs when due, takes the material and leaves a tombstone', async () => {
    await rotate();
    await deactivate(1);
    await doom(1, { afterMs: DAY });
    expect(await codeOf(destroy(1))).toBe('version_not_usable');
    now += DAY;
    await destroy(1);
    const gone = await version(1);
    expect(gone).toMatchObject({ state: 'destroyed', reason: WHY.reason });
    expect(gone).not.toHaveProperty('material');
    const cancel = life().cancelVersionDestruction(
      g('versions.cancel-destruction'),
      { version: 1 },
      await matching(),
    );
    expect(await codeOf(cancel)).toBe('version_not_usable');
    expect(await mac()).toBe(2);
  });

  it('of a key takes every version, and its name for ever', async () => {
    const { name } = (await view()).key;
    await rotate();
    await doomKey({ afterMs: DAY });
    now += DAY;
    const { change } = await destroyKey();
    expect(change?.detail).toMatchObject({
      rootGeneration: 1,
      backupsUntil: inDays(10).toISOString(),
      tokenObjects: 0,
    });
    const { key: tomb, versions } = await view();
    expect(tomb).toMatchObject({ primary: null, destruction: null, destroyedAt: new Date(now) });
    expect(versions.map(({ state }) => state)).toEqual(['destroyed', 'destroyed']);
    const again = world.keyring.manage.create(
      world.grant('keys.create', name),
      aKey({ name }),
      aRun(),
    );
    expect(await codeOf(again)).toBe('name_retired');
    expect(await codeOf(destroyKey())).toBe('version_not_usable');
  });

  it('and its cancellation: exactly one of them takes effect', async () => {
    await doomKey({ afterMs: DAY });
    now += DAY;
    const run = await matching();
    const acts = Array.from({ length: 20 }, (_, index): Promise<ChangeDone> =>
      index % 2 === 0
        ? life().cancelDestruction(g('keys.cancel-destruction'), aRun({ ifMatch: run.ifMatch }))
        : destroyKey(),
    );
    const settled = await Promise.allSettled(acts);
    const won = settled.flatMap((one, index) =>
      one.status === 'fulfilled' && one.value.change?.changes === true ? [index % 2] : [],
    );
    expect(won).toHaveLength(1);
    expect((await view()).key.destroyedAt === null).toBe(won[0] === 0);
  });
});

describe('a token object', () => {
  const object = async () => {
    key = await world.create({ suite: 'MLKEM768-X25519', custody: 'hsm-token' });
    await doomKey({ afterMs: DAY });
    now += DAY;
  };
  const objects = async () => (await world.hsm.tokenKeys(INSTALLATION)).length;

  it('goes once its destruction is committed, and its intent after it', async () => {
    await object();
    expect(await objects()).toBe(1);
    const { change } = await destroyKey();
    expect(change?.detail['tokenObjects']).toBe(1);
    expect(await objects()).toBe(0);
    expect(world.store.rows.intents.size).toBe(0);
  });

  it('stays with its key while the database is lost', async () => {
    await object();
    world.store.fault = (call) => (call === 'commit' ? 'before' : 'none');
    expect(await codeOf(destroyKey())).toBe('database_unavailable');
    expect(await objects()).toBe(1);
    world.store.fault = () => 'none';
    await destroyKey();
    expect(await objects()).toBe(0);
  });

  it('goes when the destruction was committed and the answer to that lost', async () => {
    await object();
    let calls = 0;
    world.store.fault = (call) => (call === 'commit' && calls++ === 0 ? 'lost-after' : 'none');
    const { change } = await destroyKey();
    expect(change?.changes).toBe(true);
    expect([await objects(), world.store.rows.intents.size]).toEqual([0, 0]);
  });

  it('that the token would not give up is tried again before the next destruction', async () => {
    await object();
    const { hsm } = world.device;
    const removing = hsm.destroyTokenKey.bind(hsm);
    Object.assign(hsm, { destroyTokenKey: () => Promise.reject(new Error('refused')) });
    await destroyKey();
    Object.assign(hsm, { destroyTokenKey: removing });
    expect([await objects(), world.store.rows.intents.size]).toEqual([1, 1]);
    expect(await codeOf(destroyKey())).toBe('version_not_usable');
    expect([await objects(), world.store.rows.intents.size]).toEqual([0, 0]);
  });

  it('that a kill left is removed by the next start', async () => {
    await object();
    const removing = world.device.hsm.destroyTokenKey.bind(world.device.hsm);
    Object.assign(world.device.hsm, {
      destroyTokenKey: () => Promise.reject(new Error('killed')),
    });
    await destroyKey();
    expect((await view()).key.destroyedAt).not.toBeNull();
    expect([await objects(), world.store.rows.intents.size]).toEqual([1, 1]);
    Object.assign(world.device.hsm, { destroyTokenKey: removing });
    world.store.dead.add(world.id);
    const { mac: rowMac, installation } = world.root;
    const record = async () => undefined;
    const { hsm, store } = world;
    const counts = await removeOrphans({ hsm, store, mac: rowMac, installation, record });
    expect(counts).toEqual({ removed: 1, refused: 0 });
    expect([await objects(), world.store.rows.intents.size]).toEqual([0, 0]);
  });
});
