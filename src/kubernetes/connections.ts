/**
 * Connections to the socket, bounded: one that sends nothing is ended, and of too many the one goes that
 * has been silent for longest, those first that have not begun to speak HTTP/2, so that junk never keeps
 * an API server out.
 *
 * HTTP/2 reads from the connection beneath its stream, so that no event tells of bytes: they are counted.
 *
 * gRPC keeps what has come of a request until all of it is there, for as long as its sender likes. So requests
 * that are not whole are bounded over all connections, and the connection goes that makes wait for most of them.
 * An API server sends each at once, so that hardly one of its requests is ever seen unfinished.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** API servers have one or two each. */
const MAX_CONNECTIONS = 16;
/**
 * Of all connections: two may begin as many calls as they may have. With 64 kB of message and at most as much of
 * headers each, 32 MB.
 */
const MAX_UNFINISHED = 256;
/** 500 ms, of which none counts in which this process was too busy to read what others sent. */
const STUCK_LOOKS = 10;
const UNFINISHED_LOOK_MS = 50;
/** Of the event loop, in each of which up to 64 kB are read of every connection. */
const TURNS = 3;
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
  /** Of each request that is not whole yet, after how many looks at such it began. */
  readonly unfinished: Map<ServerHttp2Stream, number>;
}

/** Node tells of every stream of every HTTP/2 server; by this the socket of one is known to be from here. */
const OWNER = Symbol('connections');
const STREAMS = 'http2.server.stream.created';

interface Owner {
  readonly connections: Connections;
  readonly socket: Socket;
}

interface StreamCreated {
  readonly stream: ServerHttp2Stream;
}

export class Connections {
  readonly #times: ConnectionTimes;
  readonly #open = new Map<Socket, Heard>();
  readonly #timer: NodeJS.Timeout;
  readonly #onStream = (message: unknown) => this.#begun((message as StreamCreated).stream);
  #unfinished = 0;
  #ending = false;
  /** While there are requests that are not whole; those alone that came in time. */
  #looks = 0;
  #lookedAt = 0;
  #looking: NodeJS.Timeout | null = null;

  constructor(times: ConnectionTimes = TIMES) {
    this.#times = times;
    this.#timer = setInterval(() => this.#look(), times.lookMs).unref();
    subscribe(STREAMS, this.#onStream);
  }

  get size(): number {
    return this.#open.size;
  }

  add(socket: Socket): void {
    const now = performance.now();
    Object.defineProperty(socket, OWNER, { value: { connections: this, socket } });
    this.#open.set(socket, { since: now, bytes: 0, at: now, unfinished: new Map() });
    socket.on('error', () => socket.destroy());
    socket.once('close', () => {
      this.#forget(socket);
      this.#open.delete(socket);
    });
    if (this.#open.size <= MAX_CONNECTIONS) return;
    this.#look();
    this.#endOneThatIsSilent(socket);
  }

  /** Ends all of them. */
  close(): void {
    clearInterval(this.#timer);
    if (this.#looking !== null) clearInterval(this.#looking);
    unsubscribe(STREAMS, this.#onStream);
    for (const socket of this.#open.keys()) socket.destroy();
  }

  /** A request has begun, somewhere in this process. */
  #begun(stream: ServerHttp2Stream): void {
    const owner = stream.session?.socket as { readonly [OWNER]?: Owner } | undefined;
    const { connections, socket } = owner?.[OWNER] ?? {};
    const heard = socket === undefined ? undefined : this.#open.get(socket);
    if (connections !== this || heard === undefined || socket?.destroyed === true) return;
    heard.unfinished.set(stream, this.#looks);
    this.#unfinished += 1;
    if (this.#looking === null) {
      this.#lookedAt = performance.now();
      this.#looking = setInterval(() => this.#lookAtUnfinished(), UNFINISHED_LOOK_MS).unref();
    }
    const whole = () => {
      if (heard.unfinished.delete(stream)) this.#unfinished -= 1;
    };
    stream.once('end', whole).once('close', whole);
    if (this.#unfinished > MAX_UNFINISHED) void this.#endThoseThatKeepMany();
  }

  #lookAtUnfinished(): void {
    const now = performance.now();
    if (now - this.#lookedAt < 2 * UNFINISHED_LOOK_MS) this.#looks += 1;
    this.#lookedAt = now;
    if (this.#unfinished > 0 || this.#looking === null) return;
    clearInterval(this.#looking);
    this.#looking = null;
  }

  /** Requests that wait for their rest longer than an API server ever lets one wait. */
  #stuck({ unfinished }: Heard): number {
    return [...unfinished.values()].filter((look) => this.#looks - look > STUCK_LOOKS).length;
  }

  /** Of many that are silent: those first that have not begun, then those that keep requests unfinished. */
  #endOneThatIsSilent(but: Socket): void {
    const living = [...this.#open].filter(([other]) => !other.destroyed);
    if (living.length <= MAX_CONNECTIONS) return;
    const begun = ({ bytes }: Heard) => Number(bytes >= PREFACE);
    // The one that has just come had no time to speak: where all others have begun, one of them goes.
    const [worst] = living
      .filter(([other]) => other !== but)
      .toSorted(
        ([, a], [, b]) => begun(a) - begun(b) || this.#stuck(b) - this.#stuck(a) || a.at - b.at,
      );
    if (worst !== undefined) this.#end(worst[0]);
  }

  /** Whoever has sent all of a request is heard first: its end is told after its beginning, and that of others. */
  async #endThoseThatKeepMany(): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    for (let turns = 0; turns < TURNS; turns += 1) await nextTurn();
    while (this.#unfinished > MAX_UNFINISHED && this.#endOneThatKeepsMany());
    this.#ending = false;
  }

  /**
   * Of those with unfinished requests: where none keeps them for long, the one that has most of them.
   * @returns whether there was one
   */
  #endOneThatKeepsMany(): boolean {
    const [worst] = [...this.#open]
      .filter(([, { unfinished }]) => unfinished.size > 0)
      .toSorted(
        ([, a], [, b]) =>
          this.#stuck(b) - this.#stuck(a) ||
          b.unfinished.size - a.unfinished.size ||
          b.since - a.since,
      );
    if (worst !== undefined) this.#end(worst[0]);
    return worst !== undefined;
  }

  #end(socket: Socket): void {
    this.#forget(socket);
    socket.destroy();
  }

  /** Its requests are given up: they end with it. */
  #forget(socket: Socket): void {
    const unfinished = this.#open.get(socket)?.unfinished;
    this.#unfinished -= unfinished?.size ?? 0;
    unfinished?.clear();
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
