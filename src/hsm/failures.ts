/**
 * What a failed PKCS #11 call means: the one table from return values to codes and consequences.
 *
 * Inputs are checked in the host and blobs are our own, so a failure is the token's, with one
 * exception: what a caller sends to be decrypted (step `consume`), where CKR_GENERAL_ERROR is as
 * often a wrong tag as a fault; check-value.ts and keys.ts tell these apart by a control. A fault asks
 * for a known-answer run, which alone may turn health red.
 */
import { TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { CKR, returnValueOf } from './cryptoki.ts';

/**
 * What kind of call failed; decides how an ambiguous return value is read. `consume`: decrypts what a
 * caller sent; `unwrap`: opens a blob of our own.
 */
export type Step = 'open' | 'login' | 'make' | 'consume' | 'unwrap' | 'produce';

/**
 * - `none`: the request failed, nothing else follows;
 * - `suspect`: a known-answer run must show whether the token still computes;
 * - `lost`: sessions are gone, reopen under a new epoch;
 * - `pin`: the token refused the PIN, which is not tried again until its file changes.
 */
export type Consequence = 'none' | 'suspect' | 'lost' | 'pin';

export interface Failure {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly consequence: Consequence;
  readonly returnValue: number | undefined;
}

/** Thrown inside a worker, and rebuilt as a TwofoldError on the main thread. */
export class TokenFailure extends Error {
  override readonly name = 'TokenFailure';
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.detail);
    this.failure = failure;
  }
}

const LOST: ReadonlySet<number> = new Set([
  CKR.SLOT_ID_INVALID,
  CKR.DEVICE_ERROR,
  CKR.DEVICE_REMOVED,
  CKR.SESSION_CLOSED,
  CKR.SESSION_HANDLE_INVALID,
  CKR.TOKEN_NOT_PRESENT,
  CKR.TOKEN_NOT_RECOGNIZED,
  // The root is a token object: when its handle is void, so is everything else.
  CKR.UNWRAPPING_KEY_HANDLE_INVALID,
  CKR.USER_NOT_LOGGED_IN,
  CKR.WRAPPING_KEY_HANDLE_INVALID,
  CKR.CRYPTOKI_NOT_INITIALIZED,
]);

const PIN_REFUSED: ReadonlySet<number> = new Set([
  CKR.PIN_INCORRECT,
  CKR.PIN_INVALID,
  CKR.PIN_LEN_RANGE,
  CKR.PIN_EXPIRED,
  CKR.PIN_LOCKED,
]);

const NO_MECHANISM: ReadonlySet<number> = new Set([
  CKR.MECHANISM_INVALID,
  CKR.FUNCTION_NOT_SUPPORTED,
]);

/** Of keys that are being made; a key that exists was made with what these refuse. */
const NOT_SERVED: ReadonlySet<number> = new Set([
  ...NO_MECHANISM,
  CKR.MECHANISM_PARAM_INVALID,
  CKR.KEY_NOT_WRAPPABLE,
  CKR.KEY_UNEXTRACTABLE,
  CKR.TEMPLATE_INCONSISTENT,
]);

const REFUSED_INPUT: ReadonlySet<number> = new Set([
  CKR.DATA_INVALID,
  CKR.DATA_LEN_RANGE,
  CKR.ENCRYPTED_DATA_INVALID,
  CKR.ENCRYPTED_DATA_LEN_RANGE,
  CKR.AEAD_DECRYPT_FAILED,
  CKR.WRAPPED_KEY_INVALID,
  CKR.WRAPPED_KEY_LEN_RANGE,
]);

const REFUSED_BLOB: ReadonlySet<number> = new Set([
  CKR.WRAPPED_KEY_INVALID,
  CKR.WRAPPED_KEY_LEN_RANGE,
]);

/** What tokens answer to a damaged blob and to a fault of their own alike (DEVICE_ERROR: kryoptic). */
const TELLS_NOTHING: ReadonlySet<number | undefined> = new Set([
  CKR.GENERAL_ERROR,
  CKR.DEVICE_ERROR,
  CKR.DATA_INVALID,
  CKR.DATA_LEN_RANGE,
  CKR.ENCRYPTED_DATA_INVALID,
  CKR.ENCRYPTED_DATA_LEN_RANGE,
]);

/** Whether only a control can tell a blob that was altered from a token that failed. */
export function tellsNothing(error: unknown): boolean {
  return TELLS_NOTHING.has(returnValueOf(error));
}

/** Return values after which a cached handle is looked up again instead of being believed. */
export function namesStaleHandle(error: unknown): boolean {
  const value = returnValueOf(error);
  return value === CKR.OBJECT_HANDLE_INVALID || value === CKR.KEY_HANDLE_INVALID;
}

export function failureOf(error: unknown, step: Step): Failure {
  if (error instanceof TokenFailure) return error.failure;
  if (error instanceof TwofoldError) {
    return failure(error.code, error.detail ?? '', 'none', undefined);
  }
  const value = returnValueOf(error);
  if (value === undefined) {
    return failure('internal', error instanceof Error ? error.message : '', 'none', undefined);
  }
  return classify(value, step);
}

export function toError(failed: Failure): TwofoldError {
  const cause =
    failed.returnValue === undefined ? undefined : `CKR 0x${failed.returnValue.toString(16)}`;
  return new TwofoldError(failed.code, failed.detail, {
    cause,
    ...(failed.code === 'hsm_busy' ? { retryAfter: 1 } : {}),
  });
}

function classify(value: number, step: Step): Failure {
  if (LOST.has(value)) {
    return failure('hsm_unavailable', 'the session with the token was lost', 'lost', value);
  }
  if (PIN_REFUSED.has(value)) {
    return failure('hsm_unavailable', 'the token refused the PIN', 'pin', value);
  }
  if (value === CKR.DEVICE_MEMORY) {
    return failure('hsm_full', 'the token has no room for another object', 'none', value);
  }
  if (value === CKR.SESSION_COUNT) {
    return failure('hsm_busy', 'the token allows no further session', 'none', value);
  }
  if (notServed(step).has(value)) {
    return failure('suite_unavailable_here', 'the token does not allow this use', 'none', value);
  }
  return (
    refusedInput(value, step) ??
    failure('hsm_unavailable', 'the token failed the call', 'suspect', value)
  );
}

function notServed(step: Step): ReadonlySet<number> {
  if (step === 'consume' || step === 'unwrap') return new Set();
  return step === 'produce' ? NO_MECHANISM : NOT_SERVED;
}

function refusedInput(value: number, step: Step): Failure | undefined {
  if (step === 'unwrap' && REFUSED_BLOB.has(value)) {
    return failure('integrity_failed', 'a wrapped key does not open', 'none', value);
  }
  if (step !== 'consume') return undefined;
  if (REFUSED_INPUT.has(value)) return failure('decryption_failed', '', 'none', value);
  const ambiguous = value === CKR.GENERAL_ERROR;
  return ambiguous ? failure('decryption_failed', '', 'suspect', value) : undefined;
}

function failure(
  code: ErrorCode,
  detail: string,
  consequence: Consequence,
  returnValue: number | undefined,
): Failure {
  return { code, detail, consequence, returnValue };
}
