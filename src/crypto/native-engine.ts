/**
 * Post-quantum primitives by OpenSSL 3.5 or later through node:crypto. ML-DSA signs in libuv's
 * threads; ML-KEM decapsulates on the calling thread, because its 30 µs are less than a thread's
 * wake-up.
 *
 * A KeyObject keeps its copy of the private key inside OpenSSL until it is collected; `release`
 * drops our reference, which is all that can be done.
 */
import {
  createPrivateKey,
  createPublicKey,
  decapsulate,
  encapsulate,
  generateKeyPair,
  sign,
  verify,
} from 'node:crypto';
import { promisify } from 'node:util';
import type { AsymmetricKeyType, KeyObject } from 'node:crypto';

import { verifiableLengths } from './engine.ts';
import { checkCiphertext, checkEncapsulationKey } from './ml-kem-key.ts';
import { SecretBytes } from './secret.ts';
import type {
  DecapsulationKey,
  Encapsulated,
  Engine,
  MlDsa,
  MlDsaParameterSet,
  MlKem,
  MlKemParameterSet,
  SeedPair,
  SigningKey,
} from './engine.ts';

const generateKeyPairAsync = promisify(generateKeyPair);

type ParameterSet = MlKemParameterSet | MlDsaParameterSet;

/** Node's names are the standards' in lower case. */
function keyType(set: ParameterSet): AsymmetricKeyType {
  return set.toLowerCase() as AsymmetricKeyType;
}

/** A view, not a copy: node's typings want a Buffer where its code takes any view. */
function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function privateKey(set: ParameterSet, seed: SecretBytes): KeyObject {
  return createPrivateKey({
    key: view(seed.reveal()),
    format: 'raw-seed',
    asymmetricKeyType: keyType(set),
  });
}

function publicKeyObject(set: ParameterSet, publicKey: Uint8Array): KeyObject {
  return createPublicKey({
    key: view(publicKey),
    format: 'raw-public',
    asymmetricKeyType: keyType(set),
  });
}

function derivePublicKey(set: ParameterSet, seed: SecretBytes): Uint8Array {
  const exported = createPublicKey(privateKey(set, seed)).export({ format: 'raw-public' });
  return Uint8Array.from(exported);
}

/** The one-shot calls of node:crypto as promises. */
function settle<T>(call: (done: (error: Error | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => {
      if (error === null || (error as unknown) === undefined) resolve(value);
      else reject(error);
    });
  });
}

/** A KeyObject that can be let go. */
class HeldKey {
  #key: KeyObject | undefined;

  constructor(key: KeyObject) {
    this.#key = key;
  }

  get key(): KeyObject {
    if (this.#key === undefined) throw new Error('a private key was used after its release');
    return this.#key;
  }

  release(): void {
    this.#key = undefined;
  }
}

async function generatePair(set: ParameterSet): Promise<SeedPair> {
  const pair = await generateKeyPairAsync(keyType(set) as 'ml-kem-768');
  return {
    seed: SecretBytes.own(pair.privateKey.export({ format: 'raw-seed' })),
    publicKey: Uint8Array.from(pair.publicKey.export({ format: 'raw-public' })),
  };
}

function importDecapsulationKey(set: MlKemParameterSet, seed: SecretBytes): DecapsulationKey {
  const held = new HeldKey(privateKey(set, seed));
  return {
    parameterSet: set,
    // On the event loop: it takes some 30 µs, less than handing it to a thread and back costs here.
    // eslint-disable-next-line @typescript-eslint/require-await -- errors must be rejections
    async decapsulate(ciphertext) {
      checkCiphertext(set, ciphertext);
      return SecretBytes.own(decapsulate(held.key, ciphertext));
    },
    release: () => {
      held.release();
    },
  };
}

async function encapsulateTo(set: MlKemParameterSet, publicKey: Uint8Array): Promise<Encapsulated> {
  checkEncapsulationKey(set, publicKey);
  const key = publicKeyObject(set, publicKey);
  const { sharedKey, ciphertext } = await settle<{ sharedKey: Uint8Array; ciphertext: Uint8Array }>(
    (done) => {
      encapsulate(key, done);
    },
  );
  return { sharedSecret: SecretBytes.own(sharedKey), ciphertext };
}

function importSigningKey(set: MlDsaParameterSet, seed: SecretBytes): SigningKey {
  const held = new HeldKey(privateKey(set, seed));
  return {
    parameterSet: set,
    sign: (message, context) =>
      settle<Uint8Array>((done) => {
        sign(null, message, { key: held.key, context }, done);
      }),
    release: () => {
      held.release();
    },
  };
}

async function verifySignature(
  set: MlDsaParameterSet,
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
  context: Uint8Array,
): Promise<boolean> {
  if (!verifiableLengths(set, publicKey, signature, context)) return false;
  const key = publicKeyObject(set, publicKey);
  return settle<boolean>((done) => {
    verify(null, message, { key, context }, signature, done);
  });
}

const mlKem: MlKem = {
  generate: generatePair,
  publicKey: derivePublicKey,
  importSeed: importDecapsulationKey,
  checkPublicKey: checkEncapsulationKey,
  encapsulate: encapsulateTo,
};

const mlDsa: MlDsa = {
  generate: generatePair,
  publicKey: derivePublicKey,
  importSeed: importSigningKey,
  verify: verifySignature,
};

export const nativeEngine: Engine = { name: 'native', mlKem, mlDsa };
