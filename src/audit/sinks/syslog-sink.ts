/**
 * Syslog (RFC 5424) over TLS with octet counting (RFC 5425).
 *
 * Syslog acknowledges nothing: bytes that a socket has taken may be lost with the receiver. So each
 * delivery has a connection of its own, and counts once the receiver has closed its side in order after
 * ours, which it does when it has read to the end; a connection that ends in any other way, or was
 * closed before everything was sent, is sent again. What a receiver loses afterwards, it has lost.
 */
import { hostname } from 'node:os';
import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { NAME } from '../../name.ts';
import type { Sink, SinkRecord } from './ports.ts';

export interface SyslogTarget {
  readonly host: string;
  readonly port: number;
  /** Name in the certificate; `host` unless given. */
  readonly serverName?: string | undefined;
  /** PEM, read anew for each connection; the system's authorities unless given. */
  readonly ca?: (() => string) | undefined;
  /** Certificate and key that we show, PEM, read anew for each connection. */
  readonly identity?: (() => { readonly cert: string; readonly key: string }) | undefined;
  /** RFC 5424 section 6.2.1; 13 (log audit). */
  readonly facility?: number;
  /** From connecting to the receiver's close; 30,000 ms. */
  readonly timeoutMs?: number;
}

const LOG_AUDIT = 13;
const [WARNING, INFORMATIONAL] = [4, 6];
/** The enterprise number for examples (RFC 5612): nobody else's names can be mistaken for ours. */
const SD_ID = `${NAME.metric}@32473`;
const MAX_HOST = 255;
const MAX_MESSAGE_ID = 32;

/** PRINTUSASCII of at least one character; `-` is the nil value. */
const printable = (text: string, most: number): string =>
  text.replaceAll(/[^!-~]/gu, '?').slice(0, most) || '-';

/**
 * A PARAM-VALUE (section 6.3.3): three characters are escaped. Control characters become `?`, as the
 * section lets us: receivers write lines, and one value must not look like two of them.
 */
const parameter = (name: string, value: string): string => {
  const visible = value.toWellFormed().replaceAll(/[\p{Cc}\u2028\u2029]/gu, '?');
  return `${name}="${visible.replaceAll(/["\\\]]/gu, String.raw`\$&`)}"`;
};

/** One message without its octet count. */
export function syslogMessage(record: SinkRecord, host: string, facility = LOG_AUDIT): string {
  const { index, id, at, operation, outcome, namespace, json } = record;
  const priority = facility * 8 + (outcome === 'ok' ? INFORMATIONAL : WARNING);
  const data = [
    parameter('index', String(index)),
    parameter('id', id),
    parameter('outcome', outcome),
    parameter('namespace', namespace),
  ];
  return [
    `<${String(priority)}>1`,
    at.toISOString(),
    printable(host, MAX_HOST),
    NAME.metric,
    '-',
    printable(operation, MAX_MESSAGE_ID),
    `[${SD_ID} ${data.join(' ')}]`,
    json,
  ].join(' ');
}

/** MSG-LEN SP SYSLOG-MSG (RFC 5425 section 4.3). */
export const framed = (message: string): string =>
  `${String(Buffer.byteLength(message))} ${message}`;

export class SyslogSink implements Sink {
  readonly #target: SyslogTarget;
  readonly #host = hostname();
  #socket: TLSSocket | null = null;

  constructor(target: SyslogTarget) {
    this.#target = target;
  }

  async deliver(records: readonly SinkRecord[]): Promise<void> {
    const { facility, timeoutMs = 30_000 } = this.#target;
    const frames = records.map((record) => framed(syslogMessage(record, this.#host, facility)));
    const socket = this.#connect();
    this.#socket = socket;
    const timer = setTimeout(() => {
      socket.destroy(new Error('the receiver did not take the messages in time'));
    }, timeoutMs);
    try {
      await sent(socket, frames.join(''));
    } finally {
      clearTimeout(timer);
      socket.destroy();
      this.#socket = null;
    }
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port's form
  async close(): Promise<void> {
    this.#socket?.destroy();
  }

  #connect(): TLSSocket {
    const { host, port, serverName, ca, identity } = this.#target;
    return connect({
      host,
      port,
      minVersion: 'TLSv1.2',
      ...(serverName === undefined ? {} : { servername: serverName }),
      ...(ca === undefined ? {} : { ca: ca() }),
      ...identity?.(),
    });
  }
}

/** @throws Error unless the receiver ended its side after everything was sent */
async function sent(socket: TLSSocket, bytes: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  let finished = false;
  socket.on('error', reject);
  socket.on('close', () => reject(new Error('the receiver closed the connection')));
  socket.on('end', () => {
    if (finished) resolve(undefined);
    else reject(new Error('the receiver closed before it had everything'));
  });
  socket.on('secureConnect', () => {
    socket.end(bytes, () => {
      finished = true;
    });
  });
  // Nothing is expected, but only what is read tells of its end.
  socket.resume();
  await promise;
}
