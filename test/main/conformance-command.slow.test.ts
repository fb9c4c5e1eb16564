/** `twofold conformance` on a token of a user's, as a shell calls it. */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { SUITES } from '../../src/crypto/suites.ts';
import { RUN_LABEL } from '../../src/hsm/conformance-objects.ts';
import { conformanceCommand } from '../../src/main/conformance-command.ts';
import type { ConformanceReportFile } from '../../src/main/conformance-report.ts';
import { callRecorder, strictModule } from '../hsm/shim.ts';
import { makeToken, softHsmModule, temporaryFolder, tokenIn } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { COMMAND, conformance, objectFiles, onTerminal } from './conformance-runs.ts';

let fixture: TokenFixture;
/** The same token without a root. */
let bare: TokenFixture;

beforeAll(async () => {
  fixture = await makeToken();
  bare = await tokenIn(temporaryFolder(), false);
}, 60_000);

afterAll(() => {
  for (const { remove } of [fixture, bare]) remove();
});

const folders = () =>
  readdirSync(fixture.folder).filter((name) => name.startsWith('twofold-conformance-'));

/** What `callRecorder` saw. */
const callsOf = (module: string) => readFileSync(`${module}.calls`, 'utf8').trim().split('\n');

describe('twofold conformance --module', () => {
  let jsonFile: string;
  beforeEach(() => {
    jsonFile = join(fixture.folder, 'report.json');
    rmSync(jsonFile, { force: true });
  });

  it('prints a row for every use and suite, writes the report and leaves the token as it was', () => {
    const before = objectFiles(fixture);
    const { status, out, err } = conformance(['--yes', '--json', jsonFile], { token: fixture });
    expect([status, err]).toEqual([0, '']);
    for (const suite of Object.keys(SUITES))
      expect(out).toMatch(new RegExp(`^${suite} +served`, 'm'));
    expect(out).toMatch(
      /^ecdh:P-256 +CKM_ECDH1_DERIVE +yes .*\/s.* µs +MLKEM768-P256, DHKEM-P256$/m,
    );
    expect(objectFiles(fixture)).toEqual(before);

    const text = readFileSync(jsonFile, 'utf8');
    const report = JSON.parse(text) as ConformanceReportFile;
    expect(Object.keys(report)).toEqual([
      'schema',
      'made',
      'twofold',
      'node',
      'platform',
      'processor',
      'module',
      'token',
      'mechanisms',
      'root',
      'custody',
      'uses',
      'suites',
      'checks',
      'summary',
      'objects',
    ]);
    expect(report).toMatchObject({
      schema: 'twofold-conformance/1',
      module: { file: 'libsofthsm2.so', cryptoki: '2.40' },
      root: 'of the security officer',
      custody: 'non-extractable',
      summary: { failed: 0, absent: 0 },
      objects: { before: 1, after: 1, leftovers: 0, unchanged: true },
    });
    expect(Object.keys(report.token).sort()).toEqual(['firmware', 'manufacturer', 'model']);
    expect(report.suites.map(({ suite }) => suite)).toEqual(Object.keys(SUITES));
    expect(report.suites.every(({ served }) => served)).toBe(true);
    for (const use of report.uses) {
      expect(use).toMatchObject({ available: true, reason: '' });
      expect(use.speeds.every(({ perSecond }) => (perSecond ?? 0) > 0)).toBe(true);
    }
    const { pinFile } = fixture.token;
    for (const secret of [readFileSync(pinFile, 'utf8').trim(), pinFile, fixture.folder]) {
      expect(text).not.toContain(secret);
    }
    expect(statSync(jsonFile).mode & 0o077).toBe(0);
  }, 60_000);

  it('uses a wrapping key of its own where there is no root, and logs in as user alone', () => {
    const module = callRecorder(bare.folder, softHsmModule());
    const options = { token: bare, module };
    const argv = ['--yes', '--no-speed', '--json', jsonFile, '--with-serial'];
    const { status } = conformance(argv, options);
    expect(status).toBe(0);
    expect(new Set(callsOf(module))).toEqual(new Set(['C_Login 1']));
    const report = JSON.parse(readFileSync(jsonFile, 'utf8')) as ConformanceReportFile;
    expect(report).toMatchObject({
      root: 'temporary',
      custody: 'unknown',
      summary: { failed: 0, absent: 0 },
      objects: { before: 0, after: 0, unchanged: true },
    });
    expect(report.uses.every(({ available }) => available)).toBe(true);
    expect(report.uses.flatMap(({ speeds }) => speeds)).toEqual([]);
    expect(report.token.serial).toMatch(/^[0-9a-f]{16}$/u);
    expect(objectFiles(bare)).toEqual([]);
  }, 60_000);

  it('does nothing without a confirmation', () => {
    const module = callRecorder(fixture.folder, softHsmModule());
    const { status, out, err } = conformance([], { token: fixture, module });
    expect(status).toBe(1);
    expect(err).toContain('(invalid_value)');
    expect(out).toContain(RUN_LABEL);
    expect(existsSync(`${module}.calls`)).toBe(false);
  });

  it.each([
    ['no', 'no\n'],
    ['Ctrl-C', '\x03'],
    ['Ctrl-D', '\x04'],
  ])('does nothing when a terminal answers %s', async (_, answer) => {
    const module = callRecorder(fixture.folder, softHsmModule());
    const { status, out } = await onTerminal(answer, { token: fixture, module });
    expect(status).toBe(1);
    expect(out).toContain('(invalid_value)');
    expect(existsSync(`${module}.calls`)).toBe(false);
  });

  it('finds nothing missing on a module that is stricter than SoftHSM', () => {
    const module = strictModule(bare.folder, softHsmModule());
    // By its other name.
    const as = ['hsm', 'check'];
    const { status, out } = conformance(['--yes', '--no-speed'], { token: bare, module, as });
    expect(out).toMatch(/^\d+ passed, 0 failed, 0 absent$/m);
    expect(status).toBe(0);
  }, 60_000);

  it.each([
    ['--token-label', 'twofold'],
    ['--pin-file', 'pin'],
    ['--slot', '1', '--yes'],
    ['--serial', '1'],
    ['--module-parameters', 'x', '--json', 'report.json'],
  ])('does nothing where a token is named and no module: %s', async (...argv) => {
    const printed: string[] = [];
    const run = conformanceCommand(argv, (line) => printed.push(line));
    await expect(run).rejects.toMatchObject({ code: 'invalid_value' });
    expect(printed).toEqual([]);
  });

  it('does nothing where its report has no place', () => {
    const module = callRecorder(fixture.folder, softHsmModule());
    const { status, err } = conformance(['--yes', '--json', '/nowhere/report.json'], {
      token: fixture,
      module,
    });
    expect([status, err.split('\n')[0]]).toEqual([
      1,
      'twofold: --json: /nowhere cannot be written to. (invalid_value)',
    ]);
    expect(existsSync(`${module}.calls`)).toBe(false);
  });

  it('offers a wrong PIN once', () => {
    const module = callRecorder(fixture.folder, softHsmModule());
    const pinFile = join(fixture.folder, 'wrong.pin');
    writeFileSync(pinFile, '87654321\n', { mode: 0o600 });
    const { status, out, err } = conformance(['--yes'], { token: fixture, module, pinFile });
    expect([status, out.includes('use ecdh')]).toEqual([1, false]);
    expect(err).toContain('(hsm_unavailable)');
    expect(callsOf(module)).toEqual(['C_Login 1']);
  });

  it.each([
    ['an unknown label', [], { label: 'another' }],
    ['an unknown slot', ['--slot', '4242'], {}],
    ['an unknown serial', ['--serial', '0000'], {}],
    ['a file that is no module', [], { module: COMMAND }],
    ['a PIN file that is not there', [], { pinFile: '/nowhere.pin' }],
  ])('refuses %s and leaves nothing', (_, more, options) => {
    const before = folders();
    const { status, err } = conformance(['--yes', ...more], { token: fixture, ...options });
    expect(status).toBe(1);
    expect(err).toContain('(hsm_unavailable)');
    expect(folders()).toEqual(before);
  });
});
