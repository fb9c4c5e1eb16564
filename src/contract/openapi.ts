/** `openapi.yaml` (OpenAPI 3.1), made from the table of routes and nothing else. */
import { createDocument } from 'zod-openapi';
import type {
  ZodOpenApiObject,
  ZodOpenApiOperationObject,
  ZodOpenApiPathsObject,
  ZodOpenApiResponsesObject,
} from 'zod-openapi';

import { ERRORS } from '../errors.ts';
import { NAME } from '../name.ts';
import { REPLAYED_HEADER } from './admin-keys.ts';
import { approval } from './approvals.ts';
import { APPROVAL_REQUIRED_HEADER } from './guards.ts';
import { PROBLEM_MEDIA_TYPE, problem } from './problem.ts';
import { MAX_AGE } from './published.ts';
import { errorsOf, isAnonymous, takesApproval } from './route.ts';
import { MONITORING_ROUTES, ROUTES } from './routes.ts';
import type { ErrorCode } from '../errors.ts';
import type { RouteContract } from './route.ts';

/** Request and answer of a route, recorded from a real exchange. */
export interface Example {
  readonly request?: unknown;
  readonly response?: unknown;
}
/** Route id -> example. */
export type Examples = Readonly<Record<string, Example>>;

const TAGS: readonly (readonly [prefix: string, tag: string])[] = [
  ['/v1/admin/', 'Administration'],
  ['/v1/audit/', 'Audit'],
  ['/v1/keys', 'Keys'],
  ['/v1/', 'Service'],
  ['/public/', 'Published keys'],
  ['/', 'Health'],
];

const tagOf = (path: string) => TAGS.find(([prefix]) => path.startsWith(prefix))?.[1] ?? 'Service';

const BINARY = {
  schema: { type: 'string', contentMediaType: 'application/octet-stream' },
} as const;
const TEXT = { schema: { type: 'string' } } as const;
const byteContent = (types: readonly string[]) =>
  Object.fromEntries(types.map((type) => [type, type === 'text/plain' ? TEXT : BINARY]));

function requestBody(route: RouteContract, example: unknown) {
  if (route.body === null) return {};
  const json = { schema: route.body, ...(example === undefined ? {} : { example }) };
  return {
    requestBody: {
      // No body is the empty object.
      required: !route.body.safeParse({}).success,
      content: {
        ...Object.fromEntries(route.json.map((type) => [type, json])),
        ...byteContent(route.bytes?.accepts ?? []),
      },
    },
  };
}

const ALWAYS = {
  [`${NAME.header}Request-Id`]: {
    description: 'Made by the service for this request.',
    schema: { type: 'string', format: 'uuid' },
  },
  'Cache-Control': { description: '`no-store`.', schema: { type: 'string' } },
} as const;
/** Of answers that others may keep. */
const CACHED = {
  'Cache-Control': {
    description: `\`public, max-age=${String(MAX_AGE)}\`.`,
    schema: { type: 'string' },
  },
  ETag: { description: 'For `If-None-Match`.', schema: { type: 'string' } },
} as const;
const status304 = (route: RouteContract) => route.also[304] !== undefined;
const AUDITED = {
  [`${NAME.header}Audit-Id`]: {
    description: 'The audit entry of this request.',
    schema: { type: 'string' },
  },
} as const;

/** Where a limit holds. */
const LIMITED = {
  RateLimit: {
    description: 'What is left of each rate limit that holds (RFC 9651: `r`, and `t` seconds).',
    schema: { type: 'string' },
  },
  'RateLimit-Policy': {
    description: 'The rate limits that hold (RFC 9651: `q` at once, full again after `w` seconds).',
    schema: { type: 'string' },
  },
} as const;

const text = (description: string) => ({ description, schema: { type: 'string' } as const });

/** Headers of answers about keys and their changes. */
function keyHeaders({ id, path, status, headers }: RouteContract) {
  const idempotent = 'idempotency-key' in (headers.shape as object);
  const ofKey = path.startsWith('/v1/admin/keys') && status !== 202;
  return {
    ...(ofKey || id === 'getKey' ? { ETag: text('For `If-Match`.') } : {}),
    ...(status !== 200 ? { Location: text('Path of what was made.') } : {}),
    ...(idempotent ? { [REPLAYED_HEADER]: text('`true` when the answer was given before.') } : {}),
  };
}

function memberHeaders(route: RouteContract) {
  return Object.fromEntries(
    Object.entries(route.bytes?.outputs ?? {}).map(([member, header]) => [
      header,
      { description: `\`${member}\`, with byte answers.`, schema: { type: 'string' } as const },
    ]),
  );
}

const DESCRIPTIONS = { 200: 'Done.', 201: 'Made.', 202: 'Begun.' } as const;
const STRUCTURED: ReadonlySet<string> = new Set(['application/json', 'application/x-ndjson']);

function contentOf<T>(type: string, json: T) {
  if (STRUCTURED.has(type)) return json;
  return type === 'application/octet-stream' ? BINARY : TEXT;
}

function success(route: RouteContract, example: unknown) {
  const json = { schema: route.response, ...(example === undefined ? {} : { example }) };
  return {
    description: DESCRIPTIONS[route.status],
    headers: {
      ...ALWAYS,
      ...(status304(route) ? CACHED : {}),
      ...(isAnonymous(route) ? {} : { ...AUDITED, ...LIMITED }),
      ...keyHeaders(route),
      ...(takesApproval(route)
        ? { [APPROVAL_REQUIRED_HEADER]: text('Of a dry run: rules that the request would meet.') }
        : {}),
      ...memberHeaders(route),
    },
    content: {
      ...Object.fromEntries(route.gives.map((type) => [type, contentOf(type, json)])),
      ...byteContent(route.bytes?.gives ?? []),
    },
  };
}

/** What a rule makes of a request that it guards. */
function approvals(route: RouteContract): ZodOpenApiResponsesObject {
  if (!takesApproval(route)) return {};
  return {
    202: {
      description: 'A rule asks for approval: the request runs once it is repeated under it.',
      headers: { ...ALWAYS, ...AUDITED, Location: text('Path of the approval.') },
      content: { 'application/json': { schema: approval } },
    },
  };
}

type Failures = Readonly<Record<string, ReturnType<typeof failure>>>;

/** Answers of the route's own form under other statuses. */
function alternatives(route: RouteContract, failed: Failures): ZodOpenApiResponsesObject {
  return Object.fromEntries(
    Object.entries(route.also).map(([status, description]) => {
      const problems = failed[status];
      const also = problems === undefined ? '' : ` Or a problem: ${problems.description}.`;
      if (status === '304') return [status, { description }];
      const { headers } = success(route, undefined);
      const content = { 'application/json': { schema: route.response }, ...problems?.content };
      return [status, { ...problems, description: `${description}${also}`, headers, content }];
    }),
  );
}

const failure = (codes: readonly ErrorCode[]) => ({
  description: codes.map((code) => `\`${code}\``).join(', '),
  content: { [PROBLEM_MEDIA_TYPE]: { schema: problem } },
  'x-codes': codes,
});

function failures(route: RouteContract): Failures {
  const byStatus = Map.groupBy(errorsOf(route), (code: ErrorCode) => String(ERRORS[code].status));
  return Object.fromEntries([...byStatus].map(([status, codes]) => [status, failure(codes)]));
}

const METRICS_LISTENER = {
  url: 'http://127.0.0.1:8371',
  description: 'The metrics listener of a development server.',
};

function operation(route: RouteContract, example: Example): ZodOpenApiOperationObject {
  const failed = failures(route);
  return {
    operationId: route.id,
    summary: route.summary,
    tags: [tagOf(route.path)],
    'x-plane': route.plane,
    ...(route.plane === 'monitoring' ? { servers: [METRICS_LISTENER] } : {}),
    ...(route.operation === null ? { security: [] } : { 'x-operation': route.operation }),
    requestParams: { path: route.params, query: route.query, header: route.headers },
    ...requestBody(route, example.request),
    responses: {
      [String(route.status)]: success(route, example.response),
      ...failed,
      ...alternatives(route, failed),
      ...approvals(route),
    },
  };
}

function paths(examples: Examples): ZodOpenApiPathsObject {
  const table: ZodOpenApiPathsObject = {};
  for (const route of [...ROUTES, ...MONITORING_ROUTES]) {
    const path = (table[route.path] ??= {});
    path[route.method.toLowerCase() as 'get'] = operation(route, examples[route.id] ?? {});
  }
  return table;
}

const DESCRIPTION = [
  `Keys whose classical half is born in an HSM and whose post-quantum half is sealed under it.`,
  '',
  '* Requests are strict: an unknown field, query parameter or `Twofold-*` header is refused.',
  '  Answers are open: ignore members that you do not know.',
  '* The service names each request (`Twofold-Request-Id`); one that carries such a name is refused.',
  '* Bytes are padded standard base64; members marked `x-sensitive` are secret.',
  '* `x-plane`: `use` changes nothing but counters and audit, `admin` changes state, `public` is',
  '  anonymous, and so is `monitoring`, which the metrics listener alone serves.',
  '* Errors are RFC 9457 documents with a stable `code`; `x-codes` lists those of each status.',
].join('\n');

type Parameters = readonly { readonly name?: string; readonly schema?: unknown }[];

/** OpenAPI has no form for `label.<name>=<value>`; the placeholder in the name says it. */
function namePrefixed(parameters: Parameters): void {
  for (const parameter of parameters) {
    const prefix = (parameter.schema as Record<string, unknown> | undefined)?.['x-prefix'];
    if (typeof prefix === 'string') {
      Object.assign(parameter, { name: `${prefix}{name}`, schema: { type: 'string' } });
    }
  }
}

/** The document as an object. */
export function openApiDocument(examples: Examples) {
  const source: ZodOpenApiObject = {
    openapi: '3.1.0',
    info: {
      title: NAME.product,
      version: 'v1',
      description: DESCRIPTION,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://127.0.0.1:8370', description: 'A development server.' }],
    security: [{ token: [] }],
    paths: paths(examples),
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
    },
  };
  const document = createDocument(source, {
    override: ({ jsonSchema, io }) => {
      // Answers are open: a client that refused new members would break with every release.
      if (io === 'output' && jsonSchema.additionalProperties === false) {
        delete jsonSchema.additionalProperties;
      }
    },
  });
  for (const { get } of Object.values(document.paths ?? {})) {
    namePrefixed((get?.parameters ?? []) as Parameters);
  }
  return document;
}
