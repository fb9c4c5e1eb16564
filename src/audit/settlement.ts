/**
 * Settling a change whose commit has an unknown outcome, by the place of its entry: (lane, n) is a
 * primary key.
 *
 * That the entry is absent proves nothing, because a late commit may still land as long as its
 * backend lives. Closing the lane would prove it only if closing waited for that backend. Sending
 * the change again would mean that an effect can appear after its caller has been told that it
 * failed. So the place is taken: another entry, which says that the change was not written, is
 * appended at the same (lane, n). Exactly one of the two can ever stand there, and when it is the
 * second, the late commit must fail as a whole, effect included.
 */
import { ERRORS, TwofoldError } from '../errors.ts';
import { LaneLost } from '../outcome.ts';
import type { Backoff } from './backoff.ts';
import type { Sealed } from './batch.ts';
import { catchUpOrPause } from './catch-up.ts';
import type { EpochSource } from './catch-up.ts';
import type { AuditStore } from './ports.ts';

export type Settlement =
  /** The change stands. */
  | { readonly kind: 'written' }
  /** The substitute stands in its place; the change never will. */
  | { readonly kind: 'prevented'; readonly by: Sealed }
  /** The change never will stand, and the lane takes no more entries of ours. */
  | { readonly kind: 'lane-lost' }
  /** Still not known when `backoff` was aborted, or no longer knowable. */
  | { readonly kind: 'unknown' };

export interface Unsettled extends EpochSource {
  readonly store: AuditStore;
  readonly sealed: Sealed;
  /** Makes the entry that takes the place; made anew only when it was certainly not written. */
  readonly substitute: () => Promise<Sealed>;
}

export async function settle(unsettled: Unsettled, backoff: Backoff): Promise<Settlement> {
  const { store, sealed } = unsettled;
  const { lane, first } = sealed.batch;
  let substitute: Sealed | null = null;
  let closed = false;
  while (!backoff.aborted) {
    try {
      const known = judge(await store.leafAt(lane, first), sealed, substitute, closed);
      if (known !== null) return known;
      substitute ??= await unsettled.substitute();
      const outcome = await store.append(substitute.batch);
      if ('epoch' in outcome) return { kind: 'prevented', by: substitute };
      substitute = null;
      await catchUpOrPause(unsettled, backoff);
    } catch (error) {
      if (isHopeless(error)) return { kind: 'unknown' };
      if (error instanceof LaneLost && error.reason === 'closed') closed = true;
      else await backoff.pause();
    }
  }
  return { kind: 'unknown' };
}

/**
 * Whether repeating cannot help. A lane whose tail is gone has lost what would tell: the change may
 * have stood there before.
 */
const isHopeless = (error: unknown): boolean =>
  error instanceof LaneLost ? error.reason === 'gone' : isFinal(error);

/** Whether the same attempt will not succeed later. */
export const isFinal = (error: unknown): boolean =>
  TwofoldError.is(error) && !ERRORS[error.code].retryable;

/** `closed`: the lane was found closed before `leaf` was read, so nothing can land any more. */
function judge(
  leaf: Uint8Array | null,
  sealed: Sealed,
  substitute: Sealed | null,
  closed: boolean,
): Settlement | null {
  if (leaf === null) return closed ? { kind: 'lane-lost' } : null;
  if (isLeafOf(leaf, sealed)) return { kind: 'written' };
  return substitute !== null && isLeafOf(leaf, substitute)
    ? { kind: 'prevented', by: substitute }
    : { kind: 'lane-lost' };
}

const isLeafOf = (leaf: Uint8Array, { after }: Sealed): boolean =>
  Buffer.compare(leaf, after.previous) === 0;
