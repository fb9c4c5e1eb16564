/** What a key's rotation stands on and when it comes next, and what was done: for those who ask. */
import type { Grant } from '../access/grant.ts';
import type { KeyRead, KeyView } from '../keyring/operations.ts';
import { effectivePolicy } from '../keyring/selector-policy.ts';
import type { EffectivePolicy, SelectorPolicy } from '../keyring/selector-policy.ts';
import { dueActions, nextDue } from './due.ts';
import type { DueAction } from './due.ts';
import { scheduledKey } from './scheduled-key.ts';
import type { RunPosition, ScheduledRun, ScheduleReads, ScheduleRow } from './scheduler-ports.ts';

/** How long something may be due before it counts as late. */
export const LATE_MS = 3_600_000;

export interface KeyRotation {
  readonly view: KeyView;
  readonly effective: EffectivePolicy | null;
  /** Of everything that is planned; it may lie in the past. Null: nothing is planned. */
  readonly nextAt: Date | null;
  /** What is due by now. */
  readonly due: readonly DueAction[];
  /** Whether something has been due for more than an hour. */
  readonly late: boolean;
  /** Of the last look, by the scheduler. */
  readonly failure: ScheduleRow['failure'];
}

export interface RotationReadParts {
  readonly read: Pick<KeyRead, 'get'>;
  readonly store: ScheduleReads;
  readonly policies: {
    of(namespace: string): Promise<{ readonly policies: readonly SelectorPolicy[] }>;
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
    const key = scheduledKey(view.key, view.versions, { uses, noticed: await store.notices(id) });
    const now = clock();
    const policy = effective?.policy ?? null;
    const due = dueActions(key, policy, now);
    return {
      view,
      effective,
      nextAt: nextDue(key, policy, now),
      due,
      late: due.some(({ dueAt }) => now.getTime() - dueAt.getTime() > LATE_MS),
      failure: (await store.scheduleOf(id))?.failure ?? null,
    };
  }

  /** What was done because it was due, oldest first. */
  async history(
    grant: Grant<'keys.read'>,
    page: { readonly after: RunPosition | null; readonly limit: number },
  ): Promise<{ readonly view: KeyView; readonly runs: readonly ScheduledRun[] }> {
    const view = await this.#parts.read.get(grant);
    return { view, runs: await this.#parts.store.runsOf(view.key.id, page.after, page.limit) };
  }
}
