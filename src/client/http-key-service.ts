/**
 * The service over HTTP or HTTPS. Secrets come as bytes (octet-stream) and go as base64 that is written
 * into a buffer, never as a string, so that every copy of ours can be overwritten.
 */
import { base64Length, writeBase64 } from '../contract/base64.ts';
import { decodeEnvelopeText, encodeEnvelopeText } from '../crypto/envelope.ts';
import { encodeBase64 } from '../crypto/base64.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { HttpConnection, JSON_TYPE, jsonOf, unexpected } from './http-connection.ts';
import type { Answer, HttpConnectionOptions } from './http-connection.ts';
import type { Binding, DataKey, KeyService, Rewrapped, SignRequest } from './key-service.ts';

const OCTETS = 'application/octet-stream';

function bindingMembers({ aad, encryptionContext }: Binding) {
  return { aad: encodeBase64(aad), encryptionContext };
}

/** JSON, since a header has no room for every context that a data key can be made with. */
function wrapBody(plaintext: Uint8Array, binding: Binding): Uint8Array {
  const before = Buffer.from('{"plaintext":"');
  const behind = Buffer.from(`",${JSON.stringify(bindingMembers(binding)).slice(1)}`);
  const body = Buffer.alloc(before.length + base64Length(plaintext.length) + behind.length);
  before.copy(body);
  behind.copy(body, writeBase64(body, before.length, plaintext));
  return body;
}

export class HttpKeyService implements KeyService {
  readonly #connection: HttpConnection;

  /** @throws ClientError invalid_value for a URL of another scheme */
  constructor(options: HttpConnectionOptions) {
    this.#connection = new HttpConnection(options);
  }

  /** Closes idle connections, which would keep the process alive. */
  close(): void {
    this.#connection.close();
  }

  async publicKey(key: string): Promise<unknown> {
    const path = `${pathOf(key)}/public-key?format=raw`;
    return jsonOf((await this.#connection.send({ method: 'GET', path, accept: JSON_TYPE })).body);
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
    const body = wrapBody(plaintext.reveal(), binding);
    try {
      return (await this.#send(`${pathOf(key)}/wrap`, body, OCTETS)).body;
    } finally {
      wipe(body);
    }
  }

  async unwrap(key: string, envelope: Uint8Array, binding: Binding): Promise<SecretBytes> {
    return SecretBytes.own((await this.#open(`${pathOf(key)}/unwrap`, envelope, binding)).body);
  }

  async rewrap(key: string, envelope: Uint8Array, binding: Binding): Promise<Rewrapped> {
    const { body, header } = await this.#open(`${pathOf(key)}/rewrap`, envelope, binding);
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

  /** An envelope is no secret. */
  #open(path: string, envelope: Uint8Array, binding: Binding): Promise<Answer> {
    const body = { ciphertext: encodeEnvelopeText(envelope), ...bindingMembers(binding) };
    return this.#post(path, body, OCTETS);
  }

  #post(path: string, body: object, accept: string): Promise<Answer> {
    return this.#send(path, Buffer.from(JSON.stringify(body)), accept);
  }

  #send(path: string, body: Uint8Array, accept: string): Promise<Answer> {
    return this.#connection.send({ method: 'POST', path, accept, contentType: JSON_TYPE, body });
  }
}

function pathOf(key: string): string {
  return `/v1/keys/${encodeURIComponent(key)}`;
}
