/**
 * Connections to the socket, bounded: one that sends nothing is ended, and of too many the one goes that
 * has been silent for longest, those first that have not begun to speak HTTP/2, so that junk never keeps
 * an API server out.
 *
 * HTTP/2 reads from the connection beneath its stream, so that no event tells of bytes: they are counted.
 */
import type { Socket } from 'node:net';

/** API servers have one or two each. */
const MAX_CONNECTIONS = 64;
/** HTTP/2 begins with so many bytes that are always the same. */
const PREFACE = 24;

export interface ConnectionTimes {
  /** For the first bytes, ms. */
  readonly prefaceMs: number;
  /** API servers ask for Status once a minute. */
  readonly idleMs: number;
  readonly lookMs: number;
}

const TIMES: ConnectionTimes = { prefaceMs: 5_000, idleMs: 300_000, lookMs: 1_000 };

interface Heard {
  readonly since: number;
  bytes: number;
  /** When bytes were last seen. */
  at: number;
}

export class Connections {
  readonly #times: ConnectionTimes;
  readonly #open = new Map<Socket, Heard>();
  readonly #timer: NodeJS.Timeout;

  constructor(times: ConnectionTimes = TIMES) {
    this.#times = times;
    this.#timer = setInterval(() => this.#look(), times.lookMs).unref();
  }

  get size(): number {
    return this.#open.size;
  }

  add(socket: Socket): void {
    const now = performance.now();
    this.#open.set(socket, { since: now, bytes: 0, at: now });
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.#open.delete(socket));
    if (this.#open.size <= MAX_CONNECTIONS) return;
    this.#look();
    const living = [...this.#open].filter(([other]) => !other.destroyed);
    if (living.length <= MAX_CONNECTIONS) return;
    const begun = ({ bytes }: Heard) => Number(bytes >= PREFACE);
    // The one that has just come had no time to speak: where all others have begun, one of them goes.
    const [silent] = living
      .filter(([other]) => other !== socket)
      .toSorted(([, a], [, b]) => begun(a) - begun(b) || a.at - b.at);
    silent?.[0].destroy();
  }

  /** Ends all of them. */
  close(): void {
    clearInterval(this.#timer);
    for (const socket of this.#open.keys()) socket.destroy();
  }

  #look(): void {
    const now = performance.now();
    for (const [socket, heard] of this.#open) {
      if (socket.bytesRead > heard.bytes) {
        heard.bytes = socket.bytesRead;
        heard.at = now;
      }
      const begun = heard.bytes >= PREFACE || now - heard.since < this.#times.prefaceMs;
      if (!begun || now - heard.at >= this.#times.idleMs) socket.destroy();
    }
  }
}
