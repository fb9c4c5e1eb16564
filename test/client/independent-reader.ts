/**
 * A reader of sealed files that was written from docs/sealed-files.md alone: Node's own crypto and
 * nothing of `src/`. It checks as little as it can, to show what the bytes mean.
 */
import { createDecipheriv, createHash, createPublicKey, hkdfSync, verify } from 'node:crypto';

const sha256 = (...parts: Uint8Array[]) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

export interface ReadParts {
  readonly header: Buffer;
  readonly headerHash: Buffer;
  readonly chunkSize: number;
  readonly noncePrefix: Buffer;
  readonly envelopes: readonly Buffer[];
  readonly chunks: readonly Buffer[];
}

export function partsOf(file: Buffer): ReadParts {
  const header = file.subarray(0, 43 + file.readUInt16BE(41));
  const areaEnd = header.length + file.readUInt32BE(37);
  const envelopes: Buffer[] = [];
  let offset = header.length + 2;
  for (let left = file.readUInt16BE(header.length); left > 0; left -= 1) {
    const length = file.readUInt16BE(offset);
    envelopes.push(file.subarray(offset + 2, offset + 2 + length));
    offset += 2 + length;
  }
  const chunkSize = file.readUInt32BE(10);
  const chunks: Buffer[] = [];
  for (let at = areaEnd; at < file.length; at += chunkSize + 16) {
    chunks.push(file.subarray(at, at + chunkSize + 16));
  }
  const noncePrefix = file.subarray(30, 37);
  return { header, headerHash: sha256(header), chunkSize, noncePrefix, envelopes, chunks };
}

export function derivedKeys(dataKey: Buffer, headerHash: Buffer) {
  const info = 'twofold/sealed-file-keys/1';
  const both = Buffer.from(hkdfSync('sha256', dataKey, headerHash, info, 64));
  return { contentKey: both.subarray(0, 32), commitment: both.subarray(32) };
}

export function plaintextOf(
  { chunks, noncePrefix, headerHash }: ReadParts,
  contentKey: Buffer,
): Buffer {
  const opened = chunks.map((chunk, index) => {
    const nonce = Buffer.alloc(12);
    noncePrefix.copy(nonce);
    nonce.writeUInt32BE(index, 7);
    nonce[11] = index === chunks.length - 1 ? 1 : 0;
    const decipher = createDecipheriv('aes-256-gcm', contentKey, nonce);
    decipher.setAAD(headerHash);
    decipher.setAuthTag(chunk.subarray(-16));
    return Buffer.concat([decipher.update(chunk.subarray(0, -16)), decipher.final()]);
  });
  return Buffer.concat(opened);
}

export function contentHashOf({ headerHash, chunks }: ReadParts): Buffer {
  const label = Buffer.from('twofold/sealed-file-content/1');
  return sha256(label, headerHash, ...chunks.map((chunk) => sha256(chunk)));
}

type Item = number | string | Buffer | Item[] | { readonly [name: string]: Item };

/** As much of CBOR as manifests use. */
function cbor(bytes: Buffer): Item {
  let at = 0;
  const argument = (low: number): number => {
    if (low < 24) return low;
    const length = 2 ** (low - 24);
    at += length;
    return Number(BigInt(`0x${bytes.subarray(at - length, at).toString('hex')}`));
  };
  const item = (): Item => {
    const initial = bytes.readUInt8(at);
    at += 1;
    const value = argument(initial & 31);
    const take = () => bytes.subarray(at, (at += value));
    switch (initial >> 5) {
      case 0:
        return value;
      case 2:
        return take();
      case 3:
        return take().toString('utf8');
      case 4:
        return Array.from({ length: value }, item);
      case 5:
        return Object.fromEntries(
          Array.from({ length: value }, (): [string, Item] => [item() as string, item()]),
        );
      default:
        throw new Error('not in a manifest');
    }
  };
  return item();
}

export interface ReadManifest {
  readonly format: string;
  readonly fileId: Buffer;
  readonly headerHash: Buffer;
  readonly contentHash: Buffer;
  readonly keyCommitment: Buffer;
  readonly size: number;
  readonly name: string;
  readonly sealedAt: number;
  readonly signer: {
    readonly keyId: Buffer;
    readonly keyVersion: number;
    readonly suite: number;
  };
}

export function manifestOf(signed: Buffer) {
  const [encoded, signature] = cbor(signed) as [Buffer, Buffer];
  return { encoded, signature, manifest: cbor(encoded) as unknown as ReadManifest };
}

/** MLDSA65-ECDSA-P256-SHA512 of draft-ietf-lamps-pq-composite-sigs, by OpenSSL's two halves. */
export function signatureVerifies(encoded: Buffer, signature: Buffer, publicKey: Buffer): boolean {
  const label = Buffer.from('COMPSIG-MLDSA65-ECDSA-P256-SHA512');
  const context = Buffer.from('twofold/sealed-file-manifest/1');
  const message = Buffer.concat([
    Buffer.from('CompositeAlgorithmSignatures2025'),
    label,
    Buffer.of(context.length),
    context,
    createHash('sha512').update(encoded).digest(),
  ]);
  const pq = createPublicKey({
    key: publicKey.subarray(0, 1_952),
    format: 'raw-public',
    asymmetricKeyType: 'ml-dsa-65',
  });
  const point = publicKey.subarray(1_952);
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((c) => c.toString('base64url'));
  const jwk = { kty: 'EC', crv: 'P-256', x: x ?? '', y: y ?? '' };
  const classical = createPublicKey({ key: jwk, format: 'jwk' });
  const pqValid = verify(null, message, { key: pq, context: label }, signature.subarray(0, 3_309));
  return pqValid && verify('sha256', message, classical, signature.subarray(3_309));
}
