/** A KMS v2 provider as its operator runs it: started, killed and brought back at the same socket. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { TestService } from '../e2e/service.ts';

export interface Provider {
  readonly socket: string;
  start(): Promise<void>;
  /** kill -9 of what serves the socket. */
  kill(): Promise<void>;
  /** A new version of the key; the one that is announced until then stays usable. */
  rotate(): Promise<void>;
  destroy(): Promise<void>;
}

export const KEY = 'cluster';

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

  async rotate(): Promise<void> {
    const answer = await this.service.request('POST', `/v1/admin/keys/${KEY}/rotate`, {});
    if (answer.status !== 201 && answer.status !== 200) {
      throw new Error(`rotate: ${answer.status} ${answer.bytes.toString('utf8')}`);
    }
  }

  async destroy(): Promise<void> {
    await this.#service?.destroy();
  }
}
