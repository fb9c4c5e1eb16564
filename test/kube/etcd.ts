/** A real etcd of one member, read and written raw through its JSON gateway. */
import { join } from 'node:path';
import { freePort } from '../free-port.ts';
import { Program } from './program.ts';

interface Range {
  readonly kvs?: readonly { readonly key: string; readonly value?: string }[];
}

const encoded = (text: string): string => Buffer.from(text).toString('base64');

export class Etcd {
  readonly #program: Program;
  readonly url: string;

  private constructor(program: Program, url: string) {
    this.#program = program;
    this.url = url;
  }

  static async start(path: string, folder: string): Promise<Etcd> {
    const [client, peer] = [await freePort(), await freePort()];
    const [url, peerUrl] = [`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`];
    const program = new Program(path, [
      `--name=one`,
      `--data-dir=${join(folder, 'etcd')}`,
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=one=${peerUrl}`,
      '--unsafe-no-fsync',
      '--log-level=warn',
    ]);
    const etcd = new Etcd(program, url);
    try {
      await program.until('is healthy', async () => (await fetch(`${url}/health`)).ok, 20_000);
    } catch (error) {
      await etcd.stop();
      throw error;
    }
    return etcd;
  }

  /** @throws where there is no such key */
  async get(key: string): Promise<Buffer> {
    const { kvs } = (await this.#call('range', { key: encoded(key) })) as Range;
    const [found] = kvs ?? [];
    if (found === undefined) throw new Error(`etcd has no ${key}`);
    return Buffer.from(found.value ?? '', 'base64');
  }

  /** All values below, by key. */
  async below(prefix: string): Promise<Map<string, Buffer>> {
    const end = Buffer.from(prefix);
    end[end.length - 1] = (end.at(-1) ?? 0) + 1;
    const range = { key: encoded(prefix), range_end: end.toString('base64') };
    const { kvs = [] } = (await this.#call('range', range)) as Range;
    return new Map(
      kvs.map(({ key, value = '' }) => [
        Buffer.from(key, 'base64').toString('utf8'),
        Buffer.from(value, 'base64'),
      ]),
    );
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    const text = Buffer.from(value).toString('base64');
    await this.#call('put', { key: encoded(key), value: text });
  }

  async remove(key: string): Promise<void> {
    await this.#call('deleterange', { key: encoded(key) });
  }

  stop(): Promise<void> {
    return this.#program.stop('SIGKILL');
  }

  async #call(method: string, body: object): Promise<unknown> {
    const answer = await fetch(`${this.url}/v3/kv/${method}`, {
      method: 'POST',
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`etcd: ${method}: ${text}`);
    return JSON.parse(text) as unknown;
  }
}
