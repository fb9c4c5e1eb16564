/** Rows of backups in memory; one that is asked for is complete when it is looked at again. */
import { randomUUID } from 'node:crypto';

import type { BackupRow } from '../../src/backup/ports.ts';
import type { BackupsParts } from '../../src/governance/backups.ts';

const nothing = { endedAt: null, bytes: null, rows: null, keys: null, logSize: null } as const;

export class MemoryBackups implements BackupsParts {
  readonly clock = () => new Date();
  readonly all: BackupRow[] = [];
  readonly requests = new Map<string, { row: BackupRow; hash: Uint8Array }>();
  /** Ids of those whose requests came to nothing. */
  readonly givenUp: string[] = [];

  readonly rows: BackupsParts['rows'] = {
    requested: (by, key) => Promise.resolve(this.requests.get(JSON.stringify([by, key])) ?? null),
    find: (id) => Promise.resolve(this.all.find((row) => row.id === id) ?? null),
    list: (after, limit) => {
      const newest = this.all.toReversed();
      const at = after === null ? 0 : newest.findIndex(({ id }) => id === after.id) + 1;
      return Promise.resolve(newest.slice(at, at + limit));
    },
  };

  readonly begin: BackupsParts['begin'] = ({ requestedBy, entries, dryRun, request }) => {
    const id = randomUUID();
    const createdAt = new Date();
    const named = { id, requestedBy, createdAt, place: `20260101T000000Z-${id.slice(0, 8)}` };
    const given = { ...named, entries: entries ?? 'tail', problem: null } as const;
    const sums = { bytes: 51_234_567, rows: 75_124, keys: 10_000, logSize: 42 };
    const whole = { ...given, state: 'complete', endedAt: createdAt, ...sums } as const;
    if (!dryRun) this.all.push(whole);
    const row = { ...given, state: 'running', ...nothing } as const;
    const asked = JSON.stringify([requestedBy, request?.key]);
    if (request !== null) this.requests.set(asked, { row: whole, hash: request.hash });
    const giveUp = () => {
      this.requests.delete(asked);
      this.givenUp.push(id);
      return Promise.resolve();
    };
    return Promise.resolve({ row, giveUp });
  };
}
