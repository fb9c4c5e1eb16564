/**
 * `twofold doctor secrets`: unseals every software half, reads PINs and tokens, and looks for each in
 * the database, the logs, and the arguments and environments of the processes of this service.
 *
 * Works beside a running service or without one. What it prints names secrets and places, never values.
 */
import {
  closeSync,
  createReadStream,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import { SecretSearch, searchPlace } from '../cli/secret-search.ts';
import type { Finding, KnownSecret } from '../cli/secret-search.ts';
import type { Config } from '../config.ts';
import { wipe } from '../crypto/secret.ts';
import { lockDataFolder } from '../data-folder.ts';
import { TwofoldError } from '../errors.ts';
import { allSoftwareSecrets } from '../keyring/inventory.ts';
import { openRoot } from '../keyring/root.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { dumpDatabase } from '../store/dump.ts';
import { findEmbedded, startEmbedded } from '../store/embedded.ts';
import { createPool } from '../store/pool.ts';
import { openStore } from '../store/store.ts';
import { openDevice, tokenPlace } from './device.ts';
import { SILENT } from './silent-log.ts';
import { Unwinding } from './unwinding.ts';

const FLAGS = { log: 'list', json: 'switch' } as const;

interface Urls {
  readonly app: string;
  readonly owner: string;
}

/** The database of the configuration; the embedded one is joined when it runs, else started. */
async function databaseUrls(config: Config, unwinding: Unwinding): Promise<Urls> {
  const { url, ownerUrl } = config.database;
  if (url !== undefined) return { app: url, owner: ownerUrl ?? url };
  const running = findEmbedded(config.dataDir);
  if (running !== null) return { app: running.appUrl, owner: running.ownerUrl };
  const folder = await lockDataFolder(config.dataDir);
  unwinding.add('data folder', () => folder.release());
  const started = await startEmbedded({ dataDir: config.dataDir });
  unwinding.add('embedded database', () => started.stop());
  return { app: started.appUrl, owner: started.ownerUrl };
}

async function softwareSecrets(
  config: Config,
  urls: Urls,
  unwinding: Unwinding,
): Promise<KnownSecret[]> {
  const { tls, caFile } = config.database;
  const store = openStore({ url: urls.app, tls, caFile, max: 2 });
  unwinding.add('database pool', () => store.close());
  const { hsm } = await openDevice(config, SILENT, unwinding);
  const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  const secrets: KnownSecret[] = [];
  for await (const { name, secret } of allSoftwareSecrets(store.keys, root)) {
    secrets.push({ name, bytes: secret.reveal() });
  }
  return secrets;
}

/** Files of the data folder that hold secrets on purpose, each as text and as the token within. */
function fileSecrets(config: Config, pinFile: string): KnownSecret[] {
  const dir = config.dataDir;
  const files = [
    pinFile,
    join(dir, 'hsm', 'ceremony', 'so.pin'),
    join(dir, 'admin.token'),
    join(dir, 'development-issuer.seed'),
    join(dir, 'db', 'credentials.json'),
  ];
  return files.flatMap((file) => {
    if (statSync(file, { throwIfNoEntry: false }) === undefined) return [];
    const bytes = readFileSync(file);
    if (file.endsWith('.json')) {
      const values = Object.entries(JSON.parse(bytes.toString('utf8')) as Record<string, string>);
      return values.map(([name, value]) => ({
        name: `${file}#${name}`,
        bytes: Buffer.from(value),
      }));
    }
    const trimmed = file.endsWith('.seed') ? bytes : Buffer.from(bytes.toString('latin1').trim());
    return trimmed.length < 6 ? [] : [{ name: file, bytes: trimmed }];
  });
}

/** Arguments and environments of the processes that carry this data folder or are its server. */
function* processPlaces(config: Config): Generator<readonly [string, Uint8Array]> {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const command = readProc(pid, 'cmdline');
    if (command === null) continue;
    const ours =
      command.includes('src/main.ts') ||
      command.includes(config.dataDir) ||
      pid === String(process.pid);
    if (!ours) continue;
    yield [`arguments of process ${pid}`, command];
    const environment = readProc(pid, 'environ');
    if (environment !== null) yield [`environment of process ${pid}`, environment];
  }
}

function readProc(pid: string, file: 'cmdline' | 'environ'): Buffer | null {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(`/proc/${pid}/${file}`, 'r');
    const buffer = Buffer.alloc(262_144);
    return buffer.subarray(0, readSync(descriptor, buffer));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Ended meanwhile, or another user's: neither is a place of ours.
    if (code === 'ENOENT' || code === 'EACCES' || code === 'ESRCH' || code === 'EPERM') return null;
    throw error;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function logFiles(config: Config, named: readonly string[]): string[] {
  const own = [join(config.dataDir, 'twofold.log'), join(config.dataDir, 'db', 'server.log')];
  const missing = named.find((file) => statSync(file, { throwIfNoEntry: false }) === undefined);
  if (missing !== undefined) throw new TwofoldError('invalid_value', `${missing} does not exist.`);
  return [
    ...own.filter((file) => statSync(file, { throwIfNoEntry: false }) !== undefined),
    ...named,
  ];
}

async function searchDatabase(
  search: SecretSearch,
  config: Config,
  url: string,
): Promise<Finding[]> {
  const { tls, caFile } = config.database;
  const pool = createPool({ url, tls, caFile, max: 1, statementDeadlineMs: 60_000 });
  try {
    const findings: Finding[] = [];
    for await (const { table, text } of dumpDatabase(pool)) {
      findings.push(...search.search(`table ${table}`, Buffer.from(text)));
    }
    return findings;
  } finally {
    await pool.end();
  }
}

export interface DoctorReport {
  readonly secrets: number;
  readonly places: readonly string[];
  readonly findings: readonly Finding[];
}

/** Everything that must stay secret, and where it was found outside its place. */
export async function findSecrets(config: Config, logs: readonly string[]): Promise<DoctorReport> {
  const unwinding = new Unwinding((step, error) => {
    process.emitWarning(`${step} could not be closed: ${String(error)}`);
  });
  const secrets: KnownSecret[] = [];
  try {
    const urls = await databaseUrls(config, unwinding);
    const { pinFile } = await tokenPlace(config, SILENT);
    secrets.push(...(await softwareSecrets(config, urls, unwinding)));
    secrets.push(...fileSecrets(config, pinFile));
    const search = new SecretSearch(secrets);
    const findings = await searchDatabase(search, config, urls.owner);
    const places = ['database'];
    for (const file of logFiles(config, logs)) {
      findings.push(...(await searchPlace(search, file, createReadStream(file))));
      places.push(file);
    }
    for (const [where, bytes] of processPlaces(config)) {
      findings.push(...search.search(where, bytes));
      places.push(where);
    }
    return { secrets: secrets.length, places, findings };
  } finally {
    wipe(...secrets.map(({ bytes }) => bytes));
    await unwinding.unwind();
  }
}

/** Exit code 0 when nothing was found, 1 when something was. */
export async function doctorCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const [topic, ...others] = argv;
  if (topic !== 'secrets') {
    throw new TwofoldError('invalid_value', 'The command is: twofold doctor secrets');
  }
  const parsed = parseFlags(others, FLAGS);
  requireNothingMore(parsed);
  const report = await findSecrets(config, parsed.values.get('log') ?? []);
  if (parsed.values.has('json')) print(JSON.stringify(report));
  else {
    for (const { what, form, where, offset } of report.findings) {
      print(`FOUND ${what} (${form}) in ${where} at ${String(offset)}`);
    }
    print(
      `${String(report.secrets)} secrets looked for in ${String(report.places.length)} places: ` +
        `${String(report.findings.length)} found`,
    );
  }
  return report.findings.length === 0 ? 0 : 1;
}
