/** The keyring on a real database: rows edited by its owner, counters, and what a round trip keeps. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type pg from 'pg';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { testChain } from '../http/test-chain.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { withClient } from '../store/owner.ts';
import { openStoredInstance } from './stored-instance.ts';
import type { StoredInstance } from './stored-instance.ts';
import { watchedHsm } from './watched-hsm.ts';
import { aKey, aRun, codeOf, INSTALLATION, WRAP_SUITES, toSuite } from './world.ts';

let database: TestDatabase;
let store: Store;
let service: StoredInstance;
const device = watchedHsm();

/** A process that begins: nothing cached, the root opened from its row. */
async function startService(): Promise<StoredInstance> {
  const { hsm } = watchedHsm(device.token);
  await hsm.useRoot({ generation: 1, installation: INSTALLATION });
  return openStoredInstance(store, { hsm }, watchedHsm(device.token).hsm);
}

beforeAll(async () => {
  database = await startTestDatabase();
  store = openStore({ url: database.appUrl });
  device.token.makeRoot({ generation: 1, installation: INSTALLATION });
  service = await startService();
}, 60_000);
afterAll(async () => {
  await service.stop();
  await store.close();
  await database.stop();
}, 60_000);

const asOwner = <T>(use: (client: pg.Client) => Promise<T>) => withClient(database.ownerUrl, use);
const query = (sql: string, values: unknown[] = []) =>
  asOwner(async (client) => {
    const { rowCount } = await client.query(sql, values);
    expect(rowCount).toBeGreaterThan(0);
  });
const read = (of: StoredInstance, key: string) => of.keyring.read.get(of.grant('keys.read', key));
const rotate = (key: string, suite?: string) =>
  service.keyring.manage.rotate(service.grant('keys.rotate', key), toSuite(suite), aRun());

describe('a round trip', () => {
  it.each([
    ...WRAP_SUITES,
    'HS256',
    'MLDSA87-ECDSA-P384-SHA512',
    // One half in software, one in the token, and the longest of each.
    'ML-KEM-1024',
    'DHKEM-X25519',
    'RSA-OAEP-2048-SHA256',
    'MLDSA44-RSA2048-PKCS15-SHA256',
    'ML-DSA-87',
    'SLH-DSA-SHAKE-256f',
    'ECDSA-P521-SHA512',
    'Ed25519',
    'HS512',
  ])(
    'gives the same values back, to the millisecond and whatever the order of labels: %s',
    async (suite) => {
      const labels = {
        zzz: 'ä€😀',
        b: '',
        constructor: '1',
        'a/b.c-d': '"\\',
        aa: 'x'.repeat(255),
      };
      const key = { name: `trip-${randomUUID()}`, suite, labels, deletionProtection: true };
      const grant = service.grant('keys.create', key.name);
      const { change } = await service.keyring.manage.create(grant, aKey(key), aRun());
      const id = change?.after.key.id ?? '';
      await rotate(id);
      const { key: row, versions } = await read(service, id);
      expect({ ...row, primary: 1, latestVersion: 1, revision: 1 }).toEqual(change?.after.key);
      expect(versions[0]).toEqual(change?.after.versions[0]);
      const [first, other] = [service.grant('versions.suspend', id), await startService()];
      const reason = 'Wartung – 100 % 😀';
      await service.keyring.manage.suspendVersion(first, { version: 1, reason }, aRun());
      await service.keyring.manage.suspend(service.grant('keys.suspend', id), { reason }, aRun());
      const again = await read(other, id);
      expect(again.key.suspension?.reason).toBe(reason);
      expect(again.versions[0]).toMatchObject({ state: 'suspended', suspension: { reason } });
      await other.stop();
    },
  );

  it('of a publication is seen by every process, and ends', async () => {
    const id = await service.create({ publish: true });
    const { key } = await read(service, id);
    const other = await startService();
    for (const each of [service, other]) {
      const { published } = each.keyring;
      for (const ref of [id, key.name]) {
        expect((await published.find('default', ref)).view?.key).toEqual(key);
      }
      expect((await published.find('other', key.name)).view).toBeNull();
      expect((await published.find('default', `not-${key.name}`)).view).toBeNull();
    }
    await other.stop();
    const grant = service.grant('keys.update', id);
    await service.keyring.manage.update(grant, { publish: false }, aRun());
    expect((await service.keyring.published.find('default', id)).view).toBeNull();
    const later = await startService();
    expect((await later.keyring.published.find('default', id)).view).toBeNull();
    expect((await read(later, id)).key.publish).toBe(false);
    await later.stop();
  });

  it('of a certificate chain is what another process reads, until it is removed', async () => {
    const suite = 'MLDSA65-ECDSA-P256-SHA512';
    const id = await service.create({ suite });
    const { key, versions } = await read(service, id);
    const [version] = versions;
    if (version === undefined || !('material' in version)) throw new Error('no version');
    const { pq, classical } = version.material;
    const raw = Buffer.concat([pq?.public ?? Buffer.of(), classical?.public ?? Buffer.of()]);
    const [leaf, root] = testChain(suite, raw.toString('base64'));
    const put = (pem: string) => {
      const grant = service.grant('versions.put-certificates', id);
      return service.keyring.manage.putCertificateChain(grant, { version: 1, pem }, aRun());
    };
    const chainOf = async () => {
      const fresh = await startService();
      try {
        return await fresh.keyring.read.certificateChain(fresh.grant('keys.read', id), 1);
      } finally {
        await fresh.stop();
      }
    };
    for (const pem of [leaf, leaf + root]) {
      await put(pem);
      expect((await chainOf()).pem).toBe(pem);
    }
    await query('update certificate_chain set pem = $2 where key_id = $1', [id, leaf]);
    expect(await codeOf(chainOf())).toBe('integrity_failed');
    const grant = service.grant('versions.delete-certificates', id);
    await service.keyring.manage.deleteCertificateChain(grant, { version: 1 }, aRun());
    expect(await codeOf(chainOf())).toBe('not_found');
    expect((await read(service, id)).key).toEqual({ ...key, revision: 4 });
  });

  it('of all suites keeps old data readable for another process (P8)', async () => {
    const id = await service.create({ suite: WRAP_SUITES[0] });
    const old = [await service.wrap(id, WRAP_SUITES[0])];
    for (const suite of WRAP_SUITES.slice(1)) {
      await rotate(id, suite);
      old.push(await service.wrap(id, suite));
    }
    const other = await startService();
    for (const [index, ciphertext] of old.entries()) {
      expect(await other.unwrap(id, ciphertext)).toBe(WRAP_SUITES[index]);
    }
    await other.stop();
  });
});

describe('a row edited by the owner of the database', () => {
  // The owner can do that too.
  beforeAll(() =>
    asOwner(async (client) => {
      await client.query('alter table public.key disable trigger key_destroyed_when_due');
    }),
  );

  const EDITS: readonly (readonly [string, string])[] = [
    [
      'suspension lifted',
      `update key set suspended_at = null, suspension_reason = null where id = $1`,
    ],
    ['label changed', `update key set labels = '{"team":"b"}' where id = $1`],
    ['label of another type', `update key set labels = '{"team":1.5}' where id = $1`],
    ['rotation policy slipped in', `update key set rotation = '{}' where id = $1`],
    ['primary turned back', `update key set primary_version = 1 where id = $1`],
    ['minUsableVersion lowered', `update key set min_usable_version = 0 where id = $1`],
    ['purpose changed', `update key set purpose = 'kem' where id = $1`],
    [
      'protection lifted',
      `update key set deletion_protection = not deletion_protection where id = $1`,
    ],
    ['published', `update key set publish = true where id = $1`],
    [
      'certificate chain slipped in',
      `update key_version set certificate_chain = sha256('x') where key_id = $1 and version = 2`,
    ],
    [
      'creation one millisecond later',
      `update key set created_at = created_at + interval '1 ms' where id = $1`,
    ],
    ['creation out of every range', `update key set created_at = 'infinity' where id = $1`],
    ['destroyed', `update key set destroyed_at = now() where id = $1`],
    ['revision turned back', `update key set revision = revision - 1 where id = $1`],
    ['latest version turned back', `update key set latest_version = 1 where id = $1`],
    ['MAC cut', `update key set mac = substring(mac from 1 for 31) where id = $1`],
    ['a version missing', `delete from key_version where key_id = $1 and version = 1`],
    [
      'versions exchanged',
      `update key_version set version = 3 - version where key_id = $1 and version in (1, 2)`,
    ],
    [
      'version resumed',
      `update key_version set state = 'active', suspended_at = null, reason = null where key_id = $1 and version = 1`,
    ],
    ['suite changed', `update key_version set suite = 258 where key_id = $1 and version = 2`],
    [
      'state unknown to its columns',
      `update key_version set state = 'deactivated' where key_id = $1 and version = 2`,
    ],
    [
      'public key replaced',
      `update key_version set pq_public = set_byte(pq_public, 4, 255 - get_byte(pq_public, 4)) where key_id = $1 and version = 2`,
    ],
    [
      'classical public key replaced',
      `update key_version set classical_public = (select classical_public from key_version where key_id = $1 and version = 1) where key_id = $1 and version = 2`,
    ],
    [
      'halves of two versions exchanged',
      `update key_version v set pq_public = o.pq_public, pq_sealed = o.pq_sealed from key_version o where v.key_id = $1 and o.key_id = $1 and v.version = 2 and o.version = 1`,
    ],
    [
      'seed and psk exchanged',
      `update key_version set pq_sealed = psk_sealed, psk_sealed = pq_sealed where key_id = $1 and version = 2`,
    ],
    [
      'psk taken away',
      `update key_version set psk_custody = null, psk_generation = null, psk_sealed = null where key_id = $1 and version = 2`,
    ],
    [
      'check value changed',
      `update key_version set classical_check = '\\x00' where key_id = $1 and version = 2`,
    ],
    [
      'wrapped key of another version',
      `update key_version v set classical_blob = o.classical_blob, classical_check = o.classical_check from key_version o where v.key_id = $1 and o.key_id = $1 and v.version = 2 and o.version = 1`,
    ],
    [
      'MAC of the other version',
      `update key_version v set mac = o.mac from key_version o where v.key_id = $1 and o.key_id = $1 and v.version = 2 and o.version = 1`,
    ],
  ];

  /** A list shows the key and its primary version, and verifies what it shows. */
  const OF_NO_PRIMARY = ['a version missing', 'version resumed'];

  async function aKeyWithHistory(): Promise<string> {
    const id = await service.create({ labels: { team: 'a' } });
    await rotate(id);
    const input = { version: 1, reason: 'r' };
    await service.keyring.manage.suspendVersion(
      service.grant('versions.suspend', id),
      input,
      aRun(),
    );
    await service.keyring.manage.suspend(
      service.grant('keys.suspend', id),
      { reason: 'r' },
      aRun(),
    );
    return id;
  }

  it('is integrity_failed for every use, reading, listing and change of that key, and of no other', async () => {
    const good = await service.create();
    const ciphertext = await service.wrap(good, 'x');
    for (const [name, sql] of EDITS) {
      const id = await aKeyWithHistory();
      const fresh = await startService();
      if (name === 'versions exchanged') await exchangeVersions(id);
      else await query(sql, [id]);
      const list = { afterName: null, namePrefix: 'key-', labels: {}, suite: null, state: null };
      const uses = {
        read: () => read(fresh, id),
        wrap: () => fresh.wrap(id, 'x'),
        list: () =>
          fresh.keyring.read.list(fresh.grant('keys.list', null), { ...list, pageSize: 1000 }),
        resume: () =>
          fresh.keyring.manage.resume(fresh.grant('keys.resume', id), { reason: 'r' }, aRun()),
      };
      for (const [use, run] of Object.entries(uses)) {
        const unseen = use === 'list' && OF_NO_PRIMARY.includes(name);
        const code = unseen ? 'no error' : 'integrity_failed';
        expect([name, use, await codeOf(run())]).toEqual([name, use, code]);
      }
      expect(await fresh.unwrap(good, ciphertext)).toBe('x');
      await fresh.stop();
      await query('delete from key_version where key_id = $1', [id]);
      await query('delete from key where id = $1', [id]);
    }
  }, 120_000);

  const exchangeVersions = async (id: string) => {
    for (const [from, to] of [
      [1, 9],
      [2, 1],
      [9, 2],
    ]) {
      await query('update key_version set version = $3 where key_id = $1 and version = $2', [
        id,
        from,
        to,
      ]);
    }
  };

  it('under another name or namespace is integrity_failed there, and not found where it was', async () => {
    const id = await service.create({ name: 'moved-before' });
    await query(`update key set name = 'moved-after' where id = $1`, [id]);
    const fresh = await startService();
    expect(await codeOf(read(fresh, 'moved-before'))).toBe('key_not_found');
    expect(await codeOf(read(fresh, 'moved-after'))).toBe('integrity_failed');
    expect(await codeOf(read(fresh, id))).toBe('integrity_failed');
    await query(`insert into namespace (name, mac) values ('elsewhere', '\\x00')`);
    await query(`update key set name = 'moved-before', namespace = 'elsewhere' where id = $1`, [
      id,
    ]);
    const elsewhere = fresh.grant('keys.read', 'moved-before', 'elsewhere');
    expect(await codeOf(fresh.keyring.read.get(elsewhere))).toBe('integrity_failed');
    expect(await codeOf(read(fresh, id))).toBe('key_not_found');
    await fresh.stop();
  });
});

describe('the root row edited by the owner of the database', () => {
  const trigger = (turn: 'disable' | 'enable') =>
    asOwner(async (client) => {
      await client.query(`alter table root_generation ${turn} trigger root_generation_final`);
    });
  beforeAll(() => trigger('disable'));
  afterAll(() => trigger('enable'));

  it("with a user's HMAC key as root-mac does not start", async () => {
    const id = await service.create({ suite: 'HS256' });
    const restore = await asOwner(async (client) => {
      const { rows } = await client.query<{ mac_blob: Buffer; mac_check: Buffer }>(
        'select mac_blob, mac_check from root_generation',
      );
      return rows[0];
    });
    await query(
      `update root_generation set mac_blob = v.classical_blob, mac_check = v.classical_check
        from key_version v where v.key_id = $1`,
      [id],
    );
    expect(await codeOf(startService())).toBe('integrity_failed');
    await query('update root_generation set mac_blob = $1, mac_check = $2', [
      restore?.mac_blob,
      restore?.mac_check,
    ]);
    const fresh = await startService();
    expect((await read(fresh, id)).key.id).toBe(id);
    await fresh.stop();
  });
});

describe('use counters', () => {
  it('refuse AES-GCM at 2^32 uses, and only that version', async () => {
    const id = await service.create({ suite: 'A256GCM' });
    const old = await service.wrap(id, 'old');
    await query(`update usage_counter set used = $2 where counter = $1`, [`${id}/1`, 2 ** 32 - 1]);
    const fresh = await startService();
    expect(await fresh.unwrap(id, await fresh.wrap(id, 'the last one'))).toBe('the last one');
    expect(await codeOf(fresh.wrap(id, 'one too many'))).toBe('version_not_usable');
    expect(await fresh.unwrap(id, old)).toBe('old');
    await fresh.keyring.manage.rotate(fresh.grant('keys.rotate', id), {}, aRun());
    expect(await fresh.unwrap(id, await fresh.wrap(id, 'new'))).toBe('new');
    await fresh.stop();
  });

  it('of one version are shared by instances, each use its own number', async () => {
    const counters = [new UsageCounters(store.keys), new UsageCounters(store.keys)];
    const uses = await Promise.all(
      Array.from({ length: 200 }, () => counters.map((counter) => counter.count('shared'))).flat(),
    );
    expect(new Set(uses).size).toBe(400);
  });
});
