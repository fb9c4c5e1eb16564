/**
 * `twofold doctor secrets`: unseals every software half, reads PINs and tokens, and looks for each in
 * the database, the logs, and the arguments and environments of processes.
 *
 * Works beside a running service or without one. What it prints names secrets and places, never values.
 */
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import { SHORTEST_SECRET, SecretSearch, searchPlace } from '../cli/secret-search.ts';
import type { Finding, KnownSecret } from '../cli/secret-search.ts';
import type { Config } from '../config.ts';
import { wipe } from '../crypto/secret.ts';
import { lockDataFolder } from '../data-folder.ts';
import { TwofoldError } from '../errors.ts';
import { allSoftwareSecrets } from '../keyring/inventory.ts';
import { openRoot } from '../keyring/root-opening.ts';
import { UsageCounters } from '../keyring/usage.ts';
import { findEmbedded, hasEmbedded, startEmbedded } from '../store/embedded.ts';
import { openStore } from '../store/store.ts';
import { openDevice, tokenPlace } from './device.ts';
import { logFiles, processPlaces, searchDatabase } from './doctor-places.ts';
import { SILENT } from './silent-log.ts';
import { Unwinding } from './unwinding.ts';

const FLAGS = { log: 'list', json: 'switch' } as const;

interface Urls {
  readonly app: string;
  readonly owner: string;
}

/** The database of the configuration; the embedded one is joined when it runs, else started. */
export async function databaseUrls(config: Config, unwinding: Unwinding): Promise<Urls> {
  const { url, ownerUrl } = config.database;
  if (url !== undefined) return { app: url, owner: ownerUrl ?? url };
  if (!hasEmbedded(config.dataDir)) {
    throw new TwofoldError('invalid_value', `No service was ever started in ${config.dataDir}.`);
  }
  const running = findEmbedded(config.dataDir);
  if (running !== null) return { app: running.appUrl, owner: running.ownerUrl };
  const folder = await lockDataFolder(config.dataDir);
  unwinding.add('data folder', () => folder.release());
  const started = await startEmbedded({ dataDir: config.dataDir });
  unwinding.add('embedded database', () => started.stop());
  return { app: started.appUrl, owner: started.ownerUrl };
}

/** Adds what it unseals one by one, so that the caller wipes it whatever happens. */
async function addSoftwareSecrets(
  secrets: KnownSecret[],
  config: Config,
  urls: Urls,
  unwinding: Unwinding,
): Promise<void> {
  const { tls, caFile } = config.database;
  const store = openStore({ url: urls.app, tls, caFile, max: 2 });
  unwinding.add('database pool', () => store.close());
  const { hsm } = await openDevice(config, SILENT, unwinding, false);
  const root = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
  for await (const { name, secret } of allSoftwareSecrets(store.keys, root)) {
    secrets.push({ name, bytes: secret.reveal() });
  }
}

/** Files of the data folder that hold secrets on purpose, each as text and as the token within. */
function fileSecrets(config: Config, pinFile: string): KnownSecret[] {
  const dir = config.dataDir;
  const { passwordFile, ownerPasswordFile } = config.database;
  const files = [
    pinFile,
    ...[passwordFile, ownerPasswordFile].filter((file) => file !== undefined),
    join(dir, 'hsm', 'ceremony', 'so.pin'),
    join(dir, 'admin.token'),
    join(dir, 'development-issuer.seed'),
    join(dir, 'db', 'credentials.json'),
  ];
  return files.flatMap((file) => {
    if (statSync(file, { throwIfNoEntry: false }) === undefined) return [];
    const bytes = readFileSync(file);
    if (file.endsWith('.seed')) return [{ name: file, bytes }];
    try {
      const text = bytes.toString('latin1').trim();
      if (!file.endsWith('.json')) return [{ name: file, bytes: Buffer.from(text) }];
      const values = Object.entries(JSON.parse(bytes.toString('utf8')) as Record<string, string>);
      return values.map(([name, value]) => ({
        name: `${file}#${name}`,
        bytes: Buffer.from(value),
      }));
    } finally {
      wipe(bytes);
    }
  });
}

export interface DoctorReport {
  /** How many were looked for. */
  readonly secrets: number;
  /** Those that were not, because they are so short that they would be found by chance. */
  readonly tooShort: readonly string[];
  readonly places: readonly string[];
  readonly findings: readonly Finding[];
}

/** Everything that must stay secret, and where it was found outside its place. */
export async function findSecrets(config: Config, logs: readonly string[]): Promise<DoctorReport> {
  const unwinding = new Unwinding((step, error) => {
    process.emitWarning(`${step} could not be closed: ${String(error)}`);
  });
  const secrets: KnownSecret[] = [];
  let search: SecretSearch | undefined;
  try {
    const urls = await databaseUrls(config, unwinding);
    const { pinFile } = await tokenPlace(config, SILENT, false);
    await addSoftwareSecrets(secrets, config, urls, unwinding);
    secrets.push(...fileSecrets(config, pinFile));
    const tooShort = secrets.filter(({ bytes }) => bytes.length < SHORTEST_SECRET);
    search = new SecretSearch(secrets.filter((secret) => !tooShort.includes(secret)));
    return {
      secrets: secrets.length - tooShort.length,
      tooShort: tooShort.map(({ name }) => name),
      ...(await searchPlaces(search, config, urls, logs)),
    };
  } finally {
    search?.wipe();
    wipe(...secrets.map(({ bytes }) => bytes));
    await unwinding.unwind();
  }
}

async function searchPlaces(
  search: SecretSearch,
  config: Config,
  urls: Urls,
  logs: readonly string[],
): Promise<Pick<DoctorReport, 'places' | 'findings'>> {
  const findings = await searchDatabase(search, config, urls.owner);
  const places = ['database'];
  for (const file of logFiles(config, logs)) {
    findings.push(...(await searchPlace(search, file, createReadStream(file))));
    places.push(file);
  }
  for (const { where, bytes, ours } of processPlaces(config)) {
    findings.push(...(ours ? search.search(where, bytes) : search.searchKnown(where, bytes)));
    places.push(where);
  }
  return { places, findings };
}

/** 0 when nothing was found, 1 when something was, 3 when that is not known of all secrets. */
export function exitCodeOf({ findings, tooShort }: DoctorReport): number {
  if (findings.length > 0) return 1;
  return tooShort.length > 0 ? 3 : 0;
}

/** The exit code of `exitCodeOf`; what it throws is one of its own, as nothing is known then. */
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
    for (const name of report.tooShort) {
      print(`NOT LOOKED FOR ${name}: shorter than ${String(SHORTEST_SECRET)} bytes`);
    }
    print(
      `${String(report.secrets)} secrets looked for in ${String(report.places.length)} places: ` +
        `${String(report.findings.length)} found`,
    );
  }
  return exitCodeOf(report);
}
