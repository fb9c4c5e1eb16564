/** Media types: what a body is, and what the answer shall be (RFC 9110 sections 8.3 and 12.5.1). */
import { TwofoldError } from '../errors.ts';
import type { AnswerForm, ByteMediaType, RouteContract } from '../contract/route.ts';

export const JSON_TYPE = 'application/json';
export const LINES_TYPE = 'application/x-ndjson';
export type AnswerType = AnswerForm;

/** What a request body is to be read as. */
export type BodyType = 'json' | ByteMediaType;

const UTF8_ONLY = /^\s*charset\s*=\s*"?utf-8"?\s*$/i;

/**
 * @throws TwofoldError unsupported_media_type
 */
export function bodyTypeOf(route: RouteContract, contentType: string | undefined): BodyType {
  const [type = '', ...parameters] = (contentType ?? '').split(';');
  const name = type.trim().toLowerCase();
  const known = parameters.every((parameter) => UTF8_ONLY.test(parameter));
  if (known && route.json.includes(name)) return 'json';
  const bytes = route.bytes?.accepts.find((accepted) => accepted === name);
  if (known && bytes !== undefined) return bytes;
  const taken = [...route.json, ...(route.bytes?.accepts ?? [])].join(', ');
  throw new TwofoldError('unsupported_media_type', `This route takes ${taken}, in UTF-8.`);
}

/** What the route can answer, first what fits the form of the request best. */
function candidates(route: RouteContract, body: BodyType): readonly AnswerType[] {
  if (route.lines) return [LINES_TYPE];
  if (!route.gives.includes(JSON_TYPE)) return route.gives;
  const gives = route.bytes?.gives ?? [];
  if (body === 'json') return [JSON_TYPE, ...gives];
  const own = gives.filter((type) => type === body);
  return [...own, ...gives.filter((type) => type !== body), JSON_TYPE];
}

interface MediaRange {
  readonly type: string;
  readonly quality: number;
}

function rangeOf(text: string): MediaRange {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const quality = parameters.find((parameter) => parameter.startsWith('q='));
  return { type, quality: quality === undefined ? 1 : Number(quality.slice(2)) };
}

/** Quality of the most specific range that covers the type. */
function qualityOf(type: string, ranges: readonly MediaRange[]): number {
  const family = `${type.split('/')[0] ?? ''}/*`;
  for (const wanted of [type, family, '*/*']) {
    const range = ranges.find((candidate) => candidate.type === wanted);
    if (range !== undefined) return range.quality;
  }
  return 0;
}

/** @throws TwofoldError not_acceptable */
export const answerTypeOf = (
  route: RouteContract,
  body: BodyType,
  accept: string | undefined,
): AnswerType => preferredOf(candidates(route, body), accept);

/**
 * Of several types the one that the client likes best; of those that it likes alike, the first.
 *
 * @throws TwofoldError not_acceptable
 */
export function preferredOf<T extends string>(
  offered: readonly T[],
  accept: string | undefined,
): T {
  const [preferred] = offered;
  const any = accept === undefined || accept === '*/*' || accept === preferred;
  if (any && preferred !== undefined) return preferred;
  const ranges = (accept ?? '*/*').split(',').map(rangeOf);
  let best: T | undefined;
  let highest = 0;
  for (const type of offered) {
    const quality = qualityOf(type, ranges);
    if (quality > highest) [best, highest] = [type, quality];
  }
  if (best !== undefined) return best;
  throw new TwofoldError('not_acceptable', `This route answers ${offered.join(', ')}.`);
}
