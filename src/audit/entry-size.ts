/** Whether an entry will fit, asked before the work whose outcome it will record. */
import { ERRORS, TwofoldError } from '../errors.ts';
import { MAX_ENTRY_BYTES, PLACE_BYTES } from './entry.ts';
import type { AuditDraft } from './ports.ts';

/** CBOR header of a string below 65,536 bytes, or of any integer up to 2^16. */
const HEADER = 3;
const INTEGER = 9;
const HASH = 34;
const LONGEST_OUTCOME = Math.max(...Object.keys(ERRORS).map((code) => code.length));
/** Array header, key version as u32, outcome, hash of 16 bytes. */
const ITEM = 1 + 5 + (2 + LONGEST_OUTCOME) + 17;
/** Ids of grant and approval as UUIDs, and the longest of `native`, `portable`, `token` and of the origins. */
const SINCE_VERSION_2 = 2 * 17 + (1 + 'portable'.length) + (1 + 'service'.length) + INTEGER;
/** Array headers, the fixed-width members, and the outcome at its longest. */
const FIXED =
  PLACE_BYTES + 12 * HEADER + 4 * INTEGER + 4 * HASH + 2 + LONGEST_OUTCOME + SINCE_VERSION_2;

/** What is known of a draft before the work; the zone counts as part of it. */
export type KnownBefore = Pick<
  AuditDraft,
  | 'requestId'
  | 'actor'
  | 'operation'
  | 'namespace'
  | 'keyRef'
  | 'decision'
  | 'source'
  | 'contextKeys'
  | 'loggedContext'
  | 'detail'
  | 'tlsGroup'
>;

/**
 * An upper bound of the entry's bytes, whatever the outcomes turn out to be. `zone` is that of the
 * instance; what `detail` gains later counts in `room` (bytes).
 */
export function entryBytesAtMost(
  draft: KnownBefore,
  items: number,
  { zone = '', room = 0 }: { readonly zone?: string; readonly room?: number } = {},
): number {
  const texts = [
    zone,
    draft.requestId,
    draft.actor.issuer,
    draft.actor.subject,
    draft.actor.method,
    draft.operation,
    draft.namespace,
    draft.keyRef ?? '',
    draft.source,
    draft.decision?.revision ?? '',
    ...(draft.decision?.policies ?? []),
    ...draft.contextKeys,
    ...Object.entries(draft.loggedContext).flat(),
    draft.tlsGroup ?? '',
    draft.actor.acr ?? '',
    ...draft.actor.amr,
    ...(draft.actor.roles ?? []),
    ...Object.entries(draft.detail).flatMap(([name, fact]) => [name, String(fact)]),
  ];
  const length = texts.reduce((sum, text) => sum + Buffer.byteLength(text) + HEADER, 0);
  // An integer of `detail` is at most 9 bytes, its decimal digits may be fewer.
  const numbers = Object.keys(draft.detail).length * INTEGER;
  return FIXED + length + numbers + items * ITEM + room;
}

/**
 * For batch routes, before any work: throws `batch_too_large` when the one entry of this request
 * could be over 65,535 bytes.
 */
export function assertEntryFits(
  draft: KnownBefore,
  items: number,
  limits: { readonly zone?: string; readonly room?: number } = {},
): void {
  if (entryBytesAtMost(draft, items, limits) <= MAX_ENTRY_BYTES) return;
  throw new TwofoldError(
    'batch_too_large',
    'The audit entry of this request would be over 65,535 bytes: send fewer items.',
  );
}
