/** What only a raw socket can send: malformed heads, bodies in pieces, connections that stall. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openService } from './service.ts';
import type { Service } from './service.ts';
import { eventually } from '../store/eventually.ts';
import { stopwatch } from '../waited.ts';

interface Raw {
  readonly status: number;
  readonly head: string;
  readonly body: Record<string, unknown>;
}

const parseRaw = (text: string): Raw => {
  const split = text.indexOf('\r\n\r\n');
  const head = text.slice(0, split);
  return {
    status: Number(head.split(' ')[1]),
    head: head.toLowerCase(),
    body: JSON.parse(text.slice(split + 4) || '{}') as Record<string, unknown>,
  };
};

describe('on the wire', () => {
  let service: Service;
  let token: string;

  beforeAll(async () => {
    service = await openService({ options: { limits: { bodyTimeoutMs: 500 } } });
    token = await service.token('admin');
    const json = { name: 's', suite: 'HS256' };
    await service.call('admin', 'POST', '/v1/admin/keys', { json });
  });
  afterAll(() => service.stop());

  const open = async (): Promise<Socket> => {
    const { promise, resolve, reject } = Promise.withResolvers<Socket>();
    const socket = connect(service.port, '127.0.0.1', () => resolve(socket)).once('error', reject);
    return promise;
  };

  /** Sends the pieces and answers what came until the peer closed or `until` was seen. */
  const exchange = async (
    pieces: readonly (string | Buffer)[],
    until?: RegExp,
  ): Promise<string> => {
    const socket = await open();
    const { promise, resolve } = Promise.withResolvers<string>();
    let received = '';
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(received));
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      if (until?.test(received) === true) socket.destroy();
    });
    for (const piece of pieces) {
      socket.write(piece);
      await new Promise((next) => setTimeout(next, 5));
    }
    return promise;
  };

  const post = (headers: readonly string[], path = '/v1/keys/s/mac') =>
    [
      `POST ${path} HTTP/1.1`,
      'Host: x',
      `Authorization: Bearer ${token}`,
      'Content-Type: application/json',
      ...headers,
      '',
      '',
    ].join('\r\n');

  describe('malformed heads have problem documents', () => {
    it.each([
      ['no HTTP', 'hello\r\n\r\n', 400, 'malformed_request'],
      ['another protocol', 'GET / SMTP/1.0\r\n\r\n', 400, 'malformed_request'],
      ['no host', 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n', 400, 'malformed_request'],
      [
        'a bad header name',
        'GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n',
        400,
        'malformed_request',
      ],
      [
        'two lengths',
        'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
        400,
        'malformed_request',
      ],
      [
        'length and chunks',
        'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        400,
        'malformed_request',
      ],
      [
        'a tunnel, and what is sent through it',
        `CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n${'MARKER'.repeat(1000)}`,
        400,
        'malformed_request',
      ],
      [
        'a head over 16 KiB',
        `GET / HTTP/1.1\r\nHost: x\r\nX: ${'MARKER'.repeat(4000)}\r\n\r\n`,
        431,
        'headers_too_large',
      ],
      [
        'a path over 16 KiB',
        `GET /${'MARKER'.repeat(4000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
        431,
        'headers_too_large',
      ],
    ])('%s', async (_name, head, status, code) => {
      const text = await exchange([head]);
      const answer = parseRaw(text);
      expect(answer).toMatchObject({ status, body: { code, status } });
      expect(answer.head).toContain('content-type: application/problem+json');
      expect(answer.head).toContain('cache-control: no-store');
      expect(answer.head).toContain('connection: close');
      expect(answer.head).toMatch(/twofold-request-id: [0-9a-f-]{36}/);
      expect(text).not.toContain('MARKER');
      expect(service.anonymous.at(-1)?.outcome).toBe(code);
      const requestId = /twofold-request-id: ([0-9a-f-]{36})/.exec(answer.head)?.[1];
      expect(service.reports.at(-1)).toMatchObject({ requestId, status, code });
    });

    it('a tunnel behind a request, which is answered first; a client that stays is let go', async () => {
      const waited = stopwatch();
      const body = '{"message":"AAAA"}';
      const mac = post([`Content-Length: ${String(body.length)}`]) + body;
      const text = await exchange([mac, 'CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n']);
      expect(text.match(/HTTP\/1\.1 \d+/gu)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 400']);
      expect(waited()).toBeLessThan(8_000);
    }, 15_000);

    it('a percent-encoding that is none', async () => {
      const answer = await service.call('admin', 'GET', '/v1/keys/%zz');
      expect(answer).toMatchObject({ status: 400, json: { code: 'malformed_request' } });
      const query = await service.call('admin', 'GET', '/v1/keys?state=%zz');
      expect(query).toMatchObject({ status: 400, json: { code: 'malformed_request' } });
      const bytes = await service.call('admin', 'GET', '/v1/keys?state=%ff');
      expect(bytes).toMatchObject({ status: 400, json: { code: 'malformed_request' } });
    });
  });

  it.each([
    ['two tokens', ['Authorization: Bearer x']],
    ['two media types', ['Content-Type: application/json']],
    ['two namespaces', ['Twofold-Namespace: default', 'Twofold-Namespace: default']],
  ])('refuses %s', async (_name, headers) => {
    const head = post([...headers, 'Connection: close', 'Content-Length: 0']);
    expect(parseRaw(await exchange([head]))).toMatchObject({
      status: 400,
      body: { code: 'malformed_request' },
    });
  });

  describe('bodies', () => {
    const json = JSON.stringify({ message: Buffer.from('hello').toString('base64') });
    const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

    it('come in chunks, without a length', async () => {
      const pieces = (json.match(/./g) ?? []).map(chunk);
      const head = post(['Transfer-Encoding: chunked', 'Connection: close']);
      const answer = parseRaw(await exchange([head, ...pieces, '0\r\n\r\n']));
      expect(answer).toMatchObject({ status: 200, body: { key: 's' } });
    });

    it('in chunks over the limit are cut off', async () => {
      const piece = chunk(' '.repeat(65_536));
      const head = post(['Transfer-Encoding: chunked']);
      const pieces = [head, ...Array.from({ length: 18 }, () => piece)];
      const answer = parseRaw(await exchange(pieces, /\r\n\r\n\{.*\}$/));
      expect(answer).toMatchObject({ status: 413, body: { code: 'body_too_large' } });
    });

    it('that are announced too large are not waited for', async () => {
      const elapsed = stopwatch();
      const head = post(['Content-Length: 999999999']);
      const answer = parseRaw(await exchange([head], /\r\n\r\n\{.*\}$/));
      expect(answer).toMatchObject({ status: 413, body: { code: 'body_too_large' } });
      expect(elapsed()).toBeLessThan(400);
    });

    it('that stall are given up', async () => {
      const head = post(['Content-Length: 100']);
      const answer = parseRaw(await exchange([head, '{"message"'], /\r\n\r\n\{.*\}$/));
      expect(answer).toMatchObject({ status: 400, body: { code: 'malformed_request' } });
    });

    it('that end early leave one entry and no more', async () => {
      const before = service.drafts.length;
      const socket = await open();
      socket.write(post(['Content-Length: 100']) + '{"mess');
      await new Promise((next) => setTimeout(next, 200));
      socket.destroy();
      await eventually(() => Promise.resolve(service.drafts.length > before));
      await new Promise((next) => setTimeout(next, 100));
      expect(service.drafts.slice(before)).toMatchObject([{ outcome: 'malformed_request' }]);
    });

    it('are not asked for without permission', async () => {
      const auditor = await service.token('auditor');
      const expecting = (bearer: string) =>
        post(['Content-Length: 23', 'Expect: 100-continue']).replace(token, bearer);
      const denied = await exchange([expecting(auditor)], /\r\n\r\n\{.*\}$/);
      expect(denied).not.toContain('100 Continue');
      expect(parseRaw(denied)).toMatchObject({ status: 403, body: { code: 'forbidden' } });
      // Sent whole: a connection that ends early would be counted while the next test counts.
      const body = '{"message":"aGVsbG8=" }';
      const asked = await exchange([expecting(token), body], /\r\n\r\n\{.*\}$/);
      expect(asked).toContain('100 Continue\r\n\r\nHTTP/1.1 200');
    });

    it('that wait for anything else than 100-continue are refused', async () => {
      const [counted, reported] = [service.anonymous.length, service.reports.length];
      const head = post(['Content-Length: 2', 'Expect: a-miracle']);
      const answer = parseRaw(await exchange([head]));
      expect(answer).toMatchObject({ status: 400, body: { code: 'malformed_request' } });
      const refused = [{ outcome: 'malformed_request' }];
      expect(service.anonymous.slice(counted)).toMatchObject(refused);
      expect(service.reports.slice(reported)).toMatchObject([{ code: 'malformed_request' }]);
    });

    it('with a content encoding are refused', async () => {
      const answer = await service.call('admin', 'POST', '/v1/keys/s/mac', {
        body: 'x',
        headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
      });
      expect(answer).toMatchObject({ status: 415, json: { code: 'unsupported_media_type' } });
    });

    it('of a refused request do not become the next request', async () => {
      const inner = `GET /v1/whoami HTTP/1.1\r\nHost: x\r\n\r\n`;
      const head = post([`Content-Length: ${inner.length}`], '/v1/nothing');
      const text = await exchange([head + inner], /\}$/);
      expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
      expect(parseRaw(text)).toMatchObject({ body: { code: 'route_not_found' } });
    });
  });
});
