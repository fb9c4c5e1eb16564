/**
 * A KMS v2 client that costs little: gRPC's frames over node:http2, so that what is measured is the provider
 * and not, on the same two cores, a second gRPC library (an API server's is compiled).
 */
import { connect as connectHttp2, constants } from 'node:http2';
import type { ClientHttp2Session } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { loadSync } from '@grpc/proto-loader';
import type { MethodDefinition, ServiceDefinition } from '@grpc/proto-loader';

import { CALL_MS } from '../test/kubernetes/apiserver.ts';
import type { Encrypted } from '../test/kubernetes/apiserver.ts';

type Method = 'Status' | 'Encrypt' | 'Decrypt';

const PREFIX = 5;
const OK = '0';

/** Flag byte 0 (not compressed), four bytes of length, the message. */
const framed = (message: Buffer): Buffer => {
  const frame = Buffer.alloc(PREFIX + message.length);
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, PREFIX);
  return frame;
};

export class KmsClient {
  readonly #session: ClientHttp2Session;
  readonly #methods: ServiceDefinition;

  constructor(socket: string) {
    const proto = join(import.meta.dirname, '..', 'test', 'kubernetes', 'kms-v2.proto');
    this.#methods = loadSync(proto, { defaults: true })[
      'v2.KeyManagementService'
    ] as ServiceDefinition;
    this.#session = connectHttp2('http://localhost', { createConnection: () => connect(socket) });
    this.#session.on('error', () => undefined);
  }

  status(): Promise<{ readonly healthz: string }> {
    return this.#call('Status', {});
  }

  encrypt(plaintext: Uint8Array, uid: string): Promise<Encrypted> {
    return this.#call('Encrypt', { plaintext, uid });
  }

  async decrypt(value: Encrypted, uid: string): Promise<Uint8Array> {
    return (await this.#call<{ plaintext: Uint8Array }>('Decrypt', { ...value, uid })).plaintext;
  }

  close(): void {
    this.#session.destroy();
  }

  async #call<T>(name: Method, request: object): Promise<T> {
    const method = this.#methods[name] as MethodDefinition<object, object>;
    const frame = framed(method.requestSerialize(request));
    return method.responseDeserialize((await this.#send(method.path, frame)).subarray(PREFIX)) as T;
  }

  /** @throws Error where gRPC's status is not OK, or none came within an API server's patience */
  #send(path: string, frame: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const stream = this.#session.request({
        [constants.HTTP2_HEADER_METHOD]: 'POST',
        [constants.HTTP2_HEADER_PATH]: path,
        [constants.HTTP2_HEADER_TE]: 'trailers',
        [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
        'grpc-timeout': `${String(CALL_MS)}m`,
      });
      const chunks: Buffer[] = [];
      let status: unknown;
      // Where there is nothing but a refusal, it stands in the headers.
      stream.on('response', (headers) => (status = headers['grpc-status']));
      stream.on('trailers', (trailers) => (status = trailers['grpc-status']));
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', reject);
      stream.on('close', () => {
        if (status === OK) resolve(Buffer.concat(chunks));
        else reject(new Error(`gRPC status ${String(status)}`));
      });
      stream.end(frame);
    });
  }
}
