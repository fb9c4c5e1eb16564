/**
 * The head of a request: our own headers and the query, strictly (promise P7). A header or query
 * parameter that a route does not know is refused, as is one that comes twice.
 */
import type { IncomingMessage } from 'node:http';

import { NAME } from '../name.ts';
import { TwofoldError } from '../errors.ts';
import { refusal } from './refusal.ts';
import type { RouteContract } from '../contract/route.ts';

const PREFIX = NAME.header.toLowerCase();
/** Headers that change what a request means: two of them are two meanings. */
const SINGLE = new Set([
  'authorization',
  'content-type',
  'content-length',
  'host',
  'idempotency-key',
  'if-match',
  'last-event-id',
]);
/** Standard headers that a contract can declare. */
const DECLARABLE = new Set(['idempotency-key', 'if-match', 'last-event-id']);

export type HeaderValues = Readonly<Record<string, string>>;

/**
 * Headers that a contract may know, by lower-case name.
 * @throws TwofoldError malformed_request when one comes twice, or Host is missing
 */
export function declaredHeaders(request: IncomingMessage): HeaderValues {
  if (request.headers.host === undefined && request.httpVersion === '1.1') {
    throw new TwofoldError('malformed_request', 'The Host header is missing.');
  }
  const raw = request.rawHeaders;
  const found = Object.create(null) as Record<string, string>;
  const seen = new Set<string>();
  for (let index = 0; index < raw.length; index += 2) {
    const name = (raw[index] ?? '').toLowerCase();
    const ours = name.startsWith(PREFIX);
    if (!ours && !SINGLE.has(name)) continue;
    if (seen.has(name)) throw new TwofoldError('malformed_request', `${name} was sent twice.`);
    seen.add(name);
    if (ours || DECLARABLE.has(name)) found[name] = raw[index + 1] ?? '';
  }
  return found;
}

/** What a schema makes of nothing, where it takes that: most requests have no headers of ours and no query. */
const ofNothing = new WeakMap<RouteContract['query'], object>();

function parseNothing(schema: RouteContract['query']): object | null {
  const known = ofNothing.get(schema);
  if (known !== undefined) return known;
  const parsed = schema.safeParse({});
  if (!parsed.success) return null;
  ofNothing.set(schema, Object.freeze(parsed.data));
  return parsed.data;
}

/** Parses the headers by the route's schema. */
export function readHeaders(route: RouteContract, values: HeaderValues): object {
  const known = route.headers.shape as Record<string, unknown>;
  const relevant: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    // A precondition on a route without one is for caches between us and the client.
    if (name !== 'if-match' || name in known) relevant[name] = value;
  }
  const nothing = Object.keys(relevant).length === 0 ? parseNothing(route.headers) : null;
  if (nothing !== null) return nothing;
  const parsed = route.headers.safeParse(relevant);
  if (parsed.success) return parsed.data;
  // Where it may be left out, its absence is no fault; where it is the only fault, it has its own code.
  const onlyTag = parsed.error.issues.every(({ path: [name] }) => name === 'if-match');
  if (onlyTag && relevant['if-match'] === undefined) {
    throw new TwofoldError('precondition_required');
  }
  throw refusal(parsed.error, route.headers, 'unknown_parameter', ([name]) =>
    name === undefined ? `The ${NAME.header}* headers` : String(name),
  );
}

/** Parameters that are many under one beginning, by the member of the contract that they become. */
const FAMILIES: Readonly<Record<string, string>> = { labels: 'label.', context: 'context.' };
const BAD_ESCAPE = /%(?![0-9a-fA-F]{2})/;

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw new TwofoldError('malformed_request', 'The query is not valid UTF-8.');
  }
}

const empty = () => Object.create(null) as Record<string, unknown>;

/** `a=1&label.x=y` as `{ a: '1', labels: { x: 'y' } }`; of the families that the route filters by. */
function queryObject(text: string, families: readonly string[]): Record<string, unknown> {
  if (BAD_ESCAPE.test(text)) {
    throw new TwofoldError('malformed_request', 'The query has a broken percent-encoding.');
  }
  const values = empty();
  const members: Record<string, Record<string, unknown>> = {};
  for (const pair of text.split('&')) {
    const split = pair.indexOf('=');
    const name = decode(split < 0 ? pair : pair.slice(0, split));
    const family = families.find((each) => name.startsWith(FAMILIES[each] ?? each));
    const target = family === undefined ? values : (members[family] ??= empty());
    const key = family === undefined ? name : name.slice(FAMILIES[family]?.length);
    // Schemas drop this name from records in silence.
    if (key === '__proto__') throw new TwofoldError('unknown_parameter', 'No parameter has it.');
    // `labels` is the contract's name for what `label.` collects, and no parameter.
    const taken = key in target || (family === undefined && families.includes(key));
    if (taken) throw new TwofoldError('unknown_parameter', 'A parameter comes twice.');
    target[key] = split < 0 ? '' : decode(pair.slice(split + 1));
    if (family !== undefined) values[family] = target;
  }
  return values;
}

/** Parses the query by the route's schema; the common empty query costs nothing. */
export function readQuery(route: RouteContract, url: string): object {
  const mark = url.indexOf('?');
  const nothing = mark < 0 ? parseNothing(route.query) : null;
  if (nothing !== null) return nothing;
  const families = Object.keys(FAMILIES).filter((each) => each in (route.query.shape as object));
  const values = mark < 0 ? {} : queryObject(url.slice(mark + 1), families);
  const parsed = route.query.safeParse(values);
  if (parsed.success) return parsed.data;
  throw refusal(parsed.error, route.query, 'unknown_parameter', ([name]) =>
    name === undefined ? 'The query' : `?${FAMILIES[String(name)] ?? String(name)}`,
  );
}

/** Parses the parameters of the path by the route's schema. */
export function readParams(
  { params }: RouteContract,
  given: Readonly<Record<string, unknown>>,
): object {
  const parsed = params.safeParse({ ...given });
  if (parsed.success) return parsed.data;
  throw refusal(parsed.error, params, 'unknown_parameter', ([name]) =>
    name === undefined ? 'The path' : `{${String(name)}}`,
  );
}
