/** Every row that the builders can make, with keys of it from node's OpenSSL where that has them. */
import { constants, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import {
  compositeEncoding,
  ecEncoding,
  falconEncoding,
  mlDsaEncoding,
  mlKemEncoding,
  okpEncoding,
  rsaEncoding,
  slhDsaEncoding,
} from '../../src/crypto/key-encoding.ts';
import type { KeyEncoding, SlhDsaName } from '../../src/crypto/key-encoding.ts';

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** How OpenSSL makes a key of a row, and the raw form of its public key. */
export interface GeneratedRow {
  readonly encoding: KeyEncoding;
  readonly generate: () => KeyPair;
  readonly raw: (key: KeyObject) => Uint8Array;
}

const asRaw = (key: KeyObject) => new Uint8Array(key.export({ format: 'raw-public' }));

function simple(type: string, encoding: KeyEncoding): GeneratedRow {
  return {
    encoding,
    // node's types list each name by an overload of its own.
    generate: () => generateKeyPairSync(type as 'ed25519'),
    raw: asRaw,
  };
}

const SLH_DSA_SETS = ['128s', '128f', '192s', '192f', '256s', '256f'];
export const SLH_DSA = ['SHA2', 'SHAKE'].flatMap((hash) =>
  SLH_DSA_SETS.map((set) => `SLH-DSA-${hash}-${set}` as SlhDsaName),
);

const ec = (curve: 'P-256' | 'P-384' | 'P-521', use: 'sign' | 'derive'): GeneratedRow => ({
  encoding: ecEncoding(curve, use),
  generate: () => generateKeyPairSync('ec', { namedCurve: curve }),
  raw: (key) => new Uint8Array(key.export({ format: 'raw-public', type: 'uncompressed' })),
});

const rsa = (
  bits: 2048 | 3072 | 4096,
  scheme: 'PSS' | 'PKCS1' | 'OAEP',
  hash: 'SHA-256' | 'SHA-384' | 'SHA-512',
): GeneratedRow => ({
  encoding: rsaEncoding(bits, scheme, hash),
  generate: () => generateKeyPairSync('rsa', { modulusLength: bits }),
  raw: (key) => new Uint8Array(key.export({ format: 'der', type: 'pkcs1' })),
});

/** Every row that OpenSSL 3.5 has. */
export const GENERATED: readonly GeneratedRow[] = [
  ...(['ML-KEM-512', 'ML-KEM-768', 'ML-KEM-1024'] as const).map((set) =>
    simple(set.toLowerCase(), mlKemEncoding(set)),
  ),
  ...(['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'] as const).map((set) =>
    simple(set.toLowerCase(), mlDsaEncoding(set)),
  ),
  ...SLH_DSA.map((set) => simple(set.toLowerCase(), slhDsaEncoding(set))),
  ec('P-256', 'sign'),
  ec('P-384', 'sign'),
  ec('P-521', 'sign'),
  ec('P-256', 'derive'),
  ec('P-384', 'derive'),
  ...(['X25519', 'Ed25519', 'X448', 'Ed448'] as const).map((curve) =>
    simple(curve.toLowerCase(), okpEncoding(curve)),
  ),
  rsa(2048, 'PKCS1', 'SHA-256'),
  rsa(2048, 'PSS', 'SHA-256'),
  rsa(3072, 'PSS', 'SHA-384'),
  rsa(2048, 'OAEP', 'SHA-512'),
];

/** A row by its algorithm's name. */
export function generated(algorithm: string): GeneratedRow {
  const row = GENERATED.find(({ encoding }) => encoding.algorithm === algorithm);
  if (row === undefined) throw new Error(`no row ${algorithm}`);
  return row;
}

export const COMPOSITES: readonly KeyEncoding[] = [
  compositeEncoding({
    algorithm: 'MLKEM768-P256',
    oid: '1.3.6.1.5.5.7.6.59',
    jwkAlgorithm: 'HPKE-8',
    pq: mlKemEncoding('ML-KEM-768'),
    classical: ecEncoding('P-256', 'derive'),
  }),
  compositeEncoding({
    algorithm: 'MLDSA65-ECDSA-P256-SHA512',
    oid: '1.3.6.1.5.5.7.6.45',
    jwkAlgorithm: 'ML-DSA-65-ES256',
    pq: mlDsaEncoding('ML-DSA-65'),
    classical: ecEncoding('P-256', 'sign'),
  }),
  compositeEncoding({
    algorithm: 'MLDSA44-Ed25519-SHA512',
    oid: '1.3.6.1.5.5.7.6.39',
    jwkAlgorithm: 'ML-DSA-44-Ed25519',
    pq: mlDsaEncoding('ML-DSA-44'),
    classical: okpEncoding('Ed25519'),
  }),
  compositeEncoding({
    algorithm: 'MLDSA44-RSA2048-PSS-SHA256',
    oid: '1.3.6.1.5.5.7.6.37',
    jwkAlgorithm: null,
    pq: mlDsaEncoding('ML-DSA-44'),
    classical: rsaEncoding(2048, 'PSS', 'SHA-256'),
  }),
];

/** In no document: neither an identifier nor a JOSE name. */
export const NAMELESS: readonly KeyEncoding[] = [
  compositeEncoding({
    algorithm: 'MLKEM1024-X25519',
    oid: null,
    jwkAlgorithm: null,
    pq: mlKemEncoding('ML-KEM-1024'),
    classical: okpEncoding('X25519'),
  }),
  falconEncoding('Falcon-512'),
  falconEncoding('Falcon-1024'),
];

/** A raw public key of any row, of generated halves. */
export function somePublicKey(encoding: KeyEncoding): Uint8Array {
  const form = encoding.publicKey;
  if (form.kind === 'composite') {
    const pq = new Uint8Array(form.pqLength).fill(7);
    return Uint8Array.from([...pq, ...somePublicKey({ ...encoding, publicKey: form.classical })]);
  }
  if (form.kind === 'bytes') return new Uint8Array(form.length).fill(9);
  const row = GENERATED.find(
    ({ encoding: { publicKey } }) => JSON.stringify(publicKey) === JSON.stringify(form),
  );
  if (row === undefined) throw new Error('no row of this form');
  return row.raw(row.generate().publicKey);
}

export function spkiOf(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ format: 'der', type: 'spki' }));
}

export function fromSpki(der: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' });
}

/** How OpenSSL signs for a row: hash and padding by the JOSE name, null where the algorithm says it. */
function signingOptions({ signature }: KeyEncoding) {
  const jose = signature?.jose ?? '';
  const size = /^(?:ES|PS|RS)(\d+)$/.exec(jose)?.[1];
  const hash = size === undefined ? null : `sha${size}`;
  const padding = jose.startsWith('PS') ? constants.RSA_PKCS1_PSS_PADDING : undefined;
  const pss =
    padding === undefined ? {} : { padding, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
  return { hash, pss };
}

/** As the suite's signer gives it: DER for ECDSA. */
export function signWith(encoding: KeyEncoding, key: KeyObject, message: Uint8Array): Uint8Array {
  const { hash, pss } = signingOptions(encoding);
  return new Uint8Array(sign(hash, message, { key, ...pss }));
}

export function verifyWith(
  encoding: KeyEncoding,
  key: KeyObject,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  const { hash, pss } = signingOptions(encoding);
  return verify(hash, message, { key, ...pss }, signature);
}
