/** No server's clock ends the waiting period of a destruction: the database's own has a say. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { aRun, codeOf } from '../keyring/world.ts';
import { withClient } from '../store/owner.ts';
import { rejection } from '../store/samples.ts';
import { setWallClock } from '../store/wall-clock.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { Actor, Stage } from './stage.ts';

const WANTED = { afterMs: 30 * DAY, reason: 'a drill' };

let stage: Stage;
let first: Actor;
const start = Date.UTC(2026, 0, 1);
beforeAll(async () => {
  stage = await openStage(start);
  first = stage.first;
  await setWallClock(stage.database, start);
}, 60_000);
afterAll(() => stage.stop(), 60_000);

const viewOf = (id: string) => first.keyring.read.fresh(first.grant('keys.read', id));
const doomedKey = async (): Promise<string> => {
  const id = await first.create();
  const grant = first.grant('keys.schedule-destruction', id);
  await first.keyring.lifecycle.scheduleDestruction(grant, WANTED, aRun({ ifMatch: 1 }));
  return id;
};
/** Of version 1, which is no primary any more and deactivated. */
const doomedVersion = async (): Promise<string> => {
  const { manage, lifecycle } = first.keyring;
  const id = await first.create();
  await manage.rotate(first.grant('keys.rotate', id), {}, aRun());
  const retired = { version: 1, reason: 'old' };
  await manage.retireVersion(first.grant('versions.retire', id), retired, aRun());
  const { revision } = (await viewOf(id)).key;
  await lifecycle.scheduleVersionDestruction(
    first.grant('versions.schedule-destruction', id),
    { ...WANTED, version: 1 },
    aRun({ ifMatch: revision }),
  );
  return id;
};

it('a leader whose clock is a month ahead destroys nothing, and says so', async () => {
  const [key, version] = [await doomedKey(), await doomedVersion()];
  const { scheduler } = first.scheduler();
  await scheduler.tick();
  stage.clock.now += 31 * DAY;
  expect(await scheduler.tick()).toMatchObject({ leads: true, actions: 0, failures: 2 });
  expect(stage.failures.map(({ error }) => error)).toMatchObject([
    { code: 'version_not_usable' },
    { code: 'version_not_usable' },
  ]);
  // Nor does any other way to the same act.
  const { lifecycle } = first.keyring;
  const act = lifecycle.destroyKey(first.grant('keys.destroy', key), aRun());
  expect(await codeOf(act)).toBe('version_not_usable');
  expect((await viewOf(key)).key).toMatchObject({ destroyedAt: null });
  expect((await viewOf(version)).versions).toMatchObject([
    { state: 'deactivated' },
    { state: 'active' },
  ]);

  // A minute is what clocks may differ by.
  await setWallClock(stage.database, start + 30 * DAY - 61_000);
  stage.clock.now += DAY;
  expect(await scheduler.tick()).toMatchObject({ actions: 0, failures: 2 });
  await setWallClock(stage.database, start + 30 * DAY - 59_000);
  stage.clock.now += DAY;
  expect(await scheduler.tick()).toMatchObject({ actions: 2, failures: 0 });
  expect((await viewOf(key)).key.destroyedAt).not.toBeNull();
  expect((await viewOf(version)).versions).toMatchObject([
    { state: 'destroyed' },
    { state: 'active' },
  ]);
}, 60_000);

it('a server whose clock lags a month shortens no wait', async () => {
  await setWallClock(stage.database, stage.clock.now + 31 * DAY);
  const theirs = stage.clock.now + 31 * DAY;
  const [key, version] = [await doomedKey(), await doomedVersion()];
  const at = new Date(theirs + 30 * DAY);
  expect((await viewOf(key)).key.destruction).toMatchObject({ at, requestedAt: new Date(theirs) });
  expect((await viewOf(version)).versions[0]).toMatchObject({ destruction: { at } });
  // A time that is named is measured by it too.
  const { lifecycle } = first.keyring;
  const id = await first.create();
  const soon = { at: new Date(theirs), reason: 'a drill' };
  const grant = first.grant('keys.schedule-destruction', id);
  const asked = lifecycle.scheduleDestruction(grant, soon, aRun({ ifMatch: 1 }));
  expect(await codeOf(asked)).toBe('invalid_value');

  // Nor does one that asks its own clock alone, as those of the release before do.
  const doom = (table: string, of: string, requested: number, end: number) =>
    withClient(stage.database.appUrl, (app) =>
      app.query(
        `update public.${table} set destroy_at = $2, destruction_requested_at = $3,
          destruction_reason = 'a drill' where ${of} = $1`,
        [of === 'id' ? id : key, new Date(end), new Date(requested)],
      ),
    );
  const lagging = stage.clock.now;
  const tooOld = { code: 'TF063' };
  expect(await rejection(doom('key', 'id', lagging, lagging + 30 * DAY))).toMatchObject(tooOld);
  const ofVersions = doom('key_version', 'key_id', lagging, lagging + 30 * DAY);
  expect(await rejection(ofVersions)).toMatchObject(tooOld);
  await doom('key', 'id', theirs - 59_000, theirs + 30 * DAY);
  // Sooner than it was is another wait; later is none.
  const sooner = doom('key', 'id', theirs - 61_000, theirs + 29 * DAY);
  expect(await rejection(sooner)).toMatchObject(tooOld);
  await doom('key', 'id', theirs - 61_000, theirs + 31 * DAY);
}, 60_000);

it('the server’s role destroys nothing early by statements of its own, nor replaces the clock', async () => {
  await setWallClock(stage.database, start);
  const [key, version] = [await doomedKey(), await doomedVersion()];
  const refused = async (sql: string, id: string) =>
    rejection(withClient(stage.database.appUrl, (app) => app.query(sql, [id])));
  for (const [sql, id] of [
    ['update public.key set destroyed_at = now() where id = $1', key],
    ['update public.key set destroyed_at = now(), destroy_at = now() where id = $1', key],
    [`update public.key_version set state = 'destroyed' where key_id = $1`, key],
    [
      `update public.key_version set state = 'destroyed' where key_id = $1 and version = 1`,
      version,
    ],
    [
      `update public.key_version set state = 'destroyed' where key_id = $1 and version = 2`,
      version,
    ],
  ] as const) {
    expect([sql, await refused(sql, id)]).toMatchObject([sql, { code: 'TF014' }]);
  }
  const replace = `create or replace function public.wall_clock() returns timestamptz
    language sql as $$ select timestamptz 'infinity' $$`;
  const replacing = withClient(stage.database.appUrl, (app) => app.query(replace));
  expect(await rejection(replacing)).toMatchObject({ code: '42501' });
}, 60_000);

it('a leader whose clock is a month ahead rotates, closes and ends nothing, and says so', async () => {
  await setWallClock(stage.database, stage.clock.now);
  const { manage, lifecycle } = first.keyring;
  const [ruled, ending] = [await first.create(), await first.create()];
  for (const id of [ruled, ending]) await manage.rotate(first.grant('keys.rotate', id), {}, aRun());
  const terms = { ...TERMS, interval: 'P20D', retire: { keepVersions: null, after: 'P10D' } };
  const setting = first.grant('keys.set-rotation', ruled);
  await manage.changeRotation(setting, { kind: 'set', terms }, aRun());
  const deactivateAt = new Date(stage.clock.now + 5 * DAY);
  const schedule = first.grant('versions.schedule', ending);
  await lifecycle.scheduleVersion(schedule, { version: 1, deactivateAt }, aRun());
  const { scheduler } = first.scheduler();
  await scheduler.tick();

  stage.clock.now += 31 * DAY;
  await scheduler.tick();
  for (const id of [ruled, ending]) {
    const { key, versions } = await viewOf(id);
    expect(key).toMatchObject({ primary: 2, latestVersion: 2, minUsableVersion: 1 });
    expect(versions.map(({ state }) => state)).toEqual(['active', 'active']);
  }
  const page = { namespace: 'default', after: null, limit: 100 };
  const failing = await stage.store.scheduler.failing(page);
  const ofThese = failing.filter(({ keyId }) => keyId === ruled || keyId === ending);
  expect(ofThese.map(({ failure }) => failure?.code)).toEqual(['conflict', 'conflict']);
  expect(ofThese[0]?.failure?.detail).toContain("ahead of the database's");

  // A minute is what clocks may differ by, and what had waited is done.
  await setWallClock(stage.database, stage.clock.now + DAY - 59_000);
  stage.clock.now += DAY;
  await scheduler.tick();
  expect((await viewOf(ruled)).key).toMatchObject({ primary: 3, minUsableVersion: 2 });
  expect((await viewOf(ending)).versions[0]).toMatchObject({ state: 'deactivated' });
}, 60_000);
