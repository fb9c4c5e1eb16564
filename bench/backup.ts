/** A backup of many keys, written and read back: how long it takes, and the memory of its process. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import pg from 'pg';

import { openStore } from '../src/store/store.ts';
import { SoftwareHsm, SoftwareToken } from '../test/hsm/software-hsm.ts';
import { openStoredInstance } from '../test/keyring/stored-instance.ts';
import { startTestDatabase } from '../test/store/database.ts';
import { loadKeys } from '../test/store/many-rows.ts';

const SUITES = ['MLKEM768-P256', 'MLKEM1024-P384', 'A256GCM'] as const;
const RUN = join(import.meta.dirname, 'backup-run.ts');
/** As `scripts/launch` starts every command. */
const FLAGS = ['--max-semi-space-size=8'];
const BOUNDS = { seconds: 60, megabytes: 200 } as const;

export interface BackupReport {
  readonly keys: number;
  readonly seconds: number;
  readonly rows: number;
  readonly bytes: number;
  /** Most memory (RSS) that the process ever had, and had before the backup: MB. */
  readonly megabytes: number;
  readonly baseline: number;
}

/** Keys of three suites, copied by SQL alone from three that the keyring made. */
export async function measureBackup(keys: number): Promise<BackupReport> {
  const database = await startTestDatabase();
  const folder = mkdtempSync(join(tmpdir(), 'twofold-bench-backup-'));
  try {
    await fill(database.ownerUrl, database.appUrl, keys);
    const { stdout } = await promisify(execFile)(process.execPath, [
      ...FLAGS,
      RUN,
      database.appUrl,
      folder,
    ]);
    return { keys, ...(JSON.parse(stdout) as Omit<BackupReport, 'keys'>) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await database.stop();
  }
}

async function fill(ownerUrl: string, appUrl: string, keys: number): Promise<void> {
  const store = openStore({ url: appUrl });
  const root = { generation: 1, installation: '01234567-89ab-4def-8123-456789abcdef' };
  const token = new SoftwareToken();
  token.makeRoot(root);
  const hsm = new SoftwareHsm(token);
  await hsm.useRoot(root);
  const service = await openStoredInstance(store, { hsm });
  const made: string[] = [];
  for (const suite of SUITES) made.push(await service.create({ suite }));
  await service.stop();
  await store.close();
  const owner = new pg.Client({ connectionString: ownerUrl });
  await owner.connect();
  try {
    const [first = '', second = '', third = ''] = made;
    await loadKeys(owner, { namespace: 'default', keys, templates: [first, second, third] });
    // What it was made with is no root of a token, and nothing of it is escrowed.
    await owner.query('delete from public.root_generation');
  } finally {
    await owner.end();
  }
}

export function renderBackup(report: BackupReport): string {
  const { keys, seconds, rows, bytes, megabytes, baseline } = report;
  const over = (is: boolean) => (is ? '' : '  missed');
  return [
    `backup of ${String(keys)} keys: ${String(rows)} rows, ${String(Math.round(bytes / 1e6))} MB written`,
    `  seconds               ${seconds.toFixed(1)}${over(seconds < BOUNDS.seconds)}`,
    `  memory, MB            ${String(megabytes)}${over(megabytes < BOUNDS.megabytes)}, of which ${String(baseline)} before it`,
    '',
  ].join('\n');
}
