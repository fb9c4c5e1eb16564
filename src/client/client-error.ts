/**
 * What fails in a client: what the service answered keeps the service's code, everything else has one
 * of the codes below. Codes only grow.
 */
import { TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';

const TITLES = {
  content_mismatch: 'The file is not the one that was sealed and signed.',
  file_failed: 'A file could not be read or written.',
  interrupted: 'Interrupted.',
  invalid_manifest: 'The manifest is not well-formed.',
  invalid_sealed_file: 'The file is not a well-formed sealed file.',
  invalid_signer: 'The description of the signer is not one.',
  key_unfit: 'The private key is not one of the suite.',
  key_unreadable: 'The file holds no private key that this client reads.',
  not_durable: 'The file was replaced, and a power cut may bring the former one back.',
  passphrase_needed: 'The private key is encrypted, and no passphrase was given.',
  passphrase_wrong: 'The passphrase does not open the private key, or the file is damaged.',
  service_unreachable: 'The service does not answer.',
  signature_invalid: 'The signature of the manifest is not valid.',
  source_changed: 'The file changed while it was read.',
  target_exists: 'The target exists.',
  unexpected_answer: 'The service answered what this client does not understand.',
  unknown_signer: 'The manifest was signed by a key that is not among those trusted.',
  unsupported_sealed_file:
    'The sealed file is of a version or suite that this client does not read.',
} as const satisfies Record<string, string>;

export type ClientCode = keyof typeof TITLES | ErrorCode;

/** A failure with a stable code; `message` is for people and holds no secret. */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  readonly code: ClientCode;

  constructor(code: keyof typeof TITLES, detail?: string, cause?: unknown);
  constructor(code: ClientCode, detail: string, cause?: unknown);
  constructor(code: ClientCode, detail?: string, cause?: unknown) {
    super(
      detail ?? (code in TITLES ? TITLES[code as keyof typeof TITLES] : code),
      cause === undefined ? {} : { cause },
    );
    this.code = code;
  }

  static is(error: unknown, code?: ClientCode): error is ClientError {
    return error instanceof ClientError && (code === undefined || error.code === code);
  }
}

/** Refused for a limit that holds over all instances, which the answer names (`RateLimit-Policy`). */
export class LimitError extends ClientError {}

/** Runs a strict codec of `crypto/`; what it refuses is `code` here. */
export function parsedAs<T>(
  code: 'invalid_manifest' | 'invalid_sealed_file' | 'invalid_value' | 'unexpected_answer',
  parse: () => T,
): T {
  try {
    return parse();
  } catch (error) {
    if (TwofoldError.is(error)) throw new ClientError(code, error.message, error);
    throw error;
  }
}

const NO_ROOM = ['ENOSPC', 'EDQUOT', 'EFBIG'];

/** A failed system call as a client's failure; its words name the call, the error and the path. */
export function fileFailure(error: unknown): unknown {
  if (typeof error !== 'object' || error === null || !('syscall' in error)) return error;
  const { code = '', message } = error as NodeJS.ErrnoException;
  const full = NO_ROOM.includes(code);
  return new ClientError(full ? 'storage_full' : 'file_failed', message, error);
}

/** @throws ClientError interrupted */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new ClientError('interrupted');
}
