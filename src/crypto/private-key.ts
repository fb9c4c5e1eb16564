/**
 * Private keys as OneAsymmetricKey (RFC 5958; PKCS #8), for import: ML-DSA (RFC 9881), ML-KEM (RFC
 * 9935), SLH-DSA (RFC 9909), EC (RFC 5915), OKP (RFC 8410), RSA (RFC 8017), and the composites of
 * draft-ietf-lamps-pq-composite-sigs and -kem. The service gives no private key out; the writer is
 * for other holders of keys and for tests.
 *
 * What is read is checked as far as it can be told from itself: lengths, ranges, a stated public key
 * of EC, a seed against its expanded key. That an RSA key's numbers belong together and that
 * `statedPublicKey` belongs to the key is for the importer, who computes with it.
 */
import { createECDH } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { concatBytes, equalBytes } from './bytes.ts';
import {
  contextTag,
  derObjectIdentifier,
  derOctetString,
  derSequence,
  derSmall,
  derValue,
  readDer,
  TAG,
} from './der.ts';
import { isScalar } from './ecdsa.ts';
import { NAMED_CURVES } from './key-encoding.ts';
import { checkRawPublicKey, isRsaPublicKey } from './raw-public-key.ts';
import { SecretBytes, wipe } from './secret.ts';
import { equalAlgorithms, readAlgorithmIdentifier, writeAlgorithmIdentifier } from './spki.ts';
import type { KeyEncoding, NamedCurve, PrivateKeyForm, RsaBits } from './key-encoding.ts';

/** By kind of `PrivateKeyForm`; whoever holds it wipes it with `wipePrivateKey`. */
export type PrivateKeyMaterial =
  | { readonly kind: 'seed'; readonly seed: SecretBytes }
  | { readonly kind: 'expanded'; readonly expanded: SecretBytes }
  | { readonly kind: 'both'; readonly seed: SecretBytes; readonly expanded: SecretBytes }
  /** SLH-DSA, and the 32 to 57 bytes of RFC 7748 and 8032. */
  | { readonly kind: 'bytes'; readonly key: SecretBytes }
  /** Big-endian, as long as a coordinate. */
  | { readonly kind: 'ec'; readonly scalar: SecretBytes }
  /** DER of RSAPrivateKey. */
  | { readonly kind: 'rsa'; readonly der: SecretBytes }
  | {
      readonly kind: 'composite';
      readonly seed: SecretBytes;
      readonly classical: PrivateKeyMaterial;
    };

export interface ParsedPrivateKey {
  readonly material: PrivateKeyMaterial;
  /** What the file says of the public key, raw; null when it says nothing. Compare it. */
  readonly statedPublicKey: Uint8Array | null;
}

/** What an implementation of ML-KEM or ML-DSA tells about private keys in expanded form. */
export interface ExpandedKeys {
  /** The expanded key of a seed; it becomes the caller's, who wipes it. */
  expand(seed: Uint8Array): Promise<Uint8Array>;
  /**
   * Whether the parts of an expanded key belong together: of ML-KEM the hash of FIPS 203 section 7.3
   * and a trial decapsulation, of ML-DSA t0 and tr as s1 and s2 give them (FIPS 204
   * algorithm 6).
   */
  isConsistent(expanded: Uint8Array): Promise<boolean>;
}

export function wipePrivateKey(material: PrivateKeyMaterial): void {
  switch (material.kind) {
    case 'seed': {
      wipe(material.seed);
      return;
    }
    case 'expanded': {
      wipe(material.expanded);
      return;
    }
    case 'both': {
      wipe(material.seed, material.expanded);
      return;
    }
    case 'bytes': {
      wipe(material.key);
      return;
    }
    case 'ec': {
      wipe(material.scalar);
      return;
    }
    case 'rsa': {
      wipe(material.der);
      return;
    }
    case 'composite':
      wipe(material.seed);
      {
        wipePrivateKey(material.classical);
        return;
      }
  }
}

const FIELD = 'The private key';
const SEED = contextTag(0, 'primitive');
const PARAMETERS = contextTag(0, 'constructed');
const EC_PUBLIC_KEY = contextTag(1, 'constructed');
const PUBLIC_KEY = contextTag(1, 'primitive');

function refuse(what: string): never {
  throw new TwofoldError('invalid_value', `${FIELD} is not valid: ${what}.`);
}

/**
 * The key of exactly this algorithm. Attributes are refused.
 * @param expanded needed for keys in expanded form; without it they are refused
 * @throws TwofoldError invalid_value
 */
export async function parsePrivateKey(
  encoding: KeyEncoding,
  der: Uint8Array,
  expanded: ExpandedKeys | null,
): Promise<ParsedPrivateKey> {
  const form = encoding.privateKey;
  if (form === null || encoding.spki === null) return refuse('the algorithm has no such format');
  const { content, statedPublicKey } = readOuter(encoding, der);
  const material = readMaterial(form, content);
  try {
    await checkExpanded(material, expanded);
  } catch (error) {
    wipePrivateKey(material);
    throw error;
  }
  return { material, statedPublicKey };
}

function readOuter(encoding: KeyEncoding, der: Uint8Array) {
  return readDer(der, FIELD, (outer) => {
    const reader = outer.enter();
    const version = reader.small();
    const algorithm = readAlgorithmIdentifier(reader);
    if (encoding.spki === null || !equalAlgorithms(algorithm, encoding.spki)) {
      refuse(`its algorithm is not ${encoding.algorithm}`);
    }
    const content = reader.octetString();
    const stated = reader.optional(PUBLIC_KEY);
    if (version !== (stated === undefined ? 0 : 1)) refuse('its version is another');
    reader.end();
    return { content, statedPublicKey: stated === undefined ? null : statedKey(encoding, stated) };
  });
}

/** The content of `[1] IMPLICIT BIT STRING`. */
function statedKey(encoding: KeyEncoding, content: Uint8Array): Uint8Array {
  if (content[0] !== 0) refuse('its public key is not of whole bytes');
  const publicKey = Uint8Array.from(content.subarray(1));
  checkRawPublicKey(encoding, publicKey);
  return publicKey;
}

function readMaterial(form: PrivateKeyForm, content: Uint8Array): PrivateKeyMaterial {
  switch (form.kind) {
    case 'seeded':
      return readSeeded(form.seedLength, form.expandedLength, content);
    case 'bytes':
      return { kind: 'bytes', key: exactly(form.length, content) };
    case 'okp': {
      const key = readDer(content, FIELD, (reader) => reader.octetString());
      return { kind: 'bytes', key: exactly(form.length, key) };
    }
    case 'ec':
      return { kind: 'ec', scalar: readEcPrivateKey(form.curve, content, 'in PKCS #8') };
    case 'rsa':
      return { kind: 'rsa', der: readRsaPrivateKey(form.bits, content) };
    case 'composite':
      return readComposite(form.seedLength, form.classical, content);
  }
}

function exactly(length: number, bytes: Uint8Array): SecretBytes {
  if (bytes.length !== length) refuse('its length is another');
  return SecretBytes.copyOf(bytes);
}

/** The CHOICE is told apart by its tag alone. */
function readSeeded(
  seedLength: number,
  expandedLength: number,
  content: Uint8Array,
): PrivateKeyMaterial {
  return readDer(content, FIELD, (reader) => {
    if (reader.peek() === SEED) {
      return { kind: 'seed', seed: exactly(seedLength, reader.take(SEED)) };
    }
    if (reader.peek() === TAG.octetString) {
      return { kind: 'expanded', expanded: exactly(expandedLength, reader.octetString()) };
    }
    const both = reader.enter();
    const [seed, expanded] = [both.octetString(), both.octetString()];
    both.end();
    // Before any copy: a copy of a half-valid key would stay unwiped.
    if (seed.length !== seedLength) refuse('its length is another');
    return {
      kind: 'both',
      expanded: exactly(expandedLength, expanded),
      seed: SecretBytes.copyOf(seed),
    };
  });
}

function readComposite(
  seedLength: number,
  classical: PrivateKeyForm,
  content: Uint8Array,
): PrivateKeyMaterial {
  const rest = content.subarray(seedLength);
  const material = readBareClassical(classical, rest);
  return {
    kind: 'composite',
    seed: exactly(seedLength, content.subarray(0, seedLength)),
    classical: material,
  };
}

/** As the composite drafts embed it: RFC 8410 keys bare, EC with parameters and without public key. */
function readBareClassical(form: PrivateKeyForm, content: Uint8Array): PrivateKeyMaterial {
  if (form.kind === 'okp') return { kind: 'bytes', key: exactly(form.length, content) };
  if (form.kind !== 'ec') return readMaterial(form, content);
  return { kind: 'ec', scalar: readEcPrivateKey(form.curve, content, 'in a composite') };
}

function readEcPrivateKey(
  curve: NamedCurve,
  der: Uint8Array,
  place: 'in PKCS #8' | 'in a composite',
): SecretBytes {
  return readDer(der, FIELD, (outer) => {
    const reader = outer.enter();
    if (reader.small() !== 1) refuse('its version is another');
    const scalar = reader.octetString();
    if (!isScalar(curve, scalar)) refuse('its scalar is out of range');
    const parameters = reader.optional(PARAMETERS);
    if (parameters !== undefined && !equalBytes(parameters, curveParameters(curve))) {
      refuse('its curve is another');
    }
    const publicKey = reader.optional(EC_PUBLIC_KEY);
    if (publicKey !== undefined) checkEcPublicKey(curve, scalar, publicKey);
    if (place === 'in a composite' && (parameters === undefined || publicKey !== undefined)) {
      refuse('a composite has its curve and no public key');
    }
    reader.end();
    return SecretBytes.copyOf(scalar);
  });
}

function curveParameters(curve: NamedCurve): Uint8Array {
  return derObjectIdentifier(NAMED_CURVES[curve].oid);
}

const OPENSSL_CURVES: Readonly<Record<NamedCurve, string>> = {
  'P-256': 'prime256v1',
  'P-384': 'secp384r1',
  'P-521': 'secp521r1',
};

function checkEcPublicKey(curve: NamedCurve, scalar: Uint8Array, stated: Uint8Array): void {
  const point = readDer(stated, FIELD, (reader) => reader.bitString());
  const ecdh = createECDH(OPENSSL_CURVES[curve]);
  ecdh.setPrivateKey(scalar);
  if (!equalBytes(ecdh.getPublicKey(), point)) refuse('its public key belongs to another');
}

/** Version 0 (two primes) with nine numbers (RFC 8017 appendix A.1.2). */
function readRsaPrivateKey(bits: RsaBits, der: Uint8Array): SecretBytes {
  readDer(der, FIELD, (outer) => {
    const reader = outer.enter();
    if (reader.small() !== 0) refuse('its version is another');
    const [n, e] = [reader.unsigned(), reader.unsigned()];
    if (!isRsaPublicKey(bits, { n, e })) refuse('its modulus or exponent is not of the algorithm');
    // d, p, q, d mod p-1, d mod q-1, 1/q mod p; each is below the modulus.
    for (let index = 0; index < 6; index += 1) {
      const number = reader.unsigned();
      const tooLong = number.length > (index === 0 ? bits / 8 : bits / 16);
      if (tooLong || (number.length === 1 && (number[0] ?? 0) < 2)) {
        refuse('one of its numbers is out of range');
      }
    }
    reader.end();
  });
  return SecretBytes.copyOf(der);
}

async function checkExpanded(
  material: PrivateKeyMaterial,
  implementation: ExpandedKeys | null,
): Promise<void> {
  if (material.kind !== 'expanded' && material.kind !== 'both') return;
  if (implementation === null) return refuse('a key in expanded form is not taken here');
  if (material.kind === 'expanded') {
    const fits = await implementation.isConsistent(material.expanded.reveal());
    return fits ? undefined : refuse('its parts do not belong together');
  }
  const expected = await implementation.expand(material.seed.reveal());
  try {
    if (!equalBytes(expected, material.expanded.reveal())) {
      refuse('its seed and its expanded key are of two keys');
    }
  } finally {
    wipe(expected);
  }
}

/**
 * DER of the key, without public key and attributes, or null where the algorithm has no format
 * (`unavailable.privateKey` says why). The caller wipes it.
 * @throws RangeError when the material is not of the algorithm's form
 */
export function writePrivateKey(
  encoding: KeyEncoding,
  material: PrivateKeyMaterial,
): SecretBytes | null {
  if (encoding.privateKey === null || encoding.spki === null) return null;
  const content = writeMaterial(encoding.privateKey, material);
  const wrapped = derOctetString(content);
  try {
    return SecretBytes.own(
      derSequence(derSmall(0), writeAlgorithmIdentifier(encoding.spki), wrapped),
    );
  } finally {
    wipe(content, wrapped);
  }
}

const mismatch = () => new RangeError('the private key is not of the form of its algorithm');

function fixed(length: number, secret: SecretBytes): Uint8Array {
  if (secret.length !== length) throw mismatch();
  return secret.reveal();
}

/** A new buffer, which the caller wipes. */
function writeMaterial(form: PrivateKeyForm, material: PrivateKeyMaterial): Uint8Array {
  if (form.kind === 'seeded') return writeSeeded(form, material);
  if (form.kind === 'okp' && material.kind === 'bytes') {
    return derOctetString(fixed(form.length, material.key));
  }
  if (form.kind === 'ec' && material.kind === 'ec') {
    return writeEcPrivateKey(form.curve, fixed(form.length, material.scalar), []);
  }
  if (form.kind === 'composite' && material.kind === 'composite') {
    const classical = writeBareClassical(form.classical, material.classical);
    try {
      return concatBytes(fixed(form.seedLength, material.seed), classical);
    } finally {
      wipe(classical);
    }
  }
  return writeBareClassical(form, material);
}

type SeededForm = Extract<PrivateKeyForm, { kind: 'seeded' }>;

function writeSeeded(form: SeededForm, material: PrivateKeyMaterial): Uint8Array {
  if (material.kind === 'seed') return derValue(SEED, fixed(form.seedLength, material.seed));
  if (material.kind === 'expanded') {
    return derOctetString(fixed(form.expandedLength, material.expanded));
  }
  if (material.kind !== 'both') throw mismatch();
  const seed = derOctetString(fixed(form.seedLength, material.seed));
  const expanded = derOctetString(fixed(form.expandedLength, material.expanded));
  try {
    return derSequence(seed, expanded);
  } finally {
    wipe(seed, expanded);
  }
}

function writeBareClassical(form: PrivateKeyForm, material: PrivateKeyMaterial): Uint8Array {
  if ((form.kind === 'bytes' || form.kind === 'okp') && material.kind === 'bytes') {
    return Uint8Array.from(fixed(form.length, material.key));
  }
  if (form.kind === 'rsa' && material.kind === 'rsa') return Uint8Array.from(material.der.reveal());
  if (form.kind === 'ec' && material.kind === 'ec') {
    const parameters = derValue(PARAMETERS, curveParameters(form.curve));
    return writeEcPrivateKey(form.curve, fixed(form.length, material.scalar), [parameters]);
  }
  throw mismatch();
}

function writeEcPrivateKey(
  curve: NamedCurve,
  scalar: Uint8Array,
  rest: readonly Uint8Array[],
): Uint8Array {
  if (!isScalar(curve, scalar)) throw mismatch();
  const octets = derOctetString(scalar);
  try {
    return derSequence(derSmall(1), octets, ...rest);
  } finally {
    wipe(octets);
  }
}
