/** A backup of the installation behind a store and a token: in the service, and beside it. */
import { randomUUID } from 'node:crypto';

import { signStatement } from '../audit/statement-signer.ts';
import { nameOf } from '../backup/folder.ts';
import type { BackupSigner } from '../backup/manifest.ts';
import { lookForBackup, takeBackup } from '../backup/take.ts';
import type { Taken } from '../backup/take.ts';
import { AnotherBackup } from '../backup/ports.ts';
import type { BackupRequest, BackupRow, EntriesKept, Snapshot } from '../backup/ports.ts';
import type { Config } from '../config.ts';
import type { Engine } from '../crypto/engine.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm } from '../hsm/port.ts';
import { logSeals } from '../keyring/log-keys.ts';
import { makeProbes } from '../keyring/probes.ts';
import { generationOf } from '../keyring/root-mac.ts';
import type { Root } from '../keyring/root.ts';
import type { UsageCounters } from '../keyring/usage.ts';
import type { Store } from '../store/store.ts';
import { readRecoveryKey } from './escrow-command.ts';
import { settleBackups, sumsOf } from './settled-backups.ts';
import { VERSION } from './version.ts';

/** Keys of which a backup carries a ciphertext. */
export const PROBED_KEYS = 64;

export interface TakingParts {
  readonly config: Config;
  readonly store: Store;
  readonly hsm: Hsm;
  readonly root: Root;
  readonly engine: Engine;
  readonly uses: UsageCounters;
  /** A connection of its own for the snapshot. */
  readonly openSnapshot: (entries: EntriesKept) => Promise<Snapshot>;
}

export interface TakingWanted {
  readonly id?: string;
  readonly requestedBy: BackupRow['requestedBy'];
  readonly entries?: EntriesKept | undefined;
  readonly signal?: AbortSignal;
  readonly request?: BackupRequest | null;
  /** Aborted where whoever asked was told that nothing was done. */
  readonly unanswered?: AbortSignal;
  /** Told of one that is whole and whose row could not say so: the next look at the folder does. */
  readonly onUnsettled: (error: unknown) => void;
  /** Told once its row is there. */
  readonly onBegun?: (row: BackupRow) => void;
}

/**
 * @param facts of the snapshot, once it is there
 * @throws TwofoldError conflict from `mac` when a rotation of the root began after the snapshot: what
 *   vouches would be under a generation that the backup does not hold
 */
const signerOf = (
  { config, store, hsm, root, engine }: TakingParts,
  facts: () => Snapshot['facts'] | undefined,
): BackupSigner => ({
  mac: async (message) => {
    const mac = await root.mac(message);
    const by = generationOf(mac, root.first);
    if (facts()?.generations.some(({ generation }) => generation === by) !== true) {
      const detail = 'A rotation of the root began meanwhile: take the backup again.';
      throw new TwofoldError('conflict', detail);
    }
    return mac;
  },
  sign: (message) =>
    signStatement(
      {
        hsm,
        signatures: engine.signatures,
        seals: logSeals(root),
        clock: () => new Date(),
        store: store.logKeys,
        zone: config.zone.name,
      },
      message,
    ),
});

/** @throws TwofoldError invalid_value where no folder is configured */
export function backupPlace({ backup: { folder, recoveryKeyFile } }: Config) {
  if (folder === undefined || recoveryKeyFile === undefined) {
    throw new TwofoldError(
      'invalid_value',
      'backup.folder and backup.recoveryKeyFile are not set.',
    );
  }
  return { folder, publicKey: readRecoveryKey(recoveryKeyFile) };
}

/** The row of one that could be begun now, and is not. @throws as `takeBackup` */
export async function lookForOne(
  { config, root, openSnapshot }: TakingParts,
  { requestedBy, entries = config.backup.entries }: Pick<TakingWanted, 'requestedBy' | 'entries'>,
): Promise<BackupRow> {
  const { publicKey } = backupPlace(config);
  const looking = { open: openSnapshot, lastingMac: root.auditMac };
  const { takenAt } = await lookForBackup(looking, { publicKey, entries });
  const id = randomUUID();
  const named = { id, createdAt: takenAt, place: nameOf(id, takenAt) };
  return { ...named, requestedBy, entries, ...NOTHING_YET };
}

const NOTHING_YET = {
  state: 'running',
  ...{ endedAt: null, bytes: null, rows: null, keys: null, logSize: null, problem: null },
} as const;

/** Takes one and keeps a row of it. @throws as `takeBackup` */
export async function takeOne(parts: TakingParts, wanted: TakingWanted): Promise<Taken> {
  const { config, store, root, engine } = parts;
  const place = backupPlace(config);
  const { id = randomUUID(), requestedBy, entries = config.backup.entries } = wanted;
  const row = { begun: false };
  let facts: Snapshot['facts'] | undefined;
  const begin = async ({ facts: { takenAt } }: Pick<Snapshot, 'facts'>): Promise<void> => {
    const first = { id, requestedBy, createdAt: takenAt, entries, place: nameOf(id, takenAt) };
    // Of the others, whose processes are gone, some may be whole.
    await settleBackups(parts);
    await store.backups.giveUpOthers(id);
    // The same request, which another instance has answered since it was looked for.
    const by = wanted.request && requestedBy;
    if (by && (await store.backups.requested(by, wanted.request.key)) !== null) {
      throw new AnotherBackup();
    }
    await store.backups.begin(first, wanted.request ?? null);
    row.begun = true;
    wanted.onBegun?.({ ...first, ...NOTHING_YET });
  };
  const taking = {
    engine,
    signer: signerOf(parts, () => facts),
    lastingMac: root.auditMac,
    open: parts.openSnapshot,
    installation: root.installation,
    probes: () => makeProbes({ ...parts, store: store.keys }, PROBED_KEYS),
    version: VERSION,
  };
  const taken = await takeBackup(taking, {
    ...{ id, entries, ...place },
    ...(wanted.signal === undefined ? {} : { signal: wanted.signal }),
    onSnapshot: (snapshot) => {
      ({ facts } = snapshot);
      return begin(snapshot);
    },
  }).catch(async (error: unknown) => {
    const problem = TwofoldError.from(error).code;
    // A row that cannot be ended now is given up by the next backup.
    if (row.begun) {
      const unanswered = wanted.unanswered?.aborted ?? false;
      await store.backups.end(id, { state: 'failed', problem, unanswered }).catch(() => undefined);
    }
    throw error;
  });
  // It has its name: from here on it is one, whatever becomes of its row.
  const sums = sumsOf(taken.manifest);
  await store.backups.end(id, { state: 'complete', ...sums }).catch(wanted.onUnsettled);
  return taken;
}
