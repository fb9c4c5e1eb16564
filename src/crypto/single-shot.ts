/** HPKE (RFC 9180) in mode base, single shot, to a hybrid key: enc ‖ ciphertext, with an empty aad. */
import { concatBytes } from './bytes.ts';
import { keySchedule, openOnce, sealOnce } from './hpke.ts';
import { wipe } from './secret.ts';
import type { Engine } from './engine.ts';
import type { SecretBytes } from './secret.ts';
import type { HybridKemSuite, KemHalves } from './suite.ts';

/**
 * `content` stays the caller's to wipe.
 * @throws TwofoldError invalid_value for a public key that is none of the suite
 */
export async function sealTo(
  engine: Engine,
  { kem, hpke }: HybridKemSuite,
  publicKey: Uint8Array,
  { info, content }: { readonly info: Uint8Array; readonly content: SecretBytes },
): Promise<Uint8Array> {
  const { sharedSecret, encapsulation } = await kem.encapsulate(engine, publicKey);
  try {
    const context = keySchedule(hpke, sharedSecret, info);
    try {
      return concatBytes(encapsulation, sealOnce(hpke, context, content));
    } finally {
      context.wipe();
    }
  } finally {
    wipe(sharedSecret);
  }
}

/**
 * The caller wipes what comes.
 * @throws TwofoldError decryption_failed; what a half rejected with
 */
export async function openWith(
  { kem, hpke }: HybridKemSuite,
  publicKey: Uint8Array,
  halves: KemHalves,
  { info, envelope }: { readonly info: Uint8Array; readonly envelope: Uint8Array },
): Promise<SecretBytes> {
  const { encapsulation: length } = kem.lengths;
  const sharedSecret = await kem.decapsulate(envelope.subarray(0, length), publicKey, halves);
  try {
    const context = keySchedule(hpke, sharedSecret, info);
    try {
      return openOnce(hpke, context, envelope.subarray(length));
    } finally {
      context.wipe();
    }
  } finally {
    wipe(sharedSecret);
  }
}
