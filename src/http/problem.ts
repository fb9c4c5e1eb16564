/** Errors as RFC 9457 documents. Members are picked one by one; nothing else of an error leaves. */
import { PROBLEM_MEDIA_TYPE, problemType } from '../contract/problem.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import type { InputError, Problem } from '../contract/problem.ts';

const UNKNOWN: ReadonlySet<string> = new Set(['unknown_field', 'unknown_parameter']);

/** Input that the contract refuses, with the place of each complaint. */
export class RefusedInput extends TwofoldError {
  readonly errors: readonly InputError[];

  constructor(errors: readonly [InputError, ...InputError[]]) {
    // An unknown name is the likeliest cause of the complaints beside it.
    const first = errors.find(({ code }) => UNKNOWN.has(code)) ?? errors[0];
    super(first.code, `${first.path === '' ? 'The body' : first.path} ${first.message}.`);
    this.errors = errors;
  }
}

/** Detail is for callers; what went wrong inside is for the log alone. */
function detailOf(error: TwofoldError): string | undefined {
  const { status, exposesDetail } = ERRORS[error.code];
  return exposesDetail && status < 500 ? error.detail : undefined;
}

/** What one item of a batch failed with. */
export function itemErrorOf(error: TwofoldError) {
  const { status, title } = ERRORS[error.code];
  const detail = detailOf(error);
  return { code: error.code, title, status, ...(detail === undefined ? {} : { detail }) };
}

export function problemOf(error: TwofoldError, requestId: string): Problem {
  const { code, title, status, detail } = itemErrorOf(error) as Problem;
  return {
    type: problemType(code),
    title,
    status,
    code,
    ...(detail === undefined ? {} : { detail }),
    requestId,
    ...(error instanceof RefusedInput ? { errors: [...error.errors] } : {}),
  };
}

/** Seconds after which the same request may be worth repeating. */
function retryAfterOf(error: TwofoldError): number | undefined {
  const { status } = ERRORS[error.code];
  return error.retryAfter ?? (status === 503 || status === 429 ? 1 : undefined);
}

/** Headers of a problem beside those of every answer. */
export function problemHeaders(error: TwofoldError): Record<string, string> {
  const retryAfter = retryAfterOf(error);
  return {
    'Content-Type': PROBLEM_MEDIA_TYPE,
    ...(retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) }),
    ...(ERRORS[error.code].status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
  };
}
