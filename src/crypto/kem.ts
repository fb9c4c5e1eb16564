/**
 * KEMs of one half or two. Of two: public key = ek_PQ ‖ ek_T, encapsulation = ct_PQ ‖ ct_T, joined by
 * a combiner of `combiner.ts`; the halves of a long-lived key are made and kept apart, as
 * draft-irtf-cfrg-hybrid-kems permits for HSMs, and there is no common seed.
 */
import { TwofoldError } from '../errors.ts';
import { concatBytes } from './bytes.ts';
import { withBothSecrets } from './halves.ts';
import { wipe } from './secret.ts';
import type { CombinerInput } from './combiner.ts';
import type { Engine } from './engine.ts';
import type { KemPart } from './kem-parts.ts';
import type { SecretBytes } from './secret.ts';
import type { Kem, KemEncapsulated, KemHalves, PublicHalves } from './suite.ts';

const NOTHING = new Uint8Array(0);

export interface HybridKemParameters {
  readonly pq: KemPart;
  readonly classical: KemPart;
  /** The secrets stay the caller's to wipe; the result is the caller's too. */
  readonly combine: (input: CombinerInput) => SecretBytes;
}

/** A half that the suite lacks has no bytes; anything else is not a key of this suite. */
function requireLength(half: Uint8Array, length: number): void {
  if (half.length !== length) {
    throw new TwofoldError('invalid_value', 'The public key has the wrong length.');
  }
}

export function hybridKem({ pq, classical, combine }: HybridKemParameters): Kem {
  const pqKeyLength = pq.lengths.publicKey;
  const pqCiphertextLength = pq.lengths.ciphertext;
  const lengths = {
    publicKey: pqKeyLength + classical.lengths.publicKey,
    encapsulation: pqCiphertextLength + classical.lengths.ciphertext,
  };

  function splitPublicKey(publicKey: Uint8Array): PublicHalves {
    requireLength(publicKey, lengths.publicKey);
    return { pq: publicKey.subarray(0, pqKeyLength), classical: publicKey.subarray(pqKeyLength) };
  }

  function joinPublicKey(engine: Engine, halves: PublicHalves): Uint8Array {
    pq.checkPublicKey(engine, halves.pq);
    classical.checkPublicKey(engine, halves.classical);
    return concatBytes(halves.pq, halves.classical);
  }

  async function encapsulate(engine: Engine, publicKey: Uint8Array): Promise<KemEncapsulated> {
    const key = splitPublicKey(publicKey);
    const encapsulation = new Uint8Array(lengths.encapsulation);
    const sharedSecret = await withBothSecrets(
      async () => {
        const { secret, ciphertext } = await pq.encapsulate(engine, key.pq);
        encapsulation.set(ciphertext);
        return secret;
      },
      async () => {
        const { secret, ciphertext } = await classical.encapsulate(engine, key.classical);
        encapsulation.set(ciphertext, pqCiphertextLength);
        return secret;
      },
      (pqSecret, classicalSecret) =>
        combine(combinerInput(pqSecret, classicalSecret, split(encapsulation), key)),
    );
    return { sharedSecret, encapsulation };
  }

  function split(encapsulation: Uint8Array): PublicHalves {
    return {
      pq: encapsulation.subarray(0, pqCiphertextLength),
      classical: encapsulation.subarray(pqCiphertextLength),
    };
  }

  /** Lengths and the point, before any private key is touched. */
  function splitEncapsulation(encapsulation: Uint8Array): PublicHalves {
    if (encapsulation.length !== lengths.encapsulation) throw new TwofoldError('decryption_failed');
    const parts = split(encapsulation);
    if (!classical.isCiphertext(parts.classical)) throw new TwofoldError('decryption_failed');
    return parts;
  }

  async function decapsulate(
    encapsulation: Uint8Array,
    publicKey: Uint8Array,
    halves: KemHalves,
  ): Promise<SecretBytes> {
    const key = splitPublicKey(publicKey);
    const ciphertext = splitEncapsulation(encapsulation);
    return withBothSecrets(
      () => pq.decapsulate(halves, ciphertext.pq),
      () => classical.decapsulate(halves, ciphertext.classical),
      (pqSecret, classicalSecret) => {
        checkSecretLength(pqSecret, pq.lengths.secret);
        checkSecretLength(classicalSecret, classical.lengths.secret);
        return combine(combinerInput(pqSecret, classicalSecret, ciphertext, key));
      },
    );
  }

  return { lengths, joinPublicKey, splitPublicKey, encapsulate, decapsulate };
}

function combinerInput(
  pqSecret: SecretBytes,
  classicalSecret: SecretBytes,
  ciphertext: PublicHalves,
  key: PublicHalves,
): CombinerInput {
  return {
    pqSecret,
    classicalSecret,
    pqCiphertext: ciphertext.pq,
    classicalCiphertext: ciphertext.classical,
    pqPublicKey: key.pq,
    classicalPublicKey: key.classical,
  };
}

export interface SingleKemParameters {
  readonly part: KemPart;
  readonly half: 'pq' | 'classical';
  /**
   * The KEM's secret from the part's, which stays the caller's to wipe; absent where they are the
   * same.
   */
  readonly derive?: (
    secret: SecretBytes,
    ciphertext: Uint8Array,
    publicKey: Uint8Array,
  ) => SecretBytes;
}

export function singleKem({ part, half, derive }: SingleKemParameters): Kem {
  const lengths = { publicKey: part.lengths.publicKey, encapsulation: part.lengths.ciphertext };

  function finish(secret: SecretBytes, ciphertext: Uint8Array, key: Uint8Array): SecretBytes {
    if (derive === undefined) return secret;
    try {
      return derive(secret, ciphertext, key);
    } finally {
      wipe(secret);
    }
  }

  function splitPublicKey(publicKey: Uint8Array): PublicHalves {
    requireLength(publicKey, lengths.publicKey);
    return half === 'pq'
      ? { pq: publicKey, classical: NOTHING }
      : { pq: NOTHING, classical: publicKey };
  }

  return {
    lengths,
    splitPublicKey,

    joinPublicKey(engine, halves) {
      requireLength(half === 'pq' ? halves.classical : halves.pq, 0);
      const key = halves[half];
      part.checkPublicKey(engine, key);
      return Uint8Array.from(key);
    },

    async encapsulate(engine, publicKey) {
      const { secret, ciphertext } = await part.encapsulate(engine, publicKey);
      return { sharedSecret: finish(secret, ciphertext, publicKey), encapsulation: ciphertext };
    },

    async decapsulate(encapsulation, publicKey, halves) {
      const isWhole = encapsulation.length === lengths.encapsulation;
      if (!isWhole || !part.isCiphertext(encapsulation)) {
        throw new TwofoldError('decryption_failed');
      }
      const secret = await part.decapsulate(halves, encapsulation);
      try {
        checkSecretLength(secret, part.lengths.secret);
      } catch (error) {
        wipe(secret);
        throw error;
      }
      return finish(secret, encapsulation, publicKey);
    },
  };
}

/** A half of another length would shift bytes between a combiner's unprefixed fields. */
function checkSecretLength(secret: SecretBytes, length: number): void {
  if (secret.length !== length) {
    throw new TwofoldError('internal', undefined, {
      cause: new Error(
        `a KEM half gave ${String(secret.length)} bytes instead of ${String(length)}`,
      ),
    });
  }
}
