/** The sinks over real sockets and files: what is delivered, and what happens when the receiver fails. */
import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FileSink } from '../../../src/audit/sinks/file-sink.ts';
import { HttpSink } from '../../../src/audit/sinks/http-sink.ts';
import { OtlpSink } from '../../../src/audit/sinks/otlp-sink.ts';
import type { Sink, SinkPosition } from '../../../src/audit/sinks/ports.ts';
import { RecordRefused } from '../../../src/audit/sinks/ports.ts';
import { SinkRunner } from '../../../src/audit/sinks/runner.ts';
import { framed, syslogMessage, SyslogSink } from '../../../src/audit/sinks/syslog-sink.ts';
import { makeCertificate } from '../../config/certificate.ts';
import { memoryEntries, MemoryPosition, sample, samples } from './sample-records.ts';

const ends: (() => unknown)[] = [];
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-sinks-'));
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  rmSync(folder, { recursive: true });
});

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

type Answer = (body: string, request: IncomingMessage, response: ServerResponse) => void;

async function httpServer(answer: Answer): Promise<string> {
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => answer(Buffer.concat(parts).toString(), request, response));
  });
  const port = await listening(server);
  ends.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${String(port)}/in?x=1`;
}

const indexes = (lines: string): number[] =>
  lines
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { index: number }).index);

const upTo = (size: number): number[] => Array.from({ length: size }, (_, index) => index);

function runnerOf(
  sink: Sink,
  size: number,
  position: SinkPosition = new MemoryPosition(),
  more: { readonly restMs?: number } = {},
) {
  const passed: number[] = [];
  const log = memoryEntries(size);
  const runner = new SinkRunner({
    ...{ log, sink, position, from: 'start', most: 16, ...more },
    record: ({ index }) => sample(index),
    onPassed: ({ index }) => Promise.resolve(void passed.push(index)),
  });
  ends.push(() => sink.close());
  return { runner, passed, log };
}

/** Steps until it has caught up; how often it failed. */
async function caughtUp(runner: SinkRunner, size: number): Promise<number> {
  let failures = 0;
  for (let tries = 0; tries < 500; tries += 1) {
    try {
      if (!(await runner.step(size))) return failures;
    } catch {
      failures += 1;
    }
  }
  throw new Error('never caught up');
}

describe('HTTP', () => {
  it('delivers each entry at least once to a receiver that fails in every way, in order, by a bounded part', async () => {
    const got: number[] = [];
    let calls = 0;
    const url = await httpServer((body, request, response) => {
      calls += 1;
      const fault = calls % 5;
      if (fault === 1) response.writeHead(500).end('no');
      else if (fault === 2) {
        // Read and kept, but the answer is lost: these come twice.
        got.push(...indexes(body));
        request.socket.destroy();
      } else if (fault === 3)
        return; // hangs
      else {
        got.push(...indexes(body));
        response.writeHead(204).end();
      }
    });
    const { runner, log } = runnerOf(new HttpSink({ url, timeoutMs: 200 }), 100);
    expect(await caughtUp(runner, 100)).toBeGreaterThan(3);
    expect([...new Set(got)]).toEqual(upTo(100));
    expect(got.length).toBeLessThan(200);
    expect(log.asked).toBe(16);
    expect(runner.progress).toEqual({ next: 100, oldest: null });
  });

  it('follows no redirect, and takes it for no delivery', async () => {
    let followed = 0;
    const other = await httpServer((_body, _request, response) => {
      followed += 1;
      response.end();
    });
    const url = await httpServer((_body, _request, response) => {
      response.writeHead(307, { Location: other }).end();
    });
    const sink = new HttpSink({ url });
    ends.push(() => sink.close());
    await expect(sink.deliver(samples(1))).rejects.toThrow('answered 307');
    expect(followed).toBe(0);
  });

  it('reads the token anew for each request, and tells the first and the last index', async () => {
    const heads: unknown[] = [];
    const url = await httpServer((_body, { headers }, response) => {
      const { authorization, 'twofold-audit-first': first, 'twofold-audit-last': last } = headers;
      heads.push([authorization, first, last]);
      response.end();
    });
    let token = 'one';
    const sink = new HttpSink({ url, token: () => token });
    ends.push(() => sink.close());
    await sink.deliver(samples(3, 5));
    token = 'two';
    await sink.deliver(samples(1, 8));
    expect(heads).toEqual([
      ['Bearer one', '5', '7'],
      ['Bearer two', '8', '8'],
    ]);
  });

  it('signs what it sends where it has a key', async () => {
    let isSigned = false;
    const url = await httpServer((body, { headers }, response) => {
      const mac = createHmac('sha256', 'secret').update(body).digest('hex');
      isSigned = headers['twofold-audit-signature'] === `sha256=${mac}`;
      response.end();
    });
    const sink = new HttpSink({ url, hmacKey: () => 'secret' });
    ends.push(() => sink.close());
    await sink.deliver(samples(2));
    expect(isSigned).toBe(true);
  });

  it('passes over the entries that alone are refused, and says which', async () => {
    const got = new Set<number>();
    const url = await httpServer((body, _request, response) => {
      const all = indexes(body);
      const refused = all.some((index) => index === 7 || index === 21);
      if (!refused) for (const index of all) got.add(index);
      response.writeHead(refused ? 422 : 200).end();
    });
    const { runner, passed } = runnerOf(new HttpSink({ url }), 40);
    await caughtUp(runner, 40);
    expect(passed).toEqual([7, 21]);
    expect([...got].sort((a, b) => a - b)).toEqual(upTo(40).filter((i) => i !== 7 && i !== 21));
  });

  it('passes over nothing that could not be told, and tells all of it again', async () => {
    const url = await httpServer((body, _request, response) => {
      const isRefused = indexes(body).some((index) => index === 7 || index === 8);
      response.writeHead(isRefused ? 422 : 200).end();
    });
    const position = new MemoryPosition();
    const told: number[] = [];
    let fails = 2;
    const runner = new SinkRunner({
      ...{ log: memoryEntries(40), sink: new HttpSink({ url }), position, from: 'start', most: 16 },
      record: ({ index }) => sample(index),
      onPassed: ({ index }) => {
        told.push(index);
        if (index === 8 && fails > 0) {
          fails -= 1;
          return Promise.reject(new Error('not recorded'));
        }
        return Promise.resolve();
      },
    });
    await expect(runner.step(40)).rejects.toThrow('not recorded');
    expect(position.at).toBe(7);
    expect(await caughtUp(runner, 40)).toBe(1);
    expect([position.at, told]).toEqual([40, [7, 8, 7, 8, 7, 8]]);
  });

  it('passes over many that stand side by side, as one caller can write them', async () => {
    const got: number[] = [];
    const isLong = (index: number) => index >= 10 && index < 60;
    const url = await httpServer((body, _request, response) => {
      const all = indexes(body);
      const refused = all.some(isLong);
      if (!refused) got.push(...all);
      response.writeHead(refused ? 413 : 200).end();
    });
    const { runner, passed } = runnerOf(new HttpSink({ url }), 100);
    expect(await caughtUp(runner, 100)).toBe(0);
    expect(passed).toEqual(upTo(60).slice(10));
    expect(got).toEqual(upTo(100).filter((index) => !isLong(index)));
  });

  it('passes over nothing where one behind it is not there, and says that it is served', async () => {
    const url = await httpServer((body, _request, response) => {
      response.writeHead(indexes(body).includes(15) ? 422 : 200).end();
    });
    let stays = 0;
    const position = Object.assign(new MemoryPosition(), {
      stay: () => {
        stays += 1;
        return Promise.resolve();
      },
    });
    const { runner, passed, log } = runnerOf(new HttpSink({ url }), 40, position, { restMs: 0 });
    const all = log.entries.bind(log);
    let gone = 16;
    log.entries = async (from, until) => (await all(from, until)).filter((e) => e.index !== gone);
    await expect(caughtUp(runner, 40)).rejects.toThrow();
    expect([position.at, passed]).toEqual([15, []]);
    gone = -1;
    expect(await caughtUp(runner, 40)).toBe(0);
    expect([position.at, passed]).toEqual([40, [15]]);
    expect(stays).toBeGreaterThan(0);
  });

  it.each([400, 401, 403, 404, 422])(
    'passes over nothing where everything is answered %d',
    async (status) => {
      const url = await httpServer((_body, _request, response) => {
        response.writeHead(status).end();
      });
      const position = new MemoryPosition();
      const { runner, passed } = runnerOf(new HttpSink({ url }), 40, position);
      for (let tries = 0; tries < 3; tries += 1) await expect(runner.step(40)).rejects.toThrow();
      expect([position.at, passed]).toEqual([0, []]);
    },
  );
});

describe('a position', () => {
  it('that another has moved ends the step, which then goes on from there', async () => {
    const url = await httpServer((_body, _request, response) => response.end());
    const position = new MemoryPosition();
    const { runner } = runnerOf(new HttpSink({ url }), 100, position);
    await runner.step(100);
    position.at = 50;
    await expect(runner.step(100)).rejects.toThrow('another instance goes on');
    await runner.step(100);
    expect(position.at).toBe(66);
  });

  it('that another has begun meanwhile ends the first step, and not the sink', async () => {
    const url = await httpServer((_body, _request, response) => response.end());
    const position = new MemoryPosition();
    const { runner } = runnerOf(new HttpSink({ url }), 100, {
      next: async () => {
        const at = await position.next();
        position.at ??= 50;
        return at;
      },
      advance: (from, to) => position.advance(from, to),
    });
    await expect(runner.step(100)).rejects.toThrow('another instance goes on');
    await runner.step(100);
    expect(position.at).toBe(66);
  });
});

describe('a sink that rests', () => {
  it('says at times that it is served, so that nobody takes it for one that was left', async () => {
    const url = await httpServer((_body, _request, response) => response.end());
    const told: number[] = [];
    const stay = (at: number) => Promise.resolve(void told.push(at));
    const resting = async (restMs: number) => {
      const position = Object.assign(new MemoryPosition(), { at: 40, stay });
      const { runner } = runnerOf(new HttpSink({ url }), 40, position, { restMs });
      for (let tick = 0; tick < 3; tick += 1) expect(await runner.step(40)).toBe(false);
      return told.splice(0);
    };
    expect(await resting(0)).toEqual([40, 40, 40]);
    expect(await resting(60_000)).toEqual([40]);
  });
});

describe('a position past the end of the log', () => {
  it('is a failure and no rest: what comes until the log is there would never be delivered', async () => {
    let calls = 0;
    const url = await httpServer((_body, _request, response) => {
      calls += 1;
      response.end();
    });
    const position = new MemoryPosition();
    position.at = 101;
    const { runner } = runnerOf(new HttpSink({ url }), 100, position);
    await expect(runner.step(100)).rejects.toThrow('past the end of the log');
    position.at = 100;
    expect(await runner.step(100)).toBe(false);
    expect(calls).toBe(0);
  });

  it('is one of a file whose last line says so', async () => {
    const path = join(folder, 'audit.ndjson');
    appendFileSync(path, '{"index":9007199254740990}\n');
    const sink = new FileSink({ path, rotateBytes: 400, keep: 2 });
    const { runner } = runnerOf(sink, 100, sink);
    await expect(runner.step(100)).rejects.toThrow('past the end of the log');
  });
});

describe('a log of which the beginning is in cold storage', () => {
  it('begins for a new sink with the first entry that is not in it, though rows are still there', async () => {
    const path = join(folder, 'audit.ndjson');
    const sink = new FileSink({ path, rotateBytes: 1_000_000, keep: 2 });
    const { runner, log } = runnerOf(sink, 100, sink);
    [log.removed, log.until] = [32, 64];
    await caughtUp(runner, 100);
    expect(indexes(readFileSync(path, 'utf8'))).toEqual(upTo(100).slice(64));
  });
});

describe('OpenTelemetry', () => {
  it('sends ExportLogsServiceRequest in its JSON form', async () => {
    const bodies: unknown[] = [];
    const url = await httpServer((body, _request, response) => {
      bodies.push(JSON.parse(body));
      response.setHeader('Content-Type', 'application/json').end('{"partialSuccess":{}}');
    });
    const identity = { version: '1', instance: 'i' };
    const sink = new OtlpSink({ url }, identity, () => 1_800_000_000_000);
    ends.push(() => sink.close());
    const json = '{"index":9007199254740991}';
    const big = sample(Number.MAX_SAFE_INTEGER, { outcome: 'denied', json });
    await sink.deliver([{ ...big, at: new Date(1_700_000_000_001) }]);
    const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
    expect(bodies).toEqual([
      {
        resourceLogs: [
          {
            resource: {
              attributes: [
                text('service.name', 'twofold'),
                text('service.version', '1'),
                text('service.instance.id', 'i'),
              ],
            },
            scopeLogs: [
              {
                scope: { name: 'twofold.audit' },
                logRecords: [
                  {
                    timeUnixNano: '1700000000001000000',
                    observedTimeUnixNano: '1800000000000000000',
                    severityNumber: 13,
                    severityText: 'WARN',
                    eventName: 'twofold.audit',
                    body: { stringValue: json },
                    attributes: [
                      { key: 'audit.index', value: { intValue: '9007199254740991' } },
                      text('audit.id', '1-9007199254740991'),
                      text('audit.operation', 'wrap'),
                      text('audit.outcome', 'denied'),
                      text('audit.namespace', 'root'),
                    ],
                  },
                ],
              },
            ],
          },
        ],
      },
    ]);
  });

  it('takes records that a 200 rejects for refused', async () => {
    const url = await httpServer((_body, _request, response) =>
      response.end('{"partialSuccess":{"rejectedLogRecords":"1"}}'),
    );
    const sink = new OtlpSink({ url }, { version: '1', instance: 'i' });
    ends.push(() => sink.close());
    await expect(sink.deliver(samples(2))).rejects.toThrow(RecordRefused);
  });
});

describe('syslog', () => {
  const { certificate, key } = makeCertificate('DNS:syslog.test');

  async function tlsServer(onMessage: (bytes: Buffer, socket: TLSSocket) => void): Promise<number> {
    const server = createTlsServer({ cert: certificate, key }, (socket) => {
      socket.on('data', (bytes: Buffer) => onMessage(bytes, socket));
      socket.on('error', () => undefined);
    });
    server.on('tlsClientError', () => undefined);
    ends.push(() => {
      server.close();
    });
    return await listening(server);
  }

  /** The messages of whole frames. */
  function messages(stream: Buffer): string[] {
    const found: string[] = [];
    for (let at = 0; at < stream.length;) {
      const space = stream.indexOf(' ', at);
      const length = Number(stream.subarray(at, space).toString());
      found.push(stream.subarray(space + 1, space + 1 + length).toString());
      at = space + 1 + length;
    }
    return found;
  }

  const target = (port: number) => ({
    ...{ host: '127.0.0.1', port, serverName: 'syslog.test', ca: () => certificate },
    timeoutMs: 2_000,
  });

  it('sends again what a receiver cut in the middle of a frame', async () => {
    let cuts = 0;
    const streams = new Map<TLSSocket, Buffer[]>();
    const port = await tlsServer((bytes, socket) => {
      if (cuts < 3) {
        cuts += 1;
        socket.destroy();
        return;
      }
      const stream = streams.get(socket) ?? [];
      stream.push(bytes);
      streams.set(socket, stream);
    });
    const json = `{"index":0,"filler":"${'x'.repeat(4_000_000)}"}`;
    // 12 MB through TLS within one process take more than two seconds beside other work.
    const sink = new SyslogSink({ ...target(port), timeoutMs: 20_000 });
    const passed: number[] = [];
    const runner = new SinkRunner({
      ...{ log: memoryEntries(3), sink, position: new MemoryPosition(), from: 'start' },
      record: ({ index }) => sample(index, { json: json.replace(':0', `:${String(index)}`) }),
      onPassed: ({ index }) => Promise.resolve(void passed.push(index)),
    });
    expect(await caughtUp(runner, 3)).toBe(3);
    const got = [...streams.values()].flatMap((stream) => messages(Buffer.concat(stream)));
    expect(got.map((message) => / id="1-(\d)"/u.exec(message)?.[1])).toEqual(['0', '1', '2']);
  }, 30_000);

  it('refuses a receiver of another name or authority', async () => {
    const port = await tlsServer(() => undefined);
    const wrong = new SyslogSink({ ...target(port), serverName: 'other.test' });
    await expect(wrong.deliver(samples(1))).rejects.toThrow();
    const stranger = makeCertificate('DNS:syslog.test').certificate;
    const unknown = new SyslogSink({ ...target(port), ca: () => stranger });
    await expect(unknown.deliver(samples(1))).rejects.toThrow();
  });

  it('lets no value end a parameter, a message or a line', () => {
    const value = fc.string({ unit: 'binary', maxLength: 64 });
    const nasty = fc.oneof(value, fc.constantFrom('\r\n<13>1 -', '"] x', '\\', '\u0000', '\u2028'));
    fc.assert(
      fc.property(nasty, nasty, nasty, (operation, outcome, namespace) => {
        const json = JSON.stringify({ operation });
        const message = syslogMessage(sample(1, { operation, outcome, namespace, json }), 'h');
        const pattern =
          /^<(?:110|108)>1 \S+ h twofold - [!-~]{1,32} \[twofold@32473(?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")+\] \{/u;
        expect(message).toMatch(pattern);
        expect(message.slice(0, -json.length)).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
        expect(messages(Buffer.from(framed(message) + framed('next')))).toEqual([
          Buffer.from(message).toString(),
          'next',
        ]);
      }),
    );
  });
});

describe('a file', () => {
  const path = () => join(folder, 'audit.ndjson');
  const open = () => new FileSink({ path: path(), rotateBytes: 1_000, keep: 2 });

  it('is rotated by size and count, readable by nobody else', async () => {
    const sink = open();
    const { runner } = runnerOf(sink, 100, sink);
    await caughtUp(runner, 100);
    expect(readdirSync(folder).sort()).toEqual([
      'audit.ndjson',
      'audit.ndjson.1',
      'audit.ndjson.2',
    ]);
    const kept = ['.2', '.1', ''].flatMap((end) => indexes(readFileSync(path() + end, 'utf8')));
    expect(kept).toEqual(upTo(100).slice(-kept.length));
    expect(statSync(path()).mode & 0o777).toBe(0o600);
  });

  it('goes on behind its last whole line, and cuts off a torn one', async () => {
    const first = open();
    await caughtUp(runnerOf(first, 10, first).runner, 10);
    appendFileSync(path(), '{"index":10,"to');
    const second = open();
    await caughtUp(runnerOf(second, 14, second).runner, 14);
    expect(indexes(readFileSync(path(), 'utf8'))).toEqual(upTo(14));
  });

  it('refuses a log that has other entries where its lines are, until it is moved away', async () => {
    const before = open();
    await caughtUp(runnerOf(before, 41, before).runner, 41);
    const later = open();
    const { log } = runnerOf(later, 100, later);
    ends.push(() => later.close());
    for (const change of [{ id: '2-1' }, { at: new Date(0) }]) {
      const runner = new SinkRunner({
        ...{ log, sink: later, position: later, from: 'start', most: 16 },
        record: ({ index }) => sample(index, index >= 30 ? change : {}),
        onPassed: () => Promise.resolve(),
      });
      for (let tries = 0; tries < 3; tries += 1) {
        await expect(runner.step(100)).rejects.toThrow('is not the entry that the log has');
      }
      expect(indexes(readFileSync(path(), 'utf8')).at(-1)).toBe(40);
    }
    mkdirSync(join(folder, 'aside'));
    for (const name of readdirSync(folder).filter((each) => each !== 'aside')) {
      renameSync(join(folder, name), join(folder, 'aside', name));
    }
    expect(await caughtUp(runnerOf(later, 10, later).runner, 10)).toBe(0);
    expect(indexes(readFileSync(path(), 'utf8'))[0]).toBe(0);
  });

  it('refuses a file in which another program has written', async () => {
    const first = open();
    await caughtUp(runnerOf(first, 3, first).runner, 3);
    appendFileSync(path(), 'hello\n');
    const second = open();
    await expect(runnerOf(second, 4, second).runner.step(4)).rejects.toThrow();
  });

  it('waits on a full disk, and has every line once when there is room', async () => {
    const child = join(import.meta.dirname, 'file-sink-child.ts');
    const run = (blocks: string) =>
      execFileSync(
        'bash',
        [
          '-c',
          `ulimit -f ${blocks}; trap '' XFSZ; exec "$@"`,
          'bash',
          process.execPath,
          child,
          path(),
          '200',
        ],
        {
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      );
    expect(run('2')).toMatch(/^failed EFBIG/u);
    const torn = readFileSync(path(), 'utf8');
    expect(torn.endsWith('\n')).toBe(true);
    expect(indexes(torn).length).toBeGreaterThan(0);
    expect(run('unlimited')).toBe('done');
    expect(indexes(readFileSync(path(), 'utf8'))).toEqual(upTo(200));
  }, 30_000);
});
