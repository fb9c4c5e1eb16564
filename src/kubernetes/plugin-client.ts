/** A client of a KMS v2 plugin's socket, as an API server is one: for looking at a provider that runs. */
import { Client, credentials } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';

import { TwofoldError } from '../errors.ts';
import { KEY_MANAGEMENT_SERVICE } from './protocol.ts';
import type {
  DecryptRequest,
  DecryptResponse,
  EncryptRequest,
  EncryptResponse,
  StatusResponse,
} from './protocol.ts';

/** As long as an API server waits, the connection included. */
export const CALL_MS = 3_000;

export class PluginClient {
  readonly #client: Client;

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  status(): Promise<StatusResponse> {
    return this.#call('Status', {});
  }

  encrypt(request: EncryptRequest): Promise<EncryptResponse> {
    return this.#call('Encrypt', request);
  }

  decrypt(request: DecryptRequest): Promise<DecryptResponse> {
    return this.#call('Decrypt', request);
  }

  close(): void {
    this.#client.close();
  }

  /** @throws TwofoldError service_unreachable, with the plugin's words */
  #call<Q, R>(name: 'Status' | 'Encrypt' | 'Decrypt', request: Q): Promise<R> {
    const method = KEY_MANAGEMENT_SERVICE[name];
    if (method === undefined) throw new TypeError(`${name} is no method`);
    const { path, requestSerialize, responseDeserialize } = method;
    return new Promise((resolve, reject) => {
      const answered = (error: ServiceError | null, answer?: R): void => {
        if (error === null && answer !== undefined) resolve(answer);
        else reject(new TwofoldError('service_unreachable', error?.details, { cause: error }));
      };
      const options = { deadline: Date.now() + CALL_MS };
      this.#client.makeUnaryRequest<Q, R>(
        path,
        requestSerialize,
        (bytes) => responseDeserialize(bytes) as R,
        request,
        options,
        answered,
      );
    });
  }
}
