/** How the secrets of two KEMs become one: who breaks one half learns nothing of the result. */
import { lengthPrefix, lengthPrefixed, utf8 } from './bytes.ts';
import { hashParts } from './digest.ts';
import { hkdf } from './hkdf.ts';
import { SecretBytes, wipe } from './secret.ts';

export interface CombinerInput {
  readonly pqSecret: SecretBytes;
  readonly classicalSecret: SecretBytes;
  readonly pqCiphertext: Uint8Array;
  /** ct_T: the ephemeral public key. */
  readonly classicalCiphertext: Uint8Array;
  readonly pqPublicKey: Uint8Array;
  /** ek_T: the recipient's classical public key. */
  readonly classicalPublicKey: Uint8Array;
}

/** The secrets stay the caller's to wipe; the result is the caller's too. */
export type Combiner = (input: CombinerInput) => SecretBytes;

/**
 * The combiner of X-Wing, the CFRG concrete hybrids and the LAMPS composite ML-KEMs:
 *
 *     ss = SHA3-256( ss_PQ ‖ ss_T ‖ ct_T ‖ ek_T ‖ label )        32 bytes
 *
 * It leaves out ML-KEM's ciphertext and key because ML-KEM binds its secret to them (C2PRI), so it
 * must not serve another post-quantum KEM. Also SP 800-227 section 4.6 (one-step key derivation).
 */
export function standardCombiner(label: Uint8Array): Combiner {
  return (input) => {
    const parts = [
      input.pqSecret.reveal(),
      input.classicalSecret.reveal(),
      input.classicalCiphertext,
      input.classicalPublicKey,
      label,
    ];
    return SecretBytes.own(hashParts('sha3-256', parts, 32));
  };
}

const NO_SALT = new Uint8Array(0);
const OWN_SECRET_LENGTH = 64;

/**
 * Ours, for a pair that no document names: everything is bound and every field has its length.
 *
 *     PRK = HKDF-Extract-SHA-384("", ss_PQ ‖ ss_T)
 *     ss  = HKDF-Expand-SHA-384(PRK, lp(label) ‖ lp(ct_PQ) ‖ lp(ct_T) ‖ lp(ek_PQ) ‖ lp(ek_T), 64)
 *
 * lp is a u16 length prefix; the secrets have fixed lengths. Of the form of SP 800-227 section 4.6
 * with the two-step key derivation of SP 800-56C.
 */
export function ownCombiner(label: string): Combiner {
  const kdf = hkdf('SHA-384');
  const prefixedLabel = lengthPrefixed(utf8(label));
  return (input) => {
    const secrets = [input.pqSecret.reveal(), input.classicalSecret.reveal()];
    const key = kdf.extract(NO_SALT, secrets);
    try {
      const { pqCiphertext, classicalCiphertext, pqPublicKey, classicalPublicKey } = input;
      const info = [
        prefixedLabel,
        ...[lengthPrefix(pqCiphertext), pqCiphertext],
        ...[lengthPrefix(classicalCiphertext), classicalCiphertext],
        ...[lengthPrefix(pqPublicKey), pqPublicKey],
        ...[lengthPrefix(classicalPublicKey), classicalPublicKey],
      ];
      return SecretBytes.own(kdf.expand(key, info, OWN_SECRET_LENGTH));
    } finally {
      wipe(key);
    }
  };
}
