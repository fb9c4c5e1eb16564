/** Twofold in each zone, in production mode: TLS, HAProxy's address of the primary, a token of its own. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import { SignJWT } from 'jose';

import { runTokenCeremony } from '../../src/hsm/run-ceremony.ts';
import { START_AGAIN } from '../../src/main/exit.ts';
import { makeKey } from '../access/issuer-fixture.ts';
import type { TestKey } from '../access/issuer-fixture.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import type { Answer } from '../e2e/service.ts';
import { softHsmModule } from '../hsm/token-fixture.ts';
import { addressOf, namespaceOf, ZONES } from './cluster.ts';
import type { Cluster, Zone } from './cluster.ts';
import { ZoneClient } from './zone-client.ts';
import type { ZoneAddress } from './zone-client.ts';

const project = join(import.meta.dirname, '../..');
const ISSUER = 'https://issuer.example';
const LABEL = 'zones-token';
const PORT = 8370;
/** Debian's package `faketime`. */
export const FAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';
/** Of a start; seconds where the machine is not overloaded. */
const READY_MS = 180_000;

const managers = () => ZONES.map((zone) => `http://${addressOf(zone)}:8008`);
const tokensFolder = (folder: string, zone: Zone) => join(folder, `tokens${String(zone)}`);
const clockFile = (folder: string, zone: Zone) => join(folder, `clock${String(zone)}`);
const confOf = (folder: string, zone: Zone) => join(folder, `softhsm${String(zone)}.conf`);

/** What all zones have in common: an issuer of tokens, and one root on the token of each zone. */
export class Site {
  readonly cluster: Cluster;
  readonly #issuer: TestKey;
  /** Further settings of every zone's service, from its next start on. */
  settings: Readonly<Record<string, string>> = {};
  /** The folder of the version that services start from and that commands are of. */
  release = project;
  /** Whether services of another version than this tree's may run. */
  #mixed = false;
  #token: Promise<string> | null = null;

  private constructor(cluster: Cluster, issuer: TestKey) {
    this.cluster = cluster;
    this.#issuer = issuer;
  }

  get folder(): string {
    return this.cluster.folder;
  }

  /** Migrates the database and makes the root; each zone then gets a copy of the token's files. */
  static async make(cluster: Cluster, release = project): Promise<Site> {
    const issuer = await makeKey('ES256', 'key-1');
    const site = new Site(cluster, issuer);
    site.release = release;
    site.#mixed = release !== project;
    const { folder } = cluster;
    writeFileSync(join(folder, 'jwks.json'), JSON.stringify({ keys: [issuer.jwk] }));
    for (const [name, pin] of Object.entries({
      'user.pin': '123456-user',
      'so.pin': '123456-so',
    })) {
      writeFileSync(join(folder, name), `${pin}\n`, { mode: 0o600 });
    }
    mkdirSync(tokensFolder(folder, 1), { mode: 0o700 });
    for (const zone of ZONES) {
      site.setClock(zone, 0);
      const lines = [
        `directories.tokendir = ${tokensFolder(folder, zone)}`,
        ...['objectstore.backend = file', 'log.level = ERROR', 'slots.removable = false', ''],
      ];
      writeFileSync(confOf(folder, zone), lines.join('\n'));
    }
    await runTokenCeremony(
      {
        action: 'init-token',
        module: softHsmModule(),
        label: LABEL,
        pinFile: join(folder, 'user.pin'),
        soPinFile: join(folder, 'so.pin'),
      },
      { softhsmConf: confOf(folder, 1) },
    );
    const owner = {
      ...site.environment(1),
      TWOFOLD_DATABASE_OWNER_URL: cluster.ownerUrl,
    };
    await site.#command(['migrate'], owner);
    await site.#command(['hsm', 'make-root', '--so-pin-file', join(folder, 'so.pin')], owner);
    for (const zone of [2, 3] as const) {
      cpSync(tokensFolder(folder, 1), tokensFolder(folder, zone), { recursive: true });
    }
    return site;
  }

  /** `databaseUrl`: HAProxy's address of the primary, unless told. */
  environment(zone: Zone, databaseUrl = this.cluster.serverUrl): Record<string, string> {
    const file = (name: string) => join(this.folder, name);
    return {
      ...COMMAND_ENVIRONMENT,
      HOME: this.folder,
      TWOFOLD_DATA: file(`data${String(zone)}`),
      TWOFOLD_ZONE_NAME: `zone-${String(zone)}`,
      TWOFOLD_ZONE_OTHERS: JSON.stringify(
        ZONES.filter((one) => one !== zone).map((one) => `zone-${String(one)}`),
      ),
      TWOFOLD_HTTP_HOST: addressOf(zone),
      TWOFOLD_PORT: String(PORT),
      TWOFOLD_METRICS_PORT: '0',
      TWOFOLD_HTTP_TLS_CERT_FILE: file('twofold.pem'),
      TWOFOLD_HTTP_TLS_KEY_FILE: file('twofold.key'),
      TWOFOLD_PKCS11_MODULE: softHsmModule(),
      TWOFOLD_HSM_TOKEN_LABEL: LABEL,
      TWOFOLD_HSM_PIN_FILE: file('user.pin'),
      TWOFOLD_ACCESS_INITIAL_POLICIES: 'roles',
      TWOFOLD_ISSUERS: JSON.stringify([
        { issuer: ISSUER, audience: 'kms', jwksFile: file('jwks.json'), algorithms: ['ES256'] },
      ]),
      SOFTHSM2_CONF: confOf(this.folder, zone),
      DATABASE_URL: databaseUrl,
      TWOFOLD_DATABASE_TLS: 'verify-full',
      TWOFOLD_DATABASE_CA_FILE: file('ca.pem'),
      ...(this.#mixed
        ? {}
        : {
            TWOFOLD_DATABASE_MANAGERS: JSON.stringify(managers()),
            TWOFOLD_DATABASE_READ_ONLY_URL: this.cluster.standbysUrl,
          }),
      ...(existsSync(FAKETIME)
        ? {
            LD_PRELOAD: FAKETIME,
            FAKETIME_TIMESTAMP_FILE: clockFile(this.folder, zone),
            FAKETIME_NO_CACHE: '1',
            FAKETIME_DONT_FAKE_MONOTONIC: '1',
          }
        : {}),
      ...this.settings,
    };
  }

  /** Where the files of the zone's token lie. */
  tokensOf(zone: Zone): string {
    return tokensFolder(this.folder, zone);
  }

  /** Moves the wall clock of the zone's Twofold, now and later, by so many seconds. */
  setClock(zone: Zone, seconds: number): void {
    const file = clockFile(this.folder, zone);
    writeFileSync(`${file}.new`, `${seconds < 0 ? '' : '+'}${String(seconds)}\n`);
    renameSync(`${file}.new`, file);
  }

  /** `twofold migrate` of the version in force, as the owner. */
  async migrate(): Promise<void> {
    const owner = { TWOFOLD_DATABASE_OWNER_URL: this.cluster.ownerUrl };
    await this.#command(['migrate'], { ...this.environment(1), ...owner });
  }

  async #command(
    args: readonly string[],
    environment: Readonly<Record<string, string>>,
  ): Promise<string> {
    const { stdout } = await promisify(execFile)(
      '/bin/sh',
      [join(this.release, 'scripts/twofold'), ...args],
      { cwd: this.folder, env: { ...COMMAND_ENVIRONMENT, HOME: this.folder, ...environment } },
    );
    return stdout;
  }

  /** `twofold audit …` against a zone's service; what it printed. */
  async audit(zone: Zone, ...args: readonly string[]): Promise<string> {
    const authorization = join(this.folder, 'auditor.header');
    const line = `Authorization: Bearer ${await this.token()}\n`;
    writeFileSync(authorization, line, { mode: 0o600 });
    const { url } = await this.address(zone);
    const connection = ['--url', url, '--ca', join(this.folder, 'ca.pem')];
    return this.#command(['audit', ...args, ...connection, '--authorization', authorization], {});
  }

  async address(zone: Zone): Promise<ZoneAddress> {
    return {
      url: `https://${addressOf(zone)}:${String(PORT)}`,
      token: await this.token(),
      ca: readFileSync(join(this.folder, 'ca.pem'), 'utf8'),
      // A service started before `release` was changed is of the former one.
      otherVersion: this.#mixed,
    };
  }

  /** A token of an administrator and user, made once; it holds where a clock is an hour off. */
  token(): Promise<string> {
    this.#token ??= new SignJWT({ roles: ['admin', 'user', 'auditor'] })
      .setProtectedHeader({ alg: 'ES256', kid: 'key-1', typ: 'JWT' })
      .setIssuer(ISSUER)
      .setAudience('kms')
      .setSubject('alice')
      .setIssuedAt(Math.floor(Date.now() / 1_000) - 7_200)
      .setExpirationTime('3h')
      .sign(this.#issuer.privateKey);
    return this.#token;
  }
}

/** One zone's Twofold, started again as a service manager would when it asks for that. */
export class ZoneService {
  readonly zone: Zone;
  readonly #databaseUrl: string | undefined;
  readonly #site: Site;
  #client: ZoneClient | null = null;
  #child: ChildProcess | null = null;
  #output = '';
  #again: Promise<void> | null = null;
  /** How often it ended to be started again. */
  restarts = 0;

  constructor(site: Site, zone: Zone, databaseUrl?: string) {
    this.zone = zone;
    this.#databaseUrl = databaseUrl;
    this.#site = site;
  }

  get running(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** All that was printed, by every start. */
  get output(): string {
    return this.#output;
  }

  async start(): Promise<void> {
    const before = this.#output.length;
    const command = ['netns', 'exec', namespaceOf(this.zone), '/bin/sh'];
    const child = spawn('ip', [...command, join(this.#site.release, 'scripts/launch'), 'serve'], {
      cwd: this.#site.folder,
      env: this.#site.environment(this.zone, this.#databaseUrl),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.once('exit', (code) => {
      if (code === START_AGAIN && this.#child === child) this.#startAgain();
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (this.#output += chunk.toString('utf8')));
    }
    const until = performance.now() + READY_MS;
    while (!this.#output.includes('is ready at', before)) {
      if (!this.running || performance.now() > until) {
        throw new Error(`zone ${String(this.zone)} is not ready:\n${this.#output}`);
      }
      await sleep(20);
    }
  }

  #startAgain(): void {
    this.restarts += 1;
    this.#again = this.start()
      .catch((error: unknown) => {
        this.#output += String(error);
      })
      .finally(() => {
        this.#again = null;
      });
  }

  /** Resolves once it answers a request that needs its database; false when it does not in time. */
  async serves(path: string, milliseconds = READY_MS): Promise<boolean> {
    const until = performance.now() + milliseconds;
    while (performance.now() < until) {
      await this.#again;
      const answer = await this.request('GET', path).catch(() => null);
      if (answer?.status === 200) return true;
      await sleep(100);
    }
    return false;
  }

  async stop(): Promise<void> {
    await this.#again;
    const child = this.#child;
    if (child !== null && this.running) {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    }
    this.#client?.close();
    this.#client = null;
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(signal);
  }

  /** kill -9 of the service alone. */
  async kill(): Promise<void> {
    await this.#again;
    const child = this.#child;
    if (child === null || !this.running) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  async request(...args: Parameters<ZoneClient['request']>): Promise<Answer> {
    this.#client ??= new ZoneClient(await this.#site.address(this.zone));
    return this.#client.request(...args);
  }
}

/** The two roles and the database, as the superuser makes them. */
export function makeRoles(cluster: Cluster): void {
  const script = [
    'create role twofold_app nologin',
    "create role twofold_owner login password 'owner'",
    "create role twofold_server login password 'server' in role twofold_app",
    'create database twofold owner twofold_owner',
    'revoke all on database twofold from public',
    'grant connect on database twofold to twofold_server',
  ];
  const commands = script.flatMap((statement) => ['-c', statement]);
  execFileSync('psql', ['-qX', '-v', 'ON_ERROR_STOP=1', cluster.superUrl, ...commands], {
    stdio: 'pipe',
  });
}
