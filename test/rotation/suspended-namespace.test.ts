/** Nothing is done in a suspended namespace, whatever is due or was ordered; afterwards it goes on. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { newPolicy } from '../../src/keyring/rotation-policy.ts';
import type { SetRun } from '../../src/governance/sealed-set.ts';
import type { Namespace } from '../../src/governance/namespaces.ts';
import { aKey, aRun } from '../keyring/world.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { Actor, Stage } from './stage.ts';

let stage: Stage;
let first: Actor;
let count = 0;
let namespace = '';

beforeAll(async () => {
  stage = await openStage();
  first = stage.first;
}, 60_000);
afterAll(() => stage.stop(), 60_000);

const setRun = (): SetRun<Namespace> => ({ ...aRun(), render: () => ({ status: 200, body: '' }) });
const root = () => first.grant('namespaces.change', null);
const input = () => ({ name: namespace, reason: 'a drill' });
const suspend = () => first.namespaces.suspend(root(), input(), setRun());
const resume = () => first.namespaces.resume(root(), input(), setRun());

async function makeKey(name: string): Promise<void> {
  const key = aKey({ name, suite: 'HS256' });
  await first.keyring.manage.create(first.grant('keys.create', name, namespace), key, aRun());
}
const versionsOf = async (name: string) =>
  (await first.keyring.read.fresh(first.grant('keys.read', name, namespace))).key.latestVersion;

beforeEach(async () => {
  count += 1;
  namespace = `team-${String(count)}`;
  stage.failures.length = 0;
  stage.policies.length = 0;
  await rowsAsOwner(stage.database, 'update public.key_schedule set next_at = null');
  await rowsAsOwner(stage.database, 'update public.leadership set holder = null');
  const made = { name: namespace, description: '' };
  await first.namespaces.create(root(), made, setRun());
  await makeKey('k');
});

describe('what is due in a suspended namespace', () => {
  const rule = () => {
    const policy = newPolicy({ ...TERMS, interval: 'P30D' });
    stage.policies.push({ name: 'all', selector: {}, priority: 0, policy });
  };

  it('waits without failing, and is done when it is resumed', async () => {
    rule();
    const { scheduler } = first.scheduler();
    await scheduler.tick();
    stage.clock.now += 31 * DAY;
    await suspend();
    expect(await scheduler.tick()).toMatchObject({ leads: true, actions: 0, failures: 0 });
    stage.clock.now += DAY;
    expect(await scheduler.tick()).toMatchObject({ actions: 0, failures: 0 });
    expect([await versionsOf('k'), stage.failures]).toEqual([1, []]);
    await resume();
    stage.clock.now += DAY / 24;
    expect(await scheduler.tick()).toMatchObject({ actions: 1, failures: 0 });
    expect(await versionsOf('k')).toBe(2);
  });

  it('is not done by an act that had begun', async () => {
    rule();
    let suspended = 0;
    const { scheduler } = first.scheduler({
      act: (act) => async (grant, action, run) => {
        suspended += 1;
        const minted = grant('keys.rotate');
        if (suspended === 1) await suspend();
        return act((() => minted) as typeof grant, action, run);
      },
    });
    await scheduler.tick();
    stage.clock.now += 31 * DAY;
    await scheduler.tick();
    expect([suspended, await versionsOf('k'), stage.failures]).toEqual([1, 1, []]);
  });
});

describe('an order in a suspended namespace', () => {
  const place = async () => {
    const { body } = await first.keyring.orders.place(
      first.grant('rotations.order', null, namespace),
      { labels: null, suite: null, reason: 'a test', running: 1_000 },
      { ...aRun(), render: ({ id }) => ({ status: 202, body: id }) },
    );
    return body;
  };
  const stateOf = async (id: string) => {
    const [row] = await rowsAsOwner<{ state: string }>(
      stage.database,
      'select state from public.operation where id = $1',
      [id],
    );
    return row?.state;
  };

  it('waits, and is carried out when it is resumed', async () => {
    const id = await place();
    await suspend();
    const { scheduler } = first.scheduler();
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect([await stateOf(id), await versionsOf('k')]).toEqual(['running', 1]);
    await resume();
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect([await stateOf(id), await versionsOf('k')]).toEqual(['succeeded', 2]);
  });

  it('rotates no key whose rotation had begun', async () => {
    const id = await place();
    let suspended = 0;
    const { scheduler } = first.scheduler({
      rotate: async (given, manage) => {
        suspended += 1;
        if (suspended === 1) await suspend();
        return manage.rotate(...given);
      },
    });
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect([suspended, await stateOf(id), await versionsOf('k'), stage.failures]).toEqual([
      1,
      'running',
      1,
      [],
    ]);
  });

  it('is in the way of no other, however many there are', async () => {
    await suspend();
    await rowsAsOwner(
      stage.database,
      `insert into public.operation (id, kind, namespace, request, issuer, subject, rate, created_at,
         mac, state, position, counts, updated_at, expires_at, revision)
       select gen_random_uuid(), 'rotation', $1, '{}', 'i', 's', 1, '2001-01-01', '\\x00', 'running', 0,
         '{}', '2001-01-01', '2100-01-01', 1 from generate_series(1, 2001)`,
      [namespace],
    );
    namespace = 'in-use';
    await first.namespaces.create(root(), { name: namespace, description: '' }, setRun());
    await makeKey('k');
    const id = await place();
    const { scheduler } = first.scheduler();
    for (let tick = 0; tick < 3; tick += 1) await scheduler.tick();
    expect([await stateOf(id), await versionsOf('k')]).toEqual(['succeeded', 2]);
  });
});
