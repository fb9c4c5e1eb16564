/** The scheduler in this process: it ticks while the service runs, and gives up its term at the stop. */
import { setTimeout as sleep } from 'node:timers/promises';

import { PolicyAuthorizer, systemPolicies } from '../access/authorize.ts';
import { SCHEDULER } from '../access/system.ts';
import type { AuditLog } from '../audit/ports.ts';
import type { Config } from '../config.ts';
import type { IntegrityWatch } from '../keyring/integrity.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { NamespacesInUse } from '../keyring/in-use.ts';
import { NamespaceRotationPolicies } from '../keyring/namespace-policies.ts';
import type { PolicyPreviews } from '../keyring/policy-effects.ts';
import type { KeyStore } from '../keyring/ports.ts';
import type { RowMac } from '../keyring/row-mac.ts';
import { actBy } from '../rotation/acts.ts';
import { Leader } from '../leader.ts';
import { RotationPlanning } from '../rotation/planning.ts';
import { PolicyEffectPreviews } from '../rotation/policy-effects.ts';
import { OrderRunner } from '../rotation/orders.ts';
import { RotationReading } from '../rotation/reading.ts';
import { Scheduler } from '../rotation/scheduler.ts';
import type { NamespacePolicies } from '../rotation/scheduler-ports.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import { policyLimitsOf } from './rotation-limits.ts';
import type { Incarnation } from './incarnation.ts';
import type { OwnEvents } from './own-events.ts';
import type { Unwinding } from './unwinding.ts';

const ROLE = 'scheduler';
const TICK_MS = 1_000;
/** Keys a second that the daily round asks to be looked at. */
const ROUND_KEYS = 20;
/** Keys a second that are to be looked at because policies of their namespace changed. */
const MARKED_KEYS = 2_000;

export interface SchedulingParts {
  readonly config: Config;
  readonly store: Pick<Store, 'scheduler' | 'orders' | 'policies' | 'keys'>;
  readonly keyring: Pick<Keyring, 'manage' | 'lifecycle' | 'read' | 'orders'>;
  readonly policies: NamespacePolicies;
  readonly namespaces: NamespacesInUse;
  readonly incarnation: Incarnation;
  readonly events: Pick<OwnEvents, 'note'>;
  readonly log: Log;
}

export interface RulingParts {
  readonly config: Config;
  readonly store: Pick<Store, 'policies'>;
  readonly keys: KeyStore;
  readonly audit: AuditLog;
  readonly incarnation: Incarnation;
  readonly mac: RowMac;
  readonly integrity: IntegrityWatch;
}

/** The rotation policies of namespaces, for the routes and for the scheduler. */
export function rotationPolicies(
  parts: RulingParts,
  previews: Pick<PolicyPreviews, 'ofPolicies'>,
): NamespaceRotationPolicies {
  const { store, keys, audit, incarnation, mac, integrity } = parts;
  return new NamespaceRotationPolicies({
    store: keys,
    policies: store.policies,
    audit,
    epoch: incarnation.epoch,
    refreshEpoch: incarnation.refresh,
    mac,
    integrity,
    clock: () => new Date(),
    policyLimits: policyLimitsOf(parts.config),
    previews,
  });
}

/** What dry runs of changes of policies tell. */
export const policyPreviews = (
  { rotation: { perMinute } }: Pick<Config, 'rotation'>,
  { ledger }: Pick<Keyring, 'ledger'>,
  { rotationScan: scan, scheduler: schedule }: Pick<Store, 'rotationScan' | 'scheduler'>,
  policies: NamespaceRotationPolicies,
): PolicyEffectPreviews =>
  new PolicyEffectPreviews({
    ...{ scan, schedule, policies, perMinute },
    flush: () => ledger.flush(),
    clock: () => new Date(),
  });

/** What is told of the rotation of keys. */
export const rotationReading = (
  { read }: Pick<Keyring, 'read'>,
  { scheduler: store }: Pick<Store, 'scheduler'>,
  policies: NamespaceRotationPolicies,
): RotationReading => new RotationReading({ read, store, policies, clock: () => new Date() });

/** What will rotate, against the budgets of the configuration. */
export const rotationPlans = (
  { rotation: { perMinute, storageBytes, hsmSecondsPerDay } }: Pick<Config, 'rotation'>,
  { generation, suiteRefusal: refusal }: Pick<Keyring, 'generation' | 'suiteRefusal'>,
  { rotationScan: scan }: Pick<Store, 'rotationScan'>,
  policies: NamespaceRotationPolicies,
): RotationPlanning =>
  new RotationPlanning({
    scan,
    policies,
    generation,
    refusal,
    budgets: { perMinute, storageBytes, hsmMsPerDay: hsmSecondsPerDay * 1_000 },
    clock: () => new Date(),
  });

export function startScheduler(parts: SchedulingParts, unwinding: Unwinding): void {
  const { config, keyring, policies, namespaces, incarnation, log } = parts;
  const { scheduler: store, orders: ordered, policies: rounds } = parts.store;
  const { id: instance, epoch } = incarnation;
  const leader = new Leader({
    store,
    role: ROLE,
    holder: instance,
    onTurn: (turn, term) => parts.events.note(`leader.${turn}`, { role: ROLE, term }),
  });
  const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
  const clock = () => new Date();
  const acting = { role: ROLE, instance, principal: SCHEDULER };
  const orders = new OrderRunner(
    {
      store: ordered,
      orders: keyring.orders,
      authorizer,
      read: keyring.read,
      manage: keyring.manage,
      namespaces,
      clock,
      onFailure: (id, err) => log.warn({ id, err }, 'what was ordered could not be done'),
    },
    acting,
  );
  const scheduler = new Scheduler(
    {
      store,
      leader,
      authorizer,
      orders,
      read: keyring.read,
      policies,
      namespaces,
      prepare: async () => {
        await rounds.markNext(MARKED_KEYS);
      },
      act: actBy(keyring.manage, keyring.lifecycle),
      clock,
      wallClock: () => parts.store.keys.wallClock(),
      rest: async (ms) => {
        await sleep(ms);
      },
      onFailure: (keyId, err) => log.warn({ keyId, err }, 'what is due of a key could not be done'),
    },
    {
      ...acting,
      perMinute: config.rotation.perMinute,
      roundKeys: ROUND_KEYS,
    },
  );
  let ended = false;
  let timer: NodeJS.Timeout | undefined;
  let ticking: Promise<void> = Promise.resolve();
  const tick = async (): Promise<void> => {
    try {
      if (incarnation.end === null) await scheduler.tick();
    } catch (err) {
      log.warn({ err }, 'a look at what is due was cut short');
    }
    if (!ended) timer = setTimeout(next, TICK_MS).unref();
  };
  const next = (): void => {
    ticking = tick();
  };
  next();
  unwinding.add('scheduler', async () => {
    ended = true;
    clearTimeout(timer);
    scheduler.stop();
    await ticking;
    clearTimeout(timer);
    await leader.resign();
  });
}
