/** A load generator that costs little: HTTP/1.1 on kept-alive sockets, one request in flight each. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';

export interface Reply {
  readonly status: number;
  readonly body: Buffer;
}

const HEAD_END = Buffer.from('\r\n\r\n');

export class Client {
  readonly #socket: Socket;
  #buffered: Buffer = Buffer.alloc(0);
  #waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void } | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    const fail = (error: Error) => this.#waiting?.reject(error);
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('the server closed the connection')));
  }

  static async open(url: URL): Promise<Client> {
    const socket = connect({ host: url.hostname, port: Number(url.port) });
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new Client(socket);
  }

  /** Sends a prepared request and resolves with its answer. */
  send(request: Buffer): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#buffered = this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk]);
    const end = this.#buffered.indexOf(HEAD_END);
    if (end < 0) return;
    const head = this.#buffered.subarray(0, end).toString('latin1');
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    const total = end + HEAD_END.length + length;
    if (this.#buffered.length < total) return;
    const body = Buffer.from(this.#buffered.subarray(end + HEAD_END.length, total));
    this.#buffered = this.#buffered.subarray(total);
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve({ status: Number(head.slice(9, 12)), body });
  }
}

/** The bytes of a POST, made once and sent many times. */
export function post(path: string, token: string, body: Uint8Array, contentType: string): Buffer {
  const head = [
    `POST ${path} HTTP/1.1`,
    'Host: 127.0.0.1',
    `Authorization: Bearer ${token}`,
    `Content-Type: ${contentType}`,
    `Accept: ${contentType}`,
    `Content-Length: ${String(body.length)}`,
    '',
    '',
  ].join('\r\n');
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

export interface Load {
  readonly perSecond: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly requests: number;
}

/** Sends `request` over `inFlight` connections until `requests` are answered; all must be 200. */
export async function load(
  url: URL,
  request: Buffer,
  { inFlight, requests, onEach }: LoadOptions,
): Promise<Load> {
  const clients = await Promise.all(Array.from({ length: inFlight }, () => Client.open(url)));
  const times = new Float64Array(requests);
  let sent = 0;
  const began = performance.now();
  await Promise.all(
    clients.map(async (client) => {
      while (sent < requests) {
        const index = sent++;
        const start = performance.now();
        const { status, body } = await client.send(request);
        times[index] = performance.now() - start;
        if (status !== 200) throw new Error(`${String(status)} ${body.toString('utf8')}`);
        onEach?.(index);
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  for (const client of clients) client.close();
  times.sort();
  const at = (share: number) => times[Math.min(requests - 1, Math.floor(requests * share))] ?? 0;
  return { perSecond: requests / seconds, p50: at(0.5), p99: at(0.99), requests };
}

export interface LoadOptions {
  readonly inFlight: number;
  readonly requests: number;
  readonly onEach?: (index: number) => void;
}
