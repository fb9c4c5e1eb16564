/**
 * Post-quantum primitives by OpenSSL 3.5 or later through node:crypto, for the parameter sets that
 * this Node has (`hasNatively`); Falcon and an external mu of ML-DSA it never has. Signatures run in
 * libuv's threads; ML-KEM works on the calling thread, because its 30 to 60 µs are less than what a
 * thread's wake-up and the way back cost.
 *
 * Node takes an SLH-DSA private key only with its PK.root, and OpenSSL does not check that: with a
 * wrong one it makes signatures that verify under no key. So PK.root is never stored. The portable
 * engine's threads compute it from the seed, once for an imported key.
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

import { TwofoldError } from '../errors.ts';
import { concatBytes } from './bytes.ts';
import { ML_KEM_LENGTHS, SIGNATURE_LENGTHS } from './engine.ts';
import { Expansion } from './expansion.ts';
import { Gate } from './gate.ts';
import { checkCiphertext, checkEncapsulationKey, consistentKemPair } from './ml-kem-key.ts';
import { portablePool } from './portable-pool.ts';
import { SecretBytes, wipe } from './secret.ts';
import {
  checkContext,
  checkMu,
  checkSeed,
  consistentPair,
  verifiable,
} from './signature-inputs.ts';
import type {
  DecapsulationKey,
  Encapsulated,
  Engine,
  MlKem,
  MlKemParameterSet,
  SeedPair,
  SignatureParameterSet,
  Signatures,
  SigningKey,
} from './engine.ts';
import type { ExpandedPair } from './portable-jobs.ts';
import type { PortablePool } from './portable-pool.ts';

const generateKeyPairAsync = promisify(generateKeyPair);

type ParameterSet = MlKemParameterSet | SignatureParameterSet;

/**
 * An SLH-DSA signature occupies one of libuv's threads, four by default, for up to some seconds;
 * files, name resolution and all other cryptography need the rest.
 */
const LONG_AT_ONCE = 2;
const LONG_WAITING = 32;

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

async function generateFromSeed(set: ParameterSet): Promise<SeedPair> {
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

// On the event loop, as decapsulation.
// eslint-disable-next-line @typescript-eslint/require-await -- errors must be rejections
async function encapsulateTo(set: MlKemParameterSet, publicKey: Uint8Array): Promise<Encapsulated> {
  checkEncapsulationKey(set, publicKey);
  const { sharedKey, ciphertext } = encapsulate(publicKeyObject(set, publicKey));
  return { sharedSecret: SecretBytes.own(sharedKey), ciphertext };
}

const mlKem: MlKem = {
  generate: async (set) => consistentKemPair(mlKem, set, await generateFromSeed(set)),
  publicKey: derivePublicKey,
  importSeed: importDecapsulationKey,
  checkPublicKey: checkEncapsulationKey,
  encapsulate: encapsulateTo,
};

/** SK.seed ‖ SK.prf ‖ PK.seed of a raw SLH-DSA private key, which ends in PK.root. */
async function generateSlhDsa(set: SignatureParameterSet): Promise<SeedPair> {
  const pair = await generateKeyPairAsync(keyType(set) as 'slh-dsa-sha2-128s');
  const exported = pair.privateKey.export({ format: 'raw-private' });
  try {
    return {
      seed: SecretBytes.copyOf(exported.subarray(0, SIGNATURE_LENGTHS[set].seed)),
      publicKey: Uint8Array.from(pair.publicKey.export({ format: 'raw-public' })),
    };
  } finally {
    wipe(exported);
  }
}

const isSlhDsa = (set: SignatureParameterSet) => set.startsWith('SLH-DSA');

const noMu = () =>
  new TwofoldError('suite_unavailable_here', 'Node.js signs no external mu of ML-DSA.');

/** From SK.seed ‖ SK.prf ‖ PK.seed ‖ PK.root. */
const slhDsaPrivateKey = (set: SignatureParameterSet, secretKey: Uint8Array): KeyObject =>
  createPrivateKey({
    key: view(secretKey),
    format: 'raw-private',
    asymmetricKeyType: keyType(set),
  });

/** SLH-DSA from a seed: PK.root comes from `pool`, signatures wait for their turn. */
class SlhDsa {
  readonly #pool: PortablePool;
  readonly #turns = new Gate(LONG_AT_ONCE, LONG_WAITING);

  constructor(pool: PortablePool) {
    this.#pool = pool;
  }

  generate(set: SignatureParameterSet): Promise<SeedPair> {
    return this.#turns.run(() => generateSlhDsa(set));
  }

  async publicKey(set: SignatureParameterSet, seed: SecretBytes): Promise<Uint8Array> {
    const { publicKey, secretKey } = await this.#expand(set, seed);
    wipe(secretKey);
    return publicKey;
  }

  importSeed(set: SignatureParameterSet, seed: SecretBytes): SigningKey {
    return this.#signingKey(set, seed, (copy) => this.#expanded(set, copy));
  }

  /**
   * For the test of a new pair: PK.root as the public key states it, which saves its computation.
   * Verification recomputes the root from the signature, so one that the seed does not give fails.
   */
  importPair(set: SignatureParameterSet, { seed, publicKey }: SeedPair): SigningKey {
    const root = publicKey.subarray(publicKey.length / 2);
    // eslint-disable-next-line @typescript-eslint/require-await -- errors must be rejections
    return this.#signingKey(set, seed, async (copy) => {
      const secretKey = concatBytes(copy.reveal(), root);
      try {
        return slhDsaPrivateKey(set, secretKey);
      } finally {
        wipe(secretKey);
      }
    });
  }

  #signingKey(
    set: SignatureParameterSet,
    seed: SecretBytes,
    privateKeyOf: (seed: SecretBytes) => Promise<KeyObject>,
  ): SigningKey {
    const expansion = new Expansion(seed, privateKeyOf, () => undefined);
    return {
      parameterSet: set,
      sign: async (message, context) => {
        checkContext(set, context);
        const key = await expansion.get();
        return this.#turns.run(() => signWith(key, message, context));
      },
      signMu: (mu) => refuseMu(set, mu),
      publicKey: async () => {
        const key = createPublicKey(await expansion.get());
        return Uint8Array.from(key.export({ format: 'raw-public' }));
      },
      release: () => {
        expansion.release();
      },
    };
  }

  async #expanded(set: SignatureParameterSet, seed: SecretBytes): Promise<KeyObject> {
    const { secretKey } = await this.#expand(set, seed);
    try {
      return slhDsaPrivateKey(set, secretKey);
    } finally {
      wipe(secretKey);
    }
  }

  #expand(set: SignatureParameterSet, seed: SecretBytes): Promise<ExpandedPair> {
    return this.#pool.run({ kind: 'expand', set, secret: Uint8Array.from(seed.reveal()) });
  }
}

function signWith(key: KeyObject, message: Uint8Array, context: Uint8Array): Promise<Uint8Array> {
  return settle<Uint8Array>((done) => {
    sign(null, message, { key, context }, done);
  });
}

// eslint-disable-next-line @typescript-eslint/require-await -- errors must be rejections
async function refuseMu(set: SignatureParameterSet, mu: Uint8Array): Promise<never> {
  checkMu(set, mu);
  throw noMu();
}

function importMlDsa(set: SignatureParameterSet, seed: SecretBytes): SigningKey {
  const held = new HeldKey(privateKey(set, seed));
  return {
    parameterSet: set,
    async sign(message, context) {
      checkContext(set, context);
      return signWith(held.key, message, context);
    },
    signMu: (mu) => refuseMu(set, mu),
    release: () => {
      held.release();
    },
  };
}

async function verifySignature(
  set: SignatureParameterSet,
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
  context: Uint8Array,
): Promise<boolean> {
  requireNative(set);
  if (!verifiable(set, publicKey, signature, context)) return false;
  const key = publicKeyObject(set, publicKey);
  return settle<boolean>((done) => {
    verify(null, message, { key, context }, signature, done);
  });
}

function nativeSignatures(pool: PortablePool): Signatures {
  const slhDsa = new SlhDsa(pool);
  const signatures: Signatures = {
    async generate(set) {
      requireNative(set);
      if (!isSlhDsa(set)) return consistentPair(signatures, set, await generateFromSeed(set));
      const pair = await slhDsa.generate(set);
      const importSeed = () => slhDsa.importPair(set, pair);
      return consistentPair({ importSeed, verify: verifySignature }, set, pair);
    },
    async publicKey(set, seed) {
      requireNative(set);
      checkSeed(set, seed);
      return isSlhDsa(set) ? slhDsa.publicKey(set, seed) : derivePublicKey(set, seed);
    },
    importSeed(set, seed) {
      requireNative(set);
      checkSeed(set, seed);
      return isSlhDsa(set) ? slhDsa.importSeed(set, seed) : importMlDsa(set, seed);
    },
    verify: verifySignature,
    verifyMu: () => Promise.reject(noMu()),
  };
  return signatures;
}

const known = new Map<ParameterSet, boolean>();

function publicKeyLength(set: ParameterSet): number {
  const lengths = { ...ML_KEM_LENGTHS, ...SIGNATURE_LENGTHS };
  return lengths[set].publicKey;
}

function importsPublicKey(set: ParameterSet): boolean {
  try {
    // Zeros are the encoding of a public key in each of these algorithms.
    publicKeyObject(set, new Uint8Array(publicKeyLength(set)));
    return true;
  } catch {
    return false;
  }
}

/** Whether this Node and its OpenSSL have the set: tried, not concluded from version numbers. */
export function hasNatively(set: ParameterSet): boolean {
  const found = known.get(set) ?? importsPublicKey(set);
  known.set(set, found);
  return found;
}

/** @throws TwofoldError suite_unavailable_here */
function requireNative(set: SignatureParameterSet): void {
  if (hasNatively(set)) return;
  throw new TwofoldError('suite_unavailable_here', `This Node.js has no ${set}.`);
}

/** @param pool computes PK.root of SLH-DSA; whoever makes it closes it */
export function createNativeEngine(pool: PortablePool): Engine {
  return {
    name: 'native',
    mlKem,
    signatures: nativeSignatures(pool),
    implementationOf: (set) => (hasNatively(set) ? 'native' : null),
    // Node signs no external mu.
    implementationOfMu: () => null,
  };
}

export const nativeEngine: Engine = createNativeEngine(portablePool);
