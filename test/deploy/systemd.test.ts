/** The unit file and its page: what systemd says of the one, and what the configuration says of the other. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { checkConfig } from '../../src/config.ts';
import type { ConfigPart } from '../../src/config.ts';
import { SETTINGS } from '../../src/config/schema.ts';
import { PATIENCE_MS } from '../../src/main/patience.ts';
import { makeCertificate } from '../config/certificate.ts';
import { PROJECT } from './image.ts';

const text = (name: string) => readFileSync(join(PROJECT, name), 'utf8');
const unit = text('deploy/twofold.service');
const page = text('deploy/systemd.md');

/** All values of a setting, in their order. */
const valuesOf = (name: string): string[] =>
  [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gmu'))].map(([, value = '']) => value);

const environment = Object.fromEntries(
  valuesOf('Environment').map((pair): [string, string] => {
    const [name = '', ...value] = pair.split('=');
    return [name, value.join('=')];
  }),
);

let folder: string;
const at = (name: string) => join(folder, name);
const put = (name: string, content: string, mode: number): string => {
  writeFileSync(at(name), content, { mode });
  return at(name);
};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-unit-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ANALYZE = spawnSync('systemd-analyze', ['--version']).status === 0;
const analyze = (...argv: string[]) => spawnSync('systemd-analyze', argv, { encoding: 'utf8' });

describe('deploy/twofold.service', () => {
  it('sets variables that the service knows, every secret by a file', () => {
    const known = new Set([...SETTINGS.map(({ env }) => env), 'TWOFOLD_CONFIG']);
    for (const name of Object.keys(environment)) expect(known).toContain(name);
    const handed = valuesOf('LoadCredential').map((value) => value.split(':')[0] ?? '');
    const used = [...valuesOf('Environment'), ...valuesOf('ExecStartPre')].join(' ');
    for (const name of handed) expect(used).toContain(`%d/${name}`);
    expect(
      used
        .match(/%d\/[\w.]+/gu)
        ?.map((path) => path.slice(3))
        .sort(),
    ).toEqual(handed.sort());
    expect(unit).not.toMatch(/so\.pin|owner/u);
  });

  it('starts production by the launcher, as nobody that matters, and lets it drain', () => {
    expect(valuesOf('ExecStart')).toEqual(['/opt/twofold/scripts/launch serve']);
    expect(valuesOf('Type')).toEqual(['exec']);
    expect(valuesOf('User')).toEqual(['twofold']);
    expect(valuesOf('LimitCORE')).toEqual(['0']);
    const drainMs = SETTINGS.find(({ path }) => path === 'stop.drainMs')?.defaultValue;
    const [stop = ''] = valuesOf('TimeoutStopSec');
    expect(Number.parseInt(stop, 10) * 1_000).toBeGreaterThan(Number(drainMs) * 2);
  });

  it('is started again through any outage of the database, and not for ever where a start fails at once', () => {
    const numberOf = (name: string, unit: string): number => {
      const [, value = ''] = new RegExp(`^(\\d+)${unit}$`, 'u').exec(valuesOf(name)[0] ?? '') ?? [];
      return Number.parseInt(value, 10);
    };
    expect(valuesOf('Restart')).toEqual(['on-failure']);
    const seconds = numberOf('StartLimitIntervalSec', 'min') * 60;
    const lasting = (start: number) =>
      numberOf('StartLimitBurst', '') * (start + numberOf('RestartSec', 's'));
    expect(lasting(PATIENCE_MS / 1_000)).toBeGreaterThan(seconds);
    // On a slow host, too.
    expect(lasting(15)).toBeLessThan(seconds);
  });

  it('copies the PIN to where the service takes it from, closed', () => {
    const [copy = ''] = valuesOf('ExecStartPre');
    const [program = '', ...argv] = copy.split(' ');
    expect(argv.at(-1)).toBe(environment['TWOFOLD_HSM_PIN_FILE']);
    put('user.pin', '1234\n', 0o440);
    // As newer systemd hands it over, it would be refused.
    const paths = argv.map((word) =>
      word.replace('%d', folder).replace('%t/twofold/', at('copied-')),
    );
    execFileSync(program, paths);
    const pin = { TWOFOLD_HSM_PIN_FILE: at('copied-user.pin') };
    const hsm = { TWOFOLD_PKCS11_MODULE: program, TWOFOLD_HSM_SLOT: '0' };
    const flags = new Map<string, string>();
    expect(checkConfig({ flags, uses: ['hsm'], environment: { ...hsm, ...pin } }).ok).toBe(true);
    const open = { TWOFOLD_HSM_PIN_FILE: at('user.pin') };
    expect(checkConfig({ flags, uses: ['hsm'], environment: { ...hsm, ...open } }).ok).toBe(false);
  });

  it('copies what it was started with again for a reload, and then says so to the service', () => {
    const words = (command: string) => command.split(' ');
    const target = (command: string) => words(command).at(-1);
    const [signal = '', ...copies] = valuesOf('ExecReload').toReversed();
    expect(signal).toBe('/bin/kill -HUP $MAINPID');
    // As root, which alone reads the sources; closed to all but the service.
    for (const copy of copies) {
      expect(copy).toMatch(/^\+\/usr\/bin\/install -T -o twofold -g twofold -m 0400 /u);
    }
    expect(copies.map(target).sort()).toEqual(valuesOf('ExecStartPre').map(target).sort());
    const sources = copies.map((copy) => words(copy).at(-2)).sort();
    const loaded = valuesOf('LoadCredential').map((value) => value.split(':')[1]);
    expect(sources).toEqual(loaded.sort());
  });

  if (ANALYZE) {
    it('is sound for systemd, and exposes little', () => {
      const here = put('twofold.service', unit.replaceAll('/opt/twofold', PROJECT), 0o644);
      const verified = analyze('verify', here);
      expect([verified.status, verified.stdout, verified.stderr]).toEqual([0, '', '']);
      const security = analyze('security', '--offline=true', '--threshold=20', here);
      expect([security.status, security.stdout.match(/exposure level.*: ([\d.]+)/u)?.[1]]).toEqual([
        0,
        page.match(/systemd-analyze security twofold` says ([\d.]+)\./u)?.[1],
      ]);
    }, 60_000);
  } else {
    it('is not shown to systemd here', () => {
      console.warn('Not run here: systemd-analyze is not installed.');
    });
  }
});

/** Each call of systemd-run on the page, with its properties and variables. */
const calls = [...page.matchAll(/^systemd-run (?:.*\\\n)*.*/gmu)].map(([call]) => {
  const pairs = (option: string) =>
    Object.fromEntries(
      [...call.matchAll(new RegExp(` -${option} (\\w+)=(\\S+)`, 'gu'))].map(
        ([, name = '', value = '']) => [name, value],
      ),
    );
  return { properties: pairs('p'), variables: pairs('E'), isCeremony: / hsm \w/u.test(call) };
});

describe('deploy/systemd.md', () => {
  it('gives no unit of root’s the service’s folder, which systemd would take from the running service', () => {
    expect(calls.map(({ isCeremony }) => isCeremony)).toEqual([false, true]);
    const [folder = ''] = valuesOf('StateDirectory');
    expect(environment['TWOFOLD_DATA']).toBe(`/var/lib/${folder}`);
    for (const { properties, variables, isCeremony } of calls) {
      expect(properties).not.toHaveProperty('User');
      expect(properties['StateDirectory']).not.toBe(folder);
      expect(variables['TWOFOLD_DATA']).not.toBe(environment['TWOFOLD_DATA']);
      // Marks of refused PINs have a place that can be written, and that nobody else reads.
      if (!isCeremony) continue;
      expect(variables['TWOFOLD_DATA']).toBe(`/var/lib/${properties['StateDirectory'] ?? ''}`);
      expect(properties['StateDirectoryMode']).toBe('0700');
    }
  });

  it('has a configuration that, with the unit’s environment, is accepted for each step', () => {
    const [, json = '{}'] = /```json\n([^`]*)```/u.exec(page) ?? [];
    const { certificate, key } = makeCertificate();
    const files: Readonly<Record<string, string>> = {
      '/etc/twofold/ca.pem': put('ca.pem', certificate, 0o644),
      '/etc/twofold/server.pem': put('server.pem', certificate, 0o644),
      '/usr/lib/vendor/libpkcs11.so': put('module.so', 'x', 0o644),
      '%t/twofold/server.key': put('server.key', key, 0o400),
      '%t/twofold/server.password': put('server.password', 'x', 0o400),
      '%t/twofold/user.pin': put('pin', '1234', 0o400),
      '/etc/twofold/private/owner.password': put('owner.password', 'x', 0o600),
      '/etc/twofold/private/user.pin': at('pin'),
      '/etc/twofold/twofold.json': at('twofold.json'),
    };
    const mapped = (value: string) =>
      Object.entries(files).reduce((so, [from, to]) => so.replaceAll(from, to), value);
    writeFileSync(at('twofold.json'), mapped(json));
    const problems = (
      variables: Readonly<Record<string, string>>,
      uses?: readonly ConfigPart[],
    ) => {
      const own = Object.entries(variables).map(([name, value]) => [name, mapped(value)]);
      const given = Object.fromEntries(own) as Record<string, string>;
      const check = checkConfig({
        flags: new Map(),
        environment: given,
        ...(uses === undefined ? {} : { uses }),
      });
      return check.ok ? [] : check.problems;
    };
    expect(problems(environment)).toEqual([]);
    const [migrate = {}, root = {}] = calls.map(({ variables }) => variables);
    expect(problems(migrate, ['owner'])).toEqual([]);
    expect(problems(root, ['hsm'])).toEqual([]);
    expect(Object.keys(migrate)).toContain('TWOFOLD_DATABASE_OWNER_URL');
  });
});
