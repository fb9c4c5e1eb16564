/**
 * The hold that an undone rotation leaves: who went back to an older primary does not want the policy to
 * take the newer one again a second later. It is bound to one revision of one policy, so that a policy
 * that was changed acts again, and to the primary, so that the next one ends it.
 */
import type { CborValue } from '../crypto/cbor.ts';
import { TwofoldError } from '../errors.ts';
import type { Key, KeyVersion, RotationHold } from './model.ts';
import type { RotationPolicy } from './rotation-policy.ts';

/** A policy with its name in the namespace; null for the key's own. */
export interface NamedPolicy {
  readonly name: string | null;
  readonly policy: RotationPolicy;
}

/** Whether the policy waits for an operator. @param primary of the key; null: it has none that is active */
export const isHeld = (
  hold: RotationHold | null,
  primary: number | null,
  { name, policy }: NamedPolicy,
): hold is RotationHold =>
  hold !== null &&
  hold.primary === primary &&
  hold.policy === name &&
  hold.policyRevision === policy.revision;

/** The key without a hold of another primary, which another one ends. */
export const withStandingHold = (key: Key): Key =>
  key.rotationHold === null || key.rotationHold.primary === key.primary
    ? key
    : { ...key, rotationHold: null };

/** Whether making `version` the primary undoes a rotation: a newer one was in use and has not fallen. */
export const isUndo = (version: number, versions: readonly KeyVersion[]): boolean =>
  versions.some(
    (each) =>
      each.version > version &&
      (each.state === 'active' || each.state === 'deactivated' || each.state === 'suspended'),
  );

/** What the row MAC covers. */
export const holdCbor = (hold: RotationHold): CborValue => [
  hold.at.getTime(),
  hold.reason,
  hold.primary,
  hold.policy,
  hold.policyRevision,
];

export interface HoldJson {
  readonly at: string;
  readonly reason: string;
  readonly primary: number;
  readonly policy: string | null;
  readonly policyRevision: number;
}

export const holdJson = ({ at, ...hold }: RotationHold): HoldJson => ({
  at: at.toISOString(),
  reason: hold.reason,
  primary: hold.primary,
  policy: hold.policy,
  policyRevision: hold.policyRevision,
});

/** @throws TwofoldError integrity_failed for a member too many, too few or of another kind */
export function holdFromJson(json: unknown): RotationHold {
  const { at, reason, primary, policy, policyRevision, ...more } = (json ?? {}) as Partial<
    Record<keyof HoldJson, unknown>
  >;
  const time = new Date(typeof at === 'string' ? at : Number.NaN);
  const sound =
    Object.keys(more).length === 0 &&
    !Number.isNaN(time.getTime()) &&
    time.toISOString() === at &&
    typeof reason === 'string' &&
    Number.isSafeInteger(primary) &&
    (policy === null || typeof policy === 'string') &&
    Number.isSafeInteger(policyRevision);
  if (!sound) throw new TwofoldError('integrity_failed', 'A stored hold of a policy is malformed.');
  return {
    at: time,
    reason,
    primary: primary as number,
    policy,
    policyRevision: policyRevision as number,
  };
}
