import { createServer } from 'node:http';
import type { RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';

import { ask, post } from '../../bench/client.ts';
import { closedLoop, openLoop } from '../../bench/load.ts';

const REQUEST = post('/x', 'token', Buffer.from('body'));
let server: Server | undefined;

async function serve(listener: RequestListener) {
  server = createServer((request, response) => {
    request.resume().on('end', () => listener(request, response));
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  return { url: new URL(`http://127.0.0.1:${String((server.address() as AddressInfo).port)}`) };
}

const answering: RequestListener = (_, response) => {
  response.writeHead(200, { 'Content-Length': 2 }).end('ok');
};

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

describe('a closed loop', () => {
  it('keeps every answer and ends at the number of requests', async () => {
    const target = await serve(answering);
    const load = await closedLoop(target, REQUEST, { inFlight: 4, requests: 50 });
    expect(load.answers.map(String)).toEqual(Array.from({ length: 50 }, () => 'ok'));
    expect(load.p50).toBeLessThanOrEqual(load.p99);
    expect(load.p99).toBeLessThanOrEqual(load.p999);
  });

  it('ends with the first answer that is not a 200', async () => {
    let answered = 0;
    const target = await serve((request, response) => {
      answered += 1;
      if (answered < 10) answering(request, response);
      else response.writeHead(503, { 'Content-Length': 0 }).end();
    });
    const run = closedLoop(target, REQUEST, { inFlight: 2, requests: 50 });
    await expect(run).rejects.toThrow('503');
    await expect(ask(target, REQUEST)).rejects.toThrow('503');
  });
});

describe('an open loop', () => {
  it('counts what waits for a stalled server from when it was due, which a closed loop does not', async () => {
    const STALL_MS = 400;
    let first = true;
    const stalling: RequestListener = (request, response) => {
      if (!first) {
        answering(request, response);
        return;
      }
      first = false;
      void sleep(STALL_MS).then(() => answering(request, response));
    };
    const target = await serve(stalling);
    const open = await openLoop(target, REQUEST, {
      arrivalsPerSecond: 100,
      seconds: 0.6,
      connections: 1,
    });
    expect(open.answers).toHaveLength(60);
    // 40 arrivals fell into the stall; half of them waited for 200 ms or longer.
    expect(open.p50).toBeGreaterThan(STALL_MS / 8);
    first = true;
    const closed = await closedLoop(target, REQUEST, { inFlight: 1, requests: 60 });
    expect(closed.p50).toBeLessThan(open.p50);
    expect(closed.p999).toBeGreaterThanOrEqual(STALL_MS * 0.9);
  });

  it('gives up when arrivals outrun the server', async () => {
    const target = await serve(() => undefined);
    const run = openLoop(target, REQUEST, { arrivalsPerSecond: 50, seconds: 10, connections: 1 });
    await expect(run).rejects.toThrow('behind');
  });
});
