/** The commands that a start prints, run as they stand by a shell. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { VERSION } from '../../src/main/version.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
let service: TestService;
let folder: string;

beforeAll(async () => {
  // What a shell takes apart where it is not quoted.
  const dataDir = mkdtempSync(join(tmpdir(), "twofold it's a $tour-"));
  service = await TestService.start({ dataDir });
  folder = mkdtempSync(join(tmpdir(), 'twofold-tour-'));
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
}, 90_000);

afterAll(async () => {
  await service.destroy();
  rmSync(folder, { recursive: true, force: true });
});

/** The printed commands, one shell script; the command of a clone is called by its path. */
function printedCommands(): string {
  const [, text = ''] = /in this folder:\n\n([\s\S]*?)\n\nCtrl-C/.exec(service.output) ?? [];
  return text.replaceAll('npx twofold', join(root, 'scripts/twofold'));
}

/** What stands after a name at the beginning of a line. */
const printed = (name: string): string[] =>
  [...service.output.matchAll(new RegExp(`^${name} +(.*)$`, 'gmu'))].map(([, value = '']) => value);

describe('what a start prints', () => {
  it('names versions, self-tests, what the token can, suites and listeners', () => {
    const [version = ''] = /^Twofold KMS \S+ is ready at http:\S+$/mu.exec(service.output) ?? [];
    expect(version).toContain(` ${VERSION} `);
    expect(printed('node')[0]).toMatch(/^\d+\.\d+\.\d+, OpenSSL \d/u);
    expect(Number.parseInt(printed('self-tests')[0] ?? '', 10)).toBeGreaterThanOrEqual(18);
    expect(printed('root')).toEqual(['non-extractable']);
    expect(printed('can')[0]?.split(', ')).toEqual(
      expect.arrayContaining(['ecdh:P-256', 'ecdsa:P-384', 'x25519', 'aes-gcm', 'wrap']),
    );
    expect(printed('cannot')).toEqual([]);
    const { length } = Object.keys(SUITES);
    expect(printed('suites')[0]).toMatch(new RegExp(`^${String(length)} of ${String(length)} `));
    expect(printed('without')).toEqual([]);
    expect(printed('data')).toEqual([service.dataDir]);
  });

  it('serves the API document of the repository, byte for byte', async () => {
    const { bytes } = await service.request('GET', '/openapi.yaml', undefined, { role: null });
    expect(bytes.equals(readFileSync(join(root, 'openapi.yaml')))).toBe(true);
  });

  it('says that losing the token loses every key, what to back up and how to prove it', () => {
    const { output, dataDir } = service;
    const at = output.indexOf('Losing the token loses every key.');
    expect(at).toBeGreaterThan(0);
    const rest = output.slice(at);
    expect(rest).toContain(`${dataDir}/hsm `);
    expect(rest).toContain(`${dataDir}/db `);
    expect(rest).toContain('TWOFOLD_DATA=copy TWOFOLD_PORT=0 TWOFOLD_METRICS_PORT=0 npm start');
  });

  it('names the metrics listener of a free port', async () => {
    const [address = ''] = printed('metrics');
    expect(await (await fetch(address)).text()).toContain('twofold_ready');
  });
});

describe('the printed tour', () => {
  it('creates, wraps, unwraps, signs, verifies, rotates, and is refused where it must be', async () => {
    const { stdout } = await promisify(execFile)('bash', ['-c', `set -e\n${printedCommands()}`], {
      cwd: folder,
      env: { ...COMMAND_ENVIRONMENT },
    });
    const answers = stdout.replaceAll('}{', '}\n{').replaceAll('}same', '}\nsame').split('\n');
    const documents = answers
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(
      documents.map(({ name, valid, code, primary }) => name ?? valid ?? code ?? primary),
    ).toEqual(['demo', 'signer', true, 'demo', 'decryption_failed', 'forbidden', undefined]);
    expect(documents[3]).toMatchObject({ name: 'demo', primary: 2, latestVersion: 2 });
    expect(documents[6]?.['items']).toHaveLength(3);
    expect(answers.filter((line) => line.trim() === 'same')).toHaveLength(2);
    expect(readFileSync(join(folder, 'data.key.again'))).toEqual(
      readFileSync(join(folder, 'data.key')),
    );
  }, 60_000);
});
