import { describe, expect, it } from '@jest/globals';
import { ERRORS, TwofoldError } from '../../src/errors.ts';
import { CKR, returnValueOf } from '../../src/hsm/cryptoki.ts';
import { failureOf, namesStaleHandle, toError } from '../../src/hsm/failures.ts';
import type { Step } from '../../src/hsm/failures.ts';

const failed = (code: number) => Object.assign(new Error('CKR_SOMETHING'), { code });
const STEPS: readonly Step[] = ['open', 'login', 'make', 'consume', 'unwrap', 'produce'];

describe('return values of the token', () => {
  it.each([
    ['GENERAL_ERROR', 'consume', 'decryption_failed', 'suspect'],
    ['GENERAL_ERROR', 'produce', 'hsm_unavailable', 'suspect'],
    ['GENERAL_ERROR', 'make', 'hsm_unavailable', 'suspect'],
    ['FUNCTION_FAILED', 'produce', 'hsm_unavailable', 'suspect'],
    ['ENCRYPTED_DATA_INVALID', 'consume', 'decryption_failed', 'none'],
    ['AEAD_DECRYPT_FAILED', 'consume', 'decryption_failed', 'none'],
    ['WRAPPED_KEY_INVALID', 'consume', 'decryption_failed', 'none'],
    ['WRAPPED_KEY_INVALID', 'unwrap', 'integrity_failed', 'none'],
    ['WRAPPED_KEY_LEN_RANGE', 'unwrap', 'integrity_failed', 'none'],
    ['GENERAL_ERROR', 'unwrap', 'hsm_unavailable', 'suspect'],
    ['TEMPLATE_INCONSISTENT', 'unwrap', 'hsm_unavailable', 'suspect'],
    ['HOST_MEMORY', 'consume', 'hsm_unavailable', 'suspect'],
    ['FUNCTION_FAILED', 'consume', 'hsm_unavailable', 'suspect'],
    ['OPERATION_ACTIVE', 'consume', 'hsm_unavailable', 'suspect'],
    ['MECHANISM_INVALID', 'consume', 'hsm_unavailable', 'suspect'],
    ['ENCRYPTED_DATA_INVALID', 'produce', 'hsm_unavailable', 'suspect'],
    ['DATA_INVALID', 'produce', 'hsm_unavailable', 'suspect'],
    ['KEY_UNEXTRACTABLE', 'produce', 'hsm_unavailable', 'suspect'],
    ['MECHANISM_INVALID', 'produce', 'suite_unavailable_here', 'none'],
    ['DEVICE_MEMORY', 'make', 'hsm_full', 'none'],
    ['SESSION_COUNT', 'open', 'hsm_busy', 'none'],
    ['MECHANISM_INVALID', 'make', 'suite_unavailable_here', 'none'],
    ['KEY_NOT_WRAPPABLE', 'make', 'suite_unavailable_here', 'none'],
    ['PIN_INCORRECT', 'login', 'hsm_unavailable', 'pin'],
    ['PIN_LOCKED', 'login', 'hsm_unavailable', 'pin'],
    ['PIN_EXPIRED', 'login', 'hsm_unavailable', 'pin'],
    ['SESSION_HANDLE_INVALID', 'consume', 'hsm_unavailable', 'lost'],
    ['DEVICE_REMOVED', 'produce', 'hsm_unavailable', 'lost'],
    ['CRYPTOKI_NOT_INITIALIZED', 'produce', 'hsm_unavailable', 'lost'],
    ['UNWRAPPING_KEY_HANDLE_INVALID', 'consume', 'hsm_unavailable', 'lost'],
  ] as const)('CKR_%s while the token is to %s', (name, step, code, consequence) => {
    expect(failureOf(failed(CKR[name]), step)).toMatchObject({ code, consequence });
  });

  it('every number has a code of the table, whatever the call', () => {
    for (let value = 1; value < 0x200; value += 1) {
      for (const step of STEPS) {
        const { code, consequence } = failureOf(failed(value), step);
        expect(ERRORS[code]).toBeDefined();
        expect(code).not.toBe('internal');
        // A PIN that no token refused must never be marked.
        if (consequence === 'pin') expect([0xa0, 0xa1, 0xa2, 0xa3, 0xa4]).toContain(value);
      }
    }
  });

  it('what did not come from the token is internal, and our own errors pass', () => {
    const internal = { code: 'internal', consequence: 'none' };
    expect(failureOf(new TypeError('x'), 'consume')).toMatchObject(internal);
    const own = new TwofoldError('zone_lacks_material', 'elsewhere');
    expect(failureOf(own, 'consume')).toMatchObject({ code: 'zone_lacks_material' });
  });

  it('are read from the code or from the message', () => {
    expect(returnValueOf(failed(5))).toBe(5);
    expect(returnValueOf(new Error('CKR_DEVICE_ERROR:48'))).toBe(48);
    expect(returnValueOf(new Error('no value'))).toBeUndefined();
    expect(returnValueOf('CKR_DEVICE_ERROR:48')).toBeUndefined();
    expect(namesStaleHandle(failed(CKR.KEY_HANDLE_INVALID))).toBe(true);
    expect(namesStaleHandle(failed(CKR.GENERAL_ERROR))).toBe(false);
  });

  it('keep the return value for the log and out of the detail', () => {
    const error = toError(failureOf(failed(CKR.GENERAL_ERROR), 'consume'));
    expect(error).toMatchObject({ code: 'decryption_failed', cause: 'CKR 0x5' });
    expect(error.detail).toBe('');
    expect(toError(failureOf(failed(CKR.SESSION_COUNT), 'open')).retryAfter).toBe(1);
  });
});
