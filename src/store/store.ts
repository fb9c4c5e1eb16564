/** One pool, Prisma over it, and the ports over both. */
import type { SinkPositions } from '../audit/sinks/ports.ts';
import type { LaneReader, LogReader } from '../audit/log-ports.ts';
import type { CosignatureStore } from '../audit/cosignature-ports.ts';
import type { LogKeyStore } from '../audit/key-ports.ts';
import type { AuditStore } from '../audit/ports.ts';
import type { GraceStore } from '../audit/grace/ports.ts';
import type { CheckpointThinning, SequencerStore } from '../audit/sequencer-ports.ts';
import type { ApprovalStore } from '../keyring/approval-ports.ts';
import type { EventStore } from '../keyring/event-ports.ts';
import type { InstanceStore } from '../keyring/instance-ports.ts';
import type {
  KeyStore,
  OperationStore,
  PolicyStore,
  RootStore,
  UseStore,
} from '../keyring/ports.ts';
import type { RootRetirementReads, RootRotationStore } from '../keyring/root-ports.ts';
import type { SetStore } from '../keyring/set-ports.ts';
import type { ClosingUses, RotationScan } from '../rotation/ports.ts';
import type { OrderStore } from '../rotation/order-ports.ts';
import type { PolicyRounds, ScheduleReads, SchedulerStore } from '../rotation/scheduler-ports.ts';
import { createApprovalStore } from './approval-store.ts';
import { createAuditStore } from './audit-store.ts';
import { listenEpoch } from './epoch-listener.ts';
import type { EpochListener } from './epoch-listener.ts';
import { createEventStore } from './event-store.ts';
import { createGraceStore } from './grace-store.ts';
import { createInstanceStore } from './instance-store.ts';
import { createJoinStore } from './join-store.ts';
import type { JoinStore } from './join-store.ts';
import { createKeyStore, expireIdempotency } from './key-store.ts';
import { createLaneReader } from './lane-list.ts';
import { createLogStore, standbyEntries } from './log-store.ts';
import { Passwords } from './password.ts';
import type { EntriesKept, Snapshot } from '../backup/ports.ts';
import { openSnapshot } from './backup-snapshot.ts';
import { createBackupStore } from './backup-store.ts';
import type { BackupStore } from './backup-store.ts';
import { createCosignatureStore } from './cosignature-store.ts';
import { createLogKeyStore } from './log-key-store.ts';
import { createOperationStore, expireOperations } from './operation-store.ts';
import { createLimitStore } from './limit-store.ts';
import type { LimitStore } from './limit-store.ts';
import { createOrderStore } from './order-store.ts';
import { createPolicyStore } from './policy-store.ts';
import { createPool } from './pool.ts';
import type { GuardedPool, PoolOptions } from './pool.ts';
import { createPrisma } from './prisma.ts';
import { readGates } from './read-gate.ts';
import { createRootRotationStore } from './root-rotation-store.ts';
import { createRootStore } from './root-store.ts';
import { createRotationScan } from './rotation-scan.ts';
import { createScheduleReads } from './schedule-reads.ts';
import { createSchedulerStore } from './scheduler-store.ts';
import { createSinkStore } from './sink-store.ts';
import { createCheckpointThinning, createSequencerStore } from './sequencer-store.ts';
import { createSetStore } from './set-store.ts';
import { createUseStore } from './use-store.ts';

export interface Store {
  readonly pool: GuardedPool;
  readonly keys: KeyStore;
  readonly roots: RootStore;
  readonly rootRotations: RootRotationStore & RootRetirementReads;
  readonly instances: InstanceStore;
  readonly scheduler: SchedulerStore & ScheduleReads;
  readonly uses: UseStore;
  readonly policies: PolicyStore & PolicyRounds;
  readonly sets: SetStore;
  readonly limits: LimitStore;
  readonly approvals: ApprovalStore;
  readonly audit: AuditStore;
  readonly grace: GraceStore;
  readonly lanes: LaneReader;
  readonly sequencer: SequencerStore;
  readonly checkpoints: CheckpointThinning;
  /** The sequenced log. */
  readonly log: LogReader;
  /** What a standby says of it, which proves nothing; null where none is named. */
  readonly standby: Pick<LogReader, 'entries'> | null;
  readonly logKeys: LogKeyStore;
  readonly sinks: SinkPositions;
  readonly backups: BackupStore;
  /** One consistent state of everything, on a connection of its own. @throws TwofoldError conflict */
  readonly openSnapshot: (entries: EntriesKept) => Promise<Snapshot>;
  readonly joins: JoinStore;
  readonly cosignatures: CosignatureStore;
  readonly operations: OperationStore;
  readonly orders: OrderStore;
  readonly events: EventStore;
  readonly rotationScan: RotationScan & ClosingUses;
  /** Tells of new epochs until closed; see `epoch-listener.ts`. */
  listen(onEpoch: (epoch: number) => void): EpochListener;
  /**
   * Connects once with the password as it stands in its file now, if it has one.
   * Rejects when that cannot be read or the database refuses it; connections that are open go on.
   */
  tryPassword(): Promise<void>;
  /** Of the database's server, such as `18.4`. */
  serverVersion(): Promise<string>;
  /** Removes idempotency records of more than a day: repeats come within minutes. */
  expireIdempotency(now: Date): Promise<void>;
  /** Removes operations that ended, or went silent, long ago. */
  expireOperations(now: Date): Promise<void>;
  /** Ends the pool; calls under way fail. */
  close(): Promise<void>;
}

/** Opens no connection yet: the first call does. URLs are of the server's role, never of the owner's. */
export const openStore = (options: PoolOptions, standby: PoolOptions | null = null): Store => {
  const pool = createPool(options);
  const prisma = createPrisma(pool);
  const gates = readGates(pool.options.max);
  const copies = standby === null ? null : createPool(standby);
  return {
    pool,
    keys: createKeyStore(pool, prisma, gates),
    roots: createRootStore(pool),
    rootRotations: createRootRotationStore(pool, gates.searches),
    instances: createInstanceStore(pool),
    scheduler: { ...createSchedulerStore(pool), ...createScheduleReads(pool, gates) },
    uses: createUseStore(pool, gates),
    policies: createPolicyStore(pool, gates.lookups),
    sets: createSetStore(pool, gates.lookups),
    limits: createLimitStore(pool),
    approvals: createApprovalStore(pool, gates),
    audit: createAuditStore(pool, gates),
    grace: createGraceStore(pool),
    lanes: createLaneReader(pool, gates),
    sequencer: createSequencerStore(pool),
    checkpoints: createCheckpointThinning(pool),
    log: createLogStore(pool, gates),
    standby: copies === null ? null : { entries: standbyEntries(copies) },
    logKeys: createLogKeyStore(pool),
    sinks: createSinkStore(pool),
    backups: createBackupStore(pool, gates),
    openSnapshot: (entries) => openSnapshot(options, entries),
    joins: createJoinStore(pool),
    cosignatures: createCosignatureStore(pool),
    operations: createOperationStore(pool, prisma, gates),
    orders: createOrderStore(pool),
    expireOperations: (now) => expireOperations(pool, now),
    events: createEventStore(pool, gates),
    rotationScan: createRotationScan(pool, gates.searches),
    listen: (onEpoch) => listenEpoch(options, onEpoch),
    tryPassword: () => tryPassword(options),
    serverVersion: async () => {
      const { rows } = await pool.query<{ server_version: string }>('show server_version');
      // Distributions append a word of their own.
      return rows[0]?.server_version.split(' ')[0] ?? '';
    },
    expireIdempotency: (now) => expireIdempotency(pool, now),
    close: async () => {
      await prisma.close();
      await Promise.all([pool.end(), copies?.end()]);
    },
  };
};

const tryPassword = async (options: PoolOptions): Promise<void> =>
  options.passwords?.tryOut(async (password) => {
    const passwords = new Passwords(() => password);
    const pool = createPool({ ...options, passwords, max: 1 });
    try {
      await pool.query('select 1');
    } finally {
      await pool.end();
    }
  });
