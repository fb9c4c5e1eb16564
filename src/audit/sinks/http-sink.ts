/**
 * Newline-delimited JSON by POST. `Twofold-Audit-First` and `-Last` are the indexes of the first and the
 * last line, by which a receiver can tell what it has already.
 *
 * With a key, `Twofold-Audit-Signature` is `sha256=` and HMAC-SHA-256 of the body in lower-case hex.
 *
 * 2xx takes the records. 400, 413, 415 and 422 say that these will never be taken; anything else
 * (authorization too, which somebody can mend) is tried again.
 */
import { createHmac } from 'node:crypto';
import { NAME } from '../../name.ts';
import { RecordRefused } from './ports.ts';
import type { Sink, SinkRecord } from './ports.ts';
import { Poster } from './post.ts';
import type { PostTarget } from './post.ts';

const REFUSED: ReadonlySet<number> = new Set([400, 413, 415, 422]);

/** @throws RecordRefused, or Error for what is tried again */
export function requireTaken(status: number): void {
  if (status >= 200 && status < 300) return;
  const message = `the receiver answered ${String(status)}`;
  throw REFUSED.has(status) ? new RecordRefused(message) : new Error(message);
}

export interface HttpTarget extends PostTarget {
  /** Key of the signature, read anew for each request; no signature unless given. */
  readonly hmacKey?: (() => string) | undefined;
}

export class HttpSink implements Sink {
  readonly #poster: Poster;
  readonly #hmacKey: HttpTarget['hmacKey'];

  constructor(target: HttpTarget) {
    this.#poster = new Poster(target);
    this.#hmacKey = target.hmacKey;
  }

  async deliver(records: readonly SinkRecord[]): Promise<void> {
    const [first] = records;
    const last = records.at(-1);
    if (first === undefined || last === undefined) return;
    const body = records.map(({ json }) => `${json}\n`).join('');
    const { status } = await this.#poster.post(body, {
      'Content-Type': 'application/x-ndjson',
      [`${NAME.header}Audit-First`]: String(first.index),
      [`${NAME.header}Audit-Last`]: String(last.index),
      ...this.#signature(body),
    });
    requireTaken(status);
  }

  #signature(body: string): Readonly<Record<string, string>> {
    if (this.#hmacKey === undefined) return {};
    const mac = createHmac('sha256', this.#hmacKey()).update(body).digest('hex');
    return { [`${NAME.header}Audit-Signature`]: `sha256=${mac}` };
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port's form
  async close(): Promise<void> {
    this.#poster.close();
  }
}
