/** Where `twofold doctor secrets` looks: the database's rows, the logs, and the host's processes. */
import { closeSync, openSync, readSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';

import type { Finding, SecretSearch } from '../cli/secret-search.ts';
import type { Config } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import { dumpDatabase } from '../store/dump.ts';
import { createPool } from '../store/pool.ts';

/** The service's own logs that are there, and the named ones, which must be. */
export function logFiles(config: Config, named: readonly string[]): string[] {
  const own = [join(config.dataDir, 'twofold.log'), join(config.dataDir, 'db', 'server.log')];
  const missing = named.find((file) => !exists(file));
  if (missing !== undefined) throw new TwofoldError('invalid_value', `${missing} does not exist.`);
  return [...own.filter(exists), ...named];
}

const exists = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined;

/** Every row of every table, as `url`'s role sees them: the owner's, or tables are left out. */
export async function searchDatabase(
  search: SecretSearch,
  config: Config,
  url: string,
): Promise<Finding[]> {
  const { tls, caFile } = config.database;
  const pool = createPool({ url, tls, caFile, max: 1, statementDeadlineMs: 60_000 });
  try {
    const findings: Finding[] = [];
    for await (const { table, text } of dumpDatabase(pool)) {
      // Rows in text form double the quotes of JSON, by which a private JWK is known.
      const plain = Buffer.from(text.replaceAll('""', '"'));
      findings.push(...search.search(`table ${table}`, plain));
      findings.push(...search.search(`bytes in table ${table}`, storedBytes(text)));
    }
    return findings;
  } finally {
    await pool.end();
  }
}

/** The `bytea` values of rows in text form: a secret as text within them is hidden by their hex. */
function storedBytes(text: string): Buffer {
  const values = [...text.matchAll(/\\x((?:[0-9a-f]{2})+)/g)];
  return Buffer.concat(
    values.flatMap(([, hex = '']) => [Buffer.from(hex, 'hex'), Buffer.from('\n')]),
  );
}

export interface ProcessPlace {
  readonly where: string;
  readonly bytes: Uint8Array;
  /** A process of a service here; in others' places only known secrets are looked for. */
  readonly ours: boolean;
}

/** Arguments and environments of all processes that we may read. */
export function* processPlaces(config: Config): Generator<ProcessPlace> {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const command = readProc(pid, 'cmdline');
    const environment = readProc(pid, 'environ');
    const ours = pid !== String(process.pid) && isOurs(config, pid, command);
    if (command !== null) yield { where: `arguments of process ${pid}`, bytes: command, ours };
    if (environment !== null) {
      yield { where: `environment of process ${pid}`, bytes: environment, ours };
    }
  }
}

function isOurs({ dataDir }: Config, pid: string, command: Buffer | null): boolean {
  if (command?.includes('src/main.ts') === true || command?.includes(dataDir) === true) return true;
  try {
    return readlinkSync(`/proc/${pid}/cwd`).startsWith(`${dataDir}/`);
  } catch {
    return false;
  }
}

/** Null for what has ended meanwhile or is another user's, or for a kernel thread. */
function readProc(pid: string, file: 'cmdline' | 'environ'): Buffer | null {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(`/proc/${pid}/${file}`, 'r');
    return readAll(descriptor);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'EACCES' || code === 'ESRCH' || code === 'EPERM') return null;
    throw error;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** Files of /proc have no size to ask for. */
function readAll(descriptor: number): Buffer {
  const pieces: Buffer[] = [];
  for (;;) {
    const piece = Buffer.alloc(65_536);
    const length = readSync(descriptor, piece);
    if (length === 0) return Buffer.concat(pieces);
    pieces.push(piece.subarray(0, length));
  }
}
