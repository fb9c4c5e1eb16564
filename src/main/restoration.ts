/** What a start does in a database that came out of a backup. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { hasDevelopmentToken } from '../hsm/development-token.ts';
import type { Store } from '../store/store.ts';

/** In the data folder, while a restore that began beside no token may have left nothing else to be seen. */
const MARK = 'restoring';

/**
 * Notes that a restore began, where a start would make a root by itself: in development, until the token holds
 * what is restored. From then on the token says it, and the rows once they are there.
 */
export function markRestore(config: Pick<Config, 'dataDir' | 'hsm'>, backup: string): void {
  const { dataDir, hsm } = config;
  if (hsm.module !== undefined || hasDevelopmentToken(dataDir)) return;
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  writeFileSync(join(dataDir, MARK), `${backup}\n`, { mode: 0o600, flush: true });
}

/** The restore is over. */
export function endRestore({ dataDir }: Pick<Config, 'dataDir'>): void {
  rmSync(join(dataDir, MARK), { force: true });
}

/** @throws TwofoldError conflict where a restore into the data folder began and is not over */
export function requireNoneBegun({ dataDir }: Pick<Config, 'dataDir'>): void {
  const mark = join(dataDir, MARK);
  if (!existsSync(mark)) return;
  throw new TwofoldError(
    'conflict',
    `The restore of the backup ${readFileSync(mark, 'utf8').trim()} into this data folder is not over: run ` +
      `"twofold backup restore" with the same folder again, and start then. Where it is given up, remove ${mark}.`,
  );
}

/** @throws TwofoldError conflict for one whose restore is not over: what is in it, nobody has shown to open */
export async function requireRestored(store: Pick<Store, 'backups'>): Promise<void> {
  const restoration = await store.backups.restoration();
  if (restoration?.state !== 'loaded') return;
  throw new TwofoldError(
    'conflict',
    `The restore of the backup ${restoration.backup} into this database is not over: ` +
      'run "twofold backup restore" with the same folder again, and start then.',
  );
}

/**
 * The first entry of a log that goes on from a backup: where it stood then, so that what came after is
 * seen to be missing, and from where on it has its entries. A kill in between leaves it there twice.
 */
export async function announceRestoration(
  store: Pick<Store, 'backups'> & { readonly log: Pick<Store['log'], 'archived'> },
  audit: Pick<RunningAuditLog, 'recordOwn'>,
): Promise<void> {
  const restoration = await store.backups.restoration();
  if (restoration?.state !== 'verified') return;
  const { backup, takenAt, restoredAt, logSize, logRoot } = restoration;
  const { removed: entriesFrom } = await store.log.archived();
  await audit.recordOwn('audit.restored', {
    ...{ backup, takenAt: takenAt.toISOString(), restoredAt: restoredAt.toISOString() },
    ...{ atSize: logSize, atRoot: Buffer.from(logRoot).toString('base64') },
    entriesFrom,
  });
  await store.backups.announced();
}
