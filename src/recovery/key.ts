/**
 * The recovery key: MLKEM1024-P384 of draft-irtf-cfrg-concrete-hybrid-kems, both halves expanded from one
 * seed of 32 bytes as that document's key generation has it.
 *
 *     d ‖ z (64) ‖ scalar (48) = SHAKE256(seed, 112)
 *
 * What is encrypted to it is opened in years, by people: so there is one secret of 32 bytes and no file.
 */
import { createECDH, createHash, randomBytes } from 'node:crypto';

import { concatBytes } from '../crypto/bytes.ts';
import type { Engine } from '../crypto/engine.ts';
import { shake256 } from '../crypto/hpke.ts';
import { decodePem, encodePem } from '../crypto/pem.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import type { KemSuite } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';

export const SEED_LENGTH = 32;
const PQ_SEED_LENGTH = 64;
const SCALAR_LENGTH = 48;
/** ek (ML-KEM-1024) ‖ Q (P-384, uncompressed), as the suite has it. */
export const EK_LENGTH = 1568;
export const POINT_LENGTH = 97;
export const PUBLIC_KEY_LENGTH = EK_LENGTH + POINT_LENGTH;
const MLKEM1024_P384 = 0x0103;
const PEM_LABEL = 'TWOFOLD RECOVERY PUBLIC KEY';

/** The KEM that the key is one of. */
export function recoverySuite(): KemSuite {
  const suite = findSuiteByNumber(MLKEM1024_P384);
  if (suite.kind !== 'kem') throw new Error('the recovery suite is a KEM');
  return suite;
}

export interface RecoveryPrivateKey {
  /** d ‖ z, 64 bytes. */
  readonly pqSeed: SecretBytes;
  /** 48 bytes, big-endian. */
  readonly scalar: SecretBytes;
  readonly publicKey: Uint8Array;
  wipe(): void;
}

export function newSeed(): SecretBytes {
  return SecretBytes.own(randomBytes(SEED_LENGTH));
}

/**
 * `seed` stays the caller's; the caller wipes the key.
 * @throws TwofoldError invalid_value for the one seed in 2^190 that has no scalar
 */
export function recoveryKeyOf(
  engine: Pick<Engine, 'mlKem'>,
  seed: SecretBytes,
): RecoveryPrivateKey {
  const expanded = shake256.xof([seed.reveal()], PQ_SEED_LENGTH + SCALAR_LENGTH);
  const pqSeed = SecretBytes.copyOf(expanded.subarray(0, PQ_SEED_LENGTH));
  const scalar = SecretBytes.copyOf(expanded.subarray(PQ_SEED_LENGTH));
  wipe(expanded);
  const wipeBoth = () => wipe(pqSeed, scalar);
  try {
    const publicKey = concatBytes(engine.mlKem.publicKey('ML-KEM-1024', pqSeed), pointOf(scalar));
    return { pqSeed, scalar, publicKey, wipe: wipeBoth };
  } catch (error) {
    wipeBoth();
    throw error;
  }
}

/** node refuses a scalar out of range. */
function pointOf(scalar: SecretBytes): Uint8Array {
  const ecdh = createECDH('secp384r1');
  try {
    ecdh.setPrivateKey(scalar.reveal());
  } catch (cause) {
    throw new TwofoldError('invalid_value', 'The seed makes no key.', { cause });
  }
  return Uint8Array.from(ecdh.getPublicKey());
}

/** The raw ECDH with `peer`, which was checked; the caller wipes it. */
export function agree({ scalar }: RecoveryPrivateKey, peer: Uint8Array): SecretBytes {
  const ecdh = createECDH('secp384r1');
  ecdh.setPrivateKey(scalar.reveal());
  return SecretBytes.own(ecdh.computeSecret(peer));
}

/** SHA-256 of the public key: what holders compare, in hex. */
export function fingerprintOf(publicKey: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(publicKey).digest());
}

/** For people: groups of eight digits. */
export function fingerprintText(publicKey: Uint8Array): string {
  const hex = Buffer.from(fingerprintOf(publicKey)).toString('hex');
  return (hex.match(/.{8}/gu) ?? []).join(' ');
}

export function encodePublicKey(publicKey: Uint8Array): string {
  return encodePem(PEM_LABEL, publicKey);
}

/** @throws TwofoldError invalid_value for anything that is no recovery key */
export function decodePublicKey(engine: Engine, text: string): Uint8Array {
  const publicKey = decodePem(PEM_LABEL, text, 'The recovery public key');
  const { kem } = recoverySuite();
  kem.joinPublicKey(engine, kem.splitPublicKey(publicKey));
  return publicKey;
}
