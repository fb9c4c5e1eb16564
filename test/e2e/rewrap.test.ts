/** The script of docs/rewrap.md, run as it stands; the service is killed under it and started again. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from '../store/eventually.ts';
import { TestService } from './service.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/rewrap.md'), 'utf8');
const ITEMS = 300;
const LINES = 20;
const plain = (index: number) => Buffer.from(`item ${index}`).toString('base64');

let service: TestService;
let folder: string;
let dataDir: string;

beforeAll(async () => {
  service = await TestService.start();
  ({ dataDir } = service);
  folder = mkdtempSync(join(tmpdir(), 'twofold-rewrap-'));
}, 90_000);
afterAll(async () => {
  await service.destroy();
  rmSync(folder, { recursive: true, force: true });
});

const run = (url: string): ChildProcess =>
  spawn('sh', ['move', 'in.ndjson', 'out', 'demo', String(LINES)], {
    cwd: folder,
    env: { PATH: process.env['PATH'] ?? '', URL: url, HEADER: join(folder, 'header') },
    stdio: 'ignore',
  });

describe('a rewrap job', () => {
  it('goes on where it was after kill -9 of service and client', async () => {
    const [, script = ''] = /```sh\n([\s\S]*?)```/u.exec(page) ?? [];
    writeFileSync(join(folder, 'move'), script);
    writeFileSync(
      join(folder, 'header'),
      `Authorization: Bearer ${await service.token('admin')}\n`,
    );
    await service.request('POST', '/v1/admin/keys', { name: 'demo', suite: 'MLKEM768-P256' });
    const items = Array.from({ length: ITEMS }, (_, index) => ({ plaintext: plain(index) }));
    const wrapped = await service.request('POST', '/v1/keys/demo/wrap/batch', { items });
    const { results } = wrapped.json as unknown as { results: { ciphertext: string }[] };
    const lines = results.map(({ ciphertext }, index) =>
      JSON.stringify({ ref: String(index), ciphertext }),
    );
    writeFileSync(join(folder, 'in.ndjson'), `${lines.join('\n')}\n`);
    await service.request('POST', '/v1/admin/keys/demo/rotate', {});

    const out = (name: string) => join(folder, 'out', name);
    const client = run(service.url);
    const ended = once(client, 'exit');
    await eventually(() => Promise.resolve(existsSync(out('out.000002'))), 60_000);
    client.kill('SIGKILL');
    await service.kill();
    await ended;
    const before = readdirSync(join(folder, 'out')).filter((name) => /^out\.\d+$/.test(name));

    service = await TestService.start({ dataDir });
    const job = readFileSync(out('job'), 'utf8').trim();
    const { json } = await service.request('GET', job);
    const { offset } = json['progress'] as { offset: number };
    // What a client has an answer of is counted; of more it may not have heard.
    expect(offset).toBeGreaterThanOrEqual(before.length * LINES);
    const [code] = (await once(run(service.url), 'exit')) as [number];
    expect(code).toBe(0);
    const finished = await service.request('GET', job);
    expect(finished.json).toMatchObject({
      state: 'succeeded',
      progress: { offset: ITEMS, total: ITEMS, succeeded: ITEMS, failed: 0, unchanged: 0 },
    });
    const answers = readdirSync(join(folder, 'out'))
      .filter((name) => /^out\.\d+$/.test(name))
      .toSorted()
      .flatMap((name) => readFileSync(out(name), 'utf8').trimEnd().split('\n'))
      .map((line) => JSON.parse(line) as { ref: string; ciphertext: string; keyVersion: number });
    expect(answers.map(({ ref }) => ref)).toEqual(items.map((_, index) => String(index)));
    const opened = await service.request('POST', '/v1/keys/demo/unwrap/batch', {
      items: answers.map(({ ciphertext }) => ({ ciphertext })),
    });
    const { results: plains } = opened.json as unknown as {
      results: { plaintext: string; keyVersion: number }[];
    };
    expect(plains.map(({ plaintext }) => plaintext)).toEqual(items.map((one) => one.plaintext));
    expect(new Set(plains.map(({ keyVersion }) => keyVersion))).toEqual(new Set([2]));
  }, 180_000);
});
