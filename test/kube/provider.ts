/** A KMS v2 provider as its operator runs it: started, killed and brought back at the same socket. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT } from '../deploy/image.ts';
import { TestService } from '../e2e/service.ts';
import type { Beside } from './cluster.ts';
import { freePort } from '../free-port.ts';
import { Program } from './program.ts';

export interface Provider extends Beside {
  readonly socket: string;
  /** kill -9 of the service; an agent lives on. */
  kill(): Promise<void>;
  /** A new version of the key; the one that is announced until then stays usable. */
  rotate(): Promise<void>;
}

export const KEY = 'cluster';

const done = async (service: TestService, path: string, body: object): Promise<void> => {
  const answer = await service.request('POST', path, body);
  if (answer.status >= 300) throw new Error(`${path}: ${answer.bytes.toString('utf8')}`);
};

const twofold = (...argv: readonly string[]): Program =>
  new Program('/bin/sh', [join(PROJECT, 'scripts/launch'), ...argv]);

/** `twofold serve --dev --kms-socket …`: the provider inside the service. */
export class InServer implements Provider {
  readonly socket: string;
  readonly #suite: string;
  #service: TestService | undefined;
  #dataDir: string | undefined;

  constructor(folder: string, suite: string) {
    mkdirSync(join(folder, 'socket'), { mode: 0o700, recursive: true });
    this.socket = join(folder, 'socket/kms.sock');
    this.#suite = suite;
  }

  get service(): TestService {
    if (this.#service === undefined) throw new Error('the service was not started');
    return this.#service;
  }

  async start(): Promise<void> {
    const args = ['--kms-socket', this.socket, '--kms-key', KEY, '--kms-suite', this.#suite];
    this.#service = await TestService.start({
      args,
      ...(this.#dataDir === undefined ? {} : { dataDir: this.#dataDir }),
    });
    this.#dataDir = this.#service.dataDir;
  }

  kill = (): Promise<void> => this.service.kill();

  rotate = (): Promise<void> => done(this.service, `/v1/admin/keys/${KEY}/rotate`, {});

  async destroy(): Promise<void> {
    await this.#service?.destroy();
  }
}

/** `twofold kms-plugin`: the provider beside the API server, over REST, by a token file. */
export class AgentBeside implements Provider {
  readonly socket: string;
  readonly #folder: string;
  readonly #suite: string;
  #agent: Program | undefined;
  #service: TestService | undefined;
  #port = 0;

  constructor(folder: string, suite: string) {
    this.#folder = join(folder, 'agent');
    mkdirSync(this.#folder, { mode: 0o700 });
    this.socket = join(this.#folder, 'kms.sock');
    this.#suite = suite;
  }

  async start(): Promise<void> {
    this.#port = this.#port === 0 ? await freePort() : this.#port;
    const before = this.#service;
    const environment = { TWOFOLD_PORT: String(this.#port) };
    const service = await TestService.start(
      before === undefined ? { environment } : { environment, dataDir: before.dataDir },
    );
    this.#service = service;
    if (before !== undefined) return;
    await done(service, '/v1/admin/keys', { name: KEY, suite: this.#suite });
    await this.#startAgent(service);
  }

  async #startAgent(service: TestService): Promise<void> {
    const token = join(this.#folder, 'token');
    writeFileSync(token, await service.token('user'), { mode: 0o600 });
    const own = ['--socket', this.socket, '--token-file', token, '--metrics-port', '0'];
    const about = ['--key', KEY, '--cluster', 'cluster-a'];
    await this.#register(service, about);
    const agent = twofold('kms-plugin', 'serve', ...own, '--server', service.url, ...about);
    this.#agent = agent;
    await agent.until('serves', () => Promise.resolve(agent.output.includes('serving ')), 60_000);
  }

  /** The operator's step, without which no agent seals anything. */
  async #register(service: TestService, about: readonly string[]): Promise<void> {
    const header = join(this.#folder, 'admin.header');
    const text = `Authorization: Bearer ${await service.token('admin')}\n`;
    writeFileSync(header, text, { mode: 0o600 });
    const own = ['--url', service.url, '--authorization', header];
    const register = twofold('kms-plugin', 'register', ...about, ...own);
    await register.ended();
    if (!register.output.includes('begins with version 1')) throw new Error(register.output);
  }

  async kill(): Promise<void> {
    await this.#service?.kill();
  }

  async rotate(): Promise<void> {
    if (this.#service === undefined) throw new Error('the service was not started');
    await done(this.#service, `/v1/admin/keys/${KEY}/rotate`, {});
  }

  async destroy(): Promise<void> {
    await this.#agent?.stop();
    await this.#service?.destroy();
  }
}
