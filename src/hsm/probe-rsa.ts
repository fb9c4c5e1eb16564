/**
 * Trials of RSA. Making an RSA key can take seconds, so none is made where the token imports a known one;
 * all trials share it. A token that imports nothing makes two of 2048 bits, because no key of ours both
 * signs and decrypts: one for every signature and for wrapping, and one for OAEP.
 */
import { verifiesAs } from './check-value.ts';
import type { Connection } from './connection.ts';
import { CKA, CKK, CKM, CKO } from './cryptoki.ts';
import type { Attribute, Handle } from './cryptoki.ts';
import { failureOf } from './failures.ts';
import { OAEP_ANSWER, PKCS1_ANSWERS, RSA_KEY } from './known-answers-rsa.ts';
import { signMessage } from './mechanisms.ts';
import { openOaep, opensOwn } from './oaep-call.ts';
import type { HsmHash } from './port.ts';
import { generatePair, importKey, MESSAGE, same, SESSION, TO_BE_WRAPPED } from './probe-keys.ts';
import { wrappedAndBack } from './probe-keys.ts';
import type { Trial, Verdict } from './probe-keys.ts';
import { encodeRsaPublicKey, PUBLIC_EXPONENT } from './rsa.ts';
import type { RsaSigningSpec, RsaSpec } from './rsa.ts';
import { attributes } from './templates.ts';

interface TrialKey {
  readonly handle: Handle;
  readonly publicKey: Uint8Array;
  readonly imported: boolean;
}

const HASHES: readonly HsmHash[] = ['SHA-256', 'SHA-384', 'SHA-512'];
const BITS = 2048;
const DECRYPTS = { kind: 'rsa', bits: BITS, use: 'decrypt', hash: 'SHA-256' } as const;

const signs = (padding: 'pss' | 'pkcs1', hash: HsmHash): RsaSigningSpec => ({
  kind: 'rsa',
  bits: BITS,
  use: 'sign',
  padding,
  hash,
});

const GENERATION = ['CKM_RSA_PKCS_KEY_PAIR_GEN', [CKM.RSA_PKCS_KEY_PAIR_GEN]] as const;
const PSS = ['CKM_RSA_PKCS_PSS', [CKM.RSA_PKCS_PSS]] as const;
const PKCS1 = ['CKM_RSA_PKCS', [CKM.RSA_PKCS]] as const;
const OAEP = ['CKM_RSA_PKCS_OAEP or CKM_RSA_X_509', [CKM.RSA_PKCS_OAEP, CKM.RSA_X_509]] as const;
const WRAP = ['CKM_AES_KEY_WRAP_PAD', [CKM.AES_KEY_WRAP_PAD, CKM.AES_KEY_WRAP_KWP]] as const;

/**
 * The keys of one run of the probe, each brought to the token when the first trial asks for it: into the
 * keeper session, because a trial that fails ends the operation session with its objects.
 */
export class RsaTrialKeys {
  readonly #connection: Connection;
  readonly #keys = new Map<RsaSpec['use'], TrialKey | { readonly error: unknown }>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** @throws what the token answered to the making of one, every time */
  get(use: RsaSpec['use']): TrialKey {
    const known = this.#keys.get(use) ?? this.#bring(use);
    this.#keys.set(use, known);
    if ('error' in known) throw known.error;
    return known;
  }

  release(): void {
    for (const key of this.#keys.values()) {
      if ('handle' in key) this.#connection.destroy(key.handle);
    }
    this.#keys.clear();
  }

  #bring(use: RsaSpec['use']): TrialKey | { readonly error: unknown } {
    const { keeper } = this.#connection;
    this.#connection.objects += 1;
    const publicKey = encodeRsaPublicKey(RSA_KEY.modulus);
    for (const extractable of use === 'sign' ? [true, false] : [false]) {
      const handle = importKey(this.#connection, knownKey(use, extractable), keeper);
      if (handle !== undefined) return { handle, publicKey, imported: true };
    }
    try {
      return { ...this.#make(use), imported: false };
    } catch (error) {
      return { error };
    }
  }

  #make(use: RsaSpec['use']): Pick<TrialKey, 'handle' | 'publicKey'> {
    const { keeper } = this.#connection;
    if (use === 'decrypt') return generatePair(this.#connection, DECRYPTS, SESSION, keeper);
    const spec = signs('pkcs1', 'SHA-256');
    try {
      return generatePair(this.#connection, spec, TO_BE_WRAPPED, keeper);
    } catch (error) {
      if (failureOf(error, 'make').consequence === 'lost') throw error;
      return generatePair(this.#connection, spec, SESSION, keeper);
    }
  }
}

export function rsaTrials(keys: RsaTrialKeys): readonly Trial[] {
  return [
    ...HASHES.map((hash) => ({
      name: `rsa-pss:${hash}`,
      mechanisms: [GENERATION, PSS],
      run: (connection: Connection) => tryPss(connection, keys.get('sign'), hash),
    })),
    ...HASHES.map((hash) => ({
      name: `rsa-pkcs1:${hash}`,
      mechanisms: [GENERATION, PKCS1],
      run: (connection: Connection) => tryPkcs1(connection, keys.get('sign'), hash),
    })),
    {
      name: 'rsa-oaep:SHA-256',
      mechanisms: [GENERATION, OAEP],
      run: (connection) => tryOaep(connection, keys.get('decrypt')),
      served: ({ oaepWay }) =>
        oaepWay === CKM.RSA_PKCS_OAEP ? 'CKM_RSA_PKCS_OAEP' : 'CKM_RSA_X_509',
    },
  ];
}

export function rsaWrapTrial(keys: RsaTrialKeys): Trial {
  return {
    name: 'wrap:rsa',
    mechanisms: [GENERATION, PKCS1, WRAP],
    run: (connection) => {
      const spec = signs('pkcs1', 'SHA-256');
      const { handle, publicKey } = keys.get('sign');
      return wrappedAndBack(connection, spec, handle, (copy) =>
        signsAs(connection, spec, copy, publicKey),
      );
    },
  };
}

function tryPss(connection: Connection, key: TrialKey, hash: HsmHash): Verdict {
  return signsAs(connection, signs('pss', hash), key.handle, key.publicKey);
}

function tryPkcs1(connection: Connection, key: TrialKey, hash: HsmHash): Verdict {
  const spec = signs('pkcs1', hash);
  if (!key.imported) return signsAs(connection, spec, key.handle, key.publicKey);
  const signature = signMessage(connection, spec, key.handle, MESSAGE);
  return same(signature, PKCS1_ANSWERS[hash], 'known-answer');
}

function signsAs(
  connection: Connection,
  spec: RsaSigningSpec,
  handle: Handle,
  publicKey: Uint8Array,
): Verdict {
  const signature = signMessage(connection, spec, handle, MESSAGE);
  return verifiesAs(spec, publicKey, MESSAGE, signature) ? 'consistency' : 'wrong';
}

function tryOaep(connection: Connection, { handle, publicKey, imported }: TrialKey): Verdict {
  if (!opensOwn(connection, DECRYPTS, handle, publicKey)) return 'wrong';
  if (!imported) return 'consistency';
  const { ciphertext, message } = OAEP_ANSWER;
  const opened = openOaep(connection, DECRYPTS, handle, publicKey, ciphertext);
  return same(opened, message, 'known-answer');
}

function knownKey(use: RsaSpec['use'], extractable: boolean): Attribute[] {
  const number = (type: number, value: Uint8Array) => ({ type, value: Buffer.from(value) });
  return [
    ...attributes({ class: CKO.PRIVATE_KEY, keyType: CKK.RSA, token: false, private: true }),
    ...attributes({ sensitive: true, extractable, derive: false, unwrap: false }),
    ...attributes({ sign: use === 'sign', decrypt: use === 'decrypt' }),
    number(CKA.MODULUS, RSA_KEY.modulus),
    number(CKA.PUBLIC_EXPONENT, PUBLIC_EXPONENT),
    number(CKA.PRIVATE_EXPONENT, RSA_KEY.privateExponent),
    number(CKA.PRIME_1, RSA_KEY.prime1),
    number(CKA.PRIME_2, RSA_KEY.prime2),
    number(CKA.EXPONENT_1, RSA_KEY.exponent1),
    number(CKA.EXPONENT_2, RSA_KEY.exponent2),
    number(CKA.COEFFICIENT, RSA_KEY.coefficient),
  ];
}
