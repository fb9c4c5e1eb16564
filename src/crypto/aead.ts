/** AES-256-GCM with a key in the host: HPKE's AEAD. Keys of `A256GCM` stay in the HSM. */
import { createCipheriv, createDecipheriv } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { concatBytes } from './bytes.ts';
import { SecretBytes, wipe } from './secret.ts';
import type { HpkeAead } from './suite.ts';

const CIPHER = 'aes-256-gcm';
const TAG_LENGTH = 16;

/** HPKE AEAD 0x0002 (RFC 9180 section 7.3). */
export const aes256Gcm: HpkeAead = {
  id: 0x0002,
  keyLength: 32,
  nonceLength: 12,

  seal(key, nonce, associatedData, plaintext) {
    const cipher = createCipheriv(CIPHER, key.reveal(), nonce, { authTagLength: TAG_LENGTH });
    cipher.setAAD(associatedData);
    const body = cipher.update(plaintext.reveal());
    return concatBytes(body, cipher.final(), cipher.getAuthTag());
  },

  open(key, nonce, associatedData, ciphertext) {
    if (ciphertext.length < TAG_LENGTH) throw new TwofoldError('decryption_failed');
    const decipher = createDecipheriv(CIPHER, key.reveal(), nonce, { authTagLength: TAG_LENGTH });
    decipher.setAAD(associatedData);
    decipher.setAuthTag(ciphertext.subarray(-TAG_LENGTH));
    const plaintext = decipher.update(ciphertext.subarray(0, -TAG_LENGTH));
    try {
      decipher.final();
      return SecretBytes.own(plaintext);
    } catch (cause) {
      // Unauthenticated plaintext must not outlive the failure.
      wipe(plaintext);
      throw new TwofoldError('decryption_failed', undefined, { cause });
    }
  },
};
