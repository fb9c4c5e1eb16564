/**
 * The content of a backup: rows as lines of text, in chunks as those of a sealed file.
 *
 *     header  = "TWOFOLDBACKUP" ‖ version u8 (1) ‖ chunk size u32 ‖ backup id (16) ‖ nonce prefix (7)
 *               ‖ SHA-256 of the recovery public key (32) ‖ encapsulation (1,665)
 *     content = header ‖ chunk 0 ‖ … ‖ chunk n − 1
 *
 *     content key (32) ‖ key commitment (32) = the HPKE export (MLKEM1024-P384, SHAKE256, mode base) under
 *         "content", 64 bytes, of info = "twofold/backup-keys/1" ‖ the header without the encapsulation
 *     chunk i = AES-256-GCM(content key, nonce prefix ‖ u32 i ‖ u8 last, plaintext i, aad = SHA-256(header))
 *     content hash = SHA-256("twofold/backup-content/1" ‖ SHA-256(header) ‖ SHA-256(chunk 0) ‖ …)
 *
 * Every chunk but the last is of `chunk size` bytes of plaintext, so that the length says how many there are.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Hash } from 'node:crypto';

import { CHUNK_TAG_LENGTH } from '../client/chunk-layout.ts';
import type { ChunkKeys } from '../client/chunk-cipher.ts';
import { concatBytes, equalBytes, uint32, utf8 } from '../crypto/bytes.ts';
import type { Engine } from '../crypto/engine.ts';
import { exportSecret, keySchedule } from '../crypto/hpke.ts';
import { wipe } from '../crypto/secret.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { NAME } from '../name.ts';
import { agree, fingerprintOf, recoverySuite } from '../recovery/key.ts';
import type { RecoveryPrivateKey } from '../recovery/key.ts';

export const CHUNK_SIZE = 1_048_576;
const VERSION = 1;
const MAGIC = utf8(NAME.backup);
const ID_LENGTH = 16;
const PREFIX_LENGTH = 7;
const FINGERPRINT_LENGTH = 32;
const ENCAPSULATION_LENGTH = 1665;
const START_LENGTH = MAGIC.length + 1 + 4 + ID_LENGTH + PREFIX_LENGTH + FINGERPRINT_LENGTH;
export const HEADER_LENGTH = START_LENGTH + ENCAPSULATION_LENGTH;
const KEY_LENGTH = 32;

export interface ContentKeys extends ChunkKeys {
  readonly keyCommitment: Uint8Array;
  /** To be called by whoever made them. */
  wipe(): void;
}

/** UUID as bytes. */
export const idBytes = (id: string): Uint8Array =>
  Uint8Array.from(Buffer.from(id.replaceAll('-', ''), 'hex'));

const hashOf = (header: Uint8Array): Uint8Array =>
  Uint8Array.from(createHash('sha256').update(header).digest());

function keysOf(sharedSecret: SecretBytes, header: Uint8Array): ContentKeys {
  const { hpke } = recoverySuite();
  const info = concatBytes(utf8(NAME.backupKeys), header.subarray(0, START_LENGTH));
  const context = keySchedule(hpke, sharedSecret, info);
  try {
    const both = exportSecret(hpke, context, utf8('content'), 2 * KEY_LENGTH);
    const contentKey = both.reveal().slice(0, KEY_LENGTH);
    const keyCommitment = both.reveal().slice(KEY_LENGTH);
    wipe(both);
    return {
      contentKey,
      keyCommitment,
      noncePrefix: noncePrefixOf(header),
      headerHash: hashOf(header),
      wipe: () => wipe(contentKey),
    };
  } finally {
    context.wipe();
  }
}

const noncePrefixOf = (header: Uint8Array): Uint8Array => {
  const at = MAGIC.length + 5 + ID_LENGTH;
  return header.slice(at, at + PREFIX_LENGTH);
};

/** A header for a new backup, and the keys that it stands for. */
export async function newContent(
  engine: Engine,
  publicKey: Uint8Array,
  id: string,
): Promise<{ readonly header: Uint8Array; readonly keys: ContentKeys }> {
  const { kem } = recoverySuite();
  const { sharedSecret, encapsulation } = await kem.encapsulate(engine, publicKey);
  try {
    const header = concatBytes(
      MAGIC,
      Uint8Array.of(VERSION),
      uint32(CHUNK_SIZE),
      idBytes(id),
      randomBytes(PREFIX_LENGTH),
      fingerprintOf(publicKey),
      encapsulation,
    );
    return { header, keys: keysOf(sharedSecret, header) };
  } finally {
    wipe(sharedSecret);
  }
}

/**
 * The keys of a header that was verified to be of its backup; the caller wipes them.
 * @throws TwofoldError key_mismatch for another recovery key; integrity_failed where it does not open
 */
export async function openContent(
  engine: Engine,
  header: Uint8Array,
  key: RecoveryPrivateKey,
  keyCommitment: Uint8Array,
): Promise<ContentKeys> {
  const of = header.subarray(START_LENGTH - FINGERPRINT_LENGTH, START_LENGTH);
  if (!equalBytes(of, fingerprintOf(key.publicKey))) {
    throw new TwofoldError('key_mismatch', 'The backup is encrypted to another recovery key.');
  }
  const { kem } = recoverySuite();
  const imported = engine.mlKem.importSeed('ML-KEM-1024', key.pqSeed);
  let sharedSecret: SecretBytes | undefined;
  try {
    sharedSecret = await kem.decapsulate(header.subarray(START_LENGTH), key.publicKey, {
      pq: (ciphertext) => imported.decapsulate(ciphertext),
      classical: (peer) => Promise.resolve(agree(key, peer)),
    });
    const keys = keysOf(sharedSecret, header);
    if (equalBytes(keys.keyCommitment, keyCommitment)) return keys;
    keys.wipe();
    throw new TwofoldError(
      'integrity_failed',
      'The keys of the backup are not those it was made with.',
    );
  } finally {
    imported.release();
    wipe(sharedSecret);
  }
}

/** @throws TwofoldError integrity_failed for what is no header of this backup */
export function requireHeader(header: Uint8Array, id: string): void {
  const start = concatBytes(MAGIC, Uint8Array.of(VERSION), uint32(CHUNK_SIZE), idBytes(id));
  const whole = header.length === HEADER_LENGTH;
  if (!whole || !equalBytes(header.subarray(0, start.length), start)) {
    throw new TwofoldError('integrity_failed', 'The content is not that of this backup.');
  }
}

/** The hash over all chunks, begun with the header. */
export function contentHash(header: Uint8Array): Hash {
  return createHash('sha256').update(NAME.backupContent).update(hashOf(header));
}

/** Chunks of a content of this length. @throws TwofoldError integrity_failed where there is none such */
export function chunksOf(length: number): { readonly chunks: number; readonly last: number } {
  const full = CHUNK_SIZE + CHUNK_TAG_LENGTH;
  const body = length - HEADER_LENGTH;
  const chunks = Math.ceil(body / full);
  const last = body - (chunks - 1) * full;
  if (body <= CHUNK_TAG_LENGTH || last <= CHUNK_TAG_LENGTH) {
    throw new TwofoldError('integrity_failed', 'The content is cut short.');
  }
  return { chunks, last };
}
