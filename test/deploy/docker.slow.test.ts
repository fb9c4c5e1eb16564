/**
 * The compose file by Docker itself, where a daemon runs: built, its ceremony, up, a key over TLS, a
 * restart, for the single zone and for the first of three. Takes the ports 8370, 8371, 8380 and 8381 of
 * loopback, and removes all that it made but the images. A daemon elsewhere than at its usual socket is
 * named by DOCKER_HOST; it has to see this clone and the folder of temporary files under the same paths.
 */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
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

const PROFILES = ['ceremony', 'zones'].flatMap((name) => ['--profile', name]);
let folder: string;
const at = (name: string) => join(folder, name);

const compose = async (...argv: string[]): Promise<string> => {
  const docker = ['compose', '-p', `twofold-test-${process.pid}`];
  const env = { ...process.env, TWOFOLD_SITE: at('site') };
  const options = { cwd: PROJECT, env, maxBuffer: 2 ** 26 };
  try {
    return (await run('docker', [...docker, ...argv], options)).stdout;
  } catch (error) {
    // What failed is said by the containers, which are gone afterwards.
    const { stdout } = await run('docker', [...docker, ...PROFILES, 'logs', '--tail=50'], options);
    throw new Error(`${(error as Error).message}\n${stdout}`, { cause: error });
  }
};

const call = async (port: number, path: string, body: object): Promise<Record<string, unknown>> => {
  writeFileSync(at('header'), trialHeader(at('site'), 'admin', 'user'), { mode: 0o600 });
  const flags = ['-sS', '--cacert', at('site/ca.pem'), '-H', `@${at('header')}`];
  const url = `https://localhost:${String(port)}${path}`;
  const { stdout } = await run('curl', [...flags, '--json', JSON.stringify(body), url]);
  return JSON.parse(stdout) as Record<string, unknown>;
};

/** Makes a key and wraps with it; unwrapping is the caller's. */
const wrapped = async (port: number) => {
  const plaintext = Buffer.from('a key of the deployment').toString('base64');
  await call(port, '/v1/admin/keys', { name: 'first', suite: 'MLKEM768-P256' });
  const { ciphertext } = await call(port, '/v1/keys/first/wrap', { plaintext });
  return { ciphertext, plaintext };
};

const suite = (build: readonly string[], cases: () => void) => () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-docker-'));
    makeSite(at('site'));
    await compose(...build);
  }, 20 * MINUTES);
  afterAll(async () => {
    await compose(...PROFILES, 'down', '--volumes', '--timeout', '60');
    rmSync(folder, { recursive: true, force: true });
  }, 5 * MINUTES);
  cases();
};

const single = () => {
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
      const { ciphertext, plaintext } = await wrapped(8370);
      const unwrap = () => call(8370, '/v1/keys/first/unwrap', { ciphertext });
      expect(await unwrap()).toMatchObject({ plaintext });
      await compose('down', '--timeout', '60');
      await compose('up', '-d', '--wait');
      expect(await unwrap()).toMatchObject({ plaintext });
    },
    10 * MINUTES,
  );
};

const zones = () => {
  it(
    'serves a hybrid key from a cluster, and the same after its servers were restarted',
    async () => {
      await compose('--profile', 'zones', 'up', '-d', '--wait', 'proxy');
      const init = ['hsm', 'init', '--so-pin-file', '/run/secrets/so_pin'];
      expect(await compose('run', '--rm', '-T', 'operator-1', ...init)).toContain('"made":true');
      await compose('--profile', 'zones', 'up', '-d', '--wait', 'zone-1');
      const { ciphertext, plaintext } = await wrapped(8380);
      const unwrap = () => call(8380, '/v1/keys/first/unwrap', { ciphertext });
      expect(await unwrap()).toMatchObject({ plaintext });
      // The containers stay, and so do the folders that their mounts were made on.
      await compose('restart', 'patroni-1', 'patroni-2', 'patroni-3');
      const until = performance.now() + 5 * MINUTES;
      let answer = await unwrap();
      while (answer['plaintext'] !== plaintext && performance.now() < until) {
        await sleep(1000);
        answer = await unwrap();
      }
      expect(answer).toMatchObject({ plaintext });
      await compose('--profile', 'zones', 'up', '-d', '--wait', 'patroni-1', 'patroni-2');
    },
    20 * MINUTES,
  );
};

if (DAEMON) {
  describe('the deployment, by Docker', suite(['build'], single));
  describe('three zones, by Docker', suite(['--profile', 'zones', 'build'], zones));
} else {
  it('is not run by Docker here', () => {
    console.warn('Not run here: no Docker daemon answers (as root, with docker compose).');
  });
}
