/** What the listeners need before the root is open. */
import type { LaneReader, LogReader } from '../audit/log-ports.ts';
import type { LogKeys } from '../governance/log-keys.ts';
import type { Backups as AskedBackups } from '../governance/backups.ts';
import type { RootRotations } from '../governance/root-rotations.ts';
import type { Governance } from '../governance/governance.ts';
import type { EventFeed } from '../http/dependencies.ts';
import type { KeyImports } from '../keyring/imports.ts';
import type { Keyring } from '../keyring/keyring.ts';
import type { KeyLifecycle } from '../keyring/lifecycle-operations.ts';
import type { NamespaceRotationPolicies } from '../keyring/namespace-policies.ts';
import type {
  ChangeOrder,
  KeyManage,
  KeyRead,
  KeyUse,
  PublishedKeys,
} from '../keyring/operations.ts';
import type { LongOperations } from '../keyring/job-operations.ts';
import type { RotationPlanning } from '../rotation/planning.ts';
import type { PolicyEffectPreviews } from '../rotation/policy-effects.ts';
import type { RotationOrders } from '../keyring/rotation-orders.ts';
import type { RotationReading } from '../rotation/reading.ts';
import type { KeyStates } from '../keyring/key-states.ts';
import type { KeyReferences } from '../keyring/references.ts';
import type { Backups } from './backups.ts';
import type { Incarnation } from './incarnation.ts';
import { LateAudit } from './late-audit.ts';
import type { LogOutside } from './log-outside.ts';
import type { SequencedLog } from './sequenced-log.ts';
import type { Sinks } from './sinks.ts';
import { late } from './late.ts';
import type { Late } from './late.ts';

export interface LateParts {
  readonly audit: LateAudit;
  readonly use: Late<KeyUse>;
  readonly read: Late<KeyRead>;
  readonly references: Late<KeyReferences>;
  readonly manage: Late<KeyManage>;
  readonly imports: Late<KeyImports>;
  readonly operations: Late<LongOperations>;
  readonly orders: Late<RotationOrders>;
  readonly rootRotations: Late<RootRotations>;
  readonly lifecycle: Late<KeyLifecycle>;
  readonly policies: Late<NamespaceRotationPolicies>;
  readonly rotation: Late<RotationReading>;
  readonly plans: Late<RotationPlanning>;
  readonly policyPreviews: Late<PolicyEffectPreviews>;
  readonly published: Late<PublishedKeys>;
  readonly turns: Late<ChangeOrder>;
  readonly events: Late<EventFeed>;
  readonly logReader: Late<LogReader>;
  readonly lanes: Late<LaneReader>;
  readonly keyStates: Late<KeyStates>;
  readonly governance: Late<Governance>;
  readonly pageTokenKey: Buffer;
  keyring: Keyring | null;
  log: SequencedLog | null;
  sinks: Sinks | null;
  backups: Backups | null;
  readonly askedBackups: Late<AskedBackups>;
  readonly logKeys: Late<LogKeys>;
  outside: LogOutside | null;
  /** Vkeys of this process as a witness. */
  witness: readonly string[];
}

export const lateParts = (incarnation: Incarnation): LateParts => ({
  audit: new LateAudit(() => incarnation.end !== null),
  use: late(),
  read: late(),
  references: late(),
  manage: late(),
  imports: late(),
  operations: late(),
  orders: late(),
  rootRotations: late(),
  lifecycle: late(),
  policies: late(),
  rotation: late(),
  plans: late(),
  policyPreviews: late(),
  published: late(),
  turns: late(),
  events: late(),
  logReader: late(),
  lanes: late(),
  keyStates: late(),
  governance: late(),
  pageTokenKey: Buffer.alloc(32),
  keyring: null,
  log: null,
  sinks: null,
  backups: null,
  askedBackups: late(),
  logKeys: late(),
  outside: null,
  witness: [],
});
