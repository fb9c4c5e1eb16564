/**
 * Wrap and unwrap of many items under one key: one look at the key and at each version that is used,
 * and for symmetric suites one count of uses and few HSM calls for all items of a version. Items of
 * other suites are worked on one by one.
 */
import type { Grant } from '../access/grant.ts';
import { EnvelopeParser } from '../crypto/envelope.ts';
import type { Envelope } from '../crypto/envelope.ts';
import type { AeadSuite } from '../crypto/suite.ts';
import { checkPlaintext, SymmetricForm } from '../crypto/wrap.ts';
import { TwofoldError } from '../errors.ts';
import { attempt, isFailed, settleEach, settleRest } from '../settled.ts';
import type { Settled } from '../settled.ts';
import type { Usage } from './lifecycle.ts';
import { handleId } from './material.ts';
import type { KeyUse, Opened, UnwrapInput, Wrapped, WrapInput } from './operations.ts';
import { requirePurpose, selectTelling, toProcess, toProtect } from './selection.ts';
import type { Selected } from './selection.ts';
import { gcmExhausted } from './usage.ts';
import { hsmKeyOf } from './use-parts.ts';
import type { UseParts } from './use-parts.ts';

/** Items of hybrid suites that are worked on at a time, so that one batch does not fill the HSM's queue. */
const PARALLEL = 16;

interface ToSeal {
  readonly selected: Selected;
  readonly input: WrapInput;
}

interface ToOpen {
  readonly selected: Selected;
  readonly input: UnwrapInput;
  readonly envelope: Envelope;
}

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
): Pick<KeyUse, 'wrapMany' | 'unwrapMany'> {
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
    { principal }: Grant<'wrap'> | Grant<'unwrap'>,
    usage: Usage,
    items: readonly { readonly selected: Selected }[],
    results: readonly Settled<unknown>[],
  ): void => {
    const done = items.filter((_, index) => !isFailed(results[index]));
    for (const [selected, group] of Map.groupBy(done, (item) => item.selected)) {
      ledger.count(selected, principal, usage, group.length);
    }
  };

  return {
    wrapMany: (grant, inputs) =>
      settleRest(inputs, async (given) => {
        const view = await catalog.get(grant.namespace, grant.key ?? '');
        requirePurpose(view, 'wrap');
        const select = selectOnce((version: number | undefined) => toProtect(view, version, now()));
        const items = given.map((input) =>
          attempt((): ToSeal => {
            const { keyVersion } = input;
            return { input, selected: selectTelling(view, input, () => select(keyVersion)) };
          }),
        );
        return settleRest(items, async (rest) => {
          const sealed = await byVersion(rest, sealTogether, (item) => seal(item, grant.epoch));
          count(grant, 'protect', rest, sealed);
          return sealed;
        });
      }),

    unwrapMany: (grant, inputs) => {
      const parser = new EnvelopeParser();
      const parsed = inputs.map((input) =>
        attempt(() => ({ input, envelope: parser.parse(input.ciphertext) })),
      );
      return settleRest(parsed, async (given) => {
        const view = await catalog.get(grant.namespace, grant.key ?? '');
        requirePurpose(view, 'wrap');
        const select = selectOnce((version: number) => toProcess(view, version, now()));
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
          const opened = await byVersion(rest, openTogether, (item) => open(item, grant.epoch));
          count(grant, 'process', rest, opened);
          return opened;
        });
      });
    },
  };
}

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
