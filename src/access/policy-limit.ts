/**
 * Annotations of a Cedar policy. Cedar itself makes nothing of them; here `@limit` on a permit says how
 * fast each principal may go that the policy admits, so one that is misspelt is refused rather than ignored.
 */
import type { PolicyComplaint } from './policy-error.ts';
import { PolicyInvalid, positionOf } from './policy-error.ts';

/** What a policy lets each principal do. */
export interface PolicyRate {
  /** Requests in a minute; each item of a batch counts. */
  readonly perMinute: number;
  /** How many may come at once; null: ten seconds' worth. */
  readonly burst: number | null;
}

/** The limit of one policy of a set. */
export interface PolicyLimit extends PolicyRate {
  /** Id of the policy. */
  readonly policy: string;
}

/** As many as there may be of any other limit (`contract/limits.ts`). */
const MOST = 100_000_000;
const KNOWN: ReadonlySet<string> = new Set(['id', 'description', 'limit']);
const FORM = /^([1-9][0-9]{0,8})\/(s|min)(?: burst ([1-9][0-9]{0,8}))?$/u;

/**
 * `100/s`, `600/min` or `600/min burst 50`; null where it is none of that or beyond what a limit may be.
 */
export function rateOfText(text: string): PolicyRate | null {
  const [, count, unit, burst] = FORM.exec(text) ?? [];
  if (count === undefined) return null;
  const perMinute = Number(count) * (unit === 's' ? 60 : 1);
  const most = burst === undefined ? null : Number(burst);
  return perMinute > MOST || (most ?? 0) > MOST ? null : { perMinute, burst: most };
}

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
  if (rateOfText(value) !== null) return null;
  return `@limit is a count for a second or a minute, ${String(MOST)} in a minute at most: "100/s" or "600/min burst 50"`;
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
