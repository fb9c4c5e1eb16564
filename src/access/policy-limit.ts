/**
 * Annotations of a Cedar policy. Cedar itself makes nothing of them; here `@limit` on a permit says how
 * fast each principal may go that the policy admits, and how often in a day or month, so one that is misspelt is refused rather than ignored.
 */
import type { PolicyComplaint } from './policy-error.ts';
import { PolicyInvalid, positionOf } from './policy-error.ts';

/** How fast a policy lets each principal go. */
export interface PolicyRate {
  /** Requests in a minute; each item of a batch counts. */
  readonly perMinute: number;
  /** How many may come at once; null: ten seconds' worth. */
  readonly burst: number | null;
}

export type PolicyPeriod = 'day' | 'month';

/** What a policy lets each principal do: one of these at least. */
export interface PolicyTerms {
  readonly rate: PolicyRate | null;
  /** How many in a day or month of UTC. */
  readonly quotas: ReadonlyMap<PolicyPeriod, number>;
}

/** The limits of one policy of a set. */
export interface PolicyLimit extends PolicyTerms {
  /** Id of the policy. */
  readonly policy: string;
}

/** As many as there may be of any other limit (`contract/limits.ts`). */
const MOST = 100_000_000;
const KNOWN: ReadonlySet<string> = new Set(['id', 'description', 'limit']);
const FORM = /^([1-9][0-9]{0,8})\/(s|min|day|month)(?: burst ([1-9][0-9]{0,8}))?$/u;
/** A rate, and a quota of each period. */
const MOST_TERMS = 3;

/**
 * `100/s`, `600/min burst 50`, `10000/day` or `200000/month`, or several of them with a comma and a space
 * between: one rate and one quota of each period at most.
 * @returns what is wrong with it, where it is none of that or beyond what a limit may be
 */
export function readLimit(text: string): PolicyTerms | string {
  const terms = text.split(', ', MOST_TERMS + 1);
  if (terms.length > MOST_TERMS) return 'has more than a rate and two quotas';
  let rate: PolicyRate | null = null;
  const quotas = new Map<PolicyPeriod, number>();
  for (const term of terms) {
    const [, digits, unit, burst] = FORM.exec(term) ?? [];
    if (digits === undefined) return 'has a part that is none';
    const count = Number(digits) * (unit === 's' ? 60 : 1);
    const atOnce = burst === undefined ? null : Number(burst);
    if (count > MOST || (atOnce ?? 0) > MOST) return 'lets more through than a limit can say';
    if (unit === 'day' || unit === 'month') {
      if (atOnce !== null) return 'has a burst for what is no rate';
      if (quotas.has(unit)) return `says twice how many in a ${unit}`;
      quotas.set(unit, count);
    } else if (rate === null) rate = { perMinute: count, burst: atOnce };
    else return 'says two rates';
  }
  return { rate, quotas };
}

/** Null where there is none, or none that means anything. */
export function termsOfLimit(text: string): PolicyTerms | null {
  const terms = readLimit(text);
  return typeof terms === 'string' ? null : terms;
}

/** How many limits it is: each is a bucket of whom it admits. */
export const limitsIn = (terms: PolicyTerms | null): number =>
  terms === null ? 0 : (terms.rate === null ? 0 : 1) + terms.quotas.size;

/**
 * Holds the annotations of one policy that parses to what is known here.
 * @param values by name, as Cedar reads them
 * @throws PolicyInvalid each complaint at the place of its annotation
 */
export function checkAnnotations(
  text: string,
  effect: 'permit' | 'forbid',
  values: Readonly<Record<string, string | null | undefined>>,
): void {
  const places = new Map(annotationsOf(text).map(({ name, offset }) => [name, offset]));
  // What Cedar read is what counts; the text only says where each stands.
  const complaints = Object.entries(values).flatMap(([name, value]): PolicyComplaint[] => {
    const message = complaintAbout(name, effect, value ?? '');
    return message === null ? [] : [{ ...placeOf(text, places.get(name)), message }];
  });
  if (complaints.length > 0) throw new PolicyInvalid(complaints);
}

function complaintAbout(name: string, effect: string, value: string): string | null {
  if (!KNOWN.has(name))
    return `@${name} is no annotation here; there are @id, @description, @limit`;
  if (name !== 'limit') return null;
  if (effect === 'forbid') return '@limit stands on a permit: a forbid lets nobody through';
  const read = readLimit(value);
  if (typeof read !== 'string') return null;
  return (
    `@limit ${read}: it is a rate and quotas of a day and a month of UTC, or one of them, each ` +
    `${String(MOST)} at most in a minute, day or month: "100/s", "600/min burst 50", "10000/day", "100/s, 10000/day, 200000/month"`
  );
}

const placeOf = (text: string, offset: number | undefined) =>
  offset === undefined ? { line: null, column: null } : positionOf(text, offset);

interface Annotation {
  readonly name: string;
  /** Where its `@` stands, in bytes of UTF-8, as Cedar counts. */
  readonly offset: number;
}

/** White space, a comment (as Cedar ends them: at either line break), or an annotation with its value. */
const PIECE = /\s+|\/\/[^\n\r]*|@\s*(\w+)\s*(?:\(\s*"(?:[^"\\]|\\.)*"\s*\)|(?!\s*\())/suy;

/** Those in front of the first policy of a text that Cedar has parsed. */
function annotationsOf(text: string): readonly Annotation[] {
  const found: Annotation[] = [];
  const piece = new RegExp(PIECE);
  for (let at = 0; ; at = piece.lastIndex) {
    piece.lastIndex = at;
    const [whole, name] = piece.exec(text) ?? [];
    if (whole === undefined) return found;
    if (name !== undefined) found.push({ name, offset: Buffer.byteLength(text.slice(0, at)) });
  }
}
