/** The Kubernetes KMS v2 provider inside the server: its key, its service and its socket. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { PolicyAuthorizer, systemPolicies } from '../access/authorize.ts';
import { KUBERNETES } from '../access/system.ts';
import { StaleAnswer } from '../audit/ports.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { providerSuite } from '../config/kms.ts';
import type { Engine } from '../crypto/engine.ts';
import type { SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { engineOf } from '../http/suite-resource.ts';
import type { Keyring } from '../keyring/keyring.ts';
import { KeyManagement } from '../kubernetes/key-management.ts';
import { KeyringService } from '../kubernetes/keyring-service.ts';
import { KmsServer } from '../kubernetes/server.ts';
import type { Logs } from '../telemetry/logs.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Unwinding } from './unwinding.ts';

/** Several processes that start at once make the key once. */
const ATTEMPTS = 5;
const DEVELOPMENT_CLUSTER = 'development';

export interface ProviderParts {
  readonly config: Config;
  readonly keyring: Pick<Keyring, 'use' | 'read' | 'manage'>;
  readonly audit: Pick<RunningAuditLog, 'record'>;
  readonly epoch: SecurityEpoch;
  readonly engine: Engine;
  readonly metrics: Pick<Metrics, 'kubernetes'>;
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
  const { config, epoch, keyring, audit, engine, metrics, log } = parts;
  const { socket, key, namespace, group, provider } = config.kms;
  if (socket === undefined || key === undefined) return;
  const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
  if (config.mode === 'dev') await makeKey(parts, authorizer, key);
  const service = new KeyringService({
    use: keyring.use,
    read: keyring.read,
    audit,
    authorizer,
    epoch,
    namespace,
    key,
    announced: ({ key: { primary }, versions }) => {
      if (primary === null) throw new TwofoldError('version_not_usable', 'No version is active.');
      const active = versions.map(({ version }) => ({ version, state: 'active' as const }));
      return Promise.resolve({ announced: primary, versions: active });
    },
    engineOf: (suite) => engineOf(engine, suite),
  });
  unwinding.add('provider', () => service.close());
  const cluster = config.kms.cluster ?? DEVELOPMENT_CLUSTER;
  const server = new KmsServer({
    management: new KeyManagement({ service, provider, cluster, key }),
    path: socket,
    group: group === undefined ? null : groupNumber(group),
    observe: (figures) => metrics.kubernetes(figures),
    onTrouble: (err) => log.error({ err }, 'the Kubernetes provider failed'),
    onWaiting: () =>
      log.info({ socket }, 'another process serves the socket: this one takes it over from it'),
  });
  unwinding.add('provider socket', () => server.stop());
  server.serve().then(
    () => log.info({ cluster, provider, key }, 'the Kubernetes provider serves its socket'),
    (err: unknown) => {
      if (!unwinding.begun)
        log.error({ err }, 'the socket of the Kubernetes provider is not served');
    },
  );
}

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
