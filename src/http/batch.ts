/**
 * Batches: every item has its own outcome, the request one audit entry, whose size is checked before
 * any work. What concerns the key or the service rather than an item fails the request as a whole.
 */
import { StaleAnswer } from '../audit/ports.ts';
import { assertEntryFits } from '../audit/entry-size.ts';
import { TwofoldError } from '../errors.ts';
import { isFailed, settleEach, settleRest } from '../settled.ts';
import { ItemHasher } from './notes.ts';
import { itemErrorOf } from './problem.ts';
import type { ErrorCode } from '../errors.ts';
import type { Settled } from '../settled.ts';
import type { Selecting, Used } from '../keyring/operations.ts';
import type { AuditNotes, NotedContext } from './notes.ts';

/** Items that are worked on at a time, so that one batch does not fill the HSM's queue. */
const PARALLEL = 16;
/** Bytes of the entry that are not known here (zone, decision details). */
const ROOM = 512;

interface Item {
  readonly ref?: string | undefined;
}

interface Done<A> {
  readonly used: Used;
  readonly answer: A;
}

/** The request that brought the items. */
interface BatchCall<I> {
  readonly body: { readonly items: readonly I[] };
  readonly notes: AuditNotes;
  readonly visible: (error: unknown) => TwofoldError;
}

export interface Batch<I extends Item, A> {
  readonly call: BatchCall<I>;
  readonly contextOf: (item: I) => NotedContext;
  /** Settles all items, in order. */
  readonly run: Run<I, A>;
}

/** An item as its operation is given it. */
export interface Given<I> {
  readonly item: I;
  readonly selecting: Selecting;
}

type Run<I, A> = (items: readonly Given<I>[]) => Promise<readonly Settled<Done<A>>[]>;

/** For operations that take one item at a time. */
export const oneByOne =
  <I, A>(run: (item: I, selecting: Selecting) => Promise<Done<A>>): Run<I, A> =>
  (items) =>
    settleEach(items, PARALLEL, ({ item, selecting }) => run(item, selecting));

/** What the items selected, by their place, whether they then failed or not. */
type SelectedVersions = Map<number, Used>;

/** Codes that say something of one item; another code that all items have is the request's own. */
const OF_ITEMS: ReadonlySet<ErrorCode> = new Set([
  'invalid_value',
  // Of lines; in a batch they refuse the request.
  'malformed_json',
  'unknown_field',
  'invalid_base64',
  'invalid_envelope',
  'unsupported_envelope_version',
  'unknown_suite',
  'ambiguous_version',
  'version_not_found',
  'version_not_usable',
  'origin_would_rise',
  'key_mismatch',
  'decryption_failed',
]);

const isDone = <A>(result: Settled<Done<A>>): result is Done<A> => !isFailed(result);

/** @throws StaleAnswer when a change overtook an item */
async function settleAll<I extends Item, A>(
  { call, run }: Batch<I, A>,
  selected: SelectedVersions,
): Promise<readonly Settled<Done<A>>[]> {
  const onKey = (id: string) => call.notes.keyId(id);
  const given = call.body.items.map((item, index) => {
    const onSelected = (used: Used) => void selected.set(index, used);
    return { item, selecting: { onKey, onSelected } };
  });
  const results = await settleRest(given, run);
  return results.map((result) => {
    if (!isFailed(result)) return result;
    if (result.cause instanceof StaleAnswer) throw result.cause;
    return call.visible(result);
  });
}

function contextNames<I extends Item, A>({ call, contextOf }: Batch<I, A>): readonly string[] {
  const names = call.body.items.flatMap((item) =>
    Object.keys(contextOf(item).encryptionContext ?? {}),
  );
  return [...new Set(names)];
}

/** Pairs that the contexts of all items have. */
function sharedPairs<I extends Item, A>({ call, contextOf }: Batch<I, A>): Record<string, string> {
  const [first, ...rest] = call.body.items.map((item) => contextOf(item).encryptionContext ?? {});
  const pairs = Object.entries(first ?? {});
  return Object.fromEntries(
    pairs.filter(([name, value]) => rest.every((other) => other[name] === value)),
  );
}

/** The error that every item has and that is not about items; undefined otherwise. */
function sharedError(results: readonly Settled<object>[]): TwofoldError | undefined {
  const [first] = results;
  if (!isFailed(first) || OF_ITEMS.has(first.code)) return undefined;
  const same = results.every((result) => TwofoldError.is(result, first.code));
  return same ? first : undefined;
}

const hasVerdict = (answer: object): answer is { readonly valid: unknown } => 'valid' in answer;

/** A verification that says no is `ok` like one that says yes: the entry tells how many were which. */
function noteVerdicts(notes: AuditNotes, results: readonly Settled<Done<object>>[]): void {
  const answers = results.filter(isDone).map(({ answer }) => answer);
  // The answers of one operation are alike.
  if (!answers.slice(0, 1).some(hasVerdict)) return;
  const verdicts = answers.filter(hasVerdict);
  const validItems = verdicts.filter(({ valid }) => valid === true).length;
  notes.detail({ validItems, invalidItems: verdicts.length - validItems });
}

/**
 * Runs the items and notes their outcomes.
 * @throws TwofoldError batch_too_large before any work; the error that all items share
 */
export async function runBatch<I extends Item, A extends object>(batch: Batch<I, A>) {
  const { call, contextOf } = batch;
  const { items } = call.body;
  const { notes } = call;
  const names = contextNames(batch);
  const shared = sharedPairs(batch);
  // Noted only once they fit: the entry of the refusal has to fit as well.
  const loggedContext = notes.logged(shared);
  const known = { ...notes.draft('ok'), contextKeys: names, loggedContext };
  assertEntryFits(known, items.length, { room: ROOM });
  notes.items([], names, shared);
  const hasher = new ItemHasher();
  const hashes = items.map((item) => hasher.hash(item.ref, contextOf(item)));
  const selected: SelectedVersions = new Map();
  const results = await settleAll(batch, selected);
  const used = results.find(isDone)?.used ?? [...selected.values()][0];
  if (used !== undefined) notes.used(used);
  notes.items(
    results.map((result, index) => ({
      keyVersion: (isDone(result) ? result.used : selected.get(index))?.keyVersion ?? null,
      outcome: isFailed(result) ? result.code : 'ok',
      hash: hashes[index] ?? new Uint8Array(16),
    })),
    names,
    shared,
  );
  noteVerdicts(notes, results);
  const failure = sharedError(results);
  if (failure !== undefined) throw failure;
  const answers = results.map((result, index) => {
    const ref = items[index]?.ref ?? null;
    if (isFailed(result)) return { ref, error: itemErrorOf(result) };
    return { ref, ...result.answer };
  });
  return { body: { results: answers } };
}
