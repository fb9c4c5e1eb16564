/** Which requests take places: uses do, and nothing else; one whose client went away before its turn has no work done. */
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { ClientRequest, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterEach, expect, it } from '@jest/globals';

import { suspendKey } from '../../src/contract/admin-keys.ts';
import { wrap } from '../../src/contract/wrap.ts';
import { TwofoldError } from '../../src/errors.ts';
import { Admission } from '../../src/http/admission.ts';
import { createApp } from '../../src/http/app.ts';
import { readBody } from '../../src/http/body.ts';
import type { Exchange } from '../../src/http/exchange.ts';
import type { Pipeline } from '../../src/http/pipeline.ts';
import { route } from '../../src/http/route.ts';
import type { GuardedRoute } from '../../src/http/route.ts';

const NEVER_MS = 60_000;

let server: Server;
let admission: Admission;
let began: string[];
let refused: string[];
let ends: (() => void)[];

const pipeline = {
  server:
    ({ contract }: GuardedRoute) =>
    async ({ request: { url = '' }, response }: Exchange) => {
      began.push(url);
      if (contract.plane === 'use') await new Promise<void>((end) => ends.push(end));
      response.end();
    },
  refuse: (_exchange: Exchange, error: unknown) => {
    refused.push(TwofoldError.from(error).code);
    return Promise.resolve();
  },
} as unknown as Pipeline;

async function serve(deadlineMs: number) {
  [began, refused, ends] = [[], [], []];
  const handle = () => Promise.reject(new Error('not reached'));
  const routes = [route(wrap, { handle }), route(suspendKey, { handle })];
  admission = new Admission({ atOnce: 1, stallMs: NEVER_MS, deadlineMs });
  const rest = { report: () => undefined, draining: () => false, parting: () => false };
  server = createServer(createApp(routes, ['use', 'admin'], { pipeline, admission, ...rest }));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}

afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const post = (path: string): ClientRequest => {
  const { port } = server.address() as AddressInfo;
  const sent = request({ port, host: '127.0.0.1', path, method: 'POST' });
  sent.on('error', () => undefined).end();
  return sent;
};
const until = async (holds: () => boolean) => {
  while (!holds()) await sleep(2);
};
const connections = async () =>
  new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));

it('uses wait for a place, a change waits for none, and who goes away is not served', async () => {
  await serve(NEVER_MS);
  post('/v1/keys/first/wrap');
  await until(() => began.length === 1);
  const second = post('/v1/keys/second/wrap');
  while ((await connections()) < 2) await sleep(2);
  const change = post('/v1/admin/keys/k/suspend');
  await once(change, 'response');
  expect(began).toEqual(['/v1/keys/first/wrap', '/v1/admin/keys/k/suspend']);
  post('/v1/keys/third/wrap');
  second.destroy();
  await until(() => refused.length === 1);
  expect(refused).toEqual(['malformed_request']);
  ends.shift()?.();
  await until(() => began.length === 3);
  expect(began.at(-1)).toBe('/v1/keys/third/wrap');
  ends.shift()?.();
});

it('a use whose turn would not come in time is refused, and a change is not', async () => {
  await serve(40);
  post('/v1/keys/first/wrap');
  await until(() => began.length === 1);
  for (const waiting of [1, 2]) {
    post('/v1/keys/later/wrap');
    await until(() => admission.figures().waiting === waiting);
  }
  ends.shift()?.();
  await until(() => began.length === 2);
  await sleep(30);
  post('/v1/keys/last/wrap');
  await until(() => refused.length === 1);
  expect(refused).toEqual(['hsm_busy']);
  expect(admission.figures()).toEqual({ underWay: 1, waiting: 1, refused: 1 });
  await once(post('/v1/admin/keys/k/suspend'), 'response');
  expect(began).toHaveLength(3);
  ends.shift()?.();
  await until(() => began.length === 4);
  ends.shift()?.();
});

it('a body whose connection has ended is not waited for', async () => {
  const gone = Object.assign(new Readable({ read: () => undefined }), { headers: {} });
  gone.destroy();
  await once(gone, 'close');
  const limits = { bytes: 10, timeoutMs: NEVER_MS };
  const read = readBody(gone as never, {} as never, limits);
  await expect(read).rejects.toMatchObject({ code: 'malformed_request' });
});
