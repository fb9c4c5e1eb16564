/** Which figures of which parts go into the metrics. No label holds a key's name. */
import type { StoredAccess } from '../governance/access-control.ts';
import type { TokenAuthenticator } from '../access/authenticate.ts';
import type { StandbyAnswer } from '../audit/standby-entries.ts';
import type { Lease } from '../audit/grace/lease.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { Hsm } from '../hsm/port.ts';
import type { PooledHsm } from '../hsm/pool.ts';
import type { Admission } from '../http/admission.ts';
import type { Readiness } from '../http/dependencies.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { observed } from '../telemetry/observation.ts';
import type { Backups } from './backups.ts';
import type { Reloads } from './reloads.ts';
import type { SequencingFacts } from './sequencing.ts';
import type { SinkFacts } from './sinks.ts';

const HSM_CALLS = [
  'generate',
  'rewrap',
  'ecdh',
  'sign',
  'decryptOaep',
  'encrypt',
  'encryptMany',
  'decrypt',
  'decryptMany',
  'mac',
  'macMany',
  'random',
] as const;

/** The HSM with its calls counted and timed. */
export function measuredHsm(hsm: PooledHsm, metrics: Metrics): Hsm {
  return observed<Hsm>(hsm, 'hsm', HSM_CALLS, (call, _args, outcome, milliseconds) => {
    metrics.hsm(call, outcome, milliseconds);
  });
}

type BackupFigures = Pick<Backups, 'ageMs' | 'failures' | 'state'>;

export interface FiguresOf {
  readonly hsm: PooledHsm;
  readonly admission: Admission;
  readonly authenticator: TokenAuthenticator;
  readonly access: Pick<StoredAccess, 'cached'>;
  readonly readiness: () => Readiness;
  /** Null until the root is open. */
  readonly audit: () => RunningAuditLog | null;
  readonly lease: Pick<Lease, 'mode'>;
  readonly keyring: () => Pick<Keyring, 'sizes' | 'ledger'> | null;
  readonly log: () => SequencingFacts | null;
  /** What came of asking a standby; null where none is named. */
  readonly standby: () => Readonly<Record<StandbyAnswer, number>> | null;
  readonly sinks: () => readonly SinkFacts[];
  readonly reloads: Pick<Reloads, 'expiries' | 'refusals'>;
  readonly backups: () => BackupFigures | null;
}

export function registerFigures(metrics: Metrics, parts: FiguresOf): void {
  metrics.gauge(
    'hsm_queued_calls',
    'HSM calls that wait or run.',
    () => parts.hsm.counters().queued,
  );
  metrics.gauge(
    'hsm_objects_made',
    'Objects made on the token by this process.',
    () => parts.hsm.counters().objects,
  );
  metrics.gauge('uses', 'Requests that use keys: under way, and waiting for their turn.', () => {
    const { underWay, waiting } = parts.admission.figures();
    return { under_way: underWay, waiting };
  });
  metrics.gauge(
    'uses_refused',
    'Uses that this process refused, as their turn would not have come in time.',
    () => parts.admission.figures().refused,
  );
  metrics.gauge('cache_entries', 'Entries of the caches.', () => {
    const { keys = 0, unsealed = 0 } = parts.keyring()?.sizes() ?? {};
    const { authenticator, access } = parts;
    return { keys, unsealed, tokens: authenticator.cached, decisions: access.cached };
  });
  const lostUses = () => parts.keyring()?.ledger.lost ?? 0;
  metrics.gauge('version_uses_lost', 'Uses of versions that are in no sum.', lostUses);
  metrics.gauge('audit_waiting_entries', 'Entries that wait to be durable.', () => {
    return parts.audit()?.health().waiting ?? 0;
  });
  const failures = () => parts.audit()?.health().failures ?? 0;
  metrics.gauge('audit_failures', 'Failed appends since the last success.', failures, 'max');
  graceFigures(metrics, parts);
  logFigures(metrics, parts.log);
  metrics.gauge(
    'audit_log_standby_reads',
    'Reads of entries of a standby of the database: taken, refused as not those of the log, failed.',
    // None where no standby is named.
    () => ({ ...parts.standby() }),
  );
  backupFigures(metrics, parts.backups);
  sinkFigures(metrics, parts.sinks);
  const ready = () => {
    const { checks } = parts.readiness();
    return Object.fromEntries(checks.map(({ name, ready }) => [name, ready ? 1 : 0]));
  };
  const { reloads } = parts;
  metrics.gauge(
    'certificate_expires_seconds',
    'Time until the certificate in use of a listener expires.',
    () => reloads.expiries(),
    'each',
  );
  metrics.gauge(
    'secret_refused',
    'Whether what a secret is read from now cannot be used, 1 or 0; the former is in use.',
    () => reloads.refusals(),
    'max',
  );
  metrics.gauge('ready', 'Whether a part works, 1 or 0.', ready, 'each');
}

/** While no commit comes back. */
function graceFigures(metrics: Metrics, { lease, audit }: FiguresOf): void {
  const mode = () => {
    const now = lease.mode(performance.now());
    return { grace: now === 'grace' ? 1 : 0, over: now === 'over' ? 1 : 0 };
  };
  metrics.gauge(
    'grace_mode',
    'Whether answers leave from cache without a commit (`grace`), or no more do (`over`), 1 or 0.',
    mode,
    'max',
  );
  metrics.gauge(
    'audit_spooled_entries',
    'Entries of answers that the database has not got yet.',
    () => audit()?.health().spooled ?? 0,
  );
}

/** None where no folder is configured: 0 would say that all is well. */
function backupFigures(metrics: Metrics, backups: FiguresOf['backups']): void {
  const only = (read: (of: BackupFigures) => Record<string, number>) => () => {
    const of = backups();
    return of === null || of.state === 'off' ? {} : read(of);
  };
  metrics.gauge(
    'backup_age_seconds',
    'Age of the newest backup that was verified; none before the first.',
    only(({ ageMs }) => (ageMs === null ? {} : { newest: ageMs / 1_000 })),
    'max',
  );
  metrics.gauge(
    'backup_failures',
    'Backups that could not be taken since this process began.',
    only(({ failures }) => ({ all: failures })),
  );
}

/** Of each sink, by the name that the configuration gives it, in the process that serves it. */
function sinkFigures(metrics: Metrics, facts: FiguresOf['sinks']): void {
  const gauge = (name: string, help: string, read: (facts: SinkFacts) => number | null) => {
    const values = () => {
      const served = facts().filter(({ state }) => state !== 'waiting');
      return Object.fromEntries(
        served.flatMap((each) => {
          const value = read(each);
          return value === null ? [] : [[each.name, value]];
        }),
      ) as Record<string, number>;
    };
    metrics.gauge(name, help, values, 'max');
  };
  gauge(
    'audit_sink_behind_entries',
    'Entries of the audit log that a sink has not got.',
    // Where its place is not known yet, 0 would say that it has everything.
    ({ behind }) => behind,
  );
  gauge(
    'audit_sink_behind_seconds',
    'Age of the oldest entry that was read for a sink and not delivered.',
    ({ behindMs }) => behindMs / 1_000,
  );
  gauge('audit_sink_failing', 'Whether the last delivery to a sink failed, 1 or 0.', ({ state }) =>
    state === 'failing' ? 1 : 0,
  );
}

/** Each process shows what it knows of the one log; of faults only the one that leads knows. */
function logFigures(metrics: Metrics, facts: FiguresOf['log']): void {
  const gauge = (name: string, help: string, read: (facts: SequencingFacts) => number) => {
    metrics.gauge(
      name,
      help,
      () => {
        const now = facts();
        return now === null ? 0 : read(now);
      },
      'max',
    );
  };
  gauge('audit_log_entries', 'Entries of the sequenced audit log.', ({ size }) => size);
  gauge(
    'audit_log_unsequenced_entries',
    'Durable audit entries that have no index in the log yet.',
    ({ unsequenced }) => unsequenced,
  );
  gauge(
    'audit_log_checkpoint_age_seconds',
    'Time since the newest checkpoint of the audit log; it only says something while entries wait.',
    ({ checkpointAgeMs }) => (checkpointAgeMs ?? 0) / 1_000,
  );
  gauge(
    'audit_log_lanes_at_fault',
    'Lanes of audit entries that are not sequenced, because something is wrong with them.',
    ({ faults }) => faults.length,
  );
  gauge(
    'audit_log_sequencer',
    'Whether this process sequences the audit log, 1 or 0.',
    ({ state }) => (state === 'leading' ? 1 : 0),
  );
  gauge(
    'audit_log_halted',
    'Whether the sequencer stopped because the log in the database was altered, 1 or 0.',
    ({ state }) => (state === 'halted' ? 1 : 0),
  );
}
