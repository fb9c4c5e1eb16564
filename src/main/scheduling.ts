/** The scheduler in this process: it ticks while the service runs, and gives up its term at the stop. */
import { PolicyAuthorizer } from '../access/authorize.ts';
import { SCHEDULER } from '../access/system.ts';
import type { Config } from '../config.ts';
import type { Keyring } from '../keyring/keyring.ts';
import { actBy } from '../rotation/acts.ts';
import { Leader } from '../rotation/leader.ts';
import { Scheduler } from '../rotation/scheduler.ts';
import type { NamespacePolicies, SchedulerStore } from '../rotation/scheduler-ports.ts';
import type { Log } from '../telemetry/logs.ts';
import type { Incarnation } from './incarnation.ts';
import type { Unwinding } from './unwinding.ts';

const ROLE = 'scheduler';
const TICK_MS = 1_000;
/** Keys a second that the daily round asks to be looked at. */
const ROUND_KEYS = 20;

export interface SchedulingParts {
  readonly config: Config;
  readonly store: SchedulerStore;
  readonly keyring: Pick<Keyring, 'manage' | 'lifecycle' | 'read'>;
  readonly policies: NamespacePolicies;
  readonly incarnation: Incarnation;
  readonly log: Log;
}

export function startScheduler(parts: SchedulingParts, unwinding: Unwinding): void {
  const { config, store, keyring, policies, incarnation, log } = parts;
  const { id: instance, epoch } = incarnation;
  const leader = new Leader({ store, role: ROLE, holder: instance });
  const scheduler = new Scheduler(
    {
      store,
      leader,
      authorizer: new PolicyAuthorizer({ epoch }),
      read: keyring.read,
      policies,
      act: actBy(keyring.manage, keyring.lifecycle),
      clock: () => new Date(),
      onFailure: (keyId, err) => log.warn({ keyId, err }, 'what is due of a key could not be done'),
    },
    {
      role: ROLE,
      instance,
      principal: SCHEDULER,
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
