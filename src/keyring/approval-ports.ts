/** Approvals as their storage keeps them. */
import type { Attested } from './attested.ts';

/** Somebody who approved, as their token said then. */
export interface Approver {
  readonly issuer: string;
  readonly subject: string;
  readonly method: string;
  readonly roles: readonly string[];
  readonly at: Date;
  /** Null where policies permitted the consent without. */
  readonly circumstances: ConsentCircumstances | null;
}

/** How somebody who approved had been authenticated, and by which group their connection agreed its key. */
export interface ConsentCircumstances {
  readonly acr: string | null;
  readonly amr: readonly string[];
  readonly tlsGroup: string | null;
}

export const APPROVAL_STATES = ['pending', 'approved', 'denied', 'withdrawn', 'executed'] as const;
export type ApprovalState = (typeof APPROVAL_STATES)[number];

/** A request that waits for others' consent, and what became of it. */
export interface Approval {
  readonly id: string;
  readonly namespace: string;
  readonly requester: { readonly issuer: string; readonly subject: string };
  /** The operation that was asked for, and the names under which rules guard it. */
  readonly operation: string;
  readonly guards: readonly string[];
  /** The rule that the request would weaken; null where it is about none. */
  readonly rule: string | null;
  readonly method: string;
  /** As they arrived; the query without its `?`, empty where there is none. */
  readonly path: string;
  readonly query: string;
  /** Of the revision that it is for; null without one. */
  readonly ifMatch: string | null;
  /** SHA-256 of the canonical body, and of all of the request with its namespace. */
  readonly bodyHash: Uint8Array;
  readonly requestHash: Uint8Array;
  /** JSON of what a dry run of the request answered. */
  readonly preview: string;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly state: ApprovalState;
  /** Why it was denied or withdrawn. */
  readonly reason: string | null;
  readonly approvers: readonly Approver[];
  /** When it was executed, denied or withdrawn. */
  readonly endedAt: Date | null;
  readonly revision: number;
}

/** Open ones that there may be at once. */
export interface OpenBounds {
  readonly ofNamespace: number;
  readonly ofPrincipal: number;
}

export type ApprovalWrite =
  /** `quota_exceeded` where too many are open. */
  | {
      readonly kind: 'insert-approval';
      readonly row: Attested<Approval>;
      readonly bounds: OpenBounds;
    }
  /** `conflict` unless it is at the revision `expected`. */
  | {
      readonly kind: 'update-approval';
      readonly row: Attested<Approval>;
      readonly expected: number;
    };

export interface ApprovalQuery {
  readonly namespace: string;
  /** `expired`: it was open when its time ended. */
  readonly state: ApprovalState | 'expired' | null;
  readonly now: Date;
  readonly pageSize: number;
  /** Older than this one. */
  readonly after: { readonly createdAt: Date; readonly id: string } | null;
}

/** Rows come back with their MAC unverified. */
export interface ApprovalStore {
  /** Read in a transaction that commits, which no old primary can. */
  find(namespace: string, id: string): Promise<Attested<Approval> | null>;
  /** The newest open one of the very request. */
  findOpen(
    namespace: string,
    requester: Approval['requester'],
    requestHash: Uint8Array,
    now: Date,
  ): Promise<Attested<Approval> | null>;
  /** Newest first. */
  list(query: ApprovalQuery): Promise<readonly Attested<Approval>[]>;
}
