import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, it } from '@jest/globals';
import type { Deactivated, Destroyed, Key } from '../../src/keyring/model.ts';
import type { IdempotencyRecord, KeyWrite } from '../../src/keyring/ports.ts';
import { onEachMajor } from './majors.ts';
import type { TestStore } from './majors.ts';
import { withOwner } from './owner.ts';
import {
  active,
  attested,
  bytes,
  changer,
  destroy,
  due,
  entry,
  insert,
  key,
  keyQuery,
  material,
  openInstance,
  rejection,
} from './samples.ts';
import type { Changer } from './samples.ts';

const withCode = (code: string) => expect.objectContaining({ name: 'TwofoldError', code });
const laneLost = (reason: string) => expect.objectContaining({ name: 'LaneLost', reason });

const commits = (test: TestStore): void => {
  let changes: Changer;
  const keys = () => test.store().keys;
  const found = (name: string) => keys().find('default', { name }, 0);
  beforeAll(async () => {
    changes = await changer(test.store());
  });

  it('finds a key with its versions by name and by id, and in its own namespace alone', async () => {
    const row = attested(key({ labels: { team: 'ml', '': 'ä"\\', __proto: 'x' } }));
    const versions = [1, 2, 3].map((version) => attested(active(row.value.id, { version })));
    await changes.commit([
      { kind: 'insert-key', row },
      ...versions.toReversed().map((each): KeyWrite => ({ kind: 'insert-version', row: each })),
    ]);
    const expected = { key: row, versions };
    expect(await found(row.value.name)).toEqual(expected);
    expect(await keys().find('default', { id: row.value.id }, 0)).toEqual(expected);
    expect(await keys().find('other', { id: row.value.id }, 0)).toBeNull();
    expect(await found(row.value.id)).toBeNull();
  });

  it('answers no read from a database that stands before the epoch known here', async () => {
    const row = key();
    const epoch = await changes.commit(insert(row));
    const at = (known: number) => keys().find('default', { name: row.name }, known);
    expect((await at(epoch))?.key.value).toEqual(row);
    expect(await rejection(at(epoch + 1))).toEqual(withCode('database_unavailable'));
    const missing = keys().find('default', { name: 'none' }, epoch + 1);
    expect(await rejection(missing)).toEqual(withCode('database_unavailable'));
  }, 20_000);

  it('finds a key without versions', async () => {
    const row = attested(key({ primary: null, latestVersion: 0 }));
    await changes.commit([{ kind: 'insert-key', row }]);
    expect(await found(row.value.name)).toEqual({ key: row, versions: [] });
  });

  it('raises the epoch, says what changed, and appends the entry, at once', async () => {
    const row = key();
    const scope = { scope: 'key', namespace: 'default', keyId: row.id, keyName: row.name } as const;
    const change = await changes.change(insert(row), { scope });
    const before = change.epoch;
    expect(await changes.commit(insert(key()), { entry: change.entry })).toBe(before + 1);
    expect(await test.store().audit.changesSince(before)).toHaveLength(1);
    expect(await test.store().audit.leafAt(changes.lane, change.entry.n)).toEqual(
      change.entry.leaf,
    );
  });

  it('writes nothing under another epoch', async () => {
    const row = key();
    const change = await changes.change(insert(row));
    const epoch = change.epoch - 1;
    const stale = { ...change, epoch, entry: { ...change.entry, epoch } };
    expect(await keys().commit(stale)).toEqual({ stale: change.epoch, held: false });
    expect(await found(row.name)).toBeNull();
    expect(await test.store().audit.leafAt(changes.lane, change.entry.n)).toBeNull();
  });

  it('refuses an entry that states another epoch than that of the commit', async () => {
    const change = await changes.change(insert(key()));
    const untrue = { ...change, entry: { ...change.entry, epoch: change.epoch + 1 } };
    expect(await rejection(keys().commit(untrue))).toEqual(withCode('internal'));
  });

  it('answers the same change again with the epoch that it raised', async () => {
    const other = await changer(test.store());
    const change = await other.change(insert(key()));
    const first = await keys().commit(change);
    expect(first).toEqual({ epoch: change.epoch + 1, held: false });
    await changes.commit([]);
    expect(await keys().commit(change)).toEqual(first);
  });

  it('loses the lane when another entry took its place, and writes nothing', async () => {
    const other = await changer(test.store());
    await other.commit([]);
    const row = key();
    const change = await other.change(insert(row));
    const taken = { ...change, entry: { ...change.entry, ...entry(), n: 1 } };
    expect(await rejection(keys().commit(taken))).toEqual(laneLost('conflict'));
    await test.store().audit.closeLane(other.lane);
    expect(await rejection(keys().commit(change))).toEqual(laneLost('closed'));
    expect(await found(row.name)).toBeNull();
  });

  it('keeps names unique for ever, per namespace', async () => {
    const row = key({ destruction: due });
    await changes.commit(insert(row));
    const again = rejection(changes.commit(insert(key({ name: row.name }))));
    expect(await again).toEqual(withCode('key_exists'));
    await changes.commit(destroy(row));
    const retired = rejection(changes.commit(insert(key({ name: row.name }))));
    expect(await retired).toEqual(withCode('name_retired'));
    await withOwner(test.database(), (owner) =>
      owner.query(`insert into public.namespace (name, mac) values ('team', '\\x00')`),
    );
    await changes.commit(insert(key({ name: row.name, namespace: 'team' })));
  });

  describe('aliases', () => {
    const withAliases = (of: Key, aliases: readonly string[]): KeyWrite => ({
      kind: 'update-key',
      row: attested({ ...of, aliases, revision: of.revision + 1 }),
      expected: of.revision,
    });
    const fresh = (): string => `a${key().name}`;

    it('find their key, also one that has several', async () => {
      const row = key();
      const aliases = [fresh(), fresh()].toSorted();
      await changes.commit(insert(row));
      await changes.commit([withAliases(row, aliases)]);
      for (const name of [row.name, ...aliases]) {
        expect((await found(name))?.key.value).toMatchObject({ id: row.id, aliases });
      }
      await changes.commit([withAliases({ ...row, revision: 2 }, aliases.slice(1))]);
      expect(await found(aliases[0] ?? '')).toBeNull();
    });

    it('share the name space of names, both ways, and are free once dropped', async () => {
      const [one, other] = [key(), key({ destruction: due })];
      const alias = fresh();
      await changes.commit([...insert(one), ...insert(other)]);
      await changes.commit([withAliases(one, [alias])]);
      const taken = withCode('key_exists');
      const attempt = (writes: readonly KeyWrite[]) => rejection(changes.commit(writes));
      expect(await attempt([withAliases(other, [alias])])).toEqual(taken);
      expect(await attempt([withAliases(other, [one.name])])).toEqual(taken);
      expect(await attempt([withAliases(other, [other.name])])).toEqual(taken);
      expect(await attempt(insert(key({ name: alias })))).toEqual(taken);
      await changes.commit(destroy(other));
      const second = { ...one, revision: 2 };
      const retired = attempt([withAliases(second, [alias, other.name])]);
      expect(await retired).toEqual(withCode('name_retired'));
      await changes.commit([withAliases(second, [])]);
      await changes.commit(insert(key({ name: alias })));
    });

    it('move from one key to another in one change', async () => {
      const [one, other] = [key(), key()];
      const alias = fresh();
      await changes.commit([...insert(one), ...insert(other)]);
      await changes.commit([withAliases(one, [alias])]);
      await changes.commit([
        withAliases({ ...one, aliases: [alias], revision: 2 }, []),
        withAliases(other, [alias]),
      ]);
      expect((await found(alias))?.key.value.id).toBe(other.id);
    });

    it('that two keys were given beside us are found with rows of both, which no MAC passes', async () => {
      const [one, other] = [key(), key()];
      await changes.commit([...insert(one), ...insert(other)]);
      const alias = fresh();
      await withOwner(test.database(), (owner) =>
        owner.query(`update public.key set aliases = array[$1] where id = any ($2)`, [
          alias,
          [one.id, other.id],
        ]),
      );
      const both = await found(alias);
      expect(new Set(both?.versions.map(({ value }) => value.keyId))).toEqual(
        new Set([one.id, other.id]),
      );
    });

    it('and what else a change touched are told to whoever reads the changes', async () => {
      const row = key();
      const also = [fresh(), 'x'.repeat(128)];
      const { id: keyId, name: keyName } = row;
      const scope = { scope: 'key', namespace: 'default', keyId, keyName, also } as const;
      const epoch = await changes.commit(insert(row), { scope });
      const [told] = await test.store().audit.changesSince(epoch - 1);
      expect(told?.also).toEqual(also);
    });
  });

  it('refuses a moved revision and writes nothing of the change', async () => {
    const row = key();
    await changes.commit(insert(row));
    const suspended = { ...row, revision: 2, suspension: { at: new Date(), reason: 'r' } };
    const update = (expected: number): KeyWrite => ({
      kind: 'update-key',
      row: attested(suspended),
      expected,
    });
    const beside = key();
    const moved = rejection(changes.commit([...insert(beside), update(2)]));
    expect(await moved).toEqual(withCode('conflict'));
    expect(await found(beside.name)).toBeNull();
    await changes.commit([update(1)]);
    expect(await rejection(changes.commit([update(1)]))).toEqual(withCode('conflict'));
    expect((await found(row.name))?.key.value).toEqual(suspended);
  });

  it('lets one of two changes of the same revision win', async () => {
    const row = key();
    await changes.commit(insert(row));
    const lanes = await Promise.all([1, 2, 3, 4].map(() => changer(test.store())));
    const attempts = await Promise.all(
      lanes.map((lane, at) => {
        const renamed = { ...row, revision: 2, labels: { winner: String(at) } };
        return lane.change([{ kind: 'update-key', row: attested(renamed), expected: 1 }]);
      }),
    );
    const outcomes = await Promise.all(attempts.map((change) => keys().commit(change)));
    expect(outcomes.filter((outcome) => 'epoch' in outcome)).toHaveLength(1);
    expect(outcomes.filter((outcome) => 'stale' in outcome)).toHaveLength(3);
    const winner = outcomes.findIndex((outcome) => 'epoch' in outcome);
    expect((await found(row.name))?.key.value.labels).toEqual({ winner: String(winner) });
  });

  it('destroys a version: its material leaves the row', async () => {
    const row = key();
    const { createdAt } = row;
    const ended: Deactivated = {
      ...{ keyId: row.id, version: 1, suite: 0x0101, createdAt, certificateChain: null },
      ...{ revision: 1, material: material(), activatedAt: createdAt, origin: 'generated' },
      state: 'deactivated',
      deactivatedAt: new Date(),
      reason: 'replaced',
      destruction: due,
    };
    await changes.commit([
      { kind: 'insert-key', row: attested(row) },
      { kind: 'insert-version', row: attested(ended) },
    ]);
    const gone: Destroyed = {
      keyId: row.id,
      version: 1,
      suite: 0x0101,
      origin: 'generated',
      createdAt,
      certificateChain: null,
      revision: 2,
      state: 'destroyed',
      destroyedAt: new Date(),
      compromisedAt: null,
      reason: 'asked for',
    };
    const update: KeyWrite = { kind: 'update-version', row: attested(gone), expected: 1 };
    await changes.commit([update]);
    expect((await found(row.name))?.versions.map(({ value }) => value)).toEqual([gone]);
    expect(await rejection(changes.commit([update]))).toEqual(withCode('conflict'));
    // What the row says no more, the database has kept from the row as it was.
    const { activatedAt, deactivatedAt } = ended;
    expect(await keys().tombstones(row.id)).toEqual([
      { version: 1, activatedAt, deactivatedAt, rootGeneration: 1 },
    ]);
  });

  it('refuses a key in a namespace that does not exist', async () => {
    const nowhere = rejection(changes.commit(insert(key({ namespace: 'nowhere' }))));
    expect(await nowhere).toEqual(withCode('not_found'));
  });

  it('refuses a version that exists', async () => {
    const row = key();
    await changes.commit(insert(row));
    const twice = rejection(
      changes.commit([{ kind: 'insert-version', row: attested(active(row.id)) }]),
    );
    expect(await twice).toEqual(withCode('conflict'));
  });

  it.each(['nul \0', 'lone \ud800'])('refuses text that would not come back: %j', async (text) => {
    const row = key({ labels: { a: text } });
    expect(await rejection(changes.commit(insert(row)))).toEqual(withCode('invalid_value'));
    const reason = key({ suspension: { at: new Date(), reason: text } });
    expect(await rejection(changes.commit(insert(reason)))).toEqual(withCode('invalid_value'));
  });

  it('stores the answer of a request with its effect, once', async () => {
    const value: IdempotencyRecord = {
      namespace: 'default',
      principal: bytes(32),
      key: 'once-é',
      requestHash: bytes(32),
      status: 201,
      body: '{"name":"k"}',
      auditId: `${changes.lane}-1`,
    };
    const record = attested(value);
    const { namespace, principal, key: used } = value;
    expect(await keys().findIdempotent(namespace, principal, used)).toBeNull();
    await changes.commit(insert(key()), { idempotency: record });
    expect(await keys().findIdempotent(namespace, principal, used)).toEqual(record);
    expect(await keys().findIdempotent(namespace, bytes(32), used)).toBeNull();
    const row = key();
    const again = rejection(changes.commit(insert(row), { idempotency: record }));
    expect(await again).toEqual(withCode('idempotency_in_progress'));
    expect(await found(row.name)).toBeNull();
    await changes.commit(insert(row), {
      idempotency: attested({ ...value, principal: bytes(32) }),
    });
  });
};

const rows = (test: TestStore): void => {
  it.each([
    [
      'state',
      `update public.key_version set state = 'active', activated_at = null where key_id = $1`,
    ],
    [
      'a column of another state',
      `update public.key_version set destroyed_at = now() where key_id = $1`,
    ],
    ['half a half', `update public.key_version set pq_sealed = null where key_id = $1`],
    ['custody', `update public.key_version set classical_custody = 'hsm-token' where key_id = $1`],
    ['an unknown custody', `update public.key_version set psk_custody = 'none' where key_id = $1`],
    ['labels', `update public.key set labels = '{"a": 1}' where id = $1`],
    ['a reserved column', `update public.key set rotation = '{}' where id = $1`],
  ])('calls a row with a wrong %s an integrity failure', async (_, sql) => {
    const row = key();
    await (await changer(test.store())).commit(insert(row));
    await withOwner(test.database(), (owner) => owner.query(sql, [row.id]));
    const find = rejection(test.store().keys.find('default', { name: row.name }, 0));
    expect(await find).toEqual(withCode('integrity_failed'));
  });
};

const counters = (test: TestStore): void => {
  it('reserves blocks that never overlap', async () => {
    const counter = randomUUID();
    const reserve = async (block: number) =>
      (await test.store().keys.reserveUses(counter, block))[0];
    expect(await reserve(10)).toBe(0);
    const firsts = await Promise.all(Array.from({ length: 40 }, () => reserve(7)));
    expect(firsts.toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 40 }, (_, at) => 10 + 7 * at),
    );
    expect(await reserve(2 ** 33)).toBe(290);
    expect(await reserve(1)).toBe(290 + 2 ** 33);
  });

  it('reserves an eighth of what a policy by use leaves, at least so much, and whole blocks beyond it', async () => {
    const row = key();
    await (await changer(test.store())).commit(insert(row));
    await withOwner(test.database(), (owner) =>
      owner.query('update public.key_schedule set max_uses = 80 where key_id = $1', [row.id]),
    );
    const { keys } = test.store();
    const reserve = () => keys.reserveUses(`${row.id}/1`, 64, 2);
    expect([await reserve(), await reserve()]).toEqual([
      [0, 10],
      [10, 8],
    ]);
    await keys.reserveUses(`${row.id}/1`, 2, 1);
    let [first, count] = await reserve();
    while (first + count < 80) {
      const [next, more] = await reserve();
      expect([next, more]).toEqual([
        first + count,
        Math.max(2, Math.floor((80 - first - count) / 8)),
      ]);
      [first, count] = [next, more];
    }
    expect(await reserve()).toEqual([first + count, 64]);
    expect(await keys.reserveUses(`${randomUUID()}/1`, 64, 2)).toEqual([0, 64]);
  });
};

const intents = (test: TestStore): void => {
  const intend = async (instance: string, installation: string) => {
    const objectId = bytes(37);
    const intent = attested({
      objectId,
      installation,
      tokenSerial: 's',
      instance,
      createdAt: new Date(),
    });
    await test.store().keys.intendTokenObject(intent);
    return intent;
  };
  const complete = (objectId: Uint8Array): KeyWrite[] => [{ kind: 'complete-intent', objectId }];

  it('leaves a live instance its intents, and finds those of one that is gone', async () => {
    const { keys, instances } = test.store();
    const installation = randomUUID();
    const instance = await openInstance(test.store());
    const [completed, dropped, left] = [
      await intend(instance, installation),
      await intend(instance, installation),
      await intend(instance, installation),
    ];
    expect(await keys.abandonIntents(installation, 's')).toEqual([]);
    await (await changer(test.store())).commit(complete(completed.value.objectId));
    await keys.dropIntent(dropped.value.objectId);
    await instances.close(instance);
    expect(await keys.abandonIntents(randomUUID(), 's')).toEqual([]);
    expect(await keys.abandonIntents(installation, 's')).toEqual([left]);
    expect(await keys.abandonIntents(installation, 's')).toEqual([left]);
    expect(await keys.abandonIntents(installation, 'of another token')).toEqual([]);
  });

  it('lets an object be completed or removed, never both', async () => {
    const { keys, instances } = test.store();
    const installation = randomUUID();
    const instance = await openInstance(test.store());
    const intent = await intend(instance, installation);
    await withOwner(test.database(), (owner) =>
      owner.query(`update public.instance set beat_at = beat_at - interval '1 h' where id = $1`, [
        instance,
      ]),
    );
    expect(await keys.abandonIntents(installation, 's')).toEqual([intent]);
    // It was only slow: it lives, but its object is going away.
    await instances.beat(instance, 0);
    const late = rejection((await changer(test.store())).commit(complete(intent.value.objectId)));
    expect(await late).toEqual(withCode('conflict'));
  });
};

const lists = (test: TestStore): void => {
  const names = ['a', 'a-b', 'a.b', 'a_b', 'aab', 'ab', 'b', 'b0', 'zz'];
  const list = async (over: Parameters<typeof keyQuery>[0]) =>
    (await test.store().keys.list(keyQuery({ namespace: 'lists', ...over }))).keys.map(
      (stored) => stored.key.value.name,
    );
  beforeAll(async () => {
    await withOwner(test.database(), (owner) =>
      owner.query(`insert into public.namespace (name, mac) values ('lists', '\\x00')`),
    );
    const changes = await changer(test.store());
    for (const [at, name] of names.entries()) {
      const row = key({
        name,
        namespace: 'lists',
        purpose: at % 2 === 0 ? 'wrap' : 'sign',
        labels: at % 3 === 0 ? { team: 'ml', 'a.b"c': '1' } : { team: 'web' },
        suspension: name === 'ab' ? { at: new Date(), reason: 'r' } : null,
        destroyedAt: name === 'zz' ? new Date() : null,
      });
      const suite = name === 'b' ? 0x0401 : 0x0101;
      await changes.commit([
        { kind: 'insert-key', row: attested(row) },
        { kind: 'insert-version', row: attested(active(row.id, { suite })) },
        { kind: 'insert-version', row: attested(active(row.id, { version: 2 })) },
      ]);
    }
  });

  it('pages in byte order and finds every key once', async () => {
    const seen: string[] = [];
    for (let afterName: string | null = null; ; afterName = seen.at(-1) ?? null) {
      const page = await list({ afterName, pageSize: 2 });
      if (page.length === 0) break;
      seen.push(...page);
    }
    expect(seen).toEqual(names);
  });

  it.each([null, 0x0101])('gives of what find gives what is shown, by suite %s', async (suite) => {
    const { keys, next } = await test.store().keys.list(keyQuery({ namespace: 'lists', suite }));
    expect([keys.length, next]).toEqual([names.length, null]);
    for (const { key: row, versions } of keys) {
      const { id } = row.value;
      const found = await test.store().keys.find('lists', { id }, 0);
      expect(row).toEqual(found?.key);
      // The primary version, and the newest of the suite.
      expect(versions).toEqual(found?.versions.slice(0, suite === null ? 1 : 2));
    }
  });

  it('follows changes of what it filters by', async () => {
    const changes = await changer(test.store());
    const row = key({ name: 'turning', namespace: 'lists', labels: { at: 'a', kept: 'k' } });
    const version = active(row.id, { suite: 0x0301 });
    const filters = {
      a: { labels: { at: 'a' } },
      b: { labels: { at: 'b' } },
      kept: { labels: { kept: 'k' } },
      both: { labels: { kept: 'k' }, state: 'suspended', suite: 0x0301 },
      suite: { suite: 0x0301 },
      enabled: { state: 'enabled', namePrefix: 'turning' },
      suspended: { state: 'suspended', namePrefix: 'turning' },
      destroyed: { state: 'destroyed', namePrefix: 'turning' },
    } as const;
    const foundBy = async () => {
      const found: string[] = [];
      for (const [name, over] of Object.entries(filters)) {
        if ((await list(over)).includes('turning')) found.push(name);
      }
      return found;
    };
    await changes.commit([
      { kind: 'insert-key', row: attested(row) },
      { kind: 'insert-version', row: attested(version) },
    ]);
    expect(await foundBy()).toEqual(['a', 'kept', 'suite', 'enabled']);
    const suspension = { at: new Date(), reason: 'r' };
    const turned = { ...row, revision: 2, labels: { at: 'b', kept: 'k' }, suspension };
    await changes.commit([{ kind: 'update-key', row: attested(turned), expected: 1 }]);
    expect(await foundBy()).toEqual(['b', 'kept', 'both', 'suite', 'suspended']);
    // Asked for now, as the database requires of a change, and due at once.
    const destruction = { ...due, requestedAt: new Date() };
    const awaiting = { ...turned, revision: 3, labels: {}, destruction };
    await changes.commit([{ kind: 'update-key', row: attested(awaiting), expected: 2 }]);
    const gone: Destroyed = {
      ...{ keyId: row.id, version: 1, suite: 0x0301, createdAt: version.createdAt },
      ...{ certificateChain: null, revision: 2, destroyedAt: new Date(), origin: 'generated' },
      ...{ state: 'destroyed', compromisedAt: null, reason: 'r' },
    };
    await changes.commit([
      ...destroy(awaiting),
      { kind: 'update-version', row: attested(gone), expected: 1 },
    ]);
    expect(await foundBy()).toEqual(['destroyed']);
    await withOwner(test.database(), async (owner) => {
      await owner.query('delete from public.key_version where key_id = $1', [row.id]);
      await owner.query('delete from public.key where id = $1', [row.id]);
      const { rows } = await owner.query(
        `select facet from public.key_facet where namespace = 'lists' and name = 'turning'`,
      );
      expect(rows).toEqual([{ facet: 'state:destroyed' }]);
      await owner.query(`delete from public.key_facet where name = 'turning'`);
    });
  });

  it.each([
    [{ namePrefix: 'a_' }, ['a_b']],
    [{ namePrefix: 'a' }, ['a', 'a-b', 'a.b', 'a_b', 'aab', 'ab']],
    [{ namePrefix: '%' }, []],
    [{ namePrefix: '' }, names],
    [{ namePrefix: 'a', afterName: 'a.b' }, ['a_b', 'aab', 'ab']],
    [{ labels: { team: 'ml' } }, ['a', 'a_b', 'b']],
    [{ labels: { team: 'ml', 'a.b"c': '1' } }, ['a', 'a_b', 'b']],
    [{ labels: { team: 'ml', other: '1' } }, []],
    [{ labels: { team: '' } }, []],
    [{ suite: 0x0401 }, ['b']],
    [{ state: 'suspended' }, ['ab']],
    [{ state: 'destroyed' }, ['zz']],
    [{ state: 'enabled' }, ['a', 'a-b', 'a.b', 'a_b', 'aab', 'b', 'b0']],
    [{ namespace: 'nowhere' }, []],
  ] as const)('filters by %j', async (over, expected) => {
    expect(await list(over)).toEqual(expected);
  });
};

onEachMajor('key store', (test) => {
  describe('commit', () => commits(test));
  describe('malformed rows', () => rows(test));
  describe('counters', () => counters(test));
  describe('token intents', () => intents(test));
  describe('lists', () => lists(test));
});
