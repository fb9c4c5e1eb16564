/**
 * What a route is. The table of routes (`routes.ts`) is the one source of what the server serves,
 * what `openapi.yaml` says, and which operation a policy must permit.
 */
import { z } from 'zod';

import { APPROVAL_HEADER, approvalHeader, isGuardable } from './guards.ts';
import { keyReference, keyVersionText, namespaceName } from './scalars.ts';
import type { ErrorCode } from '../errors.ts';

/**
 * `use` reads and uses keys and changes nothing but counters and audit; `admin` is everything that
 * changes stored state, and what is read for administration, all of it under `/v1/admin`; `public` is the anonymous few; `monitoring` is what
 * the metrics listener alone serves, also without a token.
 */
export type Plane = 'use' | 'admin' | 'public' | 'monitoring';
export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type BodyLimit = 'single' | 'batch';

/**
 * The byte form of a route. A request body of one of `accepts` stands for the member `member`, its
 * other members come as headers; an answer of one of `gives` is the bytes of the member `answer`,
 * its other members go out as headers.
 */
export interface ByteForm {
  readonly member: string | null;
  readonly accepts: readonly ByteMediaType[];
  /** Header (lower case) -> member of the JSON body. */
  readonly inputs: Readonly<Record<string, string>>;
  /** One member, or several of which an answer has one. */
  readonly answer: string | readonly string[] | null;
  readonly gives: readonly ByteMediaType[];
  /** Member of the JSON answer -> header. Members that are null have none. */
  readonly outputs: Readonly<Record<string, string>>;
}

/** `text/plain` is the text form of an envelope, without a line break. */
export type ByteMediaType = 'application/octet-stream' | 'text/plain';

/** Forms of a whole answer, beside the bytes of a `ByteForm`. */
export type AnswerForm =
  | 'application/json'
  | 'application/octet-stream'
  | 'text/plain'
  | 'application/jwk-set+json'
  | 'application/x-pem-file'
  | 'application/x-ndjson'
  | 'application/yaml'
  | 'text/event-stream'
  | 'text/html';

export interface RouteContract {
  /** Also the operationId. */
  readonly id: string;
  readonly method: Method;
  /** With `{name}` for parameters. */
  readonly path: `/${string}`;
  readonly plane: Plane;
  /** The operation that policy must permit; null where no token is asked for. */
  readonly operation: string | null;
  readonly summary: string;
  readonly params: z.ZodObject;
  /** The parameter at the path's end that takes all its further segments, with their slashes; null: none. */
  readonly spans: string | null;
  readonly query: z.ZodObject;
  /** Named in lower case; of these, `twofold-…`, `idempotency-key`, `if-match` and `last-event-id` are read. */
  readonly headers: z.ZodObject;
  readonly body: z.ZodType | null;
  /** Media types that are read as JSON. */
  readonly json: readonly string[];
  readonly bytes: ByteForm | null;
  /**
   * Whether body and answer are lines (NDJSON), and `body` and `response` what one line is. A line that
   * is refused is that line's error; the others are worked on.
   */
  readonly lines: boolean;
  readonly limit: BodyLimit;
  /** What it answers in, the form for a client that does not choose first. */
  readonly gives: readonly AnswerForm[];
  readonly status: 200 | 201 | 202;
  /** Further statuses that have a body of `response`, each with what it means. */
  readonly also: Readonly<Partial<Record<200 | 304 | 503, string>>>;
  readonly response: z.ZodType;
  /** Beyond those that every route of its plane can answer (`errorsOf`). */
  readonly errors: readonly ErrorCode[];
}

const ABSENT = {
  params: z.strictObject({}),
  spans: null,
  query: z.strictObject({}),
  body: null,
  json: ['application/json'],
  bytes: null,
  lines: false,
  limit: 'single',
  gives: ['application/json'],
  status: 200,
  also: {},
} as const;

type Absent = typeof ABSENT;
type Optional = keyof Absent | 'headers';
/** A route as it is written down: parts that it does not have are left out. */
type RouteDraft = Omit<RouteContract, Optional> & Partial<Pick<RouteContract, Optional>>;

const NAMESPACE = { 'twofold-namespace': namespaceName.optional() } as const;
/** Headers that every authenticated route reads. */
export const namespaceHeaders = z.strictObject(NAMESPACE);
const noHeaders = z.strictObject({});

/** Headers of a route beside the namespace. */
export const headers = <const S extends z.core.$ZodLooseShape>(shape: S) =>
  z.strictObject({ ...NAMESPACE, ...shape });

type Headers<D> = D extends { readonly plane: 'public' | 'monitoring' }
  ? typeof noHeaders
  : typeof namespaceHeaders;
type Filled<D extends RouteDraft> = Readonly<D & Omit<Absent & { headers: Headers<D> }, keyof D>>;

/** Whether its plane is served without a token. */
export const isAnonymous = ({ plane }: Pick<RouteContract, 'plane'>): boolean =>
  plane === 'public' || plane === 'monitoring';

/** Completes a route; its exact types are kept, so that handlers see what the schemas say. */
export function defineRoute<const D extends RouteDraft>(draft: D): Filled<D> {
  const own: z.ZodObject = isAnonymous(draft) ? noHeaders : namespaceHeaders;
  const read = draft.headers ?? own;
  const headers = isGuardable(draft) ? read.extend({ [APPROVAL_HEADER]: approvalHeader }) : read;
  return Object.freeze({ ...ABSENT, ...draft, headers }) as unknown as Filled<D>;
}

export const keyParams = z.strictObject({ key: keyReference });
export const versionParams = z.strictObject({ key: keyReference, version: keyVersionText });

/** Answered by every route of the service. */
const EVERYWHERE: readonly ErrorCode[] = [
  'malformed_request',
  'headers_too_large',
  'unknown_parameter',
  'rate_limited',
  'shutting_down',
  'internal',
];

const AUTHENTICATED: readonly ErrorCode[] = [
  'token_missing',
  'token_invalid',
  'token_expired',
  'token_denied',
  'certificate_invalid',
  'certificate_expired',
  'forbidden',
  'invalid_value',
  'not_acceptable',
  'conflict',
  'namespace_suspended',
  'integrity_failed',
  'audit_unavailable',
  'read_only_grace',
  'database_unavailable',
];

/** Uses take turns. */
const IN_TURN: readonly ErrorCode[] = ['hsm_busy'];

const WITH_BODY: readonly ErrorCode[] = [
  'malformed_json',
  'unknown_field',
  'body_too_large',
  'unsupported_media_type',
];

/** Codes of every operation on a key's material. */
export const KEY_ERRORS = [
  'key_not_found',
  'wrong_purpose',
  'version_not_usable',
  'zone_lacks_material',
  'suite_unavailable_here',
  'hsm_unavailable',
  'hsm_busy',
  'hsm_full',
  'storage_full',
  'integrity_failed',
] as const satisfies readonly ErrorCode[];

/** Whether a rule can make the route wait for approval. */
export const takesApproval = (route: Pick<RouteContract, 'headers'>): boolean =>
  APPROVAL_HEADER in route.headers.shape;

/** Codes of requests under an approval, and of those that ask for one. */
const APPROVAL: readonly ErrorCode[] = [
  'not_found',
  'approval_pending',
  'approval_expired',
  'approval_ended',
  'approval_used',
  'approval_mismatch',
  'quota_exceeded',
];

/** All codes that a route can answer, in the order of the table and without repetition. */
export function errorsOf(route: RouteContract): readonly ErrorCode[] {
  return [
    ...new Set([
      ...EVERYWHERE,
      ...(isAnonymous(route) ? [] : AUTHENTICATED),
      ...(route.body === null ? [] : WITH_BODY),
      ...(isAnonymous(route) && route.gives.length > 1 ? (['not_acceptable'] as const) : []),
      ...(takesApproval(route) ? APPROVAL : []),
      ...(route.limit === 'batch' ? (['batch_too_large'] as const) : []),
      ...route.errors,
      ...(route.plane === 'use' ? IN_TURN : []),
    ]),
  ];
}
