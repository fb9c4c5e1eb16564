/** The record of a Kubernetes provider is written once, whatever becomes of the answers. */
import { createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import { HttpConnection } from '../../src/client/http-connection.ts';
import type { HttpConnectionOptions } from '../../src/client/http-connection.ts';
import { ProviderRecords } from '../../src/client/provider-records.ts';
import { openService } from '../http/service.ts';
import type { Service } from '../http/service.ts';
import { codeOf } from './sealed-files.ts';

let service: Service;
let authorization: string;
beforeAll(async () => {
  service = await openService();
  authorization = `Bearer ${await service.token('admin')}`;
});
afterAll(() => service.stop());

const servers: Server[] = [];
const connections: HttpConnection[] = [];
afterEach(() => {
  for (const connection of connections.splice(0)) connection.close();
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

type Meanwhile = (request: IncomingMessage, response: ServerResponse) => unknown;

/** In front of the service; `answered` is asked once it has answered, and says whether that is passed on. */
async function through(answered: Meanwhile, options: Partial<HttpConnectionOptions> = {}) {
  const server = createServer((request, response) => {
    const { method, url, headers } = request;
    const onwards = httpRequest(new URL(url ?? '', service.url), { method, headers }, (answer) => {
      void Promise.resolve(answered(request, response)).then((lost) => {
        if (lost === true) return response.destroy();
        response.writeHead(answer.statusCode ?? 0, answer.headers);
        return answer.pipe(response);
      });
    });
    request.pipe(onwards);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const url = new URL(`http://127.0.0.1:${String(port)}`);
  const connection = new HttpConnection({ url, authorization: () => authorization, ...options });
  connections.push(connection);
  return connection;
}

async function recordsAt(connection: HttpConnection, key: string) {
  const json = { name: key, suite: 'MLKEM768-P256', deletionProtection: true };
  expect((await service.call('admin', 'POST', '/v1/admin/keys', { json })).status).toBe(201);
  return new ProviderRecords(connection, {
    namespace: 'default',
    key,
    cluster: 'c1',
    approval: null,
  });
}

const labelOf = async (key: string) => {
  const { json } = await service.call('admin', 'GET', `/v1/keys/${key}`);
  return (json['labels'] as Record<string, string>)['kubernetes/c1'];
};

describe('a record whose answer is lost', () => {
  it('is written by the attempt after it', async () => {
    let lost = 0;
    const connection = await through(({ method }) => method === 'PATCH' && (lost += 1) === 1);
    const records = await recordsAt(connection, 'lost');
    expect(await records.register('twofold')).toEqual({ waitsFor: null, version: 1 });
    expect(lost).toBe(2);
    expect(await labelOf('lost')).toBe('provider=twofold announced=1');
  });

  it('is not where somebody else wrote another meanwhile', async () => {
    const connection = await through(async ({ method }) => {
      if (method !== 'GET') return;
      const json = { labels: { 'kubernetes/c1': 'provider=other announced=1' } };
      const path = '/v1/admin/keys/other';
      expect((await service.call('admin', 'PATCH', path, { json })).status).toBe(200);
    });
    const records = await recordsAt(connection, 'other');
    expect(await codeOf(records.register('twofold'))).toBe('etag_mismatch');
    expect(await labelOf('other')).toBe('provider=other announced=1');
  });
});

describe('a change', () => {
  it('may be silent for longer than a read, while instances are waited for', async () => {
    const slow: Meanwhile = () => new Promise((resolve) => setTimeout(resolve, 400));
    const connection = await through(slow, { silenceMs: 100, attempts: 1 });
    await recordsAt(connection, 'silent');
    const call = { path: '/v1/admin/keys/silent', accept: 'application/json' } as const;
    const body = Buffer.from('{"labels":{"a":"1"}}');
    const patch = { ...call, method: 'PATCH', contentType: 'application/json', body } as const;
    expect(await codeOf(connection.send(patch))).toBe('service_unreachable');
    expect((await connection.send({ ...patch, changes: true })).status).toBe(200);
  });
});
