/**
 * Connections to the socket, bounded: one that sends nothing is ended, and of too many the one goes that
 * has been silent for longest, so that junk never keeps an API server out.
 */
import type { Socket } from 'node:net';

/** API servers have one or two each. */
const MAX_CONNECTIONS = 64;
/** For the first bytes. HTTP/2 begins with 24 that are always the same. */
const PREFACE_MS = 5_000;
/** API servers ask for Status once a minute. */
const IDLE_MS = 300_000;

export class Connections {
  /** Longest silent first. */
  readonly #open = new Set<Socket>();

  get size(): number {
    return this.#open.size;
  }

  add(socket: Socket): void {
    this.#open.add(socket);
    const preface = setTimeout(() => socket.destroy(), PREFACE_MS).unref();
    socket.once('data', () => clearTimeout(preface));
    socket.on('data', () => this.#heard(socket));
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.once('close', () => {
      clearTimeout(preface);
      this.#open.delete(socket);
    });
    const [silent] = this.#open;
    if (this.#open.size > MAX_CONNECTIONS) silent?.destroy();
  }

  #heard(socket: Socket): void {
    if (!this.#open.delete(socket)) return;
    this.#open.add(socket);
  }

  destroy(): void {
    for (const socket of this.#open) socket.destroy();
  }
}
