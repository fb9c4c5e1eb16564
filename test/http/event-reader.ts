/** Reads a stream of server-sent events as a client of the HTML standard (section 9.2.6) does. */
import { request as openPlain } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { request as openTls } from 'node:https';
import type { RequestOptions } from 'node:https';

export interface Received {
  readonly id: string;
  /** `message` unless the stream names it. */
  readonly event: string;
  readonly json: Readonly<Record<string, unknown>>;
}

export class EventReader {
  readonly response: IncomingMessage;
  readonly received: Received[] = [];
  /** Where it would resume. */
  lastId = '';
  /** Comments: signs of life. */
  beats = 0;
  retry: number | null = null;
  ended = false;
  #text = '';
  #pendingId = '';
  #changed: () => void = () => undefined;

  private constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding('utf8');
    response.on('data', (text: string) => this.#take(text));
    response.on('close', () => {
      this.ended = true;
      this.#changed();
    });
    response.on('error', () => undefined);
  }

  static open(
    url: string,
    token: string,
    headers: Readonly<Record<string, string>> = {},
    tls: RequestOptions = {},
  ) {
    const open = url.startsWith('https:') ? openTls : openPlain;
    const { promise, resolve, reject } = Promise.withResolvers<EventReader>();
    const asked = open(url, { ...tls, headers: { authorization: `Bearer ${token}`, ...headers } });
    asked.on('response', (response) => resolve(new EventReader(response)));
    asked.on('error', reject);
    asked.end();
    return promise;
  }

  /** Resolves when `holds` does; rejects when the stream ends before. */
  async until(holds: (reader: this) => boolean): Promise<void> {
    while (!holds(this)) {
      if (this.ended) throw new Error('the stream ended');
      const { promise, resolve } = Promise.withResolvers<undefined>();
      this.#changed = () => resolve(undefined);
      await promise;
    }
  }

  /** Events without the one that ends the stream. */
  get events(): readonly Received[] {
    return this.received.filter(({ event }) => event === 'message');
  }

  close(): void {
    this.response.destroy();
  }

  #take(text: string): void {
    this.#text += text;
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end < 0) break;
      this.#block(this.#text.slice(0, end));
      this.#text = this.#text.slice(end + 2);
    }
    this.#changed();
  }

  #block(block: string): void {
    let event = 'message';
    let data: string | null = null;
    for (const line of block.split('\n')) {
      const [, field = '', value = ''] = /^([^:]*): ?(.*)$/u.exec(line) ?? [];
      if (field === '') this.beats += 1;
      else if (field === 'id') this.#pendingId = value;
      else if (field === 'retry') this.retry = Number(value);
      else if (field === 'event') event = value;
      else if (field === 'data') data = value;
    }
    this.lastId = this.#pendingId;
    if (data === null) return;
    const json = JSON.parse(data) as Received['json'];
    this.received.push({ id: this.lastId, event, json });
  }
}
