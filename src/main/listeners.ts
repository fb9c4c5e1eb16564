/** The listeners of a configuration, and the URLs of where they answer. */
import type { AddressInfo } from 'node:net';

import type { Config } from '../config.ts';
import type { HttpAddresses, HttpServerOptions } from '../http/server.ts';
import { readTlsIdentity } from './tls-identity.ts';
import type { TlsIdentity } from './tls-identity.ts';
import type { Membership } from './workers/membership.ts';
import type { ListenerName } from './workers/protocol.ts';

const urlOf = ({ address, port, family }: AddressInfo, tls: boolean): string =>
  `${tls ? 'https' : 'http'}://${family === 'IPv6' ? `[${address}]` : address}:${String(port)}`;

export function urlsOf(addresses: HttpAddresses, { http, admin, metrics }: Config) {
  const tls = (section: Config['admin']) => section?.tls !== undefined;
  return {
    url: urlOf(addresses.http, tls(http)),
    adminUrl: addresses.admin && urlOf(addresses.admin, tls(admin)),
    metricsUrl: addresses.metrics && urlOf(addresses.metrics, tls(metrics)),
  };
}

/** The certificates of the listeners that serve TLS, as they stand in their files now. */
export type Identities = ReadonlyMap<ListenerName, TlsIdentity>;

export const readIdentities = ({ http, admin, metrics }: Config): Identities =>
  new Map(
    Object.entries({ http, admin, metrics }).flatMap(([name, section]) =>
      section?.tls === undefined ? [] : [[name as ListenerName, readTlsIdentity(section.tls)]],
    ),
  );

/** A source's refusals are counted by each worker, so each has its share of what a source may do. */
function limitsOf({ limits }: Config, membership: Membership | null): Config['limits'] {
  if (membership === null) return limits;
  const { unauthenticatedPerMinute } = limits;
  const share = Math.ceil(unauthenticatedPerMinute / membership.of);
  return { ...limits, unauthenticatedPerMinute: share };
}

export function listenersOf(
  config: Config,
  membership: Membership | null,
  identities: Identities = new Map(),
): HttpServerOptions {
  const { http, admin, metrics, stop } = config;
  const at = (name: ListenerName, { host, port }: Config['http']) => {
    const tls = identities.get(name)?.options;
    return {
      host,
      port,
      ...(tls === undefined ? {} : { tls }),
      ...(membership === null ? {} : { source: membership.source(name) }),
    };
  };
  return {
    http: at('http', http),
    ...(admin === undefined ? {} : { admin: at('admin', admin) }),
    metrics: at('metrics', metrics),
    limits: limitsOf(config, membership),
    drainMs: stop.drainMs,
  };
}
