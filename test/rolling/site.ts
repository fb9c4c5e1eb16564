/**
 * What two instances of a production have in common, and HAProxy before them: database, token, issuer,
 * certificates. Each instance is started from the folder that its link names, as its unit does.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import { SignJWT } from 'jose';

import { runTokenCeremony } from '../../src/hsm/run-ceremony.ts';
import { startEmbedded } from '../../src/store/embedded.ts';
import type { EmbeddedDatabase } from '../../src/store/embedded.ts';
import { makeKey } from '../access/issuer-fixture.ts';
import type { TestKey } from '../access/issuer-fixture.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { killAll } from '../e2e/processes.ts';
import { softHsmModule } from '../hsm/token-fixture.ts';
import { makeCertificates } from '../zones/certificates.ts';
import { ZoneClient } from '../zones/zone-client.ts';
import { TREE } from './release.ts';
import { freePort } from '../free-port.ts';

const ISSUER = 'https://issuer.example';
const LABEL = 'rolling-token';
const PAGE = readFileSync(join(TREE, 'deploy/upgrade.md'), 'utf8');
export const HAPROXY = ['/usr/sbin/haproxy', '/usr/local/sbin/haproxy'].find(existsSync) ?? null;

export type Name = 'one' | 'two';
export const NAMES = ['one', 'two'] as const;
export type Way = 'connections' | 'requests';

/**
 * Stands for systemd, which runs in no container: does with the instance of `$INSTANCE` what
 * deploy/twofold.service says (start `launch serve` of the linked folder; stop by SIGTERM and wait).
 */
const SYSTEMCTL = `#!/bin/sh
set -eu
[ "$2" = twofold ] || exit 5
stop() {
  pid=$(cat "$INSTANCE/pid" 2>/dev/null) || return 0
  kill -TERM "$pid" 2>/dev/null || return 0
  while grep -qs '^State:.[^Z]' "/proc/$pid/status"; do sleep 0.05; done
}
start() {
  cd /
  setsid "$CURRENT/scripts/launch" serve >>"$INSTANCE/output" 2>&1 </dev/null &
  echo $! >"$INSTANCE/pid"
}
case $1 in
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
  *) exit 5 ;;
esac
`;

export class Site {
  readonly folder: string;
  readonly #database: EmbeddedDatabase;
  readonly #issuer: TestKey;
  readonly #ports: Readonly<Record<Name | Way, number>>;
  #proxy: ChildProcess | null = null;
  #token: Promise<string> | null = null;

  private constructor(parts: {
    readonly folder: string;
    readonly database: EmbeddedDatabase;
    readonly issuer: TestKey;
    readonly ports: Readonly<Record<Name | Way, number>>;
  }) {
    this.folder = parts.folder;
    this.#database = parts.database;
    this.#issuer = parts.issuer;
    this.#ports = parts.ports;
  }

  /** Made by the commands of `release`, whose folder both instances start from. */
  static async make(release: string): Promise<Site> {
    const folder = mkdtempSync(join(tmpdir(), 'twofold-rolling-'));
    const at = (name: string) => join(folder, name);
    makeCertificates(folder, ['server', 'proxy'], ['127.0.0.1']);
    writeFileSync(at('both.pem'), '', { mode: 0o600 });
    for (const half of ['proxy.pem', 'proxy.key'])
      appendFileSync(at('both.pem'), readFileSync(at(half)));
    mkdirSync(at('tokens'), { mode: 0o700 });
    writeFileSync(
      at('softhsm.conf'),
      `directories.tokendir = ${at('tokens')}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`,
    );
    for (const [name, pin] of [
      ['user.pin', '123456-user'],
      ['so.pin', '123456-so'],
    ] as const) {
      writeFileSync(at(name), `${pin}\n`, { mode: 0o600 });
    }
    const issuer = await makeKey('ES256', 'key-1');
    writeFileSync(at('jwks.json'), JSON.stringify({ keys: [issuer.jwk] }));
    mkdirSync(at('bin'));
    writeFileSync(at('bin/systemctl'), SYSTEMCTL);
    chmodSync(at('bin/systemctl'), 0o755);
    for (const name of NAMES) {
      mkdirSync(at(name));
      mkdirSync(at(`${name}/data`), { mode: 0o700 });
      symlinkSync(release, at(`${name}/current`));
    }
    const dataDir = at('database');
    mkdirSync(dataDir);
    const [database] = await Promise.all([
      startEmbedded({ dataDir }),
      runTokenCeremony(
        {
          ...{ action: 'init-token', module: softHsmModule(), label: LABEL },
          ...{ pinFile: at('user.pin'), soPinFile: at('so.pin') },
        },
        { softhsmConf: at('softhsm.conf') },
      ),
    ]);
    const [one, two, connections, requests] = await Promise.all([
      ...[freePort(), freePort(), freePort(), freePort()],
    ]);
    const ports = { one, two, connections, requests } as Record<Name | Way, number>;
    const site = new Site({ folder, database, issuer, ports });
    await site.twofold(release, ['migrate']);
    await site.twofold(release, ['hsm', 'make-root', '--so-pin-file', at('so.pin')]);
    return site;
  }

  get ownerUrl(): string {
    return this.#database.ownerUrl;
  }

  #at(name: string): string {
    return join(this.folder, name);
  }

  #url(where: Name | Way): string {
    return `https://127.0.0.1:${String(this.#ports[where])}`;
  }

  /** Of the Kubernetes provider inside an instance. */
  socket(name: Name): string {
    return this.#at(`${name}/kms.sock`);
  }

  environment(name: Name): Record<string, string> {
    return {
      ...COMMAND_ENVIRONMENT,
      HOME: this.folder,
      PATH: `${this.#at('bin')}:${process.env['PATH'] ?? ''}`,
      TWOFOLD_DATA: this.#at(`${name}/data`),
      TWOFOLD_PORT: String(this.#ports[name]),
      TWOFOLD_METRICS_PORT: '0',
      TWOFOLD_STOP_WAIT_MS: '3000',
      TWOFOLD_HTTP_TLS_CERT_FILE: this.#at('server.pem'),
      TWOFOLD_HTTP_TLS_KEY_FILE: this.#at('server.key'),
      TWOFOLD_PKCS11_MODULE: softHsmModule(),
      TWOFOLD_HSM_TOKEN_LABEL: LABEL,
      TWOFOLD_HSM_PIN_FILE: this.#at('user.pin'),
      SOFTHSM2_CONF: this.#at('softhsm.conf'),
      TWOFOLD_ACCESS_INITIAL_POLICIES: 'roles',
      TWOFOLD_ISSUERS: JSON.stringify([
        ...[
          {
            issuer: ISSUER,
            audience: 'kms',
            jwksFile: this.#at('jwks.json'),
            algorithms: ['ES256'],
          },
        ],
      ]),
      DATABASE_URL: this.#database.appUrl,
      TWOFOLD_KMS_SOCKET: this.socket(name),
      TWOFOLD_KMS_KEY: 'secrets',
      TWOFOLD_KMS_CLUSTER: 'c1',
      INSTANCE: this.#at(name),
      CURRENT: this.#at(`${name}/current`),
      URL: this.#url(name),
      CA: this.#at('ca.pem'),
    };
  }

  /** A command of a release, as the database's owner; what it printed. */
  async twofold(
    release: string,
    args: readonly string[],
    settings: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const owner = { TWOFOLD_DATABASE_OWNER_URL: this.ownerUrl };
    const env = { ...this.environment('one'), ...owner, ...settings };
    const command = [join(release, 'scripts/twofold'), ...args];
    const { stdout } = await promisify(execFile)('sh', command, { env });
    return stdout;
  }

  /** A block of deploy/upgrade.md as it stands there, for the instance and the folder of a version. */
  async page(block: 'check' | 'migrate' | 'restart', name: Name, release: string): Promise<string> {
    const [, indented = ''] =
      new RegExp(`\`\`\`sh ${block}\n([\\s\\S]*?)\`\`\``, 'u').exec(PAGE) ?? [];
    if (indented === '') throw new Error(`deploy/upgrade.md has no block ${block}`);
    const owner = block === 'migrate' ? { TWOFOLD_DATABASE_OWNER_URL: this.ownerUrl } : {};
    const { stdout } = await promisify(execFile)('/bin/sh', ['-eu', '-c', indented], {
      env: { ...this.environment(name), ...owner, NEW: release },
    });
    return stdout;
  }

  async systemctl(verb: 'start' | 'stop', name: Name): Promise<void> {
    const command = this.#at('bin/systemctl');
    // Its output is the instance's own file: an inherited pipe would stay open as long as that lives.
    await promisify(execFile)(command, [verb, 'twofold'], { env: this.environment(name) });
  }

  pid(name: Name): number {
    return Number(readFileSync(this.#at(`${name}/pid`), 'utf8'));
  }

  output(name: Name): string {
    const file = this.#at(`${name}/output`);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  async untilReady(where: Name | Way): Promise<void> {
    const client = await this.client(where);
    const until = performance.now() + 30_000;
    for (;;) {
      const answer = await client.request('GET', '/readyz').catch(() => null);
      if (answer?.status === 200) break;
      if (performance.now() > until) {
        throw new Error(`${where} is not ready\n${this.output('one')}\n${this.output('two')}`);
      }
      await sleep(50);
    }
    client.close();
  }

  /** HAProxy with the configuration of deploy/, as it stands there. */
  async startProxy(): Promise<void> {
    if (HAPROXY === null) throw new Error('haproxy is not installed');
    const at = (where: Name | Way) => `127.0.0.1:${String(this.#ports[where])}`;
    this.#proxy = spawn(HAPROXY, ['-db', '-f', join(TREE, 'deploy/haproxy.cfg')], {
      env: {
        TWOFOLD_ONE: at('one'),
        TWOFOLD_TWO: at('two'),
        TWOFOLD_CA: this.#at('ca.pem'),
        TWOFOLD_PROXY_CONNECTIONS: at('connections'),
        TWOFOLD_PROXY_REQUESTS: at('requests'),
        TWOFOLD_PROXY_CERTIFICATE: this.#at('both.pem'),
      },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    await this.untilReady('requests');
    await this.untilReady('connections');
  }

  async client(where: Name | Way): Promise<ZoneClient> {
    const ca = readFileSync(this.#at('ca.pem'), 'utf8');
    return new ZoneClient({
      url: this.#url(where),
      token: await this.token(),
      ca,
      otherVersion: true,
    });
  }

  /** Of one who may do everything. */
  token(): Promise<string> {
    this.#token ??= new SignJWT({ roles: ['admin', 'user', 'auditor'] })
      .setProtectedHeader({ alg: 'ES256', kid: 'key-1', typ: 'JWT' })
      .setIssuer(ISSUER)
      .setAudience('kms')
      .setSubject('alice')
      .setIssuedAt()
      .setExpirationTime('50m')
      .sign(this.#issuer.privateKey);
    return this.#token;
  }

  /** `twofold audit …` of this tree against an instance; what it printed. */
  async audit(name: Name, args: readonly string[]): Promise<string> {
    const authorization = this.#at('auditor.header');
    writeFileSync(authorization, `Authorization: Bearer ${await this.token()}\n`, { mode: 0o600 });
    const to = [
      '--url',
      this.#url(name),
      '--ca',
      this.#at('ca.pem'),
      '--authorization',
      authorization,
    ];
    return this.twofold(TREE, ['audit', ...args, ...to]);
  }

  /** A file of the keys of the log, which there are none of before the first checkpoint. */
  async pinnedKeys(): Promise<string> {
    const file = this.#at('trust');
    writeFileSync(file, await this.audit('one', ['keys']));
    return file;
  }

  async destroy(): Promise<void> {
    if (this.#proxy !== null) {
      const ended = once(this.#proxy, 'exit');
      this.#proxy.kill('SIGTERM');
      await ended;
    }
    for (const name of NAMES) await this.systemctl('stop', name);
    await this.#database.stop();
    await killAll(this.folder);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The version of HAProxy that runs here. */
export const proxyVersion = (): string =>
  HAPROXY === null
    ? 'none'
    : (execFileSync(HAPROXY, ['-v'], { encoding: 'utf8' }).split('\n')[0] ?? '');
