/**
 * Bytes of a checkpoint as its log signs it (C2SP tlog-checkpoint, signed-note, tlog-cosignature): the
 * text without extension lines, and signature lines of types 0x01 (Ed25519) and 0x06 (ML-DSA-44).
 */
import { createHash } from 'node:crypto';
import { concatBytes, utf8 } from '../crypto/bytes.ts';
import type { LogKeyKind } from './key-ports.ts';

const TYPES: Readonly<Record<LogKeyKind, number>> = { ed25519: 0x01, 'ml-dsa-44': 0x06 };
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** First 4 bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key). */
export const keyIdOf = (name: string, type: number, publicKey: Uint8Array): Uint8Array =>
  createHash('sha256')
    .update(concatBytes(utf8(`${name}\n`), Uint8Array.of(type), publicKey))
    .digest()
    .subarray(0, 4);

export const noteKeyId = (name: string, kind: LogKeyKind, publicKey: Uint8Array): Uint8Array =>
  keyIdOf(name, TYPES[kind], publicKey);

/** `<name>+<id in hex>+<base64 of type and public key>`. */
export const vkeyOfType = (name: string, type: number, publicKey: Uint8Array): string => {
  const id = Buffer.from(keyIdOf(name, type, publicKey)).toString('hex');
  return `${name}+${id}+${base64(concatBytes(Uint8Array.of(type), publicKey))}`;
};

export const vkeyOf = (name: string, kind: LogKeyKind, publicKey: Uint8Array): string =>
  vkeyOfType(name, TYPES[kind], publicKey);

export const checkpointText = (origin: string, size: number, root: Uint8Array): string =>
  `${origin}\n${String(size)}\n${base64(root)}\n`;

export const signatureLine = (name: string, keyId: Uint8Array, signature: Uint8Array): string =>
  `— ${name} ${base64(concatBytes(keyId, signature))}\n`;

const uint64 = (value: number | bigint): Uint8Array => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};

/** A cosignature as its line has it: seconds ‖ signature. */
export const timedSignature = (seconds: number, signature: Uint8Array): Uint8Array =>
  concatBytes(uint64(seconds), signature);

/** What an ML-DSA-44 cosigner signs; the empty context (FIPS 204). */
export const cosignedBytes = (
  name: string,
  seconds: number | bigint,
  checkpoint: { readonly origin: string; readonly size: number; readonly root: Uint8Array },
): Uint8Array => {
  const prefixed = (text: string) => concatBytes(Uint8Array.of(utf8(text).length), utf8(text));
  return concatBytes(
    utf8('subtree/v1\n\0'),
    prefixed(name),
    uint64(seconds),
    prefixed(checkpoint.origin),
    uint64(0),
    uint64(checkpoint.size),
    checkpoint.root,
  );
};
