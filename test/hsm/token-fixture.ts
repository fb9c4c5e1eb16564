/** A SoftHSM token of a test's own, with its root, in a folder that the test removes. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT as ROOT_FOLDER, SOURCES, copyTemplate } from '../cached.ts';
import { findSoftHsm } from '../../src/config.ts';
import { ensureDevelopmentToken } from '../../src/hsm/development-token.ts';
import type { DevelopmentToken } from '../../src/hsm/development-token.ts';
import { createHsm } from '../../src/hsm/pool.ts';
import type { HsmOptions, PooledHsm } from '../../src/hsm/pool.ts';
import type { RootOnToken } from '../../src/hsm/port.ts';
import { runRootCeremony } from '../../src/hsm/run-ceremony.ts';

/** The installed module; the tests of real tokens do not pass without one. */
export function softHsmModule(): string {
  const found = findSoftHsm();
  if (found === undefined) throw new Error('SoftHSM is not installed; run scripts/setup');
  return found;
}

export const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

export const ROOT: RootOnToken = {
  installation: '01234567-89ab-4def-8123-456789abcdef',
  generation: 1,
};

export interface TokenFixture {
  readonly folder: string;
  readonly token: DevelopmentToken;
  /** Options of a pool on this token. */
  readonly options: HsmOptions;
  readonly open: (change?: Partial<HsmOptions>) => Promise<PooledHsm>;
  readonly remove: () => void;
}

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'twofold-hsm-'));
}

/** A copy of `pattern`, or of a token that the ceremonies made once for all tests, root and all. */
export async function makeToken(pattern?: TokenFixture): Promise<TokenFixture> {
  const folder = temporaryFolder();
  if (pattern !== undefined) cpSync(pattern.folder, folder, { recursive: true });
  else await copyTemplate({ name: 'twofold-test-token', madeFrom: madeFrom(), fill }, folder);
  // Which also has the configuration name this folder.
  return tokenIn(folder, false);
}

const fill = async (folder: string): Promise<void> => {
  await tokenIn(folder);
};

const madeFrom = (): readonly string[] => [
  ...SOURCES,
  softHsmModule(),
  join(ROOT_FOLDER, 'softhsm/softhsm2.conf'),
  join(ROOT_FOLDER, 'package-lock.json'),
];

/** A token in a folder, made there first if there is none. */
export async function tokenIn(folder: string, withRoot = true): Promise<TokenFixture> {
  const module = softHsmModule();
  const token = await ensureDevelopmentToken({ dataDir: folder, module, log: SILENT });
  const tokenSelector = { label: token.tokenLabel };
  if (withRoot) await runRootCeremony({ ...token, tokenSelector, ...ROOT });
  const options: HsmOptions = {
    module: token.module,
    tokenSelector,
    pinFile: token.pinFile,
    workers: 2,
    queueLimit: 1_000,
    deadlineMs: 10_000,
    stateDir: folder,
    env: { SOFTHSM2_CONF: token.softhsmConf },
    log: SILENT,
  };
  return {
    folder,
    token,
    options,
    open: (change = {}) => createHsm({ ...options, ...change }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
