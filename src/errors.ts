/**
 * The one error type of the service and the one table that says what each code means.
 *
 * Throw `new TwofoldError(code, detail)`; the HTTP and gRPC layers map it by this table and nothing
 * else. Codes only grow: a client may switch on them for ever.
 */

/** gRPC status names used by the Kubernetes provider. */
export type GrpcStatus =
  | 'INVALID_ARGUMENT'
  | 'UNAUTHENTICATED'
  | 'PERMISSION_DENIED'
  | 'NOT_FOUND'
  | 'FAILED_PRECONDITION'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAVAILABLE'
  | 'DEADLINE_EXCEEDED'
  | 'INTERNAL'
  | 'UNIMPLEMENTED';

interface ErrorRow {
  readonly status: number;
  readonly grpc: GrpcStatus;
  /** The same request may succeed later without a change by the caller. */
  readonly retryable: boolean;
  /** Whether `detail` may leave the process; where false only the title does. */
  readonly exposesDetail: boolean;
  readonly title: string;
}

const row = (
  status: number,
  grpc: GrpcStatus,
  title: string,
  flags: { retryable?: boolean; exposesDetail?: boolean } = {},
): ErrorRow => ({
  status,
  grpc,
  title,
  retryable: flags.retryable ?? false,
  exposesDetail: flags.exposesDetail ?? true,
});

const bad = (title: string) => row(400, 'INVALID_ARGUMENT', title);
const missing = (title: string) => row(404, 'NOT_FOUND', title);
const state = (title: string) => row(409, 'FAILED_PRECONDITION', title);
const unavailable = (title: string) => row(503, 'UNAVAILABLE', title, { retryable: true });

const table = {
  malformed_request: bad('The request is not well-formed HTTP.'),
  headers_too_large: row(431, 'INVALID_ARGUMENT', 'The request headers are too large.'),
  malformed_json: bad('The body is not valid JSON.'),
  unknown_field: bad('The body has a field that this route does not know.'),
  unknown_parameter: bad('A query parameter or Twofold header is not known on this route.'),
  invalid_value: bad('A value does not meet its constraints.'),
  invalid_base64: bad('A value is not canonical padded base64.'),
  unknown_suite: bad('The suite is not known.'),
  invalid_envelope: bad('The ciphertext is not a well-formed envelope.'),
  unsupported_envelope_version: bad('The envelope version is not one that this service reads.'),
  ambiguous_version: bad('Several versions are usable and none was named.'),
  batch_too_large: bad('The batch has too many items.'),
  token_missing: row(401, 'UNAUTHENTICATED', 'The request carries no token.'),
  token_invalid: row(401, 'UNAUTHENTICATED', 'The token was not accepted.'),
  token_expired: row(401, 'UNAUTHENTICATED', 'The token has expired.'),
  certificate_invalid: row(401, 'UNAUTHENTICATED', 'The client certificate was not accepted.'),
  certificate_expired: row(401, 'UNAUTHENTICATED', 'The client certificate has expired.'),
  token_denied: row(
    401,
    'UNAUTHENTICATED',
    'The token or certificate, its subject or its issuer is denied.',
  ),
  forbidden: row(403, 'PERMISSION_DENIED', 'The principal may not do this.'),
  self_approval: row(403, 'PERMISSION_DENIED', 'A request cannot be approved by its author.'),
  zone_denied: row(403, 'PERMISSION_DENIED', 'This zone may not do this.'),
  route_not_found: missing('There is no such route.'),
  key_not_found: missing('There is no such key.'),
  version_not_found: missing('The key has no such version.'),
  not_found: missing('There is no such resource.'),
  entry_archived: row(410, 'FAILED_PRECONDITION', 'The entry is in the archive of the log.'),
  events_expired: row(410, 'FAILED_PRECONDITION', 'Events that were not read yet were removed.'),
  method_not_allowed: row(405, 'UNIMPLEMENTED', 'The route does not take this method.'),
  not_acceptable: row(406, 'INVALID_ARGUMENT', 'None of the accepted media types is offered.'),
  body_too_large: row(413, 'INVALID_ARGUMENT', 'The body is too large.'),
  unsupported_media_type: row(415, 'INVALID_ARGUMENT', 'The media type is not taken here.'),
  conflict: row(409, 'FAILED_PRECONDITION', 'The resource changed meanwhile.', { retryable: true }),
  origin_would_rise: state('The rewrap would make an anyone-ciphertext look service-made.'),
  key_exists: state('A key of this name exists.'),
  name_retired: state('The name belonged to what was removed and is never reused.'),
  wrong_purpose: state('The key does not serve this purpose.'),
  suite_unavailable_here: state('The suite cannot be served here.'),
  version_not_usable: state('The version cannot be used for this operation.'),
  primary_protected: state('The primary version cannot be suspended or destroyed.'),
  deletion_protected: state('The key is protected against deletion.'),
  idempotency_in_progress: row(409, 'FAILED_PRECONDITION', 'The first request still runs.', {
    retryable: true,
  }),
  zone_lacks_material: state('This zone does not hold the material of the key.'),
  key_mismatch: state('The ciphertext belongs to another key.'),
  not_integrated_yet: row(409, 'FAILED_PRECONDITION', 'The entry is not in the log yet.', {
    retryable: true,
  }),
  operation_ended: state('The operation has ended.'),
  already_exists: state('There is one of this name.'),
  approval_pending: state('The request is not approved yet.'),
  approval_expired: state('The approval has expired.'),
  approval_ended: state('The approval was denied or withdrawn.'),
  approval_used: state('The approval was executed before.'),
  approval_mismatch: state('The approval is for another request.'),
  namespace_suspended: state('The namespace is suspended.'),
  namespace_not_empty: state('The namespace has keys that are not destroyed.'),
  etag_mismatch: row(412, 'FAILED_PRECONDITION', 'The resource is at another revision.'),
  decryption_failed: row(422, 'INVALID_ARGUMENT', 'The ciphertext could not be decrypted.', {
    exposesDetail: false,
  }),
  import_parameters_invalid: row(
    422,
    'INVALID_ARGUMENT',
    'The import parameters are not of this service, namespace and suite.',
  ),
  import_parameters_expired: state('The import parameters have expired.'),
  import_parameters_used: state('The import parameters were used before.'),
  import_invalid: row(
    422,
    'INVALID_ARGUMENT',
    'What was to be imported does not open, or is not a key of the suite.',
  ),
  import_mismatch: row(422, 'INVALID_ARGUMENT', 'The private key is not that of the public key.'),
  import_not_offered: state('Keys of this suite are not imported here.'),
  export_not_offered: state('Keys of this suite do not leave the service.'),
  key_not_exportable: state('The key was not created to be exported.'),
  approval_rule_missing: state('This takes an approval, and no rule asks for one.'),
  idempotency_mismatch: row(422, 'INVALID_ARGUMENT', 'The idempotency key named other content.'),
  policy_invalid: row(422, 'INVALID_ARGUMENT', 'The policy does not validate.'),
  would_lock_out: row(422, 'FAILED_PRECONDITION', 'The change would lock its author out.'),
  precondition_required: row(428, 'FAILED_PRECONDITION', 'If-Match is required here.'),
  rate_limited: row(429, 'RESOURCE_EXHAUSTED', 'Too many requests.', { retryable: true }),
  quota_exceeded: row(429, 'RESOURCE_EXHAUSTED', 'A quota is used up.'),
  hsm_unavailable: unavailable('The HSM does not answer.'),
  hsm_busy: unavailable('The HSM queue is full.'),
  database_unavailable: unavailable('The database does not answer.'),
  audit_unavailable: unavailable('The audit entry could not be made durable.'),
  read_only_grace: unavailable('Only cached reads are served at the moment.'),
  service_unreachable: unavailable('The service does not answer.'),
  shutting_down: unavailable('The service is stopping.'),
  deadline_exceeded: row(503, 'DEADLINE_EXCEEDED', 'The answer was not there in time.', {
    retryable: true,
  }),
  hsm_full: row(503, 'RESOURCE_EXHAUSTED', 'The token has no room left.'),
  storage_full: row(503, 'RESOURCE_EXHAUSTED', 'A disk is full.', { retryable: true }),
  integrity_failed: row(500, 'INTERNAL', 'A stored record failed its integrity check.', {
    exposesDetail: false,
  }),
  log_rolled_back: row(
    500,
    'INTERNAL',
    'The audit log does not go on from a checkpoint that was seen.',
  ),
  internal: row(500, 'INTERNAL', 'An internal error.', { exposesDetail: false }),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof table;

/** The table by code; a null-prototype copy, so that a code from outside cannot name a prototype member. */
export const ERRORS: Readonly<Record<ErrorCode, ErrorRow>> = Object.freeze(
  Object.assign(Object.create(null) as Record<ErrorCode, ErrorRow>, table),
);

export interface ErrorOptions {
  /** Kept for the log; never leaves the process. */
  readonly cause?: unknown;
  /** Seconds for `Retry-After`. */
  readonly retryAfter?: number;
}

/**
 * A failure with a stable code.
 *
 * `detail` is written for the caller: it names fields, limits and what to do, never a value that the
 * caller sent and never a secret.
 */
export class TwofoldError extends Error {
  override readonly name = 'TwofoldError';
  readonly code: ErrorCode;
  readonly detail: string | undefined;
  readonly retryAfter: number | undefined;

  constructor(code: ErrorCode, detail?: string, options: ErrorOptions = {}) {
    super(
      detail ?? ERRORS[code].title,
      options.cause === undefined ? {} : { cause: options.cause },
    );
    this.code = code;
    this.detail = detail;
    this.retryAfter = options.retryAfter;
  }

  static is(error: unknown, code?: ErrorCode): error is TwofoldError {
    return error instanceof TwofoldError && (code === undefined || error.code === code);
  }

  /** The error itself when it is ours, else an `internal` one that keeps the original as cause. */
  static from(error: unknown): TwofoldError {
    return error instanceof TwofoldError
      ? error
      : new TwofoldError('internal', undefined, { cause: error });
  }
}
