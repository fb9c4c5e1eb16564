/**
 * Backups that are whole in their folder while their rows say otherwise: the process was killed, or the
 * database away, between the rename that made it one and the end of its row.
 */
import { join } from 'node:path';

import type { BackupRow } from '../backup/ports.ts';
import { macOf } from '../backup/manifest.ts';
import type { Manifest } from '../backup/manifest.ts';
import { openBackup } from '../backup/verify.ts';
import type { Config } from '../config.ts';
import type { Engine } from '../crypto/engine.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import type { Root } from '../keyring/root.ts';
import type { Store } from '../store/store.ts';

export interface SettlingParts {
  readonly config: Pick<Config, 'backup'>;
  readonly store: { readonly backups: Pick<Store['backups'], 'unsettled' | 'end'> };
  readonly root: Pick<Root, 'auditMac' | 'installation'>;
  readonly engine: Pick<Engine, 'signatures'>;
}

/**
 * Ends their rows as those of backups that were taken. The manifest is what was written last before the
 * rename, after everything had been read back; it counts where `root-mac` vouches for it.
 * @returns those that it ended
 */
export async function settleBackups(parts: SettlingParts): Promise<readonly BackupRow[]> {
  const { folder } = parts.config.backup;
  if (folder === undefined) return [];
  const settled: BackupRow[] = [];
  for (const row of await parts.store.backups.unsettled()) {
    const manifest = await wholeOf(parts, folder, row);
    if (manifest === null) continue;
    await parts.store.backups.end(row.id, { state: 'complete', ...sumsOf(manifest) });
    settled.push(row);
  }
  return settled;
}

/** As `openBackup` says it of a folder that is missing, damaged or not readable. */
const NO_BACKUP = ['not_found', 'integrity_failed', 'invalid_value'] as const;

/** Null where it is not there, or is not ours as it stands. */
async function wholeOf(
  { root, engine }: SettlingParts,
  folder: string,
  { id, place }: BackupRow,
): Promise<Manifest | null> {
  try {
    const backup = await openBackup(engine, join(folder, place), null);
    await backup.close();
    const { manifest, manifestBytes, vouched } = backup;
    const mac = await macOf((data) => root.auditMac(data, vouched.mac), manifestBytes);
    const isOurs = manifest.id === id && manifest.installation === root.installation;
    return isOurs && equalBytes(mac, vouched.mac) ? manifest : null;
  } catch (error) {
    const isNone = NO_BACKUP.some((code) => TwofoldError.is(error, code));
    if (isNone) return null;
    throw error;
  }
}

/** What a row says of a backup. */
export function sumsOf({ tables, content, log }: Pick<Manifest, 'tables' | 'content' | 'log'>) {
  const rows = tables.reduce((sum, table) => sum + table.rows, 0);
  const keys = tables.find(({ name }) => name === 'key')?.rows ?? 0;
  return { bytes: content.length, rows, keys, logSize: log.size };
}
