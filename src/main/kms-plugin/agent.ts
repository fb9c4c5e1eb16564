/**
 * The provider on a control-plane node: the same service at the same socket as inside the server, and behind
 * it the service over REST. It starts whether or not the service is there: Status says why nothing is served.
 */
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

import { HttpConnection } from '../../client/http-connection.ts';
import { KubernetesOverHttp } from '../../client/kubernetes-service.ts';
import { KeyManagement } from '../../kubernetes/key-management.ts';
import { KmsServer } from '../../kubernetes/server.ts';
import { sharingUnwraps } from '../../kubernetes/single-flight.ts';
import type { Log } from '../../telemetry/logs.ts';
import { createMetrics } from '../../telemetry/metrics.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { Unwinding } from '../unwinding.ts';
import { VERSION } from '../version.ts';
import { AnnouncedFile } from './announced-file.ts';
import { HostFiles } from './host-files.ts';
import type { HostPaths } from './host-files.ts';

/** How often a port is tried that is taken. */
const PORT_MS = 1_000;

export interface Provider {
  /** The nearest first. */
  readonly servers: readonly URL[];
  readonly files: HostPaths;
  readonly namespace: string;
  readonly key: string;
  readonly cluster: string;
  /** `name` in the EncryptionConfiguration. */
  readonly provider: string;
}

export interface AgentOptions extends Provider {
  readonly socket: string;
  /** File in which the announced version outlives the agent; null: it does not. */
  readonly announced: string | null;
  /** Number of the group that may connect too. */
  readonly group: number | null;
  /** Of 127.0.0.1, for metrics and liveness; null: none. */
  readonly metricsPort: number | null;
  readonly log: Log;
  /** Monotonic, ms. */
  readonly now?: () => number;
}

export interface Agent {
  /** Where metrics are; null where they are not asked for, or another process has the port. */
  readonly metricsPort: number | null;
  /** Resolves when the socket is served, for which another process may have to end first. */
  readonly served: Promise<void>;
  /** Reads the files of the host now. */
  reload(): Promise<void>;
  /** Answers what is under way, then ends. */
  stop(): Promise<void>;
}

/** The service behind `provider`, by the files as they stand. */
export function serviceOf(provider: Provider, files: HostFiles, log: Log): KubernetesOverHttp {
  const endpoints = provider.servers.map(
    (url) =>
      new HttpConnection({
        url,
        authorization: () => files.authorization(),
        identity: () => files.identity(),
      }),
  );
  const { namespace, key, cluster, provider: name } = provider;
  return new KubernetesOverHttp({
    ...{ endpoints, namespace, key, cluster, provider: name },
    onRefused: (call) => log.warn(call, 'a call was refused, and the service was not asked'),
  });
}

/** @throws TwofoldError, or what listening on the port fails with; the socket's failures are of `served` */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { log, cluster, provider, key, socket } = options;
  const unwinding = new Unwinding((step, err) => log.error({ err, step }, 'could not be closed'));
  try {
    const metrics = createMetrics({ version: VERSION, routes: [] });
    unwinding.add('metrics', () => metrics.close());
    const memory =
      options.announced === null ? null : await AnnouncedFile.open(options.announced, options, log);
    const files = await HostFiles.open(options.files, log);
    unwinding.add('files', () => files.close());
    const service = serviceOf(options, files, log);
    unwinding.add('connections', () => service.close());
    const metricsPort = await serveFigures(options, metrics, unwinding);
    const management = new KeyManagement({
      service: sharingUnwraps(service),
      provider,
      cluster,
      key,
      memory,
      ...(options.now === undefined ? {} : { now: options.now }),
    });
    unwinding.add('status', () => management.close());
    const server = new KmsServer({
      management,
      path: socket,
      group: options.group,
      observe: (figures) => metrics.kubernetes(figures),
      onTrouble: (err) => log.error({ err }, 'a call failed'),
      onWaiting: () => log.info({ path: socket }, 'another process serves the socket: waiting'),
    });
    unwinding.add('socket', () => server.stop());
    return {
      get metricsPort() {
        return metricsPort();
      },
      served: server.serve(),
      reload: () => files.reload(),
      stop: () => unwinding.unwind(),
    };
  } catch (error) {
    await unwinding.unwind();
    throw error;
  }
}

/**
 * `/metrics`, and `/livez`, which says that the event loop turns. The socket waits for neither: while another process has the
 * port, as a predecessor may whose socket this one takes over, it is tried again each second.
 * @returns the port, null while there is none
 * @throws what listening fails with for any other reason
 */
async function serveFigures(
  { metricsPort: port, log }: Pick<AgentOptions, 'metricsPort' | 'log'>,
  metrics: Metrics,
  unwinding: Unwinding,
): Promise<() => number | null> {
  if (port === null) return () => null;
  const server: Server = createServer((request, response) => {
    if (request.url === '/livez') response.end('ok\n');
    else if (request.url !== '/metrics') response.writeHead(404).end();
    else {
      void metrics.renderMetrics().then(({ contentType, body }) => {
        response.writeHead(200, { 'Content-Type': contentType }).end(body);
      });
    }
  });
  const ending = new AbortController();
  unwinding.add('figures', () => {
    ending.abort();
    server.close();
    server.closeAllConnections();
  });
  if (!(await listens(server, port))) {
    log.warn({ port }, 'another process has the port of the metrics: it is tried again');
    listensLater(server, port, ending.signal).then(
      (is) => is && log.info({ port }, 'the metrics have their port'),
      (err: unknown) => log.error({ err, port }, 'the metrics have no port'),
    );
  }
  return () => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : null;
  };
}

/** Whether the port was free. */
async function listens(server: Server, port: number): Promise<boolean> {
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw error;
  }
}

/** @returns false where `signal` aborted before */
async function listensLater(server: Server, port: number, signal: AbortSignal): Promise<boolean> {
  const isOver = () => signal.aborted;
  while (!isOver()) {
    await sleep(PORT_MS, undefined, { signal, ref: false }).catch(() => undefined);
    if (isOver() || !(await listens(server, port))) continue;
    if (!isOver()) return true;
    server.close();
  }
  return false;
}
