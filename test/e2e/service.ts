/**
 * A real service for tests: its own process, data folder, ports, embedded PostgreSQL and token.
 * Nothing of it outlives `destroy`. Unless a test is about first starts, it starts from a copy of a
 * folder that a first start left: tokens, databases and roots take seconds to make.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { DevelopmentIssuer } from '../../src/access/development-issuer.ts';
import { SOURCES, copyTemplate } from '../cached.ts';
import { COMMAND_ENVIRONMENT } from '../command-environment.ts';
import { assertListed } from '../contract/observed.ts';

const root = join(import.meta.dirname, '../..');
const START_MS = 60_000;

export interface ServiceOptions {
  /** A folder of an earlier service, or an empty one; a copy of a started service's unless given. */
  readonly dataDir?: string;
  /** Whether everything in the folder is made by this start, as in a new one. */
  readonly first?: boolean;
  /** Settings in addition to a development service on free ports. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** Wait until it is ready; true unless told. */
  readonly ready?: boolean;
  /** Working folder; the clone's unless told. */
  readonly cwd?: string;
  /** In a session and process group of its own, as a terminal starts it. */
  readonly detached?: boolean;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Buffer;
  /** The body as JSON; throws when it is none. */
  readonly json: Record<string, unknown> & { readonly code?: string };
}

export type Role = 'admin' | 'operator' | 'user' | 'auditor' | 'none';

export class TestService {
  readonly dataDir: string;
  readonly child: ChildProcess;
  #output = '';
  #tokens = new Map<string, string>();

  private constructor(options: ServiceOptions, dataDir: string) {
    this.dataDir = dataDir;
    const settings = {
      TWOFOLD_DATA: this.dataDir,
      TWOFOLD_PORT: '0',
      TWOFOLD_METRICS_PORT: '0',
      ...options.environment,
    };
    // The launcher ends by exec: the process is the server.
    const launch = [join(root, 'scripts/launch'), 'serve', '--dev', ...(options.args ?? [])];
    this.child = spawn('/bin/sh', launch, {
      cwd: options.cwd ?? root,
      detached: options.detached ?? false,
      env: { ...COMMAND_ENVIRONMENT, HOME: process.env['HOME'] ?? '/', ...settings },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (chunk: Buffer) => (this.#output += chunk.toString('utf8')));
    }
  }

  /** Starts a service; resolves when it is ready (or has merely been started). */
  static async start(options: ServiceOptions = {}): Promise<TestService> {
    const service = new TestService(options, options.dataDir ?? (await newDataDir(options)));
    if (options.ready === false) return service;
    try {
      await service.untilReady();
    } catch (error) {
      await service.kill();
      await stopDatabaseOf(service.dataDir);
      if (options.dataDir === undefined) {
        rmSync(service.dataDir, { recursive: true, force: true });
      }
      throw error;
    }
    return service;
  }

  /** Everything printed so far. */
  get output(): string {
    return this.#output;
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('the service has no process');
    return this.child.pid;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  get url(): string {
    const [, url] = /is ready at (\S+)/.exec(this.#output) ?? [];
    if (url === undefined) throw new Error(`the service is not ready:\n${this.#output}`);
    return url;
  }

  get log(): string {
    return readFileSync(join(this.dataDir, 'twofold.log'), 'utf8');
  }

  async untilReady(): Promise<void> {
    await this.untilOutput(/is ready at \S+/);
  }

  async untilOutput(pattern: RegExp, milliseconds = START_MS): Promise<void> {
    const until = performance.now() + milliseconds;
    while (!pattern.test(this.#output)) {
      if (!this.running || performance.now() > until) {
        throw new Error(`${String(pattern)} was not printed:\n${this.#output}`);
      }
      await sleep(10);
    }
  }

  /** A token of the development issuer, made anew for each role and remembered. */
  async token(role: Role): Promise<string> {
    const known = this.#tokens.get(role);
    if (known !== undefined) return known;
    const issuer = await DevelopmentIssuer.open({ folder: this.dataDir, create: false });
    const roles = role === 'none' ? [] : [role];
    const { token } = await issuer.issueToken({ roles, ttlSeconds: 3_600 });
    this.#tokens.set(role, token);
    return token;
  }

  /** One request as `role`; `body` is sent as JSON unless it is bytes. */
  async request(
    method: string,
    path: string,
    body?: unknown,
    options: { readonly role?: Role | null; readonly headers?: Record<string, string> } = {},
  ): Promise<Answer> {
    const role = options.role === undefined ? 'admin' : options.role;
    const bytes = body instanceof Uint8Array;
    const response = await fetch(new URL(path, this.url), {
      method,
      headers: {
        ...(role === null ? {} : { Authorization: `Bearer ${await this.token(role)}` }),
        ...(body === undefined
          ? {}
          : { 'Content-Type': bytes ? 'application/octet-stream' : 'application/json' }),
        ...options.headers,
      },
      ...(body === undefined ? {} : { body: bytes ? Buffer.from(body) : JSON.stringify(body) }),
    });
    const content = Buffer.from(await response.arrayBuffer());
    const contentType = response.headers.get('content-type');
    assertListed({ method, path, status: response.status, contentType, body: content });
    return {
      status: response.status,
      headers: response.headers,
      bytes: content,
      get json() {
        return JSON.parse(content.toString('utf8')) as Answer['json'];
      },
    };
  }

  /** Orderly stop by SIGTERM; returns the exit code. */
  async stop(): Promise<number | null> {
    if (this.running) {
      this.child.kill('SIGTERM');
      await once(this.child, 'exit');
    }
    return this.child.exitCode;
  }

  /** kill -9 of the server alone; its database lives on, as after a crash. */
  async kill(): Promise<void> {
    if (!this.running) return;
    this.child.kill('SIGKILL');
    await once(this.child, 'exit');
  }

  /** Ends everything and removes the data folder. */
  async destroy(): Promise<void> {
    await this.stop();
    await stopDatabaseOf(this.dataDir);
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}

async function newDataDir({ first = false, environment = {} }: ServiceOptions): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-e2e-'));
  // A database of the test's own knows nothing of a token that was made before.
  const ownDatabase = environment['DATABASE_URL'] !== undefined;
  if (!first && !ownDatabase)
    await copyTemplate({ name: 'twofold-test-service', ...STARTED }, folder);
  return folder;
}

const STARTED = {
  madeFrom: [
    ...SOURCES,
    ...[
      'scripts/launch',
      ...readdirSync(join(root, 'prisma/migrations')).map((name) =>
        join('prisma/migrations', name, 'migration.sql'),
      ),
      'package-lock.json',
    ].map((name) => join(root, name)),
  ],
  fill: async (dataDir: string) => {
    const service = await TestService.start({ dataDir });
    const code = await service.stop();
    if (code !== 0) throw new Error(`the stop ended with ${String(code)}:\n${service.output}`);
    // What tests read there is to be of their own service.
    rmSync(join(dataDir, 'twofold.log'));
  },
};

/** Ends a database that a killed service left behind. */
export async function stopDatabaseOf(dataDir: string): Promise<void> {
  const { stopOrphans } = await import('../../src/store/embedded-process.ts');
  await stopOrphans(join(dataDir, 'db'));
}
