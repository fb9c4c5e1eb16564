/**
 * A keyring on a real database with a clock that tests set, and schedulers over it. The token is in
 * memory, so that ten years take seconds.
 */
import { PolicyAuthorizer, systemPolicies } from '../../src/access/authorize.ts';
import { SCHEDULER } from '../../src/access/system.ts';
import { openGovernance } from '../../src/governance/governance.ts';
import type { Namespaces } from '../../src/governance/namespaces.ts';
import type { Keyring } from '../../src/keyring/keyring.ts';
import type { NamespaceRotationPolicies } from '../../src/keyring/namespace-policies.ts';
import type { PolicyTerms } from '../../src/keyring/rotation-policy.ts';
import { rankPolicies } from '../../src/keyring/selector-policy.ts';
import type { SelectorPolicy } from '../../src/keyring/selector-policy.ts';
import { actBy } from '../../src/rotation/acts.ts';
import type { Act } from '../../src/rotation/acts.ts';
import { OrderRunner } from '../../src/rotation/orders.ts';
import type { OrderStore } from '../../src/rotation/order-ports.ts';
import type { KeyManage } from '../../src/keyring/operations.ts';
import { Leader } from '../../src/leader.ts';
import { Scheduler } from '../../src/rotation/scheduler.ts';
import type { SchedulerStore } from '../../src/rotation/scheduler-ports.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { openStoredInstance } from '../keyring/stored-instance.ts';
import type { StoredInstance } from '../keyring/stored-instance.ts';
import { INSTALLATION } from '../keyring/world.ts';
import { watchedHsm } from '../keyring/watched-hsm.ts';
import type { WatchedHsm } from '../keyring/watched-hsm.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { setWallClock } from '../store/wall-clock.ts';

export const ROLE = 'scheduler';

export interface Clock {
  /** Milliseconds since the epoch. */
  now: number;
}

/** One process. */
export interface Actor extends StoredInstance {
  readonly instance: string;
  readonly keyring: Keyring;
  /** In the database. */
  readonly ruling: NamespaceRotationPolicies;
  readonly namespaces: Namespaces;
  scheduler(options?: SchedulerChanges): { scheduler: Scheduler; leader: Leader };
  stop(): Promise<void>;
}

export interface SchedulerChanges {
  readonly perMinute?: number;
  readonly roundKeys?: number;
  /** Keys a tick that a changed policy asks to be looked at. */
  readonly marks?: number;
  /** Of a silent leader; at once unless told, so that a test need not wait. */
  readonly silenceMs?: number;
  readonly store?: Partial<SchedulerStore>;
  readonly act?: (act: Act) => Act;
  readonly orders?: Partial<OrderStore>;
  /** In place of a rotation by order. */
  readonly rotate?: typeof rotateBy;
  readonly rest?: (ms: number) => Promise<void>;
}

const rotateBy = (
  given: Parameters<KeyManage['rotate']>,
  manage: KeyManage,
): ReturnType<KeyManage['rotate']> => manage.rotate(...given);

export interface Stage {
  readonly database: TestDatabase;
  readonly store: Store;
  readonly clock: Clock;
  readonly device: WatchedHsm;
  /** Of the namespace `default`, in place of those in the database while there are any. */
  readonly policies: SelectorPolicy[];
  readonly failures: { readonly keyId: string; readonly error: unknown }[];
  readonly first: Actor;
  /** Another process on the same database. */
  another(): Promise<Actor>;
  stop(): Promise<void>;
}

export const DAY = 86_400_000;

export const TERMS: PolicyTerms = {
  interval: null,
  maxUses: null,
  upgrade: null,
  retire: null,
  notice: null,
};

export async function openStage(start = Date.UTC(2026, 0, 1)): Promise<Stage> {
  const database = await startTestDatabase();
  const store = openStore({ url: database.appUrl });
  const clock: Clock = { now: start };
  const device = watchedHsm();
  // Their clock decides, not the database's.
  await setWallClock(database, Infinity);
  device.token.makeRoot({ generation: 1, installation: INSTALLATION });
  const policies: SelectorPolicy[] = [];
  const failures: { keyId: string; error: unknown }[] = [];
  const actors: Actor[] = [];

  const another = async (): Promise<Actor> => {
    await device.hsm.useRoot({ generation: 1, installation: INSTALLATION });
    const opened = await openStoredInstance(
      store,
      {
        hsm: device.hsm,
        clock: () => new Date(clock.now),
        // No heartbeat runs here: every instance counts as reading every suite.
        instances: { allRead: () => Promise.resolve(true) },
      },
      watchedHsm(device.token).hsm,
    );
    const { id: instance, epoch, keyring, policies: ruling } = opened;
    const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
    const namespaces = openGovernance(opened.governing).namespaces;
    const scheduler: Actor['scheduler'] = (changes = {}) => {
      const scheduling = { ...store.scheduler, ...changes.store };
      const { silenceMs = 0 } = changes;
      const leader = new Leader({ store: scheduling, role: ROLE, holder: instance, silenceMs });
      const act = actBy(keyring.manage, keyring.lifecycle);
      const acting = { role: ROLE, instance, principal: SCHEDULER };
      const orders = new OrderRunner(
        {
          store: { ...store.orders, ...changes.orders },
          orders: keyring.orders,
          authorizer,
          read: keyring.read,
          namespaces,
          manage: { rotate: (...given) => (changes.rotate ?? rotateBy)(given, keyring.manage) },
          clock: () => new Date(clock.now),
          onFailure: (keyId, error) => failures.push({ keyId, error }),
        },
        acting,
      );
      const made = new Scheduler(
        {
          store: scheduling,
          leader,
          authorizer,
          read: keyring.read,
          policies: {
            of: async (namespace) =>
              policies.length === 0
                ? ruling.of(namespace)
                : { ...rankPolicies(policies), revision: (await ruling.of(namespace)).revision },
          },
          namespaces,
          act: changes.act?.(act) ?? act,
          orders,
          ...(changes.rest === undefined ? {} : { rest: changes.rest }),
          prepare: async () => {
            await store.policies.markNext(changes.marks ?? 100);
          },
          clock: () => new Date(clock.now),
          wallClock: () => store.keys.wallClock(),
          onFailure: (keyId, error) => failures.push({ keyId, error }),
        },
        {
          ...acting,
          perMinute: changes.perMinute ?? 1_000_000,
          roundKeys: changes.roundKeys ?? 0,
        },
      );
      return { scheduler: made, leader };
    };
    const actor: Actor = { ...opened, instance, ruling, namespaces, scheduler };
    actors.push(actor);
    return actor;
  };

  const first = await another();
  return {
    database,
    store,
    clock,
    device,
    policies,
    failures,
    first,
    another,
    stop: async () => {
      for (const actor of actors) await actor.stop();
      await store.close();
      await database.stop();
    },
  };
}
