/** The service over HTTP: what it answers is believed only where it is what was asked for. */
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterEach, describe, expect, it } from '@jest/globals';

import { HttpKeyService } from '../../src/client/http-key-service.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { makeCertificate } from '../config/certificate.ts';
import { codeOf } from './sealed-files.ts';
import type { HttpConnectionOptions } from '../../src/client/http-connection.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

/** A service of its own that answers as the handler does. */
async function against(handler: Handler, options: Partial<HttpConnectionOptions> = {}) {
  const server = createServer(handler);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const url = new URL(`http://127.0.0.1:${port}/prefix/`);
  return new HttpKeyService({ url, authorization: () => 'Bearer t', ...options });
}

const problem = (code: string, status: number): Handler => {
  const body = { type: 'x', title: 'Title.', status, code, requestId: 'r-1' };
  return (_request, response) => response.writeHead(status).end(JSON.stringify(body));
};
const binding = { aad: Uint8Array.of(1, 2), encryptionContext: { a: 'ü' } };
const envelope = new Uint8Array(3);

describe('a request', () => {
  it('carries a secret as JSON that no string ever was, and asks for bytes', async () => {
    const seen: unknown[] = [];
    const service = await against((request, response) => {
      const { method, url, headers } = request;
      seen.push(method, url, headers['content-type'], headers.accept, headers.authorization);
      const pieces: Buffer[] = [];
      request.on('data', (piece: Buffer) => pieces.push(piece));
      request.on('end', () => {
        seen.push(JSON.parse(Buffer.concat(pieces).toString()));
        response.end('key');
      });
    });
    const secret = SecretBytes.own(Uint8Array.of(1, 2, 3, 4));
    expect(Buffer.from(await service.wrap('a/b', secret, binding)).toString()).toBe('key');
    expect(seen).toEqual([
      ...['POST', '/prefix/v1/keys/a%2Fb/wrap'],
      ...['application/json', 'application/octet-stream', 'Bearer t'],
      { plaintext: 'AQIDBA==', aad: 'AQI=', encryptionContext: { a: 'ü' } },
    ]);
    service.close();
  });

  it.each(['unwrap', 'rewrap'] as const)(
    'to %s has any context in its body, and is answered by bytes',
    async (call) => {
      // As JSON each takes six bytes: a header has no room for so many.
      const encryptionContext = { a: '\u0001'.repeat(4_095) };
      const seen: unknown[] = [];
      const service = await against((request, response) => {
        seen.push(request.url, request.headers.accept, request.headers['content-type']);
        const pieces: Buffer[] = [];
        request.on('data', (piece: Buffer) => pieces.push(piece));
        request.on('end', () => {
          seen.push(JSON.parse(Buffer.concat(pieces).toString('utf8')));
          response.writeHead(200, { 'Twofold-Changed': 'true' }).end('key');
        });
      });
      const answer = await service[call]('k', envelope, { ...binding, encryptionContext });
      const bytes = 'envelope' in answer ? answer.envelope : answer.reveal();
      expect(Buffer.from(bytes).toString()).toBe('key');
      expect(seen).toEqual([
        `/prefix/v1/keys/k/${call}`,
        ...['application/octet-stream', 'application/json'],
        { ciphertext: 'tf1.AAAA', aad: 'AQI=', encryptionContext },
      ]);
      service.close();
    },
  );
});

describe('an answer', () => {
  const unwrap = async (handler: Handler, options: Partial<HttpConnectionOptions> = {}) => {
    const service = await against(handler, options);
    try {
      return await codeOf(service.unwrap('k', envelope, binding));
    } finally {
      service.close();
    }
  };

  it.each([
    ['forbidden', 403],
    ['decryption_failed', 422],
    ['internal', 500],
  ])('that refuses with %s keeps its code and is not repeated', async (code, status) => {
    let requests = 0;
    const refuse = problem(code, status);
    const counted: Handler = (...exchange) => {
      requests += 1;
      refuse(...exchange);
    };
    expect([await unwrap(counted), requests]).toEqual([code, 1]);
  });

  it('that may be another one later is asked for again, so often and no more', async () => {
    let requests = 0;
    const refuse = problem('hsm_busy', 503);
    const busy: Handler = (...exchange) => {
      requests += 1;
      refuse(...exchange);
    };
    expect([await unwrap(busy, { attempts: 2 }), requests]).toEqual(['hsm_busy', 2]);
    let first = true;
    const service = await against((request, response) => {
      if (!first) response.end('key');
      else refuse(request, response);
      first = false;
    });
    expect(await service.unwrap('k', envelope, binding)).toHaveLength(3);
    service.close();
  });

  it.each<[string, Handler]>([
    ['no JSON', (_, response) => response.writeHead(503).end('<html>')],
    ['an unknown code', problem('new_code', 400)],
    ['a redirection', (_, response) => response.writeHead(302, { Location: '/' }).end()],
    ['over 1 MiB', (_, response) => response.end(Buffer.alloc(1_048_577))],
  ])('of %s is not understood', async (_name, handler) => {
    expect(await unwrap(handler)).toBe('unexpected_answer');
  });

  it.each<[string, Handler]>([
    ['ends at once', (request) => request.socket.destroy()],
    [
      'ends midway',
      (request, response) => {
        response.writeHead(200, { 'Content-Length': 10 });
        response.write('abc', () => request.socket.destroy());
      },
    ],
  ])('that %s is none', async (_name, handler) => {
    expect(await unwrap(handler, { attempts: 1 })).toBe('service_unreachable');
  });

  it('that never ends is given up in time, attempts included', async () => {
    let requests = 0;
    const trickle: Handler = (request, response) => {
      requests += 1;
      response.writeHead(200, { 'Content-Length': 1_000 });
      const drip = setInterval(() => response.write('x'), 20);
      request.socket.once('close', () => clearInterval(drip));
    };
    const began = performance.now();
    expect(await unwrap(trickle, { deadlineMs: 300 })).toBe('service_unreachable');
    expect(await unwrap(() => undefined, { deadlineMs: 300 })).toBe('service_unreachable');
    expect(await unwrap(problem('hsm_busy', 503), { deadlineMs: 300 })).toBe('hsm_busy');
    expect(performance.now() - began).toBeLessThan(3_000);
    expect(requests).toBe(1);
  });

  it('to a data key without a ciphertext that is one is not understood', async () => {
    for (const ciphertext of [undefined, 'tf2.AAAA', 'tf1.====']) {
      const headers = ciphertext === undefined ? {} : { 'Twofold-Ciphertext': ciphertext };
      const service = await against((_, response) => response.writeHead(200, headers).end('key'));
      expect(await codeOf(service.createDataKey('k', 32, binding))).toBe('unexpected_answer');
      service.close();
    }
  });

  it('is not waited for after an interruption', async () => {
    const controller = new AbortController();
    const code = await unwrap(() => controller.abort(), { signal: controller.signal });
    expect(code).toBe('interrupted');
  });
});

it('an address of another scheme is refused', () => {
  const options = { url: new URL('ftp://localhost'), authorization: () => '' };
  expect(() => new HttpKeyService(options)).toThrow(
    expect.objectContaining({ code: 'invalid_value' }),
  );
});

describe('TLS', () => {
  const { certificate, key } = makeCertificate();

  /** What a request to a service with this certificate comes to. */
  async function outcome(maxVersion: 'TLSv1.2' | 'TLSv1.3', ca?: string): Promise<string> {
    const options = { cert: certificate, key, maxVersion };
    const listening = createTlsServer(options, (_, response) => response.end('key'));
    servers.push(listening);
    await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
    const { port } = listening.address() as AddressInfo;
    const url = new URL(`https://127.0.0.1:${port}`);
    const service = new HttpKeyService({
      url,
      authorization: () => 'Bearer t',
      attempts: 1,
      ...(ca === undefined ? {} : { ca }),
    });
    try {
      const opened = service.unwrap('k', envelope, binding);
      return await opened
        .then((secret) => Buffer.from(secret.reveal()).toString())
        .catch(() => codeOf(opened));
    } finally {
      service.close();
    }
  }

  it('is spoken with a service of a certificate that is trusted, at 1.3, and with no other', async () => {
    expect(await outcome('TLSv1.3', certificate)).toBe('key');
    expect(await outcome('TLSv1.3')).toBe('service_unreachable');
    expect(await outcome('TLSv1.2', certificate)).toBe('service_unreachable');
  });
});
