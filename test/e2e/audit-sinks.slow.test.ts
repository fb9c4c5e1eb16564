/**
 * The sinks of the audit log in real services: a file of each instance, and a receiver over HTTP that
 * whichever leads serves. The receiver refuses, takes, and at last takes without an answer; then the
 * service is killed, and another one goes on.
 */
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { wholeLogBy } from '../audit/sequenced-log.ts';
import type { WholeLog } from '../audit/sequenced-log.ts';
import { startBeside } from './beside.ts';
import { withDatabaseOf } from './inspection.ts';
import { TestService } from './service.ts';

type Line = Record<string, unknown> & { readonly index: number; readonly id: string };

const linesOf = (text: string): Line[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);

/** Keeps what it took, delivery by delivery; refuses at first. */
class Receiver {
  readonly #server: Server;
  /** `silent`: takes it, and lets the sender wait for an answer. */
  mode: 'refuses' | 'takes' | 'silent' = 'refuses';
  refused = 0;
  readonly deliveries: Line[][] = [];

  constructor() {
    this.#server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        if (this.mode === 'refuses') {
          this.refused += 1;
          response.writeHead(503).end();
          return;
        }
        const lines = linesOf(Buffer.concat(parts).toString());
        const ends = [lines.at(0)?.index, lines.at(-1)?.index].map(String);
        const said = ['first', 'last'].map((end) => request.headers[`twofold-audit-${end}`]);
        expect(said).toEqual(ends);
        this.deliveries.push(lines);
        if (this.mode === 'takes') response.writeHead(204).end();
      });
    });
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}/in`;
  }

  get lines(): Line[] {
    return this.deliveries.flat();
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

const receiver = new Receiver();
const folder = mkdtempSync(join(tmpdir(), 'twofold-sinks-'));
const fileOf = (who: string) => join(folder, `${who}.ndjson`);
let first: TestService;
let second: TestService;
let url: string;

const sinksOf = (who: string) => ({
  TWOFOLD_AUDIT_SINKS: JSON.stringify([
    { type: 'file', name: 'here', path: fileOf(who) },
    { type: 'http', name: 'lake', url },
  ]),
});

beforeAll(async () => {
  url = await receiver.listen();
  first = await TestService.start({ environment: sinksOf('first') });
}, 90_000);

afterAll(async () => {
  // The second one uses the database of the first.
  await (second as TestService | undefined)?.destroy();
  await first.destroy();
  receiver.close();
  rmSync(folder, { recursive: true });
});

async function until<T>(what: string, read: () => T | Promise<T>, holds: (value: T) => boolean) {
  const end = performance.now() + 25_000;
  for (;;) {
    const value = await read();
    if (holds(value)) return value;
    if (performance.now() > end) throw new Error(`${what}: not in time`);
    await sleep(100);
  }
}

const log = (): Promise<WholeLog> => withDatabaseOf(first.dataDir, wholeLogBy);
/** Nothing before the sink has made its file. */
const fileLines = (who: string): Line[] =>
  existsSync(fileOf(who)) ? linesOf(readFileSync(fileOf(who), 'utf8')) : [];
const has = (id: string) => (lines: readonly Line[]) => lines.some((line) => line.id === id);

async function use(service: TestService): Promise<string> {
  const { headers, status } = await service.request('POST', '/v1/random', { bytes: 16 });
  expect(status).toBe(200);
  return headers.get('Twofold-Audit-Id') ?? '';
}

/** The figures of the sinks that the process shows; `lake.failing`: 1. */
async function figures(service: TestService): Promise<Record<string, number>> {
  const [, at = ''] = /^metrics +(\S+)$/mu.exec(service.output) ?? [];
  const text = await (await fetch(at)).text();
  const found = text.matchAll(
    /^twofold_audit_sink_(?<figure>\w+)\{kind="(?<sink>\w+)"\} (?<value>\S+)$/gmu,
  );
  return Object.fromEntries(
    [...found].map(({ groups }) => [
      `${groups?.['sink'] ?? ''}.${groups?.['figure'] ?? ''}`,
      Number(groups?.['value']),
    ]),
  );
}

/** Every entry of the log up to the last line, by its index and in its place. */
async function expectWhole(lines: readonly Line[]): Promise<void> {
  const { entries } = await log();
  expect(lines.map(({ index }) => index)).toEqual(lines.map((_, position) => position));
  expect(lines.map(({ id }) => id)).toEqual(entries.slice(0, lines.length).map(({ id }) => id));
}

it('have what is used while a receiver refuses, which the metrics show', async () => {
  const made = await first.request('POST', '/v1/admin/keys', { name: 'a', suite: 'A256GCM' });
  expect(made.status).toBe(201);
  const batch = { items: [{ plaintext: 'YQ==' }, { plaintext: 'Yg==' }] };
  const wrapped = await first.request('POST', '/v1/keys/a/wrap/batch', batch);
  expect(wrapped.status).toBe(200);
  expect((await first.request('GET', '/v1/keys/none')).status).toBe(404);
  const last = await use(first);
  await until('the file', () => fileLines('first'), has(last));
  const shown = await until(
    'the lag',
    () => figures(first),
    (now) => now['here.behind_entries'] === 0 && (now['lake.behind_entries'] ?? 0) > 3,
  );
  expect(shown).toMatchObject({ 'here.failing': 0, 'here.behind_seconds': 0, 'lake.failing': 1 });
  expect(shown['lake.behind_seconds']).toBeGreaterThan(0);
  const page = /^status +(\S+)$/mu.exec(first.output)?.[1] ?? '';
  const status: unknown = await (
    await fetch(page, { headers: { accept: 'application/json' } })
  ).json();
  expect(status).toMatchObject({
    audit: {
      sinks: [
        { name: 'here', state: 'serving' },
        { name: 'lake', state: 'failing', behind: expect.any(Number) },
      ],
    },
  });
  expect(receiver.refused).toBeGreaterThan(0);
  expect(receiver.deliveries).toEqual([]);
  expect(statSync(fileOf('first')).mode & 0o777).toBe(0o600);

  receiver.mode = 'takes';
  await until('the receiver', () => receiver.lines, has(last));
  await until(
    'no lag',
    () => figures(first),
    (now) => now['lake.failing'] === 0 && now['lake.behind_seconds'] === 0,
  );
  await expectWhole(fileLines('first'));
  await expectWhole(receiver.lines);
  const batchId = wrapped.headers.get('Twofold-Audit-Id') ?? '';
  const [ofBatch] = receiver.lines.filter((line) => line.id === batchId);
  expect(ofBatch).toMatchObject({
    ...{ version: 2, operation: 'wrap', source: '127.0.0.1', engine: expect.any(String) },
    ...{ items: expect.any(Array), durationUs: expect.any(Number) },
  });
  for (const id of [last, batchId]) {
    const [inFile] = fileLines('first').filter((line) => line.id === id);
    const [received] = receiver.lines.filter((line) => line.id === id);
    const { json } = await first.request('GET', `/v1/audit/entries/${id}`, undefined, {
      role: 'auditor',
    });
    expect(inFile).toEqual({ index: inFile?.index, ...json });
    expect(received).toEqual(inFile);
  }
}, 60_000);

it('lose nothing when the service is killed: another one goes on', async () => {
  second = await startBeside(first, sinksOf('second'));
  const before = await use(second);
  await until('the file of the second', () => fileLines('second'), has(before));
  // One serves the receiver, and only that one shows its figures.
  expect(Object.keys(await figures(second)).some((name) => name.startsWith('lake'))).toBe(false);
  await until('the receiver', () => receiver.lines, has(before));

  receiver.mode = 'silent';
  const seam = await use(first);
  await until('what is not answered', () => receiver.lines, has(seam));
  await first.kill();
  const cut = receiver.deliveries.length;
  receiver.mode = 'takes';
  const after = await use(second);
  await until('the receiver', () => receiver.deliveries.slice(cut).flat(), has(after));
  expect(Object.keys(await figures(second))).toContain('lake.behind_entries');

  const [unanswered = []] = receiver.deliveries.slice(cut - 1);
  expect(receiver.deliveries[cut]?.slice(0, unanswered.length)).toEqual(unanswered);
  await expectWhole(receiver.deliveries.toSpliced(cut - 1, 1).flat());
}, 60_000);

it('go on where they were after a start, in the file too', async () => {
  const cut = receiver.deliveries.length;
  const { index: taken } = receiver.lines.at(-1) ?? { index: -1 };
  await second.stop();
  first = await TestService.start({ dataDir: first.dataDir, environment: sinksOf('first') });
  const last = await use(first);
  await until('the file', () => fileLines('first'), has(last));
  await until('the receiver', () => receiver.lines, has(last));
  await expectWhole(fileLines('first'));
  const since = receiver.deliveries.slice(cut).flat();
  expect(since.map(({ index }) => index)).toEqual(since.map((_, position) => taken + 1 + position));
}, 60_000);
