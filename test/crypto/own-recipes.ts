/**
 * The KEMs that are ours alone, written again from ARCHITECTURE.md on noble and node:crypto, and the
 * vectors made by it: `node test/crypto/own-recipes.ts` writes test/vectors/own-kems.json.
 */
import {
  constants,
  createPrivateKey,
  createPublicKey,
  privateDecrypt,
  publicEncrypt,
} from 'node:crypto';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { x25519 } from '@noble/curves/ed25519.js';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha384 } from '@noble/hashes/sha2.js';
import { ml_kem1024 } from '@noble/post-quantum/ml-kem.js';

/** Hex. */
export interface OwnKemVector {
  readonly suite: string;
  /** d ‖ z; empty for RSA. */
  readonly seed: string;
  /** X25519's 32 bytes, or RSAPrivateKey in DER. */
  readonly classical: string;
  readonly publicKey: string;
  readonly encapsulation: string;
  readonly sharedSecret: string;
}

export const OWN_KEMS = join(import.meta.dirname, '../vectors/own-kems.json');
const PKCS1 = { format: 'der', type: 'pkcs1' } as const;
const PADDING = constants.RSA_PKCS1_OAEP_PADDING;
const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));

function prefixed(bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}

interface Parts {
  readonly secrets: readonly [Uint8Array, Uint8Array];
  readonly ciphertexts: readonly [Uint8Array, Uint8Array];
  readonly publicKeys: readonly [Uint8Array, Uint8Array];
}

function combine({ secrets, ciphertexts, publicKeys }: Parts): Uint8Array {
  const key = extract(sha384, Uint8Array.from(Buffer.concat(secrets)), new Uint8Array(0));
  const label = Buffer.from('twofold/MLKEM1024-X25519/1', 'utf8');
  const info = Buffer.concat([label, ...ciphertexts, ...publicKeys].map(prefixed));
  return expand(sha384, key, Uint8Array.from(info), 64);
}

/** The secret of a vector of MLKEM1024-X25519 from its private halves. */
function openHybrid(vector: OwnKemVector): Uint8Array {
  const { publicKey, secretKey } = ml_kem1024.keygen(bytesOf(vector.seed));
  const scalar = bytesOf(vector.classical);
  const encapsulation = bytesOf(vector.encapsulation);
  const [pq, ephemeral] = [encapsulation.subarray(0, 1568), encapsulation.subarray(1568)];
  return combine({
    secrets: [ml_kem1024.decapsulate(pq, secretKey), x25519.getSharedSecret(scalar, ephemeral)],
    ciphertexts: [pq, ephemeral],
    publicKeys: [publicKey, x25519.getPublicKey(scalar)],
  });
}

function openRsa(vector: OwnKemVector): Uint8Array {
  const key = createPrivateKey({ key: Buffer.from(vector.classical, 'hex'), ...PKCS1 });
  const options = { key, padding: PADDING, oaepHash: 'sha256' };
  return Uint8Array.from(privateDecrypt(options, bytesOf(vector.encapsulation)));
}

export function openIndependently(vector: OwnKemVector): string {
  const secret = vector.seed === '' ? openRsa(vector) : openHybrid(vector);
  return Buffer.from(secret).toString('hex');
}

function makeHybrid(): OwnKemVector {
  const seed = Uint8Array.from(randomBytes(64));
  const [scalar, ephemeral] = [x25519.utils.randomSecretKey(), x25519.utils.randomSecretKey()];
  const { publicKey } = ml_kem1024.keygen(seed);
  const { cipherText } = ml_kem1024.encapsulate(publicKey);
  const hex = (...parts: readonly Uint8Array[]) => Buffer.concat(parts).toString('hex');
  const vector = {
    suite: 'MLKEM1024-X25519',
    seed: hex(seed),
    classical: hex(scalar),
    publicKey: hex(publicKey, x25519.getPublicKey(scalar)),
    encapsulation: hex(cipherText, x25519.getPublicKey(ephemeral)),
    sharedSecret: '',
  };
  return { ...vector, sharedSecret: openIndependently(vector) };
}

function makeRsa(bits: number): OwnKemVector {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: bits });
  const publicKey = createPublicKey(privateKey);
  const secret = randomBytes(32);
  const options = { key: publicKey, padding: PADDING, oaepHash: 'sha256' };
  return {
    suite: `RSA-OAEP-${String(bits)}-SHA256`,
    seed: '',
    classical: privateKey.export(PKCS1).toString('hex'),
    publicKey: publicKey.export(PKCS1).toString('hex'),
    encapsulation: publicEncrypt(options, secret).toString('hex'),
    sharedSecret: secret.toString('hex'),
  };
}

if (import.meta.main) {
  const vectors = [makeHybrid(), ...[2048, 3072, 4096].map(makeRsa)];
  const file = { source: 'test/crypto/own-recipes.ts of this project', vectors };
  writeFileSync(OWN_KEMS, `${JSON.stringify(file, null, 2)}\n`);
}
