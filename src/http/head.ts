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

/** Parses the headers by the route's schema. */
export function readHeaders(route: RouteContract, values: HeaderValues): object {
  const known = route.headers.shape as Record<string, unknown>;
  const relevant: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    // A precondition on a route without one is for caches between us and the client.
    if (name !== 'if-match' || name in known) relevant[name] = value;
  }
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

const LABEL = 'label.';
const BAD_ESCAPE = /%(?![0-9a-fA-F]{2})/;

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw new TwofoldError('malformed_request', 'The query is not valid UTF-8.');
  }
}

/** `a=1&label.x=y` as `{ a: '1', labels: { x: 'y' } }`; `label.` only where the route filters by it. */
function queryObject(text: string, takesLabels: boolean): Record<string, unknown> {
  if (BAD_ESCAPE.test(text)) {
    throw new TwofoldError('malformed_request', 'The query has a broken percent-encoding.');
  }
  const values = Object.create(null) as Record<string, unknown>;
  const labels = Object.create(null) as Record<string, unknown>;
  for (const pair of text.split('&')) {
    const split = pair.indexOf('=');
    const name = decode(split < 0 ? pair : pair.slice(0, split));
    const isLabel = takesLabels && name.startsWith(LABEL);
    const target = isLabel ? labels : values;
    const key = isLabel ? name.slice(LABEL.length) : name;
    // Schemas drop this name from records in silence.
    if (key === '__proto__') throw new TwofoldError('unknown_parameter', 'No parameter has it.');
    // `labels` is the contract's name for what `label.` collects, and no parameter.
    const taken = key in target || (takesLabels && !isLabel && key === 'labels');
    if (taken) throw new TwofoldError('unknown_parameter', 'A parameter comes twice.');
    target[key] = split < 0 ? '' : decode(pair.slice(split + 1));
    if (isLabel) values['labels'] = labels;
  }
  return values;
}

/** Parses the query by the route's schema; the common empty query costs nothing. */
export function readQuery(route: RouteContract, url: string): object {
  const mark = url.indexOf('?');
  const takesLabels = 'labels' in (route.query.shape as object);
  const values = mark < 0 ? {} : queryObject(url.slice(mark + 1), takesLabels);
  const parsed = route.query.safeParse(values);
  if (parsed.success) return parsed.data;
  throw refusal(parsed.error, route.query, 'unknown_parameter', ([name]) =>
    name === undefined ? 'The query' : `?${name === 'labels' ? 'label.' : String(name)}`,
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
