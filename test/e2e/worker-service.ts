/** A service with several workers: its processes, its metrics, and connections of one's own choosing. */
import { readFileSync, readdirSync } from 'node:fs';
import { Agent, request as send } from 'node:http';

import { eventually } from '../store/eventually.ts';
import { ofProcess } from './processes.ts';
import { TestService } from './service.ts';
import type { ServiceOptions } from './service.ts';

export interface WorkerStatus {
  readonly worker: number;
  readonly instance: string | null;
  readonly ready: boolean;
  readonly state: string;
  readonly connections: number;
  readonly restarts: number;
}

export async function startWorkers(
  count: number,
  options: ServiceOptions = {},
): Promise<TestService> {
  const args = [...(options.args ?? []), '--workers', String(count)];
  const service = await TestService.start({ ...options, args });
  try {
    await allReady(service, count);
  } catch (error) {
    await service.destroy();
    throw error;
  }
  return service;
}

/** Resolves when so many say on the status page that they are ready. */
export async function allReady(service: TestService, count: number): Promise<void> {
  const ready = async () => (await workersOf(service)).filter((each) => each.ready).length;
  await eventually(async () => (await ready()) === count, 30_000);
}

const monitoring = ({ output }: TestService): string => {
  const [, url] = /^status +(\S+)$/mu.exec(output) ?? [];
  if (url === undefined) throw new Error(`no status page:\n${output}`);
  return url;
};

/** Over a connection of its own, so that no worker keeps it. */
const read = async (url: string, accept: string): Promise<string> => {
  const response = await fetch(url, { headers: { accept, connection: 'close' } });
  return response.text();
};

export async function workersOf(service: TestService): Promise<readonly WorkerStatus[]> {
  const status = await read(monitoring(service), 'application/json');
  return (JSON.parse(status) as { workers?: WorkerStatus[] }).workers ?? [];
}

/** The sum of the samples of one name, of those whose line matches. */
export async function metric(service: TestService, name: string, like = /./u): Promise<number> {
  const text = await read(`${monitoring(service)}metrics`, 'text/plain');
  const samples = text.split('\n').filter((line) => line.startsWith(name) && like.test(line));
  return samples.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

/** Process ids of the workers that run, in the order of their numbers when none was replaced. */
export const workerPids = ({ pid }: TestService): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/u.test(name))
    .map(Number)
    .filter((each) => parentOf(each) === pid)
    .filter((each) => ofProcess(each, 'cmdline').split('\0').includes('worker'))
    .toSorted((one, other) => one - other);

const parentOf = (pid: number): number => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return 0;
  }
};

export interface Reply {
  readonly status: number;
  readonly json: Record<string, unknown>;
  readonly auditId: string | null;
}

/** One kept-alive connection; rejects with Node's error when it breaks under a request. */
export class Line {
  readonly #service: TestService;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  constructor(service: TestService) {
    this.#service = service;
  }

  async post(path: string, body: object): Promise<Reply> {
    return this.#send('POST', path, body);
  }

  async get(path: string): Promise<Reply> {
    return this.#send('GET', path, null);
  }

  close(): void {
    this.#agent.destroy();
  }

  async #send(method: string, path: string, body: object | null): Promise<Reply> {
    const headers = {
      Authorization: `Bearer ${await this.#service.token('admin')}`,
      'Content-Type': 'application/json',
    };
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    const url = new URL(path, this.#service.url);
    const request = send(url, { method, headers, agent: this.#agent }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.once('error', reject);
      response.once('end', () => {
        const auditId = response.headers['twofold-audit-id'];
        resolve({
          status: response.statusCode ?? 0,
          json: JSON.parse(text) as Record<string, unknown>,
          auditId: typeof auditId === 'string' ? auditId : null,
        });
      });
    });
    request.once('error', reject);
    request.end(body === null ? undefined : JSON.stringify(body));
    return promise;
  }
}
