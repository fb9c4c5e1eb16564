/** An operation of the bench counts only where its answers are whole and right. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

import { afterAll, beforeAll, expect, it } from '@jest/globals';

import type { Target } from '../../bench/client.ts';
import { BATCH, prepareOperations } from '../../bench/operations.ts';
import type { Operation } from '../../bench/operations.ts';
import type { TestService } from '../e2e/service.ts';

interface Items {
  readonly items: readonly { readonly plaintext?: string; readonly ciphertext?: string }[];
}

/** Wraps a plaintext by naming it. */
const wrapped = ({ items }: Items) => ({
  results: items.map(({ plaintext = '' }) => ({ ciphertext: `tf1.${plaintext}` })),
});
const opened = ({ items }: Items) => ({
  results: items.map(({ ciphertext = '' }) => ({ plaintext: ciphertext.slice('tf1.'.length) })),
});
const bytesOf = (value: object): Buffer => Buffer.from(JSON.stringify(value));

/** As much of a service as the requests are prepared with. */
const service: Pick<TestService, 'request' | 'token'> = {
  token: () => Promise.resolve('t'),
  request: (_method, path, body) =>
    Promise.resolve({
      status: path === '/v1/admin/keys' ? 201 : 200,
      headers: new Headers(),
      json: {},
      bytes: path.endsWith('/wrap/batch') ? bytesOf(wrapped(body as Items)) : Buffer.from('x'),
    }),
};

let server: Server;
let target: Target;
let operations: readonly Operation[];
beforeAll(async () => {
  operations = await prepareOperations(service as TestService);
  server = createServer((request, response) => {
    void text(request).then((body) => response.end(bytesOf(opened(JSON.parse(body) as Items))));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  target = { url: new URL(`http://127.0.0.1:${String(port)}`) };
});
afterAll(() => {
  server.close();
  server.closeAllConnections();
});

it.each(['hybrid', 'A256GCM'])(
  '%s: a batch counts only with a result for each item',
  async (kind) => {
    const found = operations.find(({ name }) => name === `${kind} wrap, batch of ${String(BATCH)}`);
    if (found === undefined) throw new Error('not measured');
    const [, body = ''] = found.request.toString('utf8').split('\r\n\r\n');
    const { items } = JSON.parse(body) as Items;
    const answer = (count: number) => bytesOf(wrapped({ items: items.slice(0, count) }));
    expect(await found.verify([answer(BATCH), answer(BATCH)], target)).toBe(true);
    for (const count of [0, 1, BATCH - 1]) {
      expect(await found.verify([answer(BATCH), answer(count)], target)).toBe(false);
    }
    const other = bytesOf({ results: items.map(() => ({ ciphertext: 'tf1.AAAA' })) });
    expect(await found.verify([other], target)).toBe(false);
  },
);
