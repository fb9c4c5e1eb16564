/** Settings of backups. */
import { z } from 'zod';

import { lengthOf, parseDuration } from '../keyring/durations.ts';

const duration = (least: number, what: string) =>
  z.string().refine((text) => {
    const length = parseDuration(text);
    return length !== null && lengthOf(length) >= least;
  }, `must be an ISO 8601 duration of ${what} at least`);

const MINUTE_MS = 60_000;

export const backupSchema = z
  .strictObject({
    folder: z.string().min(1).optional().meta({
      description:
        'Folder in which each backup gets a folder of its own; best a disk of its own. Without it there are none.',
    }),
    recoveryKeyFile: z.string().min(1).optional().meta({
      description:
        'Public key of `twofold recovery create`, to which backups are encrypted. Needed with `backup.folder`.',
    }),
    every: duration(MINUTE_MS, 'a minute').optional().meta({
      description:
        'Time between two backups that the service takes by itself: an ISO 8601 duration, a minute at least. Default: none by itself.',
    }),
    maxAge: duration(MINUTE_MS, 'a minute').default('P2D').meta({
      description:
        'Age of the newest backup from which the service says that it is too old: `/readyz` shows it (and stays ready), and the log has an entry. With `backup.folder`.',
    }),
    entries: z.enum(['tail', 'all']).default('tail').meta({
      description:
        'Audit entries in a backup: `all`, or `tail`, those behind the last full tile of the log, from which it goes on, and those that it has not taken yet; the others are in exports (`twofold audit export`).',
    }),
  })
  .prefault({});
