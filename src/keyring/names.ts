/** What a key may be called and labelled. */
import { TwofoldError } from '../errors.ts';
import type { Labels } from './model.ts';

const NAME_FORM = /^[a-z0-9][a-z0-9._-]{0,127}$/;
/** Any spelling that some parser takes as a UUID, so that a reference is never ambiguous. */
const UUID_LIKE = /^(?:-*[0-9a-f]){32}-*$/;
const LABEL_NAME = /^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$/;

const MAX_LABELS = 64;
const MAX_LABEL_VALUE = 255;
const MAX_REASON = 512;

/** Control characters break terminals and logs, NUL breaks databases, lone surrogates have no UTF-8. */
const isPrintable = (text: string): boolean => text.isWellFormed() && !/\p{Cc}/u.test(text);

/** Whether a key could have this name; any other reference names nothing. */
export function isName(name: string): boolean {
  return NAME_FORM.test(name) && !UUID_LIKE.test(name);
}

/** @throws TwofoldError invalid_value */
export function checkName(name: string): void {
  if (!NAME_FORM.test(name)) {
    throw new TwofoldError(
      'invalid_value',
      'A key name is 1 to 128 characters of a-z, 0-9, ".", "_" and "-", and starts with a letter or digit.',
    );
  }
  if (UUID_LIKE.test(name)) {
    throw new TwofoldError('invalid_value', 'A key name must not read as a UUID.');
  }
}

/** @throws TwofoldError invalid_value */
export function checkLabels(labels: Labels): void {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) {
    throw new TwofoldError('invalid_value', `A key has at most ${String(MAX_LABELS)} labels.`);
  }
  for (const [name, value] of entries) {
    if (!LABEL_NAME.test(name) || value.length > MAX_LABEL_VALUE || !isPrintable(value)) {
      throw new TwofoldError(
        'invalid_value',
        'A label name is 1 to 63 characters of letters, digits, ".", "_", "/" and "-"; ' +
          'a value at most 255 without control characters.',
      );
    }
  }
}

/** RFC 7396 on a flat object: null removes. Sorted by name, so that equal labels are equal bytes. */
export function mergeLabels(
  labels: Labels,
  patch: Readonly<Record<string, string | null>>,
): Labels {
  const merged = Object.entries({ ...labels, ...patch }).filter(
    (entry): entry is [string, string] => entry[1] !== null,
  );
  const sorted = Object.fromEntries(merged.toSorted(([a], [b]) => (a < b ? -1 : 1)));
  checkLabels(sorted);
  return sorted;
}

export function sameLabels(one: Labels, other: Labels): boolean {
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && one[name] === other[name])
  );
}

/** Why a key or version changed state. @throws TwofoldError invalid_value */
export function checkReason(reason: string): void {
  if (reason === '' || reason.length > MAX_REASON || !isPrintable(reason)) {
    throw new TwofoldError(
      'invalid_value',
      `A reason is 1 to ${String(MAX_REASON)} characters without control characters.`,
    );
  }
}
