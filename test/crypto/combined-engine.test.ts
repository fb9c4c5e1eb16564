import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';

import { afterEach, describe, expect, it, jest } from '@jest/globals';
import * as fc from 'fast-check';

import { createEngine } from '../../src/crypto/combined-engine.ts';
import { ML_KEM_LENGTHS, SIGNATURE_LENGTHS } from '../../src/crypto/engine.ts';
import { Gate } from '../../src/crypto/gate.ts';
import { hasNatively, nativeEngine } from '../../src/crypto/native-engine.ts';
import { portableEngine } from '../../src/crypto/portable-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { muOf } from '../../src/crypto/self-tests.ts';
import { hex, toHex } from './software-halves.ts';
import type { EngineParts, ServiceEngine } from '../../src/crypto/combined-engine.ts';
import type {
  Engine,
  MlDsaParameterSet,
  MlKemParameterSet,
  SignatureParameterSet,
  Signatures,
} from '../../src/crypto/engine.ts';

jest.setTimeout(240_000);

const SETS = Object.keys(SIGNATURE_LENGTHS) as SignatureParameterSet[];
const KEM_SETS = Object.keys(ML_KEM_LENGTHS) as MlKemParameterSet[];
const ML_DSA: readonly MlDsaParameterSet[] = ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'];
/** The slow ones but one are in the slow file: their keys and signatures take seconds. */
const HERE = SETS.filter((set) => !/(192|256)s|SHAKE-128s/.test(set));
/** noble needs seconds for each signature of the others. */
const QUICK = SETS.filter((set) => /ML-DSA|SHA2-\d+f|SHAKE-128f/.test(set));
const MESSAGE = hex('00ff');
const CONTEXT = hex('636f6e74657874');
const NONE = hex('');
const unavailable = { code: 'suite_unavailable_here' };

const engines: ServiceEngine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
});

function open(parts?: Partial<EngineParts>): ServiceEngine {
  const engine = createEngine(parts);
  engines.push(engine);
  return engine;
}

const withSignatures = (engine: Engine, change: Partial<Signatures>): Engine => ({
  ...engine,
  signatures: { ...engine.signatures, ...change },
});

describe('the combined engine', () => {
  it.each(HERE)('%s: makes, signs with and verifies by keys of the seed', async (set) => {
    const engine = open();
    const { signatures } = engine;
    const lengths = SIGNATURE_LENGTHS[set];
    const { seed, publicKey } = await signatures.generate(set);
    expect([seed.length, publicKey.length]).toEqual([lengths.seed, lengths.publicKey]);
    const context = lengths.context ? CONTEXT : NONE;
    const key = signatures.importSeed(set, seed);
    seed.wipe();
    const signature = await key.sign(MESSAGE, context);
    expect(signature).toHaveLength(lengths.signature);
    for (const by of [signatures, portableEngine.signatures]) {
      const valid = (message: Uint8Array, given: Uint8Array) =>
        by.verify(set, publicKey, message, signature, given);
      expect(await valid(MESSAGE, context)).toBe(true);
      expect(await valid(hex('00fe'), context)).toBe(false);
      expect(await valid(MESSAGE, hex('00'))).toBe(false);
    }
    key.release();
    await expect(key.sign(MESSAGE, context)).rejects.toThrow('release');
    expect(engine.implementationOf(set)).toBe(set.startsWith('Falcon') ? 'portable' : 'native');
    expect(engine.implementationOfMu(set)).toBe(set.startsWith('ML-DSA') ? 'portable' : null);
  });

  it.each(SETS)('%s: a wrong length of anything is false or invalid_value', async (set) => {
    const { signatures } = open();
    const { publicKey, signature, seed } = SIGNATURE_LENGTHS[set];
    const zeros = (length: number) => new Uint8Array(length);
    const wrong = [
      [zeros(publicKey - 1), zeros(signature), NONE],
      [zeros(publicKey + 1), zeros(signature), NONE],
      [zeros(publicKey), zeros(signature - 1), NONE],
      [zeros(publicKey), zeros(signature + 1), NONE],
      [zeros(publicKey), NONE, NONE],
      [zeros(publicKey), zeros(signature), zeros(256)],
      [zeros(publicKey), zeros(signature), NONE],
    ] as const;
    const by = /SHA2|ML-DSA/.test(set) ? signatures : portableEngine.signatures;
    for (const [pk, sig, context] of wrong) {
      expect(await by.verify(set, pk, MESSAGE, sig, context)).toBe(false);
    }
    for (const length of [0, seed - 1, seed + 1]) {
      const short = SecretBytes.own(zeros(length));
      expect(() => signatures.importSeed(set, short)).toThrow(
        expect.objectContaining({ code: 'invalid_value' }),
      );
      const derived = by.publicKey(set, short);
      await expect(derived).rejects.toMatchObject({ code: 'invalid_value' });
    }
  });

  it('takes the portable engine for what Node lacks', async () => {
    const engine = open({ isNative: () => false, native: withSignatures(nativeEngine, {}) });
    expect(engine.implementationOf('ML-KEM-768')).toBe('portable');
    expect(engine.implementationOf('SLH-DSA-SHA2-128f')).toBe('portable');
    const { seed, publicKey } = await engine.signatures.generate('SLH-DSA-SHA2-128f');
    const signature = await engine.signatures
      .importSeed('SLH-DSA-SHA2-128f', seed)
      .sign(MESSAGE, CONTEXT);
    const set = 'SLH-DSA-SHA2-128f';
    const by = nativeEngine.signatures;
    expect(await by.verify(set, publicKey, MESSAGE, signature, CONTEXT)).toBe(true);
    const kem = await engine.mlKem.generate('ML-KEM-512');
    const { ciphertext, sharedSecret } = await engine.mlKem.encapsulate(
      'ML-KEM-512',
      kem.publicKey,
    );
    const secret = await nativeEngine.mlKem
      .importSeed('ML-KEM-512', kem.seed)
      .decapsulate(ciphertext);
    expect(toHex(secret.reveal())).toBe(toHex(sharedSecret.reveal()));
  });

  it('finds out by trying what Node has', () => {
    expect([...SETS, ...KEM_SETS].filter((set) => !hasNatively(set))).toEqual([
      'Falcon-512',
      'Falcon-1024',
    ]);
  });
});

describe('a set whose self-test fails', () => {
  const publicKeyOfOthers = () => Promise.resolve(new Uint8Array(32));

  it('is unavailable, by each operation, and not taken over by the other implementation', async () => {
    const set = 'SLH-DSA-SHA2-128f';
    const native = withSignatures(nativeEngine, { publicKey: publicKeyOfOthers });
    const engine = open({ native });
    const { signatures } = engine;
    const seed = SecretBytes.own(new Uint8Array(48));
    const key = signatures.importSeed(set, seed);
    await expect(key.sign(MESSAGE, NONE)).rejects.toMatchObject(unavailable);
    await expect(signatures.generate(set)).rejects.toMatchObject(unavailable);
    await expect(signatures.publicKey(set, seed)).rejects.toMatchObject(unavailable);
    const { publicKey: pk, signature } = SIGNATURE_LENGTHS[set];
    const verified = signatures.verify(
      set,
      new Uint8Array(pk),
      MESSAGE,
      new Uint8Array(signature),
      NONE,
    );
    await expect(verified).rejects.toMatchObject(unavailable);
    expect(engine.implementationOf(set)).toBeNull();
    expect(engine.implementationOf('Falcon-512')).toBe('portable');
  });

  it('of ML-KEM too: nothing is encapsulated or decapsulated', async () => {
    const publicKey = () => new Uint8Array(1184);
    const engine = open({
      native: { ...nativeEngine, mlKem: { ...nativeEngine.mlKem, publicKey } },
    });
    const pair = await nativeEngine.mlKem.generate('ML-KEM-768');
    const { ciphertext } = await nativeEngine.mlKem.encapsulate('ML-KEM-768', pair.publicKey);
    const key = engine.mlKem.importSeed('ML-KEM-768', pair.seed);
    await expect(key.decapsulate(ciphertext)).rejects.toMatchObject(unavailable);
    const encapsulated = engine.mlKem.encapsulate('ML-KEM-768', pair.publicKey);
    await expect(encapsulated).rejects.toMatchObject(unavailable);
    expect(engine.implementationOf('ML-KEM-768')).toBeNull();
  });

  it.each(['ML-DSA-65', 'SLH-DSA-SHA2-128f'] as const)(
    '%s: one that ignores the context, or verifies whatever comes, is found',
    async (set) => {
      const honest = nativeEngine.signatures;
      const deaf: Partial<Signatures> = {
        importSeed: (of, seed) => {
          const key = honest.importSeed(of, seed);
          return { ...key, sign: (message) => key.sign(message, NONE) };
        },
        verify: (of, pk, message, signature) => honest.verify(of, pk, message, signature, NONE),
      };
      for (const lie of [deaf, { verify: () => Promise.resolve(true) }]) {
        const engine = open({ native: withSignatures(nativeEngine, lie) });
        await expect(engine.signatures.generate(set)).rejects.toMatchObject(unavailable);
        expect(engine.implementationOf(set)).toBeNull();
      }
    },
  );

  it('of a small set of SLH-DSA stands on the test of its quicker sibling', async () => {
    const asked: SignatureParameterSet[] = [];
    const native = withSignatures(nativeEngine, {
      publicKey: (set) => {
        asked.push(set);
        return publicKeyOfOthers();
      },
    });
    const engine = open({ native });
    const generated = engine.signatures.generate('SLH-DSA-SHA2-192s');
    await expect(generated).rejects.toMatchObject(unavailable);
    expect(asked).toEqual(['SLH-DSA-SHA2-192f']);
    expect(engine.implementationOf('SLH-DSA-SHA2-192s')).toBeNull();
  });

  it('is tried again when the test did not come to its end', async () => {
    const { TwofoldError } = await import('../../src/errors.ts');
    const honest = nativeEngine.signatures;
    let calls = 0;
    const native = withSignatures(nativeEngine, {
      publicKey: (set, seed) => {
        calls += 1;
        return calls === 1
          ? Promise.reject(new TwofoldError('rate_limited'))
          : honest.publicKey(set, seed);
      },
    });
    const engine = open({ native });
    const first = engine.signatures.generate('ML-DSA-44');
    await expect(first).rejects.toMatchObject({ code: 'rate_limited' });
    expect(engine.implementationOf('ML-DSA-44')).toBe('native');
    await expect(engine.signatures.generate('ML-DSA-44')).resolves.toHaveProperty('seed');
  });
});

describe('an external mu of ML-DSA', () => {
  it.each(ML_DSA)('%s: signs what the message would have been signed by', async (set) => {
    const { signatures } = open();
    const { seed, publicKey } = await signatures.generate(set);
    const key = signatures.importSeed(set, seed);
    const mu = muOf(publicKey, MESSAGE, CONTEXT);
    const [first, second] = [await key.signMu(mu), await key.signMu(mu)];
    expect(toHex(first)).not.toBe(toHex(second));
    expect(await signatures.verify(set, publicKey, MESSAGE, first, CONTEXT)).toBe(true);
    expect(await signatures.verifyMu(set, publicKey, mu, first)).toBe(true);
    const plain = await key.sign(MESSAGE, CONTEXT);
    expect(await signatures.verifyMu(set, publicKey, mu, plain)).toBe(true);
    expect(await signatures.verifyMu(set, publicKey, mu.subarray(1), plain)).toBe(false);
    expect(await signatures.verifyMu(set, publicKey, mu.with(0, (mu[0] ?? 0) ^ 1), plain)).toBe(
      false,
    );
    expect(await signatures.verifyMu(set, publicKey, mu, plain.subarray(1))).toBe(false);
    const invalid = { code: 'invalid_value' };
    await expect(key.signMu(mu.subarray(1))).rejects.toMatchObject(invalid);
    key.release();
    await expect(key.signMu(mu)).rejects.toThrow('release');
  });

  it('is refused for other algorithms, and by the native engine alone', async () => {
    const mu = new Uint8Array(64);
    const slh = open().signatures.importSeed(
      'SLH-DSA-SHA2-128f',
      SecretBytes.own(new Uint8Array(48)),
    );
    await expect(slh.signMu(mu)).rejects.toMatchObject({ code: 'invalid_value' });
    const native = nativeEngine.signatures.importSeed(
      'ML-DSA-44',
      SecretBytes.own(new Uint8Array(32)),
    );
    await expect(native.signMu(mu)).rejects.toMatchObject(unavailable);
  });
});

describe('both implementations', () => {
  it.each(QUICK)('%s: one key of a seed, and each verifies what the other signs', async (set) => {
    const { seed: length } = SIGNATURE_LENGTHS[set];
    const bytes = (max: number) => fc.uint8Array({ maxLength: max });
    const seeds = fc.uint8Array({ minLength: length, maxLength: length });
    const both = [nativeEngine.signatures, portableEngine.signatures];
    await fc.assert(
      fc.asyncProperty(seeds, bytes(200), bytes(255), async (raw, message, context) => {
        const seed = SecretBytes.copyOf(raw);
        const keys = await Promise.all(both.map((by) => by.publicKey(set, seed)));
        const [pk = NONE] = keys;
        expect(new Set(keys.map(toHex)).size).toBe(1);
        for (const signer of both) {
          const key = signer.importSeed(set, seed);
          const signature = await key.sign(message, context);
          key.release();
          for (const by of both) {
            expect(await by.verify(set, pk, message, signature, context)).toBe(true);
          }
        }
      }),
      { numRuns: set.startsWith('ML-DSA') ? 10 : 2 },
    );
  });

  it('Node binds the context of SLH-DSA and ML-DSA, and imports a wrong PK.root unseen', () => {
    for (const type of ['slh-dsa-sha2-128f', 'ml-dsa-65'] as const) {
      const pair = generateKeyPairSync(type as 'ml-dsa-65');
      const signature = sign(null, MESSAGE, { key: pair.privateKey, context: CONTEXT });
      const verified = (context?: Uint8Array) =>
        verify(null, MESSAGE, { key: pair.publicKey, ...(context && { context }) }, signature);
      expect([verified(CONTEXT), verified(), verified(NONE)]).toEqual([true, false, false]);
    }
    // Why the engine computes PK.root: if Node comes to refuse a wrong one, it need not any more.
    const type = 'slh-dsa-sha2-128f' as 'ml-dsa-65';
    const pair = generateKeyPairSync(type);
    const raw = pair.privateKey.export({ format: 'raw-private' });
    const wrong = Buffer.from(raw.with(63, (raw[63] ?? 0) ^ 1));
    const key = createPrivateKey({ key: wrong, format: 'raw-private', asymmetricKeyType: type });
    const signature = sign(null, MESSAGE, key);
    expect(verify(null, MESSAGE, pair.publicKey, signature)).toBe(false);
    expect(verify(null, MESSAGE, createPublicKey(key), signature)).toBe(false);
  });
});

describe('a gate', () => {
  it('stands before the native signatures of SLH-DSA: 2 at once, 32 wait', async () => {
    const { signatures } = open();
    const { seed, publicKey } = await signatures.generate('SLH-DSA-SHA2-128f');
    const key = signatures.importSeed('SLH-DSA-SHA2-128f', seed);
    await key.sign(MESSAGE, NONE);
    const made = await Promise.allSettled(
      Array.from({ length: 40 }, () => key.sign(MESSAGE, NONE)),
    );
    const refused = made.filter(({ status }) => status === 'rejected');
    expect(refused).toHaveLength(6);
    for (const one of refused) {
      expect(one).toMatchObject({ reason: { code: 'rate_limited' } });
    }
    const last = await key.sign(MESSAGE, NONE);
    expect(await signatures.verify('SLH-DSA-SHA2-128f', publicKey, MESSAGE, last, NONE)).toBe(true);
  });

  it('lets some run, some wait, and refuses the rest', async () => {
    const gate = new Gate(2, 1);
    const opened: (() => void)[] = [];
    let running = 0;
    const work = () =>
      gate.run(async () => {
        running += 1;
        await new Promise<void>((resolve) => opened.push(resolve));
        running -= 1;
      });
    const accepted = [work(), work(), work()];
    await expect(work()).rejects.toMatchObject({ code: 'rate_limited', retryAfter: 1 });
    expect(running).toBe(2);
    opened.shift()?.();
    await accepted[0];
    await new Promise(setImmediate);
    expect(running).toBe(2);
    for (const open of opened.splice(0)) open();
    await Promise.all(accepted);
    await expect(gate.run(() => Promise.reject(new Error('work')))).rejects.toThrow('work');
    await expect(gate.run(() => Promise.resolve(1))).resolves.toBe(1);
  });
});

describe('the first results of a small set of SLH-DSA', () => {
  const set = 'SLH-DSA-SHA2-128s';
  const honest = nativeEngine.signatures;
  /** Honest for every other set, so that the sibling's test passes. */
  const lying = (change: Partial<Signatures>) =>
    open({ native: withSignatures(nativeEngine, change) });

  it('leave as they are where both implementations agree', async () => {
    const { signatures } = open();
    const { seed, publicKey } = await signatures.generate(set);
    const key = signatures.importSeed(set, seed);
    const signature = await key.sign(MESSAGE, CONTEXT);
    await expect(signatures.verify(set, publicKey, MESSAGE, signature, NONE)).resolves.toBe(false);
    await expect(signatures.verify(set, publicKey, MESSAGE, signature, CONTEXT)).resolves.toBe(
      true,
    );
    key.release();
  });

  it('do not leave when the signature is of something else', async () => {
    const engine = lying({
      importSeed: (of, seed) => {
        const key = honest.importSeed(of, seed);
        return of === set ? { ...key, sign: (message) => key.sign(message, NONE) } : key;
      },
    });
    const { seed } = await engine.signatures.generate(set);
    const key = engine.signatures.importSeed(set, seed);
    await expect(key.sign(MESSAGE, CONTEXT)).rejects.toMatchObject(unavailable);
    // Nor a later one that would be right.
    await expect(key.sign(MESSAGE, NONE)).rejects.toMatchObject(unavailable);
    expect(engine.implementationOf(set)).toBeNull();
    key.release();
  });

  it('do not leave when what should verify them would verify anything', async () => {
    const engine = lying({
      verify: (of, ...rest) => (of === set ? Promise.resolve(true) : honest.verify(of, ...rest)),
    });
    const { seed } = await engine.signatures.generate(set);
    const key = engine.signatures.importSeed(set, seed);
    await expect(key.sign(MESSAGE, NONE)).rejects.toMatchObject(unavailable);
    key.release();
  });

  it.each([true, false])('do not leave when every signature is called %s', async (answer) => {
    const { seed, publicKey } = await honest.generate(set);
    const key = honest.importSeed(set, seed);
    const signature = await key.sign(MESSAGE, NONE);
    key.release();
    const engine = lying({
      verify: (of, ...rest) => (of === set ? Promise.resolve(answer) : honest.verify(of, ...rest)),
    });
    const message = answer ? CONTEXT : MESSAGE;
    const verified = () => engine.signatures.verify(set, publicKey, message, signature, NONE);
    await expect(verified()).rejects.toMatchObject(unavailable);
    await expect(verified()).rejects.toMatchObject(unavailable);
    expect(engine.implementationOf(set)).toBeNull();
  });
});
