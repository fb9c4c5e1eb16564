/**
 * Rows of the table for asymmetric wraps (0x01xx hybrid, 0x02xx single): what is an algorithm's own
 * stands here, and nowhere else.
 */
import { aes256Gcm } from './aead.ts';
import { utf8 } from './bytes.ts';
import { ownCombiner, standardCombiner } from './combiner.ts';
import { CURVES } from './curve.ts';
import { extractAndExpand } from './dhkem.ts';
import { ML_KEM_LENGTHS, ML_KEM_SEED_LENGTH } from './engine.ts';
import { hkdf } from './hkdf.ts';
import { hpkeSuite, shake256 } from './hpke.ts';
import { privateKeyLength } from './hsm-key.ts';
import { diffieHellmanPart, mlKemPart, rsaOaepPart } from './kem-parts.ts';
import { hybridKem, singleKem } from './kem.ts';
import {
  compositeEncoding,
  ecEncoding,
  mlKemEncoding,
  okpEncoding,
  rsaEncoding,
} from './key-encoding.ts';
import type { Combiner } from './combiner.ts';
import type { MlKemParameterSet } from './engine.ts';
import type { HsmKeySpec, RsaBits } from './hsm-key.ts';
import type { KeyEncoding } from './key-encoding.ts';
import type {
  Curve,
  Hash,
  KemSuite,
  OneStageKdf,
  Part,
  Standing,
  StandardReference,
  TwoStageKdf,
} from './suite.ts';

const CFRG_HYBRIDS: StandardReference = {
  document: 'draft-irtf-cfrg-concrete-hybrid-kems, draft-ietf-hpke-pq',
  revision: '04 of draft-ietf-hpke-pq (July 2026)',
  status: 'draft',
};
const HPKE_PQ: StandardReference = {
  document: 'FIPS 203, draft-ietf-hpke-pq',
  revision: '04 of draft-ietf-hpke-pq (July 2026)',
  status: 'draft',
};
const OWN: StandardReference = {
  document: 'ARCHITECTURE.md of this project',
  revision: '1',
  status: 'own',
};
const RFC_9180: StandardReference = {
  document: 'RFC 9180',
  revision: 'February 2022',
  status: 'final',
};

const LAMPS_ARC = '1.3.6.1.5.5.7.6';

function deriveKey(curve: Curve): Extract<HsmKeySpec, { use: 'derive' }> {
  return curve === 'X25519'
    ? { kind: 'x25519', use: 'derive' }
    : { kind: 'ec', curve, use: 'derive' };
}

function curveEncoding(curve: Curve): KeyEncoding {
  return curve === 'X25519' ? okpEncoding(curve) : ecEncoding(curve, 'derive');
}

function mlKemHalf(set: MlKemParameterSet): Part {
  const { publicKey, privateKey } = ML_KEM_LENGTHS[set];
  return {
    half: 'pq',
    algorithm: set,
    publicKeyLength: publicKey,
    privateKeyLength: privateKey,
    seedLength: ML_KEM_SEED_LENGTH,
  };
}

function diffieHellmanHalf(curve: Curve): Part {
  const algorithm = curve === 'X25519' ? curve : `ECDH-${curve}`;
  return {
    half: 'classical',
    algorithm,
    publicKeyLength: CURVES[curve].publicKeyLength,
    privateKeyLength: privateKeyLength(deriveKey(curve)),
    seedLength: null,
  };
}

interface HybridRow {
  readonly id: string;
  readonly number: number;
  readonly category: 3 | 5;
  readonly pq: MlKemParameterSet;
  readonly curve: Curve;
  readonly combine: Combiner;
  readonly standard: StandardReference;
  readonly standings: readonly Standing[];
  readonly hpkeKem: number;
  /** Last arc of the LAMPS composite ML-KEM whose public key has the same bytes; null: none. */
  readonly arc: number | null;
  readonly jwkAlgorithm: string | null;
}

function hybrid(row: HybridRow): KemSuite {
  const { id, number, pq, curve, standard, standings } = row;
  return {
    id,
    number,
    class: 'wrap',
    kind: 'kem',
    status: 'offered',
    standard,
    strength: { category: row.category, quantumVulnerable: false },
    standings,
    parts: [mlKemHalf(pq), diffieHellmanHalf(curve)],
    pq,
    hsm: deriveKey(curve),
    // SHAKE256 with the one-stage schedule, and AES-256-GCM, as in JOSE HPKE-8, -9 and -10.
    hpke: hpkeSuite(row.hpkeKem, shake256, aes256Gcm),
    encoding: compositeEncoding({
      algorithm: id,
      oid: row.arc === null ? null : `${LAMPS_ARC}.${String(row.arc)}`,
      jwkAlgorithm: row.jwkAlgorithm,
      pq: mlKemEncoding(pq),
      classical: curveEncoding(curve),
    }),
    kem: hybridKem({
      pq: mlKemPart(pq),
      classical: diffieHellmanPart(curve),
      combine: row.combine,
    }),
  };
}

interface MlKemRow {
  readonly id: string;
  readonly number: number;
  readonly category: 1 | 3 | 5;
  readonly pq: MlKemParameterSet;
  readonly hpkeKem: number;
  readonly kdf: OneStageKdf | TwoStageKdf;
  readonly standings: readonly Standing[];
  readonly encoding: KeyEncoding;
}

function mlKem(row: MlKemRow): KemSuite {
  const { id, number, pq, standings, encoding } = row;
  return {
    id,
    number,
    class: 'wrap',
    kind: 'kem',
    status: 'offered',
    standard: HPKE_PQ,
    strength: { category: row.category, quantumVulnerable: false },
    standings,
    parts: [mlKemHalf(pq)],
    pq,
    hsm: null,
    hpke: hpkeSuite(row.hpkeKem, row.kdf, aes256Gcm),
    encoding,
    kem: singleKem({ part: mlKemPart(pq), half: 'pq' }),
  };
}

interface DhKemRow {
  readonly id: string;
  readonly number: number;
  readonly curve: Curve;
  readonly hash: Hash;
  readonly hpkeKem: number;
  readonly standings: readonly Standing[];
}

function dhKem({ id, number, curve, hash, hpkeKem, standings }: DhKemRow): KemSuite {
  const kdf = hkdf(hash);
  return {
    id,
    number,
    class: 'wrap',
    kind: 'kem',
    status: 'offered',
    standard: RFC_9180,
    strength: { category: null, quantumVulnerable: true },
    standings,
    parts: [diffieHellmanHalf(curve)],
    pq: null,
    hsm: deriveKey(curve),
    hpke: hpkeSuite(hpkeKem, kdf, aes256Gcm),
    encoding: curveEncoding(curve),
    kem: singleKem({
      part: diffieHellmanPart(curve),
      half: 'classical',
      derive: extractAndExpand(hpkeKem, kdf),
    }),
  };
}

interface RsaRow {
  readonly number: number;
  readonly bits: RsaBits;
  readonly hpkeKem: number;
}

function rsaOaep({ number, bits, hpkeKem }: RsaRow): KemSuite {
  const part = rsaOaepPart(bits);
  return {
    id: `RSA-OAEP-${String(bits)}-SHA256`,
    number,
    class: 'wrap',
    kind: 'kem',
    status: 'offered',
    standard: { ...OWN, document: `RFC 8017 (RSAES-OAEP) as the KEM of HPKE; ${OWN.document}` },
    strength: { category: null, quantumVulnerable: true },
    standings: ['approved'],
    parts: [
      {
        half: 'classical',
        algorithm: `RSA-OAEP-${String(bits)}`,
        publicKeyLength: part.lengths.publicKey,
        privateKeyLength: null,
        seedLength: null,
      },
    ],
    pq: null,
    hsm: { kind: 'rsa', bits, use: 'decrypt', hash: 'SHA-256' },
    hpke: hpkeSuite(hpkeKem, hkdf('SHA-256'), aes256Gcm),
    encoding: rsaEncoding(bits, 'OAEP', 'SHA-256'),
    kem: singleKem({ part, half: 'classical' }),
  };
}

export const KEM_SUITES: readonly KemSuite[] = [
  hybrid({
    id: 'MLKEM768-P256',
    number: 0x0101,
    category: 3,
    pq: 'ML-KEM-768',
    curve: 'P-256',
    combine: standardCombiner(utf8('MLKEM768-P256')),
    standard: CFRG_HYBRIDS,
    standings: [],
    hpkeKem: 0x0050,
    arc: 59,
    jwkAlgorithm: 'HPKE-8',
  }),
  hybrid({
    id: 'MLKEM768-X25519',
    number: 0x0102,
    category: 3,
    pq: 'ML-KEM-768',
    curve: 'X25519',
    // X-Wing's ASCII art, section 5.3 of draft-connolly-cfrg-xwing-kem.
    combine: standardCombiner(utf8('\\.//^\\')),
    standard: CFRG_HYBRIDS,
    standings: [],
    hpkeKem: 0x647a,
    arc: 58,
    jwkAlgorithm: 'HPKE-9',
  }),
  hybrid({
    id: 'MLKEM1024-P384',
    number: 0x0103,
    category: 5,
    pq: 'ML-KEM-1024',
    curve: 'P-384',
    combine: standardCombiner(utf8('MLKEM1024-P384')),
    standard: CFRG_HYBRIDS,
    standings: ['cnsa2-strength'],
    hpkeKem: 0x0051,
    arc: 63,
    jwkAlgorithm: 'HPKE-10',
  }),
  hybrid({
    id: 'MLKEM1024-X25519',
    number: 0x0104,
    category: 5,
    pq: 'ML-KEM-1024',
    curve: 'X25519',
    combine: ownCombiner('twofold/MLKEM1024-X25519/1'),
    standard: OWN,
    standings: [],
    hpkeKem: 0xff01,
    arc: null,
    jwkAlgorithm: null,
  }),
  mlKem({
    id: 'ML-KEM-512',
    number: 0x0201,
    category: 1,
    pq: 'ML-KEM-512',
    hpkeKem: 0x0040,
    kdf: shake256,
    standings: [],
    encoding: mlKemEncoding('ML-KEM-512'),
  }),
  mlKem({
    id: 'ML-KEM-768',
    number: 0x0202,
    category: 3,
    pq: 'ML-KEM-768',
    hpkeKem: 0x0041,
    kdf: shake256,
    standings: [],
    encoding: mlKemEncoding('ML-KEM-768'),
  }),
  mlKem({
    id: 'ML-KEM-1024',
    number: 0x0203,
    category: 5,
    pq: 'ML-KEM-1024',
    hpkeKem: 0x0042,
    kdf: shake256,
    standings: ['cnsa2-strength'],
    encoding: mlKemEncoding('ML-KEM-1024'),
  }),
  mlKem({
    id: 'ML-KEM-1024-HKDF-SHA384',
    number: 0x0204,
    category: 5,
    pq: 'ML-KEM-1024',
    hpkeKem: 0x0042,
    kdf: hkdf('SHA-384'),
    standings: ['cnsa2', 'approved'],
    encoding: {
      ...mlKemEncoding('ML-KEM-1024'),
      jwk: null,
      unavailable: { jwk: 'The JOSE names of ML-KEM-1024 stand for SHAKE256, not for HKDF.' },
    },
  }),
  dhKem({
    id: 'DHKEM-P256',
    number: 0x0211,
    curve: 'P-256',
    hash: 'SHA-256',
    hpkeKem: 0x0010,
    standings: ['approved'],
  }),
  dhKem({
    id: 'DHKEM-P384',
    number: 0x0212,
    curve: 'P-384',
    hash: 'SHA-384',
    hpkeKem: 0x0011,
    standings: ['approved'],
  }),
  dhKem({
    id: 'DHKEM-X25519',
    number: 0x0213,
    curve: 'X25519',
    hash: 'SHA-256',
    hpkeKem: 0x0020,
    standings: [],
  }),
  rsaOaep({ number: 0x0221, bits: 2048, hpkeKem: 0xff11 }),
  rsaOaep({ number: 0x0222, bits: 3072, hpkeKem: 0xff12 }),
  rsaOaep({ number: 0x0223, bits: 4096, hpkeKem: 0xff13 }),
];
