/** A TCP relay in front of a database, whose connections a test can freeze or cut at will. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export interface Relay {
  /** The database's URL with the relay's port in it. */
  url(original: string): string;
  /** From now on nothing of the server's reaches the client (what the client sends still arrives). */
  muteAnswers(): void;
  /** Ends the muting for new connections. */
  unmute(): void;
  /** Cuts the connection as soon as the server answers a chunk that matches: what was sent is done. */
  cutAfter(pattern: RegExp): void;
  /**
   * From the moment when a client has sent a chunk that matches, nothing of the server's reaches that
   * client any more. Resolves then, with the port that the server knows the client by.
   */
  holdAfter(pattern: RegExp): Promise<number>;
  /** What clients sent, as latin1 text. */
  sent(): string;
  /** Connections accepted so far. */
  accepted(): number;
  close(): Promise<void>;
}

export const startRelay = async (port: number): Promise<Relay> => {
  let muted = false;
  let cut: RegExp | undefined;
  let hold: { readonly pattern: RegExp; readonly held: (port: number) => void } | undefined;
  let text = '';
  let count = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    count += 1;
    const upstream = connect(port, '127.0.0.1');
    let held = false;
    let cutting = false;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => sockets.delete(socket));
    }
    client.on('data', (chunk) => {
      const piece = chunk.toString('latin1');
      text += piece;
      if (hold?.pattern.test(piece) === true) {
        held = true;
        hold.held(upstream.localPort ?? 0);
        hold = undefined;
      }
      upstream.write(chunk);
      if (cut?.test(piece) === true) {
        cut = undefined;
        cutting = true;
      }
    });
    upstream.on('data', (chunk) => {
      // The answer goes into the void.
      if (cutting) client.destroy();
      else if (!muted && !held) client.write(chunk);
    });
    client.on('close', () => upstream.end());
    upstream.on('close', () => client.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const own = (server.address() as AddressInfo).port;
  return {
    url: (original) => {
      const url = new URL(original);
      url.port = String(own);
      return url.toString();
    },
    muteAnswers: () => {
      muted = true;
    },
    unmute: () => {
      muted = false;
    },
    cutAfter: (pattern) => {
      cut = pattern;
    },
    holdAfter: (pattern) =>
      new Promise((resolve) => {
        hold = { pattern, held: resolve };
      }),
    sent: () => text,
    accepted: () => count,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
};
