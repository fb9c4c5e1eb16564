/**
 * Fetches what issuers publish. An address that somebody stored must not make this service a way into
 * its own network: so there are no redirects, and a connection goes only to an address that was looked
 * at, which a second answer of the name service cannot replace.
 */
import { lookup as resolve } from 'node:dns';
import { request as plainRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { BlockList, isIP } from 'node:net';
import type { LookupFunction } from 'node:net';
import { TwofoldError } from '../errors.ts';
import { MAX_KEY_SET_BYTES } from './jwk-set.ts';

export interface FetchRules {
  /** Development only: http, and addresses of this machine. */
  readonly plainHttp: boolean;
  /** Hosts that may have addresses which are not public; null: all, of what an operator configured. */
  readonly internal: readonly string[] | null;
}

export interface Fetched {
  /** In refusals. */
  readonly what: 'key set' | 'discovery document';
  readonly address: string;
  readonly rules: FetchRules;
  /** PEM of the authorities of its certificate; those of the system unless given. */
  readonly ca?: string | undefined;
  /** Ends the fetch. */
  readonly signal: AbortSignal;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** What IANA's registries of special-purpose addresses (RFC 6890) do not call globally reachable. */
const SPECIAL = new BlockList();
for (const [net, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
] as const) {
  SPECIAL.addSubnet(net, prefix, 'ipv4');
}
for (const [net, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const) {
  SPECIAL.addSubnet(net, prefix, 'ipv6');
}
/** Global unicast; everything else of IPv6, addresses that hold one of IPv4 among it, is special. */
const GLOBAL = new BlockList();
GLOBAL.addSubnet('2000::', 3, 'ipv6');

/** Whether an address is one of the public Internet. */
export function isPublicAddress(address: string): boolean {
  if (isIP(address) === 4) return !SPECIAL.check(address, 'ipv4');
  return GLOBAL.check(address, 'ipv6') && !SPECIAL.check(address, 'ipv6');
}

const isLoopbackAddress = (address: string): boolean =>
  LOOPBACK.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6');

const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[(.*)\]$/u, '$1');

const refused = ({ what }: Pick<Fetched, 'what'>, why: string): TwofoldError =>
  new TwofoldError('invalid_value', `The ${what} ${why}.`);

/**
 * That an address can be fetched from at all, as far as its text tells.
 *
 * @throws TypeError for anything but https, unless development allows http to this machine
 */
export function checkAddress(address: string, { plainHttp, internal }: FetchRules): URL {
  const url = URL.parse(address);
  if (url === null || url.username !== '' || url.password !== '' || url.hash !== '') {
    throw new TypeError('an issuer is fetched from a URL without user and fragment');
  }
  const host = hostOf(url);
  const local = host === 'localhost' || (isIP(host) !== 0 && isLoopbackAddress(host));
  const plain = url.protocol === 'http:' && plainHttp && (internal === null || local);
  if (url.protocol === 'https:' || plain) return url;
  throw new TypeError('what an issuer publishes is fetched by https only');
}

/** Whether a connection for the host may go to the address. */
function mayReach(address: string, host: string, { plainHttp, internal }: FetchRules): boolean {
  if (internal === null || internal.includes(host) || isPublicAddress(address)) return true;
  return plainHttp && isLoopbackAddress(address);
}

class InternalAddress extends Error {
  override readonly name = 'InternalAddress';
}

/** Every address of the name has to be one that may be reached: a connection takes any of them. */
const checkedLookup =
  (rules: FetchRules): LookupFunction =>
  (host, options, callback) => {
    resolve(host, { ...options, all: true }, (error, found) => {
      if (error !== null) {
        callback(error, '');
        return;
      }
      const [first] = found;
      if (first === undefined || !found.every(({ address }) => mayReach(address, host, rules))) {
        callback(new InternalAddress(), '');
      } else if (options.all === true) callback(null, found);
      else callback(null, first.address, first.family);
    });
  };

/**
 * The body of a 200, of at most `MAX_KEY_SET_BYTES`.
 *
 * @throws TwofoldError invalid_value, which says what was wrong and quotes nothing of it
 */
export async function fetchDocument(fetched: Fetched): Promise<Uint8Array> {
  const { address, rules } = fetched;
  const url = checkAddress(address, rules);
  const host = hostOf(url);
  if (isIP(host) !== 0 && !mayReach(host, host, rules)) throw notPublic(fetched);
  const response = await answerOf(fetched, url);
  try {
    const { statusCode = 0 } = response;
    if (statusCode >= 300 && statusCode < 400) throw refused(fetched, 'is redirected elsewhere');
    if (statusCode !== 200) throw refused(fetched, `was answered with ${String(statusCode)}`);
    return await readCapped(fetched, response);
  } finally {
    response.destroy();
  }
}

const notPublic = (fetched: Fetched) => refused(fetched, 'is at an address that is not public');

async function answerOf(fetched: Fetched, url: URL): Promise<IncomingMessage> {
  const { rules, ca, signal } = fetched;
  const { promise, resolve: settle, reject } = Promise.withResolvers<IncomingMessage>();
  const send = url.protocol === 'https:' ? tlsRequest : plainRequest;
  const options = {
    agent: false,
    signal,
    lookup: checkedLookup(rules),
    headers: { accept: 'application/jwk-set+json, application/json' },
    ...(ca === undefined ? {} : { ca }),
  };
  send(url, options, settle).on('error', reject).end();
  try {
    return await promise;
  } catch (error) {
    throw error instanceof InternalAddress ? notPublic(fetched) : unreachable(fetched, error);
  }
}

function unreachable(fetched: Fetched, cause: unknown): TwofoldError {
  const why = fetched.signal.aborted ? 'did not come in time' : 'cannot be fetched';
  return new TwofoldError('invalid_value', `The ${fetched.what} ${why}.`, { cause });
}

async function readCapped(fetched: Fetched, body: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > MAX_KEY_SET_BYTES) throw refused(fetched, 'is too large');
      chunks.push(chunk);
    }
  } catch (error) {
    throw TwofoldError.is(error) ? error : unreachable(fetched, error);
  }
  return Buffer.concat(chunks);
}
