/**
 * A clone of HEAD in an empty folder, with an empty home and without this developer's npm settings:
 * what is missing there, a developer's own settings would hide.
 */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BareMachine } from './bare-machine.ts';

const ROOT = join(import.meta.dirname, '../..');

const hostPath = (): string =>
  (process.env['PATH'] ?? '')
    .split(':')
    .filter((folder) => folder !== '' && !folder.includes('node_modules'))
    .join(':');

const npmSetting = (name: string): string | undefined => {
  const value = execFileSync('npm', ['config', 'get', name], {
    encoding: 'utf8',
    env: { PATH: hostPath(), HOME: process.env['HOME'] },
    stdio: ['ignore', 'pipe', 'ignore'],
    cwd: tmpdir(),
  }).trim();
  return value === '' || value === 'null' || value === 'undefined' ? undefined : value;
};

/** How this host reaches its registry; handed on by environment, written nowhere. */
const registryAccess = (): Record<string, string> => {
  const access: Record<string, string> = {};
  for (const name of ['cafile', 'registry', 'proxy', 'https-proxy']) {
    const value = npmSetting(name);
    if (value !== undefined) access[`npm_config_${name.replace('-', '_')}`] = value;
  }
  const extra = process.env['NODE_EXTRA_CA_CERTS'];
  return extra === undefined ? access : { ...access, NODE_EXTRA_CA_CERTS: extra };
};

export interface Ran {
  readonly status: number | null;
  readonly output: string;
}

export interface RunOptions {
  /** In a namespace that has no network, not even loopback. */
  readonly offline?: boolean;
  readonly environment?: Record<string, string>;
  /** On this machine instead of the host, as root or as the account named. */
  readonly machine?: BareMachine;
  readonly account?: string;
  /** On a terminal, whose keyboard is the process's stdin. */
  readonly terminal?: boolean;
}

export interface FreshClone {
  readonly folder: string;
  readonly home: string;
  /** Runs a command in the clone; `npm` means the version that the clone was made for. */
  run(command: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Starts a command and leaves it running, in a session of its own. */
  start(command: readonly string[], options?: RunOptions): ChildProcess;
  /** Makes another user the owner of clone, home and npm's cache, and lets that user pass to them. */
  giveTo(uid: number): void;
  remove(): void;
}

/** A folder that several clones share: an npm cache and the npm versions asked for. */
export interface Workshop {
  clone(npmMajor: number): Promise<FreshClone>;
  remove(): void;
}

const finished = (child: ChildProcess): Promise<Ran> => {
  let output = '';
  const keep = (chunk: Buffer) => {
    output += chunk.toString('utf8');
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, output }));
  });
};

const makeClone = (workshop: string, npmCli: string): FreshClone => {
  const base = mkdtempSync(join(workshop, 'clone-'));
  const folder = join(base, 'twofold');
  const home = join(base, 'home');
  const userConfig = join(base, 'empty-npmrc');
  mkdirSync(home, { mode: 0o700 });
  writeFileSync(userConfig, '');
  execFileSync('git', ['clone', '--quiet', ROOT, folder]);
  const environment = {
    PATH: hostPath(),
    HOME: home,
    PWD: folder,
    npm_config_userconfig: userConfig,
    npm_config_cache: join(workshop, 'cache'),
    npm_config_update_notifier: 'false',
    ...registryAccess(),
  };
  const start = (command: readonly string[], options: RunOptions = {}): ChildProcess => {
    const [program = '', ...rest] = command;
    let own = program === 'npm' ? ['node', npmCli, ...rest] : [program, ...rest];
    if (options.terminal === true) own = ['script', '-qefc', own.join(' '), '/dev/null'];
    if (options.machine !== undefined) own = options.machine.inside(own, folder, options.account);
    const [file = '', ...args] = options.offline === true ? ['unshare', '--net', ...own] : own;
    return spawn(file, args, {
      cwd: folder,
      env: { ...environment, ...options.environment },
      stdio: [options.terminal === true ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      detached: true,
    });
  };
  return {
    folder,
    home,
    start,
    run: (command, options) => finished(start(command, options)),
    giveTo: (uid) => {
      execFileSync('chown', ['-R', `${uid}:${uid}`, base, join(workshop, 'cache')]);
      chmodSync(workshop, 0o711);
    },
    remove: () => rmSync(base, { recursive: true, force: true }),
  };
};

export const openWorkshop = (): Workshop => {
  const workshop = mkdtempSync(join(tmpdir(), 'twofold-fresh-'));
  const env = { PATH: hostPath(), HOME: workshop, ...registryAccess() };
  return {
    clone: async (npmMajor) => {
      const prefix = join(workshop, `npm-${npmMajor}`);
      const args = ['install', '--silent', '--prefix', prefix, `npm@${npmMajor}`];
      const ran = await finished(spawn('npm', args, { cwd: workshop, env }));
      if (ran.status !== 0) throw new Error(`npm ${npmMajor} could not be had:\n${ran.output}`);
      return makeClone(workshop, join(prefix, 'node_modules/npm/bin/npm-cli.js'));
    },
    remove: () => rmSync(workshop, { recursive: true, force: true }),
  };
};
