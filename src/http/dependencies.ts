/** What the HTTP layer is composed of; `main.ts` gives it the real ones. */
import type { CertificateIssuerSettings } from '../access/certificate-issuer.ts';
import type { IssuerSettings } from '../access/issuers.ts';
import type { AccessControl, Authenticator } from '../access/ports.ts';
import type { LaneReader, LogReader } from '../audit/log-ports.ts';
import type { AuditLog } from '../audit/ports.ts';
import type { RouteContract } from '../contract/route.ts';
import type { Status } from '../contract/status.ts';
import type { Engine } from '../crypto/engine.ts';
import type { Suite } from '../crypto/suite.ts';
import type { SecurityEpoch } from '../epoch.ts';
import type { ErrorCode } from '../errors.ts';
import type { Backups } from '../governance/backups.ts';
import type { RootRotations } from '../governance/root-rotations.ts';
import type { LogKeys } from '../governance/log-keys.ts';
import type { Governance } from '../governance/governance.ts';
import type { KeyStates } from '../keyring/key-states.ts';
import type { KeyImports } from '../keyring/imports.ts';
import type { KeyReferences } from '../keyring/references.ts';
import type { KeyLifecycle } from '../keyring/lifecycle-operations.ts';
import type { EventStore } from '../keyring/event-ports.ts';
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
import type { RotationOrders } from '../keyring/rotation-orders.ts';
import type { RotationReading } from '../rotation/reading.ts';
import type { SuiteTimes } from '../telemetry/suite-times.ts';
import type { UsageStore } from '../limits/usage-ports.ts';
import type { GateLimits } from './gate.ts';
import type { InputLimits } from './input.ts';
import type { LimitGate } from './limit-gate.ts';
import type { LimitRefusals } from './limit-refusals.ts';
import type { ConnectionLimits } from './listener.ts';

/** Whether a suite can be served by the token of this zone. */
export interface SuiteAvailability {
  readonly available: boolean;
  /** Why not, in words; null when available. */
  readonly reason: string | null;
}

/** What this zone's token can do and how far its root protects. */
export interface TokenFacts {
  availability(suite: Suite): SuiteAvailability;
  /** Where a new classical half lives unless the request says otherwise; null without such a half. */
  custodyOf(suite: Suite): 'hsm-wrapped' | 'hsm-token' | null;
  /** Why the operator's policy admits no new version of the suite now; null when it does. */
  refusal(suite: Suite): string | null;
  /** Whether the root carries the templates that keep keys from a holder of the PIN. */
  custody(): 'non-extractable' | 'extractableByPinHolder' | 'unknown';
  /** How long backups of what it wrapped are kept, ms; null where the operator has not said. */
  readonly backupHorizonMs: number | null;
  /** Milliseconds since the epoch, by the clock that decides whether a version may be used. */
  now(): number;
}

/** One part of the service that has to work. `state` is one stable word, shown without a token. */
export interface ReadinessCheck {
  readonly name: string;
  readonly ready: boolean;
  readonly state: string;
}

export interface Readiness {
  readonly ready: boolean;
  readonly checks: readonly ReadinessCheck[];
  /** Where several processes serve one address. */
  readonly workers?: { readonly ready: number; readonly of: number } | undefined;
}

/** One request, for metrics, traces and logs. Nothing in it is secret but `error`, see there. */
export interface RequestReport {
  readonly requestId: string;
  /** Route id; null when no route was found. */
  readonly route: string | null;
  readonly plane: RouteContract['plane'] | null;
  readonly method: string;
  readonly status: number;
  readonly code: ErrorCode | null;
  readonly auditId: string | null;
  readonly source: string;
  readonly milliseconds: number;
  /** What failed inside (5xx); its serializer picks members by allow list. */
  readonly error: unknown;
}

/** Events of an installation, which their `source` names. */
export interface EventFeed extends Pick<EventStore, 'page'> {
  readonly installation: string;
}

/** What the configuration says of issuers. */
export interface IssuerFacts {
  /** Let in everywhere, and changed in the configuration alone. */
  readonly configured: readonly IssuerSettings[];
  /** Likewise, of client certificates; some are of one namespace. */
  readonly certificates: readonly CertificateIssuerSettings[];
  /** Whether a listener asks clients for certificates. */
  readonly asksForCertificates: boolean;
  /** Of these and of client certificates: no stored issuer speaks under one of them. */
  readonly names: readonly string[];
  /** Hosts of stored issuers that may have internal addresses. */
  readonly internal: readonly string[];
  /** Development only. */
  readonly plainHttp: boolean;
}

/** What of the log is for those outside. */
export interface OutsideLog {
  /** The newest checkpoint for anybody; null before the first, and where it is not for anybody. */
  publicCheckpoint(): string | null;
  /** Vkeys of this process as a witness. */
  witness(): readonly string[];
}

export interface HttpDependencies {
  readonly authenticator: Authenticator;
  readonly access: AccessControl;
  readonly keys: KeyReferences;
  readonly audit: AuditLog;
  /** The sequenced log. */
  readonly log: LogReader;
  readonly lanes: LaneReader;
  readonly keyStates: KeyStates;
  /** Keys that sign checkpoints. */
  readonly logKeys: Pick<LogKeys, 'list' | 'rotate'>;
  readonly outsideLog: OutsideLog;
  readonly epoch: SecurityEpoch;
  readonly use: KeyUse;
  readonly read: KeyRead;
  readonly published: PublishedKeys;
  readonly manage: KeyManage;
  readonly imports: KeyImports;
  readonly operations: LongOperations;
  readonly rootRotations: Pick<RootRotations, 'begin' | 'facts' | 'get' | 'list'>;
  readonly backups: Pick<Backups, 'take' | 'list' | 'get'>;
  readonly orders: Pick<RotationOrders, 'place' | 'failures'>;
  readonly lifecycle: KeyLifecycle;
  /** What a key's rotation stands on, and what was done. */
  readonly rotation: Pick<RotationReading, 'ofKey' | 'history' | 'watched' | 'done'>;
  readonly plans: Pick<RotationPlanning, 'plan'>;
  readonly policies: Pick<
    NamespaceRotationPolicies,
    'list' | 'get' | 'put' | 'delete' | 'pause' | 'resume' | 'pauseAll' | 'resumeAll'
  >;
  readonly turns: ChangeOrder;
  readonly events: EventFeed;
  readonly governance: Governance;
  readonly issuers: IssuerFacts;
  readonly limits: {
    readonly gate: LimitGate;
    readonly refusals: LimitRefusals;
    readonly usage: UsageStore;
  };
  readonly engine: Engine;
  readonly token: TokenFacts;
  /** 32 bytes from which page tokens are authenticated; the same in every instance. */
  readonly pageTokenKey: Uint8Array;
  readonly readiness: () => Readiness;
  /** Prometheus text for the metrics listener. */
  readonly metrics: () => Promise<{ readonly contentType: string; readonly body: string }>;
  /** What the status page shows, for the metrics listener. */
  readonly status: () => Status | Promise<Status>;
  readonly report: (report: RequestReport) => void;
  /** Of this process, for `/v1/suites`. */
  readonly times: SuiteTimes;
  /** Whether clients are better served over a new connection: by another process of this address. */
  readonly parting?: (() => boolean) | undefined;
}

/** Bounds of operations. */
export interface OperationLimits {
  /** Of one rewrap job, over all instances. */
  readonly rewrapItemsPerSecond: number;
  /** Of one principal. */
  readonly runningOperations: number;
}

/** Of streams of events. */
export interface StreamLimits {
  readonly streamsPerPrincipal: number;
  /** Of this process. */
  readonly streams: number;
  /** Between signs of life, ms; less than `stalledMs`, whose clock they reset. */
  readonly heartbeatMs: number;
}

export type HttpLimits = InputLimits &
  GateLimits &
  ConnectionLimits &
  OperationLimits &
  StreamLimits;

export const DEFAULT_LIMITS: HttpLimits = Object.freeze({
  bodyBytes: 1_048_576,
  wrapBytes: 65_536,
  batchItems: 1000,
  batchBytes: 8_388_608,
  bodyTimeoutMs: 10_000,
  unauthenticatedPerMinute: 600,
  unauthenticatedSources: 10_000,
  stalledMs: 30_000,
  rewrapItemsPerSecond: 2000,
  runningOperations: 20,
  streamsPerPrincipal: 8,
  streams: 64,
  heartbeatMs: 15_000,
});

/** The namespace of a request that names none. */
export const DEFAULT_NAMESPACE = 'default';
