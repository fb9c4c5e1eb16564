/**
 * THE table of suites: id -> everything the rest needs. A name or number is resolved here once and
 * the row is passed on; nothing else compares names.
 *
 * Numbers are u16 in blocks by purpose (0x01xx wrap hybrid, 0x02xx wrap single, 0x03xx symmetric,
 * 0x04xx sign hybrid, 0x05xx sign single, 0x06xx mac). A number means one construction of one
 * document revision for ever and is never reused: a draft that changes bytes gets a new row.
 */
import { TwofoldError } from '../errors.ts';
import { aes256Gcm } from './aead.ts';
import { shake256 } from './hpke.ts';
import { SIGNATURE_LENGTHS, ML_KEM_LENGTHS } from './engine.ts';
import { compositeSigner } from './signature.ts';
import { CURVES } from './curve.ts';
import { hybridKem } from './kem.ts';
import {
  compositeEncoding,
  ecEncoding,
  mlDsaEncoding,
  mlKemEncoding,
  okpEncoding,
} from './key-encoding.ts';
import { utf8 } from './bytes.ts';
import type { MlDsaParameterSet, MlKemParameterSet } from './engine.ts';
import type {
  AeadSuite,
  Curve,
  HpkeSuite,
  KemSuite,
  MacSuite,
  Part,
  SignatureSuite,
  SigningCurve,
  Suite,
} from './suite.ts';

const CFRG_HYBRIDS = {
  document: 'draft-irtf-cfrg-concrete-hybrid-kems, draft-ietf-hpke-pq',
  revision: '04 of draft-ietf-hpke-pq (July 2026)',
} as const;
const LAMPS_COMPOSITES = {
  document: 'draft-ietf-lamps-pq-composite-sigs',
  revision: '19',
} as const;
const LAMPS_ARC = '1.3.6.1.5.5.7.6';

/** SHAKE256 with the one-stage schedule, and AES-256-GCM, as in JOSE HPKE-8, -9 and -10. */
function hpkeSuite(kem: number): HpkeSuite {
  return {
    kem,
    kdf: shake256.id,
    aead: aes256Gcm.id,
    schedule: shake256,
    cipher: aes256Gcm,
  };
}

function hybridParts(
  pq: MlKemParameterSet | MlDsaParameterSet,
  pqLength: number,
  scheme: 'ECDH' | 'ECDSA',
  curve: Curve,
): readonly Part[] {
  return [
    { half: 'pq', algorithm: pq, publicKeyLength: pqLength },
    {
      half: 'classical',
      algorithm: curve === 'X25519' ? curve : `${scheme}-${curve}`,
      publicKeyLength: CURVES[curve].publicKeyLength,
    },
  ];
}

interface KemRow {
  readonly id: string;
  readonly number: number;
  readonly category: 3 | 5;
  readonly pq: MlKemParameterSet;
  readonly curve: Curve;
  /** Domain separator of the combiner, hashed last. */
  readonly label: Uint8Array;
  readonly hpkeKem: number;
  /** Last arc of the LAMPS composite ML-KEM whose public key has the same bytes. */
  readonly arc: number;
  readonly jwkAlgorithm: string;
}

function kemSuite(row: KemRow): KemSuite {
  return {
    id: row.id,
    number: row.number,
    class: 'wrap',
    kind: 'kem',
    status: 'offered',
    standard: CFRG_HYBRIDS,
    strength: { category: row.category, quantumVulnerable: false },
    parts: hybridParts(row.pq, ML_KEM_LENGTHS[row.pq].publicKey, 'ECDH', row.curve),
    hsm: { kind: 'ec', curve: row.curve, use: 'derive' },
    pq: row.pq,
    hpke: hpkeSuite(row.hpkeKem),
    encoding: compositeEncoding({
      algorithm: row.id,
      oid: `${LAMPS_ARC}.${String(row.arc)}`,
      jwkAlgorithm: row.jwkAlgorithm,
      pq: mlKemEncoding(row.pq),
      classical: row.curve === 'X25519' ? okpEncoding(row.curve) : ecEncoding(row.curve, 'derive'),
    }),
    kem: hybridKem(row),
  };
}

interface SignatureRow {
  readonly id: string;
  readonly number: number;
  readonly category: 3 | 5;
  readonly pq: MlDsaParameterSet;
  readonly curve: SigningCurve;
  readonly classicalHash: 'SHA-256' | 'SHA-384';
  /** LAMPS label: inside M' and the context of the ML-DSA half. */
  readonly label: string;
  readonly arc: number;
  readonly jwkAlgorithm: string;
}

function signatureSuite(row: SignatureRow): SignatureSuite {
  return {
    id: row.id,
    number: row.number,
    class: 'sign',
    kind: 'signature',
    status: 'offered',
    standard: LAMPS_COMPOSITES,
    strength: { category: row.category, quantumVulnerable: false },
    parts: hybridParts(row.pq, SIGNATURE_LENGTHS[row.pq].publicKey, 'ECDSA', row.curve),
    hsm: { kind: 'ec', curve: row.curve, use: 'sign' },
    pq: row.pq,
    encoding: compositeEncoding({
      algorithm: row.id,
      oid: `${LAMPS_ARC}.${String(row.arc)}`,
      jwkAlgorithm: row.jwkAlgorithm,
      pq: mlDsaEncoding(row.pq),
      classical: ecEncoding(row.curve, 'sign'),
    }),
    signer: compositeSigner({ ...row, prehash: 'SHA-512' }),
  };
}

const A256GCM: AeadSuite = {
  id: 'A256GCM',
  number: 0x0301,
  class: 'wrap',
  kind: 'aead',
  status: 'offered',
  standard: { document: 'NIST SP 800-38D', revision: 'November 2007' },
  strength: { category: 5, quantumVulnerable: false },
  parts: [],
  hsm: { kind: 'aes', bits: 256, use: 'encrypt' },
  aead: { keyLength: 32, nonceLength: 12, tagLength: 16 },
};

const HS256: MacSuite = {
  id: 'HS256',
  number: 0x0601,
  class: 'mac',
  kind: 'mac',
  status: 'offered',
  standard: { document: 'RFC 2104 with SHA-256 (FIPS 180-4)', revision: 'February 1997' },
  strength: { category: 5, quantumVulnerable: false },
  parts: [],
  hsm: { kind: 'hmac', bytes: 32, hash: 'SHA-256', use: 'mac' },
  mac: { hash: 'SHA-256', keyLength: 32, macLength: 32 },
};

const ROWS: readonly Suite[] = [
  kemSuite({
    id: 'MLKEM768-P256',
    number: 0x0101,
    category: 3,
    pq: 'ML-KEM-768',
    curve: 'P-256',
    label: utf8('MLKEM768-P256'),
    hpkeKem: 0x0050,
    arc: 59,
    jwkAlgorithm: 'HPKE-8',
  }),
  kemSuite({
    id: 'MLKEM768-X25519',
    number: 0x0102,
    category: 3,
    pq: 'ML-KEM-768',
    curve: 'X25519',
    // X-Wing's ASCII art, section 5.3 of draft-connolly-cfrg-xwing-kem.
    label: utf8('\\.//^\\'),
    hpkeKem: 0x647a,
    arc: 58,
    jwkAlgorithm: 'HPKE-9',
  }),
  kemSuite({
    id: 'MLKEM1024-P384',
    number: 0x0103,
    category: 5,
    pq: 'ML-KEM-1024',
    curve: 'P-384',
    label: utf8('MLKEM1024-P384'),
    hpkeKem: 0x0051,
    arc: 63,
    jwkAlgorithm: 'HPKE-10',
  }),
  A256GCM,
  signatureSuite({
    id: 'MLDSA65-ECDSA-P256-SHA512',
    number: 0x0401,
    category: 3,
    pq: 'ML-DSA-65',
    curve: 'P-256',
    classicalHash: 'SHA-256',
    label: 'COMPSIG-MLDSA65-ECDSA-P256-SHA512',
    arc: 45,
    jwkAlgorithm: 'ML-DSA-65-ES256',
  }),
  signatureSuite({
    id: 'MLDSA87-ECDSA-P384-SHA512',
    number: 0x0402,
    category: 5,
    pq: 'ML-DSA-87',
    curve: 'P-384',
    classicalHash: 'SHA-384',
    label: 'COMPSIG-MLDSA87-ECDSA-P384-SHA512',
    arc: 49,
    jwkAlgorithm: 'ML-DSA-87-ES384',
  }),
  HS256,
];

/** Recursive, so that no consumer can change a row for another. */
function deepFreeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
  Object.values(value).forEach(deepFreeze);
  Object.freeze(value);
}
ROWS.forEach(deepFreeze);

/** By id; no prototype, so that no inherited name is a suite. */
export const SUITES: Readonly<Record<string, Suite>> = Object.freeze(
  Object.assign(
    Object.create(null) as Record<string, Suite>,
    Object.fromEntries(ROWS.map((suite) => [suite.id, suite])),
  ),
);

const BY_NUMBER: ReadonlyMap<number, Suite> = new Map(ROWS.map((suite) => [suite.number, suite]));

/** @throws TwofoldError unknown_suite */
export function findSuite(id: string): Suite {
  const suite = SUITES[id];
  if (suite === undefined) {
    throw new TwofoldError('unknown_suite', `Known suites: ${Object.keys(SUITES).join(', ')}.`);
  }
  return suite;
}

/** @throws TwofoldError unknown_suite */
export function findSuiteByNumber(number: number): Suite {
  const suite = BY_NUMBER.get(number);
  if (suite === undefined)
    throw new TwofoldError('unknown_suite', 'The suite number is not known.');
  return suite;
}

/** What is left out on purpose, for `/v1/suites`. */
export const NOT_OFFERED: readonly { readonly name: string; readonly reason: string }[] =
  Object.freeze([
    {
      name: 'Classic McEliece',
      reason:
        'Not a NIST standard (ISO/IEC work goes on) and public keys of 261 kB to 1.4 MB do not fit rows, answers or envelopes.',
    },
    {
      name: 'HQC',
      reason: 'Chosen by NIST in March 2025 as a backup to ML-KEM; its standard is not published.',
    },
    {
      name: 'FrodoKEM',
      reason: 'Not a NIST standard; its ISO/IEC text is not final, and it has no HPKE code point.',
    },
    {
      name: 'Multivariate signatures (UOV, MAYO, QR-UOV, SNOVA)',
      reason: 'Still candidates of the NIST additional-signatures process; parameters still move.',
    },
    {
      name: 'LMS and XMSS',
      reason:
        'Stateful: a one-time key used twice forges signatures, and replicas, backups and fail-over make reuse a matter of time.',
    },
    {
      name: 'Kyber (round 3)',
      reason: 'Superseded by ML-KEM (FIPS 203), whose bytes differ; no reason to keep the draft.',
    },
  ]);
