/** What a key may be called and labelled. */
import { TwofoldError } from '../errors.ts';
import type { Labels } from './model.ts';

const NAME_FORM = /^[a-z0-9][a-z0-9._-]{0,127}$/;
/** Any spelling that some parser takes as a UUID, so that a reference is never ambiguous. */
const UUID_LIKE = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/;
const LABEL_NAME = /^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$/;

const MAX_LABELS = 64;
const MAX_LABEL_VALUE = 255;

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
    if (!LABEL_NAME.test(name) || value.length > MAX_LABEL_VALUE) {
      throw new TwofoldError(
        'invalid_value',
        'A label name is 1 to 63 characters of letters, digits, ".", "_", "/" and "-"; a value at most 255.',
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
