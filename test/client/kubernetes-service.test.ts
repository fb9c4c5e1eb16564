/** When the agent tells an API server of what a server refuses, and when it goes on asking. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';

import { HttpConnection } from '../../src/client/http-connection.ts';
import { KubernetesOverHttp } from '../../src/client/kubernetes-service.ts';

/**
 * `limit`: refused for a limit; `busy`: this instance has too much to do; `unsaid`: opened, and no word of who
 * can have made it; a code: a fault of this server's own.
 */
type Says =
  | 'limit'
  | 'busy'
  | 'failed'
  | 'opened'
  | 'unsaid'
  | 'junk'
  | 'forbidden'
  | keyof typeof FAULTS
  | keyof typeof LACKS
  | keyof typeof DENIED;
/** What each server would say, as it is said of who asks. */
const DENIED = {
  token_missing: 401,
  token_denied: 401,
} as const;
/** What a server may say of itself alone, by its status. */
const FAULTS = {
  hsm_full: 503,
  integrity_failed: 500,
  internal: 500,
  token_invalid: 401,
  certificate_invalid: 401,
  // By its own clock, which may be ahead.
  token_expired: 401,
  certificate_expired: 401,
} as const;
/** What another server may have. */
const LACKS = {
  version_not_found: 404,
  zone_denied: 403,
  zone_lacks_material: 409,
  suite_unavailable_here: 409,
} as const;
const STATUSES = { ...FAULTS, ...LACKS, ...DENIED };
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
      if (says === 'unsaid') return response.writeHead(200).end(new Uint8Array(32));
      if (says === 'forbidden') return response.writeHead(403).end(refusal(says));
      if (says === 'junk') return response.writeHead(200).end('hello');
      if (says in STATUSES) {
        return response.writeHead(STATUSES[says as keyof typeof STATUSES]).end(refusal(says));
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

async function agentOf(places: Readonly<Record<string, readonly Act[]>>) {
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
  return { client, asked };
}

async function ask(places: Readonly<Record<string, readonly Act[]>>) {
  const { client, asked } = await agentOf(places);
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
      a: [{ says: 'limit', after: 400 }],
      b: [{ says: 'limit' }, { says: 'opened', after: 500 }],
    });
    expect(told).toBe('service');
  });

  const own = Object.keys(FAULTS) as (keyof typeof FAULTS)[];
  it.each<Says>([...own, 'unsaid'])(
    'goes on with the next where one says of itself: %s, and asks that one last from then on',
    async (says) => {
      const { client, asked } = await agentOf({ a: [{ says }], b: [{ says: 'opened' }] });
      const request = { envelope: new Uint8Array(64), context: {}, uid: null };
      const began = performance.now();
      for (let n = 0; n < 2; n += 1) {
        const { origin } = await client.unwrap(request, new AbortController().signal);
        expect(origin).toBe('service');
      }
      expect(asked).toEqual(['a', 'b', 'b']);
      expect(performance.now() - began).toBeLessThan(1_000);
    },
  );

  it.each<[Says, string]>([
    ...own.map((says): [Says, string] => [says, says]),
    ['unsaid', 'service_unreachable'],
  ])('says at once that each of them says of itself: %s', async (says, code) => {
    const { told, asked, elapsed } = await ask({ a: [{ says }], b: [{ says }] });
    expect([told, asked]).toEqual([code, ['a', 'b']]);
    expect(elapsed).toBeLessThan(1_000);
    expect((await ask({ a: [{ says }, { says: 'opened' }] })).told).toBe(code);
  });

  it.each(Object.keys(DENIED) as (keyof typeof DENIED)[])(
    'says at once what is said of itself, whoever else is away: %s',
    async (says) => {
      for (const places of [
        { a: [{ says }], b: [{ says: 'opened' as const }] },
        { b: [{ says: 'failed' as const }], a: [{ says }] },
      ]) {
        const { told, asked, elapsed } = await ask(places);
        expect([told, asked.at(-1)]).toEqual([says, 'a']);
        expect(elapsed).toBeLessThan(1_000);
      }
    },
  );

  it('says what one refuses, not that another is away, whichever was asked last', async () => {
    const away: Act[] = [{ says: 'failed' }];
    const kinds = ['token_invalid', 'certificate_expired', 'hsm_full'] as const;
    const answers = await Promise.all(
      kinds.flatMap((says) => [
        ask({ a: [{ says }], b: away }),
        ask({ b: away, a: [{ says }] }),
        ask({ a: [{ says }], b: [{ says: 'failed', after: 2_000 }] }),
        // Unless that one is away by then too.
        ask({ a: [{ says }, { says: 'failed' }], b: away }),
      ]),
    );
    expect(answers.map(({ told }) => told)).toEqual(
      kinds.flatMap((says) => [says, says, says, 'database_unavailable']),
    );
  });

  const lacks = Object.keys(LACKS) as (keyof typeof LACKS)[];
  it.each(lacks)('asks each once where none of them can, and says so: %s', async (says) => {
    const { told, asked } = await ask({ a: [{ says }], b: [{ says }] });
    expect([told, asked]).toEqual([says, ['a', 'b']]);
    const one = await ask({ a: [{ says }, { says: 'opened' }] });
    expect([one.told, one.asked]).toEqual([says, ['a']]);
    const other = await ask({ a: [{ says }], b: [{ says: 'opened' }] });
    expect([other.told, other.asked]).toEqual(['service', ['a', 'b']]);
  });

  it('says that who could is away, which passes, and what the other lacks', async () => {
    const lacking: Act[] = [{ says: 'zone_lacks_material' }];
    const failures = await Promise.all(
      [
        { a: lacking, b: [{ says: 'failed' as const }] },
        { b: [{ says: 'failed' as const }], a: lacking },
        { a: lacking, b: [{ says: 'opened' as const, after: 2_000 }] },
        // What one says of itself counts for more.
        {
          a: lacking,
          b: [{ says: 'hsm_full' as const }],
          c: [{ says: 'failed' as const }],
        },
      ].map(async (places) => {
        const { client } = await agentOf(places);
        const request = { envelope: new Uint8Array(64), context: {}, uid: null };
        return client.unwrap(request, new AbortController().signal).then(
          () => null,
          (error: unknown) => error,
        );
      }),
    );
    const detail = expect.stringMatching(/Another server says zone_lacks_material: /u) as unknown;
    expect(failures).toMatchObject([
      { code: 'database_unavailable', detail },
      { code: 'database_unavailable', detail },
      { code: 'deadline_exceeded', detail },
      { code: 'hsm_full' },
    ]);
  });

  it('goes on with the next where one tells of no key', async () => {
    const { client, asked } = await agentOf({ a: [{ says: 'junk' }], b: [{ says: 'forbidden' }] });
    await expect(client.state(new AbortController().signal)).rejects.toMatchObject({
      code: 'forbidden',
    });
    expect(asked).toEqual(['a', 'b']);
  });
});
