/**
 * Bounds what client certificates cost before anybody is authenticated. OpenSSL checks every signature of
 * whatever chain a client sends, up to 100 kB of it and of keys as large as it takes, before it looks whether
 * anybody trusts it: 85 ms for one handshake were seen. So what a source sends in its handshakes beyond
 * what a usual one takes is counted, and a source that sends too much of that is not asked for a certificate
 * for a while: it may still come with a token, and who has none is asked again over the next connection.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server } from 'node:https';
import type { Socket } from 'node:net';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';

import { sourceGroup } from '../audit/anonymous.ts';
import { TwofoldError } from '../errors.ts';

export interface HandshakeLimits {
  /** Bytes from a client before its handshake is done that are not counted: a few certificates. */
  readonly usualBytes: number;
  /** Beyond them, of one source in a minute. */
  readonly perMinute: number;
  /** Handshakes of one source under way, over which it is not asked. */
  readonly underWay: number;
  /** Sources counted one by one; further ones share a counter. */
  readonly sources: number;
}

const LIMITS: HandshakeLimits = {
  usualBytes: 16 * 1024,
  perMinute: 128 * 1024,
  underWay: 64,
  sources: 10_000,
};

interface Standing {
  /** Under way, with what was counted of each. */
  readonly open: Map<Socket, number>;
  beyond: number;
  /** Start of the minute that `beyond` counts, ms of the monotonic clock. */
  since: number;
}

type Client = Pick<Socket, 'remoteAddress' | 'remotePort'>;
const clientOf = ({ remoteAddress, remotePort }: Client): string =>
  `${remoteAddress ?? ''} ${String(remotePort)}`;

/** Bytes of the chain that the client sent, as far as each certificate issued the one before; 0: none. */
type ChainBytes = () => number;

const MINUTE_MS = 60_000;
/** Of libuv. */
const ONE_READ = 65_536;
const OTHERS = 'other';

export class Handshakes {
  readonly #limits: HandshakeLimits;
  readonly #now: () => number;
  readonly #sources = new Map<string, Standing>();
  /** What ends a handshake that is under way, by the client's address and port. */
  readonly #underWay = new Map<string, (chainBytes: ChainBytes | null) => void>();
  readonly #notAsked = new Set<string>();

  constructor(limits: HandshakeLimits = LIMITS, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
  }

  /** Whether a client that has just connected is to be asked for a certificate. */
  begins(socket: Socket): boolean {
    const standing = this.#standing(sourceGroup(socket.remoteAddress ?? ''));
    for (const each of standing.open.keys()) this.#count(standing, each);
    const { perMinute, underWay } = this.#limits;
    const client = clientOf(socket);
    if (standing.beyond >= perMinute || standing.open.size >= underWay) {
      this.#notAsked.add(client);
      socket.once('close', () => this.#notAsked.delete(client));
      return false;
    }
    const ends = (chainBytes: ChainBytes | null) => {
      if (standing.open.has(socket)) {
        this.#count(standing, socket);
        if (chainBytes !== null) this.#takeBack(standing, socket, chainBytes);
      }
      standing.open.delete(socket);
      if (this.#underWay.get(client) === ends) this.#underWay.delete(client);
    };
    standing.open.set(socket, 0);
    this.#underWay.set(client, ends);
    socket.once('close', () => {
      ends(null);
    });
    return true;
  }

  /** Its handshake is done: what it sends from now on is no longer counted, nor what it sent too early. */
  done(client: Client, chainBytes: ChainBytes): void {
    this.#underWay.get(clientOf(client))?.(chainBytes);
  }

  asked(client: Client): boolean {
    return !this.#notAsked.has(clientOf(client));
  }

  #count(standing: Standing, socket: Socket): void {
    const counted = standing.open.get(socket) ?? 0;
    const beyond = Math.max(0, socket.bytesRead - this.#limits.usualBytes);
    standing.beyond += Math.max(0, beyond - counted);
    standing.open.set(socket, Math.max(beyond, counted));
  }

  /**
   * A request may come in the read that ends its handshake, up to `ONE_READ` of it. It is no part of a chain
   * where there is none, and is let pass where the chain is a usual one; what else came then, certificates
   * that are nobody's issuer, is parsed but never verified.
   */
  #takeBack(standing: Standing, socket: Socket, chainBytes: ChainBytes): void {
    const counted = standing.open.get(socket) ?? 0;
    if (counted === 0) return;
    const chain = chainBytes();
    if (chain > this.#limits.usualBytes) return;
    const spared = chain === 0 ? counted : Math.min(counted, ONE_READ);
    standing.beyond = Math.max(0, standing.beyond - spared);
  }

  #standing(source: string): Standing {
    const now = this.#now();
    const known = this.#sources.get(source);
    if (known !== undefined) {
      if (now - known.since >= MINUTE_MS) [known.beyond, known.since] = [0, now];
      return known;
    }
    if (source !== OTHERS && this.#isFull(now)) return this.#standing(OTHERS);
    const fresh: Standing = { open: new Map(), beyond: 0, since: now };
    this.#sources.set(source, fresh);
    return fresh;
  }

  /** Whether there is no room, after the source that came first was looked at. */
  #isFull(now: number): boolean {
    if (this.#sources.size < this.#limits.sources) return false;
    const [first] = this.#sources;
    if (first === undefined) return false;
    const [source, { open, since }] = first;
    this.#sources.delete(source);
    if (open.size > 0 || now - since < MINUTE_MS) this.#sources.set(source, first[1]);
    return this.#sources.size >= this.#limits.sources;
  }
}

/** What Node takes for each connection from its server. */
interface Asking {
  requestCert: boolean;
}

/** Connections whose clients were not asked. */
const notAsked = new WeakSet<Socket>();

/** Whether the client of a connection may have a certificate that it was not asked for. */
export const wasNotAsked = (socket: Socket): boolean => notAsked.has(socket);

export const tooManyHandshakes = (): TwofoldError =>
  new TwofoldError('rate_limited', 'Too many or too long handshakes of this source.', {
    retryAfter: 1,
  });

function chainBytesOf(socket: TLSSocket): number {
  const seen = new Set<DetailedPeerCertificate>();
  let bytes = 0;
  // Of who sent none it is an empty object; one that is its own issuer is its own `issuerCertificate`.
  let certificate: Partial<DetailedPeerCertificate> | undefined = socket.getPeerCertificate(true);
  while (certificate?.raw !== undefined && !seen.has(certificate as DetailedPeerCertificate)) {
    seen.add(certificate as DetailedPeerCertificate);
    bytes += certificate.raw.length;
    certificate = certificate.issuerCertificate;
  }
  return bytes;
}

/** Of a server that asks for certificates of whomever. */
export function boundHandshakes(server: Server, handshakes: Handshakes = new Handshakes()): void {
  const asking = server as unknown as Asking;
  // Before Node's own listener, which makes the TLS connection in the same turn.
  server.prependListener('connection', (socket: Socket) => {
    asking.requestCert = handshakes.begins(socket);
  });
  server.on('secureConnection', (socket) => {
    if (!handshakes.asked(socket)) notAsked.add(socket);
    handshakes.done(socket, () => chainBytesOf(socket));
  });
  const onlyOne = ({ socket }: IncomingMessage, response: ServerResponse): void => {
    if (notAsked.has(socket)) response.shouldKeepAlive = false;
  };
  server.prependListener('request', onlyOne);
  server.prependListener('checkContinue', onlyOne);
}
