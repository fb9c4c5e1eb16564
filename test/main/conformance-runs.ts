/** Runs of `twofold conformance` as a shell starts them, on tokens of a test's own. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { softHsmModule } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';

export const COMMAND = join(import.meta.dirname, '../../scripts/twofold');

export interface Options {
  readonly token: TokenFixture;
  readonly module?: string;
  readonly label?: string;
  readonly pinFile?: string;
  /** The words of the command; `conformance`. */
  readonly as?: readonly string[];
}

function commandLine(more: readonly string[], options: Options) {
  const { token } = options.token;
  const argv = [...(options.as ?? ['conformance'])];
  argv.push('--module', options.module ?? softHsmModule());
  argv.push('--token-label', options.label ?? token.tokenLabel);
  argv.push('--pin-file', options.pinFile ?? token.pinFile, ...more);
  const env = {
    ...COMMAND_ENVIRONMENT,
    SOFTHSM2_CONF: token.softhsmConf,
    // A killed run leaves its folder behind; here it goes with the token's.
    TMPDIR: token.stateDir,
  };
  return { argv, env };
}

/** A run to its end, without a terminal. */
export function conformance(more: readonly string[], options: Options) {
  const { argv, env } = commandLine(more, options);
  const run = spawnSync(COMMAND, argv, { encoding: 'utf8', env, input: '' });
  return { status: run.status, out: run.stdout, err: run.stderr };
}

/** A run that is under way. */
export function started(options: Options): ChildProcess {
  const { argv, env } = commandLine(['--yes'], options);
  return spawn(COMMAND, argv, { env, stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Files of SoftHSM's objects. */
export function objectFiles({ folder }: TokenFixture): string[] {
  const tokens = join(folder, 'hsm', 'tokens');
  return readdirSync(tokens, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.object') && !name.endsWith('token.object'))
    .sort();
}

/** A run on a terminal (util-linux's `script`) whose user types `answer` once asked. */
export async function onTerminal(answer: string, options: Options) {
  const { argv, env } = commandLine([], options);
  const line = [COMMAND, ...argv].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['-qec', line, '/dev/null'], {
    env,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const asked = out.includes('Go on?');
    out += text;
    if (!asked && out.includes('Go on?')) child.stdin.write(answer);
  });
  const status = await new Promise((resolve) => child.once('close', resolve));
  return { status, out };
}
