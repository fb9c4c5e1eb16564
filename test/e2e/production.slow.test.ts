/** Production mode on parts of its own: TLS, an external PostgreSQL, a configured module, an issuer's key file. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, request } from 'node:https';
import type { Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SignJWT } from 'jose';

import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { runTokenCeremony } from '../../src/hsm/run-ceremony.ts';
import { makeKey } from '../access/issuer-fixture.ts';
import type { TestKey } from '../access/issuer-fixture.ts';
import { softHsmModule } from '../hsm/token-fixture.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { withClient } from '../store/owner.ts';
import { hasPostgres15 } from '../store/postgres-15.ts';

const project = join(import.meta.dirname, '../..');
const ISSUER = 'https://issuer.example';
const LABEL = 'production-token';

let folder: string;
let issuerKey: TestKey;
const file = (name: string) => join(folder, name);
const secret = (name: string, text: string) => {
  writeFileSync(file(name), text, { mode: 0o600 });
  return file(name);
};

/** A certificate of the test's own authority for the loopback address. */
function makeCertificates(): void {
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...key,
    '-subj',
    '/CN=Test CA',
    '-days',
    '2',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  );
  writeFileSync(file('san.cnf'), 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2\n');
  for (const name of ['server', 'database']) {
    openssl(
      'req',
      ...key,
      '-subj',
      '/CN=localhost',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
    );
    const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'san.cnf'];
    openssl('x509', '-req', '-in', `${name}.csr`, ...by, '-days', '2', '-out', `${name}.pem`);
    execFileSync('chmod', ['600', file(`${name}.key`)]);
  }
}

/** A SoftHSM token as an operator would make one: own configuration, PINs in files. */
async function makeToken(): Promise<void> {
  const tokens = file('tokens');
  execFileSync('mkdir', ['-m', '700', tokens]);
  const conf = `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`;
  writeFileSync(file('softhsm2.conf'), conf);
  secret('user.pin', '123456-user\n');
  secret('so.pin', '123456-officer\n');
  const pins = { pinFile: file('user.pin'), soPinFile: file('so.pin') };
  const softhsmConf = file('softhsm2.conf');
  const module = softHsmModule();
  await runTokenCeremony({ action: 'init-token', module, label: LABEL, ...pins }, { softhsmConf });
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-production-'));
  makeCertificates();
  await makeToken();
  issuerKey = await makeKey('ES256', 'key-1');
  writeFileSync(file('jwks.json'), JSON.stringify({ keys: [issuerKey.jwk] }));
}, 60_000);
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const settings = (databaseUrls: Record<string, string>, data: string): Record<string, string> => ({
  TWOFOLD_DATA: file(data),
  TWOFOLD_PORT: '0',
  TWOFOLD_METRICS_PORT: '0',
  TWOFOLD_HTTP_TLS_CERT_FILE: file('server.pem'),
  TWOFOLD_HTTP_TLS_KEY_FILE: file('server.key'),
  TWOFOLD_PKCS11_MODULE: softHsmModule(),
  TWOFOLD_HSM_TOKEN_LABEL: LABEL,
  TWOFOLD_HSM_PIN_FILE: file('user.pin'),
  TWOFOLD_ACCESS_INITIAL_POLICIES: 'roles',
  TWOFOLD_ISSUERS: JSON.stringify([
    { issuer: ISSUER, audience: 'kms', jwksFile: file('jwks.json'), algorithms: ['ES256'] },
  ]),
  SOFTHSM2_CONF: file('softhsm2.conf'),
  ...databaseUrls,
});

const without = (environment: Record<string, string>, ...names: readonly string[]) =>
  Object.fromEntries(Object.entries(environment).filter(([name]) => !names.includes(name)));

const processEnvironment = (environment: Record<string, string>) => ({
  ...COMMAND_ENVIRONMENT,
  HOME: folder,
  ...environment,
});

/** A production service; `stop` ends it in order. */
class Production {
  readonly child: ChildProcess;
  output = '';

  constructor(environment: Record<string, string>) {
    this.child = spawn('/bin/sh', [join(project, 'scripts/launch'), 'serve'], {
      cwd: folder,
      env: processEnvironment(environment),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (chunk: Buffer) => (this.output += chunk.toString('utf8')));
    }
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async ready(): Promise<URL> {
    const until = performance.now() + 60_000;
    for (;;) {
      const [, url] = /is ready at (https:\S+)/u.exec(this.output) ?? [];
      if (url !== undefined) return new URL(url);
      if (!this.running || performance.now() > until) throw new Error(`not ready:\n${this.output}`);
      await sleep(20);
    }
  }

  async ended(): Promise<number | null> {
    if (this.running) await once(this.child, 'exit');
    return this.child.exitCode;
  }

  async stop(): Promise<number | null> {
    if (this.running) this.child.kill('SIGTERM');
    return this.ended();
  }
}

async function refusal(environment: Record<string, string>): Promise<string> {
  const service = new Production(environment);
  expect(await service.ended()).toBe(1);
  return service.output;
}

async function makeRoot(
  environment: Record<string, string>,
  ...flags: string[]
): Promise<{ made: boolean; custody: string; installation: string }> {
  const { stdout } = await promisify(execFile)(
    '/bin/sh',
    [join(project, 'scripts/twofold'), 'hsm', 'make-root', ...flags],
    { cwd: folder, env: processEnvironment(environment) },
  );
  return JSON.parse(stdout) as { made: boolean; custody: string; installation: string };
}

async function token(roles: readonly string[]): Promise<string> {
  return new SignJWT({ roles: [...roles] })
    .setProtectedHeader({ alg: 'ES256', kid: 'key-1', typ: 'JWT' })
    .setIssuer(ISSUER)
    .setAudience('kms')
    .setSubject('alice')
    .setIssuedAt()
    .setExpirationTime('10m')
    .sign(issuerKey.privateKey);
}

interface Answer {
  readonly status: number;
  readonly json: Record<string, unknown>;
}

/** One request over TLS that trusts the test's authority alone. */
async function call(url: URL, method: string, path: string, body?: object): Promise<Answer> {
  const authorization = `Bearer ${await token(['admin', 'user'])}`;
  const message = request(new URL(path, url), {
    method,
    ca: readFileSync(file('ca.pem')),
    headers: {
      authorization,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    agent: false,
  });
  message.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(message, 'response')) as [
    AsyncIterable<Buffer> & { readonly statusCode?: number },
  ];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  const json = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Record<string, unknown>;
  return { status: response.statusCode ?? 0, json };
}

async function text(url: URL): Promise<string> {
  const message = request(url, { ca: readFileSync(file('ca.pem')), agent: false }).end();
  const [response] = (await once(message, 'response')) as [AsyncIterable<Buffer>];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

async function expectServes(url: URL, name: string): Promise<void> {
  const suite = 'MLKEM768-P256';
  const made = await call(url, 'POST', '/v1/admin/keys', { name, suite });
  expect([made.status, made.json['code']]).toEqual([201, undefined]);
  const plaintext = Buffer.from('a data key').toString('base64');
  const wrapped = await call(url, 'POST', `/v1/keys/${name}/wrap`, { plaintext });
  const { ciphertext } = wrapped.json;
  const opened = await call(url, 'POST', `/v1/keys/${name}/unwrap`, { ciphertext });
  expect(opened.json).toMatchObject({ plaintext, origin: 'service' });
}

async function handshake(url: URL, options: object): Promise<TLSSocket> {
  const socket = connect({
    host: url.hostname,
    port: Number(url.port),
    ca: readFileSync(file('ca.pem')),
    ...options,
  });
  await Promise.race([
    once(socket, 'secureConnect'),
    once(socket, 'close').then(() => Promise.reject(new Error('refused'))),
  ]);
  return socket;
}

describe('a production service', () => {
  let database: TestDatabase;
  let environment: Record<string, string>;
  let installation: string;
  const servers: Server[] = [];

  beforeAll(async () => {
    database = await startTestDatabase();
    environment = settings(
      { DATABASE_URL: database.appUrl, TWOFOLD_DATABASE_OWNER_URL: database.ownerUrl },
      'data',
    );
  }, 60_000);
  afterAll(async () => {
    for (const server of servers) server.close();
    await database.stop();
  }, 60_000);

  it('does not start without TLS, on no address, and not without what production needs', async () => {
    const plain = without(environment, 'TWOFOLD_HTTP_TLS_CERT_FILE', 'TWOFOLD_HTTP_TLS_KEY_FILE');
    expect(await refusal(plain)).toMatch(/production serves TLS only/u);
    expect(await refusal({ ...plain, TWOFOLD_HTTP_HOST: '0.0.0.0' })).toMatch(/not loopback/u);
    const dev = { ...plain, TWOFOLD_MODE: 'dev', TWOFOLD_HTTP_HOST: '0.0.0.0' };
    expect(await refusal(dev)).toMatch(/not loopback/u);
    const nobody = without(environment, 'TWOFOLD_ISSUERS');
    expect(await refusal(nobody)).toMatch(/issuers.*needed in production/u);
  }, 90_000);

  it('without a root says what to run, makes none itself, and intends none', async () => {
    const output = await refusal(environment);
    expect(output).toMatch(/hsm make-root/u);
    const rows = await withClient(database.ownerUrl, (client) =>
      client.query('select 1 from root_generation'),
    );
    expect(rows.rowCount).toBe(0);
  }, 60_000);

  it('has its root made by the operator, once however often the command runs', async () => {
    const made = await makeRoot(environment, '--so-pin-file', file('so.pin'));
    expect(made).toMatchObject({ made: true, custody: 'non-extractable' });
    ({ installation } = made);
    for (const flags of [['--so-pin-file', file('so.pin')], []]) {
      expect(await makeRoot(environment, ...flags)).toMatchObject({
        made: false,
        installation,
        custody: 'non-extractable',
      });
    }
    expect(statSync(file('so.pin')).mode & 0o077).toBe(0);
  }, 90_000);

  it('starts, serves hybrid keys over TLS 1.3 alone with the hybrid group first, and stops', async () => {
    const service = new Production(environment);
    try {
      const url = await service.ready();
      await expectServes(url, 'first');
      const whoami = await call(url, 'GET', '/v1/whoami');
      expect(whoami.json).toMatchObject({ subject: 'alice' });

      const socket = await handshake(url, {});
      expect(socket.getProtocol()).toBe('TLSv1.3');
      socket.destroy();
      const hybrid = await handshake(url, { ecdhCurve: 'X25519MLKEM768' });
      hybrid.destroy();
      await expect(handshake(url, { maxVersion: 'TLSv1.2' })).rejects.toThrow();
      await expect(fetch(`http://${url.host}/healthz`)).rejects.toThrow();

      const owned = await withClient(database.appUrl, async (client) => {
        const { rows } = await client.query<{ n: number; who: string }>(
          `select current_user as who, (select count(*)::int from pg_tables
             where schemaname = 'public' and tableowner = current_user) as n`,
        );
        return rows[0];
      });
      expect(owned).toEqual({ who: 'twofold_app', n: 0 });
      expect(service.output).not.toContain('123456-user');
    } finally {
      expect(await service.stop()).toBe(0);
    }
  }, 120_000);

  it('starts again by slot, without the owner, on the same keys', async () => {
    const rest = without(environment, 'TWOFOLD_HSM_TOKEN_LABEL', 'TWOFOLD_DATABASE_OWNER_URL');
    const slot = slotOf();
    const service = new Production({ ...rest, TWOFOLD_HSM_SLOT: slot });
    try {
      const url = await service.ready();
      const again = await call(url, 'POST', '/v1/keys/first/wrap', { plaintext: '' });
      expect(again.status).toBe(200);
      expect(
        (await call(url, 'POST', '/v1/admin/keys', { name: 'first', suite: 'A256GCM' })).status,
      ).toBe(409);
    } finally {
      expect(await service.stop()).toBe(0);
    }
  }, 90_000);

  it('takes keys over https under a private authority, and has admin and metrics apart', async () => {
    const jwksUrl = await serveKeySet();
    const issuer = { issuer: ISSUER, audience: 'kms', jwksUrl, algorithms: ['ES256'] };
    const tls = (name: string) => ({
      [`TWOFOLD_${name}_TLS_CERT_FILE`]: file('server.pem'),
      [`TWOFOLD_${name}_TLS_KEY_FILE`]: file('server.key'),
    });
    const apart = {
      ...environment,
      TWOFOLD_ISSUERS: JSON.stringify([{ ...issuer, maxLifetime: 600 }]),
      TWOFOLD_ADMIN_PORT: '0',
      TWOFOLD_METRICS_HOST: '127.0.0.2',
      ...tls('ADMIN'),
      ...tls('METRICS'),
    };
    const trusting = new Production({ ...apart, NODE_EXTRA_CA_CERTS: file('ca.pem') });
    try {
      const url = await trusting.ready();
      const [, admin = '', metrics = ''] =
        /^admin +(https:.*)\n(?:.*\n)*?metrics +(https:\/\/127\.0\.0\.2:.*)$/mu.exec(
          trusting.output,
        ) ?? [];
      expect((await call(url, 'POST', '/v1/keys/first/wrap', { plaintext: '' })).status).toBe(200);
      const key = { name: 'apart', suite: 'A256GCM' };
      expect((await call(url, 'POST', '/v1/admin/keys', key)).status).toBe(404);
      expect((await call(new URL(admin), 'POST', '/v1/admin/keys', key)).status).toBe(201);
      expect(await text(new URL(metrics))).toContain('twofold_ready');
      await expect(fetch(metrics.replace('https:', 'http:'))).rejects.toThrow();
    } finally {
      expect(await trusting.stop()).toBe(0);
    }
    const wary = new Production(apart);
    try {
      expect((await call(await wary.ready(), 'GET', '/v1/whoami')).status).toBe(401);
    } finally {
      expect(await wary.stop()).toBe(0);
    }
  }, 120_000);

  it('waits for a token that is not there, and makes none in the empty slot', async () => {
    const before = contentOf(file('tokens'));
    const service = new Production({ ...environment, TWOFOLD_HSM_TOKEN_LABEL: 'not-there' });
    try {
      while (!service.output.includes('token-absent')) {
        if (!service.running) throw new Error(service.output);
        await sleep(20);
      }
      await sleep(2_000);
      expect(service.running).toBe(true);
    } finally {
      expect(await service.stop()).toBe(0);
    }
    expect(contentOf(file('tokens'))).toEqual(before);
  }, 60_000);

  /** Everything below a folder: path and bytes. */
  const contentOf = (path: string): Map<string, string> =>
    new Map(
      readdirSync(path, { recursive: true, withFileTypes: true }).map((entry) => {
        const name = join(entry.parentPath, entry.name);
        return [name, entry.isFile() ? readFileSync(name, 'base64') : ''];
      }),
    );

  /** The issuer's address, under the test's authority; closed with the suite. */
  async function serveKeySet(): Promise<string> {
    const identity = {
      cert: readFileSync(file('server.pem')),
      key: readFileSync(file('server.key')),
    };
    const server = createServer(identity, (_, response) => {
      response.end(JSON.stringify({ keys: [issuerKey.jwk] }));
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `https://127.0.0.1:${String((server.address() as AddressInfo).port)}/jwks.json`;
  }

  /** The slot that SoftHSM gave the token, as a configuration names it. */
  function slotOf(): string {
    const script = [
      `import { loadAlone } from '${project}/src/hsm/module.ts';`,
      `const c = loadAlone(${JSON.stringify(softHsmModule())});`,
      `const [slot] = c.C_GetSlotList(true).filter((s) => c.C_GetTokenInfo(s).label.trim() === '${LABEL}');`,
      `process.stdout.write(String(slot.readUInt32LE(0))); c.C_Finalize();`,
    ].join('\n');
    return execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      env: { SOFTHSM2_CONF: file('softhsm2.conf') },
      encoding: 'utf8',
    });
  }
});

(hasPostgres15 ? describe : describe.skip)('PostgreSQL 15 over TLS', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await startTestDatabase({ major: 15 });
    await requireTls(database);
  }, 60_000);
  afterAll(() => database.stop(), 60_000);

  /** The test's certificate in the cluster, and TLS for whoever comes over the network. */
  async function requireTls(own: TestDatabase): Promise<void> {
    const superuser = new URL(own.ownerUrl);
    superuser.username = 'postgres';
    const data = readFileSync(`/proc/${String(own.pid())}/cmdline`, 'utf8').split('\0')[2] ?? '';
    const { uid, gid } = statSync(data);
    for (const [from, to] of [
      ['database.pem', 'server.crt'],
      ['database.key', 'server.key'],
    ] as const) {
      writeFileSync(join(data, to), readFileSync(file(from)), { mode: 0o600 });
      chownSync(join(data, to), uid, gid);
    }
    writeFileSync(join(data, 'pg_hba.conf'), 'hostssl all all 127.0.0.1/32 trust\n');
    await withClient(superuser.toString(), async (client) => {
      await client.query('alter system set ssl = on');
      await client.query('select pg_reload_conf()');
    });
  }

  const urls = ({ appUrl, ownerUrl }: TestDatabase, mode: string) => {
    const url = (text: string) => `${text.replace('127.0.0.1', 'localhost')}?sslmode=${mode}`;
    return { DATABASE_URL: url(appUrl), TWOFOLD_DATABASE_OWNER_URL: url(ownerUrl) };
  };

  it('is used with verify-full under the test authority, and not under another or without TLS', async () => {
    const own = settings(urls(database, 'verify-full'), 'data-15');
    const trusting = { ...own, TWOFOLD_DATABASE_CA_FILE: file('ca.pem') };
    expect(await refusal(own)).toMatch(/refuses us: .*certificate.*\(database_unavailable\)/u);
    const plain = settings(urls(database, 'disable'), 'data-15');
    expect(await refusal(plain)).toMatch(/refuses us: .*no encryption\. \(database_unavailable\)/u);
    // The token's root is that of the database before: nothing begins over it.
    expect(await refusal(trusting)).toMatch(/is in use, but .*\(integrity_failed\)/u);
    const other = { ...trusting, TWOFOLD_HSM_TOKEN_LABEL: 'another' };
    await promisify(execFile)(
      '/bin/sh',
      [join(project, 'scripts/twofold'), 'hsm', 'init', '--so-pin-file', file('so.pin')],
      { cwd: folder, env: processEnvironment(other) },
    );
    const service = new Production(other);
    try {
      await expectServes(await service.ready(), 'over-tls');
    } finally {
      expect(await service.stop()).toBe(0);
    }
  }, 120_000);
});
