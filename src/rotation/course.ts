/**
 * The first rotation that is ahead of a key, with what was set in advance: a version that takes the
 * primary's place at its time, and the end of the primary. What comes first decides; after the first
 * rotation nothing of it matters, since the new version is above all that waited.
 */
import type { RotationPolicy } from '../keyring/rotation-policy.ts';
import { nextRotation } from './next-rotation.ts';
import type { PlannedRotation, RotationFacts } from './next-rotation.ts';
import type { LightKey } from './ports.ts';

/** Times in milliseconds since the epoch. */
export interface Course {
  /** As they are when the rotation comes. */
  readonly facts: RotationFacts;
  /** Null where nothing rotates the key, or its primary ends before. */
  readonly planned: PlannedRotation | null;
  /** When the waiting version takes the primary's place; null where it does not. */
  readonly activatedAt: number | null;
  /** When the key loses its primary, be it for a while; null where another is in its place by then. */
  readonly endsAt: number | null;
}

/** @param now milliseconds since the epoch; what is due runs then */
export function courseOf(key: LightKey, policy: RotationPolicy | null, now: number): Course {
  const { primary, next } = key;
  const planned = nextRotation(key, policy);
  if (next === null && (primary === null || primary.deactivateAt === null)) {
    return { facts: key, planned, activatedAt: null, endsAt: null };
  }
  const rotatesAt = planned === null ? Infinity : Math.max(planned.dueAt, now);
  const activatesAt = next === null ? Infinity : Math.max(next.activateAt, now);
  const end = primary?.deactivateAt ?? Infinity;
  const endsAt = Math.max(end, now) < Math.min(rotatesAt, activatesAt) ? end : null;
  // An ended primary is not rotated; the waiting version leads the key whenever it comes.
  if (next !== null && (activatesAt <= rotatesAt || endsAt !== null)) {
    const { suite } = next;
    const facts = { ...key, primary: { suite, activatedAt: activatesAt, uses: 0 } };
    return { facts, planned: nextRotation(facts, policy), activatedAt: activatesAt, endsAt };
  }
  return { facts: key, planned: endsAt === null ? planned : null, activatedAt: null, endsAt };
}

/** Whether the policy rotates by uses and by nothing else that is still to come. */
export const isByUseAlone = (policy: RotationPolicy | null): boolean =>
  policy !== null && policy.paused === null && policy.maxUses !== null;
