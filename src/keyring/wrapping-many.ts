/**
 * Wrap, unwrap and rewrap of many items under one key: one look at the key and at each version that is
 * used, and for symmetric suites one count of uses and few HSM calls for all items of a version. Items of
 * other suites are worked on one by one.
 */
import type { Grant, Principal } from '../access/grant.ts';
import { EnvelopeParser } from '../crypto/envelope.ts';
import type { Envelope } from '../crypto/envelope.ts';
import { wipe } from '../crypto/secret.ts';
import type { AeadSuite } from '../crypto/suite.ts';
import { checkPlaintext, SymmetricForm } from '../crypto/wrap.ts';
import { TwofoldError } from '../errors.ts';
import { attempt, isFailed, settleEach, settleRest } from '../settled.ts';
import type { Settled } from '../settled.ts';
import type { Usage } from './lifecycle.ts';
import { handleId } from './material.ts';
import type {
  KeyUse,
  KeyView,
  Opened,
  Origin,
  Rewrapped,
  UnwrapInput,
  Used,
  Wrapped,
  WrapInput,
} from './operations.ts';
import { requirePurpose, selectTelling, toProcess, toProtect } from './selection.ts';
import type { Selected } from './selection.ts';
import { gcmExhausted } from './usage.ts';
import { hsmKeyOf } from './use-parts.ts';
import type { UseParts } from './use-parts.ts';

/** Items of hybrid suites that are worked on at a time, so that one batch does not fill the HSM's queue. */
const PARALLEL = 16;
/** Items of a rewrap whose plaintexts are in memory together; two such slices are under way at a time. */
const SLICE = 100;
const SLICES_AT_ONCE = 2;

interface ToSeal {
  readonly selected: Selected;
  readonly input: WrapInput;
  /** `service` unless told. */
  readonly origin?: Origin;
}

interface Parsed {
  readonly input: UnwrapInput;
  readonly envelope: Envelope;
}

interface ToOpen extends Parsed {
  readonly selected: Selected;
}

/** What a rewrap has opened with `from`. */
interface ToMove extends ToSeal {
  readonly from: Used;
}

/** Of a grant: who uses, and since when it was allowed. */
type Authority = Pick<Grant<'rewrap'>, 'principal' | 'epoch'>;

/** Where the items of a rewrap come from and go. */
interface Move {
  readonly view: KeyView;
  readonly select: Select;
  /** Looked at once, and told to the items that open. */
  readonly target: Settled<Selected>;
  readonly by: { readonly open: Authority; readonly seal: Authority };
}

type Select = (version: number) => Selected;

/** How one item is worked on. */
interface OneByOne {
  readonly seal: (item: ToSeal, since: number) => Promise<Wrapped>;
  readonly open: (item: ToOpen, since: number) => Promise<Opened>;
}

export function manyOperations(
  {
    catalog,
    uses,
    ledger,
    hsm,
    now,
  }: Pick<UseParts, 'catalog' | 'uses' | 'ledger' | 'hsm' | 'now'>,
  { seal, open }: OneByOne,
): Pick<KeyUse, 'wrapMany' | 'unwrapMany' | 'rewrapMany'> {
  const sealTogether = async (
    selected: Selected,
    suite: AeadSuite,
    items: readonly ToSeal[],
  ): Promise<readonly Settled<Wrapped>[]> => {
    const { used, keyId, version: keyVersion } = selected;
    const form = new SymmetricForm(suite, { keyId, keyVersion });
    const bound = items.map(({ input: { plaintext, binding } }) =>
      attempt(() => {
        checkPlaintext(plaintext);
        return { plaintext: plaintext.reveal(), aad: form.associatedData(binding) };
      }),
    );
    const counted = await settleRest(bound, async (rest) => {
      const permitted = await uses.permitGcm(handleId(keyId, keyVersion), rest.length);
      return rest.map((item, index) => (index < permitted ? item : gcmExhausted()));
    });
    return settleRest(counted, async (rest) => {
      const sealed = await hsm.encryptMany(hsmKeyOf(selected), rest);
      return sealed.map((one, index): Settled<Wrapped> => {
        if (isFailed(one)) return one;
        const length = rest[index]?.plaintext.length ?? 0;
        const ciphertext = form.envelope(one.iv, one.ciphertext, length);
        return { used, ciphertext, refreshAfter: null };
      });
    });
  };

  const openTogether = async (
    selected: Selected,
    suite: AeadSuite,
    items: readonly ToOpen[],
  ): Promise<readonly Settled<Opened>[]> => {
    const { used, keyId, version: keyVersion } = selected;
    const form = new SymmetricForm(suite, { keyId, keyVersion });
    const bound = items.map(({ envelope, input: { binding } }) =>
      attempt(() => {
        if (envelope.mode !== 'symmetric') throw new TwofoldError('decryption_failed');
        const { nonce: iv, ciphertext } = envelope;
        return { iv, ciphertext, aad: form.associatedData(binding) };
      }),
    );
    return settleRest(bound, async (rest) => {
      const opened = await hsm.decryptMany(hsmKeyOf(selected), rest);
      return opened.map((plaintext): Settled<Opened> =>
        isFailed(plaintext) ? plaintext : { used, plaintext, origin: 'service' },
      );
    });
  };

  const count = (
    principal: Principal,
    usage: Usage,
    items: readonly { readonly selected: Selected }[],
    results: readonly Settled<unknown>[],
  ): void => {
    const done = items.filter((_, index) => !isFailed(results[index]));
    for (const [selected, group] of Map.groupBy(done, (item) => item.selected)) {
      ledger.count(selected, principal, usage, group.length);
    }
  };

  const viewFor = async ({ namespace, key }: Pick<Grant<'wrap'>, 'namespace' | 'key'>) => {
    const view = await catalog.get(namespace, key ?? '');
    requirePurpose(view, 'wrap');
    return view;
  };

  const openAll = (
    view: KeyView,
    select: Select,
    given: readonly Parsed[],
    { principal, epoch }: Authority,
  ): Promise<readonly Settled<Opened>[]> => {
    const items = given.map(({ input, envelope }) =>
      attempt((): ToOpen => {
        const { keyId, keyVersion, suite } = envelope;
        if (keyId !== view.key.id) throw new TwofoldError('key_mismatch');
        const selected = selectTelling(view, input, () => select(keyVersion));
        if (suite !== selected.suite) throw new TwofoldError('decryption_failed');
        return { input, envelope, selected };
      }),
    );
    return settleRest(items, async (rest) => {
      const opened = await byVersion(rest, openTogether, (item) => open(item, epoch));
      count(principal, 'process', rest, opened);
      return opened;
    });
  };

  const moveAll = async (
    move: Move,
    slice: readonly Parsed[],
  ): Promise<readonly Settled<Rewrapped>[]> => {
    const opened = await openAll(move.view, move.select, slice, move.by.open);
    try {
      const plans = slice.map((parsed, index) => {
        const one = opened[index] ?? unsettled();
        return isFailed(one) ? one : attempt(() => planOf(one, move, parsed));
      });
      const moving = plans.filter(isMoving);
      const { principal, epoch } = move.by.seal;
      const sealed = await byVersion(moving, sealTogether, (item) => seal(item, epoch));
      count(principal, 'protect', moving, sealed);
      const results = sealed.values();
      return plans.map((plan) =>
        isMoving(plan) ? movedBy(plan, results.next().value ?? unsettled()) : plan,
      );
    } finally {
      for (const one of opened) if (!isFailed(one)) wipe(one.plaintext);
    }
  };

  return {
    wrapMany: (grant, inputs) =>
      settleRest(inputs, async (given) => {
        const view = await viewFor(grant);
        const select = selectOnce((version: number | undefined) => toProtect(view, version, now()));
        const items = given.map((input) =>
          attempt((): ToSeal => {
            const { keyVersion } = input;
            return { input, selected: selectTelling(view, input, () => select(keyVersion)) };
          }),
        );
        return settleRest(items, async (rest) => {
          const sealed = await byVersion(rest, sealTogether, (item) => seal(item, grant.epoch));
          count(grant.principal, 'protect', rest, sealed);
          return sealed;
        });
      }),

    unwrapMany: (grant, inputs) =>
      settleRest(parseAll(inputs), async (given) => {
        const view = await viewFor(grant);
        return openAll(view, selecting(view, now), given, grant);
      }),

    rewrapMany: (grant, to, inputs) =>
      settleRest(parseAll(inputs), async (given) => {
        const view = await viewFor(grant);
        const target = await targetOf(to === null ? view : viewFor(to), now);
        const by = { open: grant, seal: to ?? grant };
        const move = { view, select: selecting(view, now), target, by };
        const slices = Array.from({ length: Math.ceil(given.length / SLICE) }, (_, index) =>
          given.slice(index * SLICE, (index + 1) * SLICE),
        );
        const settled = await settleEach(slices, SLICES_AT_ONCE, (slice) => moveAll(move, slice));
        return settled.flatMap((slice, index) =>
          isFailed(slice) ? (slices[index] ?? []).map(() => slice) : slice,
        );
      }),
  };
}

/**
 * A ciphertext that is where it shall go stays as it is.
 * @throws TwofoldError origin_would_rise, or what stands in the way of the target
 */
function planOf(
  { used: from, plaintext, origin }: Opened,
  { target }: Move,
  { input: { ciphertext, binding } }: Parsed,
): Rewrapped | ToMove {
  if (isFailed(target)) throw target;
  if (target.keyId === from.keyId && target.version === from.keyVersion) {
    return { used: target.used, from, ciphertext, changed: false };
  }
  if (origin === 'anyone' && target.suite.kind === 'aead') {
    throw new TwofoldError('origin_would_rise');
  }
  return { selected: target, input: { plaintext, binding }, origin, from };
}

async function targetOf(
  view: KeyView | Promise<KeyView>,
  now: () => number,
): Promise<Settled<Selected>> {
  try {
    return toProtect(await view, undefined, now());
  } catch (error) {
    return TwofoldError.from(error);
  }
}

const isMoving = (plan: Settled<Rewrapped | ToMove>): plan is ToMove =>
  !isFailed(plan) && 'selected' in plan;

const movedBy = ({ from }: ToMove, sealed: Settled<Wrapped>): Settled<Rewrapped> =>
  isFailed(sealed)
    ? sealed
    : { used: sealed.used, from, ciphertext: sealed.ciphertext, changed: true };

const parseAll = (inputs: readonly UnwrapInput[]): readonly Settled<Parsed>[] => {
  const parser = new EnvelopeParser();
  return inputs.map((input) =>
    attempt(() => ({ input, envelope: parser.parse(input.ciphertext) })),
  );
};

const selecting = (view: KeyView, now: () => number): Select =>
  selectOnce((version: number) => toProcess(view, version, now()));

/** One look at each version, however many items name it. */
function selectOnce<V>(select: (version: V) => Selected): (version: V) => Selected {
  const known = new Map<V, Settled<Selected>>();
  return (version) => {
    const found = known.get(version) ?? attempt(() => select(version));
    known.set(version, found);
    if (isFailed(found)) throw found;
    return found;
  };
}

/** The items of a symmetric version together, those of all others one by one; results in order. */
async function byVersion<T extends { readonly selected: Selected }, R>(
  items: readonly T[],
  together: (
    selected: Selected,
    suite: AeadSuite,
    items: readonly T[],
  ) => Promise<readonly Settled<R>[]>,
  alone: (item: T) => Promise<R>,
): Promise<readonly Settled<R>[]> {
  const groupOf = ({ selected }: T) => (selected.suite.kind === 'aead' ? selected : null);
  const groups = Map.groupBy(items, groupOf);
  const results = new Map<Selected | null, Iterator<Settled<R>, undefined>>();
  for (const [selected, group] of groups) {
    const settled = await settleRest(group, (rest) =>
      selected?.suite.kind === 'aead'
        ? together(selected, selected.suite, rest)
        : settleEach(rest, PARALLEL, alone),
    );
    if (groups.size === 1) return settled;
    results.set(selected, settled.values());
  }
  return items.map((item) => results.get(groupOf(item))?.next().value ?? unsettled());
}

const unsettled = () =>
  new TwofoldError('internal', undefined, { cause: new Error('an item was not settled') });
