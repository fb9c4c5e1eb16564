/** A backup into an empty installation: rows, and then proof that they open, before any service may start. */
import type { Engine } from '../crypto/engine.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { readLines } from './chunk-reader.ts';
import { END, PROBE, ROW, TABLE } from './lines.ts';
import type { TableLine } from './lines.ts';
import { bytesOf } from './manifest.ts';
import type { Manifest } from './manifest.ts';
import type { EntriesKept, KeptTable, Restoration } from './ports.ts';
import { keysBySeed } from './verify.ts';
import type { OpenBackup } from './verify.ts';

/** The database, as its owner; `store/backup-load.ts`. */
export interface RestoreDatabase {
  restoration(): Promise<Restoration | null>;
  load(
    restoration: Omit<Restoration, 'state' | 'restoredAt'> & {
      readonly migrations: readonly string[];
      readonly lastLane: number;
      readonly entries: EntriesKept;
    },
    write: (target: {
      table(table: KeptTable): Promise<void>;
      row(json: string): Promise<void>;
    }) => Promise<void>,
  ): Promise<void>;
  verified(): Promise<void>;
}

/** Rows a statement of progress. */
const PROGRESS = 10_000;

export interface Loaded {
  readonly rows: number;
  /** Lines of JSON, which `probes.ts` opens. */
  readonly probes: readonly string[];
}

/**
 * Writes the rows, unless an earlier run has; either way gives the probes of the backup.
 * @throws TwofoldError conflict for a database that holds anything else; integrity_failed, key_mismatch
 */
export async function loadBackup(
  engine: Engine,
  backup: OpenBackup,
  seed: SecretBytes,
  database: RestoreDatabase,
  onProgress: (rows: number) => void = () => undefined,
): Promise<Loaded> {
  const { manifest } = backup;
  const before = await database.restoration();
  if (before !== null && before.backup !== manifest.id) {
    throw new TwofoldError('conflict', `The database was restored before, of ${before.backup}.`);
  }
  if (before !== null) {
    return { rows: 0, probes: await readAll(engine, backup, seed, null, onProgress) };
  }
  let probes: readonly string[] = [];
  const { migrations, lastLane, entries } = manifest;
  const restoration = { ...restorationOf(manifest), migrations, lastLane, entries };
  await database.load(restoration, async (target) => {
    probes = await readAll(engine, backup, seed, target, onProgress);
  });
  return { rows: manifest.tables.reduce((sum, { rows }) => sum + rows, 0), probes };
}

const restorationOf = ({ id, takenAt, log }: Manifest) => ({
  backup: id,
  takenAt: new Date(takenAt),
  logSize: log.size,
  logRoot: bytesOf(log.root),
});

type Target = Parameters<Parameters<RestoreDatabase['load']>[1]>[0];

/** Whatever it wrote is committed only where it returns: by then the whole content was seen to be whole. */
async function readAll(
  engine: Engine,
  backup: OpenBackup,
  seed: SecretBytes,
  target: Target | null,
  onProgress: (rows: number) => void,
): Promise<readonly string[]> {
  const keys = await keysBySeed(engine, backup, seed);
  const probes: string[] = [];
  let [rows, ended] = [0, false];
  try {
    for await (const lines of readLines(backup.content, keys)) {
      for (const line of lines) {
        const rest = line.slice(1);
        if (line.startsWith(TABLE)) await target?.table(JSON.parse(rest) as TableLine);
        else if (line.startsWith(ROW)) {
          await target?.row(rest);
          rows += 1;
          if (rows % PROGRESS === 0) onProgress(rows);
        } else if (line.startsWith(PROBE)) probes.push(rest);
        else ended = line.startsWith(END);
      }
    }
  } finally {
    keys.wipe();
  }
  const expected = backup.manifest.tables.reduce((sum, table) => sum + table.rows, 0);
  if (!ended || rows !== expected || probes.length !== backup.manifest.probes) {
    throw new TwofoldError('integrity_failed', 'The content is not what the manifest says.');
  }
  return probes;
}
