/**
 * Bytes that one more version of a suite takes in the database: an estimate from the lengths of its
 * suite's row, within a tenth of what PostgreSQL says of such a row. Audit entries are not in it.
 */
import { SIGNATURE_LENGTHS } from '../crypto/engine.ts';
import type { HsmKeySpec } from '../crypto/hsm-key.ts';
import type { Suite } from '../crypto/suite.ts';

/** Tuple header and null bitmap, ids, version, suite, revision, state, two times, MAC with its length. */
const ROW_BYTES = 120;
/** Entries of the indexes by key and by suite, and the pointer in the page. */
const INDEX_BYTES = 56;
/** Seal version, nonce and tag around a secret. */
const SEAL_BYTES = 29;
const PSK_BYTES = 32;
const ML_KEM_SEED_BYTES = 64;
/** Custody, generation, lengths and alignment of a part. */
const PART_BYTES = 20;

/** A key wrapped by AES-KWP: PKCS #8 of EC and RSA keys, the bytes themselves of symmetric ones. */
function wrappedLength(spec: HsmKeySpec): number {
  switch (spec.kind) {
    case 'ec':
      return { 'P-256': 160, 'P-384': 208, 'P-521': 264 }[spec.curve];
    case 'x25519':
    case 'ed25519':
      // On the token alone: serial, installation and object id stand in the row.
      return 90;
    case 'rsa':
      // n, d, p, q, and three more of half the length.
      return Math.ceil((spec.bits / 8) * 4.6);
    case 'aes':
      return spec.bits / 8 + 8;
    case 'hmac':
      return spec.bytes + 8;
  }
}

/** The public key, and once more as the check value of the wrapped one; 48 bytes of a symmetric key's. */
function classicalLength(suite: Suite): number {
  if (suite.hsm === null) return 0;
  const part = suite.parts.find(({ half }) => half === 'classical');
  const isPair = suite.kind === 'kem' || suite.kind === 'signature';
  const publicLengths = isPair ? 2 * (part?.publicKeyLength ?? 0) : 48;
  return PART_BYTES + publicLengths + wrappedLength(suite.hsm);
}

function pqLength(suite: Suite): number {
  if (suite.pq === null) return 0;
  const part = suite.parts.find(({ half }) => half === 'pq');
  const seed = suite.kind === 'signature' ? SIGNATURE_LENGTHS[suite.pq].seed : ML_KEM_SEED_BYTES;
  return PART_BYTES + (part?.publicKeyLength ?? 0) + SEAL_BYTES + seed;
}

/** Of the row alone. */
export function rowBytes(suite: Suite): number {
  const psk = suite.kind === 'kem' ? PART_BYTES + SEAL_BYTES + PSK_BYTES : 0;
  return ROW_BYTES + classicalLength(suite) + pqLength(suite) + psk;
}

/** Of the row and its index entries. */
export function versionBytes(suite: Suite): number {
  return rowBytes(suite) + INDEX_BYTES;
}
