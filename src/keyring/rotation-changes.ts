/** Plans that set, pause, resume or drop a key's own rotation policy. */
import { TwofoldError } from '../errors.ts';
import type { Plan } from './changes.ts';
import { checkReason } from './names.ts';
import type { KeyView, PolicyChange } from './operations.ts';
import {
  newPolicy,
  paused,
  requirePauseAsRead,
  resumed,
  samePolicy,
  upgradeRefusal,
  withTerms,
} from './rotation-policy.ts';
import type { PolicyLimits, RotationPolicy } from './rotation-policy.ts';
import type { RowMac } from './row-mac.ts';
import { planKeyChange, planNothing, standing } from './row-plans.ts';

export interface PolicyParts {
  readonly mac: RowMac;
  readonly clock: () => Date;
  readonly policyLimits: PolicyLimits;
}

/**
 * To resume ends the hold that an undone rotation left as well, also of a policy of the namespace.
 * @throws TwofoldError invalid_value, unknown_suite, not_found, wrong_purpose
 */
export async function planPolicyChange(
  { mac, clock, policyLimits }: PolicyParts,
  view: KeyView,
  change: PolicyChange,
): Promise<Plan> {
  const held = view.key.rotationHold !== null;
  const rotation =
    change.kind === 'resume' && held && view.key.rotation === null
      ? null
      : changed(view, change, clock(), policyLimits);
  const detail = {
    rotation: change.kind,
    ...('reason' in change ? { reason: change.reason } : {}),
    policyRevision: rotation?.revision ?? null,
  };
  const same = samePolicy(rotation, view.key.rotation);
  if (same && (change.kind !== 'resume' || !held)) return planNothing(view, detail);
  // What was undone under the policy before was not undone under this one.
  return planKeyChange(mac, view, { rotation, rotationHold: null }, detail);
}

function changed(
  view: KeyView,
  change: PolicyChange,
  now: Date,
  limits: PolicyLimits,
): RotationPolicy | null {
  const { rotation } = view.key;
  switch (change.kind) {
    case 'set': {
      requirePauseAsRead(rotation, change.isPaused);
      const policy =
        rotation === null
          ? newPolicy(change.terms, limits, firstRevision(view))
          : withTerms(rotation, change.terms, limits);
      requireUpgrade(view, policy);
      return policy;
    }
    case 'delete':
      return null;
    case 'pause':
      checkReason(change.reason);
      return paused(existing(rotation), { at: now, reason: change.reason });
    case 'resume':
      checkReason(change.reason);
      return resumed(existing(rotation));
  }
}

/**
 * Revisions rise for ever, also over a policy that was dropped: what a policy of the same revision once
 * did would count as done by a new one. The key's own revision is above all that went before.
 */
const firstRevision = ({ key }: KeyView): number => key.revision + 1;

function existing(policy: RotationPolicy | null): RotationPolicy {
  if (policy !== null) return policy;
  throw new TwofoldError('not_found', 'The key has no rotation policy of its own.');
}

function requireUpgrade(view: KeyView, { upgrade }: RotationPolicy): void {
  if (upgrade === null) return;
  const { suite } = standing(view);
  const refusal = upgradeRefusal(upgrade.suite, { purpose: view.key.purpose, suite });
  if (refusal !== null) throw new TwofoldError('invalid_value', `upgrade: ${refusal}`);
}
