/**
 * Three zones on one machine: a network namespace each, with an etcd member, Patroni and its
 * PostgreSQL in it, and HAProxy outside of all. Runs in the namespaces that scripts/test-zones makes.
 *
 * The settings are those under which no acknowledged write was lost: below Patroni 3.0.3 its code for
 * etcd's v3 API overwrites the leader's key after a pause, so the v2 API is used there.
 */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

export type Zone = 1 | 2 | 3;
export const ZONES: readonly Zone[] = [1, 2, 3];

const NET = '10.77.0';
const BIN = '/usr/lib/postgresql/15/bin';
const READY_MS = 60_000;
/** Seconds; Patroni 4 lifts the first to 20. */
const [TTL, LOOP_WAIT, RETRY_TIMEOUT] = [8, 2, 3];
const FIRST_WITH_SOUND_ETCD3 = [3, 0, 3];
const FIRST_WITH_QUORUM = [4, 0, 0];

export const addressOf = (zone: Zone): string => `${NET}.${String(zone)}`;
/** Where HAProxy listens: 5000 leads to the primary, 5001 to the standbys. */
export const PROXY_ADDRESS = `${NET}.10`;
export const namespaceOf = (zone: Zone): string => `tfz${String(zone)}`;

const ip = (...args: readonly string[]) => execFileSync('ip', args, { stdio: 'pipe' });

function makeNetwork(): void {
  ip('link', 'set', 'lo', 'up');
  ip('link', 'add', 'tfbr', 'type', 'bridge');
  for (const host of ['254', '10']) ip('addr', 'add', `${NET}.${host}/24`, 'dev', 'tfbr');
  ip('link', 'set', 'tfbr', 'up');
  for (const zone of ZONES) {
    const name = namespaceOf(zone);
    const link = `tfv${String(zone)}`;
    ip('netns', 'add', name);
    ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
    ip('link', 'set', link, 'master', 'tfbr', 'up');
    ip('-n', name, 'addr', 'add', `${addressOf(zone)}/24`, 'dev', 'eth0');
    for (const device of ['eth0', 'lo']) ip('-n', name, 'link', 'set', device, 'up');
  }
}

/** What `PATRONI` names: another program than Debian's. */
const PATRONI = process.env['PATRONI'] ?? '/usr/bin/patroni';

/** By its own words: `patroni 3.0.2`, or another name before the number. */
function versionParts(): readonly number[] {
  const said = execFileSync(PATRONI, ['--version'], { encoding: 'utf8' });
  const parts = /(\d+)\.(\d+)\.(\d+)/u.exec(said)?.slice(1).map(Number);
  if (parts === undefined) throw new Error(`${PATRONI} has no version: ${said}`);
  return parts;
}

export const patroniVersion = (): string => versionParts().join('.');

function isAtLeast(wanted: readonly number[]): boolean {
  const version = versionParts();
  const at = wanted.findIndex((part, place) => part !== version[place]);
  return at === -1 || (version[at] ?? 0) > (wanted[at] ?? 0);
}

const etcdApi = (): 'etcd' | 'etcd3' => (isAtLeast(FIRST_WITH_SOUND_ETCD3) ? 'etcd3' : 'etcd');

/** Whether a commit waits for any one standby (Patroni 4), and not for a chosen one. */
export const hasQuorumCommit = (): boolean => isAtLeast(FIRST_WITH_QUORUM);

const postgresId = (): number =>
  Number(execFileSync('id', ['-u', 'postgres'], { encoding: 'utf8' }));

export interface Member {
  readonly name: string;
  readonly role: string;
  readonly state: string;
  readonly lag?: number | string;
}

/** What runs in a zone beside Twofold. */
type Part = 'etcd' | 'patroni';

export class Cluster {
  readonly folder: string;
  readonly #id = postgresId();
  readonly #children = new Map<string, ChildProcess>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  /**
   * Brings up the cluster with TLS to the database; `folder` holds `server.pem`, `server.key`, `ca.pem`.
   * Resolves with a leader, a synchronous standby, three members and a write through HAProxy.
   */
  static async up(folder: string): Promise<Cluster> {
    const cluster = new Cluster(folder);
    makeNetwork();
    for (const file of ['server.pem', 'server.key', 'ca.pem', '.']) {
      chownSync(join(folder, file), cluster.#id, cluster.#id);
    }
    for (const zone of ZONES) cluster.#writePatroni(zone);
    for (const zone of ZONES) cluster.start(zone, 'etcd');
    await cluster.#presetConfiguration();
    for (const zone of ZONES) cluster.start(zone, 'patroni');
    cluster.#startProxy();
    await cluster.healthy();
    return cluster;
  }

  get ownerUrl(): string {
    return `postgres://twofold_owner:owner@${PROXY_ADDRESS}:5000/twofold`;
  }

  get serverUrl(): string {
    return `postgres://twofold_server:server@${PROXY_ADDRESS}:5000/twofold`;
  }

  /** Of a standby, whichever. */
  get standbysUrl(): string {
    return `postgres://twofold_server:server@${PROXY_ADDRESS}:5001/twofold`;
  }

  /** The zone's own PostgreSQL, whether it leads or not. */
  directUrl(zone: Zone): string {
    return `postgres://twofold_server:server@${addressOf(zone)}:5432/twofold`;
  }

  get superUrl(): string {
    return `postgres://postgres:super@${PROXY_ADDRESS}:5000/postgres`;
  }

  async members(asked: Zone): Promise<readonly Member[]> {
    const response = await fetch(`http://${addressOf(asked)}:8008/cluster`, {
      signal: AbortSignal.timeout(1_000),
    });
    return ((await response.json()) as { readonly members: readonly Member[] }).members;
  }

  /** The zone of the leader, of which HAProxy thinks so too. */
  async leader(): Promise<Zone> {
    return this.#zoneWith((role) => role === 'leader');
  }

  /** As Patroni of `asked` knows it. */
  async leaderSeenFrom(asked: Zone): Promise<Zone | undefined> {
    const leader = (await this.members(asked)).find(({ role }) => role === 'leader');
    return leader === undefined ? undefined : (Number(leader.name.slice(1)) as Zone);
  }

  async synchronousStandby(): Promise<Zone> {
    return this.#zoneWith((role) => /^(?:sync|quorum)_standby$/u.test(role));
  }

  /** A role may be nobody's for as long as a lease lasts, while it goes from one member to the next. */
  async #zoneWith(fits: (role: string) => boolean): Promise<Zone> {
    const until = performance.now() + READY_MS;
    for (;;) {
      for (const asked of ZONES) {
        const members = await this.members(asked).catch(() => []);
        const found = members.find(({ role }) => fits(role));
        if (found !== undefined) return Number(found.name.slice(1)) as Zone;
      }
      if (performance.now() > until) throw new Error('no member has that role');
      await sleep(100);
    }
  }

  /**
   * Resolves once all three members run, one leads, both others stream from it, one of them is synchronous,
   * and a write goes through. What the members say of themselves is not enough: one whose Patroni was
   * stopped says that it runs until it looks, and may then have to be rewound.
   */
  async healthy(milliseconds = READY_MS): Promise<void> {
    const until = performance.now() + milliseconds;
    for (;;) {
      try {
        if (await this.#isHealthy()) return;
      } catch {
        // Not yet: what does not answer is asked again, until the time is over.
      }
      if (performance.now() > until) {
        const members = await this.members(1).catch(String);
        throw new Error(`the cluster is not healthy: ${JSON.stringify(members)}`);
      }
      await sleep(100);
    }
  }

  async #isHealthy(): Promise<boolean> {
    const members = await this.members(1);
    const roles = members.map(({ role }) => role);
    const works =
      members.length === 3 &&
      members.every(({ state }) => state === 'running' || state === 'streaming') &&
      roles.includes('leader') &&
      roles.some((role) => role === 'sync_standby' || role === 'quorum_standby');
    if (!works) return false;
    const client = this.#client(this.superUrl);
    try {
      await client.connect();
      await client.query('create table if not exists ready(x int)');
      await client.query('insert into ready values (1)');
      const { rows } = await client.query<{ n: number }>(
        "select count(*)::int as n from pg_stat_replication where application_name ~ '^z[123]$' and state = 'streaming'",
      );
      return rows[0]?.n === 2;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** What the superuser is answered by the zone's own PostgreSQL. */
  async ask<Row extends pg.QueryResultRow>(zone: Zone, sql: string): Promise<readonly Row[]> {
    const client = this.#client(`postgres://postgres:super@${addressOf(zone)}:5432/twofold`);
    try {
      await client.connect();
      return (await client.query<Row>(sql)).rows;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  #client(connectionString: string): pg.Client {
    const client = new pg.Client({
      connectionString,
      ssl: { ca: readFileSync(join(this.folder, 'ca.pem')) },
      connectionTimeoutMillis: 1_000,
      query_timeout: 2_000,
    });
    client.on('error', () => undefined);
    return client;
  }

  /** Starts a part that does not run. */
  start(zone: Zone, part: Part): void {
    const address = addressOf(zone);
    if (part === 'patroni') {
      this.#spawn(zone, part, [PATRONI, join(this.folder, `patroni${String(zone)}.yml`)]);
      return;
    }
    const peers = ZONES.map((one) => `z${String(one)}=http://${addressOf(one)}:2380`).join(',');
    this.#spawn(zone, part, [
      ...['etcd', '--name', `z${String(zone)}`],
      ...['--data-dir', join(this.folder, `etcd${String(zone)}`)],
      ...['--listen-client-urls', `http://${address}:2379`],
      ...['--advertise-client-urls', `http://${address}:2379`],
      ...['--listen-peer-urls', `http://${address}:2380`],
      ...['--initial-advertise-peer-urls', `http://${address}:2380`],
      ...['--initial-cluster', peers, '--initial-cluster-state', 'new'],
      ...['--initial-cluster-token', 'twofold', '--enable-v2=true'],
      ...['--heartbeat-interval', '100', '--election-timeout', '1000'],
      ...['--logger', 'zap', '--log-level', 'warn'],
    ]);
  }

  /** Every process of the zone's namespace, Twofold's included. */
  #pids(zone: Zone): number[] {
    const said = execFileSync('ip', ['netns', 'pids', namespaceOf(zone)], { encoding: 'utf8' });
    return said.split('\n').filter(Boolean).map(Number);
  }

  /** A signal for everything in the zone: SIGKILL is its loss, SIGSTOP its pause. */
  signal(zone: Zone, signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    for (const pid of this.#pids(zone)) send(pid, signal);
  }

  /** The same for one part; PostgreSQL lives on when Patroni alone is gone. */
  signalPart(zone: Zone, part: Part, signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    const child = this.#children.get(`${part}${String(zone)}`);
    if (child?.pid !== undefined) send(child.pid, signal);
  }

  /** A signal for the zone's postmaster and its backends. */
  signalPostgres(zone: Zone, signal: 'SIGSTOP' | 'SIGCONT'): void {
    const isPostgres = (pid: number) => programOf(pid) === 'postgres';
    for (const pid of this.#pids(zone).filter(isPostgres)) send(pid, signal);
  }

  /** SIGKILL of the zone's postmaster alone. */
  killPostgres(zone: Zone): void {
    const file = join(this.folder, `pg${String(zone)}/postmaster.pid`);
    send(Number(readFileSync(file, 'utf8').split('\n', 1)[0]), 'SIGKILL');
  }

  /** Drops every packet between the zone and `peers`; without them, and everything else. */
  cut(zone: Zone, peers?: readonly Zone[]): void {
    const rules = (way: 'saddr' | 'daddr', device: 'iif' | 'oif') =>
      peers === undefined
        ? `${device} != "lo" drop;`
        : peers.map((peer) => `ip ${way} ${addressOf(peer)} drop;`).join(' ');
    const chain = (name: string, hook: string, what: string) =>
      `chain ${name} { type filter hook ${hook} priority 0; ${what} };`;
    this.#nft(
      zone,
      `table inet cut { ${chain('i', 'input', rules('saddr', 'iif'))} ${chain('o', 'output', rules('daddr', 'oif'))} }`,
    );
  }

  heal(zone: Zone): void {
    this.#nft(zone, 'delete table inet cut');
  }

  #nft(zone: Zone, text: string): void {
    execFileSync('ip', ['netns', 'exec', namespaceOf(zone), 'nft', text], { stdio: 'pipe' });
  }

  /** Starts what a lost zone ran, Twofold excepted. */
  restore(zone: Zone): void {
    this.start(zone, 'etcd');
    this.start(zone, 'patroni');
  }

  /** Ends everything, and takes the network away. */
  async down(): Promise<void> {
    for (const zone of ZONES) this.signal(zone, 'SIGKILL');
    for (const child of this.#children.values()) {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await exited;
    }
    for (const zone of ZONES) ip('netns', 'del', namespaceOf(zone));
    ip('link', 'del', 'tfbr');
  }

  #spawn(zone: Zone | null, part: string, command: readonly string[]): void {
    const name = zone === null ? part : `${part}${String(zone)}`;
    const log = openSync(join(this.folder, `${name}.log`), 'a');
    const inZone = zone === null ? [] : ['ip', 'netns', 'exec', namespaceOf(zone)];
    const [program = '', ...args] = [
      ...inZone,
      ...['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups', '--inh-caps=-all'],
      ...[
        'env',
        '-i',
        `PATH=${BIN}:/usr/sbin:/usr/bin:/bin`,
        `HOME=${this.folder}`,
        'LANG=C.UTF-8',
      ],
      ...command,
    ];
    const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log] });
    this.#children.set(name, child);
  }

  /** Before a leader has written its own, Patroni uses slower settings than these. */
  async #presetConfiguration(): Promise<void> {
    const endpoints = ZONES.map((zone) => `${addressOf(zone)}:2379`).join(',');
    const environment = { ...process.env, ETCDCTL_API: '3' };
    const etcdctl = (...args: string[]) =>
      execFileSync('etcdctl', ['--endpoints', endpoints, ...args], {
        env: environment,
        stdio: 'pipe',
      });
    const until = performance.now() + READY_MS;
    for (;;) {
      try {
        etcdctl('endpoint', 'health');
        break;
      } catch (error) {
        if (performance.now() > until) throw error;
        await sleep(100);
      }
    }
    const value = JSON.stringify(dynamicConfiguration());
    if (etcdApi() === 'etcd3') {
      etcdctl('put', '/service/twofold/config', value);
      return;
    }
    const response = await fetch(`http://${addressOf(1)}:2379/v2/keys/service/twofold/config`, {
      method: 'PUT',
      body: new URLSearchParams({ value }),
    });
    if (!response.ok) throw new Error(`etcd answered ${String(response.status)}`);
  }

  #writePatroni(zone: Zone): void {
    const sockets = join(this.folder, `socket${String(zone)}`);
    mkdirSync(sockets, { mode: 0o700 });
    chownSync(sockets, this.#id, this.#id);
    const hosts = ZONES.map((one) => `${addressOf(one)}:2379`).join(',');
    const listen = (port: number) => `${addressOf(zone)}:${String(port)}`;
    // YAML takes JSON.
    const text = JSON.stringify({
      scope: 'twofold',
      name: `z${String(zone)}`,
      restapi: { listen: listen(8008), connect_address: listen(8008) },
      [etcdApi()]: { hosts },
      bootstrap: {
        dcs: dynamicConfiguration(),
        initdb: [{ encoding: 'UTF8' }, { locale: 'C.UTF-8' }, 'data-checksums'],
        pg_hba: [
          'local all all trust',
          `host replication repl ${NET}.0/24 scram-sha-256`,
          `hostssl all all ${NET}.0/24 scram-sha-256`,
        ],
      },
      postgresql: {
        listen: listen(5432),
        connect_address: listen(5432),
        data_dir: join(this.folder, `pg${String(zone)}`),
        bin_dir: BIN,
        pgpass: join(this.folder, `pgpass${String(zone)}`),
        authentication: {
          superuser: { username: 'postgres', password: 'super' },
          replication: { username: 'repl', password: 'repl' },
          rewind: { username: 'rewind', password: 'rewind' },
        },
        parameters: {
          unix_socket_directories: sockets,
          ssl: 'on',
          ssl_cert_file: join(this.folder, 'server.pem'),
          ssl_key_file: join(this.folder, 'server.key'),
        },
      },
      watchdog: { mode: 'off' },
    });
    writeFileSync(join(this.folder, `patroni${String(zone)}.yml`), text);
  }

  #startProxy(): void {
    const servers = ZONES.map(
      (zone) => `  server z${String(zone)} ${addressOf(zone)}:5432 check port 8008`,
    ).join('\n');
    const file = join(this.folder, 'haproxy.cfg');
    writeFileSync(file, proxyConfiguration(servers));
    this.#spawn(null, 'haproxy', ['haproxy', '-db', '-f', file]);
  }
}

/** Null for a process that ended meanwhile. */
function programOf(pid: number): string | null {
  try {
    return readFileSync(`/proc/${String(pid)}/comm`, 'utf8').trim();
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // A process that ended meanwhile needs no signal.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Strict, so that a commit waits for a standby even when there is none. */
const dynamicConfiguration = () => ({
  ttl: TTL,
  loop_wait: LOOP_WAIT,
  retry_timeout: RETRY_TIMEOUT,
  maximum_lag_on_failover: 1_048_576,
  synchronous_mode: hasQuorumCommit() ? 'quorum' : true,
  synchronous_mode_strict: true,
  // Fail over at once instead of recovering a crashed primary for minutes.
  primary_start_timeout: 0,
  failsafe_mode: true,
  postgresql: {
    use_pg_rewind: true,
    remove_data_directory_on_rewind_failure: true,
    parameters: {
      max_connections: 100,
      max_wal_senders: 10,
      wal_log_hints: 'on',
      synchronous_commit: 'on',
      wal_receiver_timeout: '5s',
      wal_sender_timeout: '5s',
      wal_receiver_status_interval: '1s',
      wal_retrieve_retry_interval: '500ms',
      tcp_keepalives_idle: 5,
      tcp_keepalives_interval: 2,
      tcp_keepalives_count: 3,
      tcp_user_timeout: 10_000,
      client_connection_check_interval: '5s',
      shared_buffers: '64MB',
      max_wal_size: '256MB',
      hot_standby_feedback: 'on',
    },
  },
});

const proxyConfiguration = (servers: string) => `global
  maxconn 2000
defaults
  mode tcp
  option clitcpka
  option srvtcpka
  option redispatch
  retries 2
  timeout connect 1s
  timeout client 30m
  timeout server 30m
  timeout check 1s
  default-server inter 500ms fastinter 200ms downinter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
frontend writes
  bind ${PROXY_ADDRESS}:5000
  default_backend primary
backend primary
  option httpchk OPTIONS /primary
  http-check expect status 200
${servers}
frontend reads
  bind ${PROXY_ADDRESS}:5001
  default_backend standbys
backend standbys
  option httpchk OPTIONS /replica
  http-check expect status 200
${servers}
`;
