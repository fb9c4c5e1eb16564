/**
 * Hybrid KEMs: ML-KEM beside one ECDH, under one combiner (draft-irtf-cfrg-concrete-hybrid-kems,
 * X-Wing). Public key = ek_PQ ‖ ek_T, encapsulation = ct_PQ ‖ ct_T, where ct_T is the ephemeral
 * public key. The halves of a long-lived key are made and kept apart, as
 * draft-irtf-cfrg-hybrid-kems permits for HSMs; there is no common seed.
 */
import { TwofoldError } from '../errors.ts';
import { concatBytes } from './bytes.ts';
import { combineSecrets } from './combiner.ts';
import { agreeEphemeral, checkPublicKey, CURVES } from './curve.ts';
import { ML_KEM_LENGTHS, ML_KEM_SHARED_SECRET_LENGTH } from './engine.ts';
import { withBothSecrets } from './halves.ts';
import type { Engine, MlKemParameterSet } from './engine.ts';
import type { SecretBytes } from './secret.ts';
import type { Curve, Kem, KemEncapsulated, KemHalves, PublicHalves } from './suite.ts';

export interface HybridKemParameters {
  readonly pq: MlKemParameterSet;
  readonly curve: Curve;
  /** Hashed last by the combiner. */
  readonly label: Uint8Array;
}

export function hybridKem({ pq, curve, label }: HybridKemParameters): Kem {
  const classicalLength = CURVES[curve].publicKeyLength;
  const { publicKey: pqKeyLength, ciphertext: pqCiphertextLength } = ML_KEM_LENGTHS[pq];
  const lengths = {
    publicKey: pqKeyLength + classicalLength,
    encapsulation: pqCiphertextLength + classicalLength,
  };

  function splitPublicKey(publicKey: Uint8Array): PublicHalves {
    if (publicKey.length !== lengths.publicKey) {
      throw new TwofoldError('invalid_value', 'The public key has the wrong length.');
    }
    return { pq: publicKey.subarray(0, pqKeyLength), classical: publicKey.subarray(pqKeyLength) };
  }

  function joinPublicKey(engine: Engine, halves: PublicHalves): Uint8Array {
    engine.mlKem.checkPublicKey(pq, halves.pq);
    checkPublicKey(curve, halves.classical);
    return concatBytes(halves.pq, halves.classical);
  }

  async function encapsulate(engine: Engine, publicKey: Uint8Array): Promise<KemEncapsulated> {
    const key = splitPublicKey(publicKey);
    const encapsulation = new Uint8Array(lengths.encapsulation);
    const sharedSecret = await withBothSecrets(
      async () => {
        const encapsulated = await engine.mlKem.encapsulate(pq, key.pq);
        encapsulation.set(encapsulated.ciphertext);
        return encapsulated.sharedSecret;
      },
      async () => {
        const ephemeral = await agreeEphemeral(curve, key.classical);
        encapsulation.set(ephemeral.publicKey, pqCiphertextLength);
        return ephemeral.secret;
      },
      (pqSecret, classicalSecret) =>
        combineSecrets({
          pqSecret,
          classicalSecret,
          classicalCiphertext: encapsulation.subarray(pqCiphertextLength),
          classicalPublicKey: key.classical,
          label,
        }),
    );
    return { sharedSecret, encapsulation };
  }

  /** Lengths and the point, before any private key is touched. */
  function splitEncapsulation(encapsulation: Uint8Array): PublicHalves {
    if (encapsulation.length !== lengths.encapsulation) throw new TwofoldError('decryption_failed');
    const classical = encapsulation.subarray(pqCiphertextLength);
    try {
      checkPublicKey(curve, classical);
    } catch (cause) {
      throw new TwofoldError('decryption_failed', undefined, { cause });
    }
    return { pq: encapsulation.subarray(0, pqCiphertextLength), classical };
  }

  async function decapsulate(
    encapsulation: Uint8Array,
    publicKey: Uint8Array,
    halves: KemHalves,
  ): Promise<SecretBytes> {
    const key = splitPublicKey(publicKey);
    const ciphertext = splitEncapsulation(encapsulation);
    return withBothSecrets(
      () => halves.pq(ciphertext.pq),
      () => halves.classical(ciphertext.classical),
      (pqSecret, classicalSecret) => {
        checkSecretLength(pqSecret, ML_KEM_SHARED_SECRET_LENGTH);
        checkSecretLength(classicalSecret, CURVES[curve].fieldLength);
        return combineSecrets({
          pqSecret,
          classicalSecret,
          classicalCiphertext: ciphertext.classical,
          classicalPublicKey: key.classical,
          label,
        });
      },
    );
  }

  return { lengths, joinPublicKey, splitPublicKey, encapsulate, decapsulate };
}

/** A half of another length would shift bytes between the combiner's unprefixed fields. */
function checkSecretLength(secret: SecretBytes, length: number): void {
  if (secret.length !== length) {
    throw new TwofoldError('internal', undefined, {
      cause: new Error(
        `a KEM half gave ${String(secret.length)} bytes instead of ${String(length)}`,
      ),
    });
  }
}
