/**
 * The profile `zones` of docker-compose.yml without Docker: each of its services as a process in a root
 * and a network of its own, with its name in everybody's hosts file. Runs in the namespaces that
 * scripts/test-zones makes.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Compose, Service } from '../deploy/compose.ts';
import { Containers } from '../deploy/containers.ts';
import type { Ended, StandIn } from '../deploy/containers.ts';
import { environmentOf, parseDockerfile } from '../deploy/dockerfile.ts';
import { madeFolders, PROJECT } from '../deploy/image.ts';
import type { Image } from '../deploy/image.ts';

const NET = '10.78.0';
const BRIDGE = 'tfcbr';

const ip = (...args: readonly string[]) => execFileSync('ip', args, { stdio: 'pipe' });

/** What deploy/zones/Dockerfile makes beside Debian's packages, which this machine has. */
function memberImage(): StandIn {
  const [stage] = parseDockerfile(readFileSync(join(PROJECT, 'deploy/zones/Dockerfile'), 'utf8'));
  if (stage === undefined) throw new Error('a stage');
  return {
    folder: undefined,
    environment: environmentOf(stage),
    workdir: '/',
    entrypoint: [],
    stopSignal: 'SIGTERM',
    folders: madeFolders(stage),
    binds: [],
  };
}

export class ZoneContainers extends Containers {
  readonly #members = memberImage();
  readonly #addresses: ReadonlyMap<string, string>;

  readonly #read: (variables: Readonly<Record<string, string>>) => Compose;

  /** `read`: the compose file with variables put in. */
  constructor(
    read: (variables: Readonly<Record<string, string>>) => Compose,
    image: Image,
    folder: string,
  ) {
    const compose = read({});
    super(compose, image, folder);
    this.#read = read;
    const names = Object.entries(compose.services)
      .filter(([, { networks }]) => networks?.includes('zones'))
      .map(([name]) => name);
    this.#addresses = new Map(names.map((name, at) => [name, `${NET}.${String(at + 10)}`]));
    for (const name of names) this.networks.set(name, `/run/netns/${name}`);
    this.networks.set('', '/proc/self/ns/net');
    const lines = [...this.#addresses].map(([name, address]) => `${address} ${name}`);
    this.hosts = ['127.0.0.1 localhost', ...lines].join('\n');
  }

  address(name: string): string {
    const found = this.#addresses.get(name);
    if (found === undefined) throw new Error(`${name} is in no network of the zones`);
    return found;
  }

  override async open(): Promise<void> {
    await super.open();
    ip('link', 'set', 'lo', 'up');
    ip('link', 'add', BRIDGE, 'type', 'bridge');
    ip('addr', 'add', `${NET}.254/24`, 'dev', BRIDGE);
    ip('link', 'set', BRIDGE, 'up');
    for (const [at, [name, address]] of [...this.#addresses].entries()) {
      const link = `tfc${String(at)}`;
      ip('netns', 'add', name);
      ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
      ip('link', 'set', link, 'master', BRIDGE, 'up');
      ip('-n', name, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
      for (const device of ['eth0', 'lo']) ip('-n', name, 'link', 'set', device, 'up');
    }
  }

  override async close(): Promise<void> {
    for (const name of this.#addresses.keys()) {
      await this.lose(name);
      ip('netns', 'del', name);
    }
    await super.close();
    ip('link', 'del', BRIDGE);
  }

  /** kill -9 of everything in the container, whatever session it made for itself. */
  async lose(name: string): Promise<void> {
    const pids = execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' });
    for (const pid of pids.split('\n').filter(Boolean).map(Number)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        // It ended meanwhile.
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    await this.stop(name);
  }

  /** As `docker compose up --wait`: what the services depend on first, and side by side what may be. */
  async up(...names: readonly string[]): Promise<void> {
    const under = new Map<string, Promise<void>>();
    const reach = (name: string): Promise<void> => {
      const known = under.get(name) ?? this.#reach(name, reach);
      under.set(name, known);
      return known;
    };
    await Promise.all(names.map(reach));
  }

  async #reach(name: string, reach: (name: string) => Promise<void>): Promise<void> {
    const service = this.service(name);
    await Promise.all(Object.keys(service.depends_on).map(reach));
    if (this.isRunning(name)) return;
    if (service.restart === 'no') {
      const { status, out } = await this.run(name);
      if (status !== 0) throw new Error(`${name} failed: ${out}`);
      return;
    }
    await this.start(name);
    await this.healthy(name);
  }

  /** A line of a runbook: `NAME=value… docker compose up | run | exec | stop …` as it stands there. */
  async command(words: readonly string[]): Promise<Ended> {
    const set = words.map((word) => /^(\w+)=(.*)$/u.exec(word));
    const count = set.indexOf(null);
    if (count <= 0) return this.#compose(words);
    const variables = set.slice(0, count).map((match) => [match?.[1] ?? '', match?.[2] ?? '']);
    this.compose = this.#read(Object.fromEntries(variables) as Record<string, string>);
    try {
      return await this.#compose(words.slice(count));
    } finally {
      this.compose = this.#read({});
    }
  }

  async #compose([program, tool, ...words]: readonly string[]): Promise<Ended> {
    if (program !== 'docker' || tool !== 'compose') throw new Error(`not known: ${program ?? ''}`);
    // A service that is named is started whatever its profile.
    const [verb = '', ...rest] = words[0] === '--profile' ? words.slice(2) : words;
    const flags = rest.findIndex((word) => !['-d', '--wait', '--rm'].includes(word));
    const [name = '', ...more] = rest.slice(flags);
    switch (verb) {
      case 'up':
        await this.up(name, ...more);
        break;
      case 'stop':
        for (const one of [name, ...more]) await this.stop(one);
        break;
      case 'run':
        return this.run(name, more);
      case 'exec':
        return this.exec(name, more);
      default:
        throw new Error(`not known: ${verb}`);
    }
    return { status: 0, out: '', err: '' };
  }

  protected override imageOf(service: Service): Image & { readonly binds?: readonly string[] } {
    const ours = service.build?.dockerfile === 'deploy/zones/Dockerfile';
    return ours ? this.#members : super.imageOf(service);
  }
}
