/**
 * `twofold doctor secrets`: unseals every software half, reads PINs and tokens, and looks for each in
 * the database, the logs, and the arguments and environments of processes.
 *
 * Works beside a running service or without one. What it prints names secrets and places, never values.
 */
import { createReadStream, readFileSync, statSync } from 'node:fs';
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
async function databaseUrls(config: Config, unwinding: Unwinding): Promise<Urls> {
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
    for (const { where, bytes, ours } of processPlaces(config)) {
      findings.push(...(ours ? search.search(where, bytes) : search.searchKnown(where, bytes)));
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
