/** When the agent tells an API server of a limit, and when it goes on asking. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';

import { HttpConnection } from '../../src/client/http-connection.ts';
import { KubernetesOverHttp } from '../../src/client/kubernetes-service.ts';

/** `limit`: refused for a limit; `busy`: this instance has too much to do. */
type Says = 'limit' | 'busy' | 'failed' | 'opened';
interface Act {
  readonly says: Says;
  readonly after?: number;
}

const servers: Server[] = [];
const clients: KubernetesOverHttp[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});

const refusal = (code: string) => {
  const problem = { type: 'about:blank', title: code, status: 429, code, requestId: 'r' };
  return JSON.stringify(problem);
};

/** A service that does one thing at each request, and the last one from then on. */
async function serving(acts: readonly Act[], asked: string[], name: string): Promise<URL> {
  let nth = 0;
  const server = createServer((request, response) => {
    asked.push(name);
    request.resume();
    const { says, after = 0 } = acts[Math.min(nth, acts.length - 1)] ?? { says: 'failed' };
    nth += 1;
    void sleep(after).then(() => {
      if (says === 'opened') {
        return response.writeHead(200, { 'twofold-origin': 'service' }).end(new Uint8Array(32));
      }
      if (says === 'failed') return response.writeHead(503).end(refusal('database_unavailable'));
      const named = says === 'limit' ? { 'ratelimit-policy': '"key.use";q=10;w=10' } : {};
      return response.writeHead(429, { 'retry-after': '1', ...named }).end(refusal('rate_limited'));
    });
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return new URL(`http://127.0.0.1:${String((server.address() as AddressInfo).port)}`);
}

async function ask(places: Readonly<Record<string, readonly Act[]>>) {
  const asked: string[] = [];
  const urls = await Promise.all(
    Object.entries(places).map(([name, acts]) => serving(acts, asked, name)),
  );
  const client = new KubernetesOverHttp({
    endpoints: urls.map((url) => new HttpConnection({ url, authorization: () => null })),
    ...{ namespace: 'default', key: 'secrets', cluster: 'c1', provider: 'twofold' },
    times: { hedgeMs: 100, budgetMs: 1_200, leastMs: 50, pauseMs: 50 },
  });
  clients.push(client);
  const began = performance.now();
  const request = { envelope: new Uint8Array(64), context: {}, uid: null };
  const told = await client.unwrap(request, new AbortController().signal).then(
    ({ origin }) => origin as string,
    (error: unknown) => (error as { code?: string }).code,
  );
  return { told, asked, elapsed: performance.now() - began };
}

describe('an agent with several servers', () => {
  it('says at once that each of them refuses for a limit, and asks each once', async () => {
    const { told, asked, elapsed } = await ask({
      a: [{ says: 'limit' }, { says: 'opened' }],
      b: [{ says: 'limit' }, { says: 'opened' }],
    });
    expect([told, asked]).toEqual(['rate_limited', ['a', 'b']]);
    expect(elapsed).toBeLessThan(1_000);
  });

  it('asks again who had too much to do, which is no limit', async () => {
    const acts: Act[] = [{ says: 'busy' }, { says: 'opened' }];
    expect((await ask({ a: acts, b: acts })).told).toBe('service');
    expect((await ask({ a: acts })).told).toBe('service');
  });

  it('goes on where the same one alone refuses, however often', async () => {
    const { told } = await ask({
      a: [{ says: 'limit' }],
      b: [{ says: 'failed' }, { says: 'failed' }, { says: 'opened' }],
    });
    expect(told).toBe('service');
  });

  it('waits for whoever is asked at the moment', async () => {
    // B is asked anew while A is slow to refuse.
    const { told } = await ask({
      a: [{ says: 'limit', after: 200 }],
      b: [{ says: 'limit' }, { says: 'opened', after: 300 }],
    });
    expect(told).toBe('service');
  });
});
