/** PKCS #11 modules other than SoftHSM, where they are installed: a token of a test's own in a folder. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { HsmOptions } from '../../src/hsm/pool.ts';
import type { InitRequest } from './init-module-child.ts';
import { temporaryFolder } from './token-fixture.ts';

/** A token and how the command is told of it. */
export interface OtherToken {
  /** As the service is told of it. */
  readonly options?: Pick<HsmOptions, 'module' | 'moduleParameters' | 'tokenSelector' | 'pinFile'>;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly remove: () => Promise<void> | void;
}

export interface OtherModule {
  readonly name: string;
  /** Why it cannot be tried here; undefined where it can. */
  readonly missing: string | undefined;
  /** Suites that the tried version serves. */
  readonly serves: readonly string[];
  readonly make: () => Promise<OtherToken>;
}

const LIBRARY_FOLDERS = [
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib64',
  '/usr/lib64/pkcs11',
  '/usr/lib',
  '/usr/local/lib',
];
const CHILD = join(import.meta.dirname, 'init-module-child.ts');
const PIN = '12345678';
const LABEL = 'twofold-test';

const library = (file: string) =>
  LIBRARY_FOLDERS.map((folder) => join(folder, file)).find((path) => existsSync(path));
const program = (name: string) =>
  ['/usr/sbin', '/usr/bin'].map((folder) => join(folder, name)).find((path) => existsSync(path));

const KRYOPTIC = library('libkryoptic_pkcs11.so');
const NSS = library('libsoftokn3.so');
const OPENCRYPTOKI = library('libopencryptoki.so.0');
const OPENCRYPTOKI_SLOT = process.env['TEST_OPENCRYPTOKI_SLOT'];
const OPENCRYPTOKI_PIN_FILE = process.env['TEST_OPENCRYPTOKI_PIN_FILE'];
const TPM2 = library('libtpm2_pkcs11.so.1');

const ALL = [
  'MLKEM768-P256',
  'MLKEM768-X25519',
  'MLKEM1024-P384',
  'A256GCM',
  'MLDSA65-ECDSA-P256-SHA512',
  'MLDSA87-ECDSA-P384-SHA512',
  'HS256',
];

export const OTHER_MODULES: readonly OtherModule[] = [
  {
    name: 'kryoptic',
    missing: KRYOPTIC === undefined ? 'libkryoptic_pkcs11.so is not installed' : undefined,
    serves: ALL,
    make: kryoptic,
  },
  {
    name: 'NSS softokn',
    missing: NSS === undefined ? 'libsoftokn3.so is not installed' : undefined,
    serves: ALL.filter((suite) => suite !== 'MLKEM768-X25519'),
    make: nss,
  },
  {
    name: 'tpm2-pkcs11 over swtpm',
    missing:
      TPM2 === undefined || program('swtpm') === undefined
        ? 'libtpm2_pkcs11.so.1 or swtpm is not installed'
        : undefined,
    serves: [],
    make: tpm2,
  },
  {
    name: 'opencryptoki soft token',
    missing: opencryptokiMissing(),
    serves: [],
    make: opencryptoki,
  },
];

/** Its token belongs to the machine, so whoever runs the tests makes it and names it. */
function opencryptokiMissing(): string | undefined {
  if (OPENCRYPTOKI === undefined) return 'libopencryptoki.so.0 is not installed';
  const named = OPENCRYPTOKI_SLOT !== undefined && OPENCRYPTOKI_PIN_FILE !== undefined;
  return named ? undefined : 'TEST_OPENCRYPTOKI_SLOT and TEST_OPENCRYPTOKI_PIN_FILE are not set';
}

function initialise(
  request: Omit<InitRequest, 'pin' | 'soPin'> & Partial<InitRequest>,
  env: Readonly<Record<string, string>>,
): void {
  const whole = { soPin: '87654321', pin: PIN, ...request };
  const run = spawnSync(process.execPath, [CHILD, JSON.stringify(whole)], {
    env,
    encoding: 'utf8',
  });
  if (run.status !== 0) throw new Error(`the token was not made: ${run.stderr}`);
}

function pinFileIn(folder: string): string {
  const path = join(folder, 'user.pin');
  writeFileSync(path, PIN, { mode: 0o600 });
  return path;
}

function tokenOf(
  folder: string,
  module: string,
  named: readonly string[],
  env: Readonly<Record<string, string>>,
): OtherToken {
  const argv = ['--module', module, '--pin-file', pinFileIn(folder), ...named];
  return { argv, env, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

async function kryoptic(): Promise<OtherToken> {
  const folder = temporaryFolder();
  const conf = join(folder, 'kryoptic.conf');
  const database = join(folder, 'token.sql');
  writeFileSync(conf, `[[slots]]\nslot = 1\ndbtype = "sqlite"\ndbargs = "${database}"\n`);
  const env = { KRYOPTIC_CONF: conf };
  const module = KRYOPTIC ?? '';
  initialise({ module, index: 0, label: LABEL }, env);
  return tokenOf(folder, module, ['--token-label', LABEL], env);
}

/** A key database without a security officer's PIN: whoever sets the user PIN first owns it. */
export async function nss(): Promise<OtherToken> {
  const folder = temporaryFolder();
  const moduleParameters = `configdir='sql:${folder}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=`;
  const module = NSS ?? '';
  initialise({ module, moduleParameters, index: 1, soPin: '' }, {});
  const named = ['--module-parameters', moduleParameters, '--slot', '2'];
  const pinFile = pinFileIn(folder);
  const options = { module, moduleParameters, tokenSelector: { slot: 2 }, pinFile };
  return { ...tokenOf(folder, module, named, {}), options };
}

async function tpm2(): Promise<OtherToken> {
  const folder = temporaryFolder();
  const [state, store] = [join(folder, 'state'), join(folder, 'store')];
  for (const path of [state, store]) mkdirSync(path);
  const port = await freePairOfPorts();
  const swtpm = spawn(
    'swtpm',
    [
      ...['socket', '--tpm2', '--tpmstate', `dir=${state}`],
      ...['--server', `type=tcp,port=${port}`, '--ctrl', `type=tcp,port=${port + 1}`],
      ...['--flags', 'not-need-init,startup-clear'],
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((resolve) => swtpm.once('exit', resolve));
  await delay(1_000);
  const env = {
    TPM2_PKCS11_TCTI: `swtpm:host=127.0.0.1,port=${port}`,
    TPM2_PKCS11_STORE: store,
    TPM2_PKCS11_BACKEND: 'esysdb',
  };
  const module = TPM2 ?? '';
  const remove = async () => {
    swtpm.kill();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    initialise({ module, index: 0, label: LABEL }, env);
  } catch (error) {
    await remove();
    throw error;
  }
  return { ...tokenOf(folder, module, ['--token-label', LABEL], env), remove };
}

function opencryptoki(): Promise<OtherToken> {
  const named = ['--slot', OPENCRYPTOKI_SLOT ?? '', '--pin-file', OPENCRYPTOKI_PIN_FILE ?? ''];
  const argv = ['--module', OPENCRYPTOKI ?? '', ...named];
  return Promise.resolve({ argv, env: {}, remove: () => undefined });
}

/** swtpm's two ports follow each other, as its TCTI expects. */
async function freePairOfPorts(): Promise<number> {
  for (;;) {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const next = createServer();
    const free = await new Promise<boolean>((resolve) => {
      next.once('error', () => resolve(false));
      next.listen(port + 1, '127.0.0.1', () => resolve(true));
    });
    await Promise.all([server, next].map((one) => new Promise((resolve) => one.close(resolve))));
    if (free) return port;
  }
}
