/** The Kubernetes KMS v2 provider inside the server: its key, its service and its socket. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { PolicyAuthorizer, systemPolicies } from '../access/authorize.ts';
import { KUBERNETES } from '../access/system.ts';
import { StaleAnswer } from '../audit/ports.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { providerSuite } from '../config/kms.ts';
import type { Engine } from '../crypto/engine.ts';
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import type { HttpDependencies } from '../http/dependencies.ts';
import { RateRefused } from '../http/limit-gate.ts';
import { engineOf } from '../http/suite-resource.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { NamespacesInUse } from '../keyring/in-use.ts';
import type { KeyRead } from '../keyring/operations.ts';
import type { InstanceStore } from '../keyring/instance-ports.ts';
import { Announcer } from '../kubernetes/announcer.ts';
import { KeyManagement, STATUS_GRACE_MS } from '../kubernetes/key-management.ts';
import { KeyringService } from '../kubernetes/keyring-service.ts';
import type { UseCounts } from '../kubernetes/ports.ts';
import type { KmsServer } from '../kubernetes/server.ts';
import type { Charge } from '../limits/limiter.ts';
import type { Logs } from '../telemetry/logs.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Unwinding } from './unwinding.ts';

/** Several processes that start at once make the key once. */
const ATTEMPTS = 5;
/** How often a look is taken at what waits for its announcement. */
const ANNOUNCE_MS = 1_000;
/** How long a call waits for what limits it, ms: far less than its deadline. */
const COUNT_PATIENCE_MS = 100;
/** Calls that went on and are not counted yet; more are not counted at all. */
const MOST_LATE = 1_000;
/** How often a socket is tried that cannot be served. */
const SOCKET_MS = 5_000;
const DEVELOPMENT_CLUSTER = 'development';

export interface ProviderParts {
  readonly config: Config;
  readonly keyring: Pick<Keyring, 'use' | 'read' | 'manage'>;
  readonly audit: Pick<RunningAuditLog, 'record' | 'refusal' | 'leaving'>;
  readonly epoch: SecurityEpoch;
  readonly namespaces: NamespacesInUse;
  readonly engine: Engine;
  readonly announcer: Announcer;
  /** There from when the listeners are. */
  readonly limits: () => Pick<HttpDependencies['limits'], 'gate' | 'refusals'> | undefined;
  readonly metrics: Pick<Metrics, 'kubernetes' | 'gauge'>;
  readonly log: ReturnType<Logs['component']>;
}

/** Number of a group by name, as /etc/group has it, or by number. @throws TwofoldError invalid_value */
export function groupNumber(group: string): number {
  if (/^\d{1,10}$/u.test(group)) return Number(group);
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .map((each) => each.split(':'))
    .find(([name]) => name === group);
  const number = line?.[2];
  if (number !== undefined) return Number(number);
  throw new TwofoldError('invalid_value', `There is no group ${group}: kms.group.`);
}

/**
 * Starts the provider where the configuration has one. The socket may be another process's for now: the
 * service does not wait for it.
 */
export async function startProvider(parts: ProviderParts, unwinding: Unwinding): Promise<void> {
  const { config, epoch, namespaces, keyring, audit, engine, metrics, log } = parts;
  const { socket, key, namespace, group, provider } = config.kms;
  if (socket === undefined || key === undefined) return;
  const cluster = config.kms.cluster ?? DEVELOPMENT_CLUSTER;
  const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
  if (config.mode === 'dev') await makeKey(parts, authorizer, key);
  const service = new KeyringService({
    use: keyring.use,
    read: keyring.read,
    audit,
    authorizer,
    epoch,
    namespaces,
    namespace,
    key,
    cluster,
    provider,
    announcer: parts.announcer,
    counts: countsOf(parts.limits, { namespace, key }),
    engineOf: (suite) => engineOf(engine, suite),
  });
  unwinding.add('provider', () => service.close());
  // gRPC takes some 15 MB, and most services have no such socket.
  const { KmsServer: Server } = await import('../kubernetes/server.ts');
  const management = new KeyManagement({ service, provider, cluster, key, ...patience(config) });
  unwinding.add('provider status', () => management.close());
  const server = new Server({
    management,
    path: socket,
    group: group === undefined ? null : groupNumber(group),
    observe: (figures) => metrics.kubernetes(figures),
    onTrouble: (err) => log.error({ err }, 'the Kubernetes provider failed'),
    onWaiting: () =>
      log.info({ socket }, 'another process serves the socket: this one takes it over from it'),
  });
  const served = 'Whether the socket of the Kubernetes provider is served.';
  metrics.gauge('kubernetes_socket_served', served, () => (server.serves ? 1 : 0));
  const ending = new AbortController();
  unwinding.add('provider socket', () => {
    ending.abort();
    return server.stop();
  });
  void servesAtLast(server, ending.signal, {
    onFailure: (err) =>
      log.error({ err }, 'the socket of the Kubernetes provider is not served: it is tried again'),
  }).then(
    (serves) =>
      serves && log.info({ cluster, provider, key }, 'the Kubernetes provider serves its socket'),
  );
}

/**
 * Tries until it stands at its path, as the supervisor of an agent does: what is in the way may go, and its folder may come.
 * @param options `onFailure` is told once of each failure in a row that says the same
 * @returns false where `signal` aborted before
 */
export async function servesAtLast(
  server: Pick<KmsServer, 'serve'>,
  signal: AbortSignal,
  options: { readonly onFailure: (error: unknown) => void; readonly pauseMs?: number },
): Promise<boolean> {
  const isOver = () => signal.aborted;
  let said = '';
  while (!isOver()) {
    try {
      await server.serve();
      return true;
    } catch (error) {
      if (isOver()) break;
      if (said !== String(error)) options.onFailure(error);
      said = String(error);
    }
    await sleep(options.pauseMs ?? SOCKET_MS, undefined, { signal, ref: false }).catch(
      () => undefined,
    );
  }
  return false;
}

/**
 * Nothing is counted before the service listens at all. What limits a call may have to be read: the call waits
 * for that a moment alone, and goes on; it counts once that is known, and nothing refuses it any more.
 */
export function countsOf(
  limits: ProviderParts['limits'],
  about: { readonly namespace: string; readonly key: string },
): UseCounts {
  const asked = { ...about, principal: KUBERNETES, plane: 'use', uses: true } as const;
  let late = 0;
  const patiently = async (counting: Promise<unknown>): Promise<void> => {
    // Where others are waited for, only what needs no reading is there in time.
    const { promise: moment, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(true), late > 0 ? 0 : COUNT_PATIENCE_MS).unref();
    const isLate = await Promise.race([counting.then(() => false), moment]).finally(() =>
      clearTimeout(timer),
    );
    if (!isLate) return;
    late += 1;
    // What fails now refuses nobody: the next call reads anew.
    const done = () => void (late -= 1);
    counting.then(done, done);
  };
  return {
    count: async () => {
      const gate = limits()?.gate;
      if (gate === undefined || late >= MOST_LATE) return () => undefined;
      const counting = gate.countOwn(asked).catch(unlessAway);
      await patiently(counting);
      return () => {
        const giveBack = (charge: Charge | null) => {
          if (charge !== null) gate.refund(charge);
        };
        counting.then(giveBack, () => undefined);
      };
    },
    limitOf: (failure) => (failure instanceof RateRefused ? failure.limit.name : null),
    isSummed: (refusal, draft) =>
      refusal instanceof RateRefused &&
      limits()?.refusals.counted(draft, refusal.limit.name) === true,
  };
}

/** Whether a call can be answered without the database, its audit entry says: not what it would count. */
function unlessAway(error: unknown): null {
  if (TwofoldError.is(error, 'database_unavailable')) return null;
  throw error;
}

/** As long as decrypts are answered without a commit, Status says that nothing is wrong. */
const patience = ({ zone: { graceMs } }: Pick<Config, 'zone'>) =>
  graceMs > STATUS_GRACE_MS ? { statusGraceMs: graceMs } : {};

/** Announces what was confirmed; told of keys by whoever reads them. Goes on until unwound. */
export function startAnnouncer(
  {
    keyring,
    instances,
    epoch,
    namespaces,
    log,
  }: Pick<ProviderParts, 'keyring' | 'epoch' | 'namespaces' | 'log'> & {
    readonly instances: Pick<InstanceStore, 'confirmed'>;
  },
  unwinding: Unwinding,
): Announcer {
  const announcer = new Announcer({
    read: keyring.read,
    manage: keyring.manage,
    instances,
    namespaces,
    authorizer: PolicyAuthorizer.of({ epoch, policies: systemPolicies() }),
    onTrouble: (err) => log.warn({ err }, 'a version could not be announced yet'),
  });
  let ticking: Promise<void> | null = null;
  const timer = setInterval(() => {
    ticking ??= announcer.tick().finally(() => {
      ticking = null;
    });
  }, ANNOUNCE_MS).unref();
  unwinding.add('announcer', async () => {
    clearInterval(timer);
    await ticking;
  });
  return announcer;
}

/** Reading that tells the announcer of keys that are read. */
export const consideredBy = (announcer: Announcer, read: KeyRead): KeyRead => ({
  get: async (grant) => {
    const view = await read.get(grant);
    announcer.consider(view);
    return view;
  },
  fresh: (grant) => read.fresh(grant),
  tombstones: (...asked) => read.tombstones(...asked),
  certificateChain: (...asked) => read.certificateChain(...asked),
  uses: (...asked) => read.uses(...asked),
  users: (...asked) => read.users(...asked),
  list: (...asked) => read.list(...asked),
});

/** What a development service begins with. */
async function makeKey(
  { config, keyring, log }: ProviderParts,
  authorizer: PolicyAuthorizer,
  name: string,
): Promise<void> {
  const { namespace, suite } = config.kms;
  for (let attempt = 1; ; attempt += 1) {
    try {
      const about = { namespace, key: name };
      const grant = authorizer.authorize(KUBERNETES, 'keys.create', { namespace, key: null });
      const read = authorizer.authorize(KUBERNETES, 'keys.read', about);
      if (await isThere(keyring, read)) return;
      const made = providerSuite(suite);
      if (made === null) throw new TwofoldError('unknown_suite');
      const key = { name, suite: made, labels: {}, deletionProtection: true };
      await keyring.manage.create(grant, key, {
        dryRun: false,
        requestId: randomUUID(),
        ended: Promise.resolve(),
        source: 'kubernetes',
        ifMatch: null,
        idempotency: null,
        render: ({ after }) => ({ status: 201, body: JSON.stringify({ id: after.key.id }) }),
      });
      log.info({ key: name, suite }, 'the key of the Kubernetes provider was made');
      return;
    } catch (error) {
      const overtaken =
        error instanceof StaleAnswer ||
        TwofoldError.is(error, 'conflict') ||
        TwofoldError.is(error, 'key_exists');
      if (!overtaken || attempt >= ATTEMPTS) throw error;
    }
  }
}

async function isThere(
  { read }: Pick<Keyring, 'read'>,
  grant: Parameters<Keyring['read']['fresh']>[0],
): Promise<boolean> {
  try {
    await read.fresh(grant);
    return true;
  } catch (error) {
    if (TwofoldError.is(error, 'key_not_found')) return false;
    throw error;
  }
}
