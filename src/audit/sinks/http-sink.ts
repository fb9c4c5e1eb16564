/**
 * Newline-delimited JSON by POST. `Twofold-Audit-First` and `-Last` are the indexes of the first and the
 * last line, by which a receiver can tell what it has already.
 *
 * 2xx takes the records. 400, 413, 415 and 422 say that these will never be taken; anything else
 * (authorization too, which somebody can mend) is tried again.
 */
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

export class HttpSink implements Sink {
  readonly #poster: Poster;

  constructor(target: PostTarget) {
    this.#poster = new Poster(target);
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
    });
    requireTaken(status);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port's form
  async close(): Promise<void> {
    this.#poster.close();
  }
}
