/** `twofold doctor secrets` finds nothing after every suite was used, and finds what is planted. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import type { Finding } from '../../src/cli/secret-search.ts';
import type { DoctorReport } from '../../src/main/doctor-command.ts';
import { allSoftwareSecrets } from '../../src/keyring/inventory.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { findEmbedded } from '../../src/store/embedded.ts';
import { openStore } from '../../src/store/store.ts';
import { openTokenOf, withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

const root = join(import.meta.dirname, '../..');
const WRAP = ['MLKEM768-P256', 'MLKEM768-X25519', 'MLKEM1024-P384', 'A256GCM'];
const SIGN = ['MLDSA65-ECDSA-P256-SHA512', 'MLDSA87-ECDSA-P384-SHA512'];

let service: TestService;
let logs: string;

beforeAll(async () => {
  service = await TestService.start();
  logs = mkdtempSync(join(tmpdir(), 'twofold-doctor-'));
  await useEverySuite();
}, 180_000);

afterAll(async () => {
  await service.destroy();
  rmSync(logs, { recursive: true, force: true });
});

async function post(path: string, body: unknown, status = 200): Promise<Record<string, unknown>> {
  const answer = await service.request('POST', path, body);
  expect({ path, status: answer.status }).toEqual({ path, status });
  return answer.json;
}

async function useEverySuite(): Promise<void> {
  const plaintext = randomBytes(32).toString('base64');
  for (const [index, suite] of [...WRAP, ...SIGN, 'HS256'].entries()) {
    await post('/v1/admin/keys', { name: `key-${index}`, suite }, 201);
    await post(`/v1/admin/keys/key-${index}/rotate`, {});
    const key = `/v1/keys/key-${index}`;
    if (WRAP.includes(suite)) {
      const { ciphertext } = await post(`${key}/wrap`, { plaintext });
      await post(`${key}/unwrap`, { ciphertext });
      await post(`${key}/rewrap`, { ciphertext });
      await post(`${key}/data-keys`, { bytes: 32 });
      await post(`${key}/unwrap`, { ciphertext: `${String(ciphertext).slice(0, -4)}AAAA` }, 422);
    } else if (SIGN.includes(suite)) {
      const { signature, keyVersion } = await post(`${key}/sign`, { message: plaintext });
      await post(`${key}/verify`, { message: plaintext, signature, keyVersion });
    } else {
      const { mac, keyVersion } = await post(`${key}/mac`, { message: plaintext });
      await post(`${key}/verify-mac`, { message: plaintext, mac, keyVersion });
    }
    await post(`${key}/wrap`, { plaintext, unknown: plaintext }, 400);
  }
}

/** The command as an operator calls it. */
async function doctor(...args: string[]): Promise<{ code: number | null; report: DoctorReport }> {
  const child = spawn(
    join(root, 'scripts/twofold'),
    ['doctor', 'secrets', '--json', '--data', service.dataDir, ...args],
    { env: { ...COMMAND_ENVIRONMENT }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  let complaints = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
  child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number | null];
  if (!output.startsWith('{')) throw new Error(`doctor said: ${output}${complaints}`);
  return { code, report: JSON.parse(output) as DoctorReport };
}

/** Software secrets by name, unsealed beside the running service. */
async function unsealed(): Promise<Map<string, Buffer>> {
  const hsm = await openTokenOf(service.dataDir);
  const store = openStore({ url: findEmbedded(service.dataDir)?.appUrl ?? '' });
  try {
    const opened = await openRoot(hsm, store.roots, new UsageCounters(store.keys), null);
    const secrets = new Map<string, Buffer>();
    for await (const { name, secret } of allSoftwareSecrets(store.keys, opened)) {
      secrets.set(name, Buffer.from(secret.reveal()));
    }
    return secrets;
  } finally {
    await store.close();
    await hsm.close();
  }
}

/** Six pairs of seeds and psks for the KEM suites, four seeds for the composites; PINs, tokens, passwords. */
const SECRETS = 3 * 2 * 2 + 2 * 2 + 6;

describe('twofold doctor secrets', () => {
  it('finds nothing beside a service that was used', async () => {
    const { code, report } = await doctor();
    expect([report.findings, report.tooShort]).toEqual([[], []]);
    expect(code).toBe(0);
    expect(report.secrets).toBe(SECRETS);
    const { places } = report;
    expect(places).toContain('database');
    expect(places).toContain(join(service.dataDir, 'twofold.log'));
    expect(places).toContain(`arguments of process ${service.pid}`);
    expect(places).toContain(`environment of process ${service.pid}`);
  }, 120_000);

  it('finds what is planted, each in its place', async () => {
    const secrets = await unsealed();
    const seed = secrets.get('seed of key-0 version 1') ?? Buffer.alloc(0);
    const psk = secrets.get('psk of key-1 version 2') ?? Buffer.alloc(0);
    expect([seed.length, psk.length]).toEqual([64, 32]);
    const plants = new Plants();
    try {
      await plants.inLogs(seed);
      await plants.inLabels(psk);
      await plants.inArguments();
      await plants.inAudit(secrets.get('seed of key-4 version 1') ?? Buffer.alloc(0));
      const { code, report } = await doctor('--log', plants.log);
      expect(code).toBe(1);
      const found = (what: string, form: string, where: string): Finding[] =>
        report.findings.filter(
          (one) => one.what.endsWith(what) && one.form === form && one.where.endsWith(where),
        );
      const table = 'public.key';
      expect(found('seed of key-0 version 1', 'hex', '/twofold.log')).toHaveLength(1);
      expect(found('/admin.token', 'raw', '/planted.log')).toHaveLength(1);
      expect(found('JWT', 'shape', '/planted.log')).toHaveLength(1);
      expect(found('psk of key-1 version 2', 'base64', table)).toHaveLength(3);
      expect(found('private JWK', 'shape', table)).toHaveLength(1);
      expect(found('/user.pin', 'raw', `arguments of process ${plants.pid}`)).toHaveLength(1);
      expect(found('/so.pin', 'raw', `environment of process ${plants.pid}`)).toHaveLength(1);
      const body = 'bytes in table public.entry_0';
      expect(found('PKCS#8 private key', 'shape', body).length).toBeGreaterThanOrEqual(1);
      // A seed whose base64 has neither + nor / is the same text in both alphabets.
      const url = ['base64', 'base64url'].flatMap((form) =>
        found('seed of key-4 version 1', form, body),
      );
      expect(url).toHaveLength(1);
      const text = JSON.stringify(report);
      const forms = [seed, psk].flatMap((secret) => [
        secret.toString('hex'),
        secret.toString('base64'),
      ]);
      expect(forms.filter((form) => text.includes(form))).toEqual([]);
    } finally {
      await plants.end();
    }
  }, 180_000);

  it('works without a running service, and starts and stops what it needs', async () => {
    await service.stop();
    writeFileSync(join(service.dataDir, 'admin.token'), '1234\n');
    const { report } = await doctor();
    expect(report.secrets).toBe(SECRETS - 1);
    expect(report.tooShort).toEqual([join(service.dataDir, 'admin.token')]);
    // The log file and the rows still hold what was planted.
    expect(report.findings.map(({ what }) => what)).toContain('seed of key-0 version 1');
    expect(findEmbedded(service.dataDir)).toBeNull();
  }, 120_000);

  it('makes nothing in a folder where no service was', () => {
    const folder = join(logs, 'empty');
    const { status, stderr } = spawnSync(
      join(root, 'scripts/twofold'),
      ['doctor', 'secrets', '--data', folder],
      { env: { ...COMMAND_ENVIRONMENT }, encoding: 'utf8' },
    );
    // Not 1, which says that something was found.
    expect(status).toBe(2);
    expect(stderr).toContain('(invalid_value)');
  }, 60_000);
});

/** What an accident could leave in each place. */
class Plants {
  readonly log = join(logs, 'planted.log');
  #process: ChildProcess | undefined;

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  inLogs(seed: Buffer): Promise<void> {
    const line = { level: 30, msg: 'sealed', seed: seed.toString('hex') };
    appendFileSync(join(service.dataDir, 'twofold.log'), `${JSON.stringify(line)}\n`);
    const token = readFileSync(join(service.dataDir, 'admin.token'), 'utf8').trim();
    writeFileSync(this.log, `GET /v1/keys authorization=Bearer ${token} 200\n`);
    return Promise.resolve();
  }

  /** The base64 of something longer, so that the secret begins at each of the three alignments. */
  inLabels(psk: Buffer): Promise<void> {
    return withDatabaseOf(service.dataDir, async (client) => {
      for (const shift of [0, 1, 2]) {
        const around = Buffer.concat([Buffer.alloc(shift, 0x61), psk, Buffer.from('rest')]);
        const labels = JSON.stringify({ note: `x${around.toString('base64')}` });
        await client.query('update public.key set labels = $1 where name = $2', [
          labels,
          `key-${shift}`,
        ]);
      }
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const jwk = JSON.stringify(privateKey.export({ format: 'jwk' }));
      await client.query(`update public.key set labels = $1 where name = 'key-3'`, [jwk]);
    });
  }

  /** A process of ours that names the data folder, as a careless wrapper script would. */
  async inArguments(): Promise<void> {
    const pin = readFileSync(join(service.dataDir, 'hsm', 'user.pin'), 'utf8').trim();
    const soPin = readFileSync(join(service.dataDir, 'hsm', 'ceremony', 'so.pin'), 'utf8').trim();
    const script = 'setTimeout(() => {}, 170_000)';
    this.#process = spawn(process.execPath, ['-e', script, service.dataDir, `--pin=${pin}`], {
      env: { SO_PIN: soPin },
      stdio: 'ignore',
    });
    await once(this.#process, 'spawn');
  }

  /** Entries of a lane that never was, in its partition. */
  inAudit(seed: Buffer): Promise<void> {
    const { privateKey } = generateKeyPairSync('ed25519');
    const bodies = [
      privateKey.export({ format: 'der', type: 'pkcs8' }),
      Buffer.from(`detail: ${seed.toString('base64url')}`),
    ];
    return withDatabaseOf(service.dataDir, async (client) => {
      for (const [index, body] of bodies.entries()) {
        await client.query(
          `insert into public.entry (lane, n, leaf, body, at, namespace, operation, subject, outcome)
            values (1000, $1, $2, $3, now(), 'default', 'planted', '', 'ok')`,
          [index + 1, randomBytes(32), body],
        );
      }
    });
  }

  async end(): Promise<void> {
    if (this.#process === undefined) return;
    this.#process.kill();
    await once(this.#process, 'exit');
  }
}
