/**
 * Operations of every kind: work that outlasts one request. What a kind is and does stands beside this
 * (`rewrap-jobs.ts`); here is how its row is made, read, and moved on.
 *
 * A step and its audit entry commit together (promise P3) and under the epoch barrier like any answer
 * (promise P5), but raise no epoch: no other answer stands on an operation, which permits nothing.
 */
import { randomUUID } from 'node:crypto';

import type { Grant, Operation, Principal } from '../access/grant.ts';
import { StaleAnswer } from '../audit/ports.ts';
import type { AuditDraft, AuditId, CommitOutcome } from '../audit/ports.ts';
import type { EpochStanding } from '../epoch.ts';
import { TwofoldError } from '../errors.ts';
import { isUuid } from '../crypto/uuid.ts';
import { Changes, plainPlan } from './changes.ts';
import type { ChangeParts, ChangeSubject } from './changes.ts';
import { inTurns } from './in-turns.ts';
import type { ChangeDone, PreparedChange } from './operations.ts';
import { ORDER_KIND } from './order-ports.ts';
import type { OperationRun, OperationStep, OperationView, Overseeing } from './job-operations.ts';
import type {
  OperationIdentity,
  OperationProgress,
  OperationQuery,
  OperationStore,
  OperationWrite,
  StoredOperation,
} from './ports.ts';
import { attestOperation, verifyOperation } from './row-mac.ts';

const DAY_MS = 86_400_000;
/** A running operation that takes no step for so long is over. */
export const SILENCE_MS = 30 * DAY_MS;
const OVERTAKEN_LIMIT = 20;
/** How long a step waits for those before it. */
const PATIENCE_MS = 10_000;
const VERIFIED_AT_ONCE = 16;

export interface OperationParts extends ChangeParts {
  readonly operations: OperationStore;
  readonly clock: () => Date;
}

/** The change that an operation begins with: its entry names the operation. */
type Begun = Pick<PreparedChange, 'detail'>;

/** What a kind says of a new operation. */
export type NewOperation = Pick<OperationIdentity, 'kind' | 'keyId' | 'request' | 'rate'> &
  Pick<OperationProgress, 'counts'>;

/** What a step changes. */
export type NextProgress = Partial<
  Pick<OperationProgress, 'state' | 'reason' | 'position' | 'counts'>
>;

export class OperationBook {
  readonly #parts: OperationParts;
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  /** @throws TwofoldError not_found for what is another's, unless overseen */
  async get(
    { namespace, principal }: Grant<Operation>,
    overseeing: Overseeing,
    id: string,
  ): Promise<OperationView> {
    const stored = isUuid(id) ? await this.#find(namespace, id) : null;
    if (stored === null) throw new TwofoldError('not_found');
    const own = isOwn(stored.identity.value, principal);
    if (!own && overseeing?.namespace !== namespace) throw new TwofoldError('not_found');
    const [view] = await this.#told([this.#view(stored)]);
    if (view === undefined) throw new TwofoldError('internal');
    return view;
  }

  async list(
    { namespace, principal }: Grant<Operation>,
    overseeing: Overseeing,
    query: Pick<OperationQuery, 'kind' | 'state' | 'pageSize'> & { readonly after: string | null },
  ): Promise<{ readonly items: readonly OperationView[]; readonly next: string | null }> {
    const { issuer, subject } = principal;
    const { pageSize } = query;
    const stored = await this.#parts.operations.list({
      ...query,
      namespace,
      creator: overseeing?.namespace === namespace ? null : { issuer, subject },
      now: this.#parts.clock(),
      pageSize: pageSize + 1,
      after: placeOf(query.after),
    });
    const shown = stored.slice(0, pageSize);
    await inTurns(shown, VERIFIED_AT_ONCE, ({ identity }) =>
      verifyOperation(this.#parts.mac, identity),
    );
    const items = await this.#told(shown.map((one) => this.#view(one)));
    const last = stored.length > pageSize ? items.at(-1) : undefined;
    return { items, next: last === undefined ? null : placeText(last) };
  }

  /** Makes one, with its idempotency record; `change` is what the entry says of what it is about. */
  async create<C extends Begun>(
    grant: Grant<Operation>,
    run: OperationRun,
    { subject, running }: { readonly subject: ChangeSubject<C>; readonly running: number },
    plan: () => Promise<{ readonly made: NewOperation; readonly change: C }>,
  ): Promise<ChangeDone<C>> {
    const { operations, store } = this.#parts;
    let planned: StoredOperation | undefined;
    const current = (): StoredOperation => {
      if (planned === undefined) throw new TwofoldError('internal');
      return planned;
    };
    const changes = new Changes(
      {
        ...this.#parts,
        store: {
          findIdempotent: (...key) => store.findIdempotent(...key),
          commit: ({ epoch, entry, idempotency }) => {
            const write = { kind: 'insert', operation: current(), running } as const;
            return operations.commit({ epoch, entry, idempotency, write });
          },
        },
      },
      subject,
    );
    const render = () => run.render(this.#view(current()));
    return changes.run(grant, { ...run, ifMatch: null, render }, async () => {
      const { made, change } = await plan();
      planned = await this.#stored(grant, made);
      const operationId = planned.identity.value.id;
      return plainPlan({ ...change, detail: { operationId, ...change.detail } }, []);
    });
  }

  /** A new one, for who writes it in a change of his own. */
  async prepare(
    grant: Grant<Operation>,
    made: NewOperation,
  ): Promise<{ readonly stored: StoredOperation; readonly view: OperationView }> {
    const stored = await this.#stored(grant, made);
    return { stored, view: this.#view(stored) };
  }

  /** The step from what was read to what comes next. @throws TwofoldError operation_ended */
  step(from: OperationView, next: NextProgress): OperationStep {
    if (from.state !== 'running') throw endedError(from);
    const now = this.#parts.clock();
    const { state, reason, position, counts, revision } = from;
    const progress: OperationProgress = {
      state,
      reason,
      position,
      counts,
      ...next,
      updatedAt: now,
      expiresAt: new Date(now.getTime() + SILENCE_MS),
      revision: revision + 1,
    };
    const write = { kind: 'advance', id: from.id, progress, expected: revision } as const;
    return {
      after: { ...from, ...progress },
      take: (draft, standing) => this.#inTurn(() => this.#commit(write, draft, standing)),
    };
  }

  /** A step that leaves everything as it is: only its entry is written. */
  stay(view: OperationView): OperationStep {
    return { after: view, take: (draft, standing) => this.#parts.audit.record(draft, standing) };
  }

  /** @throws TwofoldError rate_limited */
  async pace({ id }: OperationView, items: number): Promise<void> {
    const wait = await this.#parts.operations.pace(id, items);
    if (wait === 0) return;
    const retryAfter = Math.ceil(wait / 1000);
    throw new TwofoldError('rate_limited', 'The operation is at its rate.', { retryAfter });
  }

  #find(namespace: string, id: string): Promise<StoredOperation | null> {
    const { operations, integrity, mac } = this.#parts;
    return integrity.over(`operation ${id}`, async () => {
      const stored = await operations.find(namespace, id);
      if (stored === null) return null;
      await verifyOperation(mac, stored.identity);
      const { value } = stored.identity;
      if (value.id === id && value.namespace === namespace) return stored;
      throw new TwofoldError('integrity_failed', 'The record of an operation was altered.');
    });
  }

  /** With how far the scheduler is with those that it carries out. */
  async #told(views: readonly OperationView[]): Promise<readonly OperationView[]> {
    const ids = views.filter(({ kind }) => kind === ORDER_KIND).map(({ id }) => id);
    if (ids.length === 0) return views;
    const tallies = await this.#parts.operations.tallies(ids);
    return views.map((view) => ({ ...view, ...tallies.get(view.id) }));
  }

  #view({ identity, progress }: StoredOperation): OperationView {
    const over = progress.state === 'running' && progress.expiresAt <= this.#parts.clock();
    return { ...identity.value, ...progress, ...(over ? { state: 'expired' as const } : {}) };
  }

  async #stored(grant: Grant<Operation>, made: NewOperation): Promise<StoredOperation> {
    const { counts, ...asked } = made;
    const { issuer, subject } = grant.principal;
    const now = this.#parts.clock();
    const identity = {
      ...asked,
      id: randomUUID(),
      namespace: grant.namespace,
      issuer,
      subject,
      createdAt: now,
    };
    return {
      identity: await attestOperation(this.#parts.mac, identity),
      progress: {
        state: 'running',
        reason: null,
        position: 0,
        counts,
        updatedAt: now,
        expiresAt: new Date(now.getTime() + SILENCE_MS),
        revision: 1,
      },
    };
  }

  /**
   * One step at a time, so that however many wait, a change of a key (a suspension) waits for one of
   * them at most: they share the lane of changes.
   */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const asked = performance.now();
    const turn = this.#last.then(() => {
      if (performance.now() - asked <= PATIENCE_MS) return work();
      throw new TwofoldError('database_unavailable', 'Too many steps wait.', { retryAfter: 1 });
    });
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** Stands on what the request did: a change that touched it, or another step, makes it run again. */
  async #commit(
    write: OperationWrite,
    draft: AuditDraft,
    standing: EpochStanding,
  ): Promise<AuditId> {
    const { audit, epoch, operations, refreshEpoch } = this.#parts;
    for (let overtaken = 0; overtaken < OVERTAKEN_LIMIT; overtaken += 1) {
      if (epoch.touches(standing)) throw new StaleAnswer();
      try {
        const { auditId } = await audit.change(draft, async (entry): Promise<CommitOutcome> => {
          if (epoch.touches(standing)) return { stale: epoch.current };
          return operations.commit({ epoch: entry.epoch, write, entry, idempotency: null });
        });
        return auditId;
      } catch (error) {
        if (TwofoldError.is(error, 'conflict')) throw new StaleAnswer();
        if (!(error instanceof StaleAnswer)) throw error;
        await refreshEpoch();
      }
    }
    throw new StaleAnswer();
  }
}

export const isOwn = (
  { issuer, subject }: Pick<OperationIdentity, 'issuer' | 'subject'>,
  principal: Principal,
): boolean => issuer === principal.issuer && subject === principal.subject;

/** Of one that takes no further steps. */
export const endedError = ({ state }: OperationView): TwofoldError =>
  new TwofoldError('operation_ended', `The operation is ${state}.`);

const placeText = ({ createdAt, id }: OperationView): string => `${createdAt.getTime()} ${id}`;

/** Only from an authenticated page token. */
function placeOf(text: string | null): OperationQuery['after'] {
  if (text === null) return null;
  const [time, id = ''] = text.split(' ');
  return { createdAt: new Date(Number(time)), id };
}
