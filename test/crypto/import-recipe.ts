/**
 * The construction of docs/import.md, written again from that page on noble and on single blocks of AES, and the
 * vectors made by it: `node test/crypto/import-recipe.ts` writes test/vectors/imports.json. Nothing of `src` is used.
 */
import { createCipheriv, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { p256 } from '@noble/curves/nist.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { sha3_256, shake256 } from '@noble/hashes/sha3.js';
import { ml_dsa44 } from '@noble/post-quantum/ml-dsa.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';

/** Bytes in hex. */
export interface ImportVector {
  readonly what: string;
  /** UUID of the parameters. */
  readonly id: string;
  readonly namespace: string;
  readonly suite: { readonly id: string; readonly number: number };
  /** d ‖ z, and the scalar on P-256, of the envelope's key. */
  readonly envelopeKey: { readonly seed: string; readonly scalar: string };
  /** Scalars on P-256 of the key in the HSM and of the importer; null for seeds. */
  readonly wrapping: { readonly importing: string; readonly ephemeral: string } | null;
  /** The coins of ML-KEM, and the ephemeral scalar on P-256, of the envelope. */
  readonly coins: { readonly mlKem: string; readonly scalar: string };
  /** PKCS #8, the secret, or the seed. */
  readonly key: string;
  /** Raw; empty for a secret key. */
  readonly publicKey: string;
  readonly content: string;
  readonly envelope: string;
}

export const IMPORT_VECTORS = join(import.meta.dirname, '../vectors/imports.json');
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));
const joined = (...parts: readonly Uint8Array[]) => Uint8Array.from(Buffer.concat(parts));
const ascii = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'));
const u16 = (number: number) => Uint8Array.of(number >> 8, number & 0xff);
const lp = (bytes: Uint8Array) => joined(u16(bytes.length), bytes);
const xor = (a: Uint8Array, b: Uint8Array) => a.map((byte, at) => byte ^ (b[at] ?? 0));

/** One block of AES-256. */
function aes(key: Uint8Array, block: Uint8Array): Uint8Array {
  const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
  return joined(cipher.update(block), cipher.final());
}

/** RFC 5649 section 4.1, for more than 8 bytes. */
function wrapPadded(key: Uint8Array, secret: Uint8Array): Uint8Array {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(secret.length);
  const padded = joined(secret, new Uint8Array((8 - (secret.length % 8)) % 8));
  let a = joined(bytesOf('a65959a6'), length);
  const blocks = Array.from({ length: padded.length / 8 }, (_, at) =>
    padded.slice(8 * at, 8 * at + 8),
  );
  for (let turn = 0; turn < 6; turn += 1) {
    for (const [at, block] of blocks.entries()) {
      const made = aes(key, joined(a, block));
      const count = Buffer.alloc(8);
      count.writeUInt32BE(blocks.length * turn + at + 1, 4);
      a = xor(made.slice(0, 8), count);
      blocks[at] = made.slice(8);
    }
  }
  return joined(a, ...blocks);
}

const point = (scalar: string) => p256.getPublicKey(bytesOf(scalar), false);
const ecdh = (scalar: string, peer: Uint8Array) =>
  p256.getSharedSecret(bytesOf(scalar), peer, true).subarray(1);
const idBytes = (id: string) => bytesOf(id.replaceAll('-', ''));

export function contentOf({ id, suite, wrapping, key }: ImportVector): Uint8Array {
  if (wrapping === null) return bytesOf(key);
  const [importing, peer] = [point(wrapping.importing), point(wrapping.ephemeral)];
  const label = ascii('twofold/import-wrapping/1');
  const derivation = sha256(joined(label, idBytes(id), u16(suite.number), importing, peer));
  const shared = ecdh(wrapping.ephemeral, importing);
  const first = aes(shared, derivation.slice(0, 16));
  const second = aes(shared, xor(first, derivation.slice(16)));
  return joined(peer, wrapPadded(joined(first, second), bytesOf(key)));
}

export function envelopeOf(vector: ImportVector): Uint8Array {
  const { envelopeKey, coins, id, suite, namespace, publicKey } = vector;
  const { publicKey: encapsulationKey } = ml_kem768.keygen(bytesOf(envelopeKey.seed));
  const recipient = point(envelopeKey.scalar);
  const { cipherText, sharedSecret } = ml_kem768.encapsulate(
    encapsulationKey,
    bytesOf(coins.mlKem),
  );
  const ephemeral = point(coins.scalar);
  const classical = ecdh(coins.scalar, recipient);
  const label = ascii('MLKEM768-P256');
  const secret = sha3_256(joined(sharedSecret, classical, ephemeral, recipient, label));

  const info = joined(
    ascii('twofold/import/1'),
    idBytes(id),
    u16(suite.number),
    lp(ascii(namespace)),
    sha256(bytesOf(publicKey)),
  );
  const suiteId = joined(ascii('HPKE'), u16(0x0050), u16(0x0011), u16(0x0002));
  const length = 32 + 12 + 64;
  const schedule = [
    ...[lp(new Uint8Array(0)), lp(secret)],
    ...[ascii('HPKE-v1'), suiteId, lp(ascii('secret')), u16(length)],
    ...[Uint8Array.of(0), lp(new Uint8Array(0)), lp(info)],
  ];
  const derived = shake256(joined(...schedule), { dkLen: length });
  const gcm = createCipheriv('aes-256-gcm', derived.subarray(0, 32), derived.subarray(32, 44));
  const sealed = [gcm.update(bytesOf(vector.content)), gcm.final(), gcm.getAuthTag()];
  return joined(cipherText, ephemeral, ...sealed);
}

type Start = Pick<ImportVector, 'what' | 'suite' | 'key' | 'publicKey'>;

function make(start: Start, isSeed: boolean): ImportVector {
  const scalar = () => hexOf(p256.utils.randomSecretKey());
  const vector = {
    ...start,
    id: randomUUID(),
    namespace: 'team-a',
    envelopeKey: { seed: hexOf(randomBytes(64)), scalar: scalar() },
    wrapping: isSeed ? null : { importing: scalar(), ephemeral: scalar() },
    coins: { mlKem: hexOf(randomBytes(32)), scalar: scalar() },
    content: '',
    envelope: '',
  };
  const whole = { ...vector, content: hexOf(contentOf(vector)) };
  return { ...whole, envelope: hexOf(envelopeOf(whole)) };
}

if (import.meta.main) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const spki = publicKey.export({ format: 'der', type: 'spki' });
  const seed = randomBytes(32);
  const vectors = [
    make(
      {
        what: 'a private key on P-256',
        suite: { id: 'ECDSA-P256-SHA256', number: 0x0531 },
        key: privateKey.export({ format: 'der', type: 'pkcs8' }).toString('hex'),
        publicKey: hexOf(spki.subarray(-65)),
      },
      false,
    ),
    make(
      {
        what: 'a secret key',
        suite: { id: 'A256GCM', number: 0x0301 },
        key: hexOf(randomBytes(32)),
        publicKey: '',
      },
      false,
    ),
    make(
      {
        what: 'a seed',
        suite: { id: 'ML-DSA-44', number: 0x0501 },
        key: hexOf(seed),
        publicKey: hexOf(ml_dsa44.keygen(Uint8Array.from(seed)).publicKey),
      },
      true,
    ),
  ];
  const file = { source: 'test/crypto/import-recipe.ts of this project', vectors };
  writeFileSync(IMPORT_VECTORS, `${JSON.stringify(file, null, 2)}\n`);
}
