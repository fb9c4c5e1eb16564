/**
 * Destruction over real HTTP, PostgreSQL and SoftHSM: two instances on one database and one token, of
 * which neither tells the other anything.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { StaleAnswer } from '../../src/audit/ports.ts';
import { TwofoldError } from '../../src/errors.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import { removeOrphans } from '../../src/keyring/orphans.ts';
import type { Root } from '../../src/keyring/root.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { makeToken, ROOT } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { openStoredInstance } from '../keyring/stored-instance.ts';
import { aRun, codeOf } from '../keyring/world.ts';
import type { Instance } from '../keyring/world.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { withClient } from '../store/owner.ts';
import { startRelay } from '../store/relay.ts';
import { openServiceOver } from './service.ts';
import type { Called, Service } from './service.ts';

const HORIZON = 30 * 86_400_000;
const AT_ONCE = { minimumWaitMs: 0, defaultWaitMs: 86_400_000, backupHorizonMs: HORIZON };
const WHY = { reason: 'a drill' };

let database: TestDatabase;
let store: Store;
let fixture: TokenFixture;
let hsm: PooledHsm;
let root: Root;
let one: Service<Instance>;
let two: Service<Instance>;

async function startInstance(over = store): Promise<Instance> {
  const instance = await openStoredInstance(over, { hsm, destruction: AT_ONCE });
  ({ root } = instance);
  return instance;
}

const startService = async () =>
  openServiceOver(await startInstance(), { backupHorizonMs: HORIZON });

beforeAll(async () => {
  [database, fixture] = await Promise.all([startTestDatabase(), makeToken()]);
  store = openStore({ url: database.appUrl });
  hsm = await fixture.open();
}, 90_000);
afterAll(async () => {
  await hsm.close();
  fixture.remove();
  await store.close();
  await database.stop();
}, 60_000);

let key: string;
beforeEach(async () => {
  one = await startService();
  two = await startService();
  key = `k-${randomUUID().slice(0, 8)}`;
});
afterEach(async () => {
  await one.stop();
  await two.stop();
});

const admin = (method: string, path: string, json?: unknown, match?: string, at = one) =>
  at.call('admin', method, `/v1/admin/keys/${key}${path}`, {
    ...(json === undefined ? {} : { json }),
    ...(match === undefined ? {} : { headers: { 'if-match': match } }),
  });
const make = async (suite: string, more = {}) => {
  const made = await one.call('admin', 'POST', '/v1/admin/keys', {
    json: { name: key, suite, ...more },
  });
  expect(made.status).toBe(201);
};
const tagOf = async () => {
  const { headers } = await one.call('admin', 'GET', `/v1/keys/${key}`);
  return String(headers.get('etag'));
};
const shown = (path = '') => two.call('auditor', 'GET', `/v1/keys/${key}${path}`);
const doom = async (path = '', more: object = { after: 'P0D' }) =>
  admin('PUT', `${path}/destruction`, { ...more, ...WHY }, await tagOf());
const wrap = (at: Service<Instance>) =>
  at.call('user', 'POST', `/v1/keys/${key}/wrap`, { json: { plaintext: 'AAAA' } });
const unwrap = (at: Service<Instance>, { json }: Called) =>
  at.call('user', 'POST', `/v1/keys/${key}/unwrap`, { json: { ciphertext: json['ciphertext'] } });
const outcome = ({ status, json }: Called) => [status, json['code']];
const NOT_USABLE = [409, 'version_not_usable'];

/** As the scheduler calls it: again from authorization when another change came between. */
async function destroyKey({ world }: Pick<Service<Instance>, 'world'>) {
  for (;;) {
    try {
      const grant = world.grant('keys.destroy', key);
      return await world.keyring.lifecycle.destroyKey(grant, aRun());
    } catch (error) {
      if (!(error instanceof StaleAnswer)) throw error;
    }
  }
}

const columns = (select: string) =>
  withClient(database.ownerUrl, async (client) => {
    const text = `select ${select} as it from key_version v join key k on k.id = v.key_id
      where k.name = $1 order by version`;
    const { rows } = await client.query<{ it: unknown }>(text, [key]);
    return rows.map(({ it: value }) => value);
  });
const BLOBS = 'num_nonnulls(classical_blob, classical_public, pq_sealed, pq_public, psk_sealed)';
const intents = () =>
  withClient(database.ownerUrl, async (client) => {
    const { rowCount } = await client.query('select 1 from token_intent');
    return rowCount;
  });
const objects = async () => (await hsm.tokenKeys(ROOT.installation)).length;

describe('a destruction', () => {
  it('needs If-Match, of this revision', async () => {
    await make('MLKEM768-P256');
    const bare = await admin('PUT', '/destruction', WHY);
    expect(outcome(bare)).toEqual([428, 'precondition_required']);
    const other = await admin('PUT', '/destruction', WHY, '"99"');
    expect(outcome(other)).toEqual([412, 'etag_mismatch']);
    expect(outcome(await admin('DELETE', '/destruction'))).toEqual([428, 'precondition_required']);
    const both = { at: '2050-01-01T00:00:00Z', after: 'P1D', ...WHY };
    const refused = await admin('PUT', '/destruction', both, await tagOf());
    expect(outcome(refused)).toEqual([400, 'invalid_value']);
  });

  it('that is pending ends every use in every instance, and says until when copies exist', async () => {
    await make('MLKEM768-P256');
    const wrapped = await wrap(two);
    expect((await unwrap(two, wrapped)).status).toBe(200);
    const pending = await doom('', {});
    expect(pending.status).toBe(200);
    for (const at of [two, one]) {
      expect(outcome(await unwrap(at, wrapped))).toEqual(NOT_USABLE);
      expect(outcome(await wrap(at))).toEqual(NOT_USABLE);
    }
    const { json } = await shown();
    const at = new Date((json['destruction'] as { at: string }).at);
    expect(json).toMatchObject({
      state: 'pending-destruction',
      copies: {
        backupsUntil: new Date(at.getTime() + HORIZON).toISOString(),
        rootGeneration: ROOT.generation,
      },
    });
    expect(await codeOf(destroyKey(two))).toBe('version_not_usable');
    const cancelled = await admin('DELETE', '/destruction', undefined, await tagOf(), two);
    expect(cancelled.json).toMatchObject({ state: 'enabled', destruction: null });
    expect((await unwrap(one, wrapped)).status).toBe(200);
  });

  it('of a key takes the blobs, keeps the row and the name, and the row is genuine', async () => {
    await make('MLKEM768-P256');
    await admin('POST', '/rotate', {});
    const wrapped = await wrap(one);
    const before = await shown('/versions/1');
    await doom();
    expect(await columns(`${BLOBS} > 0`)).toEqual([true, true]);
    await destroyKey(two);
    expect(await columns(BLOBS)).toEqual([0, 0]);
    expect(outcome(await unwrap(one, wrapped))).toEqual(NOT_USABLE);
    const { json } = await shown();
    expect(json).toMatchObject({ state: 'destroyed', primary: null, destruction: null });
    // Until when a copy may exist stays true: of the key, and of each version with when it was in use.
    expect(json['copies']).toEqual({
      backupsUntil: new Date(Date.parse(String(json['destroyedAt'])) + HORIZON).toISOString(),
      rootGeneration: ROOT.generation,
    });
    expect((await shown('/versions/1')).json).toMatchObject({
      state: 'destroyed',
      usable: false,
      usableFor: [],
      halves: [],
      activatedAt: before.json['activatedAt'],
      deactivatedAt: null,
      copies: { rootGeneration: ROOT.generation },
    });
    expect((await shown('/versions')).json['items']).toMatchObject([
      (await shown('/versions/1')).json,
      { version: 2, copies: { rootGeneration: ROOT.generation } },
    ]);
    const again = await one.call('admin', 'POST', '/v1/admin/keys', {
      json: { name: key, suite: 'HS256' },
    });
    expect(outcome(again)).toEqual([409, 'name_retired']);
    const late = await admin('DELETE', '/destruction', undefined, await tagOf());
    expect(outcome(late)).toEqual(NOT_USABLE);
  });

  it('of a version that protects is refused, and of one that does not leaves the others', async () => {
    await make('MLKEM768-P256');
    const old = await wrap(one);
    expect(outcome(await doom('/versions/1'))).toEqual([409, 'primary_protected']);
    await admin('POST', '/rotate', {});
    expect(outcome(await doom('/versions/1'))).toEqual(NOT_USABLE);
    await admin('POST', '/versions/1/deactivate', WHY);
    expect((await unwrap(two, old)).status).toBe(200);
    const { json: before } = await shown('/versions/1');
    await doom('/versions/1');
    expect(outcome(await unwrap(two, old))).toEqual(NOT_USABLE);
    const { lifecycle } = two.world.keyring;
    await lifecycle.destroyVersion(
      two.world.grant('versions.destroy', key),
      { version: 1 },
      aRun(),
    );
    expect(outcome(await unwrap(one, old))).toEqual(NOT_USABLE);
    expect((await unwrap(one, await wrap(two))).status).toBe(200);
    const { activatedAt, deactivatedAt } = before;
    expect(deactivatedAt).not.toBeNull();
    expect((await shown('/versions/1')).json).toMatchObject({
      ...{ state: 'destroyed', activatedAt, deactivatedAt },
      copies: { rootGeneration: ROOT.generation },
    });
    expect((await shown('/versions/2')).json).not.toHaveProperty('copies');
  });

  it('and its cancellation are never both acknowledged', async () => {
    for (let round = 0; round < 5; round += 1) {
      key = `race-${randomUUID().slice(0, 8)}`;
      await make('HS256');
      const tag = String((await doom()).headers.get('etag'));
      const acts = Array.from({ length: 20 }, async (_, index) => {
        const at = index % 4 < 2 ? one : two;
        if (index % 2 === 1) return destroyKey(at).then(({ change }) => change?.changes === true);
        return (await admin('DELETE', '/destruction', undefined, tag, at)).status === 200;
      });
      const settled = await Promise.allSettled(acts);
      const unexpected = settled.filter(
        (act) => act.status === 'rejected' && !TwofoldError.is(act.reason),
      );
      expect(unexpected).toEqual([]);
      const won = settled.flatMap((act, index) =>
        act.status === 'fulfilled' && act.value ? [index % 2] : [],
      );
      expect(won).toHaveLength(1);
      const state = won[0] === 1 ? 'destroyed' : 'enabled';
      expect((await shown()).json['state']).toBe(state);
    }
  }, 60_000);
});

describe('a token object of a destroyed key', () => {
  beforeEach(() => make('MLKEM768-X25519', { custody: 'hsm-token' }));

  it('is gone from the token', async () => {
    const before = await objects();
    await doom();
    await destroyKey(two);
    expect([before - (await objects()), await intents()]).toEqual([1, 0]);
  });

  it('that a kill after the commit left is removed by the next start', async () => {
    const before = await objects();
    await doom();
    const removing = hsm.destroyTokenKey.bind(hsm);
    hsm.destroyTokenKey = () => Promise.reject(new TwofoldError('hsm_unavailable'));
    await destroyKey(two);
    hsm.destroyTokenKey = removing;
    expect((await shown()).json['state']).toBe('destroyed');
    expect([before - (await objects()), await intents()]).toEqual([0, 1]);
    await store.instances.close(two.world.id);
    const { mac, installation } = root;
    const recorded: string[] = [];
    const record = async (operation: string) => {
      recorded.push(operation);
      expect(await objects()).toBe(before);
    };
    const counts = await removeOrphans({ hsm, store: store.keys, mac, installation, record });
    expect([counts, recorded]).toEqual([{ removed: 1, refused: 0 }, ['hsm.remove-orphan']]);
    expect([before - (await objects()), await intents()]).toEqual([1, 0]);
  });

  it('stays with its key while the database is away, and goes with it alone', async () => {
    const before = await objects();
    const relay = await startRelay(database.port);
    const far = openStore({ url: relay.url(database.appUrl) });
    const world = await startInstance(far);
    await doom();
    relay.cutAfter(/commit_change/u);
    const code = await codeOf(destroyKey({ world }));
    expect(['no error', 'audit_unavailable', 'database_unavailable']).toContain(code);
    const destroyed = (await shown()).json['state'] === 'destroyed';
    const gone = before - (await objects());
    // Gone only with its key; and what is not gone with it is known.
    expect(gone === 1 || (await intents()) === (destroyed ? 1 : 0)).toBe(true);
    expect(destroyed || gone === 0).toBe(true);
    await relay.close();
    expect(await codeOf(destroyKey({ world }))).toBe('database_unavailable');
    world.keyring.close();
    await Promise.allSettled([world.audit.stop(0), far.close()]);
    if (!destroyed) await destroyKey(two);
    await store.instances.close(world.id);
    const { mac, installation } = root;
    const record = async () => undefined;
    await removeOrphans({ hsm, store: store.keys, mac, installation, record });
    expect([before - (await objects()), await intents()]).toEqual([1, 0]);
  }, 60_000);

  it('stays with its key while the token is away', async () => {
    await doom();
    await hsm.close();
    expect(await codeOf(destroyKey(two))).toBe('hsm_unavailable');
    hsm = await fixture.open();
    await Promise.all([one.stop(), two.stop()]);
    [one, two] = [await startService(), await startService()];
    expect((await shown()).json['state']).toBe('pending-destruction');
    await destroyKey(two);
    expect(await intents()).toBe(0);
  });
});
