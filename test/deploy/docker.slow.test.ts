/**
 * The compose file by Docker itself, where a daemon runs: built, its ceremony, up, a key over TLS, a
 * restart. Takes the ports 8370 and 8371 of loopback, and removes all that it made but the image.
 */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { PROJECT } from './image.ts';
import { makeSite, trialHeader } from './site.ts';

const run = promisify(execFile);
const DAEMON =
  process.getuid?.() === 0 &&
  spawnSync('docker', ['info']).status === 0 &&
  spawnSync('docker', ['compose', 'version']).status === 0;
const MINUTES = 60_000;

const suite = () => {
  let folder: string;
  const at = (name: string) => join(folder, name);

  const compose = async (...argv: string[]): Promise<string> => {
    const project = `twofold-test-${process.pid}`;
    const env = { ...process.env, TWOFOLD_SITE: at('site') };
    const options = { cwd: PROJECT, env, maxBuffer: 2 ** 26 };
    return (await run('docker', ['compose', '-p', project, ...argv], options)).stdout;
  };

  const call = async (path: string, body: object): Promise<Record<string, unknown>> => {
    writeFileSync(at('header'), trialHeader(at('site'), 'admin', 'user'), { mode: 0o600 });
    const flags = ['-sS', '--cacert', at('site/ca.pem'), '-H', `@${at('header')}`];
    const url = `https://localhost:8370${path}`;
    const { stdout } = await run('curl', [...flags, '--json', JSON.stringify(body), url]);
    return JSON.parse(stdout) as Record<string, unknown>;
  };

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-docker-'));
    makeSite(at('site'));
    await compose('build');
  }, 15 * MINUTES);
  afterAll(async () => {
    await compose('--profile', 'ceremony', 'down', '--volumes', '--timeout', '60');
    rmSync(folder, { recursive: true, force: true });
  }, 5 * MINUTES);

  it(
    'makes the token and its root',
    async () => {
      expect(await compose('run', '--rm', '-T', 'ceremony')).toContain(
        '"custody":"non-extractable"',
      );
    },
    5 * MINUTES,
  );

  it(
    'serves a hybrid key, and the same after a restart',
    async () => {
      await compose('up', '-d', '--wait');
      await call('/v1/admin/keys', { name: 'first', suite: 'MLKEM768-P256' });
      const plaintext = Buffer.from('a key of the deployment').toString('base64');
      const { ciphertext } = await call('/v1/keys/first/wrap', { plaintext });
      expect(await call('/v1/keys/first/unwrap', { ciphertext })).toMatchObject({ plaintext });
      await compose('down', '--timeout', '60');
      await compose('up', '-d', '--wait');
      expect(await call('/v1/keys/first/unwrap', { ciphertext })).toMatchObject({ plaintext });
    },
    10 * MINUTES,
  );
};

if (DAEMON) describe('the deployment, by Docker', suite);
else {
  it('is not run by Docker here', () => {
    console.warn('Not run here: no Docker daemon answers (as root, with docker compose).');
  });
}
