/** What the status page shows, picked member by member: no key, subject, source, address or serial. */
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { ROUTES } from '../contract/routes.ts';
import { REQUEST_GROUPS, requestGroupOf } from '../contract/status.ts';
import type { RequestGroup, Status } from '../contract/status.ts';
import { SUITES } from '../crypto/suites.ts';
import type { PooledHsm } from '../hsm/pool.ts';
import type { Admission } from '../http/admission.ts';
import type { Readiness, TokenFacts } from '../http/dependencies.ts';
import { NAME } from '../name.ts';
import { Activity, STEPS, STEP_SECONDS } from '../telemetry/activity.ts';
import type { Incarnation } from './incarnation.ts';
import type { SequencedLog } from './sequenced-log.ts';
import type { SinkFacts } from './sinks.ts';
import type { Unwinding } from './unwinding.ts';
import { VERSION } from './version.ts';

/** What is known once, when the service starts. */
export interface StartFacts {
  /** Algorithms whose known answers passed. */
  readonly selfTests: readonly string[];
  /** Version of the database's server. */
  readonly database: string;
}

export interface StatusParts {
  readonly hsm: PooledHsm;
  readonly admission: Admission;
  readonly incarnation: Incarnation;
  readonly readiness: () => Readiness;
  /** Null until the root is open. */
  readonly audit: () => RunningAuditLog | null;
  /** Null until the root is open. */
  readonly log: () => SequencedLog | null;
  readonly sinks: () => readonly SinkFacts[];
  readonly token: TokenFacts;
  readonly activity: Activity<RequestGroup>;
}

/** Counts requests by kind of work until unwound. */
export function watchActivity(hsm: PooledHsm, unwinding: Unwinding): Activity<RequestGroup> {
  const groups = new Map(ROUTES.map((route) => [route.id, requestGroupOf(route)]));
  const activity = new Activity<RequestGroup>({
    groups: REQUEST_GROUPS,
    // The metrics listener's own routes are not in the table.
    groupOf: (route) => (route === null ? 'other' : (groups.get(route) ?? null)),
    queued: () => hsm.counters().queued,
  });
  activity.start();
  unwinding.add('activity', () => activity.close());
  return activity;
}

export function statusReader(config: Config, facts: StartFacts, parts: StatusParts): () => Status {
  const fixed = {
    product: NAME.product,
    version: VERSION,
    mode: config.mode,
    zone: config.zone.name,
    instance: parts.incarnation.id,
    runtime: { node: process.versions.node, openssl: process.versions.openssl },
    selfTests: [...facts.selfTests],
  };
  return () => {
    const { ready, checks } = parts.readiness();
    return {
      time: new Date().toISOString(),
      ...fixed,
      uptimeSeconds: Math.floor(process.uptime()),
      readiness: { ready, checks: [...checks] },
      hsm: hsmOf(parts.hsm, config),
      uses: parts.admission.figures(),
      database: databaseOf(config, facts, parts.incarnation),
      audit: auditOf(parts.audit()?.health(), parts.log(), parts.sinks()),
      suites: Object.values(SUITES).map((suite) => ({
        id: suite.id,
        available: parts.token.availability(suite).available,
      })),
      history: { stepSeconds: STEP_SECONDS, steps: STEPS, ...parts.activity.history() },
    };
  };
}

function hsmOf(hsm: PooledHsm, { hsm: { queueLimit } }: Config): Status['hsm'] {
  const { state, token, custody, capabilities } = hsm.status();
  return {
    state,
    model: token?.model ?? null,
    manufacturer: token?.manufacturer ?? null,
    firmware: token?.firmware ?? null,
    custody,
    mechanisms: capabilities.map(({ name, available }) => ({ name, available })),
    queued: hsm.counters().queued,
    queueLimit,
  };
}

const databaseOf = (
  { database: { url, tls } }: Config,
  { database: version }: StartFacts,
  { state }: Incarnation,
): Status['database'] => ({
  kind: url === undefined ? 'embedded' : 'external',
  version,
  tls: tls ?? 'disable',
  state,
});

function auditOf(
  health: ReturnType<RunningAuditLog['health']> | undefined,
  log: SequencedLog | null,
  sinks: readonly SinkFacts[],
): Status['audit'] {
  const facts = log?.facts();
  const lane = (number: number | null | undefined, durable: number | undefined) => ({
    number: number ?? null,
    durable: durable ?? 0,
  });
  return {
    state: health?.ok === true ? 'ok' : 'not-durable',
    uses: lane(health?.useLane, health?.durable.use),
    changes: lane(health?.changeLane, health?.durable.change),
    waiting: health?.waiting ?? 0,
    failures: health?.failures ?? 0,
    log: {
      state: log?.state() ?? 'starting',
      entries: facts?.size ?? 0,
      unsequenced: facts?.unsequenced ?? 0,
      lanesAtFault: facts?.faults.length ?? 0,
    },
    sinks: sinks.map(({ name, state, behind }) => ({
      ...{ name, state },
      behind: state === 'waiting' ? null : behind,
    })),
  };
}
