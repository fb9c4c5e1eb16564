/** What is made of Patroni's answer to `GET /config`, over real sockets. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterEach, expect, it } from '@jest/globals';

import { askManagers, strictnessOf } from '../../src/main/manager.ts';
import { stopwatch } from '../waited.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});

async function manager(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}

const says =
  (body: string, status = 200): RequestListener =>
  ({ url }, response) => {
    response.writeHead(url === '/config' ? status : 404).end(body);
  };
const SETTINGS = { ttl: 8, synchronous_mode: true, synchronous_mode_strict: true };
const ask = (...managers: string[]) => askManagers({ managers, caFile: undefined });

it('takes the words that Patroni takes', () => {
  for (const synchronous_mode of [true, 'on', 'True', 'yes', 1, 'quorum']) {
    expect(strictnessOf({ ...SETTINGS, synchronous_mode })).toBe('strict');
  }
  for (const synchronous_mode of [false, 'off', null, undefined, 'other', {}]) {
    expect(strictnessOf({ ...SETTINGS, synchronous_mode })).toBe('not-strict');
  }
  for (const synchronous_mode_strict of [false, 'no', null, undefined, 'quorum']) {
    expect(strictnessOf({ ...SETTINGS, synchronous_mode_strict })).toBe('not-strict');
  }
  for (const settings of [null, undefined, [], 'strict', 1]) {
    expect(strictnessOf(settings)).toBe('unknown');
  }
});

it('believes the first of them that answers', async () => {
  const strict = await manager(says(JSON.stringify(SETTINGS)));
  const loose = await manager(
    says(JSON.stringify({ ...SETTINGS, synchronous_mode_strict: false })),
  );
  const without = await manager(says('{}', 502));
  const gone = 'http://127.0.0.1:1';
  expect(await ask(strict)).toBe('strict');
  expect(await ask(loose)).toBe('not-strict');
  for (let round = 0; round < 5; round += 1) {
    expect(await ask(gone, without, strict)).toBe('strict');
  }
  expect(await ask()).toBe('unknown');
  expect(await ask(gone, without)).toBe('unknown');
});

it('is led nowhere else, held up by nobody, and given no more than settings are', async () => {
  const strict = await manager(says(JSON.stringify(SETTINGS)));
  const elsewhere = await manager((_, response) => {
    response.writeHead(302, { location: `${strict}/config` }).end();
  });
  const long = await manager(says(JSON.stringify({ ...SETTINGS, more: 'x'.repeat(100_000) })));
  const broken = await manager(says('{"synchronous_mode": tru'));
  const silent = await manager(() => undefined);
  for (const one of [elsewhere, long, broken]) expect(await ask(one)).toBe('unknown');
  const elapsed = stopwatch();
  expect(await ask(silent, silent, silent, silent)).toBe('unknown');
  // They are asked at once.
  expect(elapsed()).toBeLessThan(2_500);
});
