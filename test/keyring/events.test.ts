/** Which events a change is: one table over all operations, and no secret in any of them. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { OPERATIONS } from '../../src/access/grant.ts';
import type { ChangeRun, PreparedChange } from '../../src/keyring/operations.ts';
import { EVENT_TYPES, eventsOf, withListedLabels } from '../../src/keyring/events.ts';
import { aKey, aRun, openWorld, toSuite } from './world.ts';
import type { World } from './world.ts';

describe('the events of changes', () => {
  let world: World;
  let id: string;
  beforeAll(async () => {
    world = await openWorld();
    id = await world.create({ name: 'first', labels: { team: 'hush' } });
  });
  afterAll(() => world.stop());
  const manage = () => world.keyring.manage;
  /** The events that `act` wrote. */
  const told = async (act: () => Promise<unknown>) => {
    const before = world.store.rows.events.length;
    await act();
    return world.store.rows.events.slice(before);
  };

  it('has a row for every operation, and none for those that change no key', async () => {
    const view = await world.keyring.read.get(world.grant('keys.read', id));
    const change: PreparedChange = {
      before: view,
      after: view,
      used: { key: 'first', keyId: id, keyVersion: 1, suite: 'A256GCM', suiteNumber: 0x0301 },
      detail: { of: 'rotation' },
      changes: true,
    };
    const changing = OPERATIONS.filter((name) => eventsOf(name, change).length > 0);
    const named = OPERATIONS.filter(
      (name) =>
        /^(keys|versions)\./.test(name) &&
        !['keys.read', 'keys.list', 'keys.import-parameters', 'versions.uses'].includes(name),
    );
    expect(changing).toEqual(named);
  });

  it('stands beside the audit entry, at the epoch that the change makes', async () => {
    const [event, ...more] = await told(() => world.create({ name: 'made' }));
    expect(more).toEqual([]);
    expect(event).toMatchObject({
      type: 'key.created',
      namespace: 'default',
      keyName: 'made',
      epoch: world.epoch.current,
      n: 1,
      data: { version: 1, suite: 'MLKEM768-P256', purpose: 'wrap', keyRevision: 1 },
    });
    const entry = await world.audit.read(event?.auditId ?? '');
    expect(entry?.draft).toMatchObject({ operation: 'keys.create', keyId: event?.keyId });
  });

  it('says what went from what to what', async () => {
    const [rotated] = await told(() =>
      manage().rotate(world.grant('keys.rotate', id), toSuite('MLKEM1024-P384'), aRun()),
    );
    expect(rotated).toMatchObject({
      type: 'key.rotated',
      data: { version: 2, suite: 'MLKEM1024-P384', changed: { primary: { from: 1, to: 2 } } },
    });
    const input = { version: 1, reason: 'a drill' };
    const [suspended] = await told(() =>
      manage().suspendVersion(world.grant('versions.suspend', id), input, aRun()),
    );
    expect(suspended).toMatchObject({
      type: 'version.suspended',
      data: { version: 1, reason: 'a drill', changed: { state: { from: 'active' } } },
    });
  });

  it('has names of labels and never their values', async () => {
    const labels = { team: 'secretive', owner: 'concealed' };
    const [event] = await told(() =>
      manage().update(world.grant('keys.update', id), { labels }, aRun()),
    );
    expect(event).toMatchObject({ type: 'key.updated' });
    const [created] = await told(() => world.create({ name: 'labelled', labels }));
    expect(created).toMatchObject({ type: 'key.created' });
    expect(created?.data['labelNames']).toEqual(['owner', 'team']);
    expect(event?.data['labelNames']).toEqual(created?.data['labelNames']);
    // As events were stored before; what is no list is shown as it stands.
    const stored = { version: 1, suite: 'A256GCM' };
    expect(withListedLabels({ ...stored, labelNames: '["a","b"]' })).toEqual({
      ...stored,
      labelNames: ['a', 'b'],
    });
    expect(withListedLabels({ labelNames: '["a"' })).toEqual({ labelNames: '["a"' });
    const all = JSON.stringify(world.store.rows.events);
    expect(all).toContain('"owner"');
    expect(all).not.toMatch(/hush|secretive|concealed/);
  });

  it('tells the key that loses an alias too', async () => {
    const other = await world.create({ name: 'other' });
    const put = (key: string, from: string | null) =>
      manage().putAlias(
        world.grant('keys.put-alias', key),
        { alias: 'vault', from: from === null ? null : world.grant('keys.put-alias', from) },
        aRun(),
      );
    await put(other, null);
    expect(await told(() => put(id, other))).toMatchObject([
      { n: 1, type: 'key.alias-changed', keyId: id, data: { alias: 'vault', from: 'other' } },
      { n: 2, type: 'key.alias-changed', keyId: other, keyName: 'other', data: { to: 'first' } },
    ]);
  });

  it('says of a compromise which version fell, and of its replacement that it rotates the key', async () => {
    const fallen = await world.create({ name: 'fallen' });
    const input = { version: 1, reason: 'a leak', replace: true };
    const compromise = () =>
      world.keyring.lifecycle.compromiseVersion(
        world.grant('versions.compromise', fallen),
        input,
        aRun(),
      );
    expect(await told(compromise)).toMatchObject([
      {
        n: 1,
        type: 'version.compromised',
        keyId: fallen,
        data: {
          version: 1,
          suite: 'MLKEM768-P256',
          reason: 'a leak',
          replacement: 2,
          changed: { state: { from: 'active', to: 'compromised' }, primary: { from: 1, to: 2 } },
        },
      },
      {
        n: 2,
        type: 'key.rotated',
        keyId: fallen,
        data: { version: 2, suite: 'MLKEM768-P256', replaces: 1 },
      },
    ]);
  });

  it('has none where nothing changed, but for announcements', async () => {
    const run = (over: Partial<ChangeRun> = {}) => aRun(over);
    const suspend = (over: Partial<ChangeRun>) =>
      manage().suspend(world.grant('keys.suspend', id), { reason: 'r' }, run(over));
    expect(await told(() => suspend({ dryRun: true }))).toEqual([]);
    expect(await told(() => suspend({}))).toHaveLength(1);
    expect(await told(() => suspend({}))).toEqual([]);
    const at = new Date('2030-01-01T00:00:00Z');
    const kinds = ['rotation', 'deactivation', 'destruction', 'retirement'] as const;
    const announce = (of: (typeof kinds)[number]) =>
      manage().announce(world.grant('keys.announce', id), { of, at, version: null }, aRun());
    const events = await told(async () => {
      for (const kind of kinds) await announce(kind);
    });
    expect(events.map(({ type }) => type)).toEqual([
      'key.rotation-due',
      'key.expiring',
      'key.destruction-due',
      'version.retirement-due',
    ]);
    expect(events[0]?.data).toMatchObject({ at: at.toISOString(), of: 'rotation' });
  });

  it('has one for a request that is repeated', async () => {
    const key = aKey();
    const idempotency = { key: 'once', requestHash: new Uint8Array(32) };
    const create = () =>
      manage().create(world.grant('keys.create', key.name), key, aRun({ idempotency }));
    expect(await told(() => create().then(create))).toHaveLength(1);
  });

  it('lists each type once', () => {
    expect(new Set(EVENT_TYPES).size).toBe(EVENT_TYPES.length);
  });
});
