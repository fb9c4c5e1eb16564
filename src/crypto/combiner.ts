/**
 * The combiner of X-Wing, the CFRG concrete hybrids and the LAMPS composite ML-KEMs:
 *
 *     ss = SHA3-256( ss_PQ ‖ ss_T ‖ ct_T ‖ ek_T ‖ label )        32 bytes
 *
 * It leaves out ML-KEM's ciphertext and key because ML-KEM binds its secret to them (C2PRI), so it
 * must not serve another post-quantum KEM. Also SP 800-227 section 4.6 (one-step key derivation).
 */
import { hashParts } from './digest.ts';
import { SecretBytes } from './secret.ts';

export interface CombinerInput {
  readonly pqSecret: SecretBytes;
  readonly classicalSecret: SecretBytes;
  /** ct_T: the ephemeral public key. */
  readonly classicalCiphertext: Uint8Array;
  /** ek_T: the recipient's classical public key. */
  readonly classicalPublicKey: Uint8Array;
  readonly label: Uint8Array;
}

/** The secrets stay the caller's to wipe; the result is the caller's too. */
export function combineSecrets(input: CombinerInput): SecretBytes {
  const parts = [
    input.pqSecret.reveal(),
    input.classicalSecret.reveal(),
    input.classicalCiphertext,
    input.classicalPublicKey,
    input.label,
  ];
  return SecretBytes.own(hashParts('sha3-256', parts, 32));
}
