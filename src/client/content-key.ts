/**
 * What is derived from a data key:
 *
 *     content key (32) ‖ key commitment (32) = HKDF-SHA-256( data key, salt = header hash, info = label )
 *
 * AES-GCM does not commit to its key: chunks can be made that open under two keys, to two plaintexts.
 * The manifest holds the commitment, so a signature stands for one data key and one plaintext.
 */
import { hkdfSync } from 'node:crypto';

import { utf8 } from '../crypto/bytes.ts';
import { SecretBytes } from '../crypto/secret.ts';
import { NAME } from '../name.ts';
import { ClientError } from './client-error.ts';

export const DATA_KEY_LENGTH = 32;
const CONTENT_KEY_LENGTH = 32;
const COMMITMENT_LENGTH = 32;
const INFO = utf8(NAME.sealedFileKeys);

export interface ContentKey {
  /** The caller wipes it. Its bytes are shared memory, so that threads need no copy. */
  readonly key: SecretBytes;
  /** Says nothing about the key; equal for equal data keys of one file only. */
  readonly commitment: Uint8Array;
}

/**
 * `dataKey` stays the caller's.
 * @throws ClientError content_mismatch for a data key that is not 32 bytes long
 */
export function deriveContentKey(dataKey: SecretBytes, headerHash: Uint8Array): ContentKey {
  if (dataKey.length !== DATA_KEY_LENGTH) {
    throw new ClientError('content_mismatch', 'The wrapped data key is not 32 bytes long.');
  }
  const length = CONTENT_KEY_LENGTH + COMMITMENT_LENGTH;
  const derived = new Uint8Array(hkdfSync('sha256', dataKey.reveal(), headerHash, INFO, length));
  try {
    const key = new Uint8Array(new SharedArrayBuffer(CONTENT_KEY_LENGTH));
    key.set(derived.subarray(0, CONTENT_KEY_LENGTH));
    return { key: SecretBytes.own(key), commitment: derived.slice(CONTENT_KEY_LENGTH) };
  } finally {
    derived.fill(0);
  }
}
