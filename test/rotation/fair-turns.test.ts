/** Whoever has very much to look at keeps nobody else from their turn. */
import { afterAll, beforeAll, beforeEach, expect, it } from '@jest/globals';
import type { Labels } from '../../src/keyring/model.ts';
import { newPolicy } from '../../src/keyring/rotation-policy.ts';
import { aKey, aRun } from '../keyring/world.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { DAY, openStage, TERMS } from './stage.ts';
import type { Actor, Stage } from './stage.ts';

let stage: Stage;
let first: Actor;
beforeAll(async () => {
  stage = await openStage();
  first = stage.first;
}, 60_000);
afterAll(() => stage.stop(), 60_000);

const asOwner = <T = unknown>(sql: string, values: unknown[] = []): Promise<T[]> =>
  rowsAsOwner<T>(stage.database, sql, values);
beforeEach(async () => {
  await asOwner('update public.key_schedule set next_at = null');
  await asOwner('update public.leadership set holder = null');
});
const primaryOf = async (id: string) =>
  (await first.keyring.read.fresh(first.grant('keys.read', id))).key.primary;

/** Keys by SQL alone with the lowest ids, of a namespace that is suspended: a look at one writes that it is, and no more. */
async function makeCrowd(keys: number): Promise<void> {
  const change = first.grant('namespaces.change', null);
  const run = () => ({ ...aRun(), render: () => ({ status: 200, body: '' }) });
  await first.namespaces.create(change, { name: 'crowd', description: '' }, run());
  const key = aKey({ name: 'k', suite: 'HS256' });
  await first.keyring.manage.create(first.grant('keys.create', 'k', 'crowd'), key, aRun());
  const again = first.grant('namespaces.change', null);
  await first.namespaces.suspend(again, { name: 'crowd', reason: 'a test' }, run());
  const columns = await asOwner<{ name: string }>(
    `select attname as name from pg_attribute
      where attrelid = 'public.key'::regclass and attnum > 0 and not attisdropped order by attnum`,
  );
  const id = `('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid`;
  const changed: Readonly<Record<string, string>> = { id, name: `'k-' || i` };
  await asOwner(
    `insert into public.key select ${columns.map(({ name }) => changed[name] ?? `t.${name}`).join(', ')}
      from public.key t, generate_series(1, $1::integer) i where t.namespace = 'crowd'`,
    [keys],
  );
}

it('a key that is marked is looked at, however many of another namespace are marked all the time', async () => {
  await makeCrowd(500);
  const policy = newPolicy({ ...TERMS, interval: 'P30D' });
  const id = await first.create({ suite: 'HS256' });
  stage.policies.push({ name: 'all', selector: {}, priority: 0, policy });
  stage.clock.now += 31 * DAY;
  const { scheduler } = first.scheduler();
  const looks: number[] = [];
  for (let tick = 0; tick < 3; tick += 1) {
    await asOwner(
      `update public.key_schedule set next_at = '-infinity', marks = marks + 1
        where namespace = 'crowd' or key_id = $1`,
      [id],
    );
    looks.push((await scheduler.tick()).looks);
  }
  // More than a tick looks at.
  expect(Math.min(...looks)).toBeGreaterThanOrEqual(400);
  expect(await primaryOf(id)).toBeGreaterThanOrEqual(2);
}, 30_000);

it('changed policies have every namespace’s keys looked at, though those of another change before each step', async () => {
  const run = () => ({ ...aRun(), render: () => ({ status: 200, body: '' }) });
  const change = first.grant('namespaces.change', null);
  await first.namespaces.create(change, { name: 'later', description: '' }, run());
  const put = (namespace: string, name: string) =>
    first.ruling.put(
      first.grant('rotation-policies.change', null, namespace),
      { name, selector: {}, priority: 0, terms: { ...TERMS, interval: 'P30D' } },
      run(),
    );
  for (const namespace of ['default', 'later']) {
    const key = aKey({ name: 'turn', suite: 'HS256' });
    const grant = first.grant('keys.create', 'turn', namespace);
    await first.keyring.manage.create(grant, key, aRun());
    await put(namespace, 'first');
  }
  await asOwner('update public.key_schedule set next_at = null');
  for (let step = 1; step <= 3; step += 1) {
    await put('default', `again-${String(step)}`);
    await stage.store.policies.markNext(1);
  }
  const marked = await asOwner<{ namespace: string }>(
    `select distinct namespace from public.key_schedule where next_at = '-infinity' order by 1`,
  );
  expect(marked.map(({ namespace }) => namespace)).toEqual(['default', 'later']);
});

it('keys that are due have the turns of those that wait no more', async () => {
  const policy = newPolicy({ ...TERMS, interval: 'P30D' });
  const made = (labels: Labels, count: number) =>
    Promise.all(Array.from({ length: count }, () => first.create({ suite: 'HS256', labels })));
  const [many, few] = [await made({ of: 'many' }, 40), await made({ of: 'few' }, 5)];
  const mark = (ids: readonly string[]) =>
    asOwner(
      `update public.key_schedule set next_at = '-infinity', marks = marks + 1
        where key_id = any($1::uuid[])`,
      [ids],
    );
  await asOwner('update public.key_schedule set next_at = null');
  stage.clock.now += 31 * DAY;
  const { scheduler } = first.scheduler({ perMinute: 6 });
  stage.policies.length = 0;
  stage.policies.push({ name: 'many', selector: { of: 'many' }, priority: 0, policy });
  await mark(many);
  await scheduler.tick();
  // Their turns are over in some six minutes; then no policy asks for them any more.
  stage.policies.length = 0;
  stage.policies.push({ name: 'none', selector: { of: 'none' }, priority: 0, policy });
  await mark(many);
  await scheduler.tick();
  stage.policies.push({ name: 'few', selector: { of: 'few' }, priority: 0, policy });
  await mark(few);
  for (let tick = 0; tick <= 30; tick += 1) {
    await scheduler.tick();
    stage.clock.now += 2_000;
  }
  expect(await Promise.all(few.map(primaryOf))).toEqual(few.map(() => 2));
}, 30_000);
