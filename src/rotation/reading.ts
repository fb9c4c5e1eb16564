/** What a key's rotation stands on and when it comes next, and what was done: for those who ask. */
import type { Grant } from '../access/grant.ts';
import type { KeyVersion } from '../keyring/model.ts';
import type { KeyRead, KeyView } from '../keyring/operations.ts';
import { isHeld } from '../keyring/rotation-hold.ts';
import type { NamedPolicy } from '../keyring/rotation-hold.ts';
import type { Pause } from '../keyring/rotation-policy.ts';
import { effectivePolicy, inForce } from '../keyring/selector-policy.ts';
import type { EffectivePolicy, SelectorPolicy } from '../keyring/selector-policy.ts';
import { comingActions, dueActions, dueSince, nextDue } from './due.ts';
import type { DueAction } from './due.ts';
import { scheduledKey } from './scheduled-key.ts';
import type {
  NamedRun,
  RunPosition,
  ScheduledRun,
  ScheduleReads,
  ScheduleRow,
  WatchedKey,
  WatchQuery,
} from './scheduler-ports.ts';

/** How long something may be due before it counts as late. */
export const LATE_MS = 3_600_000;

/** Coming actions that are told of one key. */
const COMING = 20;

export interface KeyRotation {
  readonly view: KeyView;
  readonly effective: EffectivePolicy | null;
  /** Why what the policy asks for waits; null where it does not. */
  readonly paused: (Pause & { readonly by: 'policy' | 'namespace' | 'undo' }) | null;
  /** Of everything that is planned; it may lie in the past. Null: nothing is planned. */
  readonly nextAt: Date | null;
  /** What is due by now. */
  readonly due: readonly DueAction[];
  /** What comes after that, the earliest first, `COMING` at most. */
  readonly coming: readonly DueAction[];
  /** Whether something has been due for more than an hour. */
  readonly late: boolean;
  /** Of the last look, by the scheduler. */
  readonly failure: ScheduleRow['failure'];
}

export interface RotationReadParts {
  readonly read: Pick<KeyRead, 'get'>;
  readonly store: ScheduleReads;
  readonly policies: {
    of(
      namespace: string,
    ): Promise<{ readonly policies: readonly SelectorPolicy[]; readonly paused: Pause | null }>;
  };
  readonly clock: () => Date;
}

export class RotationReading {
  readonly #parts: RotationReadParts;

  constructor(parts: RotationReadParts) {
    this.#parts = parts;
  }

  async ofKey(grant: Grant<'keys.read'>): Promise<KeyRotation> {
    const { read, store, policies, clock } = this.#parts;
    const view = await read.get(grant);
    const { id, primary, labels, rotation } = view.key;
    const set = await policies.of(grant.namespace);
    const effective = effectivePolicy(labels, rotation, set.policies);
    const uses = primary === null ? 0 : await store.usesOf(id, primary);
    const winner = effective?.candidates[0] ?? null;
    const facts = { uses, ran: await store.notices(id), policyName: winner?.name ?? null };
    const key = scheduledKey(view.key, view.versions, facts);
    const now = clock();
    const policy = winner && inForce(winner, view.key, set.paused);
    const due = dueActions(key, policy, now);
    return {
      view,
      effective,
      paused: pauseOf(view.key, winner, set.paused),
      nextAt: nextDue(key, policy, now),
      due,
      coming: comingActions(key, policy, now, COMING),
      late: due.some((action) => isLate(action, now)),
      failure: (await store.scheduleOf(id))?.failure ?? null,
    };
  }

  /** Keys of the namespace of which something failed or is late, the longest first. Nothing is verified. */
  watched(
    { namespace }: Grant<'rotations.read'>,
    which: 'failing' | 'late',
    page: Pick<WatchQuery, 'after' | 'limit'>,
  ): Promise<readonly WatchedKey[]> {
    const { store, clock } = this.#parts;
    const query = { namespace, ...page };
    if (which === 'failing') return store.failing(query);
    return store.late({ ...query, until: new Date(clock().getTime() - LATE_MS) });
  }

  /** What was done to the keys of the namespace, newest first. Names are not verified. */
  done(
    { namespace }: Grant<'rotations.read'>,
    page: Pick<WatchQuery, 'after' | 'limit'>,
  ): Promise<readonly NamedRun[]> {
    return this.#parts.store.done({ namespace, ...page });
  }

  /** What was done because it was due, or ordered, or by hand, oldest first. */
  async history(
    grant: Grant<'keys.read'>,
    { after, limit }: { readonly after: RunPosition | null; readonly limit: number },
  ): Promise<{ readonly view: KeyView; readonly runs: readonly HistoryEntry[] }> {
    const { read, store } = this.#parts;
    const view = await read.get(grant);
    const { id } = view.key;
    const made = view.versions
      .filter(({ version }) => version > 1)
      .map(byHand)
      .filter((entry) => after === null || inOrder(after, entry) < 0);
    const asked = made.map(({ version }) => version);
    const others = asked.length === 0 ? new Set() : await store.madeByRuns(id, asked);
    const runs = [
      ...(await store.runsOf(id, after, limit)),
      ...made.filter(({ version }) => !others.has(version)),
    ];
    return { view, runs: runs.toSorted(inOrder).slice(0, limit) };
  }
}

/** One of a run, or of a version that nobody but a caller made. */
export type HistoryEntry = Omit<ScheduledRun, 'keyId' | 'term'>;

/**
 * No row says of a rotation by hand that it was one: what no run made was. It stands where its version was
 * created, which the version's own row attests.
 */
const byHand = ({ version, createdAt }: KeyVersion) => ({
  action: `by-hand/${String(version)}`,
  cause: 'by-hand',
  policyRevision: 0,
  version,
  dueAt: createdAt,
  doneAt: createdAt,
});

/** As the store orders runs: by time, then by bytes. */
const inOrder = (a: RunPosition, b: RunPosition): number =>
  a.doneAt.getTime() - b.doneAt.getTime() ||
  (a.action < b.action ? -1 : Number(a.action > b.action));

/** The namespace's pause is named first, then the policy's: to resume what comes after changes nothing. */
function pauseOf(
  { rotationHold, primary }: KeyView['key'],
  winner: NamedPolicy | null,
  namespace: Pause | null,
): KeyRotation['paused'] {
  if (namespace !== null) return { by: 'namespace', ...namespace };
  if (winner === null) return null;
  const { paused } = winner.policy;
  if (paused !== null) return { by: 'policy', ...paused };
  if (!isHeld(rotationHold, primary, winner)) return null;
  const { at, reason } = rotationHold;
  return { by: 'undo', at, reason };
}

function isLate(action: DueAction, now: Date): boolean {
  const since = dueSince(action);
  return since !== null && now.getTime() - since.getTime() > LATE_MS;
}
