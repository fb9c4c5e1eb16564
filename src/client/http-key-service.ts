/**
 * The service over HTTP or HTTPS. Secrets travel as bytes (octet-stream), never as text, so that every
 * copy of ours can be overwritten.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http';

import { problem } from '../contract/problem.ts';
import { decodeEnvelopeText } from '../crypto/envelope.ts';
import { encodeBase64 } from '../crypto/base64.ts';
import { concatBytes } from '../crypto/bytes.ts';
import { SecretBytes } from '../crypto/secret.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { ClientError, throwIfAborted } from './client-error.ts';
import type { Binding, DataKey, KeyService, Rewrapped, SignRequest } from './key-service.ts';

export interface HttpKeyServiceOptions {
  /** `http:` or `https:`; a path in it is kept as a prefix. */
  readonly url: URL;
  /** The `Authorization` header of each request, asked for anew each time: tokens end. */
  readonly authorization: () => string;
  /** Certificates in PEM that the service's must descend from; the system's own unless given. */
  readonly ca?: string;
  readonly signal?: AbortSignal;
  /** How often a request that may succeed later is sent; 4 unless given. */
  readonly attempts?: number;
}

const OCTETS = 'application/octet-stream';
const JSON_TYPE = 'application/json';
const TIMEOUT_MS = 30_000;
/** Longest answer that is read, bytes. */
const MAX_ANSWER = 1_048_576;
const FIRST_PAUSE_MS = 250;

interface Call {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly accept: string;
  readonly contentType?: string;
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Answer {
  /** The caller wipes it where it may hold a secret. */
  readonly body: Uint8Array;
  readonly header: (name: string) => string | undefined;
}

const unexpected = (detail: string, cause?: unknown) =>
  new ClientError('unexpected_answer', detail, cause);

function bindingHeaders({ aad, encryptionContext }: Binding): Record<string, string> {
  const context = Buffer.from(JSON.stringify(encryptionContext)).toString('base64');
  return {
    [`${NAME.header}Aad`]: encodeBase64(aad),
    [`${NAME.header}Encryption-Context`]: context,
  };
}

function bindingMembers({ aad, encryptionContext }: Binding) {
  return { aad: encodeBase64(aad), encryptionContext };
}

/** All of a body in one buffer; the pieces it came in are overwritten. */
async function readBody(answer: IncomingMessage): Promise<Uint8Array> {
  const pieces: Buffer[] = [];
  let length = 0;
  try {
    for await (const piece of answer as AsyncIterable<Buffer>) {
      pieces.push(piece);
      length += piece.length;
      if (length > MAX_ANSWER) throw unexpected('The answer is longer than 1 MiB.');
    }
    // Not by Buffer.concat, whose pool would keep a copy of the data key.
    return concatBytes(...pieces);
  } finally {
    for (const piece of pieces) piece.fill(0);
  }
}

function jsonOf(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'));
  } catch (error) {
    throw unexpected('The answer is not JSON.', error);
  }
}

/** The service's refusal, under its own code. */
function refusal(status: number, body: Uint8Array): ClientError {
  const parsed = problem.safeParse(jsonOf(body));
  if (!parsed.success) return unexpected(`The service answered ${status} without a code.`);
  const { code, detail, title, requestId } = parsed.data;
  return new ClientError(code, `${detail ?? title} (request ${requestId})`);
}

function mayComeLater(error: unknown): boolean {
  if (!ClientError.is(error)) return false;
  if (error.code === 'service_unreachable') return true;
  return error.code in ERRORS && ERRORS[error.code as keyof typeof ERRORS].retryable;
}

export class HttpKeyService implements KeyService {
  readonly #options: HttpKeyServiceOptions;
  readonly #agent: HttpAgent;
  readonly #request: (url: URL, options: RequestOptions) => ClientRequest;

  /** @throws ClientError invalid_value for a URL of another scheme */
  constructor(options: HttpKeyServiceOptions) {
    const { url, ca } = options;
    if (url.protocol !== 'http:' && url.protocol !== 'https:') {
      throw new ClientError('invalid_value', 'The URL of the service is http: or https:.');
    }
    const tls = url.protocol === 'https:';
    this.#options = options;
    this.#request = tls ? httpsRequest : httpRequest;
    this.#agent = tls
      ? new HttpsAgent({
          keepAlive: true,
          minVersion: 'TLSv1.3',
          ...(ca === undefined ? {} : { ca }),
        })
      : new HttpAgent({ keepAlive: true });
  }

  /** Closes idle connections, which would keep the process alive. */
  close(): void {
    this.#agent.destroy();
  }

  async publicKey(key: string): Promise<unknown> {
    const path = `${pathOf(key)}/public-key?format=raw`;
    return jsonOf((await this.#send({ method: 'GET', path, accept: JSON_TYPE })).body);
  }

  async createDataKey(key: string, bytes: number, binding: Binding): Promise<DataKey> {
    const body = { bytes, ...bindingMembers(binding) };
    const answer = await this.#post(`${pathOf(key)}/data-keys`, body, OCTETS);
    const plaintext = SecretBytes.own(answer.body);
    const text = answer.header(`${NAME.header}Ciphertext`);
    try {
      if (text === undefined) throw unexpected('The answer has no ciphertext.');
      return { plaintext, envelope: decodeEnvelopeText(text) };
    } catch (error) {
      plaintext.wipe();
      throw TwofoldError.is(error) ? unexpected(error.message, error) : error;
    }
  }

  async wrap(key: string, plaintext: SecretBytes, binding: Binding): Promise<Uint8Array> {
    return (await this.#bytes(`${pathOf(key)}/wrap`, plaintext.reveal(), binding)).body;
  }

  async unwrap(key: string, envelope: Uint8Array, binding: Binding): Promise<SecretBytes> {
    return SecretBytes.own((await this.#bytes(`${pathOf(key)}/unwrap`, envelope, binding)).body);
  }

  async rewrap(key: string, envelope: Uint8Array, binding: Binding): Promise<Rewrapped> {
    const { body, header } = await this.#bytes(`${pathOf(key)}/rewrap`, envelope, binding);
    return { envelope: body, changed: header(`${NAME.header}Changed`) === 'true' };
  }

  async sign(key: string, request: SignRequest): Promise<Uint8Array> {
    const { digest, signatureContext, keyVersion } = request;
    const body = {
      digest: { algorithm: 'SHA-512', value: encodeBase64(digest) },
      signatureContext: encodeBase64(signatureContext),
      keyVersion,
    };
    return (await this.#post(`${pathOf(key)}/sign`, body, OCTETS)).body;
  }

  #post(path: string, body: object, accept: string): Promise<Answer> {
    const json = Buffer.from(JSON.stringify(body));
    return this.#send({ method: 'POST', path, accept, contentType: JSON_TYPE, body: json });
  }

  #bytes(path: string, body: Uint8Array, binding: Binding): Promise<Answer> {
    const headers = bindingHeaders(binding);
    return this.#send({ method: 'POST', path, accept: OCTETS, contentType: OCTETS, body, headers });
  }

  /** Sends until it is answered for good: none of these calls does harm when it is done twice. */
  async #send(call: Call): Promise<Answer> {
    const { attempts = 4, signal } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      throwIfAborted(signal);
      try {
        return await this.#attempt(call);
      } catch (error) {
        throwIfAborted(signal);
        if (attempt >= attempts || !mayComeLater(error)) throw error;
      }
      // An abort ends the pause; the next turn throws.
      await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1), undefined, { signal }).catch(
        () => undefined,
      );
    }
  }

  async #attempt(call: Call): Promise<Answer> {
    const answer = await this.#exchange(call);
    const body = await readBody(answer).catch((error: unknown) => {
      throw ClientError.is(error)
        ? error
        : new ClientError('service_unreachable', undefined, error);
    });
    if (answer.statusCode !== 200) throw refusal(answer.statusCode ?? 0, body);
    const header = (name: string) => {
      const value = answer.headers[name.toLowerCase()];
      return typeof value === 'string' ? value : undefined;
    };
    return { body, header };
  }

  #exchange({ method, path, accept, contentType, body, headers }: Call): Promise<IncomingMessage> {
    const { url, authorization, signal } = this.#options;
    const options: RequestOptions = {
      method,
      agent: this.#agent,
      timeout: TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
      headers: {
        Accept: accept,
        Authorization: authorization(),
        ...(contentType === undefined ? {} : { 'Content-Type': contentType }),
        ...(body === undefined ? {} : { 'Content-Length': body.length }),
        ...headers,
      },
    };
    return new Promise((resolve, reject) => {
      const request = this.#request(new URL(url.pathname.replace(/\/$/u, '') + path, url), options);
      const unreachable = (cause: unknown) => {
        reject(new ClientError('service_unreachable', unreachableAt(url, cause), cause));
      };
      request.once('response', resolve);
      request.on('error', unreachable);
      request.once('timeout', () => request.destroy(new Error('no answer within 30 s')));
      request.end(body);
    });
  }
}

function unreachableAt(url: URL, cause: unknown): string {
  const { code } = cause as NodeJS.ErrnoException;
  return `The service does not answer at ${url.origin}${code === undefined ? '' : `: ${code}`}.`;
}

function pathOf(key: string): string {
  return `/v1/keys/${encodeURIComponent(key)}`;
}
