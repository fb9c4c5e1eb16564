/** What client certificates may cost before anybody is authenticated, for each source. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { request } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { X509Certificate } from 'node:crypto';
import { TLSSocket, connect as tlsConnect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Handshakes } from '../../src/http/handshakes.ts';
import { createListener } from '../../src/http/listener.ts';
import type { Listener } from '../../src/http/listener.ts';
import { TestAuthority } from '../access/client-certificates.ts';
import type { ClientCertificate } from '../access/client-certificates.ts';
import { makeCertificate } from '../config/certificate.ts';
import { eventually } from '../store/eventually.ts';

const server = makeCertificate();
let authority: TestAuthority;
let client: ClientCertificate;
let listener: Listener;
let port: number;
beforeAll(async () => {
  authority = new TestAuthority('mesh');
  client = authority.issue('DNS:a.example');
  const tls = { cert: server.certificate, key: server.key, clients: 'request' } as const;
  const options = { host: '127.0.0.1', port: 0, tls };
  // Answers with who the client is.
  const shows = ({ socket }: IncomingMessage): string =>
    (socket instanceof TLSSocket && socket.getPeerX509Certificate()?.subject) || 'nobody';
  listener = createListener(
    options,
    { stalledMs: 10_000 },
    {
      request: (asked, response) => response.end(shows(asked)),
      unexpected: (_asked, response) => response.end(),
      malformed: (_error, socket) => socket.destroy(),
    },
  );
  ({ port } = await listener.listen());
});
afterAll(async () => {
  await listener.close(100);
  authority.remove();
});

/** Whether the last answer ended its connection. */
let closes = false;
/** Who the server takes a new connection from this address for. */
const ask = (localAddress: string, cert = client.cert): Promise<string> => {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const identity = { cert, key: client.key, ca: server.certificate };
  const headers = { connection: 'keep-alive' };
  const options = { host: '127.0.0.1', port, localAddress, agent: false, headers, ...identity };
  request(options, (response) => {
    closes = response.headers.connection === 'close';
    void text(response).then(resolve, reject);
  })
    .on('error', reject)
    .end();
  return promise;
};
const idle = (localAddress: string): Promise<Socket> => {
  const socket = connect({ host: '127.0.0.1', port, localAddress });
  return new Promise((open) => socket.once('connect', () => open(socket)));
};

const derBytes = (pem: string): number => new X509Certificate(pem).raw.length;

describe('a source that sends long chains', () => {
  it('is asked for no certificate after a few, and others are', async () => {
    // As much as OpenSSL takes: 100 kB.
    const long = client.cert + authority.pem.repeat(Math.floor(95_000 / derBytes(authority.pem)));
    const seen: string[] = [];
    for (let time = 0; time < 24; time += 1) seen.push(await ask('127.0.0.2', long));
    expect(seen.slice(0, 2)).toEqual(['CN=leaf', 'CN=leaf']);
    expect(seen.slice(-2)).toEqual(['nobody', 'nobody']);
    expect([await ask('127.0.0.2'), closes]).toEqual(['nobody', true]);
    expect([await ask('127.0.0.3'), closes]).toEqual(['CN=leaf', false]);
  });

  it('is not one that sends short ones, however many', async () => {
    for (let time = 0; time < 80; time += 1) expect(await ask('127.0.0.4')).toBe('CN=leaf');
  });
});

describe('a source that sends much at once', () => {
  /** The request in the packets that end the handshake, as clients do that have it ready. */
  const posted = async (localAddress: string, identity: object): Promise<string> => {
    const secure = tlsConnect({
      socket: connect({ host: '127.0.0.1', port, localAddress }),
      ca: server.certificate,
      ...identity,
    });
    secure.on('error', () => undefined);
    secure.write(
      'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 700000\r\nconnection: close\r\n\r\n',
    );
    secure.end(Buffer.alloc(700_000));
    return (await text(secure)).split('\r\n').at(-1) ?? '';
  };

  it('is not one that sends long chains', async () => {
    for (let time = 0; time < 10; time += 1) {
      expect(await posted('127.0.0.8', {})).toContain('nobody');
      const own = { cert: client.cert, key: client.key };
      expect(await posted('127.0.0.8', own)).toContain('CN=leaf');
    }
    expect(await ask('127.0.0.8')).toBe('CN=leaf');
  });
});

describe('a source of handshakes that do not end', () => {
  it('is asked for no certificate while it has too many, and again when they are gone', async () => {
    const open = await Promise.all(Array.from({ length: 70 }, () => idle('127.0.0.5')));
    expect(await ask('127.0.0.5')).toBe('nobody');
    expect(await ask('127.0.0.6')).toBe('CN=leaf');
    for (const socket of open) socket.destroy();
    await eventually(async () => (await ask('127.0.0.5')) === 'CN=leaf');
  });
});

describe('what is counted', () => {
  /** As far as it is looked at. */
  const socketOf = (address: string, port = 1) => {
    const ends: (() => void)[] = [];
    const socket = {
      remoteAddress: address,
      remotePort: port,
      bytesRead: 0,
      once: (_event: string, end: () => void) => ends.push(end),
    };
    const close = () => {
      for (const end of ends) end();
    };
    return {
      socket: socket as unknown as Socket,
      read: (bytes: number) => (socket.bytesRead = bytes),
      close,
    };
  };
  const limits = { usualBytes: 10, perMinute: 100, underWay: 3, sources: 2 };

  it('is what comes before the handshake is done, once, for a minute', () => {
    let now = 0;
    const handshakes = new Handshakes(limits, () => now);
    const one = socketOf('192.0.2.1');
    expect(handshakes.begins(one.socket)).toBe(true);
    one.read(60);
    handshakes.done(one.socket, () => 50);
    one.read(100_000);
    one.close();
    // 50 so far; what is under way counts as it comes.
    const two = socketOf('192.0.2.1', 2);
    expect(handshakes.begins(two.socket)).toBe(true);
    two.read(60);
    expect(handshakes.begins(socketOf('192.0.2.1', 3).socket)).toBe(false);
    now = 59_999;
    expect(handshakes.begins(socketOf('192.0.2.1', 4).socket)).toBe(false);
    now = 60_000;
    expect(handshakes.begins(socketOf('192.0.2.1', 5).socket)).toBe(true);
  });

  it('is nothing of a client without a certificate, and not what came with the end of its handshake', () => {
    const handshakes = new Handshakes({ ...limits, usualBytes: 100, perMinute: 1 });
    for (const [port, chain] of [
      [1, 0],
      [2, 100],
    ] as const) {
      const one = socketOf('192.0.2.1', port);
      expect(handshakes.begins(one.socket)).toBe(true);
      one.read(65_000);
      handshakes.done(one.socket, () => chain);
    }
    const long = socketOf('192.0.2.1', 3);
    expect(handshakes.begins(long.socket)).toBe(true);
    long.read(65_000);
    handshakes.done(long.socket, () => 101);
    expect(handshakes.begins(socketOf('192.0.2.1', 4).socket)).toBe(false);
  });

  it('is shared by sources beyond as many as are known, until those are quiet', () => {
    let now = 0;
    const handshakes = new Handshakes(limits, () => now);
    const all = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4'].map((each) => socketOf(each));
    for (const { socket } of all) expect(handshakes.begins(socket)).toBe(true);
    all[2]?.read(1_000);
    expect(handshakes.begins(socketOf('192.0.2.5').socket)).toBe(false);
    for (const { close } of all) close();
    now = 60_000;
    expect(handshakes.begins(socketOf('192.0.2.6').socket)).toBe(true);
  });
});
