/** The profile `zones` for a test file, brought up by the commands of deploy/zones.md as they stand there. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { readCompose } from '../deploy/compose.ts';
import { PROJECT, buildImage } from '../deploy/image.ts';
import { makeSite, trialHeader } from '../deploy/site.ts';
import { ZoneContainers } from './zone-containers.ts';

export const NUMBERS = [1, 2, 3] as const;
export type Numbered = (typeof NUMBERS)[number];
/** What is done by others here: the site in a folder of the test's, and no Docker to build with. */
const ELSEWHERE = ['sudo sh deploy/make-site', 'docker compose --profile zones build'];

/** Patroni looks every 2 s, and takes a leader for lost after 8. */
const CHOSEN_MS = 30_000;

export interface Answer {
  readonly status: number;
  readonly json: Record<string, unknown>;
}

export interface Member {
  readonly Member: string;
  readonly Role: string;
  readonly State: string;
}

type Variables = Readonly<Record<string, string>>;

/** `"name":"…"` in what commands printed. */
export const printed = (said: readonly string[], name: string): string =>
  new RegExp(`"${name}":"([^"]+)"`, 'u').exec(said.join('\n'))?.[1] ?? '';

export async function until(
  what: string,
  milliseconds: number,
  holds: () => Promise<boolean> | boolean,
): Promise<void> {
  const end = performance.now() + milliseconds;
  const now = async () => holds();
  let last: unknown = 'no';
  while (
    !(await now().catch((error: unknown) => {
      last = error;
      return false;
    }))
  ) {
    if (performance.now() > end) {
      throw new Error(`${what}: not within ${String(milliseconds)} ms: ${String(last)}`);
    }
    await sleep(200);
  }
}

const valueOf =
  (variables: Variables) =>
  (_: string, name: string): string => {
    const value = variables[name] ?? '';
    if (value === '') throw new Error(`$${name} is not known`);
    return value;
  };

/** A page of runbooks, whose blocks of commands are run by their names. */
export class Page {
  readonly #containers: ZoneContainers;
  readonly text: string;

  constructor(containers: ZoneContainers, name: string) {
    this.#containers = containers;
    this.text = readFileSync(join(PROJECT, 'deploy', name), 'utf8');
  }

  /** The names of all blocks. */
  get blocks(): readonly string[] {
    return [...this.text.matchAll(/^```sh (.+)$/gmu)].map(([, name = '']) => name);
  }

  /** The lines of a block, with variables put in; what each printed. */
  async run(block: string, variables: Variables = {}, rename = (line: string) => line) {
    const start = this.text.indexOf(`\`\`\`sh ${block}\n`);
    if (start < 0) throw new Error(`no block ${block}`);
    const [, text = ''] = /^.*\n([\s\S]*?)```/u.exec(this.text.slice(start)) ?? [];
    const said: string[] = [];
    for (const line of text.trim().split('\n')) {
      if (ELSEWHERE.includes(line)) continue;
      // As a shell: words first, then what a variable holds is one word.
      const words = (rename(line).match(/(?:"[^"]*"|[^\s"])+/gu) ?? []).map((word) =>
        word.replaceAll('"', '').replaceAll(/\$(\w+)/gu, valueOf(variables)),
      );
      const { status, out, err } = await this.#containers.command(words);
      if (status !== 0) throw new Error(`${line}: ${out}${err}`);
      said.push(out);
    }
    return said;
  }
}

export class ZoneStack {
  readonly folder: string;
  readonly site: string;
  readonly containers: ZoneContainers;

  private constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'twofold-zones-compose-'));
    this.site = join(this.folder, 'site');
    makeSite(this.site);
    const read = (variables: Variables) =>
      readCompose(join(PROJECT, 'docker-compose.yml'), { TWOFOLD_SITE: this.site, ...variables });
    const image = buildImage(join(this.folder, 'image'));
    this.containers = new ZoneContainers(read, image, this.folder);
  }

  /** Its networks, and nothing in them. */
  static async open(): Promise<ZoneStack> {
    const stack = new ZoneStack();
    await stack.containers.open();
    return stack;
  }

  async close(): Promise<void> {
    await this.containers.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Everything, zones 2 and 3 by joining. */
  async up(): Promise<void> {
    const page = new Page(this.containers, 'zones.md');
    await page.run('trial-up');
    for (const zone of ['2', '3']) {
      const rename = (line: string) => line.replaceAll(/-2\b/gu, `-${zone}`);
      const offered = await page.run('trial-offer', {}, rename);
      const FINGERPRINT = printed(offered, 'fingerprint');
      const answered = await page.run('trial-answer', { FINGERPRINT }, rename);
      await page.run('trial-accept', { TRANSCRIPT: printed(answered, 'transcript') }, rename);
    }
  }

  /** One request to a zone over TLS, with a token of the site's issuer. */
  async call(zone: Numbered, path: string, body?: object): Promise<Answer> {
    const header = join(this.folder, 'header');
    writeFileSync(header, trialHeader(this.site, 'admin', 'user'), { mode: 0o600 });
    const name = `zone-${String(zone)}`;
    const out = await new Promise<string>((done, fail) => {
      const child = execFile(
        'curl',
        [
          ...['-sS', '--max-time', '10', '--cacert', join(this.site, 'ca.pem'), '-H', `@${header}`],
          ...['--resolve', `${name}:8370:${this.containers.address(name)}`],
          ...(body === undefined ? [] : ['--json', '@-']),
          ...['-w', '\n%{http_code}', `https://${name}:8370${path}`],
        ],
        (error, text) => {
          if (error === null) done(text);
          else fail(new Error(error.message, { cause: error }));
        },
      );
      // A connection that is refused reads nothing.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(body === undefined ? '' : JSON.stringify(body));
    });
    const [json = '', status = ''] = out.split(/\n(?=\d+$)/u);
    return { status: Number(status), json: JSON.parse(json) as Record<string, unknown> };
  }

  /** As Patroni knows them, from whichever member answers. */
  async members(): Promise<readonly Member[]> {
    for (const zone of NUMBERS) {
      const name = `patroni-${String(zone)}`;
      if (!this.containers.isRunning(name)) continue;
      const list = ['patronictl', '-c', '/run/patroni/conf', 'list', '-f', 'json'];
      const { status, out } = await this.containers.exec(name, list);
      if (status === 0) return JSON.parse(out) as readonly Member[];
    }
    throw new Error('no member answers');
  }

  /** The name of the member with a role. Waits for one: while another is chosen, there is none for a moment. */
  async memberWith(role: 'Leader' | 'Sync Standby', milliseconds = CHOSEN_MS): Promise<string> {
    let name = '';
    await until(`a ${role}`, milliseconds, async () => {
      name = (await this.members()).find(({ Role }) => Role === role)?.Member ?? '';
      return name !== '';
    });
    return name;
  }

  /** Resolves once so many members run, with a leader and a synchronous standby. */
  async healthy(count = 3, milliseconds = 150_000): Promise<void> {
    await until(`${String(count)} members`, milliseconds, async () => {
      const all = await this.members();
      const roles = all.map(({ Role }) => Role);
      const running = all.filter(({ State }) => /^(?:running|streaming)$/u.test(State));
      const led = roles.includes('Leader') && roles.includes('Sync Standby');
      return running.length === count && led;
    });
  }
}
