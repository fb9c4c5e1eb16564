/**
 * One POST to a receiver that the operator configured, over a connection that is kept. Redirects are
 * not followed: what an entry says goes where the configuration says and nowhere else.
 */
import { Agent as PlainAgent, request as plainRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';

export interface PostTarget {
  readonly url: string;
  /** PEM of the authorities of its certificate, read anew for each connection; the system's unless given. */
  readonly ca?: (() => string) | undefined;
  /** Bearer token, read anew for each request. */
  readonly token?: (() => string) | undefined;
  /** Until the whole answer is there; 30,000 ms. */
  readonly timeoutMs?: number;
}

export interface PostAnswer {
  readonly status: number;
  /** At most 64 KiB of it. */
  readonly body: Buffer;
}

const MAX_ANSWER = 65_536;

export class Poster {
  readonly #target: PostTarget;
  readonly #url: URL;
  readonly #agent: PlainAgent;
  readonly #timeoutMs: number;

  constructor(target: PostTarget) {
    this.#target = target;
    this.#url = new URL(target.url);
    const settings = { keepAlive: true, maxSockets: 1 };
    this.#agent = this.#isTls
      ? new TlsAgent({ ...settings, minVersion: 'TLSv1.2' })
      : new PlainAgent(settings);
    this.#timeoutMs = target.timeoutMs ?? 30_000;
  }

  /** @throws Error when there was no whole answer in time */
  async post(body: string, headers: Readonly<Record<string, string>>): Promise<PostAnswer> {
    const signal = AbortSignal.timeout(this.#timeoutMs);
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const request = (this.#isTls ? tlsRequest : plainRequest)(
      this.#url,
      {
        method: 'POST',
        agent: this.#agent,
        signal,
        ...(this.#target.ca === undefined ? {} : { ca: this.#target.ca() }),
        headers: {
          ...headers,
          ...this.#authorization(),
          'Content-Length': String(Buffer.byteLength(body)),
        },
      },
      resolve,
    );
    request.on('error', reject);
    request.end(body);
    const answer = await promise;
    return { status: answer.statusCode ?? 0, body: await readAnswer(answer) };
  }

  close(): void {
    this.#agent.destroy();
  }

  get #isTls(): boolean {
    return this.#url.protocol === 'https:';
  }

  #authorization(): Readonly<Record<string, string>> {
    const { token } = this.#target;
    return token === undefined ? {} : { Authorization: `Bearer ${token()}` };
  }
}

/** To the end, so that the connection can be used again; what is beyond the bound is dropped. */
async function readAnswer(answer: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of answer as AsyncIterable<Buffer>) {
    if (length + part.length <= MAX_ANSWER) parts.push(part);
    length += part.length;
    if (length > 16 * MAX_ANSWER) throw new Error('the answer of a receiver has no end');
  }
  return Buffer.concat(parts);
}
