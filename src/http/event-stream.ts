/**
 * Feeds as server-sent events: each stream reads its feed at the pace of its reader and keeps
 * nothing but its place, one page, and what the connection's own buffer holds. New epochs wake it.
 *
 * What a feed gives is of epochs that this process knows, so every change of access before it has
 * been taken in when it is sent: a stream whose right is in doubt asks again first.
 */
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Credentials } from '../access/ports.ts';
import type { Grant, Operation, Principal } from '../access/grant.ts';
import type { SecurityChange } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { problemOf } from './problem.ts';
import { Streamed } from './route.ts';
import type { HttpDependencies, StreamLimits } from './dependencies.ts';
import type { Feed } from './feed.ts';

type Dependencies = Pick<HttpDependencies, 'epoch' | 'authenticator' | 'access' | 'governance'>;

/** What a stream is asked for. */
export interface StreamRequest {
  readonly grant: Grant<Operation>;
  readonly principal: Principal;
  readonly credentials: Credentials;
  /** Of its connection. */
  readonly tlsGroup: string | null;
  readonly requestId: string;
  readonly feed: Feed;
}

/** After which a client is to come again, ms. */
const RECONNECT_MS = 2_000;
/** Pause while the database is away. */
const PAUSE_MS = 500;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const ownerOf = ({ issuer, subject }: Principal): string => JSON.stringify([issuer, subject]);

/** The streams of this process. */
export class EventStreams {
  readonly #deps: Dependencies;
  readonly #limits: StreamLimits;
  readonly #open = new Set<EventStream>();
  #closed = false;

  constructor(deps: Dependencies, limits: StreamLimits) {
    this.#deps = deps;
    this.#limits = limits;
    deps.epoch.onChange((change) => {
      for (const stream of this.#open) stream.learn(change);
    });
  }

  /** Streams that are open or about to be. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Takes a place among the streams; what it gives begins once the audit entry stands, or is dropped.
   * @throws TwofoldError quota_exceeded, rate_limited, shutting_down; and as `Feed.check`
   */
  async open(request: StreamRequest): Promise<Streamed> {
    this.#admit(request);
    const stream = new EventStream(this.#deps, this.#limits, request, () => {
      this.#open.delete(stream);
    });
    this.#open.add(stream);
    try {
      await stream.check();
    } catch (error) {
      stream.drop();
      throw error;
    }
    return new Streamed(
      'text/event-stream',
      (response) => void stream.run(response),
      () => stream.drop(),
    );
  }

  /** Ends every stream in an orderly way, and opens no more. */
  close(): void {
    this.#closed = true;
    for (const stream of this.#open) stream.end(new TwofoldError('shutting_down'));
  }

  #admit({ principal }: StreamRequest): void {
    if (this.#closed) throw new TwofoldError('shutting_down');
    const { streams, streamsPerPrincipal } = this.#limits;
    if (this.#open.size >= streams) {
      throw new TwofoldError('rate_limited', `At most ${String(streams)} streams are open.`, {
        retryAfter: 5,
      });
    }
    const owner = ownerOf(principal);
    const own = [...this.#open].filter((stream) => stream.owner === owner);
    if (own.length < streamsPerPrincipal) return;
    const most = String(streamsPerPrincipal);
    throw new TwofoldError('quota_exceeded', `A principal has at most ${most} streams open.`);
  }
}

/** Thrown within a stream that has been ended. */
class Ended extends Error {}

class EventStream {
  readonly owner: string;
  readonly #deps: Dependencies;
  readonly #limits: StreamLimits;
  readonly #request: StreamRequest;
  readonly #onEnd: () => void;
  readonly #end = new AbortController();
  readonly #timers: NodeJS.Timeout[] = [];
  #response: ServerResponse | null = null;
  /** How far nothing is left to send. */
  #place: string | null = null;
  /** What the reader was told last. */
  #told: string | null = null;
  /** Whether access may have changed since it was looked at. */
  #doubted = false;
  #news = false;
  #wake: () => void = () => undefined;

  constructor(deps: Dependencies, limits: StreamLimits, request: StreamRequest, onEnd: () => void) {
    this.#deps = deps;
    this.#limits = limits;
    this.#request = request;
    this.#onEnd = onEnd;
    this.owner = ownerOf(request.principal);
  }

  /** Called before the epoch rises, so the stream is woken after it has. */
  learn({ scope }: SecurityChange): void {
    if (scope === 'access') this.#doubted = true;
    setImmediate(() => this.#stir());
  }

  /** Whether the place can be served at all. @throws TwofoldError as `Feed.check` */
  async check(): Promise<void> {
    await this.#request.feed.check();
  }

  /** It never began, or is over. */
  drop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#onEnd();
  }

  /** Tells the reader why, as far as it listens, and closes. */
  end(why: TwofoldError): void {
    if (this.#end.signal.aborted) return;
    this.#end.abort(why);
    this.#wake();
  }

  /** Sends until something ends it. Never rejects. */
  async run(response: ServerResponse): Promise<void> {
    this.#response = response;
    response.once('close', () => this.end(new TwofoldError('internal', 'The reader is gone.')));
    const left = this.#request.principal.expiresAt.getTime() - Date.now();
    this.#timers.push(
      setTimeout(
        () => this.end(new TwofoldError('token_expired')),
        Math.min(Math.max(left, 0), LONGEST_TIMER_MS),
      ).unref(),
      setInterval(() => this.#beat(), this.#limits.heartbeatMs).unref(),
    );
    const { everyMs } = this.#request.feed;
    if (everyMs !== null) this.#timers.push(setInterval(() => this.#stir(), everyMs).unref());
    try {
      await this.#write(`retry: ${String(RECONNECT_MS)}\n\n`);
      while (await this.#turn());
      response.end();
    } catch (error) {
      this.#close(error instanceof Ended ? this.#end.signal.reason : error);
    } finally {
      this.drop();
    }
  }

  /** Whether more is to come. */
  async #turn(): Promise<boolean> {
    await this.#settleDoubt();
    this.#news = false;
    const page = await this.#page();
    for (const { id, data } of page.items) {
      // Between its reading and its sending the right to it may have gone.
      await this.#settleDoubt();
      this.#place = this.#told = id;
      await this.#write(`id: ${id}\ndata: ${data}\n\n`);
    }
    this.#place = page.place;
    if (page.end) return false;
    if (!page.more) await this.#newsOrEnd();
    return true;
  }

  async #page() {
    for (;;) {
      try {
        return await this.#request.feed.next();
      } catch (error) {
        if (!TwofoldError.is(error, 'database_unavailable')) throw error;
        this.#check();
        await sleep(PAUSE_MS, undefined, { signal: this.#end.signal }).catch(() => undefined);
        this.#check();
      }
    }
  }

  async #settleDoubt(): Promise<void> {
    this.#check();
    while (this.#doubted) {
      this.#doubted = false;
      const { authenticator, access, governance } = this.#deps;
      const { grant, credentials, tlsGroup, feed } = this.#request;
      const principal = await authenticator.authenticate(credentials);
      const { namespace } = grant;
      const authorizer = await access.in(namespace);
      // As it was permitted: by all that policies may read of the request.
      authorizer.authorize(principal, feed.operation, { namespace, key: null, tlsGroup });
      const standing = await governance.namespaces.standing(namespace);
      if (standing === 'absent') throw new TwofoldError('not_found');
      if (standing === 'suspended') throw new TwofoldError('namespace_suspended');
      this.#check();
    }
  }

  #check(): void {
    if (this.#end.signal.aborted) throw new Ended();
  }

  #stir(): void {
    this.#news = true;
    this.#wake();
  }

  async #newsOrEnd(): Promise<void> {
    this.#check();
    if (this.#news) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#wake = () => resolve(undefined);
    await promise;
    this.#check();
  }

  /** Waits until the reader has taken enough of what was written before. */
  async #write(text: string): Promise<void> {
    this.#check();
    const response = this.#response;
    if (response === null || response.write(text)) return;
    while (response.writableNeedDrain && !this.#end.signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const taken = () => resolve(undefined);
      // News wake it too; more is written only once there is room.
      this.#wake = taken;
      response.once('drain', taken);
      await promise;
      response.off('drain', taken);
    }
    this.#check();
  }

  /**
   * A sign of life, with the place where nothing that the filter lets through is left: an id without
   * data is remembered by the reader and shown to nobody.
   */
  #beat(): void {
    // A key set can have changed without an epoch.
    this.#doubted = true;
    this.#stir();
    const response = this.#response;
    if (response === null || response.writableNeedDrain || this.#end.signal.aborted) return;
    const place = this.#place;
    const isNew = place !== null && place !== this.#told;
    response.write(isNew ? `: alive\nid: ${place}\n\n` : ': alive\n\n');
    this.#told = place;
  }

  #close(why: unknown): void {
    const response = this.#response;
    if (response === null || response.destroyed) return;
    const problem = problemOf(TwofoldError.from(why), this.#request.requestId);
    response.end(`event: problem\ndata: ${JSON.stringify(problem)}\n\n`);
  }
}
