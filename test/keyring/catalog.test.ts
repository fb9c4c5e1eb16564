import { createHmac } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { SecurityEpoch } from '../../src/epoch.ts';
import type { SecurityChange } from '../../src/epoch.ts';
import { TwofoldError } from '../../src/errors.ts';
import { KeyCatalog, versionOf } from '../../src/keyring/catalog.ts';
import type { Key } from '../../src/keyring/model.ts';
import type { KeyView } from '../../src/keyring/operations.ts';
import type { KeyStore, StoredKey } from '../../src/keyring/ports.ts';
import { attestKey, attestVersion } from '../../src/keyring/row-mac.ts';
import { KEY, KEY_ID, VERSIONS } from './samples.ts';
import { codeOf } from './world.ts';

const mac = async (data: Uint8Array): Promise<Uint8Array> =>
  createHmac('sha256', 'catalog').update(data).digest();

async function storedKey(changes: Partial<Key> = {}): Promise<StoredKey> {
  const key = { ...KEY, latestVersion: 1, ...changes };
  const version = { ...VERSIONS.active, keyId: key.id };
  return { key: await attestKey(mac, key), versions: [await attestVersion(mac, version)] };
}

/** One row for every reference, and reads that wait until they are let go. */
class Shelf implements Pick<KeyStore, 'find'> {
  row: StoredKey | null = null;
  reads = 0;
  readonly asked: string[] = [];
  gate: Promise<void> = Promise.resolve();

  /** The epoch at which it stands; a read that asks for a later one is refused. */
  epoch = Infinity;

  async find(
    namespace: string,
    ref: { readonly name: string } | { readonly id: string },
    epoch: number,
  ) {
    this.reads += 1;
    if (epoch > this.epoch) throw new TwofoldError('database_unavailable');
    this.asked.push(`${namespace} ${'id' in ref ? 'id' : 'name'}`);
    const read = this.row;
    await this.gate;
    return read;
  }
}

async function catalogOf(row: StoredKey | null, options = {}) {
  const shelf = new Shelf();
  shelf.row = row;
  const epoch = new SecurityEpoch(1);
  return { shelf, epoch, catalog: new KeyCatalog(shelf, mac, epoch, options) };
}

const change = (epoch: number, over: Partial<SecurityChange> = {}): SecurityChange => ({
  epoch,
  scope: 'key',
  namespace: 'default',
  keyId: KEY_ID,
  keyName: KEY.name,
  ...over,
});

describe('reading', () => {
  it('asks for a UUID by id and for anything else by name, and not at all for what no key is called', async () => {
    const { shelf, catalog } = await catalogOf(await storedKey());
    await catalog.get('default', KEY_ID);
    await catalog.get('default', 'payments');
    expect(shelf.asked).toEqual(['default id', 'default name']);
    const impossible = [
      '',
      '..',
      'a\0',
      'a\nb',
      KEY_ID.toUpperCase(),
      KEY_ID.replaceAll('-', ''),
      'x'.repeat(200),
    ];
    for (const ref of impossible) expect(await catalog.find('default', ref)).toBeNull();
    expect(shelf.reads).toBe(2);
  });

  it('takes no rows from a database that has not seen the changes known here', async () => {
    const { shelf, epoch, catalog } = await catalogOf(await storedKey());
    shelf.epoch = 1;
    epoch.advance([change(2)]);
    expect(await codeOf(catalog.get('default', 'payments'))).toBe('database_unavailable');
    expect(await codeOf(catalog.fresh('default', 'payments'))).toBe('database_unavailable');
    shelf.epoch = 2;
    expect((await catalog.get('default', 'payments')).key.id).toBe(KEY_ID);
  });

  it('reads once for all who ask at once, and then from memory', async () => {
    const { shelf, catalog } = await catalogOf(await storedKey());
    const views = await Promise.all([1, 2, 3].map(() => catalog.get('default', 'payments')));
    expect(new Set(views).size).toBe(1);
    expect(await catalog.get('default', 'payments')).toBe(views[0]);
    expect(shelf.reads).toBe(1);
  });

  it('does not keep that there is no key', async () => {
    const { shelf, catalog } = await catalogOf(null);
    expect(await codeOf(catalog.get('default', 'payments'))).toBe('key_not_found');
    shelf.row = await storedKey();
    expect((await catalog.get('default', 'payments')).key.id).toBe(KEY_ID);
  });

  it.each<[string, (row: StoredKey) => Promise<StoredKey> | StoredKey]>([
    [
      'another name',
      () => storedKey({ name: 'other', id: '00000000-0000-4000-8000-000000000000' }),
    ],
    ['another namespace', () => storedKey({ namespace: 'other' })],
    [
      'an altered key',
      (row) => ({ ...row, key: { ...row.key, value: { ...row.key.value, suspension: null } } }),
    ],
    ['a missing version', (row) => ({ ...row, versions: [] })],
  ])('refuses a row of %s, and keeps nothing of it', async (_name, alter) => {
    const { shelf, catalog } = await catalogOf(await alter(await storedKey()));
    for (const ref of ['payments', KEY_ID]) {
      expect(await codeOf(catalog.get('default', ref))).toBe('integrity_failed');
      expect(await codeOf(catalog.fresh('default', ref))).toBe('integrity_failed');
    }
    expect(catalog.size).toBe(0);
    shelf.row = await storedKey();
    expect(await codeOf(catalog.get('default', 'payments'))).toBe('no error');
  });

  it('checks the MAC on each entry, and not on what it kept', async () => {
    const { shelf, epoch, catalog } = await catalogOf(await storedKey());
    await catalog.get('default', 'payments');
    const good = shelf.row;
    if (good !== null) shelf.row = { ...good, key: { ...good.key, mac: new Uint8Array(32) } };
    expect(await codeOf(catalog.get('default', 'payments'))).toBe('no error');
    epoch.advance([change(2)]);
    expect(await codeOf(catalog.get('default', 'payments'))).toBe('integrity_failed');
  });
});

describe('changes', () => {
  it('drop a key under its id and its name, and no other', async () => {
    const dropped: KeyView[] = [];
    const { shelf, epoch, catalog } = await catalogOf(await storedKey(), {
      onDrop: (view: KeyView) => dropped.push(view),
    });
    await catalog.get('default', 'payments');
    await catalog.get('default', KEY_ID);
    epoch.advance([change(2, { keyId: '00000000-0000-4000-8000-000000000000', keyName: 'other' })]);
    epoch.advance([change(3, { namespace: 'other' })]);
    epoch.advance([change(4, { scope: 'access', keyId: null, keyName: null })]);
    expect([catalog.size, dropped.length]).toEqual([2, 0]);
    epoch.advance([change(5)]);
    expect([catalog.size, dropped.length]).toEqual([0, 2]);
    await catalog.get('default', 'payments');
    expect(shelf.reads).toBe(3);
  });

  it('drop everything when a record of one is missing', async () => {
    const { epoch, catalog } = await catalogOf(await storedKey());
    await catalog.get('default', 'payments');
    epoch.advance([change(9, { keyId: '00000000-0000-4000-8000-000000000000', keyName: 'other' })]);
    expect(catalog.size).toBe(0);
  });

  it.each<[string, Partial<SecurityChange>, number]>([
    ['of the key', {}, 0],
    ['of access', { scope: 'access', keyId: null, keyName: null }, 0],
    ['of another key', { keyId: '00000000-0000-4000-8000-000000000000', keyName: 'other' }, 1],
  ])('that overlap a read: %s', async (_name, over, kept) => {
    const { shelf, epoch, catalog } = await catalogOf(await storedKey());
    const { promise, resolve } = Promise.withResolvers<undefined>();
    shelf.gate = promise.then(() => undefined);
    const reading = catalog.get('default', 'payments');
    epoch.advance([change(2, over)]);
    const later = catalog.get('default', 'payments');
    resolve(undefined);
    await Promise.all([reading, later]);
    // Whoever asks after the change was learnt never shares a read that began before it.
    expect(shelf.reads).toBe(kept === 1 ? 1 : over.scope === 'access' ? 1 : 2);
    expect(catalog.size).toBe(over.scope === 'access' ? 0 : 1);
  });

  it('while reading, a later read is what is kept, in whatever order they end', async () => {
    const { shelf, epoch, catalog } = await catalogOf(await storedKey());
    const gates = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()];
    const gateOf = (index: number) =>
      gates[index]?.promise.then(() => undefined) ?? Promise.reject(new Error());
    shelf.gate = gateOf(0);
    const old = catalog.get('default', 'payments');
    epoch.advance([change(2)]);
    shelf.row = await storedKey({ suspension: null, revision: 4 });
    shelf.gate = gateOf(1);
    const fresh = catalog.get('default', 'payments');
    gates[1]?.resolve(undefined);
    expect((await fresh).key.revision).toBe(4);
    gates[0]?.resolve(undefined);
    expect((await old).key.revision).toBe(3);
    expect((await catalog.get('default', 'payments')).key.revision).toBe(4);
    expect(shelf.reads).toBe(2);
  });
});

describe('the bound', () => {
  it('gives up what was used least recently', async () => {
    const epoch = new SecurityEpoch(1);
    const store: Pick<KeyStore, 'find'> = {
      find: (_namespace, ref) => storedKey('name' in ref ? { name: ref.name } : {}),
    };
    const catalog = new KeyCatalog(store, mac, epoch, { maxKeys: 3 });
    const views = new Map<string, KeyView>();
    const get = async (name: string) => views.set(name, await catalog.get('default', name));
    for (const name of ['a', 'b', 'c']) await get(name);
    const [a, b] = [views.get('a'), views.get('b')];
    await get('a');
    await get('d');
    expect(catalog.size).toBe(3);
    expect(await catalog.get('default', 'a')).toBe(a);
    expect(await catalog.get('default', 'b')).not.toBe(b);
    for (let index = 0; index < 20; index += 1) await get(`k${String(index)}`);
    expect(catalog.size).toBe(3);
  });
});

describe('versionOf', () => {
  it.each([0, 2, -1, 1.5, Number.NaN])('does not find version %s of one', async (version) => {
    const { catalog } = await catalogOf(await storedKey());
    const view = await catalog.get('default', 'payments');
    expect(versionOf(view, 1).version).toBe(1);
    expect(() => versionOf(view, version)).toThrow(
      expect.objectContaining({ code: 'version_not_found' }),
    );
  });
});
