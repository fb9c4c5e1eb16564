/**
 * A SoftHSM token in a folder of our own, for development. A configured module never comes here.
 *
 * The token is made whole in a staging folder (initialised, user PIN set, login tried) and then put
 * in place by one rename; a run that was killed leaves staging behind, which the next one discards.
 * The ceremony process makes the PINs, durable before the token sees them: no token exists whose PINs
 * are lost, and this process never holds the SO PIN.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, readdir, rename, rm } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { NAME } from '../name.ts';
import type { HsmLog } from './attachment.ts';
import { syncFolder, writeDurably } from './durable.ts';
import { runTokenCeremony } from './run-ceremony.ts';

export interface DevelopmentToken {
  readonly module: string;
  /** For SOFTHSM2_CONF. */
  readonly softhsmConf: string;
  readonly pinFile: string;
  /** Read by ceremonies only. */
  readonly soPinFile: string;
  readonly tokenLabel: string;
  /** For marks of refused PINs. */
  readonly stateDir: string;
}

export interface DevelopmentTokenOptions {
  readonly dataDir: string;
  readonly module: string;
  readonly log: HsmLog;
  /** The environment of the ceremony; empty unless given. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Tests only: kills the ceremony under way. */
  readonly signal?: AbortSignal;
}

const TEMPLATE = new URL('../../softhsm/softhsm2.conf', import.meta.url);
const LABEL = `${NAME.tokenLabel}-development`;

/** Whether the data folder holds a token; one under way does not count. */
export const hasDevelopmentToken = (dataDir: string): boolean =>
  existsSync(join(dataDir, 'hsm', 'tokens'));

/** Makes the token at the first start and finds it at every later one; safe to be killed. */
export async function ensureDevelopmentToken(
  options: DevelopmentTokenOptions,
): Promise<DevelopmentToken> {
  const home = join(options.dataDir, 'hsm');
  const ceremony = join(home, 'ceremony');
  for (const folder of [options.dataDir, home, ceremony]) await privateFolder(folder);
  const token: DevelopmentToken = {
    module: options.module,
    softhsmConf: join(home, 'softhsm2.conf'),
    pinFile: join(home, 'user.pin'),
    soPinFile: join(ceremony, 'so.pin'),
    tokenLabel: LABEL,
    stateDir: options.dataDir,
  };
  const tokens = join(home, 'tokens');
  await writeConf(token.softhsmConf, tokens);
  // Also beside a token: a run can be killed after the rename and before its staging is removed.
  await discardStaging(home);
  if (!existsSync(tokens)) {
    await makeToken(token, home, tokens, options);
    options.log.info({ folder: tokens }, 'a development token was made');
  }
  return token;
}

async function makeToken(
  token: DevelopmentToken,
  home: string,
  tokens: string,
  { environment = {}, signal }: DevelopmentTokenOptions,
): Promise<void> {
  // A folder of this run alone: an earlier run's ceremony may still be writing to its own.
  const staging = join(home, `staging-${process.pid}-${randomBytes(4).toString('hex')}`);
  await privateFolder(staging);
  const softhsmConf = join(staging, 'softhsm2.conf');
  const staged = join(staging, 'tokens');
  await privateFolder(staged);
  await writeConf(softhsmConf, staged);
  const { module, pinFile, soPinFile, tokenLabel: label } = token;
  const request = { action: 'init-token', module, label, pinFile, soPinFile } as const;
  const child = { softhsmConf, environment, ...(signal === undefined ? {} : { signal }) };
  await runTokenCeremony(request, child);
  await syncTree(staged);
  await rename(staged, tokens);
  await syncFolder(home);
  await rm(staging, { recursive: true, force: true });
}

/** An orphaned ceremony may still be writing into it, hence the retries. */
async function discardStaging(home: string): Promise<void> {
  for (const name of await readdir(home)) {
    if (name.startsWith('staging-')) {
      await rm(join(home, name), { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    }
  }
}

async function writeConf(path: string, tokens: string): Promise<void> {
  const template = await readFile(TEMPLATE, 'utf8');
  await writeDurably(
    path,
    template.replace('@TOKENS@', () => tokens),
  );
}

async function privateFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
}

/** SoftHSM syncs what it writes, not the folders; a rename must not outrun its content. */
async function syncTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    const file = await open(join(entry.parentPath, entry.name), 'r');
    await file.sync();
    await file.close();
  }
  await syncFolder(path);
}
