/**
 * A production service whose own secrets are changed under load, one after the other: certificates,
 * issuer keys, the database's password, the user PIN. No request fails, and each old secret is refused.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { X509Certificate, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SignJWT } from 'jose';
import pg from 'pg';

import { runTokenCeremony } from '../../src/hsm/run-ceremony.ts';
import { makeKey } from '../access/issuer-fixture.ts';
import type { TestKey } from '../access/issuer-fixture.ts';
import { softHsmModule } from '../hsm/token-fixture.ts';
import { useTokenAs } from '../hsm/use-token.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { eventually } from '../store/eventually.ts';
import { withClient } from '../store/owner.ts';

const project = join(import.meta.dirname, '../..');
const ISSUER = 'https://issuer.example';
const LABEL = 'rotating-token';
const PIN = '123456-user';
const NEXT_PIN = '654321-user';

let folder: string;
let database: TestDatabase;
let child: ChildProcess;
let output = '';
let keys: readonly [TestKey, TestKey];
let role: pg.Client;
const file = (name: string) => join(folder, name);
const put = (name: string, text: string | Buffer) => {
  writeFileSync(file(`${name}.new`), text, { mode: 0o600 });
  renameSync(file(`${name}.new`), file(name));
};

/** A pair of the test's authority in a folder of its own. */
function makePair(name: string): void {
  mkdirSync(file(name));
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: file(name), stdio: 'ignore' });
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const subject = ['-subj', '/CN=localhost'];
  openssl('req', ...ec, ...subject, '-keyout', 'server.key', '-out', 'server.csr');
  const by = ['-CA', '../ca.pem', '-CAkey', '../ca.key', '-CAcreateserial', '-days', '2'];
  openssl('x509', '-req', '-in', 'server.csr', ...by, '-extfile', '../san', '-out', 'server.pem');
  execFileSync('chmod', ['600', file(`${name}/server.key`)]);
}

/** As a secret volume does it: one rename of a symbolic link switches all files. */
function switchTo(name: string): void {
  symlinkSync(name, file('..next'));
  renameSync(file('..next'), file('..data'));
}

const fingerprint = (name: string): string =>
  new X509Certificate(readFileSync(file(`${name}/server.pem`))).fingerprint256;

async function served(url: URL): Promise<string> {
  const { hostname: host, port } = url;
  const socket = connect({ host, port: Number(port), ca: readFileSync(file('ca.pem')) });
  await once(socket, 'secureConnect');
  const found = socket.getPeerX509Certificate()?.fingerprint256 ?? '';
  socket.destroy();
  return found;
}

const text = () => randomBytes(12).toString('base64url');
let password = text();
const urlWith = (secret: string): string => {
  const url = new URL(database.appUrl);
  url.password = secret;
  return url.toString();
};
const logsIn = (secret: string): Promise<boolean> =>
  withClient(urlWith(secret), () => Promise.resolve(true)).catch(() => false);

async function startService(): Promise<void> {
  const listener = (name: string) => ({
    [`TWOFOLD_${name}_TLS_CERT_FILE`]: file('..data/server.pem'),
    [`TWOFOLD_${name}_TLS_KEY_FILE`]: file('..data/server.key'),
  });
  const environment = {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    TWOFOLD_DATA: file('data'),
    TWOFOLD_PORT: '0',
    TWOFOLD_ADMIN_PORT: '0',
    TWOFOLD_METRICS_PORT: '0',
    ...listener('HTTP'),
    ...listener('ADMIN'),
    ...listener('METRICS'),
    TWOFOLD_PKCS11_MODULE: softHsmModule(),
    TWOFOLD_HSM_TOKEN_LABEL: LABEL,
    TWOFOLD_HSM_PIN_FILE: file('user.pin'),
    TWOFOLD_ACCESS_INITIAL_POLICIES: 'roles',
    TWOFOLD_ISSUERS: JSON.stringify([
      { issuer: ISSUER, audience: 'kms', jwksFile: file('jwks.json'), algorithms: ['ES256'] },
    ]),
    SOFTHSM2_CONF: file('softhsm2.conf'),
    DATABASE_URL: urlWith(''),
    TWOFOLD_DATABASE_PASSWORD_FILE: file('server.password'),
  };
  const launch = join(project, 'scripts/launch');
  const root = ['hsm', 'make-root', '--so-pin-file', file('so.pin')];
  await promisify(execFile)('/bin/sh', [launch, ...root], { cwd: folder, env: environment });
  child = spawn('/bin/sh', [launch, 'serve', '--workers', WORKERS], {
    cwd: folder,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
  }
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(output);
    return /is ready at/u.test(output);
  }, 90_000);
}

/** Two, so that what a worker's end costs can be seen: the other one serves. */
const WORKERS = '2';

const urlAt = (pattern: RegExp): URL => new URL(pattern.exec(output)?.[1] ?? '');
const mainUrl = () => urlAt(/is ready at (https:\S+)/u);
const adminUrl = () => urlAt(/^admin +(https:\S+)/mu);
const metricsUrl = () => urlAt(/^metrics +(https:\S+)/mu);

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${String(pid)}/task/${String(pid)}/children`, 'utf8')
    .trim()
    .split(' ')
    .map(Number);

/** Which key signs the tokens of the load. */
let signer: TestKey;
const token = (key: TestKey): Promise<string> =>
  new SignJWT({ roles: ['admin', 'user'] })
    .setProtectedHeader({ alg: 'ES256', kid: key.jwk.kid ?? '', typ: 'JWT' })
    .setIssuer(ISSUER)
    .setAudience('kms')
    .setSubject('alice')
    .setIssuedAt()
    .setExpirationTime('10m')
    .sign(key.privateKey);

interface Answer {
  readonly status: number;
  readonly body: string;
}

async function call(
  url: URL,
  method: string,
  bearer: string | null,
  body?: object,
  agent: Agent | false = false,
): Promise<Answer> {
  const message = request(url, {
    method,
    ca: readFileSync(file('ca.pem')),
    agent,
    headers: {
      ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
  });
  message.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(message, 'response')) as [
    AsyncIterable<Buffer> & { readonly statusCode?: number },
  ];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return { status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') };
}

/** Wraps and unwraps over kept connections and over new ones; every answer but 200 is a failure. */
class Load {
  readonly failures: unknown[] = [];
  done = 0;
  #stopped = false;
  readonly #agents: readonly (Agent | false)[] = [new Agent({ keepAlive: true }), false, false];
  readonly #running = this.#agents.map((agent) => this.#run(agent));

  async stop(): Promise<readonly unknown[]> {
    this.#stopped = true;
    await Promise.all(this.#running);
    for (const agent of this.#agents) if (agent !== false) agent.destroy();
    return this.failures;
  }

  async progress(): Promise<void> {
    const { done } = this;
    await eventually(async () => this.done > done + 30, 60_000);
  }

  async #run(agent: Agent | false): Promise<void> {
    const plaintext = Buffer.from('a data key').toString('base64');
    const post = async (path: string, body: object) => {
      const url = new URL(`/v1/keys/load/${path}`, mainUrl());
      const { status, body: answer } = await call(url, 'POST', await token(signer), body, agent);
      if (status !== 200) throw new Error(`${String(status)} ${answer}`);
      return JSON.parse(answer) as Record<string, unknown>;
    };
    while (!this.#stopped) {
      try {
        const { ciphertext } = await post('wrap', { plaintext });
        const opened = await post('unwrap', { ciphertext });
        if (opened['plaintext'] !== plaintext) throw new Error('another plaintext');
        this.done += 1;
      } catch (error) {
        this.failures.push(error);
      }
    }
  }
}

const reloadsOf = (what: string): Promise<number> =>
  withClient(database.ownerUrl, async (client) => {
    const { rows } = await client.query<{ n: number }>(
      `select count(*)::int as n from entry
        where operation = 'system.reload' and position(convert_to($1, 'UTF8') in body) > 0`,
      [what],
    );
    return rows[0]?.n ?? 0;
  });

const secretsCheck = async (): Promise<unknown> => {
  const { status, body } = await call(new URL('/readyz', mainUrl()), 'GET', null);
  const { checks } = JSON.parse(body) as { checks: { name: string; state: string }[] };
  return [status, checks.find(({ name }) => name === 'secrets')?.state];
};

const bothReady = async (): Promise<boolean> => {
  const { body } = await call(new URL('/readyz', mainUrl()), 'GET', null);
  return /"ready":2,"of":2/u.test(body);
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-rotation-'));
  const ca = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const made = ['-subj', '/CN=Test CA', '-keyout', 'ca.key', '-out', 'ca.pem'];
  execFileSync('openssl', ['req', '-x509', ...ca, ...made], { cwd: folder, stdio: 'ignore' });
  writeFileSync(file('san'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  for (const name of ['one', 'two', 'three']) makePair(name);
  switchTo('one');
  mkdirSync(file('tokens'), { mode: 0o700 });
  const conf = `directories.tokendir = ${file('tokens')}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`;
  writeFileSync(file('softhsm2.conf'), conf);
  put('user.pin', `${PIN}\n`);
  put('so.pin', '123456-officer\n');
  const pins = { pinFile: file('user.pin'), soPinFile: file('so.pin') };
  const ceremony = {
    action: 'init-token',
    module: softHsmModule(),
    label: LABEL,
    ...pins,
  } as const;
  await runTokenCeremony(ceremony, { softhsmConf: file('softhsm2.conf') });
  keys = [await makeKey('ES256', 'key-1'), await makeKey('ES256', 'key-2')];
  [signer] = keys;
  put('jwks.json', JSON.stringify({ keys: [keys[0].jwk] }));
  database = await startTestDatabase();
  role = new pg.Client({ connectionString: database.appUrl });
  await role.connect();
  await role.query(`alter role twofold_app password '${password}'`);
  put('server.password', `${password}\n`);
  await startService();
  await eventually(bothReady, 60_000);
  const create = new URL('/v1/admin/keys', adminUrl());
  const key = { name: 'load', suite: 'MLKEM768-P256' };
  expect((await call(create, 'POST', await token(signer), key)).status).toBe(201);
}, 180_000);

afterAll(async () => {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  await role.end();
  await database.stop();
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

describe('under load', () => {
  let load: Load;
  beforeAll(async () => {
    load = new Load();
    await load.progress();
  }, 90_000);
  afterAll(async () => {
    await load.stop();
  }, 60_000);

  const everywhere = async (name: string): Promise<boolean> => {
    const urls = [mainUrl(), adminUrl(), metricsUrl()];
    // Connections go to the workers in turn.
    const found = await Promise.all([...urls, ...urls, ...urls].map(served));
    return found.every((each) => each === fingerprint(name));
  };

  it('certificates of all listeners change by the switch of a link', async () => {
    expect(await everywhere('one')).toBe(true);
    switchTo('two');
    await eventually(() => everywhere('two'), 30_000);
    await load.progress();
    for (let n = 0; n < 5; n += 1) expect(await everywhere('two')).toBe(true);
    expect(load.failures).toEqual([]);
    const { body } = await call(new URL('/metrics', metricsUrl()), 'GET', null);
    expect(body).toMatch(/twofold_certificate_expires_seconds\{kind="admin",worker="2"\} \d{5}/u);
    await eventually(async () => (await reloadsOf('http.tls')) >= 2);
  }, 120_000);

  it('a half-written certificate is never served; it is said, and taken when it is whole', async () => {
    const certificate = readFileSync(file('three/server.pem'));
    mkdirSync(file('torn'));
    writeFileSync(file('torn/server.pem'), certificate.subarray(0, certificate.length / 2));
    writeFileSync(file('torn/server.key'), readFileSync(file('two/server.key')), { mode: 0o600 });
    switchTo('torn');
    await eventually(async () => (await secretsCheck())?.toString() === '200,refused', 30_000);
    expect(await everywhere('two')).toBe(true);
    // Whole, but the key is still the former one's.
    writeFileSync(file('torn/server.pem'), certificate);
    child.kill('SIGHUP');
    await load.progress();
    expect(await everywhere('two')).toBe(true);
    expect(await secretsCheck()).toEqual([200, 'refused']);
    writeFileSync(file('torn/server.key'), readFileSync(file('three/server.key')), { mode: 0o600 });
    child.kill('SIGHUP');
    await eventually(() => everywhere('three'), 30_000);
    await eventually(async () => (await secretsCheck())?.toString() === '200,ok', 30_000);
    expect(load.failures).toEqual([]);
  }, 120_000);

  it('issuer keys overlap, and the old one is refused within seconds of its end', async () => {
    const old = await token(keys[0]);
    const whoami = new URL('/v1/whoami', mainUrl());
    expect((await call(whoami, 'GET', old)).status).toBe(200);
    put('jwks.json', JSON.stringify({ keys: [keys[0].jwk, keys[1].jwk] }));
    await eventually(async () => (await reloadsOf('issuers')) >= 2);
    [, signer] = keys;
    await load.progress();
    put('jwks.json', JSON.stringify({ keys: [keys[1].jwk] }));
    const refused = async () => (await call(whoami, 'GET', old)).status === 401;
    // Connections go to the workers in turn.
    const everywhereRefused = async (): Promise<boolean> => {
      for (let n = 0; n < 6; n += 1) if (!(await refused())) return false;
      return true;
    };
    await eventually(everywhereRefused, 20_000);
    expect(await everywhereRefused()).toBe(true);
    await load.progress();
    expect(load.failures).toEqual([]);
  }, 120_000);

  it('the password of the database: file first, then role, and every connection made anew', async () => {
    const [old, next] = [password, text()];
    put('server.password', next);
    await load.progress();
    await role.query(`alter role twofold_app password '${next}'`);
    password = next;
    await role.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'twofold' and pid <> pg_backend_pid()`,
    );
    await load.progress();
    await eventually(async () => (await reloadsOf('database.password')) >= 2, 30_000);
    expect(await logsIn(old)).toBe(false);
    expect(await logsIn(next)).toBe(true);
    expect(load.failures).toEqual([]);
  }, 120_000);

  it('SIGHUP a thousand times ends nothing and fails nothing', async () => {
    for (let n = 0; n < 1_000; n += 1) {
      child.kill('SIGHUP');
      if (n % 50 === 0) await sleep(1);
    }
    await load.progress();
    expect(child.exitCode).toBeNull();
    expect(load.failures).toEqual([]);
  }, 120_000);

  it('the user PIN: a worker that is replaced logs in with the new one, and the old one is refused', async () => {
    const place = {
      module: softHsmModule(),
      softhsmConf: file('softhsm2.conf'),
      tokenLabel: LABEL,
    };
    expect(await useTokenAs(place, PIN, NEXT_PIN)).toBe('ok');
    await load.progress();
    put('user.pin', `${NEXT_PIN}\n`);
    await eventually(async () => (await reloadsOf('hsm.pin')) >= 2, 30_000);
    await load.progress();
    expect(await load.stop()).toEqual([]);
    const [first = 0] = childrenOf(child.pid ?? 0);
    process.kill(first, 'SIGKILL');
    await eventually(async () => !(await bothReady()), 30_000);
    await eventually(bothReady, 60_000);
    expect(await useTokenAs(place, PIN)).toBe('160');
  }, 180_000);

  it('says no secret in its output', async () => {
    expect(await load.stop()).toEqual([]);
    const log = output;
    expect(log).toContain('the certificate of a listener has changed');
    for (const secret of [PIN, NEXT_PIN, password]) expect(log).not.toContain(secret);
  }, 60_000);
});
