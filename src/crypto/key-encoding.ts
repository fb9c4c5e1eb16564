/**
 * How the keys and signatures of one algorithm are written for others: what a row of `suites.ts`
 * carries, so that the codecs (`spki.ts`, `jwk.ts`, `private-key.ts`, `jws.ts`, `csr.ts`) know no
 * algorithm by name. One builder per family.
 *
 * Public keys are raw everywhere: the bytes of FIPS 203, 204 and 205; 04 ‖ X ‖ Y; RFC 7748 and 8032;
 * RSAPublicKey of PKCS #1 in DER; of a hybrid the post-quantum key before the classical one.
 * A form that no standard defines is null, with its reason in `unavailable`: ids are never made up.
 */
import {
  derNull,
  derObjectIdentifier,
  derSequence,
  derSmall,
  derValue,
  contextTag,
} from './der.ts';

export type NamedCurve = 'P-256' | 'P-384' | 'P-521';
export type OkpCurve = 'X25519' | 'Ed25519' | 'X448' | 'Ed448';
export type RsaBits = 2048 | 3072 | 4096;
export type KeyHash = 'SHA-256' | 'SHA-384' | 'SHA-512';

/** The bytes of a raw public key; of `composite` the first `pqLength` are the post-quantum key's. */
export type PublicKeyForm =
  | { readonly kind: 'bytes'; readonly length: number }
  | { readonly kind: 'point'; readonly curve: NamedCurve }
  | { readonly kind: 'okp'; readonly curve: OkpCurve; readonly length: number }
  | { readonly kind: 'rsa'; readonly bits: RsaBits }
  | { readonly kind: 'composite'; readonly pqLength: number; readonly classical: PublicKeyForm };

/** RFC 5280 section 4.1.1.2; `parameters` are DER, null when they are absent. */
export interface AlgorithmIdentifier {
  readonly oid: string;
  readonly parameters: Uint8Array | null;
}

interface JwkCommon {
  /** RFC 7517 section 4.4; null where no JOSE document names the algorithm. */
  readonly alg: string | null;
  /** Other `alg` values of the same key and algorithm that are read but never written. */
  readonly alsoReads: readonly string[];
  /** RFC 7517 section 4.2; AKP keys go without it, their `alg` says it. */
  readonly use: 'sig' | 'enc' | null;
}

export type JwkForm =
  | (JwkCommon & { readonly kty: 'AKP'; readonly alg: string })
  | (JwkCommon & { readonly kty: 'EC'; readonly crv: NamedCurve })
  | (JwkCommon & { readonly kty: 'OKP'; readonly crv: OkpCurve })
  | (JwkCommon & { readonly kty: 'RSA' });

/** The content of OneAsymmetricKey's privateKey (RFC 5958). Lengths in bytes. */
export type PrivateKeyForm =
  /** A CHOICE of seed, expanded key or both (RFC 9881 section 6, RFC 9935 section 6). */
  | { readonly kind: 'seeded'; readonly seedLength: number; readonly expandedLength: number }
  /** The key itself (RFC 9909 section 6). */
  | { readonly kind: 'bytes'; readonly length: number }
  /** CurvePrivateKey (RFC 8410 section 7). */
  | { readonly kind: 'okp'; readonly length: number }
  /** ECPrivateKey (RFC 5915). */
  | { readonly kind: 'ec'; readonly curve: NamedCurve; readonly length: number }
  /** RSAPrivateKey (RFC 8017 appendix A.1.2). */
  | { readonly kind: 'rsa'; readonly bits: RsaBits }
  /** Seed ‖ classical key, the latter raw or DER (draft-ietf-lamps-pq-composite-sigs and -kem). */
  | { readonly kind: 'composite'; readonly seedLength: number; readonly classical: PrivateKeyForm };

export interface SignatureForm {
  /** `signatureAlgorithm` of requests and certificates, or null. */
  readonly x509: AlgorithmIdentifier | null;
  /** `alg` of a JWS header, or null. */
  readonly jose: string | null;
  /** Other `alg` values of a JWS that name the same algorithm with the same key. */
  readonly joseAlsoReads: readonly string[];
  /** The curve when a JWS has r ‖ s (RFC 7518 section 3.4) in place of the DER used elsewhere. */
  readonly joseCurve: NamedCurve | null;
}

export type EncodingPart = 'spki' | 'jwk' | 'privateKey' | 'x509' | 'jose';

/** Everything needed to write and read public keys, private keys and signatures of one algorithm. */
export interface KeyEncoding {
  /** The standard's name, for messages, e.g. `ML-DSA-65`. */
  readonly algorithm: string;
  readonly publicKey: PublicKeyForm;
  readonly spki: AlgorithmIdentifier | null;
  readonly jwk: JwkForm | null;
  readonly privateKey: PrivateKeyForm | null;
  /** Null for KEMs, key agreement and encryption. */
  readonly signature: SignatureForm | null;
  /** Why a form above is null although the algorithm could have one. */
  readonly unavailable: Readonly<Partial<Record<EncodingPart, string>>>;
}

const NIST = '2.16.840.1.101.3.4';

function absent(oid: string): AlgorithmIdentifier {
  return { oid, parameters: null };
}

function akp(alg: string): JwkForm {
  return { kty: 'AKP', alg, alsoReads: [], use: null };
}

function plainSignature(oid: string, jose: string | null): SignatureForm {
  return { x509: absent(oid), jose, joseAlsoReads: [], joseCurve: null };
}

interface SeededRow {
  readonly arc: string;
  readonly publicKey: number;
  readonly expanded: number;
  readonly alg: string | null;
}

const ML_KEM = {
  'ML-KEM-512': { arc: '4.1', publicKey: 800, expanded: 1632, alg: null },
  'ML-KEM-768': { arc: '4.2', publicKey: 1184, expanded: 2400, alg: 'HPKE-12' },
  'ML-KEM-1024': { arc: '4.3', publicKey: 1568, expanded: 3168, alg: 'HPKE-13' },
} as const satisfies Record<string, SeededRow>;

/** RFC 9935; JWK by draft-ietf-jose-hpke-pq-pqt, which has no ML-KEM-512. */
export function mlKemEncoding(set: keyof typeof ML_KEM): KeyEncoding {
  const { arc, publicKey, expanded, alg } = ML_KEM[set];
  return {
    algorithm: set,
    publicKey: { kind: 'bytes', length: publicKey },
    spki: absent(`${NIST}.${arc}`),
    jwk: alg === null ? null : akp(alg),
    privateKey: { kind: 'seeded', seedLength: 64, expandedLength: expanded },
    signature: null,
    unavailable: alg === null ? { jwk: `No JOSE document names an algorithm of ${set}.` } : {},
  };
}

const ML_DSA = {
  'ML-DSA-44': { arc: '3.17', publicKey: 1312, expanded: 2560, alg: 'ML-DSA-44' },
  'ML-DSA-65': { arc: '3.18', publicKey: 1952, expanded: 4032, alg: 'ML-DSA-65' },
  'ML-DSA-87': { arc: '3.19', publicKey: 2592, expanded: 4896, alg: 'ML-DSA-87' },
} as const satisfies Record<string, SeededRow>;

/** RFC 9881 and RFC 9964. */
export function mlDsaEncoding(set: keyof typeof ML_DSA): KeyEncoding {
  const { arc, publicKey, expanded, alg } = ML_DSA[set];
  const oid = `${NIST}.${arc}`;
  return {
    algorithm: set,
    publicKey: { kind: 'bytes', length: publicKey },
    spki: absent(oid),
    jwk: akp(alg),
    privateKey: { kind: 'seeded', seedLength: 32, expandedLength: expanded },
    signature: plainSignature(oid, alg),
    unavailable: {},
  };
}

/** Last arcs in the order of FIPS 205 table 2: .20 to .25 with SHA2, .26 to .31 with SHAKE. */
const SLH_DSA_SETS = ['128s', '128f', '192s', '192f', '256s', '256f'] as const;
const SLH_DSA_JOSE = ['SLH-DSA-SHA2-128s', 'SLH-DSA-SHAKE-128s', 'SLH-DSA-SHA2-128f'];

export type SlhDsaName = `SLH-DSA-${'SHA2' | 'SHAKE'}-${(typeof SLH_DSA_SETS)[number]}`;

/** RFC 9909; JOSE by draft-ietf-cose-sphincs-plus, which names three of the twelve sets. */
export function slhDsaEncoding(set: SlhDsaName): KeyEncoding {
  const index = SLH_DSA_SETS.findIndex((name) => set.endsWith(name));
  const oid = `${NIST}.3.${String(index + (set.includes('SHAKE') ? 26 : 20))}`;
  const length = Number(set.slice(-4, -1)) / 4;
  const alg = SLH_DSA_JOSE.includes(set) ? set : null;
  const reason = `No JOSE document names an algorithm of ${set}.`;
  return {
    algorithm: set,
    publicKey: { kind: 'bytes', length },
    spki: absent(oid),
    jwk: alg === null ? null : akp(alg),
    privateKey: { kind: 'bytes', length: 2 * length },
    signature: plainSignature(oid, alg),
    unavailable: alg === null ? { jwk: reason, jose: reason } : {},
  };
}

const FALCON = { 'Falcon-512': 897, 'Falcon-1024': 1793 } as const;

/** Raw only: FIPS 206 is not published, so neither identifiers nor a key format are final. */
export function falconEncoding(set: keyof typeof FALCON): KeyEncoding {
  const reason = 'FIPS 206 is not published: Falcon has no final identifier.';
  return {
    algorithm: set,
    publicKey: { kind: 'bytes', length: FALCON[set] },
    spki: null,
    jwk: null,
    privateKey: null,
    signature: { x509: null, jose: null, joseAlsoReads: [], joseCurve: null },
    unavailable: { spki: reason, jwk: reason, privateKey: reason, x509: reason, jose: reason },
  };
}

const EC_CURVES = {
  'P-256': { oid: '1.2.840.10045.3.1.7', length: 32, hash: 'SHA-256', alg: 'ES256', arc: '2' },
  'P-384': { oid: '1.3.132.0.34', length: 48, hash: 'SHA-384', alg: 'ES384', arc: '3' },
  'P-521': { oid: '1.3.132.0.35', length: 66, hash: 'SHA-512', alg: 'ES512', arc: '4' },
} as const;

/** Named curve OIDs (RFC 5480 section 2.1.1.1) and lengths of a coordinate in bytes. */
export const NAMED_CURVES: Readonly<
  Record<NamedCurve, { readonly oid: string; readonly length: number }>
> = EC_CURVES;

const ECDH_ALGORITHMS = ['ECDH-ES', 'ECDH-ES+A128KW', 'ECDH-ES+A192KW', 'ECDH-ES+A256KW'];

/** RFC 5480; ECDSA with the hash of the curve's size, which is what JOSE has. */
export function ecEncoding(curve: NamedCurve, use: 'sign' | 'derive'): KeyEncoding {
  const row = EC_CURVES[curve];
  const signs = use === 'sign';
  return {
    algorithm: `${signs ? 'ECDSA' : 'ECDH'}-${curve.replace('-', '')}`,
    publicKey: { kind: 'point', curve },
    spki: { oid: '1.2.840.10045.2.1', parameters: derObjectIdentifier(row.oid) },
    jwk: signs
      ? { kty: 'EC', crv: curve, alg: row.alg, alsoReads: [], use: 'sig' }
      : { kty: 'EC', crv: curve, alg: null, alsoReads: ECDH_ALGORITHMS, use: 'enc' },
    privateKey: { kind: 'ec', curve, length: row.length },
    signature: signs
      ? {
          x509: absent(`1.2.840.10045.4.3.${row.arc}`),
          jose: row.alg,
          joseAlsoReads: [],
          joseCurve: curve,
        }
      : null,
    unavailable: {},
  };
}

const OKP_CURVES = {
  X25519: { oid: '1.3.101.110', length: 32, signs: false },
  X448: { oid: '1.3.101.111', length: 56, signs: false },
  Ed25519: { oid: '1.3.101.112', length: 32, signs: true },
  Ed448: { oid: '1.3.101.113', length: 57, signs: true },
} as const;

/** RFC 8410 and 8037; `alg` by RFC 9864, and the older `EdDSA` is read. */
export function okpEncoding(curve: OkpCurve): KeyEncoding {
  const { oid, length, signs } = OKP_CURVES[curve];
  const names = signs
    ? { alg: curve, alsoReads: ['EdDSA'], use: 'sig' as const }
    : { alg: null, alsoReads: ECDH_ALGORITHMS, use: 'enc' as const };
  return {
    algorithm: curve,
    publicKey: { kind: 'okp', curve, length },
    spki: absent(oid),
    jwk: { kty: 'OKP', crv: curve, ...names },
    privateKey: { kind: 'okp', length },
    signature: signs ? { ...plainSignature(oid, curve), joseAlsoReads: ['EdDSA'] } : null,
    unavailable: {},
  };
}

const PKCS1 = '1.2.840.113549.1.1';
const RSA_HASHES = {
  'SHA-256': { oid: `${NIST}.2.1`, length: 32, arc: 11, oaep: 'RSA-OAEP-256' },
  'SHA-384': { oid: `${NIST}.2.2`, length: 48, arc: 12, oaep: 'RSA-OAEP-384' },
  'SHA-512': { oid: `${NIST}.2.3`, length: 64, arc: 13, oaep: 'RSA-OAEP-512' },
} as const;

/** RSASSA-PSS-params with the same hash in MGF1 and a salt of its length (RFC 4055 section 3.1). */
function pssParameters(hash: KeyHash): Uint8Array {
  const { oid, length } = RSA_HASHES[hash];
  const digest = derSequence(derObjectIdentifier(oid), derNull());
  const mgf = derSequence(derObjectIdentifier(`${PKCS1}.8`), digest);
  // The trailer field is the default, which DER leaves out.
  return derSequence(
    derValue(contextTag(0, 'constructed'), digest),
    derValue(contextTag(1, 'constructed'), mgf),
    derValue(contextTag(2, 'constructed'), derSmall(length)),
  );
}

function rsaSignature(scheme: 'PSS' | 'PKCS1', hash: KeyHash): SignatureForm {
  const x509 =
    scheme === 'PSS'
      ? { oid: `${PKCS1}.10`, parameters: pssParameters(hash) }
      : { oid: `${PKCS1}.${String(RSA_HASHES[hash].arc)}`, parameters: derNull() };
  const jose = `${scheme === 'PSS' ? 'PS' : 'RS'}${hash.slice(4)}`;
  return { x509, jose, joseAlsoReads: [], joseCurve: null };
}

/**
 * rsaEncryption with NULL for every scheme: RFC 4055 section 1.2 allows it for keys of PSS and OAEP,
 * and readers that know only that identifier stay able to read them.
 */
export function rsaEncoding(
  bits: RsaBits,
  scheme: 'PSS' | 'PKCS1' | 'OAEP',
  hash: KeyHash,
): KeyEncoding {
  const signature = scheme === 'OAEP' ? null : rsaSignature(scheme, hash);
  return {
    algorithm: `RSA${String(bits)}-${scheme}-${hash}`,
    publicKey: { kind: 'rsa', bits },
    spki: { oid: `${PKCS1}.1`, parameters: derNull() },
    jwk: {
      kty: 'RSA',
      alg: signature?.jose ?? RSA_HASHES[hash].oaep,
      alsoReads: [],
      use: signature === null ? 'enc' : 'sig',
    },
    privateKey: { kind: 'rsa', bits },
    signature,
    unavailable: {},
  };
}

export interface CompositeEncodingOptions {
  readonly algorithm: string;
  /** Null where no document assigns one. */
  readonly oid: string | null;
  /** Null where no JOSE document names the combination. */
  readonly jwkAlgorithm: string | null;
  /** From `mlKemEncoding` or `mlDsaEncoding`; it decides whether the whole signs. */
  readonly pq: KeyEncoding;
  readonly classical: KeyEncoding;
}

/**
 * A hybrid of two keys: raw forms joined, the post-quantum one first
 * (draft-ietf-lamps-pq-composite-sigs, draft-ietf-lamps-pq-composite-kem). Signatures are the same
 * bytes in X.509 and JOSE.
 */
export function compositeEncoding(options: CompositeEncodingOptions): KeyEncoding {
  const { algorithm, oid, jwkAlgorithm, pq, classical } = options;
  const noOid = `No document assigns an object identifier to ${algorithm}.`;
  const noAlg = `No JOSE document names ${algorithm}.`;
  const signs = pq.signature !== null;
  return {
    algorithm,
    publicKey: {
      kind: 'composite',
      pqLength: pq.publicKey.kind === 'bytes' ? pq.publicKey.length : 0,
      classical: classical.publicKey,
    },
    spki: oid === null ? null : absent(oid),
    jwk: jwkAlgorithm === null ? null : akp(jwkAlgorithm),
    privateKey: oid === null ? null : compositePrivateKey(pq, classical),
    signature: signs
      ? {
          x509: oid === null ? null : absent(oid),
          jose: jwkAlgorithm,
          joseAlsoReads: [],
          joseCurve: null,
        }
      : null,
    unavailable: {
      ...(oid === null ? { spki: noOid, privateKey: noOid } : {}),
      ...(oid === null && signs ? { x509: noOid } : {}),
      ...(jwkAlgorithm === null ? { jwk: noAlg } : {}),
      ...(jwkAlgorithm === null && signs ? { jose: noAlg } : {}),
    },
  };
}

function compositePrivateKey(pq: KeyEncoding, classical: KeyEncoding): PrivateKeyForm | null {
  if (pq.privateKey?.kind !== 'seeded' || classical.privateKey === null) return null;
  return {
    kind: 'composite',
    seedLength: pq.privateKey.seedLength,
    classical: classical.privateKey,
  };
}
