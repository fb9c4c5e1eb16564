/** Flags that say which service, as whom, and what values are bound to. Nothing secret is an argument. */
import { one } from '../../cli/arguments.ts';
import type { ParsedFlags } from '../../cli/arguments.ts';
import { isLoopback } from '../../config/loopback.ts';
import { TwofoldError } from '../../errors.ts';
import type { Provider } from './agent.ts';

export const PROVIDER_FLAGS = {
  server: 'list',
  ca: 'value',
  'token-file': 'value',
  cert: 'value',
  'cert-key': 'value',
  namespace: 'value',
  key: 'value',
  cluster: 'value',
  provider: 'value',
} as const;

const LABEL = /^[a-zA-Z0-9](?:[-_.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/u;
const MOST_SERVERS = 8;
const LONGEST_CLUSTER = 50;
export const DEFAULT_PROVIDER = 'twofold';

export const refuse = (detail: string): TwofoldError => new TwofoldError('invalid_value', detail);

/** @throws TwofoldError invalid_value where it is missing */
export function needed(flags: ParsedFlags, name: string, what: string): string {
  const value = one(flags, name);
  if (value === undefined) throw refuse(`--${name} ${what} is missing.`);
  return value;
}

/** Of a cluster or a provider, in the form that an EncryptionConfiguration takes. */
export function label(text: string, flag: string): string {
  if (LABEL.test(text)) return text;
  throw refuse(`--${flag} is 1 to 63 letters, digits, "-", "_" or ".".`);
}

/** At most 50 characters: the record of the provider is a label of the key. */
export function clusterOf(flags: ParsedFlags): string {
  const cluster = label(needed(flags, 'cluster', 'ID'), 'cluster');
  if (cluster.length > LONGEST_CLUSTER) throw refuse('--cluster has up to 50 characters.');
  return cluster;
}

/** @throws TwofoldError invalid_value */
export function providerOf(flags: ParsedFlags): Provider {
  const servers = (flags.values.get('server') ?? []).map(serverOf);
  if (servers.length === 0) throw refuse('--server URL is missing.');
  if (servers.length > MOST_SERVERS)
    throw refuse(`--server is given more than ${MOST_SERVERS} times.`);
  if (new Set(servers.map(({ href }) => href)).size < servers.length) {
    throw refuse('A --server is given twice.');
  }
  const ca = one(flags, 'ca');
  return {
    servers,
    files: { ...callerOf(flags), ...(ca === undefined ? {} : { ca }) },
    namespace: one(flags, 'namespace') ?? 'default',
    key: needed(flags, 'key', 'NAME'),
    cluster: clusterOf(flags),
    provider: label(one(flags, 'provider') ?? DEFAULT_PROVIDER, 'provider'),
  };
}

function serverOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw refuse(`--server ${text} is not an https: URL.`);
  }
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw refuse('Seeds would go in the clear: use https:, or http: on this host alone.');
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw refuse('--server is scheme, host, port and at most a path.');
  }
  return url;
}

function callerOf(flags: ParsedFlags): Pick<Provider['files'], 'token' | 'certificate'> {
  const [token, cert, key] = ['token-file', 'cert', 'cert-key'].map((name) => one(flags, name));
  if (token !== undefined && cert === undefined && key === undefined) return { token };
  if (token === undefined && cert !== undefined && key !== undefined) {
    return { certificate: { cert, key } };
  }
  throw refuse('The agent is known by --token-file FILE, or by --cert FILE and --cert-key FILE.');
}
