/**
 * A backup of a used installation onto a second token and a second database: what was wrapped opens, what
 * was signed verifies, and what is not that backup is refused.
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import { formatVkey } from '../../src/audit/tree/vkey.ts';
import { attested } from '../../src/backup/escrow-mac.ts';
import type { LastingMac } from '../../src/backup/escrow-mac.ts';
import { backupsIn } from '../../src/backup/folder.ts';
import { FORMAT, parseManifest } from '../../src/backup/manifest.ts';
import type { BackupSigner } from '../../src/backup/manifest.ts';
import type { StoredEscrow } from '../../src/backup/ports.ts';
import { loadBackup } from '../../src/backup/restore.ts';
import { takeBackup } from '../../src/backup/take.ts';
import type { Taken } from '../../src/backup/take.ts';
import { openBackup, verifyContent } from '../../src/backup/verify.ts';
import { loadConfig } from '../../src/config.ts';
import type { Config } from '../../src/config.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { wipe } from '../../src/crypto/secret.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import { runEscrowCeremony, runPlacementCeremony } from '../../src/hsm/run-ceremony.ts';
import { backupCommand, offlineBackupCommand } from '../../src/main/backup-command.ts';
import { newSeed, recoveryKeyOf } from '../../src/recovery/key.ts';
import { formatShare, seedOf, shareSeed } from '../../src/recovery/shares.ts';
import { openLoader } from '../../src/store/backup-load.ts';
import { openSnapshot } from '../../src/store/backup-snapshot.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { makeToken, ROOT, temporaryFolder, tokenIn } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { openStoredInstance } from '../keyring/stored-instance.ts';
import { SIGN_SUITES, WRAP_SUITES, codeOf } from '../keyring/world.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { rowsAsOwner } from '../store/owner.ts';
import { softwareSigner } from './signer.ts';

let folder: string;
let databases: { readonly first: TestDatabase; readonly second: TestDatabase };
let tokens: { readonly first: TokenFixture; readonly second: TokenFixture };
let publicKey: Uint8Array;
let shareFiles: readonly string[];
let signer: BackupSigner;
let lastingMac: LastingMac;
let taken: Taken;
/** Of the same installation, later. */
let newer: Taken;
/** Later still, of another one. */
let foreign: Taken;
/** Later, of the same installation by its own words alone. */
let forged: Taken;
/** Of a newer version of the product. */
let later: Taken;
/** Has a newer one beside it. */
let older: Taken;
/** That one. */
let newest: Taken;
let wrapped: { readonly id: string; readonly suite: string; readonly ciphertext: Uint8Array }[];

/** What somebody who writes the database might leave of a wrapped root. */
const ALTERED: readonly ((escrow: StoredEscrow) => Partial<StoredEscrow>)[] = [
  () => ({ mac: null }),
  () => ({ mac: new Uint8Array(32) }),
  ({ wrapped }) => ({ wrapped: wrapped.map((byte, at) => (at === 7 ? byte ^ 1 : byte)) }),
  ({ point }) => ({ point: point.map((byte, at) => (at === 9 ? byte ^ 1 : byte)) }),
  ({ transcript }) => ({ transcript: transcript.toReversed() }),
];
/** Nothing reads it, so that its MAC may be none. */
const APPROVAL = `insert into public.approval (id, namespace, issuer, subject, operation, guards, method,
    path, query, body_hash, request_hash, preview, created_at, expires_at, state, approvers, revision, mac)
  values (gen_random_uuid(), 'default', 'issuer', 'subject', 'keys.destroy', '{}', 'POST',
    '/', '', '', '', '', now(), now() + interval '1 day', $1, '[]', 1, '')`;
let beforeEscrow: string;
const withAltered: string[] = [];

const place = ({ token }: TokenFixture) => ({
  ...token,
  tokenSelector: { label: token.tokenLabel },
});

const seed = () =>
  seedOf(shareFiles.slice(0, 2).map((name) => ({ name, text: readFileSync(name, 'utf8') })));

const openFirst = (entries: 'tail' | 'all') =>
  openSnapshot({ url: databases.first.appUrl }, entries);

/** As of a version that has one migration more. */
const openLater: typeof openFirst = async (entries) => {
  const snapshot = await openFirst(entries);
  const { facts } = snapshot;
  const migrations = [...facts.migrations, '9999_later'];
  return Object.assign(snapshot, { facts: { ...facts, migrations } });
};

const take = (
  into: string,
  installation = ROOT.installation,
  signedBy = signer,
  open = openFirst,
) =>
  takeBackup(
    {
      engine: nativeEngine,
      signer: signedBy,
      lastingMac,
      open,
      installation,
      probes: async function* () {
        yield* [];
      },
      version: '0.0.0-test',
    },
    { folder: into, publicKey, entries: 'tail' },
  );

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-backup-'));
  databases = { first: await startTestDatabase(), second: await startTestDatabase() };
  tokens = { second: await tokenIn(temporaryFolder(), false), first: await makeToken() };
  const made = newSeed();
  ({ publicKey } = recoveryKeyOf(nativeEngine, made));
  shareFiles = shareSeed(made, publicKey, { shares: 3, threshold: 2 }).map((share) => {
    const file = join(folder, `share-${String(share.index)}`);
    writeFileSync(file, formatShare(share));
    return file;
  });
  const store = openStore({ url: databases.first.appUrl });
  const hsm = await tokens.first.open();
  const service = await openStoredInstance(store, { hsm });
  wrapped = [];
  for (const suite of WRAP_SUITES) {
    const id = await service.create({ suite });
    wrapped.push({ id, suite, ciphertext: await service.wrap(id, suite) });
  }
  for (const suite of SIGN_SUITES) await service.create({ suite });
  signer = await softwareSigner(service.root.mac);
  lastingMac = service.root.auditMac;
  const { root, ...sent } = await runEscrowCeremony({
    ...place(tokens.first),
    ...{ root: ROOT, publicKey },
  });
  const escrow = await attested({ ...root, ...sent }, lastingMac);
  const taking = () => codeOf(take(join(folder, 'backups')));
  beforeEscrow = await taking();
  for (const change of ALTERED) {
    await store.backups.addEscrow({ ...escrow, ...change(escrow) });
    withAltered.push(await taking());
  }
  await store.backups.addEscrow(escrow);
  for (const state of ['pending', 'approved', 'executed', 'denied']) {
    await rowsAsOwner(databases.first, APPROVAL, [state]);
  }
  taken = await take(join(folder, 'backups'));
  newer = await take(join(folder, 'later'));
  foreign = await take(join(folder, 'foreign'), 'fedcba98-7654-4210-8edc-ba9876543210');
  const others = await softwareSigner(() => Promise.resolve(new Uint8Array(32)));
  forged = await take(join(folder, 'theirs'), ROOT.installation, others);
  later = await take(join(folder, 'version'), ROOT.installation, signer, openLater);
  older = await take(join(folder, 'twice'));
  newest = await take(join(folder, 'twice'));
  await service.stop();
  await hsm.close();
  await store.close();
}, 120_000);

afterAll(async () => {
  await databases.first.stop();
  await databases.second.stop();
  tokens.first.remove();
  tokens.second.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** A copy of the backup, changed. */
function changed(name: string, change: (path: string) => void): string {
  const path = join(folder, name);
  cpSync(taken.path, path, { recursive: true });
  change(path);
  return path;
}

const verify = async (path: string, withShares: boolean): Promise<void> => {
  const backup = await openBackup(nativeEngine, path, null);
  const secret = withShares ? seed() : null;
  try {
    await verifyContent(nativeEngine, backup, secret);
  } finally {
    wipe(secret ?? undefined);
    await backup.close();
  }
};

const flip = (path: string, at: number) => {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
};

describe('a backup', () => {
  it('is one folder, verified with and without shares, and leaves nothing half done', async () => {
    expect(await backupsIn(join(folder, 'backups'))).toEqual([taken.path]);
    expect(readdirSync(join(folder, 'backups'))).toHaveLength(1);
    await verify(taken.path, false);
    await verify(taken.path, true);
    const { tables } = taken.manifest;
    expect(tables.find(({ name }) => name === 'key')?.rows).toBe(
      WRAP_SUITES.length + SIGN_SUITES.length,
    );
    expect(tables.map(({ name }) => name)).not.toContain('instance');
  });

  it('is not taken without the root, nor with a wrapped root that is not the one that was stored', () => {
    expect(beforeEscrow).toBe('conflict');
    expect(withAltered).toEqual(ALTERED.map(() => 'conflict'));
  });

  it('has a manifest whose members are of their kind, whoever signed it', async () => {
    const text = readFileSync(join(taken.path, 'manifest.json'), 'utf8');
    const whole = JSON.parse(text) as Record<string, unknown>;
    const parsed = (change: object) =>
      codeOf(
        Promise.resolve().then(() =>
          parseManifest(Buffer.from(JSON.stringify({ ...whole, ...change }))),
        ),
      );
    expect(whole['format']).toBe(FORMAT);
    expect(await parsed({})).toBe('no error');
    const wrong: readonly object[] = [
      ...[{ tables: {} }, { tables: [null] }, { tables: [{ name: 1, rows: 1 }] }],
      ...[{ escrows: [{}] }, { escrows: 'x' }, { generations: ['1'] }, { migrations: [1] }],
      ...[{ content: {} }, { content: [] }, { log: { size: 1 } }, { probes: '1' }, { more: 1 }],
    ];
    for (const change of wrong) {
      expect([change, await parsed(change)]).toEqual([change, 'integrity_failed']);
    }
  });

  it('that is damaged, truncated or mixed is told apart', async () => {
    const content = (path: string) => join(path, 'content');
    const cases: readonly (readonly [string, (path: string) => void])[] = [
      ['flipped', (path) => flip(content(path), 5000)],
      ['header', (path) => flip(content(path), 60)],
      ['truncated', (path) => truncateSync(content(path), 6000)],
      ['manifest', (path) => flip(join(path, 'manifest.json'), 200)],
      ['signatures', (path) => flip(join(path, 'signatures.json'), 400)],
    ];
    for (const [name, change] of cases) {
      expect([name, await codeOf(verify(changed(name, change), false))]).toEqual([
        name,
        'integrity_failed',
      ]);
    }
    for (const name of ['manifest.json', 'signatures.json', 'content']) {
      const pipe = changed(`pipe-${name}`, (path) => {
        rmSync(join(path, name));
        execFileSync('mkfifo', [join(path, name)]);
      });
      const device = changed(`device-${name}`, (path) => {
        rmSync(join(path, name));
        symlinkSync('/dev/zero', join(path, name));
      });
      for (const path of [pipe, device]) {
        await expect(verify(path, false)).rejects.toMatchObject({
          code: 'integrity_failed',
          message: expect.stringContaining('is no regular file') as unknown,
        });
      }
    }
    const missing = changed('missing', (path) => rmSync(content(path)));
    expect(await codeOf(verify(missing, false))).toBe('not_found');
  });

  it('of another installation, or for another recovery key, is refused by name', async () => {
    const { ed25519, mlDsa44 } = await (
      await softwareSigner(() => Promise.resolve(new Uint8Array(32)))
    ).sign(new Uint8Array(1));
    const trust = [ed25519.vkey, mlDsa44.vkey];
    expect(await codeOf(openBackup(nativeEngine, taken.path, trust))).toBe('forbidden');
    const backup = await openBackup(nativeEngine, taken.path, null);
    expect(await codeOf(verifyContent(nativeEngine, backup, newSeed()))).toBe('key_mismatch');
    await backup.close();
  });
});

describe('a restore of an older backup', () => {
  let told: string[] = [];
  /** By the command, up to its shares, which are not there: nothing behind them is touched. */
  const restoreIn = (place: string, ...more: string[]) => {
    const path = join(folder, place, basename(taken.path));
    const flags = ['--share', join(folder, 'no-share'), '--so-pin-file', join(folder, 'no-pin')];
    const config = {} as Config;
    told = [];
    const out = { print: () => undefined, complain: (line: string) => told.push(line) };
    return backupCommand(config, ['restore', path, ...flags, ...more], out);
  };
  const placed = (place: string, ...backups: readonly Taken[]) => {
    for (const { path } of backups) {
      cpSync(path, join(folder, place, basename(path)), { recursive: true });
    }
  };

  it('is refused with the name of the newer one, and goes on for who says --older', async () => {
    placed('two', taken, newer, foreign);
    const refused = restoreIn('two');
    await expect(refused).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining(`${basename(newer.path)} is newer`) as unknown,
    });
    await expect(restoreIn('two', '--older')).rejects.toThrow(/no-share/u);
  });

  it('is none where nobody who is trusted has signed what is newer', async () => {
    placed('forged', taken, forged);
    const { ed25519, mlDsa44 } = await signer.sign(new Uint8Array(1));
    const trust = join(folder, 'trust');
    writeFileSync(trust, [ed25519, mlDsa44].map(({ vkey }) => `${formatVkey(vkey)}\n`).join(''));
    await expect(restoreIn('forged')).rejects.toThrow('is newer');
    expect(told).toEqual([]);
    await expect(restoreIn('forged', '--trust', trust)).rejects.toThrow(/no-share/u);
    // It may be the installation's own, under keys of the log that came later.
    expect(told).toEqual([
      expect.stringContaining(`${basename(forged.path)} says that it is newer`),
    ]);
    await expect(openBackup(nativeEngine, forged.path, [ed25519.vkey])).rejects.toThrow(
      'the keys of the log changed',
    );
    const listed = async (...flags: string[]) => {
      const lines: { readonly path: string; readonly code?: string }[] = [];
      await offlineBackupCommand(['list', join(folder, 'forged'), ...flags], (line) =>
        lines.push(JSON.parse(line) as (typeof lines)[number]),
      );
      return Object.fromEntries(lines.map(({ path, code }) => [basename(path), code]));
    };
    const [ours, theirs] = [basename(taken.path), basename(forged.path)];
    expect(await listed()).toEqual({ [ours]: undefined, [theirs]: undefined });
    expect(await listed('--trust', trust)).toEqual({ [ours]: undefined, [theirs]: 'forbidden' });
    writeFileSync(trust, '# none yet\n');
    await expect(listed('--trust', trust)).rejects.toThrow('names no verifier key');
    await expect(listed('--trust', folder)).rejects.toMatchObject({ code: 'invalid_value' });
  });

  it('is none where the content of what is newer is damaged, which is told', async () => {
    placed('damaged', taken, newer);
    flip(join(folder, 'damaged', basename(newer.path), 'content'), 5000);
    await expect(restoreIn('damaged')).rejects.toThrow(/no-share/u);
    expect(told).toEqual([
      expect.stringMatching(
        new RegExp(
          `${basename(newer.path)} is newer.* not whole: The content is not what was`,
          'u',
        ),
      ),
    ]);
    // One that is whole is still in the way, though a damaged one is newer.
    const [ours, theirs] = [basename(older.path), basename(newest.path)];
    cpSync(join(folder, 'twice'), join(folder, 'thrice'), { recursive: true });
    placed('thrice', taken);
    flip(join(folder, 'thrice', theirs, 'content'), 5000);
    await expect(restoreIn('thrice')).rejects.toThrow(`${ours} is newer`);
  });

  it('is none where what is newer is of another installation', async () => {
    placed('alone', taken, foreign);
    await expect(restoreIn('alone')).rejects.toThrow(/no-share/u);
  });
});

describe('a folder that is named', () => {
  const silent = { print: () => undefined, complain: () => undefined };
  const nothing = {} as Config;

  it('in another way has its newer ones beside it all the same', async () => {
    symlinkSync(older.path, join(folder, 'elsewhere'));
    for (const path of [
      older.path,
      `${older.path}/.`,
      `${older.path}//`,
      join(folder, 'elsewhere'),
    ]) {
      const argv = ['restore', path, '--so-pin-file', 'x', '--share', 'x'];
      await expect(backupCommand(nothing, argv, silent)).rejects.toThrow('is newer');
    }
  });

  it('as itself is copied under its name', async () => {
    const to = join(folder, 'copies');
    await offlineBackupCommand(['copy', `${taken.path}/.`, '--to', to], silent.print);
    expect(await backupsIn(to)).toEqual([join(to, basename(taken.path))]);
  });

  it('is written through no link that somebody left where copies are kept', async () => {
    const [victim, to] = [join(folder, 'victim'), join(folder, 'shared')];
    const partial = join(to, `.copying-${basename(taken.path)}`);
    const copy = () => offlineBackupCommand(['copy', taken.path, '--to', to], silent.print);
    writeFileSync(victim, 'stays');
    mkdirSync(partial, { recursive: true });
    symlinkSync(victim, join(partial, 'content'));
    await expect(copy()).rejects.toThrow('ELOOP');
    rmSync(partial, { recursive: true });
    mkdirSync(join(folder, 'trap'));
    symlinkSync(join(folder, 'trap'), partial);
    expect(await codeOf(copy())).toBe('integrity_failed');
    expect([readFileSync(victim, 'utf8'), readdirSync(join(folder, 'trap'))]).toEqual([
      'stays',
      [],
    ]);
    rmSync(partial);
    await copy();
    expect(await backupsIn(to)).toHaveLength(1);
  });
});

describe('the command of a restore', () => {
  /** Where it would make a token, were it to come that far. */
  const restoreInto = async (name: string, database: TestDatabase, path = taken.path) => {
    const dataDir = join(folder, name);
    mkdirSync(dataDir, { mode: 0o700 });
    const config = loadConfig({
      environment: {
        TWOFOLD_MODE: 'dev',
        TWOFOLD_DATA: dataDir,
        DATABASE_URL: database.appUrl,
        TWOFOLD_DATABASE_OWNER_URL: database.ownerUrl,
      },
    });
    const shares = shareFiles.slice(0, 2).flatMap((file) => ['--share', file]);
    const argv = ['restore', path, ...shares, '--so-pin-file', join(dataDir, 'so.pin')];
    const print = () => undefined;
    const complain = (line: string) => complaints.push(line);
    const code = await codeOf(backupCommand(config, argv, { print, complain }));
    return [code, readdirSync(dataDir)];
  };
  let complaints: string[] = [];
  beforeEach(() => {
    complaints = [];
  });

  it('leaves token and database of a place in use as they are', async () => {
    const applied = () => rowsAsOwner(databases.first, 'select name from public.twofold_migration');
    // As one of an older version, whose upgrade nobody asked for.
    await rowsAsOwner(
      databases.first,
      'delete from public.twofold_migration where name = (select max(name) from public.twofold_migration)',
    );
    const before = await applied();
    expect(await restoreInto('in-use', databases.first)).toEqual(['conflict', []]);
    expect(await applied()).toEqual(before);
  });

  it('of a backup of a newer version makes no token', async () => {
    const outcome = await restoreInto('later-version', databases.second, later.path);
    expect(outcome).toEqual(['conflict', []]);
  });

  it('finds damage anywhere in the backup before it makes a token', async () => {
    const path = changed('damaged-end', (copy) => {
      const { length } = readFileSync(join(copy, 'content'));
      flip(join(copy, 'content'), length - 20);
    });
    expect(await restoreInto('new', databases.second, path)).toEqual(['integrity_failed', []]);
    // Nobody who is trusted was named.
    const backup = await openBackup(nativeEngine, taken.path, null);
    const { ed25519 } = backup.vouched;
    await backup.close();
    expect(complaints).toEqual([
      expect.stringContaining(`who signed it (${ed25519.name}+${ed25519.keyId})`),
      'verifying the backup',
    ]);
  });
});

describe('a restore', () => {
  const restore = async (path = taken.path) => {
    const backup = await openBackup(nativeEngine, path, null);
    const loader = openLoader({ url: databases.second.ownerUrl });
    const secret = seed();
    try {
      return await loadBackup(nativeEngine, backup, secret, loader);
    } finally {
      secret.wipe();
      await loader.close();
      await backup.close();
    }
  };

  it('of a damaged backup leaves an empty database', async () => {
    const path = changed('damaged-late', (copy) => {
      const { length } = readFileSync(join(copy, 'content'));
      flip(join(copy, 'content'), length - 20);
    });
    expect(await codeOf(restore(path))).toBe('integrity_failed');
    expect(await rowsAsOwner(databases.second, 'select 1 from public.key')).toEqual([]);
  });

  it('serves what was wrapped and signed, on the other token', async () => {
    for (const text of taken.manifest.escrows) {
      const { generation, installation, ...rest } = text;
      const bytes = (value: string) => Uint8Array.from(Buffer.from(value, 'base64'));
      const escrow = {
        root: { generation, installation },
        publicKey: bytes(rest.publicKey),
        point: bytes(rest.point),
        ciphertext: bytes(rest.ciphertext),
        wrapped: bytes(rest.wrapped),
        transcript: bytes(rest.transcript),
      };
      await runPlacementCeremony({ ...place(tokens.second), escrow, shareFiles });
    }
    expect((await restore()).rows).toBeGreaterThan(30);
    // What was open may have been executed after the backup: it is not there to be executed again.
    const left = `select state from public.approval order by state`;
    expect(await rowsAsOwner(databases.second, left)).toEqual([
      { state: 'denied' },
      { state: 'executed' },
    ]);
    const store: Store = openStore({ url: databases.second.appUrl });
    const hsm: PooledHsm = await tokens.second.open();
    const service = await openStoredInstance(store, { hsm });
    for (const { id, suite, ciphertext } of wrapped) {
      const opened = service.unwrap(id, ciphertext);
      // X25519 lives on the token alone: it is lost with it, and said to be.
      if (suite.endsWith('X25519')) expect(await codeOf(opened)).toBe('zone_lacks_material');
      else expect(await opened).toBe(suite);
    }
    await service.stop();
    await hsm.close();
    await store.close();
    // Into what is there nothing is restored again, but for what was begun.
    expect((await restore()).rows).toBe(0);
  }, 60_000);
});
