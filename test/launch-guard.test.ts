import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import inspector from 'node:inspector';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../src/errors.ts';
import { assertHardened, coreLimit, launchProblems } from '../src/launch-guard.ts';

const root = join(import.meta.dirname, '..');
const good = {
  execArgv: ['--disable-sigusr1'],
  nodeOptions: '',
  coreLimit: ['0', '0'],
  inspector: undefined,
};

const FORBIDDEN = [
  '--inspect',
  '--inspect=0',
  '--inspect-brk',
  '--inspect_brk',
  '--inspect-port=1',
  '--heap-prof',
  '--heapsnapshot-signal=SIGUSR2',
  '--heapsnapshot-near-heap-limit=1',
  '--cpu-prof',
  '--report-on-signal',
  '--report-uncaught-exception',
  '--diagnostic-dir=/tmp',
  '--abort-on-uncaught-exception',
  '--tls-keylog=/tmp/keys',
  '--tls_keylog=/tmp/keys',
];

/** Node reads each as --inspect=127.0.0.1:0. */
const HIDDEN = [
  '--ins"pect"=127.0.0.1:0',
  '"--inspect=127.0.0.1:0"',
  '--max-old-space-size=100 --i"n\\s"pect=127.0.0.1:0',
  '--"\\i"nspect=127.0.0.1:0',
];

/** Spellings that Node takes for `--inspect` (or, with one dash, V8 for `--prof`). */
const DISGUISED = [
  '"--inspect=127.0.0.1:0"',
  '"--ins\\pect=127.0.0.1:0"',
  '--ins"pe"ct=127.0.0.1:0',
  '--inspect"=127.0.0.1:0"',
  '--no-warnings "--inspect"',
  '--max-old-space-size=100  --INSPECT',
];

describe('launch guard', () => {
  it('accepts the launcher', () => {
    expect(launchProblems(good)).toEqual([]);
    expect(() => assertHardened(good.execArgv, good, [])).not.toThrow();
  });

  it.each(FORBIDDEN)('refuses %s, as argument and in NODE_OPTIONS', (flag) => {
    expect(launchProblems({ ...good, execArgv: [...good.execArgv, flag] })).toHaveLength(1);
    expect(
      launchProblems({ ...good, nodeOptions: `--max-old-space-size=100 ${flag}` }),
    ).toHaveLength(1);
    expect(launchProblems({ ...good, nodeOptions: `"${flag}"` })).toHaveLength(1);
  });

  it.each(HIDDEN)('refuses what quotes or backslashes could hide: %s', (nodeOptions) => {
    expect(launchProblems({ ...good, nodeOptions })).toHaveLength(1);
  });

  it('refuses an inspector that listens, however it came about', () => {
    expect(launchProblems({ ...good, inspector: 'ws://127.0.0.1:9229/x' })).toHaveLength(1);
    inspector.open(0, '127.0.0.1');
    try {
      expect(() => assertHardened(good.execArgv, good, [])).toThrow(TwofoldError);
    } finally {
      inspector.close();
    }
  });

  it.each(DISGUISED)('sees through NODE_OPTIONS=%s', (nodeOptions) => {
    expect(launchProblems({ ...good, nodeOptions })).toHaveLength(1);
  });

  it('refuses to verify no certificate', () => {
    expect(launchProblems({ ...good, rejectUnauthorized: '0' })).toHaveLength(1);
    // Node takes nothing but 0 for it.
    for (const rejectUnauthorized of [undefined, '', '1', 'false']) {
      expect(launchProblems({ ...good, rejectUnauthorized })).toEqual([]);
    }
  });

  it('refuses flags of V8 with one dash', () => {
    expect(launchProblems({ ...good, execArgv: [...good.execArgv, '-prof'] })).toHaveLength(1);
  });

  it('wants SIGUSR1 disabled and no core file', () => {
    expect(launchProblems({ ...good, execArgv: [] })).toHaveLength(1);
    expect(launchProblems({ ...good, coreLimit: ['0', 'unlimited'] })).toHaveLength(1);
    expect(coreLimit()).toHaveLength(2);
    expect(() => assertHardened([], good)).toThrow(TwofoldError);
  });
});

describe('scripts/launch', () => {
  const launch = (
    args: readonly string[],
    environment: Record<string, string> = {},
    script = 'scripts/launch',
  ) =>
    spawnSync('sh', [join(root, script), ...args], {
      encoding: 'utf8',
      cwd: tmpdir(),
      env: { PATH: '/usr/bin:/bin', ...environment },
    });

  it.each(FORBIDDEN)('refuses %s before Node runs', (flag) => {
    expect(launch([], { NODE_OPTIONS: flag }).status).toBe(2);
    expect(launch([flag.replaceAll('_', '-')]).status).toBe(2);
  });

  it.each(HIDDEN)('refuses NODE_OPTIONS with %s before Node runs', (hidden) => {
    const { status, stderr } = launch(['version'], { NODE_OPTIONS: hidden });
    expect(status).toBe(2);
    expect(stderr).not.toContain('Debugger');
  });

  it.each(DISGUISED)('sees through NODE_OPTIONS=%s', (nodeOptions) => {
    expect(launch([], { NODE_OPTIONS: nodeOptions }).status).toBe(2);
  });

  it('refuses to verify no certificate before Node runs', () => {
    const { status, stderr } = launch(['version'], { NODE_TLS_REJECT_UNAUTHORIZED: '0' });
    expect([status, stderr]).toEqual([2, expect.stringContaining('NODE_TLS_REJECT_UNAUTHORIZED')]);
    expect(launch(['version'], { NODE_TLS_REJECT_UNAUTHORIZED: '1' }).status).toBe(0);
  });

  it('is reached through a link from any folder', () => {
    const folder = mkdtempSync(join(tmpdir(), 'twofold-link-'));
    const link = join(folder, 'twofold');
    symlinkSync(join(root, 'scripts/twofold'), link);
    const { status } = spawnSync(link, ['--inspect'], {
      cwd: folder,
      env: { PATH: '/usr/bin:/bin' },
    });
    rmSync(folder, { recursive: true });
    expect(status).toBe(2);
  });
});
