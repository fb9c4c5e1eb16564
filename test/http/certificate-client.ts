/** A client that shows a certificate, over one connection that it keeps. */
import { Agent, request } from 'node:https';
import { text } from 'node:stream/consumers';
import type { ClientCertificate } from '../access/client-certificates.ts';

export interface Sent {
  readonly token?: string;
  readonly namespace?: string;
  readonly method?: string;
  readonly path?: string;
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
}

export class CertificateClient {
  readonly #port: number;
  readonly #agent: Agent;
  /** Connections that were made. */
  connections = 0;

  /** @param ca PEM of who signed the server's certificate */
  constructor(port: number, ca: string, client: ClientCertificate | null) {
    const identity = client === null ? {} : { cert: client.cert, key: client.key };
    this.#port = port;
    this.#agent = new Agent({ keepAlive: true, maxSockets: 1, ca, ...identity });
  }

  /** Status and members of the answer. */
  ask({ token, namespace, method = 'GET', path = '/v1/whoami', body, headers = {} }: Sent = {}) {
    const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
    const sent = {
      ...headers,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(namespace === undefined ? {} : { 'twofold-namespace': namespace }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    };
    const options = { method, headers: sent, agent: this.#agent };
    const asked = request(`https://127.0.0.1:${String(this.#port)}${path}`, options, (response) => {
      text(response).then((answer) => {
        resolve({ status: response.statusCode, ...(JSON.parse(answer) as object) });
      }, reject);
    });
    asked.on('socket', (socket) => {
      if (socket.connecting) this.connections += 1;
    });
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  }

  /** 200, or how it is refused. */
  async code(sent: Sent = {}): Promise<unknown> {
    const { status, code } = await this.ask(sent);
    return status === 200 ? 200 : code;
  }

  close(): void {
    this.#agent.destroy();
  }
}
