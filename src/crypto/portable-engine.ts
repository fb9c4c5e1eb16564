/**
 * Post-quantum primitives by @noble/post-quantum, in TypeScript: the independent cross-check of the
 * tests. The service does not choose it. Its operations block the thread that calls them.
 */
import { randomBytes } from 'node:crypto';

import { ml_dsa44, ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';
import { ml_kem1024, ml_kem512, ml_kem768 } from '@noble/post-quantum/ml-kem.js';

import { ML_DSA_SEED_LENGTH, ML_KEM_SEED_LENGTH, verifiableLengths } from './engine.ts';
import { checkCiphertext, checkEncapsulationKey } from './ml-kem-key.ts';
import { SecretBytes, wipe } from './secret.ts';
import type {
  DecapsulationKey,
  Engine,
  MlDsa,
  MlDsaParameterSet,
  MlKem,
  MlKemParameterSet,
  SeedPair,
  SigningKey,
} from './engine.ts';

const KEMS = { 'ML-KEM-512': ml_kem512, 'ML-KEM-768': ml_kem768, 'ML-KEM-1024': ml_kem1024 };
const SIGNERS = { 'ML-DSA-44': ml_dsa44, 'ML-DSA-65': ml_dsa65, 'ML-DSA-87': ml_dsa87 };

/** A blocking computation behind the interface's promise: a throw becomes a rejection. */
function promised<T>(compute: () => T): Promise<T> {
  return new Promise((resolve) => {
    resolve(compute());
  });
}

interface Expander {
  keygen(seed: Uint8Array): { readonly publicKey: Uint8Array; readonly secretKey: Uint8Array };
}

/** noble expands the seed on each use; the expanded key lives only inside a handle. */
function derivePublicKey(scheme: Expander, seed: SecretBytes): Uint8Array {
  const { publicKey, secretKey } = scheme.keygen(seed.reveal());
  wipe(secretKey);
  return publicKey;
}

function expand(scheme: Expander, seed: SecretBytes): SecretBytes {
  return SecretBytes.own(scheme.keygen(seed.reveal()).secretKey);
}

function generatePair(scheme: Expander, seedLength: number): SeedPair {
  const seed = SecretBytes.own(randomBytes(seedLength));
  return { seed, publicKey: derivePublicKey(scheme, seed) };
}

function importDecapsulationKey(set: MlKemParameterSet, seed: SecretBytes): DecapsulationKey {
  const key = expand(KEMS[set], seed);
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

function importSigningKey(set: MlDsaParameterSet, seed: SecretBytes): SigningKey {
  const key = expand(SIGNERS[set], seed);
  return {
    parameterSet: set,
    sign: (message, context) =>
      promised(() => SIGNERS[set].sign(message, key.reveal(), { context })),
    release: () => {
      key.wipe();
    },
  };
}

const mlKem: MlKem = {
  generate: (set) => promised(() => generatePair(KEMS[set], ML_KEM_SEED_LENGTH)),
  publicKey: (set, seed) => derivePublicKey(KEMS[set], seed),
  importSeed: importDecapsulationKey,
  checkPublicKey: checkEncapsulationKey,
  encapsulate: (set, publicKey) =>
    promised(() => {
      checkEncapsulationKey(set, publicKey);
      const { sharedSecret, cipherText } = KEMS[set].encapsulate(publicKey);
      return { sharedSecret: SecretBytes.own(sharedSecret), ciphertext: cipherText };
    }),
};

const mlDsa: MlDsa = {
  generate: (set) => promised(() => generatePair(SIGNERS[set], ML_DSA_SEED_LENGTH)),
  publicKey: (set, seed) => derivePublicKey(SIGNERS[set], seed),
  importSeed: importSigningKey,
  verify: (set, publicKey, message, signature, context) =>
    promised(
      () =>
        verifiableLengths(set, publicKey, signature, context) &&
        SIGNERS[set].verify(signature, message, publicKey, { context }),
    ),
};

export const portableEngine: Engine = { name: 'portable', mlKem, mlDsa };
