/** An issuer that publishes its keys by https on this machine, as a test tells it to. */
import { createServer } from 'node:https';
import type { Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { makeCertificate } from '../config/certificate.ts';

type Respond = (response: ServerResponse, request: IncomingMessage) => void;

export class PublishedIssuer {
  readonly ca: string;
  readonly url: string;
  readonly #server: Server;
  /** By path. */
  readonly #pages = new Map<string, Respond>();

  private constructor(server: Server, ca: string, port: number) {
    this.#server = server;
    this.ca = ca;
    this.url = `https://localhost:${String(port)}`;
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const respond = this.#pages.get(request.url ?? '');
      if (respond === undefined) response.writeHead(404).end();
      else respond(response, request);
    });
  }

  static async start(): Promise<PublishedIssuer> {
    const { certificate, key } = makeCertificate();
    const server = createServer({ cert: certificate, key });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    return new PublishedIssuer(server, certificate, (server.address() as AddressInfo).port);
  }

  respond(path: string, respond: Respond): void {
    this.#pages.set(path, respond);
  }

  json(path: string, value: unknown): void {
    this.respond(path, (response) => void response.end(JSON.stringify(value)));
  }

  /** Its discovery document and its set. */
  publish(keys: readonly object[], issuer = this.url): void {
    const jwks = `${this.url}/jwks.json`;
    this.json('/.well-known/openid-configuration', { issuer, jwks_uri: jwks });
    this.json('/jwks.json', { keys });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }
}
