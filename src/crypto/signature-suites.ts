/**
 * Rows of the table for signatures (0x04xx composite, 0x05xx single): what is an algorithm's own
 * stands here, and nowhere else.
 */
import { ecdsaScheme, ed25519Scheme, rsaScheme } from './classical-signature.ts';
import { SIGNATURE_LENGTHS } from './engine.ts';
import {
  compositeEncoding,
  ecEncoding,
  falconEncoding,
  mlDsaEncoding,
  okpEncoding,
  rsaEncoding,
  slhDsaEncoding,
} from './key-encoding.ts';
import { privateKeyLength } from './hsm-key.ts';
import { compositeSigner } from './signature.ts';
import { classicalSigner, pqSigner } from './single-signers.ts';
import type { ClassicalScheme } from './classical-signature.ts';
import type {
  FalconParameterSet,
  MlDsaParameterSet,
  SignatureParameterSet,
  SlhDsaParameterSet,
} from './engine.ts';
import type { HsmKeySpec, RsaBits } from './hsm-key.ts';
import type { KeyEncoding } from './key-encoding.ts';
import type {
  Hash,
  Part,
  SignatureSuite,
  SigningCurve,
  Standing,
  StandardReference,
  Strength,
} from './suite.ts';

const LAMPS_COMPOSITES: StandardReference = {
  document: 'draft-ietf-lamps-pq-composite-sigs',
  revision: '19',
  status: 'draft',
};
const FIPS_186: StandardReference = {
  document: 'FIPS 186-5',
  revision: 'February 2023',
  status: 'final',
};
const FIPS_204: StandardReference = {
  document: 'FIPS 204',
  revision: 'August 2024',
  status: 'final',
};
const FIPS_205: StandardReference = {
  document: 'FIPS 205',
  revision: 'August 2024',
  status: 'final',
};
const FALCON_ROUND_3: StandardReference = {
  document: 'Falcon, third round of the NIST process (FIPS 206 is not published)',
  revision: '1.2',
  status: 'round-3',
};

const LAMPS_ARC = '1.3.6.1.5.5.7.6';

/** The classical half of a signature, or the whole of one. */
interface Classical {
  readonly algorithm: string;
  readonly hsm: Extract<HsmKeySpec, { use: 'sign' }>;
  readonly scheme: ClassicalScheme;
  readonly encoding: KeyEncoding;
}

function ecdsa(curve: SigningCurve, hash: Hash): Classical {
  return {
    algorithm: `ECDSA-${curve}`,
    hsm: { kind: 'ec', curve, use: 'sign' },
    scheme: ecdsaScheme(curve, hash),
    encoding: ecEncoding(curve, 'sign'),
  };
}

const ED25519: Classical = {
  algorithm: 'Ed25519',
  hsm: { kind: 'ed25519', use: 'sign' },
  scheme: ed25519Scheme,
  encoding: okpEncoding('Ed25519'),
};

function rsa(bits: RsaBits, padding: 'pss' | 'pkcs1', hash: Hash): Classical {
  const name = padding === 'pss' ? 'PSS' : 'PKCS1';
  return {
    algorithm: `RSA-${name}-${String(bits)}`,
    hsm: { kind: 'rsa', bits, use: 'sign', padding, hash },
    scheme: rsaScheme(bits, padding, hash),
    encoding: rsaEncoding(bits, name, hash),
  };
}

function pqHalf(set: SignatureParameterSet): Part {
  const { publicKey, privateKey, seed } = SIGNATURE_LENGTHS[set];
  return {
    half: 'pq',
    algorithm: set,
    publicKeyLength: publicKey,
    privateKeyLength: privateKey,
    seedLength: seed,
  };
}

function classicalHalf({ algorithm, scheme, hsm }: Classical): Part {
  return {
    half: 'classical',
    algorithm,
    publicKeyLength: scheme.lengths.publicKey,
    privateKeyLength: privateKeyLength(hsm),
    seedLength: null,
  };
}

/** FIPS 204 section 4. */
const ML_DSA_CATEGORIES = { 'ML-DSA-44': 2, 'ML-DSA-65': 3, 'ML-DSA-87': 5 } as const;

interface CompositeRow {
  readonly id: string;
  readonly number: number;
  readonly pq: MlDsaParameterSet;
  readonly classical: Classical;
  /** PH, applied to the message. */
  readonly prehash: Hash;
  readonly arc: number;
  readonly jwkAlgorithm?: string;
  readonly standings?: readonly Standing[];
}

function composite(row: CompositeRow): SignatureSuite {
  const { id, number, pq, classical } = row;
  return {
    id,
    number,
    class: 'sign',
    kind: 'signature',
    status: 'offered',
    standard: LAMPS_COMPOSITES,
    strength: { category: ML_DSA_CATEGORIES[pq], quantumVulnerable: false },
    standings: [...(row.standings ?? []), 'approved'],
    parts: [pqHalf(pq), classicalHalf(classical)],
    pq,
    hsm: classical.hsm,
    encoding: compositeEncoding({
      algorithm: id,
      oid: `${LAMPS_ARC}.${String(row.arc)}`,
      jwkAlgorithm: row.jwkAlgorithm ?? null,
      pq: mlDsaEncoding(pq),
      classical: classical.encoding,
    }),
    signer: compositeSigner({
      pq,
      classical: classical.scheme,
      prehash: row.prehash,
      label: `COMPSIG-${id}`,
    }),
  };
}

interface PostQuantumRow {
  readonly set: SignatureParameterSet;
  readonly number: number;
  readonly category: NonNullable<Strength['category']>;
  readonly status?: SignatureSuite['status'];
  readonly standard: StandardReference;
  readonly standings: readonly Standing[];
  readonly encoding: KeyEncoding;
}

function postQuantum(row: PostQuantumRow): SignatureSuite {
  const { set, number, standard, standings, encoding } = row;
  return {
    id: set,
    number,
    class: 'sign',
    kind: 'signature',
    status: row.status ?? 'offered',
    standard,
    strength: { category: row.category, quantumVulnerable: false },
    standings,
    parts: [pqHalf(set)],
    pq: set,
    hsm: null,
    encoding,
    signer: pqSigner(set),
  };
}

function mlDsa(set: MlDsaParameterSet, number: number, standings: readonly Standing[] = []) {
  return postQuantum({
    set,
    number,
    category: ML_DSA_CATEGORIES[set],
    standard: FIPS_204,
    standings: [...standings, 'approved'],
    encoding: mlDsaEncoding(set),
  });
}

function slhDsa(set: SlhDsaParameterSet, number: number, category: 1 | 3 | 5) {
  return postQuantum({
    set,
    number,
    category,
    standard: FIPS_205,
    standings: ['approved'],
    encoding: slhDsaEncoding(set),
  });
}

function falcon(set: FalconParameterSet, number: number, category: 1 | 5) {
  return postQuantum({
    set,
    number,
    category,
    status: 'experimental',
    standard: FALCON_ROUND_3,
    standings: [],
    encoding: falconEncoding(set),
  });
}

function single(id: string, number: number, classical: Classical): SignatureSuite {
  return {
    id,
    number,
    class: 'sign',
    kind: 'signature',
    status: 'offered',
    standard: FIPS_186,
    strength: { category: null, quantumVulnerable: true },
    standings: ['approved'],
    parts: [classicalHalf(classical)],
    pq: null,
    hsm: classical.hsm,
    encoding: classical.encoding,
    signer: classicalSigner(classical.scheme),
  };
}

export const SIGNATURE_SUITES: readonly SignatureSuite[] = [
  composite({
    id: 'MLDSA65-ECDSA-P256-SHA512',
    number: 0x0401,
    pq: 'ML-DSA-65',
    classical: ecdsa('P-256', 'SHA-256'),
    prehash: 'SHA-512',
    arc: 45,
    jwkAlgorithm: 'ML-DSA-65-ES256',
  }),
  composite({
    id: 'MLDSA87-ECDSA-P384-SHA512',
    number: 0x0402,
    pq: 'ML-DSA-87',
    classical: ecdsa('P-384', 'SHA-384'),
    prehash: 'SHA-512',
    arc: 49,
    jwkAlgorithm: 'ML-DSA-87-ES384',
    standings: ['cnsa2-strength'],
  }),
  composite({
    id: 'MLDSA44-ECDSA-P256-SHA256',
    number: 0x0403,
    pq: 'ML-DSA-44',
    classical: ecdsa('P-256', 'SHA-256'),
    prehash: 'SHA-256',
    arc: 40,
    jwkAlgorithm: 'ML-DSA-44-ES256',
  }),
  composite({
    id: 'MLDSA65-ECDSA-P384-SHA512',
    number: 0x0404,
    pq: 'ML-DSA-65',
    classical: ecdsa('P-384', 'SHA-384'),
    prehash: 'SHA-512',
    arc: 46,
  }),
  composite({
    id: 'MLDSA87-ECDSA-P521-SHA512',
    number: 0x0405,
    pq: 'ML-DSA-87',
    classical: ecdsa('P-521', 'SHA-512'),
    prehash: 'SHA-512',
    arc: 54,
    standings: ['cnsa2-strength'],
  }),
  composite({
    id: 'MLDSA44-Ed25519-SHA512',
    number: 0x0406,
    pq: 'ML-DSA-44',
    classical: ED25519,
    prehash: 'SHA-512',
    arc: 39,
    jwkAlgorithm: 'ML-DSA-44-Ed25519',
  }),
  composite({
    id: 'MLDSA65-Ed25519-SHA512',
    number: 0x0407,
    pq: 'ML-DSA-65',
    classical: ED25519,
    prehash: 'SHA-512',
    arc: 48,
    jwkAlgorithm: 'ML-DSA-65-Ed25519',
  }),
  composite({
    id: 'MLDSA44-RSA2048-PSS-SHA256',
    number: 0x0408,
    pq: 'ML-DSA-44',
    classical: rsa(2048, 'pss', 'SHA-256'),
    prehash: 'SHA-256',
    arc: 37,
  }),
  composite({
    id: 'MLDSA44-RSA2048-PKCS15-SHA256',
    number: 0x0409,
    pq: 'ML-DSA-44',
    classical: rsa(2048, 'pkcs1', 'SHA-256'),
    prehash: 'SHA-256',
    arc: 38,
  }),
  composite({
    id: 'MLDSA65-RSA3072-PSS-SHA512',
    number: 0x040a,
    pq: 'ML-DSA-65',
    classical: rsa(3072, 'pss', 'SHA-256'),
    prehash: 'SHA-512',
    arc: 41,
  }),
  composite({
    id: 'MLDSA65-RSA3072-PKCS15-SHA512',
    number: 0x040b,
    pq: 'ML-DSA-65',
    classical: rsa(3072, 'pkcs1', 'SHA-256'),
    prehash: 'SHA-512',
    arc: 42,
  }),
  composite({
    id: 'MLDSA65-RSA4096-PSS-SHA512',
    number: 0x040c,
    pq: 'ML-DSA-65',
    classical: rsa(4096, 'pss', 'SHA-384'),
    prehash: 'SHA-512',
    arc: 43,
  }),
  composite({
    id: 'MLDSA65-RSA4096-PKCS15-SHA512',
    number: 0x040d,
    pq: 'ML-DSA-65',
    classical: rsa(4096, 'pkcs1', 'SHA-384'),
    prehash: 'SHA-512',
    arc: 44,
  }),
  composite({
    id: 'MLDSA87-RSA3072-PSS-SHA512',
    number: 0x040e,
    pq: 'ML-DSA-87',
    classical: rsa(3072, 'pss', 'SHA-256'),
    prehash: 'SHA-512',
    arc: 52,
  }),
  composite({
    id: 'MLDSA87-RSA4096-PSS-SHA512',
    number: 0x040f,
    pq: 'ML-DSA-87',
    classical: rsa(4096, 'pss', 'SHA-384'),
    prehash: 'SHA-512',
    arc: 53,
  }),
  mlDsa('ML-DSA-44', 0x0501),
  mlDsa('ML-DSA-65', 0x0502),
  mlDsa('ML-DSA-87', 0x0503, ['cnsa2']),
  slhDsa('SLH-DSA-SHA2-128s', 0x0511, 1),
  slhDsa('SLH-DSA-SHA2-128f', 0x0512, 1),
  slhDsa('SLH-DSA-SHA2-192s', 0x0513, 3),
  slhDsa('SLH-DSA-SHA2-192f', 0x0514, 3),
  slhDsa('SLH-DSA-SHA2-256s', 0x0515, 5),
  slhDsa('SLH-DSA-SHA2-256f', 0x0516, 5),
  slhDsa('SLH-DSA-SHAKE-128s', 0x0517, 1),
  slhDsa('SLH-DSA-SHAKE-128f', 0x0518, 1),
  slhDsa('SLH-DSA-SHAKE-192s', 0x0519, 3),
  slhDsa('SLH-DSA-SHAKE-192f', 0x051a, 3),
  slhDsa('SLH-DSA-SHAKE-256s', 0x051b, 5),
  slhDsa('SLH-DSA-SHAKE-256f', 0x051c, 5),
  falcon('Falcon-512', 0x0521, 1),
  falcon('Falcon-1024', 0x0522, 5),
  single('ECDSA-P256-SHA256', 0x0531, ecdsa('P-256', 'SHA-256')),
  single('ECDSA-P384-SHA384', 0x0532, ecdsa('P-384', 'SHA-384')),
  single('ECDSA-P521-SHA512', 0x0533, ecdsa('P-521', 'SHA-512')),
  single('Ed25519', 0x0534, ED25519),
  single('RSA-PSS-2048-SHA256', 0x0541, rsa(2048, 'pss', 'SHA-256')),
  single('RSA-PSS-3072-SHA256', 0x0542, rsa(3072, 'pss', 'SHA-256')),
  single('RSA-PSS-4096-SHA512', 0x0543, rsa(4096, 'pss', 'SHA-512')),
  // The strength of CNSA 1.0, from which national security systems migrate.
  single('RSA-PSS-3072-SHA384', 0x0544, rsa(3072, 'pss', 'SHA-384')),
  single('RSA-PKCS1-2048-SHA256', 0x0551, rsa(2048, 'pkcs1', 'SHA-256')),
  single('RSA-PKCS1-3072-SHA256', 0x0552, rsa(3072, 'pkcs1', 'SHA-256')),
  single('RSA-PKCS1-4096-SHA512', 0x0553, rsa(4096, 'pkcs1', 'SHA-512')),
];
