/** What commands of the audit log say at their end, and with which status. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { Edge } from '../../src/audit/tree/edge.ts';
import { auditCommand } from '../../src/main/audit-command.ts';
import { noteOf } from '../http/log-in-memory.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let folder: string;
let server: Server;
let answer: Answer;
let flags: readonly string[];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-audit-command-'));
  const authorization = join(folder, 'header');
  writeFileSync(authorization, 'Authorization: Bearer abc', { mode: 0o600 });
  server = createServer((request, response) => answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  flags = ['--url', `http://127.0.0.1:${String(port)}`, '--authorization', authorization];
});
afterEach(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true });
});

async function run(argv: readonly string[], onWrite: () => void = () => undefined) {
  const [printed, complained]: [string[], string[]] = [[], []];
  const code = await auditCommand([...argv, ...flags], {
    print: (line) => printed.push(line),
    complain: (line) => complained.push(line),
    write: (text) => {
      printed.push(text);
      onWrite();
      return Promise.resolve();
    },
  });
  return { code, printed: printed.join(''), complained: complained.join('\n') };
}

describe('twofold audit tail', () => {
  beforeEach(() => {
    // More is to come, and never does.
    answer = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('id: 0\ndata: {"index":0}\n\n');
    };
  });
  const stopped = (...argv: string[]) =>
    run(['tail', ...argv], () => void process.emit('SIGTERM', 'SIGTERM'));

  it('that follows is done when it is stopped', async () => {
    expect(await stopped('--follow')).toEqual({
      ...{ code: 0, printed: '{"index":0}\n', complained: '' },
    });
  });

  it('of what there is is cut off when it is stopped', async () => {
    await expect(stopped()).rejects.toMatchObject({ code: 'interrupted' });
  });
});

describe('twofold audit export', () => {
  const SIZE = 300;
  const note = noteOf(Edge.EMPTY.grow(Array.from({ length: SIZE }, () => new Uint8Array(32))).edge);
  /** As one that was interrupted leaves it. */
  const begun = (rows: boolean): string => {
    const out = join(folder, 'out');
    const sizes = { from: 0, until: SIZE, stateFrom: SIZE };
    const plan = { format: 1, origin: 'example.com/log', ...sizes, at: 'now', note, rows };
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out);
    writeFileSync(join(out, 'export.plan.json'), JSON.stringify(plan));
    return out;
  };
  const json = (response: ServerResponse, status: number, type: string, body: object): void => {
    response.writeHead(status, { 'content-type': `application/${type}` });
    response.end(JSON.stringify(body));
  };
  const AT = '2026-11-29T12:00:00.000Z';
  const serve =
    (bundle: (response: ServerResponse) => void): Answer =>
    ({ url = '' }, response) => {
      if (url.includes('checkpoints')) {
        json(response, 200, 'json', { items: [{ size: SIZE, note, at: AT }], next: null });
      } else if (url.includes('tile/entries')) bundle(response);
      else {
        const [, width = '256'] = /\.p\/(\d+)$/u.exec(url) ?? [];
        response.writeHead(200, { 'content-type': 'application/octet-stream' });
        response.end(new Uint8Array(32 * Number(width)));
      }
    };

  it('says that rows are missing of one that has none, whatever its flags', async () => {
    answer = serve((response) => {
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      response.end('any');
    });
    const hint = expect.stringContaining('--log-only') as unknown;
    expect(await run(['export', '--out', begun(false)])).toMatchObject({
      ...{ code: 0, complained: hint },
    });
    expect(await run(['export', '--out', begun(true), '--until', String(SIZE)])).toMatchObject({
      ...{ code: 0, complained: '' },
    });
  });

  it('says where to begin when what it is to begin with is in cold storage', async () => {
    answer = serve((response) => {
      const title = 'The entry is in the archive of the log.';
      const problem = { type: 'about:blank', title, status: 410, code: 'entry_archived' };
      json(response, 410, 'problem+json', { ...problem, requestId: 'one' });
    });
    const { code, complained } = await run(['export', '--out', begun(true)]);
    expect(code).toBe(1);
    expect(complained).toContain('(entry_archived)');
    expect(complained).toContain('behind it with --from PLACE');
  });
});
