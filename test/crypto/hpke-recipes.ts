/**
 * What the HPKE vectors use and this service does not: other groups, one-stage KDFs and AEADs; and
 * DHKEM once more, by other libraries. Written here from RFC 9180 and draft-ietf-hpke-pq.
 */
import { createCipheriv, createHash } from 'node:crypto';

import { x448 } from '@noble/curves/ed448.js';
import { p521 } from '@noble/curves/nist.js';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js';
import { turboshake128, turboshake256 } from '@noble/hashes/sha3-addons.js';

import { aes256Gcm } from '../../src/crypto/aead.ts';
import { concatBytes, lengthPrefixed, uint16, utf8 } from '../../src/crypto/bytes.ts';
import { shake256 } from '../../src/crypto/hpke.ts';
import { classicalPublicKey, derive } from './software-halves.ts';
import { hkdf } from '../../src/crypto/hkdf.ts';
import type { Curve, HpkeAead, OneStageKdf, TwoStageKdf } from '../../src/crypto/suite.ts';

const VERSION = utf8('HPKE-v1');

/** An AEAD of node:crypto under a code point; only sealing is compared. */
function nodeAead(id: number, cipher: 'aes-128-gcm' | 'chacha20-poly1305', keyLength: number) {
  const aead: HpkeAead = {
    id,
    keyLength,
    nonceLength: 12,
    seal(key, nonce, associatedData, plaintext) {
      const options = { authTagLength: 16 };
      const encryption = createCipheriv(cipher as 'aes-128-gcm', key.reveal(), nonce, options);
      encryption.setAAD(associatedData);
      const body = encryption.update(plaintext.reveal());
      return concatBytes(body, encryption.final(), encryption.getAuthTag());
    },
    open: () => {
      throw new Error('not needed');
    },
  };
  return aead;
}

export const AEADS: Readonly<Record<number, HpkeAead>> = {
  1: nodeAead(1, 'aes-128-gcm', 16),
  2: aes256Gcm,
  3: nodeAead(3, 'chacha20-poly1305', 32),
};

export const ONE_STAGE_KDFS: Readonly<Record<number, OneStageKdf>> = {
  0x0010: {
    stages: 1,
    id: 0x0010,
    hashLength: 32,
    xof: (parts, length) =>
      createHash('shake128', { outputLength: length })
        .update(concatBytes(...parts))
        .digest(),
  },
  0x0011: shake256,
  0x0012: {
    stages: 1,
    id: 0x0012,
    hashLength: 32,
    xof: (parts, length) => turboshake128(concatBytes(...parts), { D: 0x1f, dkLen: length }),
  },
  0x0013: {
    stages: 1,
    id: 0x0013,
    hashLength: 64,
    xof: (parts, length) => turboshake256(concatBytes(...parts), { D: 0x1f, dkLen: length }),
  },
};

type NobleHash = typeof sha256 | typeof sha384 | typeof sha512;
interface HkdfRow {
  readonly hash: NobleHash;
  readonly hashLength: number;
}
/** LabeledExtract and LabeledExpand of RFC 9180 section 4. */
function labeledHkdf({ hash }: HkdfRow, suiteId: Uint8Array) {
  return {
    extract: (salt: Uint8Array, label: string, ikm: Uint8Array) =>
      extract(hash, concatBytes(VERSION, suiteId, utf8(label), ikm), salt),
    expand: (prk: Uint8Array, label: string, info: Uint8Array, length: number) =>
      expand(hash, prk, concatBytes(uint16(length), VERSION, suiteId, utf8(label), info), length),
  };
}

/** Ours, under the code points of RFC 9180 section 7.2. */
export const TWO_STAGE_KDFS: Readonly<Record<number, TwoStageKdf>> = {
  1: hkdf('SHA-256'),
  2: hkdf('SHA-384'),
  3: hkdf('SHA-512'),
};

/** DeriveKeyPair of the PQ KEMs: SHAKE256.LabeledDerive whatever the suite's KDF. */
export function derivePqSeed(kemId: number, ikm: Uint8Array, length: number): Uint8Array {
  const suiteId = concatBytes(utf8('KEM'), uint16(kemId));
  const label = lengthPrefixed(utf8('DeriveKeyPair'));
  return shake256.xof([ikm, VERSION, suiteId, label, uint16(length)], length);
}

interface Group {
  readonly hkdf: HkdfRow;
  readonly publicKey: (scalar: Uint8Array) => Uint8Array;
  readonly derive: (scalar: Uint8Array, peer: Uint8Array) => Uint8Array;
}

function nodeGroup(curve: Curve, hkdf: HkdfRow): Group {
  return {
    hkdf,
    publicKey: (scalar) => classicalPublicKey(curve, scalar),
    derive: (scalar, peer) => derive(curve, scalar, peer).reveal(),
  };
}

const [SHA256, SHA384, SHA512] = [
  { hash: sha256, hashLength: 32 },
  { hash: sha384, hashLength: 48 },
  { hash: sha512, hashLength: 64 },
];

/** DHKEM(group, HKDF) of RFC 9180 section 4.1, by KEM id. */
export const DHKEMS: Readonly<Record<number, Group>> = {
  0x0010: nodeGroup('P-256', SHA256),
  0x0011: nodeGroup('P-384', SHA384),
  0x0012: {
    hkdf: SHA512,
    publicKey: (scalar) => p521.getPublicKey(scalar, false),
    derive: (scalar, peer) => p521.getSharedSecret(scalar, peer).subarray(1),
  },
  0x0020: nodeGroup('X25519', SHA256),
  0x0021: {
    hkdf: SHA512,
    publicKey: (scalar) => x448.getPublicKey(scalar),
    derive: (scalar, peer) => x448.getSharedSecret(scalar, peer),
  },
};

/** Decap of a DHKEM. */
export function dhkemDecapsulate(kemId: number, scalar: Uint8Array, enc: Uint8Array): Uint8Array {
  const group = DHKEMS[kemId];
  if (group === undefined) throw new Error(`no DHKEM ${kemId}`);
  const kdf = labeledHkdf(group.hkdf, concatBytes(utf8('KEM'), uint16(kemId)));
  const prk = kdf.extract(new Uint8Array(0), 'eae_prk', group.derive(scalar, enc));
  const context = concatBytes(enc, group.publicKey(scalar));
  return kdf.expand(prk, 'shared_secret', context, group.hkdf.hashLength);
}
