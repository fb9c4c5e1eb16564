/**
 * The service's engine: each parameter set by OpenSSL where this Node has it, else by
 * @noble/post-quantum. Nothing of an implementation is used for a set before its self-test has
 * passed; one that fails makes the set unavailable, without a try of the other implementation,
 * because what is broken should be seen.
 */
import { SIGNATURE_LENGTHS } from './engine.ts';
import { createNativeEngine, hasNatively } from './native-engine.ts';
import { createPortableEngine } from './portable-engine.ts';
import { PortablePool } from './portable-pool.ts';
import {
  SelfTests,
  mlKemAnswer,
  signatureAnswer,
  testMlKem,
  testMu,
  testSignatures,
} from './self-tests.ts';
import { checkContext, checkMu } from './signature-inputs.ts';
import type {
  DecapsulationKey,
  Engine,
  Implementation,
  MlDsaParameterSet,
  MlKem,
  MlKemParameterSet,
  SignatureParameterSet,
  Signatures,
  SigningKey,
} from './engine.ts';
import type { SecretBytes } from './secret.ts';

type ParameterSet = MlKemParameterSet | SignatureParameterSet;

/** The engine of a process; whoever makes it closes it. */
export interface ServiceEngine extends Engine {
  readonly name: 'combined';
  /** Ends the threads; what runs in them is rejected with shutting_down. */
  close(): Promise<void>;
}

/** The parts of a combined engine; tests give others. */
export interface EngineParts {
  readonly native: Engine;
  readonly portable: Engine;
  readonly pool: PortablePool;
  readonly isNative: (set: ParameterSet) => boolean;
}

interface Chosen {
  readonly by: Implementation;
  readonly engine: Engine;
}

const isMlKem = (set: ParameterSet): set is MlKemParameterSet =>
  !Object.hasOwn(SIGNATURE_LENGTHS, set);

/**
 * The quicker set of the same functions and category as a small SLH-DSA set, which differs in the shape
 * of its trees alone (FIPS 205 table 2): `SLH-DSA-SHA2-128f` of `SLH-DSA-SHA2-128s`.
 */
function quickerSibling(set: SignatureParameterSet): SignatureParameterSet | undefined {
  if (!set.startsWith('SLH-DSA-') || !set.endsWith('s')) return undefined;
  return `${set.slice(0, -1)}f` as SignatureParameterSet;
}

/** A signature, what it is over, and the key under which it has to verify. */
interface Signed {
  readonly publicKey: Uint8Array;
  readonly message: Uint8Array;
  readonly signature: Uint8Array;
  readonly context: Uint8Array;
}

const verifiedBy = (
  { signatures }: Engine,
  set: SignatureParameterSet,
  { publicKey, message, signature, context }: Signed,
) => signatures.verify(set, publicKey, message, signature, context);

const muTestOf = (set: SignatureParameterSet) => `${set} over an external mu, portable`;

class Choice {
  readonly #parts: EngineParts;
  readonly #tests = new SelfTests();

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  of(set: ParameterSet): Chosen {
    const by = this.#parts.isNative(set) ? 'native' : 'portable';
    return { by, engine: this.#parts[by] };
  }

  /** The engine of a set whose test has passed, else undefined: then `checked` has to be awaited. */
  ready(set: ParameterSet): Engine | undefined {
    const { by, engine } = this.of(set);
    return this.#tests.passed(`${set}, ${by}`) ? engine : undefined;
  }

  /** @throws TwofoldError suite_unavailable_here */
  async checked(set: ParameterSet): Promise<Engine> {
    const { by, engine } = this.of(set);
    await this.#tests.require(`${set}, ${by}`, () => this.#test(set, engine));
    return engine;
  }

  /**
   * Node signs no external mu, so the portable engine always does.
   * @throws TwofoldError suite_unavailable_here
   */
  async checkedForMu(set: MlDsaParameterSet): Promise<Engine> {
    const { portable } = this.#parts;
    const test = () => testMu(portable.signatures, set);
    await this.#tests.require(muTestOf(set), test);
    return portable;
  }

  implementationOfMu(set: SignatureParameterSet): Implementation | null {
    return SIGNATURE_LENGTHS[set].mu && !this.#tests.failed(muTestOf(set)) ? 'portable' : null;
  }

  implementationOf(set: ParameterSet): Implementation | null {
    const { by } = this.of(set);
    const name = `${set}, ${by}`;
    const failed = [name, `${name}, signing`, `${name}, verifying`].some((one) =>
      this.#tests.failed(one),
    );
    return failed ? null : by;
  }

  /** Whether the set stands on its sibling's test and no result of its own is proven yet. */
  isUnproven(set: SignatureParameterSet, use: 'signing' | 'verifying'): boolean {
    return this.#testedBySibling(set) && !this.#tests.passed(`${set}, ${this.of(set).by}, ${use}`);
  }

  /**
   * The first signature of a set leaves only once both implementations have verified it, over its own
   * message and no other.
   * @throws TwofoldError suite_unavailable_here
   */
  async proveSignature(set: SignatureParameterSet, signed: Signed): Promise<void> {
    const { by, engine } = this.of(set);
    const other = { ...signed, message: Uint8Array.of(...signed.message, 0) };
    const test = async () =>
      (await verifiedBy(engine, set, signed)) &&
      !(await verifiedBy(engine, set, other)) &&
      (await verifiedBy(this.#parts.portable, set, signed));
    await this.#tests.require(`${set}, ${by}, signing`, test);
  }

  /**
   * Until both implementations have found one signature valid, each outcome leaves only if they agree.
   * @throws TwofoldError suite_unavailable_here
   */
  async proveVerification(
    set: SignatureParameterSet,
    signed: Signed,
    valid: boolean,
  ): Promise<void> {
    const { by } = this.of(set);
    const agreed = (await verifiedBy(this.#parts.portable, set, signed)) === valid;
    if (!valid && agreed) return;
    await this.#tests.require(`${set}, ${by}, verifying`, () => Promise.resolve(agreed));
  }

  #testedBySibling(set: SignatureParameterSet): boolean {
    const sibling = quickerSibling(set);
    return sibling !== undefined && this.of(sibling).by === this.of(set).by;
  }

  /** A small set of SLH-DSA would take seconds: its sibling is tested, and its own first results. */
  async #test(set: ParameterSet, engine: Engine): Promise<boolean> {
    if (isMlKem(set)) return testMlKem(engine.mlKem, mlKemAnswer(set));
    const sibling = quickerSibling(set);
    if (sibling !== undefined && this.#testedBySibling(set)) {
      await this.checked(sibling);
      return true;
    }
    const { portable } = this.#parts;
    const answer = signatureAnswer(set);
    const needsWitness = answer.known === null && engine !== portable;
    return testSignatures(
      engine.signatures,
      answer,
      needsWitness ? portable.signatures : undefined,
    );
  }
}

function combinedMlKem(choice: Choice): MlKem {
  const importSeed = (set: MlKemParameterSet, seed: SecretBytes): DecapsulationKey => {
    const key = choice.of(set).engine.mlKem.importSeed(set, seed);
    return {
      parameterSet: set,
      async decapsulate(ciphertext) {
        if (choice.ready(set) === undefined) await choice.checked(set);
        return key.decapsulate(ciphertext);
      },
      release: () => {
        key.release();
      },
    };
  };
  return {
    generate: async (set) => (await choice.checked(set)).mlKem.generate(set),
    publicKey: (set, seed) => choice.of(set).engine.mlKem.publicKey(set, seed),
    importSeed,
    checkPublicKey(set, publicKey) {
      choice.of(set).engine.mlKem.checkPublicKey(set, publicKey);
    },
    async encapsulate(set, publicKey) {
      const { mlKem } = choice.ready(set) ?? (await choice.checked(set));
      return mlKem.encapsulate(set, publicKey);
    },
  };
}

/**
 * A key of the set's own implementation, and for an external mu one of the portable engine, made
 * when it is first needed.
 */
class CombinedKey implements SigningKey {
  readonly parameterSet: SignatureParameterSet;
  readonly #choice: Choice;
  readonly #key: SigningKey;
  readonly #muKey: SigningKey | undefined;

  constructor(choice: Choice, mu: Signatures, set: SignatureParameterSet, seed: SecretBytes) {
    const { by, engine } = choice.of(set);
    this.parameterSet = set;
    this.#choice = choice;
    this.#key = engine.signatures.importSeed(set, seed);
    const needsOther = by === 'native' && SIGNATURE_LENGTHS[set].mu;
    this.#muKey = needsOther ? mu.importSeed(set, seed) : undefined;
  }

  async sign(message: Uint8Array, context: Uint8Array): Promise<Uint8Array> {
    const set = this.parameterSet;
    checkContext(set, context);
    if (this.#choice.ready(set) === undefined) await this.#choice.checked(set);
    const signature = await this.#key.sign(message, context);
    if (this.#key.publicKey !== undefined && this.#choice.isUnproven(set, 'signing')) {
      const publicKey = await this.#key.publicKey();
      await this.#choice.proveSignature(set, { publicKey, message, signature, context });
    }
    return signature;
  }

  async signMu(mu: Uint8Array): Promise<Uint8Array> {
    checkMu(this.parameterSet, mu);
    await this.#choice.checkedForMu(this.parameterSet as MlDsaParameterSet);
    return (this.#muKey ?? this.#key).signMu(mu);
  }

  release(): void {
    this.#key.release();
    this.#muKey?.release();
  }
}

function combinedSignatures(choice: Choice, portable: Engine): Signatures {
  return {
    generate: async (set) => (await choice.checked(set)).signatures.generate(set),
    publicKey: async (set, seed) => (await choice.checked(set)).signatures.publicKey(set, seed),
    importSeed: (set, seed) => new CombinedKey(choice, portable.signatures, set, seed),
    async verify(set, publicKey, message, signature, context) {
      const { signatures } = choice.ready(set) ?? (await choice.checked(set));
      const valid = await signatures.verify(set, publicKey, message, signature, context);
      if (choice.isUnproven(set, 'verifying')) {
        await choice.proveVerification(set, { publicKey, message, signature, context }, valid);
      }
      return valid;
    },
    async verifyMu(set, publicKey, mu, signature) {
      const { signatures } = await choice.checkedForMu(set);
      return signatures.verifyMu(set, publicKey, mu, signature);
    },
  };
}

/** Cheap: threads start with the first job for them, and tests run when a set is first used. */
export function createEngine(replaced: Partial<EngineParts> = {}): ServiceEngine {
  const pool = replaced.pool ?? new PortablePool();
  const parts: EngineParts = {
    native: createNativeEngine(pool),
    portable: createPortableEngine(pool),
    isNative: hasNatively,
    ...replaced,
    pool,
  };
  const choice = new Choice(parts);
  return {
    name: 'combined',
    mlKem: combinedMlKem(choice),
    signatures: combinedSignatures(choice, parts.portable),
    implementationOf: (set) => choice.implementationOf(set),
    implementationOfMu: (set) => choice.implementationOfMu(set),
    close: () => pool.close(),
  };
}
