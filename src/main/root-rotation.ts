/**
 * The generations of the root in this process: which are open, which is in force, and, in the instance
 * that leads, the work of a rotation.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { PolicyAuthorizer, systemPolicies } from '../access/authorize.ts';
import { SCHEDULER } from '../access/system.ts';
import { canonicalLogKey, canonicalLogName } from '../audit/key-rows.ts';
import type { RunningAuditLog } from '../audit/log.ts';
import type { Config } from '../config.ts';
import { canonicalApproval } from '../governance/approval-mac.ts';
import { ROOT_NAMESPACE } from '../governance/namespaces.ts';
import { RootRotations } from '../governance/root-rotations.ts';
import { canonicalMember, canonicalSeal } from '../governance/set-mac.ts';
import type { Hsm } from '../hsm/port.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { OperationParts } from '../keyring/long-operations.ts';
import type { KeyStore, OperationStore } from '../keyring/ports.ts';
import type { Root } from '../keyring/root.ts';
import { followRoot } from '../keyring/root-opening.ts';
import { rootChange } from '../keyring/root-ports.ts';
import { RootRotation } from '../keyring/root-rotation.ts';
import type { GovernedForms } from '../keyring/root-rotation.ts';
import { Leader } from '../leader.ts';
import type { Store } from '../store/store.ts';
import type { Log } from '../telemetry/logs.ts';
import type { Incarnation } from './incarnation.ts';
import type { OwnEvents } from './own-events.ts';
import type { Unwinding } from './unwinding.ts';

const ROLE = 'root-rotation';
const TICK_MS = 1_000;
/** How often it is looked whether there is another generation. */
const FOLLOW_MS = 3_000;
/** After a retirement is known, for what had read its rows before. */
const SHUT_AFTER_MS = 5_000;
/** Of the time that a batch took, what is left to requests before the next one. */
const REST_SHARE = 0.1;
/** A leader that is silent for so long has ended; a batch takes a fraction of it. */
const SILENCE_MS = 5_000;
/** Rows of a batch at most, and batches a second at least where fewer rows are to be moved. */
const BATCH = { rows: 128, perSecond: 2.5 } as const;
/** What a batch that took longer than its share may have made late, to be caught up with. */
const LATE_MS = 500;

export interface RootKeeping {
  readonly config: Pick<Config, 'rotation' | 'zone'>;
  readonly store: Pick<Store, 'roots' | 'rootRotations' | 'scheduler' | 'instances'>;
  /** Fenced. */
  readonly keys: KeyStore;
  readonly operations: OperationStore;
  readonly keyring: Pick<Keyring, 'integrity'>;
  readonly root: Root;
  readonly hsm: Hsm;
  readonly audit: RunningAuditLog;
  readonly incarnation: Incarnation;
  readonly events: Pick<OwnEvents, 'note'>;
  readonly log: Log;
}

export const GOVERNED_FORMS: GovernedForms = {
  member: canonicalMember,
  seal: canonicalSeal,
  approval: canonicalApproval,
  logName: canonicalLogName,
  logKey: canonicalLogKey,
};

const operationParts = (parts: RootKeeping): OperationParts => ({
  store: parts.keys,
  operations: parts.operations,
  audit: parts.audit,
  epoch: parts.incarnation.epoch,
  refreshEpoch: parts.incarnation.refresh,
  mac: parts.root.mac,
  integrity: parts.keyring.integrity,
  clock: () => new Date(),
});

/** What the routes ask. */
export const rootRotations = (parts: RootKeeping): RootRotations =>
  new RootRotations({
    ...operationParts(parts),
    root: parts.root,
    roots: parts.store.roots,
    rotations: parts.store.rootRotations,
    otherZones: parts.config.zone.others,
  });

/** Follows the generations until unwound, and carries out rotations while it leads. */
export async function keepRoot(parts: RootKeeping, unwinding: Unwinding): Promise<void> {
  await followGenerations(parts, unwinding);
  startRotating(parts, unwinding);
}

async function followGenerations(parts: RootKeeping, unwinding: Unwinding): Promise<void> {
  const { root, hsm, store, incarnation, log } = parts;
  let looking: Promise<void> | null = null;
  let trouble = '';
  const announce = () => store.instances.announceGenerations(incarnation.id, root.generations);
  const look = async (): Promise<void> => {
    try {
      await followRoot(hsm, store.roots, root, (each) => gone.has(each));
      trouble = '';
    } catch (err) {
      // A generation may be placed here later than elsewhere; that it is missing is said once.
      const said = err instanceof Error ? err.message : String(err);
      if (said !== trouble) log.warn({ err }, 'a generation of the root is not open here');
      trouble = said;
    }
    await announce().catch((err: unknown) => log.warn({ err }, 'generations are not announced'));
  };
  const follow = (): Promise<void> => (looking ??= look().finally(() => (looking = null)));
  /** Retired for so long that nothing here stands on them. */
  const gone = new Set<number>();
  const timers = new Set<NodeJS.Timeout>();
  const shutLater = (generations: readonly number[]): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      for (const each of generations) gone.add(each);
      void follow();
    }, SHUT_AFTER_MS).unref();
    timers.add(timer);
  };
  incarnation.epoch.onChange(({ scope, namespace, keyName }) => {
    if (scope !== 'access' || namespace !== '') return;
    const change = rootChange(keyName);
    if (change?.act === 'in-force' && root.generations.includes(change.generation)) {
      root.enforce(change.generation);
    } else if (change?.act === 'retired') {
      shutLater([change.generation]);
    } else if (change !== null) void follow();
    else if (keyName === null) {
      // A change whose record is gone, and with which every cache is dropped.
      shutLater(root.generations);
      void follow();
    }
  });
  await announce();
  const timer = setInterval(() => {
    if (incarnation.end === null) void follow();
  }, FOLLOW_MS).unref();
  unwinding.add('generations of the root', async () => {
    clearInterval(timer);
    for (const each of timers) clearTimeout(each);
    await looking;
  });
}

/**
 * How long to rest after a batch, ms: for a share of what it took, and until its rows are due at `perSecond`.
 * What a rest overran, as rests do on a busy machine, the next ones are shorter by.
 */
export function paceOf(perSecond: number, now: () => number) {
  let due: number | null = null;
  return ({ rows, ms }: { readonly rows: number; readonly ms: number }): number => {
    const at = now();
    const from: number = due === null ? at - ms : Math.max(due, at - ms - LATE_MS);
    due = from + (rows * 1_000) / perSecond;
    return Math.max(ms * REST_SHARE, due - at);
  };
}

function startRotating(parts: RootKeeping, unwinding: Unwinding): void {
  const { store, incarnation, events, log } = parts;
  const { rootRowsPerSecond: most } = parts.config.rotation;
  const { id: instance, epoch } = incarnation;
  const leader = new Leader({
    store: store.scheduler,
    role: ROLE,
    holder: instance,
    silenceMs: SILENCE_MS,
    onTurn: (turn, term) => events.note(`leader.${turn}`, { role: ROLE, term }),
  });
  const authorizer = PolicyAuthorizer.of({ epoch, policies: systemPolicies() });
  const about = { namespace: ROOT_NAMESPACE, key: null };
  const ending = new AbortController();
  const rest = async (ms: number) => {
    await sleep(ms, undefined, { signal: ending.signal, ref: false }).catch(() => undefined);
  };
  const pauseAfter = paceOf(most, () => performance.now());
  const rotation = new RootRotation(
    {
      ...operationParts(parts),
      root: parts.root,
      roots: store.roots,
      rotations: store.rootRotations,
      forms: GOVERNED_FORMS,
      batch: Math.min(BATCH.rows, Math.ceil(most / BATCH.perSecond)),
      rest: (worked) => rest(pauseAfter(worked)),
      onFailure: (what, err) => log.error({ what, err }, 'a row was altered; it stays as it is'),
    },
    {
      oversee: () => authorizer.authorize(SCHEDULER, 'operations.oversee', about),
      carryOut: () => authorizer.authorize(SCHEDULER, 'root.carry-out', about),
    },
  );
  let beaten = 0;
  /** Whether it leads still; asked at each batch, and of the database once a second. */
  const leads = async (): Promise<boolean> => {
    if (ending.signal.aborted || incarnation.end !== null) return false;
    const now = performance.now();
    if (leader.term !== null && now - beaten < TICK_MS) return true;
    beaten = now;
    return (await leader.tick()) !== null;
  };
  let ticking: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  const tick = async (): Promise<void> => {
    try {
      if (await leads()) await rotation.run(leads);
    } catch (err) {
      log.warn({ err }, 'a rotation of the root was cut short; it goes on');
    }
    if (!ending.signal.aborted) timer = setTimeout(next, TICK_MS).unref();
  };
  const next = (): void => {
    timer = undefined;
    ticking = tick();
  };
  next();
  // One that was just begun does not wait for the next look.
  incarnation.epoch.onChange(({ keyName }) => {
    if (rootChange(keyName)?.act !== 'in-force' || timer === undefined) return;
    clearTimeout(timer);
    next();
  });
  unwinding.add('rotation of the root', async () => {
    ending.abort();
    clearTimeout(timer);
    await ticking;
    await leader.resign();
  });
}
