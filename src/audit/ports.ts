/**
 * What other folders give to the audit log, and what it gives back (promise P3: no audit, no answer).
 */
import type { EpochStanding, SecurityChange } from '../epoch.ts';
import type { TwofoldError } from '../errors.ts';

/** Who acted. `method` is how the principal authenticated. */
export interface Actor {
  readonly issuer: string;
  readonly subject: string;
  readonly method: 'jwt' | 'mtls' | 'system' | 'bootstrap' | 'break-glass';
  /** Hash (first 16 bytes of SHA-256) of the presented token, to tie entries of one session; else null. */
  readonly session: Uint8Array | null;
  /** Authentication context class; null where the token says none. */
  readonly acr: string | null;
  /** Authentication methods (RFC 8176), sorted. */
  readonly amr: readonly string[];
  /** Roles when it was decided, sorted; null: not known, as of entries of version 1. */
  readonly roles: readonly string[] | null;
}

/** Of a principal, what entries say. */
export function actorOf({ issuer, subject, method, session, acr, amr, roles }: Actor): Actor {
  return { issuer, subject, method, session, acr, amr, roles };
}

/** Who computed the post-quantum half; `token`: there is none, and the HSM or its host's OpenSSL did all. */
export type AuditEngine = 'native' | 'portable' | 'token';

/** One item of a batch request, in request order. */
export interface AuditItem {
  readonly keyVersion: number | null;
  /** `ok` or an error code. */
  readonly outcome: string;
  /** 16-byte hash of the caller's ref and context. */
  readonly hash: Uint8Array;
}

/** What happened, before the log adds lane, number, time and the hash of the lane's previous entry. */
export interface AuditDraft {
  readonly requestId: string;
  readonly actor: Actor;
  /** The operation, e.g. `wrap`, `keys.create`, `audit.read`, `system.start`. */
  readonly operation: string;
  readonly namespace: string;
  /** As the request named it, when it could be a name or id at all; else null. */
  readonly keyRef: string | null;
  readonly keyId: string | null;
  readonly keyVersion: number | null;
  /** Suite number. */
  readonly suite: number | null;
  /** `ok` or an error code. */
  readonly outcome: string;
  /** The authorization behind it: policy revision and deciding policies; null where none was reached. */
  readonly decision: { readonly revision: string; readonly policies: readonly string[] } | null;
  /** Source address as seen by the listener. */
  readonly source: string;
  /** Names of the encryption context. */
  readonly contextKeys: readonly string[];
  /** Canonical encryption context without aad, recorded as an HMAC under the audit key, not in clear. */
  readonly contextValues: Uint8Array | null;
  /** The same of the aad alone. */
  readonly aad: Uint8Array | null;
  /** Values of the encryption context whose names the namespace declares loggable. */
  readonly loggedContext: Readonly<Record<string, string>>;
  readonly items: readonly AuditItem[];
  /** Non-secret facts of a change: states, labels, reasons. Plain JSON values. */
  readonly detail: Readonly<Record<string, string | number | boolean | null>>;
  /** Group of the connection's key agreement; null where it has none, or it is not known. */
  readonly tlsGroup: string | null;
  /** UUID of what was lent, where that permitted it. */
  readonly grantId: string | null;
  /** UUID of the approval that it was carried out under. */
  readonly approvalId: string | null;
  readonly engine: AuditEngine | null;
  /** Of what was opened: who can have made it. */
  readonly origin: 'anyone' | 'service' | null;
  /** Microseconds from the request's head to the making of the entry. */
  readonly durationUs: number | null;
}

/** What a request says of itself beside what it did. */
export type RequestFacts = Pick<AuditDraft, 'tlsGroup' | 'durationUs'>;
/** Of what no request caused, or what no suite, grant or approval is behind. */
export const NO_CIRCUMSTANCES = {
  tlsGroup: null,
  grantId: null,
  approvalId: null,
  engine: null,
  origin: null,
  durationUs: null,
} as const satisfies Partial<AuditDraft>;

/** The epoch after the commit; `stale`: the database's epoch is another one and nothing was written. */
export type CommitOutcome =
  | {
      readonly epoch: number;
      /** Of a change: whether an instance may answer from cache for a while without having heard of it. */
      readonly held?: boolean;
    }
  | { readonly stale: number };

/** `<lane>-<n>`. */
export type AuditId = string;

/** An entry that a change appends inside its own transaction. */
export interface PreparedEntry extends AppendEntry {
  readonly lane: number;
  readonly n: number;
  /** The epoch that its bytes state; the transaction commits under this one or not at all. */
  readonly epoch: number;
  /** The batch HMAC of this one entry. */
  readonly hmac: Uint8Array;
}

/**
 * Rejected by `record` when a change has touched what the answer stood on: the request runs again
 * from its authorization. Not an error of the caller.
 */
export class StaleAnswer extends Error {
  override readonly name = 'StaleAnswer';
}

/** The log as the routes see it. */
export interface AuditLog {
  /**
   * Resolves once the entry is durable. Throws `StaleAnswer`, or `audit_unavailable` when it
   * cannot be made durable; then nothing but that error may leave.
   */
  record(draft: AuditDraft, standing: EpochStanding): Promise<AuditId>;
  /**
   * `record` for reading this log, which makes one entry for a session of reading
   * (`reading-sessions.ts`) and answers its id to later reads of it. Those leave as the others do: only
   * where the database confirms, in a transaction that commits, that the epoch still is what they stood on.
   */
  reading(draft: AuditDraft, standing: EpochStanding): Promise<AuditId>;
  /**
   * Runs a change: `commit` gets the prepared entry and writes effect and entry in one transaction
   * (`KeyStore.commit`). Resolves once both are durable. One change at a time per instance.
   *
   * `commit` is called once. When it answers `stale` this throws `StaleAnswer`; a `TwofoldError` of
   * it (nothing was written) is thrown on; `OutcomeUnknown` is resolved here by (lane, n): the
   * change turns out durable, or it is made impossible and `database_unavailable` is thrown.
   * `audit_unavailable`, and no other error: not known within the deadline; the change may have
   * taken effect, or still will.
   * What the answer shows is prepared before `commit`; nothing of it comes from its result.
   */
  change(
    draft: AuditDraft,
    commit: (entry: PreparedEntry) => Promise<CommitOutcome>,
  ): Promise<{
    readonly result: { readonly epoch: number };
    readonly auditId: AuditId;
  }>;
  /**
   * Before an operation: why it is not worth beginning while no commit comes back, or null.
   * `read_only_grace`: only what may be answered from cache is; `audit_unavailable`: nothing is, and no
   * entry can say so.
   */
  refusal(operation: string): TwofoldError | null;
  /**
   * In the same breath in which an answer leaves: one whose entry is in the spool alone may leave only as
   * long as the grace lasts and nothing that it stood on has changed (`grace/lease.ts`).
   * `spooled`: it has to leave at once, and wait in no queue.
   * @throws StaleAnswer, TwofoldError `audit_unavailable`; then nothing but that error may leave
   */
  leaving(entry: AuditId, standing: EpochStanding): 'durable' | 'spooled';
  /**
   * Resolves once whatever is committed by now is known to every instance that may still answer, as `change`
   * does: for a change that was made before, and is asked for again.
   * @throws TwofoldError `audit_unavailable`
   */
  confirmed(): Promise<void>;
  /** Counts a request that never authenticated; durable within a second. */
  countAnonymous(source: string, outcome: string): void;
  /**
   * The HMAC under the audit key as which entries have canonical values (`contextValues`, `aad`), 32 bytes; or
   * as which they have the hash of an item of a batch, 16 bytes.
   * @throws TwofoldError `audit_unavailable` when the HSM makes none
   */
  hash(values: Uint8Array, as?: 'value' | 'item'): Promise<Uint8Array>;
  /** Looks up and pages through entries (decoded). */
  read(id: AuditId): Promise<AuditRecord | null>;
  list(query: AuditQuery): Promise<{
    readonly items: readonly AuditRecord[];
    readonly next: AuditCursor | null;
  }>;
}

export interface AuditCursor {
  readonly lane: number;
  readonly n: number;
}

/** Filters are exact matches; newest first over all lanes by time. */
export interface AuditQuery {
  readonly pageSize: number;
  readonly after: AuditCursor | null;
  readonly namespace: string;
  readonly operation: string | null;
  readonly keyId: string | null;
  readonly keyRef: string | null;
  readonly subject: string | null;
  readonly outcome: string | null;
  readonly from: Date | null;
  readonly until: Date | null;
  /** What only the entry's bytes tell, and no column; absent: whatever it is. */
  readonly within?: Within | undefined;
}

/** Looked for among the entries that the other filters find, so many a page and no more. */
export interface Within {
  readonly contextHmac?: Uint8Array | undefined;
  readonly aadHmac?: Uint8Array | undefined;
  /** Values in clear. */
  readonly context?: Readonly<Record<string, string>> | undefined;
}

/** A stored entry as readers get it. */
export interface AuditRecord {
  readonly id: AuditId;
  readonly lane: number;
  readonly n: number;
  readonly at: Date;
  readonly leaf: Uint8Array;
  readonly body: Uint8Array;
  /** Of version 1, members that it has not are empty or null. */
  readonly draft: Omit<AuditDraft, 'contextValues' | 'aad'> & {
    readonly contextHmac: Uint8Array | null;
    readonly aadHmac: Uint8Array | null;
  };
  /** Of the entry's bytes. */
  readonly version: number;
  readonly zone: string;
  /** UUID of the instance that wrote it. */
  readonly instance: string;
  /** Security epoch under which it was appended. */
  readonly epoch: number;
  /** Leaf of the lane's previous entry; 32 zero bytes for the first. */
  readonly previous: Uint8Array;
}

/** What the audit log asks of the database. Implemented by `store/`. */
export interface AuditStore {
  openLane(instance: string, kind: 'use' | 'change'): Promise<number>;
  /** Idempotent. The lane takes no entry from then on. */
  closeLane(lane: number): Promise<void>;
  /**
   * One round trip: under the epoch barrier, entries `first … first+leaves.length-1`, all or none.
   * Checked in this order, under the barrier:
   * 1. the same leaves stand there already: the epoch (an append sent again after an unknown outcome;
   *    so this comes before the epoch is compared and before the lane's closing is looked at);
   * 2. another epoch than `epoch`: `{ stale }` with the database's; nothing was written;
   * 3. the lane is closed, it or the entry before `first` is gone, or another leaf stands at one of
   *    the places: `LaneLost` (src/outcome.ts).
   * Throws `OutcomeUnknown` (src/outcome.ts: the caller sends the same bytes again) or a
   * `TwofoldError` (`database_unavailable`, `storage_full`) when it was certainly not applied.
   */
  append(batch: AppendBatch): Promise<CommitOutcome>;
  /**
   * Whether the epoch is still `epoch`, under the barrier that appends hold, in a transaction that
   * commits a record of its own. Writes nothing else, so that it can be repeated. Refused for an
   * instance that was closed.
   */
  confirm(epoch: number, instance: string): Promise<CommitOutcome>;
  /**
   * Leaf at (lane, n), or null; this is how an unknown outcome is settled. Only a commit is
   * exclusive: the read stands in a transaction that writes a WAL record of its own
   * (`pg_logical_emit_message(true, …)`) and commits, so that an old primary, where a row may be
   * visible that no standby has, cannot answer.
   */
  leafAt(lane: number, n: number): Promise<Uint8Array | null>;
  /** A committed read like `leafAt`: what an old primary says happened may never have. */
  changesSince(epoch: number): Promise<readonly SecurityChange[]>;
  entry(lane: number, n: number): Promise<StoredEntry | null>;
  entries(query: AuditQuery): Promise<EntryPage>;
}

export interface EntryPage {
  /** At most as many as were asked for. */
  readonly entries: readonly StoredEntry[];
  /**
   * The `after` of the next page; null at the end. A page of several filters may be short of entries,
   * even empty, before the end: it looks at so many candidates and no more.
   */
  readonly next: AuditCursor | null;
}

export interface AppendBatch {
  readonly lane: number;
  readonly first: number;
  readonly epoch: number;
  readonly entries: readonly AppendEntry[];
  /** HMAC by `root-mac` over the batch, stored beside its first entry. */
  readonly hmac: Uint8Array;
}

/** Bytes plus the columns that filters use; the columns repeat what the body says. */
export interface AppendEntry {
  /** SHA-256(0x00 ‖ body), RFC 6962 leaf hash. */
  readonly leaf: Uint8Array;
  readonly body: Uint8Array;
  readonly index: IndexColumns;
}

/** See `columns.ts`. */
export interface IndexColumns {
  readonly at: Date;
  readonly namespace: string;
  readonly operation: string;
  readonly keyId: string | null;
  readonly keyRef: string | null;
  readonly subject: string;
  readonly outcome: string;
}

export interface StoredEntry {
  readonly lane: number;
  readonly n: number;
  readonly leaf: Uint8Array;
  readonly body: Uint8Array;
  readonly columns: IndexColumns;
}
