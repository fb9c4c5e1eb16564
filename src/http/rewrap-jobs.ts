/**
 * Routes of rewrap jobs. Every request of a job takes `rewrap` on its keys anew, has one audit entry
 * like a batch, and its progress commits together with that entry, before the answer leaves.
 */
import * as contract from '../contract/operations.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import { attempt, isFailed, settleRest } from '../settled.ts';
import { runBatch } from './batch.ts';
import { Lines } from './lines.ts';
import { answerOperation, noteOperation, progressOf } from './operations.ts';
import { route } from './route.ts';
import { contextOf, factsOf, noteTarget, rewrapped, toUnwrap } from './wrap.ts';
import type { Grant } from '../access/grant.ts';
import type { BodyFacts } from '../access/ports.ts';
import type { ItemError } from '../contract/problem.ts';
import type { KeyUse } from '../keyring/operations.ts';
import type { Moved, RewrapJob } from '../keyring/job-operations.ts';
import type { Settled } from '../settled.ts';
import type { Given } from './batch.ts';
import type { HttpDependencies, OperationLimits } from './dependencies.ts';
import type { Line } from './lines.ts';
import type { Call, GuardedContract, GuardedRoute } from './route.ts';
import type { Sealed } from './wrap.ts';

interface Keys {
  readonly from: Grant<'rewrap'>;
  readonly to: Grant<'rewrap'> | null;
}

type Asking = Pick<Call<GuardedContract>, 'grantFor' | 'notes' | 'resolve' | 'visible'>;
/** What a result of a batch shows of its outcome. */
type Result = { readonly error: ItemError } | { readonly changed: boolean };

const NO_BINDING: Sealed = { ciphertext: new Uint8Array(0) };
/** What a line binds; nothing where it was refused. */
const lineContext = ({ item }: Line<Sealed>) => contextOf(isFailed(item) ? NO_BINDING : item);

/** The grants on both keys, asked for now. */
async function keysOf(
  { grantFor, notes, resolve }: Asking,
  key: string,
  to: string | null,
): Promise<Keys> {
  await resolve(key, ...(to === null ? [] : [to]));
  const from = grantFor('rewrap', key);
  if (to === null || to === key) return { from, to: null };
  noteTarget(notes, key, to);
  return { from, to: grantFor('rewrap', to) };
}

/** What failed may be the other key. */
const about = ({ visible }: Asking, { from, to }: Keys) => {
  const { key } = to ?? from;
  return (error: unknown): never => {
    if (!TwofoldError.is(error)) throw error;
    throw visible(error, key);
  };
};

/** Asks for what policy reads of an item, on both keys; once of all that say nothing but their origin. */
function permitting({ grantFor }: Asking, { from, to }: Keys): (item: Sealed) => void {
  const bare = new Map<BodyFacts['origin'], Settled<null>>();
  const ask = (facts: BodyFacts) =>
    attempt(() => {
      for (const grant of [from, to]) {
        if (grant !== null) grantFor('rewrap', grant.key ?? '', facts);
      }
      return null;
    });
  return (item) => {
    const facts = factsOf(item);
    const isBare = facts.encryptionContext === undefined;
    const asked = (isBare ? bare.get(facts.origin) : undefined) ?? ask(facts);
    if (isBare) bare.set(facts.origin, asked);
    if (isFailed(asked)) throw asked;
  };
}

/** Each item is permitted before it is worked on. */
const moving =
  (use: KeyUse, call: Asking, keys: Keys) => (lines: readonly Given<Line<Sealed>>[]) => {
    const { from, to } = keys;
    const permit = permitting(call, keys);
    const given = lines.map(({ item: { item }, selecting }) =>
      attempt(() => {
        if (isFailed(item)) throw item;
        permit(item);
        return toUnwrap(item, selecting);
      }),
    );
    return settleRest(given, async (rest) =>
      (await use.rewrapMany(from, to, rest)).map((one) => (isFailed(one) ? one : rewrapped(one))),
    );
  };

const outcomeOf = (result: Result): Moved['outcomes'][number] =>
  'error' in result ? 'failed' : result.changed ? 'succeeded' : 'unchanged';

/**
 * A fault of the service is no item's: nothing of the request is counted, and it is sent again.
 * @throws TwofoldError of the 5xx family
 */
function refuseFaults(results: readonly Result[]): void {
  for (const result of results) {
    if ('error' in result && ERRORS[result.error.code].status >= 500) {
      throw new TwofoldError(result.error.code);
    }
  }
}

function createRoute(
  { operations }: Pick<HttpDependencies, 'operations'>,
  limits: OperationLimits,
): GuardedRoute {
  return route(contract.createRewrapJob, {
    handle: async (call) => {
      const { grant, body } = call;
      const { to = null, total = null, note = null } = body;
      const rate = body.itemsPerSecond ?? limits.rewrapItemsPerSecond;
      if (rate > limits.rewrapItemsPerSecond) {
        const most = String(limits.rewrapItemsPerSecond);
        throw new TwofoldError('invalid_value', `/itemsPerSecond is at most ${most} here.`);
      }
      const keys = await keysOf(call, grant.key ?? '', to);
      const input = { total, rate, note, running: limits.runningOperations };
      return answerOperation(call, (run) =>
        operations.createRewrapJob(grant, keys, input, run).catch(about(call, keys)),
      );
    },
  });
}

function itemsRoute({ operations, use }: Pick<HttpDependencies, 'operations' | 'use'>) {
  return route(contract.sendRewrapItems, {
    handle: async (call) => {
      const { grant, notes, params, query, body: lines } = call;
      const { offset } = query;
      const next = { id: params.id, offset, items: lines.length };
      const job = await operations.openRewrapJob(grant, next);
      noteJob(call, job, offset);
      const keys = await keysOf(call, job.key, job.to);
      await operations.admitRewrap(keys.from, keys.to, job, lines.length).catch(about(call, keys));
      const visible = (error: unknown) => call.visible(error, (keys.to ?? keys.from).key);
      const { body } = await runBatch({
        call: { body: { items: lines }, notes, visible },
        contextOf: lineContext,
        run: moving(use, call, keys),
      });
      const { results } = body;
      refuseFaults(results);
      const moved = { offset, outcomes: results.map(outcomeOf) };
      const { after, take } = operations.advanceRewrapJob(grant, job, moved);
      const { state } = after;
      const last = { offset: after.position, state, progress: progressOf(after) };
      return { body: new Lines([...results, last]), record: take };
    },
  });
}

/** The entry is about the key of the job, and stands on both. */
function noteJob({ notes }: Asking, { view, key }: RewrapJob, offset: number): void {
  noteOperation(notes, view);
  notes.named(key);
  if (view.keyId !== null) notes.alsoKey(view.keyId);
  const { toKeyId } = view.request;
  if (typeof toKeyId === 'string') notes.alsoKey(toKeyId);
  notes.detail({ offset });
}

export function rewrapJobRoutes(
  deps: Pick<HttpDependencies, 'operations' | 'use'>,
  limits: OperationLimits,
): readonly GuardedRoute[] {
  return [itemsRoute(deps), createRoute(deps, limits)];
}
