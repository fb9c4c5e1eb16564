/**
 * The clock that ends a connection over which nothing goes stands still from a request's head to its
 * answer: a token may search for the primes of an RSA key for two minutes, and the client is not to
 * blame. A body that does not come is ended by its own time limit (`http/body.ts`).
 */
import type { Socket } from 'node:net';

interface Held {
  /** Answers that are being made. */
  answers: number;
  /** What the clock was set to, ms. */
  readonly limit: number;
}

const HELD = new WeakMap<Socket, Held>();

/** Stops the clock of a connection; what it gives starts it again, once for each call of this. */
export function holdStallClock(socket: Socket): () => void {
  const held = HELD.get(socket) ?? { answers: 0, limit: socket.timeout ?? 0 };
  held.answers += 1;
  HELD.set(socket, held);
  socket.setTimeout(0);
  let released = false;
  return () => {
    if (released) return;
    released = true;
    held.answers -= 1;
    if (held.answers > 0) return;
    HELD.delete(socket);
    socket.setTimeout(held.limit);
  };
}
