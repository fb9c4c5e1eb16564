/** Requests to one zone's Twofold over TLS, each held to the contract. Also runs outside of jest. */
import { once } from 'node:events';
import { Agent, request } from 'node:https';

import { assertListed } from '../contract/observed.ts';
import type { Answer } from '../e2e/service.ts';

/** Longer than any answer of the service, so that what it did not answer is known to be a break. */
const ANSWER_MS = 15_000;

export interface ZoneAddress {
  readonly url: string;
  readonly token: string;
  /** PEM */
  readonly ca: string;
  /** Of a service that may be of another version, whose answers may lack what came later. */
  readonly otherVersion?: boolean;
}

export class ZoneClient {
  readonly #address: ZoneAddress;
  readonly #agent: Agent;
  readonly #answerMs: number;

  /** @param answerMs after which an answer counts as broken */
  constructor(address: ZoneAddress, answerMs = ANSWER_MS) {
    this.#address = address;
    this.#answerMs = answerMs;
    this.#agent = new Agent({ keepAlive: true, ca: address.ca });
  }

  async request(
    method: string,
    path: string,
    body?: unknown,
    options: { readonly headers?: Record<string, string> } = {},
  ): Promise<Answer> {
    const message = request(new URL(path, this.#address.url), {
      method,
      agent: this.#agent,
      signal: AbortSignal.timeout(this.#answerMs),
      headers: {
        authorization: `Bearer ${this.#address.token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...options.headers,
      },
    });
    message.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = (await once(message, 'response')) as [
      AsyncIterable<Buffer> & {
        readonly statusCode: number;
        readonly headersDistinct: Record<string, string[]>;
      },
    ];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    const headers = new Headers(
      Object.entries(response.headersDistinct).flatMap(([name, values]) =>
        values.map((value): [string, string] => [name, value]),
      ),
    );
    const { statusCode: status } = response;
    const { otherVersion = false } = this.#address;
    if (!otherVersion)
      assertListed({ method, path, status, contentType: headers.get('content-type'), body: bytes });
    return {
      status,
      headers,
      bytes,
      get json() {
        return JSON.parse(bytes.toString('utf8')) as Answer['json'];
      },
    };
  }

  close(): void {
    this.#agent.destroy();
  }
}
