import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openService } from './service.ts';

const LOCAL = { host: '127.0.0.1', port: 0 };
const statusOf = async (url: string, init?: RequestInit) => (await fetch(url, init)).status;

describe('listeners', () => {
  it('apart: admin routes on one, the rest on the other, metrics on a third', async () => {
    const service = await openService({ options: { admin: LOCAL, metrics: LOCAL } });
    try {
      const { http, admin, metrics } = service.server.address();
      const at = (port: number | undefined, path: string) => `http://127.0.0.1:${port ?? 0}${path}`;
      const authorization = `Bearer ${await service.token('admin')}`;
      const init = {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify({ name: 'k', suite: 'A256GCM' }),
      };
      expect(await statusOf(at(http.port, '/v1/admin/keys'), init)).toBe(404);
      expect(await statusOf(at(admin?.port, '/v1/admin/keys'), init)).toBe(201);
      expect(await statusOf(at(admin?.port, '/v1/keys'), { headers: { authorization } })).toBe(404);
      expect(await statusOf(at(http.port, '/v1/keys'), { headers: { authorization } })).toBe(200);
      expect(await statusOf(at(admin?.port, '/healthz'))).toBe(200);
      expect(await statusOf(at(http.port, '/metrics'))).toBe(404);
      const shown = await fetch(at(metrics?.port, '/metrics'));
      expect([shown.status, await shown.text()]).toEqual([200, 'up 1\n']);
      for (const path of ['/healthz', '/readyz', '/openapi.yaml', '/v1/keys', '/v1/admin/keys']) {
        expect({ path, status: await statusOf(at(metrics?.port, path)) }).toEqual({
          path,
          status: 404,
        });
      }
      expect(await statusOf(at(metrics?.port, '/metrics'), { method: 'POST' })).toBe(404);
    } finally {
      await service.stop();
    }
  });

  it('a port that is taken fails the start and leaves nothing bound', async () => {
    const first = await openService();
    try {
      const taken = { host: '127.0.0.1', port: first.port };
      await expect(openService({ options: { metrics: taken } })).rejects.toMatchObject({
        code: 'conflict',
        detail: expect.stringMatching(
          /is in use by another process; --metrics-port takes another, 0 a free one\.$/u,
        ) as unknown,
      });
    } finally {
      await first.stop();
    }
  });

  it('say nothing of what they are made of', async () => {
    const service = await openService();
    try {
      const { headers } = await service.call(null, 'GET', '/healthz');
      expect(headers.get('x-powered-by')).toBeNull();
      expect(headers.get('server')).toBeNull();
      expect(headers.get('etag')).toBeNull();
    } finally {
      await service.stop();
    }
  });

  it('readyz follows the checks and answers 503 when one fails', async () => {
    const checks = [{ name: 'hsm', ready: false, state: 'session-lost' }];
    const service = await openService({
      replace: () => ({ readiness: () => ({ ready: false, checks }) }),
    });
    try {
      const { status, json } = await service.call(null, 'GET', '/readyz');
      expect([status, json]).toEqual([503, { ready: false, checks }]);
      expect((await service.call(null, 'GET', '/healthz')).status).toBe(200);
    } finally {
      await service.stop();
    }
  });

  it('drain: what runs is answered, what comes is told, idle connections end', async () => {
    const gate = Promise.withResolvers<undefined>();
    const entered = Promise.withResolvers<undefined>();
    const service = await openService({
      replace: ({ use }) => ({
        use: Object.assign(Object.create(use) as typeof use, {
          random: async (...call: Parameters<typeof use.random>) => {
            entered.resolve(undefined);
            await gate.promise;
            return use.random(...call);
          },
        }),
      }),
    });
    const slow = service.call('user', 'POST', '/v1/random', { json: { bytes: 8 } });
    await entered.promise;
    const closing = service.server.close();
    gate.resolve(undefined);
    expect((await slow).status).toBe(200);
    await closing;
    await expect(fetch(`${service.url}/healthz`)).rejects.toThrow();
    await service.stop();
  });

  it('before it drains, it answers as ever and ends each connection with its answer', async () => {
    const service = await openService();
    const socket = connect(service.port, '127.0.0.1');
    const ended = once(socket, 'end');
    let received = '';
    socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
    const get = async () => {
      received = '';
      socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
      while (!received.includes('\r\n\r\n')) await once(socket, 'data');
      return received;
    };
    expect(await get()).toMatch(/^HTTP\/1\.1 200 OK\r\n(?:.+\r\n)*Connection: keep-alive\r\n/u);
    service.server.part();
    expect(await get()).toMatch(/^HTTP\/1\.1 200 OK\r\n(?:.+\r\n)*Connection: close\r\n/u);
    await ended;
    // New ones are still taken, and answered.
    expect((await fetch(`${service.url}/healthz`)).headers.get('connection')).toBe('close');
    await service.stop();
  });

  it('while draining, a request that was still arriving gets 503 shutting_down', async () => {
    const service = await openService();
    const { promise, resolve } = Promise.withResolvers<string>();
    const socket = connect(service.port, '127.0.0.1');
    let received = '';
    socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
    socket.on('close', () => resolve(received));
    socket.write('GET /v1/whoami HTTP/1.1\r\nHost: x\r\n');
    await new Promise((next) => setTimeout(next, 500));
    const closing = service.server.close();
    socket.write('\r\n');
    const text = await promise;
    await closing;
    expect(text).toContain('HTTP/1.1 503 Service Unavailable');
    expect(text).toContain('"code":"shutting_down"');
    expect(text).toContain('Connection: close');
    await service.stop();
  });
});

describe('TLS', () => {
  let folder: string;
  let tls: { cert: Buffer; key: Buffer };
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-tls-'));
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'];
    execFileSync('openssl', ['req', '-x509', ...kind, '-keyout', key, '-out', cert, ...subject], {
      stdio: 'ignore',
    });
    tls = { cert: readFileSync(cert), key: readFileSync(key) };
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const handshake = async (port: number, options: object): Promise<TLSSocket> => {
    const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
    const socket = connectTls({ host: '127.0.0.1', port, ca: tls.cert, ...options }, () =>
      resolve(socket),
    ).once('error', reject);
    return promise;
  };

  it('is 1.3 only, hybrid first, and speaks the same API', async () => {
    const service = await openService({ options: { http: { ...LOCAL, tls } } });
    try {
      const socket = await handshake(service.port, {});
      expect(socket.getProtocol()).toBe('TLSv1.3');
      const answered = Promise.withResolvers<string>();
      socket.once('data', (chunk: Buffer) => answered.resolve(chunk.toString()));
      socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      expect(await answered.promise).toContain('HTTP/1.1 200 OK');
      socket.destroy();
      await expect(handshake(service.port, { maxVersion: 'TLSv1.2' })).rejects.toThrow();
      const plain = Promise.withResolvers<string>();
      plainRequest({ host: '127.0.0.1', port: service.port })
        .on('error', () => plain.resolve('refused'))
        .on('response', ({ statusCode }) => plain.resolve(String(statusCode)))
        .end();
      expect(await plain.promise).not.toBe('200');
    } finally {
      await service.stop();
    }
  });

  it.each([
    ['X25519MLKEM768', 'X25519MLKEM768'],
    ['X25519:P-256:X25519MLKEM768', 'X25519MLKEM768'],
    ['P-256:SecP256r1MLKEM768', 'SecP256r1MLKEM768'],
    ['X25519', 'X25519'],
  ])('with a client of %s agrees on %s', async (ecdhCurve, group) => {
    const service = await openService({ options: { http: { ...LOCAL, tls } } });
    try {
      const socket = await handshake(service.port, { ecdhCurve });
      expect(socket.getEphemeralKeyInfo()).toMatchObject({ name: group });
      socket.destroy();
      await expect(handshake(service.port, { ecdhCurve: 'P-521' })).rejects.toThrow();
    } finally {
      await service.stop();
    }
  });

  it('asks for a client certificate where authorities are given', async () => {
    const options = { http: { ...LOCAL, tls: { ...tls, ca: tls.cert } } };
    const service = await openService({ options });
    try {
      const anonymous = await handshake(service.port, {});
      const ended = Promise.withResolvers<string>();
      anonymous
        .on('error', () => ended.resolve('refused'))
        .on('close', () => ended.resolve('closed'));
      anonymous.on('data', () => ended.resolve('answered'));
      anonymous.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
      expect(await ended.promise).not.toBe('answered');
      const known = await handshake(service.port, { cert: tls.cert, key: tls.key });
      expect(known.authorized).toBe(true);
      known.destroy();
    } finally {
      await service.stop();
    }
  });
});
