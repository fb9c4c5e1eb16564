/** What a start does in a database that came out of a backup. */
import type { RunningAuditLog } from '../audit/log.ts';
import { TwofoldError } from '../errors.ts';
import type { Store } from '../store/store.ts';

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
 * seen to be missing. A kill in between leaves it there twice.
 */
export async function announceRestoration(
  store: Pick<Store, 'backups'>,
  audit: Pick<RunningAuditLog, 'recordOwn'>,
): Promise<void> {
  const restoration = await store.backups.restoration();
  if (restoration?.state !== 'verified') return;
  const { backup, takenAt, restoredAt, logSize, logRoot } = restoration;
  await audit.recordOwn('audit.restored', {
    ...{ backup, takenAt: takenAt.toISOString(), restoredAt: restoredAt.toISOString() },
    ...{ atSize: logSize, atRoot: Buffer.from(logRoot).toString('base64') },
  });
  await store.backups.announced();
}
