/** What the listeners waited for arrives, once the root is open; what happens by itself begins. */
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { utf8 } from '../crypto/bytes.ts';
import type { Engine } from '../crypto/engine.ts';
import { LogKeys } from '../governance/log-keys.ts';
import type { HttpDependencies } from '../http/dependencies.ts';
import type { Hsm } from '../hsm/port.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { KeyStore, OperationStore } from '../keyring/ports.ts';
import type { Root } from '../keyring/root.ts';
import { NAME } from '../name.ts';
import type { Logs } from '../telemetry/logs.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { ValidationThread } from '../access/validation-thread.ts';
import { openGoverned } from './access.ts';
import type { Incarnation } from './incarnation.ts';
import type { OwnEvents } from './own-events.ts';
import type { LateParts } from './late-parts.ts';
import { Backups } from '../governance/backups.ts';
import { openBackups } from './backups.ts';
import { pursuedInstances } from './confirmations.ts';
import type { Confirmations } from './confirmations.ts';
import { cosignedLog } from './cosigned-log.ts';
import { openLogOutside } from './log-outside.ts';
import { openLogWitness } from './log-witness.ts';
import { keepRoot, rootRotations } from './root-rotation.ts';
import { announceRestoration } from './restoration.ts';
import {
  policyPreviews,
  rotationPlans,
  rotationPolicies,
  rotationReading,
  startScheduler,
} from './scheduling.ts';
import { openSequencedLog } from './sequenced-log.ts';
import { openSinks } from './sinks.ts';
import type { ServedStore } from './database.ts';
import { consideredBy, startAnnouncer, startProvider } from './kubernetes.ts';
import type { Unwinding } from './unwinding.ts';

/** How often lanes whose last attempt failed are tried while nobody uses them. */
const AUDIT_PROBE_MS = 1_000;

export interface ArrivalParts {
  readonly config: Config;
  readonly store: ServedStore;
  /** Fenced. */
  readonly keys: KeyStore;
  readonly operations: OperationStore;
  readonly keyring: Keyring;
  readonly root: Root;
  readonly audit: RunningAuditLog;
  readonly confirmations: Confirmations;
  readonly incarnation: Incarnation;
  readonly hsm: Hsm;
  readonly engine: Engine;
  readonly events: OwnEvents;
  /** From 1. */
  readonly worker: number;
  readonly limits: () => HttpDependencies['limits'] | undefined;
  readonly metrics: Pick<Metrics, 'kubernetes' | 'gauge'>;
  readonly logs: Pick<Logs, 'component'>;
}

export async function arrive(
  parts: ArrivalParts,
  late: LateParts,
  unwinding: Unwinding,
): Promise<void> {
  const { config, store, keys, keyring, root, audit, incarnation, events, logs } = parts;
  const { mac } = root;
  const { integrity } = keyring;
  // Before anything is served.
  await announceRestoration(store, audit);
  late.pageTokenKey.set(await root.valueMac(utf8(NAME.pageToken)));
  const announcer = startAnnouncer(
    {
      keyring,
      instances: pursuedInstances(store.instances, parts.confirmations),
      epoch: incarnation.epoch,
      namespaces: { isInUse: (name) => late.governance.port.namespaces.isInUse(name) },
      log: logs.component('kubernetes'),
    },
    unwinding,
  );
  late.use.set(keyring.use);
  late.read.set(consideredBy(announcer, keyring.read));
  late.references.set(keyring.references);
  late.published.set(keyring.published);
  late.manage.set(keyring.manage);
  late.imports.set(keyring.imports);
  late.operations.set(keyring.operations);
  late.orders.set(keyring.orders);
  late.lifecycle.set(keyring.lifecycle);
  late.turns.set(keyring.turns);
  late.keyStates.set(keyring.states);
  late.lanes.set(store.lanes);
  late.logReader.set(cosignedLog(store.logCopy, store.cosignatures));
  late.events.set({ ...store.events, installation: root.installation });
  const ruling = { config, store, keys, audit, incarnation, mac, integrity };
  const validation = new ValidationThread();
  unwinding.add('validation of policies', () => validation.close());
  const governance = await openGoverned({ ...ruling, findKey: keyring.find, validation }, config);
  late.governance.set(governance);
  const policies = rotationPolicies(ruling, late.policyPreviews.port);
  late.policies.set(policies);
  late.policyPreviews.set(policyPreviews(config, keyring, store, policies));
  late.rotation.set(rotationReading(keyring, store, policies));
  late.plans.set(rotationPlans(config, keyring, store, policies));
  late.audit.set(audit);
  late.log = await openSequencedLog(
    { ...parts, publish: () => late.outside?.look(), log: logs.component('sequencer') },
    unwinding,
  );
  late.sinks = openSinks({ ...parts, first: parts.worker === 1 }, unwinding);
  const { keys: logKeys } = late.log;
  const { epoch, refresh: refreshEpoch } = incarnation;
  const changing = { store: keys, audit, epoch, refreshEpoch, mac, integrity };
  late.logKeys.set(new LogKeys(changing, logKeys));
  const outside = {
    config,
    store,
    keys: logKeys,
    worker: parts.worker,
    log: logs.component('log'),
  };
  late.outside = await openLogOutside(outside, unwinding);
  if (parts.worker === 1) {
    late.witness = await openLogWitness({ ...parts, log: logs.component('witness') }, unwinding);
  }
  const keeping = { ...parts, log: logs.component('root') };
  late.rootRotations.set(rootRotations(keeping));
  await keepRoot(keeping, unwinding);
  const { engine, metrics, limits } = parts;
  const { namespaces } = governance;
  const provider = { config, keyring, audit, epoch, namespaces, engine, metrics, limits };
  await startProvider({ ...provider, announcer, log: logs.component('kubernetes') }, unwinding);
  const first = parts.worker === 1;
  const backups = openBackups({ ...parts, first, log: logs.component('backup') }, unwinding);
  late.backups = backups;
  late.askedBackups.set(
    new Backups({
      rows: store.backups,
      begin: (wanted) => backups.begin(wanted),
      clock: () => new Date(),
    }),
  );
  const probe = setInterval(() => void audit.probe(), AUDIT_PROBE_MS).unref();
  unwinding.add('audit probe', () => clearInterval(probe));
  const log = logs.component('scheduler');
  startScheduler(
    { config, store, keyring, policies, namespaces, incarnation, events, log },
    unwinding,
  );
}
