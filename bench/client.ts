/** A load generator that costs little: HTTP/1.1 on kept-alive sockets, one request in flight each. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

export interface Reply {
  readonly status: number;
  readonly body: Buffer;
}

/** Where requests go; `certificate` is the PEM of the only one that is trusted. */
export interface Target {
  readonly url: URL;
  readonly certificate?: string;
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

  static async open({ url, certificate }: Target): Promise<Client> {
    const place = { host: url.hostname, port: Number(url.port) };
    const [socket, ready] =
      certificate === undefined
        ? ([connect(place), 'connect'] as const)
        : ([
            connectTls({ ...place, ca: certificate, minVersion: 'TLSv1.3' }),
            'secureConnect',
          ] as const);
    await new Promise((resolve, reject) => socket.once(ready, resolve).once('error', reject));
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
export function post(
  path: string,
  token: string,
  body: Uint8Array,
  contentType = 'application/octet-stream',
): Buffer {
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

/** One request on a connection of its own. @throws Error when the answer is not a 200 */
export async function ask(target: Target, request: Buffer): Promise<Buffer> {
  const client = await Client.open(target);
  try {
    const { status, body } = await client.send(request);
    if (status !== 200) throw new Error(`${String(status)} ${body.toString('utf8')}`);
    return body;
  } finally {
    client.close();
  }
}
