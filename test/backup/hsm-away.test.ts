/**
 * An HSM that is away from some call on, at every call of a backup and of the proof that ends a restore: the
 * error says so, nothing is taken for done, and the same again succeeds once it is back.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { openCheckpointKeys } from '../../src/audit/checkpoint-keys.ts';
import { attested } from '../../src/backup/escrow-mac.ts';
import { macOf } from '../../src/backup/manifest.ts';
import { loadBackup } from '../../src/backup/restore.ts';
import { openBackup, verifyContent } from '../../src/backup/verify.ts';
import type { OpenBackup } from '../../src/backup/verify.ts';
import type { Config } from '../../src/config.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import type { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import { logSeals, logTokenIntents } from '../../src/keyring/log-keys.ts';
import { checkRestored } from '../../src/keyring/probes.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { requireRestored } from '../../src/main/restoration.ts';
import { settleBackups } from '../../src/main/settled-backups.ts';
import { takeOne } from '../../src/main/taking-backups.ts';
import { encodePublicKey, newSeed, recoveryKeyOf } from '../../src/recovery/key.ts';
import { openLoader } from '../../src/store/backup-load.ts';
import type { BackupLoader } from '../../src/store/backup-load.ts';
import type { BackupStore } from '../../src/store/backup-store.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { openStoredInstance } from '../keyring/stored-instance.ts';
import type { StoredInstance } from '../keyring/stored-instance.ts';
import { watchedHsm } from '../keyring/watched-hsm.ts';
import type { WatchedHsm } from '../keyring/watched-hsm.ts';
import { INSTALLATION, codeOf } from '../keyring/world.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';

/** One of each kind of probe, and one that signs. */
const SUITES = ['MLKEM768-P256', 'A256GCM', 'HS256', 'MLDSA65-ECDSA-P256-SHA512'];
const PROBED = 64;

const device = watchedHsm();
let databases: { readonly first: TestDatabase; readonly second: TestDatabase };
let [store, target]: Store[] = [];
let loader: BackupLoader;
let service: StoredInstance;
let folder: string;
let seed: SecretBytes;
let wrapped: { readonly id: string; readonly ciphertext: Uint8Array };

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-away-'));
  databases = { first: await startTestDatabase(), second: await startTestDatabase() };
  store = openStore({ url: databases.first.appUrl });
  target = openStore({ url: databases.second.appUrl });
  loader = openLoader({ url: databases.second.ownerUrl });
  device.token.makeRoot({ generation: 1, installation: INSTALLATION });
  service = await openStoredInstance(store, { hsm: device.hsm });
  const ids: string[] = [];
  for (const suite of SUITES) ids.push(await service.create({ suite }));
  const [id = ''] = ids;
  wrapped = { id, ciphertext: await service.wrap(id, 'text') };
  await makeLogKeys(store);
  seed = newSeed();
  const { publicKey } = recoveryKeyOf(nativeEngine, seed);
  writeFileSync(join(folder, 'recovery.pem'), encodePublicKey(publicKey));
  // Nothing is placed from it here, so that its lengths alone are those of one.
  const [point, ciphertext] = [new Uint8Array(97), new Uint8Array(1568)];
  const [root, transcript] = [new Uint8Array(40), new Uint8Array(48)];
  const sent = { point, ciphertext, wrapped: root, transcript };
  const escrow = { generation: 1, installation: INSTALLATION, publicKey, ...sent };
  await store.backups.addEscrow(await attested(escrow, service.root.auditMac));
}, 60_000);

afterAll(async () => {
  await service.stop();
  await loader.close();
  for (const each of [store, target]) await each?.close();
  await databases.first.stop();
  await databases.second.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** The pair that signs backups. */
async function makeLogKeys(of: Store): Promise<void> {
  const { root, hsm } = service;
  const clock = () => new Date();
  const keys = await openCheckpointKeys({
    ...{ hsm, engine: nativeEngine, seals: logSeals(root), store: of.logKeys, zone: 'z1' },
    intents: logTokenIntents({ hsm, root, store: of.keys, instance: randomUUID(), clock }),
    ...{ origin: undefined, record: () => Promise.resolve('9-1') },
    sequenced: () => Promise.resolve(true),
  });
  keys.close();
}

/** From the call of that number on; how many calls were asked for. */
function awayFrom(watch: WatchedHsm, cut: number): { readonly calls: number } {
  const seen = { calls: 0 };
  watch.fault = (call) => {
    if (call === 'forget') return 'none';
    seen.calls += 1;
    return seen.calls >= cut ? 'before' : 'none';
  };
  return seen;
}

const given = (value: Store | undefined): Store => {
  if (value === undefined) throw new Error('there is no store');
  return value;
};

const backups = () => join(folder, 'backups');

function taking(change: Partial<BackupStore> = {}) {
  const from = given(store);
  const backup = {
    ...{ folder: backups(), recoveryKeyFile: join(folder, 'recovery.pem') },
    entries: 'tail',
  };
  const config = { backup, zone: { name: 'z1' } } as unknown as Config;
  const { root, uses } = { root: service.root, uses: new UsageCounters(from.keys) };
  const rows = { ...from.backups, ...change };
  const kept: Store = { ...from, backups: rows };
  const parts = { config, store: kept, hsm: device.hsm, root, uses, engine: nativeEngine };
  return { ...parts, openSnapshot: from.openSnapshot };
}

const unexpected = (error: unknown): never => {
  throw error;
};

const take = () => takeOne(taking(), { requestedBy: null, onUnsettled: unexpected });

describe('an HSM that is away from some call on', () => {
  it('fails a backup by its name, of which nothing stays, and the next is whole', async () => {
    const rows = () => given(store).backups.list(null, 1);
    let failed = 0;
    for (let cut = 1; ; cut += 1) {
      const seen = awayFrom(device, cut);
      const code = await codeOf(take());
      device.fault = () => 'none';
      if (seen.calls < cut) {
        expect(code).toBe('no error');
        break;
      }
      expect([cut, code]).toEqual([cut, 'hsm_unavailable']);
      // Before the snapshot is looked through, the folder is not made.
      if (failed > 0) expect(readdirSync(backups())).toEqual([]);
      const [row] = await rows();
      if (row !== undefined) {
        failed += 1;
        expect(row).toMatchObject({ state: 'failed', problem: 'hsm_unavailable' });
      }
      expect(await given(store).backups.newest()).toBeNull();
    }
    // Probes, the MAC of the manifest and the seed of its signer each asked for something.
    expect(failed).toBeGreaterThan(3);
    expect((await rows())[0]).toMatchObject({ state: 'complete', problem: null });
    const [name = '', ...others] = readdirSync(backups());
    expect(others).toEqual([]);
    const backup = await openBackup(nativeEngine, join(backups(), name), null);
    await verifyContent(nativeEngine, backup, seed);
    await backup.close();
  }, 30_000);

  it('leaves a restore that no service starts on, and that the same again ends', async () => {
    const [name = ''] = readdirSync(backups());
    const backup = await openBackup(nativeEngine, join(backups(), name), null);
    const { probes } = await loadBackup(nativeEngine, backup, seed, loader);
    expect(probes).toHaveLength(3);
    let cut = 1;
    for (; ; cut += 1) {
      const hsm = watchedHsm(device.token);
      const seen = awayFrom(hsm, cut);
      const again = await loadBackup(nativeEngine, backup, seed, loader);
      expect(again).toEqual({ rows: 0, probes });
      const code = await codeOf(proven(hsm, backup, probes));
      if (seen.calls < cut) {
        expect(code).toBe('no error');
        break;
      }
      expect([cut, code]).toEqual([cut, 'hsm_unavailable']);
      expect((await loader.restoration())?.state).toBe('loaded');
      expect(await codeOf(requireRestored(given(target)))).toBe('conflict');
    }
    // The root, every row, every half, every probe.
    expect(cut).toBeGreaterThan(30);
    await backup.close();
    expect((await loader.restoration())?.state).toBe('verified');
    await requireRestored(given(target));
    const hsm = watchedHsm(device.token).hsm;
    const restored = await openStoredInstance(given(target), { hsm });
    expect(await restored.unwrap(wrapped.id, wrapped.ciphertext)).toBe('text');
    await restored.stop();
  }, 30_000);
});

describe('a backup that is whole, and whose row could not say so', () => {
  const newestRow = async () => (await given(store).backups.list(null, 1))[0];
  const away = () => Promise.reject(new TwofoldError('database_unavailable'));

  it('is taken all the same, and its row says so after the next look', async () => {
    const told: unknown[] = [];
    const wanted = { requestedBy: null, onUnsettled: (error: unknown) => void told.push(error) };
    const { manifest, path } = await takeOne(taking({ end: away }), wanted);
    expect(told).toMatchObject([{ code: 'database_unavailable' }]);
    expect(existsSync(path)).toBe(true);
    expect(await newestRow()).toMatchObject({ id: manifest.id, state: 'running' });
    expect(await settleBackups(taking())).toMatchObject([{ id: manifest.id }]);
    const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0);
    const sums = { bytes: manifest.content.length, rows, logSize: manifest.log.size };
    expect(await newestRow()).toMatchObject({ id: manifest.id, state: 'complete', ...sums });
    expect((await given(store).backups.newest())?.id).toBe(manifest.id);
    // Nothing is left to settle, and a backup ends once.
    expect(await settleBackups(taking())).toEqual([]);
    await given(store).backups.end(manifest.id, { state: 'failed', problem: 'internal' });
    expect(await newestRow()).toMatchObject({ state: 'complete', problem: null });
  });

  it('is not given up by the next, and is a backup again where it was', async () => {
    const wanted = { requestedBy: null, onUnsettled: () => undefined };
    const first = await takeOne(taking({ end: away }), wanted);
    const second = await take();
    const { backups: rows } = given(store);
    for (const { manifest } of [first, second]) {
      expect((await rows.find(manifest.id))?.state).toBe('complete');
    }
    // Where whoever gave it up did not see its folder.
    const third = await takeOne(taking({ end: away }), wanted);
    await rows.giveUpOthers(randomUUID());
    const found = () => rows.find(third.manifest.id);
    expect(await found()).toMatchObject({ state: 'failed', problem: 'interrupted' });
    await settleBackups(taking());
    expect(await found()).toMatchObject({ state: 'complete', problem: null });
  });

  it('counts only where the folder is whole and the root vouches for it', async () => {
    const wanted = { requestedBy: null, onUnsettled: () => undefined };
    const { path, manifest } = await takeOne(taking({ end: away }), wanted);
    const signatures = join(path, 'signatures.json');
    const before = readFileSync(signatures, 'utf8');
    const { mac, ...rest } = JSON.parse(before) as { readonly mac: string };
    const other = Buffer.from(mac, 'base64').map((byte, index) => (index === 9 ? byte ^ 1 : byte));
    const forged = { ...rest, mac: Buffer.from(other).toString('base64') };
    writeFileSync(signatures, JSON.stringify(forged));
    expect(await settleBackups(taking())).toEqual([]);
    rmSync(signatures);
    expect(await settleBackups(taking())).toEqual([]);
    writeFileSync(signatures, before);
    expect(await settleBackups(taking())).toMatchObject([{ id: manifest.id }]);
  });
});

describe('a backup that is asked for under an idempotency key', () => {
  const by = { issuer: 'i', subject: 's' };
  const request = { key: 'again', hash: new Uint8Array(32).fill(1) };
  const wanted = { requestedBy: by, request, onUnsettled: unexpected };

  it('is kept with its key, which is of who asked, and begins no second', async () => {
    const { manifest } = await takeOne(taking(), wanted);
    const { backups: rows } = given(store);
    const found = await rows.requested(by, 'again');
    expect(found).toMatchObject({ row: { id: manifest.id, state: 'complete' } });
    expect(found?.hash).toEqual(request.hash);
    expect(await rows.requested({ ...by, subject: 'other' }, 'again')).toBeNull();
    expect(await codeOf(takeOne(taking(), wanted))).toBe('conflict');
    expect((await rows.list(null, 1))[0]?.id).toBe(manifest.id);
  });

  it('gives the key back where its request came to nothing', async () => {
    const { backups: rows } = given(store);
    const giving = new AbortController();
    const stopped = { signal: giving.signal, unanswered: giving.signal };
    const next = { ...wanted, request: { ...request, key: 'forsaken' }, ...stopped };
    const onBegun = () => giving.abort();
    expect(await codeOf(takeOne(taking(), { ...next, onBegun }))).toBe('shutting_down');
    expect(await rows.requested(by, 'forsaken')).toBeNull();
    const { manifest } = await takeOne(taking(), { ...wanted, request: next.request });
    expect((await rows.requested(by, 'forsaken'))?.row.id).toBe(manifest.id);
  });
});

/** What `backup restore` does once rows and root are there, in its order. */
async function proven(
  { hsm }: WatchedHsm,
  { manifestBytes, vouched }: OpenBackup,
  probes: readonly string[],
): Promise<void> {
  const into = given(target);
  const uses = new UsageCounters(into.keys);
  const root = await openRoot(hsm, into.roots, uses, null);
  const mac = await macOf((data) => root.mac(data, vouched.mac), manifestBytes);
  expect(Buffer.from(mac).equals(vouched.mac)).toBe(true);
  const parts = { store: into.keys, hsm, engine: nativeEngine, root, uses };
  await checkRestored(parts, probes, PROBED);
  await loader.verified();
}
