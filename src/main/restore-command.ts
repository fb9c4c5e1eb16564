/** A backup onto a token and into a database that are both new. */
import { loadBackup } from '../backup/restore.ts';
import { bytesOf, macOf } from '../backup/manifest.ts';
import type { ManifestEscrow } from '../backup/manifest.ts';
import { openBackup, verifyContent } from '../backup/verify.ts';
import type { OpenBackup } from '../backup/verify.ts';
import type { Vkey } from '../audit/tree/vkey.ts';
import type { Config } from '../config.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { nativeEngine } from '../crypto/native-engine.ts';
import { wipe } from '../crypto/secret.ts';
import { lockDataFolder } from '../data-folder.ts';
import { TwofoldError } from '../errors.ts';
import type { EscrowedRoot } from '../hsm/ceremony-transport.ts';
import { runPlacementCeremony } from '../hsm/run-ceremony.ts';
import { checkRestored } from '../keyring/probes.ts';
import type { RestoredFacts } from '../keyring/probes.ts';
import { openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { seedOf } from '../recovery/shares.ts';
import { openLoader } from '../store/backup-load.ts';
import { migrate } from '../store/migrate.ts';
import { hasEmbedded, startEmbedded } from '../store/embedded.ts';
import { openStore } from '../store/store.ts';
import { openDevice, tokenPlace } from './device.ts';
import { databaseUrls } from './doctor-command.ts';
import { ceremonyPlace } from './escrow-command.ts';
import { logBeyond } from './log-outside.ts';
import type { SeenBeyond } from './newest-checkpoint.ts';
import { readShares } from './recovery-command.ts';
import { endRestore, markRestore } from './restoration.ts';
import { SILENT } from './silent-log.ts';
import { PROBED_KEYS } from './taking-backups.ts';
import type { Unwinding } from './unwinding.ts';
import { VERSION } from './version.ts';

export interface RestoreWanted {
  readonly path: string;
  readonly soPinFile: string;
  readonly shareFiles: readonly string[];
  readonly trust: readonly Vkey[] | null;
}

export interface Restored extends RestoredFacts {
  readonly backup: string;
  readonly takenAt: string;
  /** The verifier key that it says; whether `--trust` named it. */
  readonly signedBy: string;
  readonly trusted: boolean;
  readonly generations: readonly number[];
  /** The log goes on from here, and names it in its first entry. */
  readonly log: { readonly origin: string | null; readonly size: number; readonly root: string };
  /**
   * What data folder, published copies and witnesses have of the log that the backup has not. It is lost, and
   * no start goes on without it until it is given up by these names (`audit.acceptRollback.checkpoints`).
   */
  readonly seenBeyond: readonly SeenBeyond[];
  /** Keys of the log that cannot travel; the zone makes others (deploy/token-lost.md). */
  readonly logKeysLeft: readonly string[];
}

/**
 * In this order, of which each step can be repeated after a kill: shares, signatures and content, whether there
 * is room, token, rows (all or none), proof. No service starts on the database before the last.
 *
 * @throws TwofoldError invalid_value for shares, integrity_failed, key_mismatch, forbidden, conflict
 */
export async function restoreBackup(
  config: Config,
  { path, soPinFile, shareFiles, trust }: RestoreWanted,
  unwinding: Unwinding,
  tell: (line: string) => void,
): Promise<Restored> {
  const seed = seedOf(readShares(shareFiles));
  unwinding.add('seed', () => {
    wipe(seed);
  });
  const backup = await openBackup(nativeEngine, path, trust);
  unwinding.add('backup', () => backup.close());
  if (trust === null) tell(untrusted(backup));
  tell('verifying the backup');
  // All of it: what is damaged is found while the token has no root of it.
  await verifyContent(nativeEngine, backup, seed);
  const { id: backupId, generations: placed, migrations } = backup.manifest;
  const urls = await restoreUrls(config, backupId, unwinding);
  const { tls, caFile } = config.database;
  const owner = { url: urls.owner, tls, caFile };
  const loader = openLoader(owner);
  unwinding.add('owner connection', () => loader.close());
  // A wrong place stays as it is, its token above all.
  await loader.requireRoom({ backup: backupId, generations: placed, migrations });
  markRestore(config, backupId);
  const only = (await loader.schemaOf(migrations)) ?? undefined;
  await migrate({ ...owner, version: VERSION, only });
  // A token of development is made here, where the service would make it.
  await tokenPlace(config, SILENT, true);
  await placeRoots(config, backup, { soPinFile, shareFiles, tell });
  tell('reading the rows');
  const { probes } = await loadBackup(nativeEngine, backup, seed, loader, (rows) =>
    tell(`${String(rows)} rows`),
  );
  wipe(seed);
  // What the versions since then do to rows that are there.
  await migrate({ ...owner, version: VERSION });
  tell('checking what was restored');
  const store = openStore({ url: urls.app, tls, caFile, max: 8 });
  unwinding.add('database pool', () => store.close());
  const { hsm } = await openDevice(config, SILENT, unwinding, false);
  const { ready, state, detail } = hsm.status();
  if (!ready) throw new TwofoldError('hsm_unavailable', `${state}: ${detail}`);
  const uses = new UsageCounters(store.keys);
  const root = await openRoot(hsm, store.roots, uses, null);
  // By the generation that made it, which a rotation may have replaced since.
  await requireOwn(backup, (data) => root.mac(data, backup.vouched.mac));
  const parts = { store: store.keys, hsm, engine: nativeEngine, root, uses };
  const facts = await checkRestored(parts, probes, PROBED_KEYS);
  await loader.verified();
  endRestore(config);
  const { id, takenAt, generations, log } = backup.manifest;
  const beyond = await logBeyond({ config, store, root, log: SILENT });
  tellBeyond(beyond, log.size, tell);
  const stored = await store.logKeys.read();
  const left = stored.keys.filter(({ value }) => value.material?.custody === 'hsm-token');
  return {
    ...{ backup: id, takenAt, signedBy: signerOf(backup), trusted: trust !== null, generations },
    log: { origin: log.origin, size: log.size, root: log.root },
    ...facts,
    seenBeyond: beyond,
    logKeysLeft: left.map(({ value }) => `${value.zone} ${value.kind} ${value.id}`),
  };
}

export const signerOf = ({ vouched: { ed25519 } }: Pick<OpenBackup, 'vouched'>): string =>
  `${ed25519.name}+${ed25519.keyId}`;

/** The content says nothing of who wrote it: whoever has the public recovery key makes one that opens. */
const untrusted = (backup: OpenBackup): string =>
  `without --trust nothing but the backup itself says who signed it (${signerOf(backup)}): ` +
  'compare that with the keys that you kept of the log, or name their file with --trust';

/** A start that refuses is no surprise then; to give up what was lost stays the operator's own word. */
function tellBeyond(
  beyond: readonly SeenBeyond[],
  size: number,
  tell: (line: string) => void,
): void {
  if (beyond.length === 0) return;
  for (const seen of beyond) {
    tell(
      `${seen.place} has seen ${String(seen.size)} entries of the log, the backup has ${String(size)}`,
    );
  }
  tell(
    'What came after the backup is lost. Where no newer state is left anywhere, start once with',
  );
  const names = JSON.stringify(beyond.map(({ checkpoint }) => checkpoint));
  tell(`TWOFOLD_AUDIT_ACCEPT_ROLLBACK_CHECKPOINTS='${names}'`);
  tell('and TWOFOLD_AUDIT_ACCEPT_ROLLBACK_REASON, which the log then says (deploy/witnesses.md)');
}

/** In development the database is made here, where the service would make it. */
async function restoreUrls(config: Config, backup: string, unwinding: Unwinding) {
  if (config.database.url !== undefined || hasEmbedded(config.dataDir)) {
    return databaseUrls(config, unwinding);
  }
  const folder = await lockDataFolder(config.dataDir);
  unwinding.add('data folder', () => folder.release());
  markRestore(config, backup);
  const started = await startEmbedded({ dataDir: config.dataDir });
  unwinding.add('embedded database', () => started.stop());
  return { app: started.appUrl, owner: started.ownerUrl };
}

const escrowOf = (text: ManifestEscrow): EscrowedRoot => ({
  root: { generation: text.generation, installation: text.installation },
  publicKey: bytesOf(text.publicKey),
  point: bytesOf(text.point),
  ciphertext: bytesOf(text.ciphertext),
  wrapped: bytesOf(text.wrapped),
  transcript: bytesOf(text.transcript),
});

async function placeRoots(
  config: Config,
  { manifest }: OpenBackup,
  how: {
    readonly soPinFile: string;
    readonly shareFiles: readonly string[];
    readonly tell: (line: string) => void;
  },
): Promise<void> {
  const place = await ceremonyPlace(config, how.soPinFile);
  for (const generation of manifest.generations) {
    const escrow = manifest.escrows.find((each) => each.generation === generation);
    if (escrow === undefined) {
      const detail = `The backup has no root of generation ${String(generation)}.`;
      throw new TwofoldError('integrity_failed', detail);
    }
    const { shareFiles, tell } = how;
    const { made } = await runPlacementCeremony({ ...place, escrow: escrowOf(escrow), shareFiles });
    tell(`root generation ${String(generation)} ${made ? 'was placed' : 'is there'}`);
  }
}

/** By what only the installation itself can make. */
async function requireOwn(
  { manifestBytes, vouched }: OpenBackup,
  mac: (data: Uint8Array) => Promise<Uint8Array>,
): Promise<void> {
  if (equalBytes(await macOf(mac, manifestBytes), vouched.mac)) return;
  throw new TwofoldError('integrity_failed', 'The backup was not made by the root that it holds.');
}
