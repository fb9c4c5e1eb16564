/**
 * P5 for the end of a namespace: once its removal has been answered by one instance, another one answers
 * nothing more in it, neither what is asked afterwards nor what was under way; and no key is made
 * beside the removal, whichever of both comes first.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { StaleAnswer } from '../../src/audit/ports.ts';
import { Site } from '../http/stored-service.ts';
import type { Called, CallInit, Service } from '../http/service.ts';
import { aRun } from '../keyring/world.ts';
import type { Instance } from '../keyring/world.ts';

const PATH = '/v1/admin/namespaces';

let site: Site;
let first: Service<Instance>;
let second: Service<Instance>;
/** Run once: on `second` when a key was planned or listed, on `first` when no living key was found. */
let beforeAnswer: () => Promise<unknown> = () => Promise.resolve();
let beforeRemoval: () => Promise<unknown> = () => Promise.resolve();

beforeAll(async () => {
  site = await Site.open();
  const destruction = { minimumWaitMs: 0, defaultWaitMs: 0, backupHorizonMs: null };
  first = await site.service({ destruction });
  second = await site.service({
    destruction,
    replace: ({ manage, read }) => ({
      manage: Object.assign(Object.create(manage) as typeof manage, {
        create: async (...given: Parameters<typeof manage.create>) => {
          await beforeAnswer();
          return manage.create(...given);
        },
      }),
      read: Object.assign(Object.create(read) as typeof read, {
        list: async (...given: Parameters<typeof read.list>) => {
          const page = await read.list(...given);
          await beforeAnswer();
          return page;
        },
      }),
    }),
  });
  const { store } = first.world.governing;
  const living = store.hasLivingKeys.bind(store);
  store.hasLivingKeys = async (namespace) => {
    const found = await living(namespace);
    await beforeRemoval();
    return found;
  };
}, 60_000);
afterAll(() => site.close(), 60_000);

const once = (act: () => Promise<unknown>, forget: (none: () => Promise<unknown>) => void) => {
  return async () => {
    forget(() => Promise.resolve());
    await act();
  };
};
const within = (at: Service<Instance>, name: string, method: string, path: string, json?: object) =>
  at.call('admin', method, path, {
    headers: { 'twofold-namespace': name },
    ...(json === undefined ? {} : { json }),
  });
const make = async (name: string) => {
  expect((await first.call('admin', 'POST', PATH, { json: { name } })).status).toBe(201);
  await second.world.governing.refreshEpoch();
};
const remove = (name: string, init: CallInit = {}, query = '') =>
  first.call('admin', 'DELETE', `${PATH}/${name}${query}`, init);
const key = (at: Service<Instance>, namespace: string, name = 'k') =>
  within(at, namespace, 'POST', '/v1/admin/keys', { name, suite: 'A256GCM' });
const outcome = ({ status, json }: Called) => [status, json['code']];
const keys = (name: string) => within(second, name, 'GET', '/v1/keys');
const GONE = [404, 'not_found'];

/** As the scheduler does it, at once. */
async function destroy(namespace: string): Promise<void> {
  const path = '/v1/admin/keys/k/destruction';
  const json = { after: 'P0D', reason: 'a drill' };
  const headers = { 'twofold-namespace': namespace, 'if-match': '"1"' };
  expect((await first.call('admin', 'PUT', path, { json, headers })).status).toBe(200);
  const { world } = first;
  for (;;) {
    try {
      await world.keyring.lifecycle.destroyKey(world.grant('keys.destroy', 'k', namespace), aRun());
      return;
    } catch (error) {
      if (!(error instanceof StaleAnswer)) throw error;
    }
  }
}

describe('P5: a namespace that is removed', () => {
  it('ends at once in another instance, and its name never comes back', async () => {
    await make('gone-1');
    expect((await keys('gone-1')).status).toBe(200);
    const removed = await remove('gone-1');
    expect(outcome(removed)).toEqual([200, undefined]);
    expect(removed.json).toMatchObject({ name: 'gone-1', deleted: true });
    expect(outcome(await keys('gone-1'))).toEqual(GONE);
    expect(outcome(await key(second, 'gone-1'))).toEqual(GONE);
    expect(outcome(await remove('gone-1'))).toEqual(GONE);
    const again = await second.call('admin', 'POST', PATH, { json: { name: 'gone-1' } });
    expect(outcome(again)).toEqual([409, 'name_retired']);
    const id = removed.headers.get('twofold-audit-id') ?? '';
    const entry = await first.deps.audit.read(id);
    expect(entry?.draft).toMatchObject({
      operation: 'namespaces.change',
      namespace: 'default',
      detail: { name: 'gone-1', kind: 'remove' },
    });
  });

  it('keeps back the answer that another instance has under way', async () => {
    await make('gone-2');
    let removed = 0;
    beforeAnswer = once(
      async () => {
        removed = (await remove('gone-2')).status;
      },
      (none) => (beforeAnswer = none),
    );
    expect(outcome(await keys('gone-2'))).toEqual(GONE);
    expect(removed).toBe(200);
  });

  it('gets no key of a request that was under way', async () => {
    await make('gone-3');
    beforeAnswer = once(
      () => remove('gone-3'),
      (none) => (beforeAnswer = none),
    );
    expect(outcome(await key(second, 'gone-3'))).toEqual(GONE);
    expect(await first.world.governing.store.hasLivingKeys('gone-3')).toBe(false);
  });

  it('is not removed where a key was made after none was found', async () => {
    await make('kept');
    beforeRemoval = once(
      async () => expect((await key(second, 'kept')).status).toBe(201),
      (none) => (beforeRemoval = none),
    );
    expect(outcome(await remove('kept'))).toEqual([409, 'namespace_not_empty']);
    expect((await keys('kept')).status).toBe(200);
  });

  it('has no key but destroyed ones, and takes all that governs access with it', async () => {
    await make('ended');
    expect((await key(first, 'ended')).status).toBe(201);
    const cedar = 'permit (principal, action, resource);';
    const written = [
      await within(first, 'ended', 'PUT', '/v1/admin/policies/p', { cedar }),
      await within(first, 'ended', 'PUT', '/v1/admin/policies/q', { cedar }),
      await within(first, 'ended', 'POST', '/v1/admin/denials', { tokenId: 't', reason: 'r' }),
      await within(first, 'ended', 'PUT', '/v1/admin/approval-rules/r', {
        guards: ['keys.export'],
        needed: 1,
        expiresAfter: 'PT1H',
        mayLockOut: true,
      }),
    ];
    expect(written.map(({ status }) => status)).toEqual([200, 200, 201, 200]);
    const grant = {
      grantee: { issuer: 'i', subject: 's' },
      operations: ['wrap'],
      expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
    };
    const lent = await within(first, 'ended', 'POST', '/v1/admin/keys/k/grants', grant);
    expect(lent.status).toBe(201);
    expect(outcome(await remove('ended'))).toEqual([409, 'namespace_not_empty']);
    expect(outcome(await remove('ended', {}, '?dryRun=true'))).toEqual([
      409,
      'namespace_not_empty',
    ]);
    await destroy('ended');
    const counts = { 'approval-rule': 1, denial: 1, policy: 2 };
    const tried = await remove('ended', {}, '?dryRun=true');
    expect(tried.json).toMatchObject({ dryRun: true, deleted: true, removed: counts });
    expect((await keys('ended')).status).toBe(200);
    const stale = await remove('ended', { headers: { 'if-match': '"1"' } });
    expect(outcome(stale)).toEqual([412, 'etag_mismatch']);
    expect((await remove('ended')).json['removed']).toEqual(counts);
    const { sets, epoch } = first.world.governing;
    expect(await sets.kinds('ended')).toEqual([]);
    for (const kind of Object.keys(counts)) {
      const { seal, members } = await sets.set(kind, 'ended', epoch.current);
      expect([kind, members, (seal?.value.revision ?? 0) > 1]).toEqual([kind, [], true]);
    }
    const history = { kind: 'policy', namespace: 'ended', name: 'p', before: null, pageSize: 9 };
    const past = (await sets.history(history)).map(({ value }) => value.value);
    expect(past).toMatchObject([null, expect.any(Object)]);
  });

  it('is not the root, and is ended in the root alone', async () => {
    await make('other');
    expect(outcome(await remove('default'))).toEqual(GONE);
    const inside = await within(first, 'other', 'DELETE', `${PATH}/other`);
    expect(outcome(inside)).toEqual([403, 'forbidden']);
    const operator = await first.call('operator', 'DELETE', `${PATH}/other`);
    expect(outcome(operator)).toEqual([403, 'forbidden']);
  });
});
