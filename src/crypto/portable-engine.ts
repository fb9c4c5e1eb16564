/**
 * Post-quantum primitives by @noble/post-quantum, in TypeScript: for what this Node lacks, and the
 * independent cross-check of the tests. ML-KEM blocks the thread that calls it (some milliseconds);
 * signatures run in the threads of `portable-pool.ts`.
 */
import { randomBytes } from 'node:crypto';

import { ml_kem1024, ml_kem512, ml_kem768 } from '@noble/post-quantum/ml-kem.js';

import { ML_KEM_SEED_LENGTH, SIGNATURE_LENGTHS } from './engine.ts';
import { Expansion } from './expansion.ts';
import { checkCiphertext, checkEncapsulationKey, consistentKemPair } from './ml-kem-key.ts';
import { portablePool } from './portable-pool.ts';
import { SecretBytes, wipe } from './secret.ts';
import {
  checkContext,
  checkMu,
  checkSeed,
  consistentPair,
  muVerifiable,
  verifiable,
} from './signature-inputs.ts';
import type {
  DecapsulationKey,
  Encapsulated,
  Engine,
  MlDsaParameterSet,
  MlKem,
  MlKemParameterSet,
  SignatureParameterSet,
  Signatures,
  SigningKey,
} from './engine.ts';
import type { PortablePool } from './portable-pool.ts';

const KEMS = { 'ML-KEM-512': ml_kem512, 'ML-KEM-768': ml_kem768, 'ML-KEM-1024': ml_kem1024 };

/** A blocking computation behind the interface's promise: a throw becomes a rejection. */
function promised<T>(compute: () => T): Promise<T> {
  return new Promise((resolve) => {
    resolve(compute());
  });
}

/** noble expands the seed on each use; the expanded key lives only inside a handle. */
function deriveKemPublicKey(set: MlKemParameterSet, seed: SecretBytes): Uint8Array {
  const { publicKey, secretKey } = KEMS[set].keygen(seed.reveal());
  wipe(secretKey);
  return publicKey;
}

function importDecapsulationKey(set: MlKemParameterSet, seed: SecretBytes): DecapsulationKey {
  const key = SecretBytes.own(KEMS[set].keygen(seed.reveal()).secretKey);
  return {
    parameterSet: set,
    decapsulate: (ciphertext) =>
      promised(() => {
        checkCiphertext(set, ciphertext);
        return SecretBytes.own(KEMS[set].decapsulate(ciphertext, key.reveal()));
      }),
    release: () => {
      key.wipe();
    },
  };
}

function encapsulateTo(set: MlKemParameterSet, publicKey: Uint8Array): Encapsulated {
  checkEncapsulationKey(set, publicKey);
  const { sharedSecret, cipherText } = KEMS[set].encapsulate(publicKey);
  return { sharedSecret: SecretBytes.own(sharedSecret), ciphertext: cipherText };
}

const mlKem: MlKem = {
  generate: async (set) => {
    const seed = SecretBytes.own(randomBytes(ML_KEM_SEED_LENGTH));
    return consistentKemPair(mlKem, set, { seed, publicKey: deriveKemPublicKey(set, seed) });
  },
  publicKey: deriveKemPublicKey,
  importSeed: importDecapsulationKey,
  checkPublicKey: checkEncapsulationKey,
  encapsulate: (set, publicKey) => promised(() => encapsulateTo(set, publicKey)),
};

/** A copy in memory of its own, which a job takes with it into its thread. */
const copyForJob = (secret: SecretBytes) => Uint8Array.from(secret.reveal());

function importSigningKey(
  pool: PortablePool,
  set: SignatureParameterSet,
  seed: SecretBytes,
): SigningKey {
  checkSeed(set, seed);
  const expansion = new Expansion(
    seed,
    async (copy) => {
      const job = { kind: 'expand', set, secret: copyForJob(copy) } as const;
      return SecretBytes.own((await pool.run(job)).secretKey);
    },
    wipe,
  );
  return {
    parameterSet: set,
    async sign(message, context) {
      checkContext(set, context);
      const secret = copyForJob(await expansion.get());
      return pool.run({ kind: 'sign', set, secret, message, context });
    },
    // FIPS 205 section 9.1: a private key ends in its public key, which is half of it.
    ...(set.startsWith('SLH-DSA')
      ? {
          publicKey: async () => {
            const secret = (await expansion.get()).reveal();
            return secret.slice(secret.length / 2);
          },
        }
      : {}),
    async signMu(mu) {
      checkMu(set, mu);
      const secret = copyForJob(await expansion.get());
      return pool.run({ kind: 'signMu', set: set as MlDsaParameterSet, secret, mu });
    },
    release: () => {
      expansion.release();
    },
  };
}

function portableSignatures(pool: PortablePool): Signatures {
  async function publicKeyOf(set: SignatureParameterSet, seed: SecretBytes): Promise<Uint8Array> {
    checkSeed(set, seed);
    const job = { kind: 'expand', set, secret: copyForJob(seed) } as const;
    const { publicKey, secretKey } = await pool.run(job);
    wipe(secretKey);
    return publicKey;
  }
  const signatures: Signatures = {
    async generate(set) {
      const seed = SecretBytes.own(randomBytes(SIGNATURE_LENGTHS[set].seed));
      try {
        const publicKey = await publicKeyOf(set, seed);
        return await consistentPair(signatures, set, { seed, publicKey });
      } catch (error) {
        wipe(seed);
        throw error;
      }
    },
    publicKey: publicKeyOf,
    importSeed: (set, seed) => importSigningKey(pool, set, seed),
    async verify(set, publicKey, message, signature, context) {
      if (!verifiable(set, publicKey, signature, context)) return false;
      return pool.run({ kind: 'verify', set, publicKey, message, signature, context });
    },
    async verifyMu(set, publicKey, mu, signature) {
      if (!muVerifiable(set, publicKey, mu, signature)) return false;
      return pool.run({ kind: 'verifyMu', set, publicKey, mu, signature });
    },
  };
  return signatures;
}

/** @param pool whoever makes it closes it */
export function createPortableEngine(pool: PortablePool): Engine {
  return {
    name: 'portable',
    mlKem,
    signatures: portableSignatures(pool),
    implementationOf: () => 'portable',
    implementationOfMu: (set) => (SIGNATURE_LENGTHS[set].mu ? 'portable' : null),
  };
}

export const portableEngine: Engine = createPortableEngine(portablePool);
