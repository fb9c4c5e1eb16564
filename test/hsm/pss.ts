/** EMSA-PSS encoding of a digest (RFC 8017 section 9.1.1), with a salt as long as the hash. */
import { createHash, randomBytes } from 'node:crypto';

export function encodePss(hash: string, digest: Uint8Array, modulusBits: number): Buffer {
  const salt = randomBytes(digest.length);
  const h = createHash(hash).update(Buffer.alloc(8)).update(digest).update(salt).digest();
  const size = modulusBits / 8 - h.length - 1;
  const data = Buffer.concat([Buffer.alloc(size - salt.length - 1), Buffer.of(1), salt]);
  const masked = xor(data, mgf1(hash, h, size));
  // The block is one bit shorter than the modulus.
  masked.writeUInt8(masked.readUInt8(0) & 0x7f, 0);
  return Buffer.concat([masked, h, Buffer.of(0xbc)]);
}

/** MGF1 (appendix B.2.1). */
export function mgf1(hash: string, seed: Uint8Array, length: number): Buffer {
  const pieces: Buffer[] = [];
  for (let counter = 0, made = 0; made < length; counter += 1) {
    const suffix = Buffer.alloc(4);
    suffix.writeUInt32BE(counter);
    const piece = createHash(hash).update(seed).update(suffix).digest();
    pieces.push(piece);
    made += piece.length;
  }
  return Buffer.concat(pieces).subarray(0, length);
}

export function xor(a: Uint8Array, b: Uint8Array): Buffer {
  return Buffer.from(a.map((byte, index) => byte ^ (b[index] ?? 0)));
}
