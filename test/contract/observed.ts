/**
 * Holds every answer that a test gets to the contract: the route lists its status, code and media
 * type, and a JSON body is of the form that it states, without another member. Answers of no route
 * (`route_not_found`, a malformed head) only have to be problem documents.
 */
import { isDeepStrictEqual } from 'node:util';

import { approval } from '../../src/contract/approvals.ts';
import { PROBLEM_MEDIA_TYPE, problem } from '../../src/contract/problem.ts';
import { errorsOf, isAnonymous, takesApproval } from '../../src/contract/route.ts';
import type { RouteContract } from '../../src/contract/route.ts';
import { MONITORING_ROUTES, ROUTES } from '../../src/contract/routes.ts';
import { ERRORS } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';

export interface Observed {
  readonly method: string;
  /** With or without a query. */
  readonly path: string;
  readonly status: number;
  readonly contentType: string | null;
  readonly body: Uint8Array;
}

const PATTERNS = [...ROUTES, ...MONITORING_ROUTES].map((route) => ({
  route,
  pattern: new RegExp(
    `^${route.path.replaceAll('.', '\\.').replaceAll(/\{(\w+)\}/g, (_all, name) => (name === route.spans ? '.+' : '[^/]+'))}$`,
  ),
}));

/** @throws Error that names what the contract does not list */
export function assertListed(observed: Observed): void {
  const { method, path, status, contentType } = observed;
  const [pathname = ''] = path.split('?');
  const asked = method === 'HEAD' ? 'GET' : method;
  const found = PATTERNS.find(
    ({ route, pattern }) => route.method === asked && pattern.test(pathname),
  );
  const fault = faultOf(observed, found?.route);
  if (fault === null) return;
  const route = found?.route.id ?? 'no route';
  throw new Error(`${method} ${pathname} (${route}) answered ${status} ${contentType}: ${fault}`);
}

function faultOf(
  { method, status, contentType, body }: Observed,
  route: RouteContract | undefined,
) {
  const type = (contentType ?? '').split(';')[0];
  if (method === 'HEAD') return null;
  if (type === PROBLEM_MEDIA_TYPE) return problemFault(status, body, route);
  if (route === undefined) return 'not a problem document';
  // A request that a rule guards is answered with its approval.
  if (status === 202 && takesApproval(route)) return bodyFault(body, { response: approval });
  if (status !== route.status && !(status in route.also)) return 'the status is not listed';
  if (type === 'application/json') return bodyFault(body, route);
  if (route.lines) return linesFault(body, route);
  const listed: readonly string[] = [...route.gives, ...(route.bytes?.gives ?? [])];
  return listed.includes(type ?? '') ? null : 'the media type is not listed';
}

function problemFault(status: number, body: Uint8Array, route: RouteContract | undefined) {
  const value = jsonOf(body);
  const parsed = problem.safeParse(value);
  if (!parsed.success || !isDeepStrictEqual(parsed.data, value)) return 'not the form of a problem';
  const { code } = parsed.data;
  if (parsed.data.status !== status || ERRORS[code].status !== status) return 'another status';
  const listed = route === undefined || isAnonymous(route) || errorsOf(route).includes(code);
  return listed || OUTSIDE.has(code) ? null : `the code ${code} is not listed`;
}

/** Answers of the server in front of the routes. */
const OUTSIDE: ReadonlySet<ErrorCode> = new Set(['route_not_found', 'method_not_allowed']);

function bodyFault(body: Uint8Array, route: Pick<RouteContract, 'response'>): string | null {
  const value = jsonOf(body);
  const parsed = route.response.safeParse(value);
  if (!parsed.success) return `not the form of the answer: ${parsed.error.message}`;
  // A member that the schema does not name is stripped.
  return isDeepStrictEqual(parsed.data, value) ? null : 'a member that is not listed';
}

function linesFault(body: Uint8Array, route: RouteContract): string | null {
  const lines = Buffer.from(body).toString('utf8').split('\n');
  if (lines.pop() !== '') return 'the last line does not end';
  const faults = lines.map((line) => bodyFault(Buffer.from(line), route));
  return faults.find((fault) => fault !== null) ?? null;
}

const jsonOf = (body: Uint8Array): unknown => JSON.parse(Buffer.from(body).toString('utf8'));
