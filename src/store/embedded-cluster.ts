/**
 * Making the embedded database's folder, so that it is either complete or not there.
 *
 * Everything happens in `db.new-<uuid>`, which is renamed to `db` at the end: a kill at any point
 * leaves a folder that the next start removes. (A marker inside would not do: an interrupted initdb
 * leaves PG_VERSION and even pg_control behind.)
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { TwofoldError } from '../errors.ts';
import { stopOrphans } from './embedded-process.ts';
import type { ProgramRunner } from './embedded-process.ts';

/** Passwords of the two login roles; the superuser's is random and forgotten. */
export interface Credentials {
  /** `twofold_owner`: owns database and tables, runs migrations. */
  readonly owner: string;
  /** `twofold_app`: the server; gets what the migrations grant. */
  readonly app: string;
}

/** The credentials of a database that is there; null when none has been made. */
export const storedCredentials = (dataDir: string): Credentials | null => {
  const folder = join(dataDir, 'db');
  return existsSync(folder) ? readCredentials(folder) : null;
};

/** They were durable before the folder was put in place. */
const readCredentials = (folder: string): Credentials => {
  const file = credentialsFile(folder);
  try {
    const { owner, app } = JSON.parse(readFileSync(file, 'utf8')) as Partial<Credentials>;
    if (typeof owner === 'string' && typeof app === 'string') return { owner, app };
    throw new TypeError('no passwords');
  } catch (cause) {
    const detail =
      `${file} is missing or damaged; it holds the passwords of the database beside it. ` +
      'Restore it from the backup of that folder.';
    throw new TwofoldError('invalid_value', detail, { cause });
  }
};

/** PostgreSQL's own folder within `db`. */
export const clusterFolder = (dataDir: string): string => join(dataDir, 'db', 'cluster');

const credentialsFile = (folder: string): string => join(folder, 'credentials.json');

const DISK_FULL = /No space left on device|could not extend file|disk quota exceeded/iu;

/** What a failed program of PostgreSQL means; `output` is its own last words. */
export const programFailure = (what: string, output: string): TwofoldError => {
  const tail = output.trim().split('\n').slice(-5).join('\n');
  return DISK_FULL.test(output)
    ? new TwofoldError('storage_full', `${what}: the disk is full.\n${tail}`)
    : new TwofoldError('database_unavailable', `${what}.\n${tail}`);
};

const run = async (
  runner: ProgramRunner,
  program: 'initdb' | 'postgres',
  args: readonly string[],
  input: string,
  cwd: string,
): Promise<void> => {
  const child = runner.spawn(program, args, ['pipe', 'pipe', 'pipe'], cwd);
  let output = '';
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString('utf8')).slice(-8192);
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  // A single-user server reports a failed statement and goes on, so its words are read, too.
  if (code !== 0 || /^.*(?:ERROR|FATAL|PANIC):/mu.test(output)) {
    throw programFailure(`The embedded database could not be made (${program})`, output);
  }
};

const roleStatements = ({ owner, app }: Credentials): string =>
  [
    `create role twofold_owner login password '${owner}'`,
    `create role twofold_app login password '${app}'`,
    'create database twofold owner twofold_owner',
    'revoke all on database twofold from public',
    'grant connect on database twofold to twofold_app',
    '',
  ].join(';\n');

const syncFolder = (path: string): void => {
  const descriptor = openSync(path, 'r');
  fsyncSync(descriptor);
  closeSync(descriptor);
};

const removeLeftovers = async (dataDir: string): Promise<void> => {
  for (const name of readdirSync(dataDir)) {
    if (!/^db\.new-[0-9a-f-]{36}$/u.test(name)) continue;
    await stopOrphans(join(dataDir, name));
    rmSync(join(dataDir, name), { recursive: true, force: true });
  }
};

const make = async (runner: ProgramRunner, folder: string): Promise<void> => {
  const cluster = join(folder, 'cluster');
  const passwordFile = join(folder, 'initdb.password');
  const credentials = {
    owner: randomBytes(24).toString('hex'),
    app: randomBytes(24).toString('hex'),
  };
  mkdirSync(folder, { mode: 0o700 });
  writeFileSync(passwordFile, `${randomBytes(24).toString('hex')}\n`, { mode: 0o600 });
  writeFileSync(credentialsFile(folder), JSON.stringify(credentials), { mode: 0o600, flush: true });
  runner.own(folder);
  runner.own(passwordFile);
  const auth = ['--auth=scram-sha-256', `--pwfile=${passwordFile}`, '--username=postgres'];
  const form = ['--encoding=UTF8', '--locale=C', '--no-instructions'];
  await run(runner, 'initdb', ['-D', cluster, ...auth, ...form], '', folder);
  rmSync(passwordFile);
  const quiet = ['-c', 'log_checkpoints=off', '-c', 'log_min_error_statement=panic'];
  const single = ['--single', '-j', '-D', cluster, ...quiet, 'postgres'];
  await run(
    runner,
    'postgres',
    single,
    roleStatements(credentials).replaceAll(';\n', ';\n\n'),
    folder,
  );
  syncFolder(folder);
};

/**
 * The credentials of the database in `dataDir`, which is made when it is not there. The caller holds
 * the data folder's lock.
 *
 * @throws TwofoldError `storage_full` or `database_unavailable` with the program's last words.
 */
export const ensureCluster = async (
  runner: ProgramRunner,
  dataDir: string,
): Promise<Credentials> => {
  await removeLeftovers(dataDir);
  const target = join(dataDir, 'db');
  if (!existsSync(target)) {
    const folder = join(dataDir, `db.new-${randomUUID()}`);
    try {
      await make(runner, folder);
      renameSync(folder, target);
      syncFolder(dataDir);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      throw programFailure('The embedded database could not be made', 'No space left on device');
    }
  }
  return readCredentials(target);
};
