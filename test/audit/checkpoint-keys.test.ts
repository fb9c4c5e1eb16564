/** Keys of checkpoints on a real token and PostgreSQL: made once, announced, rotated, removed. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { CheckpointKeyParts } from '../../src/audit/checkpoint-keys.ts';
import { keySetStatement } from '../../src/audit/key-set-log.ts';
import { TwofoldError } from '../../src/errors.ts';
import { removeOrphans } from '../../src/keyring/orphans.ts';
import { withClient } from '../store/owner.ts';
import { openLogKeysWorld, partsOf, verifiedBy, verifyEd25519 } from './log-keys-world.ts';
import type { LogKeysWorld, Process } from './log-keys-world.ts';

let world: LogKeysWorld;

beforeAll(async () => {
  world = await openLogKeysWorld();
}, 60_000);
afterAll(() => world.stop(), 60_000);

const asOwner = (sql: string) => withClient(world.ownerUrl, (client) => client.query(sql));
const tokenObjects = () => world.hsm.tokenKeys(world.root.installation);

beforeEach(async () => {
  await asOwner('truncate public.log_key, public.log_name, public.token_intent');
  for (const object of await tokenObjects()) await world.hsm.destroyTokenKey(object);
  world.recorded.length = 0;
  world.inTree.clear();
});

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error: unknown) => (TwofoldError.is(error) ? error.code : String(error)),
  );
const root32 = () => Uint8Array.from(randomBytes(32));
const noteOf = (process: Process, size = 7) => process.keys.signer.sign(size, root32());
const idsOf = (process: Process) => process.keys.vkeys.map((vkey) => partsOf(vkey).id);
const allInTree = () => world.recorded.forEach(({ id }) => world.inTree.add(id));
const rotate = async (process: Process, lost = false) => {
  const { pair } = await process.keys.next(lost);
  // The route commits it in a change of its own; the rows are the same.
  await world.store.logKeys.make(null, pair);
};
const tokenStates = async (process: Process) =>
  (await process.keys.list()).map(({ kind, state, custody }) => `${kind} ${state} ${custody}`);

describe('the first pair of a log', () => {
  it('signs a note that both its vkeys verify, and the same ones after a restart', async () => {
    const first = await world.open({ origin: 'log.example/audit' });
    const note = await noteOf(first);
    expect(note).toMatch(/^log\.example\/audit\n7\n[A-Za-z0-9+/]{43}=\n\n— log\.example\/audit /u);
    expect(verifiedBy(note, first.keys.vkeys)).toEqual(idsOf(first));
    expect(first.keys.vkeys.map((vkey) => partsOf(vkey).type)).toEqual([1, 6]);
    first.keys.close();
    const again = await world.open();
    expect(again.keys.origin).toBe('log.example/audit');
    expect(verifiedBy(await noteOf(again), first.keys.vkeys)).toEqual(idsOf(first));
    expect(await tokenStates(again)).toEqual([
      'ed25519 active hsm-token',
      'ml-dsa-44 active sealed',
    ]);
    expect(world.recorded).toEqual([]);
  });

  it('is made by one of many that begin at once, and leaves one object on the token', async () => {
    const processes = await Promise.all(Array.from({ length: 6 }, () => world.open()));
    const [first] = processes;
    if (first === undefined) throw new Error('nobody began');
    for (const each of processes) {
      expect(each.keys.vkeys).toEqual(first.keys.vkeys);
      verifiedBy(await noteOf(each), first.keys.vkeys);
    }
    expect(first.keys.vkeys).toHaveLength(2);
    expect(await tokenObjects()).toHaveLength(1);
    const { rows } = await asOwner('select from public.token_intent');
    expect(rows).toHaveLength(0);
  });

  it('names the log after the installation, and takes no other name later', async () => {
    const process = await world.open();
    expect(process.keys.origin).toBe(`twofold.invalid/${world.root.installation}`);
    expect(await codeOf(world.open({ origin: 'log.example/other' }))).toBe('invalid_value');
    expect(await codeOf(world.open({ origin: process.keys.origin }))).toBe('ok');
  });

  it('has a sealed Ed25519 key where the token has none, and says so', async () => {
    const { hsm } = world;
    const without: CheckpointKeyParts['hsm'] = {
      status: () => ({
        ...hsm.status(),
        capabilities: hsm.status().capabilities.filter(({ name }) => name !== 'ed25519'),
      }),
      generate: () => Promise.reject(new Error('nothing is made on the token')),
      sign: () => Promise.reject(new Error('nothing is signed on the token')),
      destroyTokenKey: (material) => hsm.destroyTokenKey(material),
      random: (bytes) => hsm.random(bytes),
      forget: (id) => hsm.forget(id),
    };
    const process = await world.open({ hsm: without });
    expect(verifiedBy(await noteOf(process), process.keys.vkeys)).toHaveLength(2);
    expect(await tokenStates(process)).toEqual([
      'ed25519 active sealed',
      'ml-dsa-44 active sealed',
    ]);
    expect(await tokenObjects()).toHaveLength(0);
  });

  it('removes at the next start what a kill left between the object and its row', async () => {
    const killed = new Error('killed');
    const store = { ...world.store.logKeys, make: () => Promise.reject(killed) };
    await expect(world.open({ store })).rejects.toBe(killed);
    expect(await tokenObjects()).toHaveLength(1);
    await asOwner('update public.instance set closed = true');
    const orphans = await removeOrphans({
      ...{ hsm: world.hsm, store: world.store.keys, mac: world.root.mac },
      installation: world.root.installation,
      record: () => Promise.resolve(),
    });
    expect(orphans).toEqual({ removed: 1, refused: 0 });
    expect(await tokenObjects()).toHaveLength(0);
    const process = await world.open();
    expect(verifiedBy(await noteOf(process), process.keys.vkeys)).toHaveLength(2);
  });
});

describe('rows', () => {
  it.each([
    [
      'a public key',
      `update log_key set public_key = public_key || '\\x00' where kind = 'ed25519'`,
    ],
    ['a seed', `update log_key set sealed = sealed || '\\x00' where kind = 'ml-dsa-44'`],
    ['a state', `update log_key set state = 'retiring'`],
    ['a zone', `update log_key set zone = 'z2'`],
    ['the name', `update log_name set origin = 'log.example/other'`],
    ['the absence of a name', 'delete from log_name'],
  ])('are refused when somebody edits %s', async (_, sql) => {
    await world.open();
    await withClient(world.ownerUrl, async (client) => {
      await client.query('alter table public.log_key disable trigger user');
      await client.query(sql);
      await client.query('alter table public.log_key enable trigger user');
    });
    expect(await codeOf(world.open())).toBe('integrity_failed');
  });
});

describe('a later key', () => {
  it('signs once the log says, by a trusted key, that it does, and the log is in the tree', async () => {
    const process = await world.open();
    const [first = ''] = process.keys.vkeys;
    const before = idsOf(process);
    await rotate(process);
    expect(verifiedBy(await noteOf(process), process.keys.vkeys)).toEqual(before);
    await process.keys.tend();
    expect(world.recorded.map(({ operation }) => operation)).toEqual(
      Array.from({ length: 2 }, () => 'audit.key.add'),
    );
    for (const { detail } of world.recorded) {
      const { vkey = '', by, signature = '' } = detail;
      expect(by).toBe(partsOf(first).id);
      const statement = keySetStatement(process.keys.origin, 'add', vkey);
      const { publicKey } = partsOf(first);
      expect(verifyEd25519(publicKey, statement, Buffer.from(signature, 'base64'))).toBe(true);
    }
    await process.keys.tend();
    expect(verifiedBy(await noteOf(process), process.keys.vkeys)).toEqual(before);
    allInTree();
    await process.keys.tend();
    const after = verifiedBy(await noteOf(process), process.keys.vkeys);
    expect(after.some((id) => before.includes(id))).toBe(false);
    expect(world.recorded.map(({ detail }) => partsOf(detail['vkey'] ?? '').id)).toEqual(after);
  });

  it('sends its predecessor away only after everybody had time to notice', async () => {
    const [process, other] = [await world.open(), await world.open()];
    const before = idsOf(process);
    await rotate(process);
    await process.keys.tend();
    allInTree();
    await process.keys.tend();
    // What it read stands for ten seconds, and no longer.
    expect(verifiedBy(await noteOf(other), other.keys.vkeys)).toEqual(before);
    other.pass(10_001);
    expect(verifiedBy(await noteOf(other), process.keys.vkeys)).not.toEqual(before);
    process.pass(59_000);
    await process.keys.tend();
    expect(world.recorded).toHaveLength(2);
    expect(await tokenObjects()).toHaveLength(2);
    process.pass(1_001);
    await process.keys.tend();
    const said = world.recorded.slice(2);
    expect(said.map(({ operation }) => operation)).toEqual([
      'audit.key.retire',
      'audit.key.retire',
    ]);
    expect(said.map(({ detail }) => partsOf(detail['vkey'] ?? '').id)).toEqual(before);
    expect(await tokenObjects()).toHaveLength(1);
    expect(await tokenStates(process)).toEqual([
      ...['ed25519 retired null', 'ml-dsa-44 retired null'],
      ...['ed25519 active hsm-token', 'ml-dsa-44 active sealed'],
    ]);
    const { rows } = await asOwner('select from public.token_intent');
    expect(rows).toHaveLength(0);
  });

  it('of a second zone is announced by the first, and signs nothing before', async () => {
    const first = await world.open();
    const before = idsOf(first);
    const second = await world.open({ zone: 'z2' });
    expect(second.keys.ready).toBe(false);
    expect(await codeOf(noteOf(second))).toBe('hsm_unavailable');
    await second.keys.tend();
    expect(world.recorded).toEqual([]);
    await first.keys.tend();
    expect(world.recorded.map(({ detail }) => detail['zone'])).toEqual(['z2', 'z2']);
    expect(await codeOf(noteOf(second))).toBe('hsm_unavailable');
    allInTree();
    await second.keys.tend();
    expect(second.keys.ready).toBe(true);
    expect(verifiedBy(await noteOf(second), second.keys.vkeys)).toHaveLength(2);
    expect(verifiedBy(await noteOf(first), second.keys.vkeys)).toEqual(before);
  });

  it('is announced and activated once, whoever tends at the same time', async () => {
    const processes = await Promise.all(Array.from({ length: 4 }, () => world.open()));
    const [process] = processes;
    if (process === undefined) throw new Error('nobody began');
    await rotate(process);
    expect(await codeOf(process.keys.next(false))).toBe('conflict');
    const tendAll = () => Promise.all(processes.map(({ keys }) => keys.tend()));
    await tendAll();
    allInTree();
    await tendAll();
    const vkeys = new Set(world.recorded.map(({ detail }) => detail['vkey']));
    expect(vkeys.size).toBe(2);
    expect(await tokenStates(process)).toEqual([
      ...['ed25519 retiring hsm-token', 'ml-dsa-44 retiring sealed'],
      ...['ed25519 active hsm-token', 'ml-dsa-44 active sealed'],
    ]);
  });

  it('takes over from a lost one without an announcement, and the log says that nobody vouches', async () => {
    const process = await world.open();
    for (const object of await tokenObjects()) await world.hsm.destroyTokenKey(object);
    await process.keys.list();
    const again = await world.open();
    expect(again.keys.ready).toBe(false);
    await rotate(again);
    await again.keys.tend();
    expect(world.recorded).toEqual([]);
    await asOwner(`delete from log_key where state = 'pending'`);
    await rotate(again, true);
    await again.keys.tend();
    expect(world.recorded.map(({ detail }) => [detail['by'], detail['signature']])).toEqual([
      ['', ''],
      ['', ''],
    ]);
    expect(verifiedBy(await noteOf(again), again.keys.vkeys)).toHaveLength(2);
  });
});
