/**
 * The service over HTTP or HTTPS. Secrets travel as bytes (octet-stream), never as text, so that every
 * copy of ours can be overwritten.
 */
import { decodeEnvelopeText, encodeEnvelopeText } from '../crypto/envelope.ts';
import { encodeBase64 } from '../crypto/base64.ts';
import { SecretBytes } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { HttpConnection, JSON_TYPE, jsonOf, unexpected } from './http-connection.ts';
import type { Answer, HttpConnectionOptions } from './http-connection.ts';
import type { Binding, DataKey, KeyService, Rewrapped, SignRequest } from './key-service.ts';

const OCTETS = 'application/octet-stream';

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
    const answer = await this.#connection.send({
      method: 'POST',
      path: `${pathOf(key)}/wrap`,
      accept: OCTETS,
      contentType: OCTETS,
      body: plaintext.reveal(),
      headers: bindingHeaders(binding),
    });
    return answer.body;
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

  /** An envelope is no secret: as JSON, whose context has room for all that a data key was made with. */
  #open(path: string, envelope: Uint8Array, binding: Binding): Promise<Answer> {
    const body = { ciphertext: encodeEnvelopeText(envelope), ...bindingMembers(binding) };
    return this.#post(path, body, OCTETS);
  }

  #post(path: string, body: object, accept: string): Promise<Answer> {
    const json = Buffer.from(JSON.stringify(body));
    return this.#connection.send({
      method: 'POST',
      path,
      accept,
      contentType: JSON_TYPE,
      body: json,
    });
  }
}

function pathOf(key: string): string {
  return `/v1/keys/${encodeURIComponent(key)}`;
}
