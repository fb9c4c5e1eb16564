/** How long a tail goes on where its connections fail. */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterEach, describe, expect, it } from '@jest/globals';

import { AuditLogClient } from '../../src/client/audit-log.ts';
import { tailEntries } from '../../src/client/audit-tail.ts';
import { HttpConnection } from '../../src/client/http-connection.ts';

type Act = (request: IncomingMessage, response: ServerResponse) => void;
const eventText = (id: number) => `id: ${String(id)}\ndata: {"index":${String(id)}}\n\n`;
const unreachable: Act = (request) => request.socket.destroy();
const cutAfter =
  (...ids: number[]): Act =>
  (request, response) =>
    response.write(ids.map(eventText).join(''), () => request.socket.destroy());
const whole =
  (id: number): Act =>
  (_request, response) =>
    response.end(eventText(id));

let server: Server | undefined;
afterEach(() => {
  server?.close();
  server?.closeAllConnections();
});

/** A log of which each connection does as it is told, and the last one over and over. */
async function tail(acts: readonly Act[], follow: boolean) {
  const controller = new AbortController();
  const from: (string | undefined)[] = [];
  const listening = createServer((request, response) => {
    const act = acts[Math.min(from.length, acts.length - 1)] ?? unreachable;
    from.push(request.headers['last-event-id']?.toString());
    act(request, response);
  });
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const { port } = listening.address() as AddressInfo;
  const url = new URL(`http://127.0.0.1:${String(port)}`);
  const lines: string[] = [];
  const tailed = (async () => {
    const log = new AuditLogClient(new HttpConnection({ url, authorization: () => null }));
    const onInterruption = () => {
      if (from.length === 20) controller.abort();
    };
    const { signal } = controller;
    const options = { query: new URLSearchParams(), follow, signal, onInterruption, pauseMs: 1 };
    for await (const line of tailEntries(log, options)) lines.push(line);
  })();
  return { from, lines, tailed };
}

describe('a tail', () => {
  it('of what there is gives up after five connections that brought nothing', async () => {
    const { from, tailed } = await tail([unreachable], false);
    await expect(tailed).rejects.toMatchObject({ code: 'service_unreachable' });
    expect(from).toHaveLength(5);
  });

  it('goes on from where it was as long as something comes', async () => {
    const vain = [unreachable, unreachable, unreachable, unreachable];
    const { from, lines, tailed } = await tail([...vain, cutAfter(0, 1), ...vain, whole(2)], false);
    await tailed;
    expect(lines).toEqual([0, 1, 2].map((index) => JSON.stringify({ index })));
    expect(from).toEqual([...Array<undefined>(5).fill(undefined), ...Array<string>(5).fill('1')]);
  });

  it('that follows outlives its token, and not one that is refused at once', async () => {
    const code = 'token_expired';
    const facts = { type: `urn:test:${code}`, title: 'It ended.', status: 401, requestId: 'one' };
    const expired = JSON.stringify({ ...facts, code });
    const ends: Act = (_request, response) =>
      response.end(`${eventText(0)}event: problem\ndata: ${expired}\n\n`);
    const refused: Act = (_request, response) => {
      response.writeHead(401, { 'content-type': 'application/problem+json' }).end(expired);
    };
    const { from, lines, tailed } = await tail([ends, cutAfter(1), refused], true);
    await expect(tailed).rejects.toMatchObject({ code });
    expect(lines).toEqual([0, 1].map((index) => JSON.stringify({ index })));
    expect(from).toEqual([undefined, '0', '1']);
    const once = await tail([ends], false);
    await expect(once.tailed).rejects.toMatchObject({ code });
    expect(once.from).toHaveLength(1);
  });

  it('gives an entry whatever characters its strings have', async () => {
    const names = Array.from({ length: 0x3000 }, (_, unit) => String.fromCharCode(unit));
    const entry = JSON.stringify({ index: 0, contextKeys: [...names, 'a: b', '\u2028data: x'] });
    const { lines, tailed } = await tail(
      [(_request, response) => response.end(`id: 0\ndata: ${entry}\n\n`)],
      false,
    );
    await tailed;
    expect(lines).toEqual([entry]);
  });

  it('that follows waits for its service', async () => {
    const { from, tailed } = await tail([unreachable], true);
    await expect(tailed).rejects.toMatchObject({ code: 'interrupted' });
    expect(from).toHaveLength(20);
  });
});
