/** A listener over connections that another process accepted, as workers have it. */
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';

import { afterEach, describe, expect, it } from '@jest/globals';

import { createListener } from '../../src/http/listener.ts';
import type { Listener, ListenerOptions } from '../../src/http/listener.ts';
import { makeCertificate } from '../config/certificate.ts';

const DEADLINE_MS = 10_000;
const REQUEST = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

/** What accepts in place of another process. */
let accepting: Server | undefined;
let listener: Listener | undefined;
let taken: Socket[] = [];

afterEach(async () => {
  await listener?.close(0);
  accepting?.close();
  taken = [];
});

async function open(request: RequestListener, tls?: ListenerOptions['tls']): Promise<AddressInfo> {
  const nothing = () => undefined;
  const source = {
    open: (take: (socket: Socket) => void) => {
      const server = createServer({ pauseOnConnect: true }, (socket) => {
        taken.push(socket);
        take(socket);
        socket.resume();
      });
      accepting = server;
      return new Promise<AddressInfo>((resolve) => {
        server.listen(0, '127.0.0.1', () => resolve(server.address() as AddressInfo));
      });
    },
    close: () => void accepting?.close(),
  };
  listener = createListener(
    { host: '127.0.0.1', port: 0, source, ...(tls === undefined ? {} : { tls }) },
    { stalledMs: 30_000 },
    { request, unexpected: nothing, malformed: nothing },
  );
  return listener.listen();
}

const answering: RequestListener = (_request, response) => response.end('answered');

/** Everything that comes until the other side ends. */
const allOf = (socket: Socket): Promise<string> => {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.on('close', () => resolve(text));
  return promise;
};

describe('a listener over handed connections', () => {
  it('closes idle connections at once and waits for what runs', async () => {
    const running = Promise.withResolvers<undefined>();
    const { port } = await open((request, response) => {
      if (request.url === '/quick') {
        response.end('quick');
        return;
      }
      running.resolve(undefined);
      // As the service does while it drains.
      response.setHeader('Connection', 'close');
      setTimeout(() => response.end('late'), 200);
    });
    const idle = connect(port);
    const idleEnd = allOf(idle);
    idle.write(REQUEST.replace('/', '/quick'));
    await once(idle, 'data');
    const busy = connect(port);
    const answer = allOf(busy);
    busy.write(REQUEST);
    await running.promise;
    const began = performance.now();
    await listener?.close(DEADLINE_MS);
    expect(await answer).toMatch(/ 200 OK[^]*late/u);
    expect(await idleEnd).toMatch(/quick/u);
    expect(performance.now() - began).toBeLessThan(DEADLINE_MS);
  });

  it('cuts what still runs at the deadline', async () => {
    const running = Promise.withResolvers<undefined>();
    const { port } = await open(() => running.resolve(undefined));
    const socket = connect(port);
    const all = allOf(socket);
    socket.on('error', () => undefined);
    socket.write(REQUEST);
    await running.promise;
    await listener?.close(20);
    expect(await all).toBe('');
  });

  it('speaks TLS 1.3 on them, and lets go of those that end', async () => {
    const { certificate, key } = makeCertificate();
    const { port } = await open(answering, { cert: certificate, key });
    const socket = connectTls({ port, ca: certificate, host: '127.0.0.1' });
    socket.on('error', () => undefined);
    const all = allOf(socket);
    socket.write(REQUEST.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    expect(await all).toMatch(/ 200 OK[^]*answered$/u);
    // Not a word of TLS: no request ever stands on it.
    const silent = connect(port);
    const end = allOf(silent);
    while (taken.length < 2) await sleep(5);
    await listener?.close(20);
    expect(await end).toBe('');
    expect(taken.map(({ destroyed }) => destroyed)).toEqual([true, true]);
  });
});
