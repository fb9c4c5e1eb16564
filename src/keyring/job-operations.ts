/** Work that takes many requests, as the routes call it; what it stands on is `keyring/operations.ts`. */
import type { Grant } from '../access/grant.ts';
import type { AuditDraft, AuditId } from '../audit/ports.ts';
import type { EpochStanding } from '../epoch.ts';
import type { ChangeDone, ChangeRun } from './operations.ts';
import type { OperationIdentity, OperationProgress, OperationQuery } from './ports.ts';

/** An operation as it stands; `expired` is a running one that was silent for too long. */
export type OperationView = OperationIdentity &
  Omit<OperationProgress, 'state'> & { readonly state: OperationProgress['state'] | 'expired' };

/** With it operations of others are seen too; null confines a principal to its own. */
export type Overseeing = Grant<'operations.oversee' | 'root.read'> | null;

/** A step that was worked out and is not taken yet. */
export interface OperationStep {
  /** The operation as it stands once the step is taken. */
  readonly after: OperationView;
  /**
   * Takes the step together with its audit entry. @throws StaleAnswer when the operation moved or a
   * change overtook it: the request runs again, from its authorization.
   */
  readonly take: (draft: AuditDraft, standing: EpochStanding) => Promise<AuditId>;
}

export interface RewrapJobInput {
  /** How many items there will be, where that is known. */
  readonly total: number | null;
  readonly rate: number;
  readonly note: string | null;
  /** How many running operations the principal may have. */
  readonly running: number;
}

/** A rewrap job whose next items may come. */
export interface RewrapJob {
  readonly view: OperationView;
  /** Keys as its creator named them, for the grants that each request takes. */
  readonly key: string;
  readonly to: string | null;
}

/** What the items of a request came to. */
export interface Moved {
  readonly offset: number;
  /** Of each item, in order. */
  readonly outcomes: readonly ('succeeded' | 'unchanged' | 'failed')[];
}

export type OperationRun = Omit<ChangeRun, 'ifMatch' | 'render'> & {
  readonly render: (view: OperationView) => { readonly status: number; readonly body: string };
};

/**
 * Work that outlasts one request. An operation is no permission: who continues it is asked for every
 * grant anew. `not_found` for those of other principals and namespaces.
 */
export interface LongOperations {
  get(grant: Grant<'operations.read'>, overseeing: Overseeing, id: string): Promise<OperationView>;
  /** Newest first. */
  list(
    grant: Grant<'operations.read'>,
    overseeing: Overseeing,
    query: Pick<OperationQuery, 'kind' | 'state' | 'pageSize'> & { readonly after: string | null },
  ): Promise<{ readonly items: readonly OperationView[]; readonly next: string | null }>;
  /** The same again changes nothing. `operation_ended` for one that ended otherwise. */
  cancel(
    grant: Grant<'operations.cancel'>,
    overseeing: Overseeing,
    input: { readonly id: string; readonly reason: string },
  ): Promise<OperationStep>;
  /** `quota_exceeded` when the principal has too many running operations. */
  createRewrapJob(
    grant: Grant<'rewrap-jobs.create'>,
    keys: { readonly from: Grant<'rewrap'>; readonly to: Grant<'rewrap'> | null },
    input: RewrapJobInput,
    run: OperationRun,
  ): Promise<ChangeDone>;
  /**
   * The creator's job, if it may go on from here. `conflict` for an offset beyond what is done,
   * `operation_ended`, `invalid_value` for more items than were announced.
   */
  openRewrapJob(
    grant: Grant<'rewrap-jobs.continue'>,
    next: { readonly id: string; readonly offset: number; readonly items: number },
  ): Promise<RewrapJob>;
  /**
   * Whether the keys are those of the job and can be used, and its rate has room: `conflict`,
   * `version_not_usable`, `rate_limited`.
   */
  admitRewrap(
    grant: Grant<'rewrap'>,
    to: Grant<'rewrap'> | null,
    job: RewrapJob,
    items: number,
  ): Promise<void>;
  /** Counts the items that were not counted before. */
  advanceRewrapJob(
    grant: Grant<'rewrap-jobs.continue'>,
    job: RewrapJob,
    moved: Moved,
  ): OperationStep;
  /** The same again changes nothing. */
  finishRewrapJob(grant: Grant<'rewrap-jobs.continue'>, id: string): Promise<OperationStep>;
}
