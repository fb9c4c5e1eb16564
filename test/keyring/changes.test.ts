/** Changes that meet faults and other changes: acknowledged is kept, and nothing half-made is usable. */
import { afterEach, describe, expect, it } from '@jest/globals';
import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { StaleAnswer } from '../../src/audit/ports.ts';
import type { AuditLog } from '../../src/audit/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { Changes, OF_KEYS } from '../../src/keyring/changes.ts';
import type { Plan } from '../../src/keyring/changes.ts';
import { IntegrityWatch } from '../../src/keyring/integrity.ts';
import { removeOrphans } from '../../src/keyring/orphans.ts';
import type { RemovedOrphans } from '../../src/keyring/orphans.ts';
import type { ChangeDone } from '../../src/keyring/operations.ts';
import { planNothing } from '../../src/keyring/row-plans.ts';
import { attestIntent, verifyStored } from '../../src/keyring/row-mac.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import { aKey, aRun, codeOf, INSTALLATION, openWorld, toSuite } from './world.ts';
import type { World } from './world.ts';

const worlds: World[] = [];
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.stop();
});
async function newWorld(): Promise<World> {
  const world = await openWorld();
  worlds.push(world);
  return world;
}

interface Change {
  readonly name: string;
  readonly suite: string;
  /** The key of the change, `k`, before it; null where the change creates it. */
  readonly prepare: ((world: World) => Promise<unknown>) | null;
  readonly run: (world: World) => Promise<ChangeDone>;
}

const NAME = 'k';
const made = (suite: string) => (world: World) => world.create({ name: NAME, suite });
const rotated = (suite: string) => async (world: World) => {
  await made(suite)(world);
  await rotate(world, {});
};
const rotate = (world: World, input: ReturnType<typeof toSuite>) =>
  world.keyring.manage.rotate(world.grant('keys.rotate', NAME), input, aRun());
const reason = 'test';

const CHANGES: readonly Change[] = [
  ...['MLKEM768-P256', 'MLKEM768-X25519', 'A256GCM', 'MLDSA65-ECDSA-P256-SHA512'].map((suite) => ({
    name: `create ${suite}`,
    suite,
    prepare: null,
    run: (world: World) =>
      world.keyring.manage.create(
        world.grant('keys.create', NAME),
        aKey({ name: NAME, suite }),
        aRun({ idempotency: { key: 'i', requestHash: new Uint8Array(32) } }),
      ),
  })),
  {
    name: 'rotate to X25519',
    suite: 'MLKEM768-P256',
    prepare: made('MLKEM768-P256'),
    run: (world) => rotate(world, toSuite('MLKEM768-X25519')),
  },
  {
    name: 'update',
    suite: 'A256GCM',
    prepare: made('A256GCM'),
    run: (world) =>
      world.keyring.manage.update(world.grant('keys.update', NAME), { labels: { a: '1' } }, aRun()),
  },
  {
    name: 'suspend',
    suite: 'A256GCM',
    prepare: made('A256GCM'),
    run: (world) =>
      world.keyring.manage.suspend(world.grant('keys.suspend', NAME), { reason }, aRun()),
  },
  {
    name: 'suspend a version',
    suite: 'A256GCM',
    prepare: rotated('A256GCM'),
    run: (world) =>
      world.keyring.manage.suspendVersion(
        world.grant('versions.suspend', NAME),
        { version: 1, reason },
        aRun(),
      ),
  },
];

const STORE_FAULTS = { before: 'before', after: 'after' } as const;

/** The first fault at step `at`, counted over HSM and database alike; the number of steps seen. */
function failAt(
  world: World,
  at: number,
  kind: 'before' | 'after',
): { readonly steps: () => number } {
  let steps = 0;
  const isNext = () => (steps += 1) === at;
  world.device.fault = () => (isNext() ? kind : 'none');
  world.store.fault = () => (isNext() ? STORE_FAULTS[kind] : 'none');
  return { steps: () => steps };
}

function heal(world: World): void {
  world.device.fault = () => 'none';
  world.store.fault = () => 'none';
  world.store.audit.plan = () => 'none';
}

const referenced = (world: World): string[] =>
  [...world.store.rows.versions.values()].flatMap(({ value }) => {
    const hsm = 'material' in value ? value.material.classical?.hsm : undefined;
    return hsm?.custody === 'hsm-token' ? [Buffer.from(hsm.objectId).toString('hex')] : [];
  });

const orphansOf = ({ audit, device, root, store }: World): Promise<RemovedOrphans> =>
  removeOrphans({
    hsm: device.hsm,
    store,
    mac: root.mac,
    installation: INSTALLATION,
    record: (operation, detail) => audit.recordOwn(operation, detail),
  });

/** Objects whose removal the log announces. */
const removals = ({ store }: World): unknown[] =>
  store.audit
    .all()
    .map(({ body }) => decodeEntry(body))
    .filter(({ operation }) => operation === 'hsm.remove-orphan')
    .map(({ detail }) => detail['object']);

/** What must hold after any change, whatever became of it. */
async function expectSound(world: World): Promise<void> {
  const { store, device } = world;
  expect(await store.audit.verify()).toEqual([]);
  const known = [...referenced(world), ...store.rows.intents.keys()];
  expect([...device.token.objects.keys()].filter((id) => !known.includes(id))).toEqual([]);
  for (const key of store.rows.keys.values()) {
    const stored = await store.find('default', { id: key.value.id }, 0);
    if (stored !== null) await verifyStored(world.root.mac, stored);
    await expectUsable(world, key.value.id);
  }
  store.dead.add(world.id);
  await orphansOf(world);
  expect([...device.token.objects.keys()].toSorted()).toEqual(referenced(world).toSorted());
  expect(store.rows.intents.size).toBe(0);
  store.dead.delete(world.id);
}

async function expectUsable(world: World, id: string): Promise<void> {
  const { key } = await world.keyring.read.get(world.grant('keys.read', id));
  if (key.suspension !== null) return;
  if (key.purpose === 'wrap') {
    expect(await world.unwrap(id, await world.wrap(id, 'works'))).toBe('works');
    return;
  }
  const input = { message: Buffer.from('m'), signatureContext: new Uint8Array(0) };
  const { signature } = await world.keyring.use.sign(world.grant('sign', id), input);
  const verified = await world.keyring.use.verify(world.grant('verify', id), {
    ...input,
    signature,
  });
  expect(verified.valid).toBe(true);
}

const rowsOf = ({ store }: World): unknown =>
  structuredClone([...store.rows.keys, ...store.rows.versions]);
const entriesOf = (world: World) =>
  world.store.audit
    .all()
    .map(({ body }) => decodeEntry(body))
    .filter(
      ({ operation, detail }) => /^(keys|versions)\./.test(operation) && !('unwritten' in detail),
    );

async function attempt(world: World, change: Change): Promise<ChangeDone | TwofoldError> {
  try {
    return await change.run(world);
  } catch (error) {
    if (error instanceof TwofoldError) return error;
    throw error;
  }
}

describe.each(CHANGES)('$name', (change) => {
  const prepared = async () => {
    const world = await newWorld();
    await change.prepare?.(world);
    return world;
  };

  it('is whole or not at all when any of its steps fails, before or after it acted', async () => {
    const whole = await prepared();
    const counted = failAt(whole, 0, 'before');
    await change.run(whole);
    const steps = counted.steps();
    expect(steps).toBeGreaterThan(3);
    for (let at = 1; at <= steps; at += 1) {
      for (const kind of ['before', 'after'] as const) {
        const world = await prepared();
        const [before, entries] = [rowsOf(world), entriesOf(world).length];
        failAt(world, at, kind);
        const outcome = await attempt(world, change);
        heal(world);
        const happened = !(outcome instanceof TwofoldError);
        if (happened) expect(rowsOf(world)).not.toEqual(before);
        else expect(rowsOf(world)).toEqual(before);
        expect(entriesOf(world).length - entries).toBe(happened ? 1 : 0);
        await expectSound(world);
        if (!happened) expect((await change.run(world)).change?.changes).toBe(true);
        await expectSound(world);
      }
    }
  }, 60_000);

  it.each(['refused', 'lost-before', 'lost-after', 'lost-late'] as const)(
    'says what became of it when its commit is %s',
    async (fault) => {
      for (let round = 0; round < (fault === 'lost-late' ? 8 : 1); round += 1) {
        const world = await prepared();
        const before = rowsOf(world);
        let left = 1;
        world.store.audit.plan = (call) => (call === 'commit' && left-- > 0 ? fault : 'none');
        const outcome = await attempt(world, change);
        await world.store.audit.quiet();
        heal(world);
        world.store.settle();
        if (fault === 'lost-after') expect(outcome).not.toBeInstanceOf(TwofoldError);
        if (fault === 'refused' || fault === 'lost-before') {
          expect(outcome).toMatchObject({ code: 'database_unavailable' });
        }
        if (outcome instanceof TwofoldError) expect(rowsOf(world)).toEqual(before);
        else expect(rowsOf(world)).not.toEqual(before);
        await expectSound(world);
      }
    },
  );
});

describe('other changes', () => {
  const suspend = (world: World) =>
    world.keyring.manage.suspend(world.grant('keys.suspend', NAME), { reason }, aRun());
  const other = { scope: 'key', namespace: 'default', keyName: 'o' } as const;
  const unrelated = { ...other, keyId: '00000000-0000-4000-8000-000000000000' };
  const access = { scope: 'access', namespace: 'default', keyId: null, keyName: null } as const;

  it('of other keys are overtaken: the change is committed again', async () => {
    const world = await newWorld();
    await made('A256GCM')(world);
    let left = 3;
    world.store.meanwhile = async (call) => {
      if (call === 'commit' && left-- > 0) world.store.audit.change(unrelated);
    };
    expect((await suspend(world)).change?.changes).toBe(true);
    await expectSound(world);
  });

  it.each([
    ['of access', () => access],
    ['of the same key', (keyId: string) => ({ ...other, keyId, keyName: NAME })],
  ])('%s, between grant and commit, send it back to its authorization', async (_name, changeOf) => {
    for (const moment of ['before', 'while planning', 'at the commit'] as const) {
      const world = await newWorld();
      const id = await world.create({ name: NAME, suite: 'MLKEM768-P256' });
      const grant = world.grant('keys.rotate', NAME);
      const happen = async () => {
        world.store.audit.change(changeOf(id));
        await Promise.resolve();
        if (moment !== 'at the commit')
          world.epoch.advance(await world.store.audit.changesSince(0));
      };
      if (moment === 'before') await happen();
      let once = moment === 'before';
      world.store.meanwhile = async (call) => {
        if (once || call !== (moment === 'at the commit' ? 'commit' : 'allRead')) return;
        once = true;
        await happen();
      };
      const before = rowsOf(world);
      const input = toSuite('MLKEM768-X25519');
      const rotating = world.keyring.manage.rotate(grant, input, aRun());
      await expect(rotating).rejects.toBeInstanceOf(StaleAnswer);
      expect(rowsOf(world)).toEqual(before);
      expect(world.device.token.objects.size).toBe(0);
      expect(world.store.rows.intents.size).toBe(0);
    }
  });

  it('learnt while it waits for its turn count, though its commit would be under the new epoch', async () => {
    const world = await newWorld();
    await made('A256GCM')(world);
    const grant = world.grant('keys.update', NAME);
    let once = false;
    world.store.meanwhile = async (call) => {
      if (call !== 'commit' || once) return;
      once = true;
      // The first change is inside its commit; the second one waits behind it.
      await new Promise((resolve) => setTimeout(resolve, 50));
      world.store.audit.change(access);
    };
    const input = (label: string) => ({ labels: { [label]: '1' } });
    const first = world.keyring.manage.update(grant, input('a'), aRun());
    const second = world.keyring.manage.update(grant, input('b'), aRun());
    const outcomes = await Promise.allSettled([first, second]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ reason: expect.any(StaleAnswer) as unknown });
    }
  });

  it('of another instance that took the version: undoing ours spares its token object', async () => {
    const world = await newWorld();
    const other = await world.second();
    await made('MLKEM768-P256')(world);
    other.epoch.advance(await world.store.audit.changesSince(other.epoch.current));
    const input = toSuite('MLKEM768-X25519');
    let once = false;
    world.store.meanwhile = async (call) => {
      if (once || call !== 'allRead') return;
      once = true;
      await other.keyring.manage.rotate(other.grant('keys.rotate', NAME), input, aRun());
    };
    await expect(rotate(world, input)).rejects.toBeInstanceOf(StaleAnswer);
    expect(world.device.token.objects.size).toBe(1);
    expect(await other.unwrap(NAME, await other.wrap(NAME, 'kept'))).toBe('kept');
    await expectSound(world);
  });

  it('keep overtaking it: conflict, and nothing is left', async () => {
    const world = await newWorld();
    const grant = world.grant('keys.create', NAME);
    world.store.meanwhile = async (call) => {
      if (call === 'commit') world.store.audit.change(unrelated);
    };
    const key = aKey({ name: NAME, suite: 'MLKEM768-X25519' });
    await expect(world.keyring.manage.create(grant, key, aRun())).rejects.toMatchObject({
      code: 'conflict',
    });
    world.store.meanwhile = () => Promise.resolve();
    expect(world.device.token.objects.size).toBe(0);
    await expectSound(world);
  });

  it('of one’s own is known without a reading, which might fail', async () => {
    const world = await newWorld();
    const grant = world.grant('keys.create', NAME);
    world.store.audit.plan = (call) => (call === 'changesSince' ? 'refused' : 'none');
    const key = aKey({ name: NAME, suite: 'MLKEM768-X25519' });
    const done = await world.keyring.manage.create(grant, key, aRun());
    expect(done.change?.changes).toBe(true);
    expect(world.device.token.objects.size).toBe(1);
    expect(world.epoch.current).toBe(world.store.audit.epoch);
    heal(world);
    await expectSound(world);
  });
});

describe('a refusal', () => {
  const refusing = async (
    code: ErrorCode,
    { dryRun = false, confirmed = () => Promise.resolve() } = {},
  ) => {
    const world = await newWorld();
    const changes = new Changes(
      {
        store: world.store,
        audit: { confirmed } as unknown as AuditLog,
        epoch: world.epoch,
        refreshEpoch: () => Promise.resolve(),
        mac: () => Promise.resolve(new Uint8Array(32)),
        integrity: new IntegrityWatch(),
      },
      OF_KEYS,
    );
    return changes.run(world.grant('keys.update', NAME), aRun({ dryRun }), () =>
      Promise.reject(new TwofoldError(code)),
    );
  };

  it.each([
    ['etag_mismatch', false, true],
    ['precondition_required', false, true],
    ['not_found', false, true],
    ['key_exists', false, true],
    ['already_exists', false, true],
    ['approval_used', false, true],
    ['approval_ended', false, true],
    ['etag_mismatch', true, false],
    ['invalid_value', false, false],
  ] as const)('with %s (dry run: %s) waits for all instances: %s', async (code, dryRun, waits) => {
    let asked = 0;
    const confirmed = async () => {
      asked += 1;
    };
    expect(await codeOf(refusing(code, { dryRun, confirmed }))).toBe(code);
    expect(asked).toBe(waits ? 1 : 0);
  });

  it('is not said where nobody knows what they have heard', async () => {
    const confirmed = () =>
      Promise.reject(new TwofoldError('audit_unavailable', 'The change is written.'));
    await expect(refusing('etag_mismatch', { confirmed })).rejects.toMatchObject({
      code: 'audit_unavailable',
      detail: expect.stringContaining('is refused (etag_mismatch), and nothing of it') as unknown,
    });
  });
});

describe('undoing', () => {
  it.each<[boolean, string, Error]>([
    [false, 'nobody knows', new OutcomeUnknown()],
    [false, 'nobody knows in time', new TwofoldError('audit_unavailable')],
    [false, 'something else broke', new Error('unexpected')],
    [true, 'the database refused', new TwofoldError('conflict')],
    [true, 'another change came first', new StaleAnswer()],
  ])('happens (%s) when %s what became of the commit', async (undone, _name, error) => {
    const world = await newWorld();
    const change: AuditLog['change'] = () => Promise.reject(error);
    const audit = { change } as unknown as AuditLog;
    const refreshEpoch = () => Promise.resolve();
    const changes = new Changes(
      {
        store: world.store,
        audit,
        epoch: world.epoch,
        refreshEpoch,
        mac: () => Promise.resolve(new Uint8Array(32)),
        integrity: new IntegrityWatch(),
      },
      OF_KEYS,
    );
    const view = await world.keyring.read.get(
      world.grant('keys.read', await world.create({ suite: 'A256GCM' })),
    );
    let discarded = false;
    const plan: Plan = {
      ...planNothing(view, {}),
      discard: () => {
        discarded = true;
        return Promise.resolve();
      },
    };
    const running = changes.run(world.grant('keys.create', NAME), aRun(), () =>
      Promise.resolve(plan),
    );
    await expect(running).rejects.toBeInstanceOf(Error);
    expect(discarded).toBe(undone);
  });

  it('that fails leaves the intent, and the first error', async () => {
    const world = await newWorld();
    world.device.fault = (call) =>
      call === 'random'
        ? new TwofoldError('hsm_busy')
        : call === 'destroyTokenKey'
          ? 'before'
          : 'none';
    const key = aKey({ name: NAME, suite: 'MLKEM768-X25519' });
    const creating = world.keyring.manage.create(world.grant('keys.create', NAME), key, aRun());
    await expect(creating).rejects.toMatchObject({ code: 'hsm_busy' });
    expect(world.device.token.objects.size).toBe(1);
    expect(world.store.rows.intents.size).toBe(1);
    heal(world);
    await expectSound(world);
  });

  it('spares the objects of living instances, of keys, and of others', async () => {
    const world = await newWorld();
    await made('MLKEM768-X25519')(world);
    const objectId = Buffer.concat([Buffer.alloc(16, 9), Buffer.alloc(21)]);
    await world.device.hsm.generate(
      { kind: 'x25519', use: 'derive' },
      { custody: 'hsm-token', objectId },
    );
    const living = Buffer.concat([
      Buffer.from(INSTALLATION.replaceAll('-', ''), 'hex'),
      Buffer.alloc(21),
    ]);
    const intent = {
      objectId: living,
      installation: INSTALLATION,
      tokenSerial: world.device.token.serial,
      instance: 'living',
      createdAt: new Date(),
    };
    await world.store.intendTokenObject(await attestIntent(world.root.mac, intent));
    await world.device.hsm.generate(
      { kind: 'x25519', use: 'derive' },
      { custody: 'hsm-token', objectId: living },
    );
    world.store.dead.add(world.id);
    expect(await orphansOf(world)).toEqual({ removed: 0, refused: 0 });
    expect(world.device.token.objects.size).toBe(3);
    world.store.dead.add('living');
    expect(await orphansOf(world)).toEqual({ removed: 1, refused: 0 });
    expect(world.device.token.objects.size).toBe(2);
    expect(removals(world)).toEqual([living.toString('hex')]);
  });

  it('believes no intent that a holder of the root did not write', async () => {
    const world = await newWorld();
    await made('MLKEM768-X25519')(world);
    const [object] = world.device.token.objects.keys();
    const objectId = Buffer.from(object ?? '', 'hex');
    const value = {
      objectId,
      installation: INSTALLATION,
      tokenSerial: world.device.token.serial,
      instance: 'dead',
      createdAt: new Date(),
    };
    const genuine = await attestIntent(world.root.mac, { ...value, objectId: Buffer.alloc(37) });
    await world.store.intendTokenObject({ value, mac: genuine.mac });
    world.store.dead.add('dead');
    expect(await orphansOf(world)).toEqual({ removed: 0, refused: 1 });
    expect(world.device.token.objects.size).toBe(1);
    expect(removals(world)).toEqual([]);
  });

  it('leaves the intents of another token to a start on that token', async () => {
    const world = await newWorld();
    const elsewhere = await attestIntent(world.root.mac, {
      objectId: Buffer.alloc(37, 7),
      installation: INSTALLATION,
      tokenSerial: 'of another token',
      instance: 'dead',
      createdAt: new Date(),
    });
    await world.store.intendTokenObject(elsewhere);
    world.store.dead.add('dead');
    expect(await orphansOf(world)).toEqual({ removed: 0, refused: 0 });
    expect(world.store.rows.intents.size).toBe(1);
  });

  it('removes nothing before the entry that says so is durable', async () => {
    const world = await newWorld();
    const objectId = Buffer.concat([
      Buffer.from(INSTALLATION.replaceAll('-', ''), 'hex'),
      Buffer.alloc(21),
    ]);
    await world.store.intendTokenObject(
      await attestIntent(world.root.mac, {
        objectId,
        installation: INSTALLATION,
        tokenSerial: world.device.token.serial,
        instance: 'dead',
        createdAt: new Date(),
      }),
    );
    const spec = { kind: 'x25519', use: 'derive' } as const;
    await world.device.hsm.generate(spec, { custody: 'hsm-token', objectId });
    world.store.dead.add('dead');
    world.store.audit.plan = (call) => (call === 'append' ? 'refused' : 'none');
    expect(await codeOf(orphansOf(world))).toBe('audit_unavailable');
    expect(world.device.token.objects.size).toBe(1);
    heal(world);
    expect(await orphansOf(world)).toEqual({ removed: 1, refused: 0 });
    expect(removals(world)).toEqual([objectId.toString('hex')]);
  }, 20_000);
});

describe('a request sent twice at once', () => {
  it('is answered with its own success by the one that finds its effect there', async () => {
    const world = await newWorld();
    const key = aKey({ name: NAME });
    const idempotency = { key: 'once', requestHash: new Uint8Array(32) };
    const create = () =>
      world.keyring.manage.create(world.grant('keys.create', NAME), key, aRun({ idempotency }));
    let first: ChangeDone | undefined;
    world.store.meanwhile = async (call) => {
      if (call !== 'find') return;
      world.store.meanwhile = () => Promise.resolve();
      first = await create();
    };
    const second = await create();
    expect(second).toMatchObject({ replayed: true, auditId: first?.auditId, body: first?.body });
    expect(world.store.rows.keys.size).toBe(1);
  });
});
