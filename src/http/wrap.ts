/** Routes that wrap, unwrap, rewrap and make data keys. */
import * as contract from '../contract/wrap.ts';
import { statedMode } from '../crypto/envelope.ts';
import { SecretBytes } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { attempt, isFailed, settleRest } from '../settled.ts';
import type { Settled } from '../settled.ts';
import { runBatch } from './batch.ts';
import { notedBy } from './notes.ts';
import { EnvelopeBytes } from './render.ts';
import { route } from './route.ts';
import { givenVersion, orEmpty, usedMembers } from './used.ts';
import type { Grant } from '../access/grant.ts';
import type { BodyFacts } from '../access/ports.ts';
import type { EncryptionContext } from '../contract/context.ts';
import type {
  Binding,
  KeyUse,
  Opened,
  Origin,
  Rewrapped,
  Selecting,
  Used,
  Wrapped,
} from '../keyring/operations.ts';
import type { Given } from './batch.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { InputLimits } from './input.ts';
import type { AuditNotes } from './notes.ts';
import type { GuardedRoute } from './route.ts';

interface Bound {
  readonly encryptionContext?: EncryptionContext | undefined;
  readonly aad?: Uint8Array | undefined;
}

interface WrapInput extends Bound {
  readonly plaintext: Uint8Array;
  readonly keyVersion?: number | undefined;
}

export interface Sealed extends Bound {
  readonly ciphertext: Uint8Array;
}

interface RewrapInput extends Sealed {
  readonly to?: string | undefined;
}

interface DataKeyInput extends Bound {
  readonly bytes: number;
}

type WrapGrant = Parameters<KeyUse['wrap']>[0];
type ToWrap = Parameters<KeyUse['wrap']>[1];
type ToUnwrap = Parameters<KeyUse['unwrap']>[1];
type Own = (secret: SecretBytes) => SecretBytes;
/** How a rewrap reaches its other key. */
interface Reach {
  readonly grantOn: (key: string, facts: BodyFacts) => Grant<'rewrap'>;
  readonly visible: (error: unknown, key: string | null) => TwofoldError;
}

const NO_CONTEXT: EncryptionContext = Object.freeze({});
const bindingOf = ({ encryptionContext = NO_CONTEXT, aad }: Bound): Binding => ({
  encryptionContext,
  aad: orEmpty(aad),
});
/** Of what is to be wrapped, or opened: then also who can have made it. */
export const factsOf = (input: Bound & { readonly ciphertext?: Uint8Array }): BodyFacts => ({
  ...(input.encryptionContext === undefined ? {} : { encryptionContext: input.encryptionContext }),
  ...originOf(input.ciphertext),
});
const singleFacts = (body: Bound) => [factsOf(body)];
/** What several items say alike, or do not say, is asked once. */
function batchFacts({ items }: { readonly items: readonly Bound[] }): readonly BodyFacts[] {
  const bare = new Map<string | undefined, BodyFacts>();
  const facts = items.map(factsOf);
  for (const each of facts) if (each.encryptionContext === undefined) bare.set(each.origin, each);
  const bound = facts.filter(({ encryptionContext }) => encryptionContext !== undefined);
  return [...bound, ...bare.values()];
}

function originOf(ciphertext: Uint8Array | undefined): Pick<BodyFacts, 'origin'> {
  const mode = ciphertext === undefined ? null : statedMode(ciphertext);
  if (mode === null) return {};
  return { origin: mode === 'base' ? 'anyone' : 'service' };
}
export const contextOf = ({ encryptionContext, aad }: Bound) => ({ encryptionContext, aad });

class Wrapping {
  readonly #use: KeyUse;
  readonly #maxPlaintext: number;

  constructor(use: KeyUse, maxPlaintext: number) {
    this.#use = use;
    this.#maxPlaintext = maxPlaintext;
  }

  async wrap(grant: WrapGrant, input: WrapInput, selecting: Selecting = {}) {
    return wrapped(await this.#use.wrap(grant, this.#toWrap(input, selecting)));
  }

  async wrapMany(grant: Grant<'wrap'>, items: readonly Given<WrapInput>[]) {
    const given = items.map(({ item, selecting }) => attempt(() => this.#toWrap(item, selecting)));
    return settleRest(given, async (rest) =>
      (await this.#use.wrapMany(grant, rest)).map((one) => (isFailed(one) ? one : wrapped(one))),
    );
  }

  async unwrap(grant: Grant<'unwrap'>, input: Sealed, own: Own, selecting: Selecting = {}) {
    return opened(await this.#use.unwrap(grant, toUnwrap(input, selecting)), own);
  }

  async unwrapMany(grant: Grant<'unwrap'>, items: readonly Given<Sealed>[], own: Own) {
    const given = items.map(({ item, selecting }) => toUnwrap(item, selecting));
    const results = await this.#use.unwrapMany(grant, given);
    return results.map((one) => (isFailed(one) ? one : opened(one, own)));
  }

  async rewrap(
    grant: Grant<'rewrap'>,
    input: RewrapInput,
    reach: Reach,
    selecting: Selecting = {},
  ) {
    const target = targetOf(grant, input, reach);
    const given = toUnwrap(input, selecting);
    const moved = await this.#use.rewrap(grant, target, given).catch((error: unknown) => {
      throw TwofoldError.is(error) ? reachable(error, target, reach) : error;
    });
    return rewrapped(moved);
  }

  async rewrapMany(grant: Grant<'rewrap'>, items: readonly Given<RewrapInput>[], reach: Reach) {
    const given = items.map(({ item, selecting }) =>
      attempt(() => ({
        target: targetOf(grant, item, reach),
        input: toUnwrap(item, selecting),
      })),
    );
    return settleRest(given, async (rest) => {
      const groups = Map.groupBy(rest, ({ target }) => target?.key ?? null);
      const moved = new Map<string | null, Iterator<Settled<Moved>, undefined>>();
      for (const [key, group] of groups) {
        const target = group[0]?.target ?? null;
        const inputs = group.map(({ input }) => input);
        const settled = await this.#use.rewrapMany(grant, target, inputs);
        const results = settled.map((one) =>
          isFailed(one) ? reachable(one, target, reach) : rewrapped(one),
        );
        moved.set(key, results.values());
      }
      return rest.map(
        ({ target }) =>
          moved.get(target?.key ?? null)?.next().value ?? new TwofoldError('internal'),
      );
    });
  }

  async dataKey(
    grant: Grant<'data-keys.create'> | Grant<'data-keys.create-wrapped'>,
    input: DataKeyInput,
    own: Own,
    selecting: Selecting,
  ) {
    const plaintext = own(await this.#use.random(grant, input.bytes));
    const made = await this.#use.wrap(grant, toWrap(plaintext, input, selecting));
    return { plaintext, ...wrapped(made) };
  }

  #toWrap({ plaintext, ...input }: WrapInput, selecting: Selecting) {
    if (plaintext.length > this.#maxPlaintext) {
      const detail = `A plaintext may be at most ${this.#maxPlaintext} bytes long.`;
      throw new TwofoldError('invalid_value', detail);
    }
    // The bytes belong to the request body, which is wiped as a whole.
    return toWrap(SecretBytes.own(plaintext), input, selecting);
  }
}

const toWrap = (
  plaintext: SecretBytes,
  input: Omit<WrapInput, 'plaintext'>,
  { onKey, onSelected }: Selecting,
): ToWrap => ({
  plaintext,
  binding: bindingOf(input),
  ...givenVersion(input),
  onKey,
  onSelected,
});

export const toUnwrap = (input: Sealed, { onKey, onSelected }: Selecting): ToUnwrap => ({
  ciphertext: input.ciphertext,
  binding: bindingOf(input),
  onKey,
  onSelected,
});

const wrapped = ({ used, ciphertext, refreshAfter }: Wrapped) => ({
  used,
  answer: { ciphertext: new EnvelopeBytes(ciphertext), ...usedMembers(used), refreshAfter },
});

/** The entry is about the key of the path: what was opened with it, and where it went. */
export const rewrapped = ({ used, from, ciphertext, changed }: Rewrapped) => ({
  used: from,
  into: used,
  answer: {
    ciphertext: new EnvelopeBytes(ciphertext),
    changed,
    ...usedMembers(used),
    refreshAfter: null,
  },
});

type Moved = ReturnType<typeof rewrapped>;

/** The grant on the key that an item goes to; null where it stays under its key. */
const targetOf = (grant: Grant<'rewrap'>, input: RewrapInput, { grantOn }: Reach) =>
  input.to === undefined || input.to === grant.key ? null : grantOn(input.to, factsOf(input));

/** What failed may be the other key. */
const reachable = (error: TwofoldError, target: Grant<'rewrap'> | null, { visible }: Reach) =>
  target === null ? error : visible(error, target.key);

const opened = ({ used, plaintext, origin }: Opened, own: Own) => ({
  used,
  origin,
  answer: { plaintext: own(plaintext), origin, ...usedMembers(used) },
});

/** Notes a single operation: its context before, what it used after. */
async function noted<R extends { readonly used: Used; readonly origin?: Origin }>(
  notes: AuditNotes,
  body: Bound,
  run: () => Promise<R> | R,
): Promise<R> {
  notes.context(contextOf(body));
  const result = await run();
  notes.used(result.used);
  if (result.origin !== undefined) notes.origin(result.origin);
  return result;
}

/** The other key of a rewrap counts among what the answer stands on. */
export function noteTarget(notes: AuditNotes, key: string | null, to: string | undefined): void {
  if (to !== undefined && to !== key) notes.target(to);
}

/** What an answer stands on is this key and one other at most. */
function noteTargets(notes: AuditNotes, key: string | null, items: readonly RewrapInput[]) {
  const others = new Set(items.flatMap(({ to }) => (to === undefined || to === key ? [] : [to])));
  if (others.size > 1) {
    throw new TwofoldError('invalid_value', 'The items of a batch go to one key.');
  }
  for (const to of others) noteTarget(notes, key, to);
  return others;
}

/** A line of an API server's log finds its entry by it. */
function noteUid(notes: AuditNotes, uid: string | undefined): void {
  if (uid !== undefined) notes.detail({ uid });
}

function wrapRoutesOf(wrapping: Wrapping): readonly GuardedRoute[] {
  return [
    route(contract.wrap, {
      facts: singleFacts,
      handle: async ({ grant, body, notes, headers }) => {
        noteUid(notes, headers[contract.UID_HEADER]);
        const { answer } = await noted(notes, body, () =>
          wrapping.wrap(grant, body, notedBy(notes)),
        );
        return { body: answer };
      },
    }),
    route(contract.wrapBatch, {
      facts: batchFacts,
      handle: (call) => {
        const { grant } = call;
        const run = (items: readonly Given<WrapInput>[]) => wrapping.wrapMany(grant, items);
        return runBatch({ call, contextOf, run });
      },
    }),
    route(contract.createDataKey, {
      facts: singleFacts,
      handle: async ({ grant, body, notes, own }) => {
        const made = await noted(notes, body, () =>
          wrapping.dataKey(grant, body, own, notedBy(notes)),
        );
        return { body: { plaintext: made.plaintext, ...made.answer } };
      },
    }),
    route(contract.createWrappedDataKey, {
      facts: singleFacts,
      handle: async ({ grant, body, notes, own }) => {
        const { answer } = await noted(notes, body, () =>
          wrapping.dataKey(grant, body, own, notedBy(notes)),
        );
        return { body: answer };
      },
    }),
  ];
}

function unwrapRoutesOf(wrapping: Wrapping): readonly GuardedRoute[] {
  return [
    route(contract.unwrap, {
      facts: singleFacts,
      handle: async ({ grant, body, notes, own, headers }) => {
        noteUid(notes, headers[contract.UID_HEADER]);
        const { answer } = await noted(notes, body, () =>
          wrapping.unwrap(grant, body, own, notedBy(notes)),
        );
        return { body: answer };
      },
    }),
    route(contract.unwrapBatch, {
      facts: batchFacts,
      handle: (call) => {
        const { grant, own } = call;
        const run = (items: readonly Given<Sealed>[]) => wrapping.unwrapMany(grant, items, own);
        return runBatch({ call, contextOf, run });
      },
    }),
  ];
}

function rewrapRoutesOf(wrapping: Wrapping): readonly GuardedRoute[] {
  return [
    route(contract.rewrap, {
      facts: singleFacts,
      handle: async ({ grant, grantOn, visible, body, notes, resolve }) => {
        noteTarget(notes, grant.key, body.to);
        if (body.to !== undefined) await resolve(body.to);
        const rewrap = () => wrapping.rewrap(grant, body, { grantOn, visible }, notedBy(notes));
        const { answer, into } = await noted(notes, body, rewrap);
        notes.detail({ toKeyId: into.keyId, toVersion: into.keyVersion });
        return { body: answer };
      },
    }),
    route(contract.rewrapBatch, {
      facts: batchFacts,
      handle: async (call) => {
        const { grant, grantOn } = call;
        const target = { grantOn, visible: call.visible };
        const [to] = noteTargets(call.notes, grant.key, call.body.items);
        if (to !== undefined) await call.resolve(to);
        const run = (items: readonly Given<RewrapInput>[]) =>
          wrapping.rewrapMany(grant, items, target);
        return runBatch({ call, contextOf, run });
      },
    }),
  ];
}

export function wrapRoutes(
  { use }: Pick<HttpDependencies, 'use'>,
  { wrapBytes }: Pick<InputLimits, 'wrapBytes'>,
): readonly GuardedRoute[] {
  const wrapping = new Wrapping(use, wrapBytes);
  return [wrapRoutesOf, unwrapRoutesOf, rewrapRoutesOf].flatMap((make) => make(wrapping));
}
