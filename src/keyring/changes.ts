/**
 * How a change takes effect: effect, audit entry, security change and idempotency record in one
 * transaction, under the epoch barrier (promises P3 and P5). The plan is made before, so that no
 * HSM call runs while the barrier is held.
 */
import { createHash } from 'node:crypto';

import type { Grant, Operation } from '../access/grant.ts';
import { NO_CIRCUMSTANCES, StaleAnswer, actorOf } from '../audit/ports.ts';
import type { AuditDraft, AuditLog, CommitOutcome, PreparedEntry } from '../audit/ports.ts';
import type { EpochStanding, SecurityEpoch } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { OutcomeUnknown } from '../outcome.ts';
import { changeFacts } from './change-facts.ts';
import { eventsOf } from './events.ts';
import type { ChangeEvent } from './events.ts';
import type { ChangeDone, ChangeRun, PreparedChange } from './operations.ts';
import type { IntegrityWatch } from './integrity.ts';
import type { IdempotencyRecord, KeyStore, KeyWrite } from './ports.ts';
import { attestIdempotency, verifyIdempotency } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';

/** How often a change is committed again after unrelated changes overtook it. */
const OVERTAKEN_LIMIT = 20;

/** A change that is ready: what it writes, and how to undo what it made outside the database. */
export interface Plan<C = PreparedChange> {
  readonly change: C;
  readonly writes: readonly KeyWrite[];
  /** Never rejects: what it could not remove, the intent names for the next start. */
  readonly discard: () => Promise<void>;
  /** What is done outside the database once the change is durable. Never rejects. */
  readonly settle?: () => Promise<void>;
}

export interface ChangeParts {
  readonly store: KeyStore;
  readonly audit: AuditLog;
  readonly epoch: SecurityEpoch;
  /** Reads the changes that other instances committed into `epoch`. */
  readonly refreshEpoch: () => Promise<void>;
  readonly mac: RowMac;
  readonly integrity: IntegrityWatch;
}

/** Of the store, what a change itself asks for. */
type CommitParts = Omit<ChangeParts, 'store'> & {
  readonly store: Pick<KeyStore, 'commit' | 'findIdempotent'>;
};

const NO_DISCARD = () => Promise.resolve();

/** A plan that writes rows and makes nothing else. */
export function plainPlan<C>(change: C, writes: readonly KeyWrite[]): Plan<C> {
  return { change, writes, discard: NO_DISCARD };
}

/** Whoever stands on a key by one of its aliases stands on the key. */
function alsoTouched({ before, after, also = [] }: PreparedChange): readonly string[] {
  return [...new Set([...(before?.key.aliases ?? []), ...after.key.aliases, ...also])];
}

/** What a kind of change is about: for its audit entry, and for what stands on it. */
export interface ChangeSubject<C> {
  /** By which caches and pending answers know it; a name that no key can have is about no key. */
  readonly touched: (change: C) => Touched;
  readonly facts: (
    change: C,
  ) => Pick<AuditDraft, 'keyRef' | 'keyId' | 'keyVersion' | 'suite' | 'detail'>;
  /** What followers are told. */
  readonly events: (operation: Operation, change: C) => readonly ChangeEvent[];
  /** The change as a dry run shows it. */
  readonly preview?: (operation: Operation, change: C) => Promise<C>;
}

interface Touched {
  readonly keyId: string | null;
  readonly keyName: string;
  readonly also: readonly string[];
  /** What stands on it beside the keys named: all of its namespace, or all of the installation. */
  readonly reach?: 'namespace' | 'installation';
}

/** As it is recorded for those who have to learn of it. */
function scopeOf(namespace: string, { keyId, keyName, also, reach }: Touched) {
  const touched = { keyId, keyName, also };
  if (reach === undefined) return { scope: 'key', namespace, ...touched } as const;
  const where = reach === 'installation' ? '' : namespace;
  return { scope: 'access', namespace: where, ...touched } as const;
}

/** A change of access that changes another set too is not of its own kind alone: what holds any looks anew. */
function widened(scope: ReturnType<typeof scopeOf>, alongside: readonly KeyWrite[]) {
  const changesSets = alongside.some(({ kind }) => kind === 'put-seal');
  return scope.scope === 'access' && changesSets ? { ...scope, keyName: null } : scope;
}

/** Changes of keys and of their versions. */
export const OF_KEYS: ChangeSubject<PreparedChange> = {
  touched: (change) => ({
    keyId: change.used.keyId,
    keyName: change.used.key,
    also: alsoTouched(change),
  }),
  facts: (change) => ({
    keyRef: change.used.key,
    keyId: change.used.keyId,
    keyVersion: change.used.keyVersion,
    suite: change.used.suiteNumber,
    detail: { ...change.detail, ...changeFacts(change) },
  }),
  events: eventsOf,
};

function principalHash(grant: Grant<Operation>): Uint8Array {
  const { issuer, subject } = grant.principal;
  return createHash('sha256')
    .update(JSON.stringify([issuer, subject]))
    .digest();
}

/** The entry of what the service did under the grant. */
export function draftOf(
  grant: Grant<Operation>,
  run: Pick<ChangeRun, 'requestId' | 'source' | 'because' | 'request'>,
  facts: ReturnType<ChangeSubject<unknown>['facts']>,
): AuditDraft {
  const approval = run.because?.['approval'];
  return {
    ...NO_CIRCUMSTANCES,
    ...run.request?.(),
    approvalId: typeof approval === 'string' ? approval : null,
    requestId: run.requestId,
    actor: actorOf(grant.principal),
    operation: grant.operation,
    namespace: grant.namespace,
    ...facts,
    detail: { ...facts.detail, ...run.because },
    keyRef: grant.key ?? facts.keyRef,
    outcome: 'ok',
    decision: { revision: grant.decision.revision, policies: grant.decision.policies },
    source: run.source,
    contextKeys: [],
    contextValues: null,
    aad: null,
    loggedContext: {},
    items: [],
  };
}

/** What followers are told of the change, in its own transaction. */
function eventWrites(
  { namespace }: Grant<Operation>,
  events: readonly ChangeEvent[],
  auditId: string,
): readonly KeyWrite[] {
  return events.map((event) => ({
    kind: 'insert-event',
    event: { ...event, namespace, auditId },
  }));
}

/** Whether nothing was written for certain; an outcome that may still become durable is none. */
function certainlyNotWritten(error: unknown): boolean {
  if (error instanceof OutcomeUnknown) return false;
  return (
    error instanceof StaleAnswer || (TwofoldError.is(error) && error.code !== 'audit_unavailable')
  );
}

/** Which refusals a request can meet because its own first attempt was written. */
const OF_OWN_SUCCESS: readonly ErrorCode[] = [
  'etag_mismatch',
  'precondition_required',
  'not_found',
  'key_exists',
  'already_exists',
  'approval_used',
  'approval_ended',
];

const isOfOwnSuccess = (error: unknown): boolean =>
  TwofoldError.is(error) && OF_OWN_SUCCESS.includes(error.code);

export class Changes<C> {
  readonly #parts: CommitParts;
  readonly #subject: ChangeSubject<C>;

  constructor(parts: CommitParts, subject: ChangeSubject<C>) {
    this.#parts = parts;
    this.#subject = subject;
  }

  /**
   * Answers a repeated request from its record; else plans, and commits unless it is a dry run. What it is
   * refused because it was written before is said only once every instance knows what was written.
   * @throws StaleAnswer when another change touched the key meanwhile (run again from authorization)
   */
  async run(
    grant: Grant<Operation>,
    run: ChangeRun<C>,
    plan: () => Promise<Plan<C>>,
  ): Promise<ChangeDone<C>> {
    const replayed = await this.#replay(grant, run);
    if (replayed !== null) return replayed;
    let planned: Plan<C>;
    try {
      run.admit?.();
      planned = await plan();
    } catch (error) {
      // The first attempt of this very request may have succeeded meanwhile, and made planning fail.
      const done = TwofoldError.is(error) ? await this.#replay(grant, run) : null;
      if (done !== null) return done;
      // It may have been written and never acknowledged: who hears this knows that what stands holds.
      if (!run.dryRun && isOfOwnSuccess(error)) await this.#heard(TwofoldError.from(error));
      throw error;
    }
    const { change } = planned;
    if (run.dryRun) {
      await planned.discard();
      const shown = (await this.#subject.preview?.(grant.operation, change)) ?? change;
      return { change, ...run.render(shown), auditId: null, replayed: false };
    }
    try {
      const done = await this.#commit(grant, run, planned);
      await planned.settle?.();
      return done;
    } catch (error) {
      if (certainlyNotWritten(error)) await planned.discard();
      throw error;
    }
  }

  /** @throws TwofoldError audit_unavailable: this one is refused, whatever became of one before it */
  async #heard(refusal: TwofoldError): Promise<void> {
    try {
      await this.#parts.audit.confirmed();
    } catch (cause) {
      throw new TwofoldError(
        'audit_unavailable',
        `The change is refused (${refusal.code}), and nothing of it is written. If it was sent before, an instance ` +
          'may not have heard of what was written then. Repeat it: the answer comes once all have.',
        { cause, retryAfter: 1 },
      );
    }
  }

  async #replay(grant: Grant<Operation>, run: ChangeRun<C>): Promise<ChangeDone<C> | null> {
    if (run.idempotency === null || run.dryRun) return null;
    const { key, requestHash } = run.idempotency;
    const found = await this.#recorded(grant, key);
    if (found === null) return null;
    if (!Buffer.from(requestHash).equals(found.requestHash)) {
      throw new TwofoldError('idempotency_mismatch');
    }
    // It may have been written and never acknowledged, because an instance had not heard of it.
    await this.#parts.audit.confirmed();
    const { status, body, auditId } = found;
    return { change: null, status, body, auditId, replayed: true };
  }

  /** @throws TwofoldError integrity_failed */
  #recorded(grant: Grant<Operation>, key: string): Promise<IdempotencyRecord | null> {
    const { store, mac, integrity } = this.#parts;
    const { namespace } = grant;
    const principal = principalHash(grant);
    const what = JSON.stringify(['idempotency', namespace, [...principal], key]);
    return integrity.over(what, async () => {
      const stored = await store.findIdempotent(namespace, principal, key);
      if (stored === null) return null;
      await verifyIdempotency(mac, stored);
      return stored.value;
    });
  }

  /** Stands on the grant: what has changed since the request was authorized sends it back there. */
  async #commit(grant: Grant<Operation>, run: ChangeRun<C>, plan: Plan<C>): Promise<ChangeDone<C>> {
    const { epoch, refreshEpoch } = this.#parts;
    const { keyId, keyName } = this.#subject.touched(plan.change);
    const { namespace } = grant;
    const standing: EpochStanding = { epoch: grant.epoch, namespace, keyId, keyName };
    for (let overtaken = 0; overtaken < OVERTAKEN_LIMIT; overtaken++) {
      if (epoch.touches(standing)) throw new StaleAnswer();
      try {
        return await this.#attempt(grant, run, plan, standing);
      } catch (error) {
        if (!(error instanceof StaleAnswer)) throw error;
        await refreshEpoch();
      }
    }
    throw new TwofoldError('conflict', 'Other changes kept overtaking this one.');
  }

  async #attempt(
    grant: Grant<Operation>,
    run: ChangeRun<C>,
    plan: Plan<C>,
    standing: EpochStanding,
  ): Promise<ChangeDone<C>> {
    const { audit, epoch, refreshEpoch, store } = this.#parts;
    const { change, writes } = plan;
    const { status, body } = run.render(change);
    const { namespace } = standing;
    const scope = widened(scopeOf(namespace, this.#subject.touched(change)), run.alongside ?? []);
    const commit = async (entry: PreparedEntry): Promise<CommitOutcome> => {
      // The change waited for its turn: what was learnt meanwhile may have touched it.
      if (epoch.touches(standing)) return { stale: epoch.current };
      const auditId = `${String(entry.lane)}-${String(entry.n)}`;
      const record = this.#record(grant, run, { status, body, auditId });
      const idempotency = record === null ? null : await attestIdempotency(this.#parts.mac, record);
      const told = eventWrites(grant, this.#subject.events(grant.operation, change), auditId);
      const all = [...writes, ...(run.alongside ?? []), ...told];
      const written = { epoch: entry.epoch, writes: all, entry, scope, idempotency };
      const outcome = await store.commit(written);
      // Answers under way meet the raised epoch at once: what is known here need not be read for them.
      if ('epoch' in outcome && outcome.epoch === epoch.current + 1) {
        epoch.advance([{ ...scope, epoch: outcome.epoch }]);
      }
      return outcome;
    };
    const { auditId, result } = await audit.change(
      draftOf(grant, run, this.#subject.facts(change)),
      commit,
    );
    // It is done, whatever happens now. Until the epoch is learnt, appends under the old one fail.
    if (epoch.current < result.epoch) await refreshEpoch().catch(() => undefined);
    return { change, status, body, auditId, replayed: false };
  }

  #record(
    grant: Grant<Operation>,
    run: ChangeRun<C>,
    answer: { readonly status: number; readonly body: string; readonly auditId: string },
  ): IdempotencyRecord | null {
    if (run.idempotency === null) return null;
    const { key, requestHash } = run.idempotency;
    return {
      namespace: grant.namespace,
      principal: principalHash(grant),
      key,
      requestHash,
      ...answer,
    };
  }
}
