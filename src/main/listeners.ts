/** The listeners of a configuration, and the URLs of where they answer. */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';

import { readOwnerOnlyFile } from '../config.ts';
import type { Config } from '../config.ts';
import type { HttpAddresses, HttpServerOptions } from '../http/server.ts';
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

function listenerOf({ host, port, tls }: Config['http']): HttpServerOptions['http'] {
  if (tls === undefined) return { host, port };
  const files = {
    cert: readFileSync(tls.certFile),
    key: Buffer.from(readOwnerOnlyFile(tls.keyFile, 0o007)),
  };
  const ca = tls.caFile === undefined ? {} : { ca: readFileSync(tls.caFile) };
  return { host, port, tls: { ...files, ...ca } };
}

/** A source's refusals are counted by each worker, so each has its share of what a source may do. */
function limitsOf({ limits }: Config, membership: Membership | null): Config['limits'] {
  if (membership === null) return limits;
  const { unauthenticatedPerMinute } = limits;
  const share = Math.ceil(unauthenticatedPerMinute / membership.of);
  return { ...limits, unauthenticatedPerMinute: share };
}

export function listenersOf(config: Config, membership: Membership | null): HttpServerOptions {
  const { http, admin, metrics, stop } = config;
  const at = (name: ListenerName, section: Config['http']) => ({
    ...listenerOf(section),
    ...(membership === null ? {} : { source: membership.source(name) }),
  });
  return {
    http: at('http', http),
    ...(admin === undefined ? {} : { admin: at('admin', admin) }),
    metrics: at('metrics', metrics),
    limits: limitsOf(config, membership),
    drainMs: stop.drainMs,
  };
}
