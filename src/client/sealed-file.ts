/**
 * A sealed file that is open for reading: its manifest's signature verified with a pinned key, its
 * header and length those of the manifest. That takes no request and reads no chunk.
 *
 * What verifies what: the tag of a chunk shows that someone with the data key wrote it for this place
 * of this file. That the signer sealed it shows only the hash over all chunks, because AES-GCM's tags
 * bind no one who has the key.
 */
import { equalBytes } from '../crypto/bytes.ts';
import { wipe } from '../crypto/secret.ts';
import { openChunk } from './chunk-cipher.ts';
import { workOnChunks } from './chunk-crew.ts';
import { placeOf } from './chunk-layout.ts';
import { ClientError } from './client-error.ts';
import { deriveContentKey } from './content-key.ts';
import { MAX_SIGNED_MANIFEST, parseSignedManifest } from './manifest.ts';
import { MANIFEST_SUFFIX } from './seal.ts';
import { readParts } from './sealed-file-parts.ts';
import { verifyManifest } from './signer.ts';
import { SourceFile } from './source-file.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { KeyService } from './key-service.ts';
import type { Manifest } from './manifest.ts';
import type { Recipient } from './recipients.ts';
import type { SealedFileParts } from './sealed-file-parts.ts';
import type { Signer } from './signer.ts';

export interface OpenOptions {
  readonly path: string;
  /** `path` and `.manifest` unless given. */
  readonly manifest?: string;
  /** Whose manifests are accepted. */
  readonly signers: readonly Signer[];
}

/** @throws ClientError invalid_manifest, unknown_signer, signature_invalid, file_failed */
async function readManifest(
  path: string,
  signers: readonly Signer[],
): Promise<{ readonly manifest: Manifest; readonly signer: Signer }> {
  const file = SourceFile.open(path);
  try {
    if (file.length > MAX_SIGNED_MANIFEST) throw new ClientError('invalid_manifest');
    const signed = parseSignedManifest(file.read(0, file.length));
    return { manifest: signed.manifest, signer: await verifyManifest(signed, signers) };
  } finally {
    file.close();
  }
}

const mismatch = (detail: string) => new ClientError('content_mismatch', detail);

export class SealedFile {
  readonly manifest: Manifest;
  readonly signer: Signer;
  readonly #file: SourceFile;
  readonly #parts: SealedFileParts;
  #contentKey: SecretBytes | undefined;

  private constructor(file: SourceFile, manifest: Manifest, signer: Signer) {
    this.#file = file;
    this.manifest = manifest;
    this.signer = signer;
    const parts = readParts(file);
    const same =
      equalBytes(parts.headerHash, manifest.headerHash) &&
      equalBytes(parts.header.fileId, manifest.fileId);
    if (!same) throw mismatch('The manifest is of another file.');
    if (parts.layout.size !== manifest.size) throw mismatch('The file has another length.');
    this.#parts = parts;
  }

  /**
   * Makes no request. The caller closes it.
   * @throws ClientError invalid_manifest, unknown_signer, signature_invalid, invalid_sealed_file,
   *   unsupported_sealed_file, content_mismatch, file_failed
   */
  static async open(options: OpenOptions): Promise<SealedFile> {
    const { path, manifest: manifestPath = path + MANIFEST_SUFFIX, signers } = options;
    const { manifest, signer } = await readManifest(manifestPath, signers);
    const file = SourceFile.open(path);
    try {
      return new SealedFile(file, manifest, signer);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get recipients(): readonly Recipient[] {
    return this.#parts.recipients;
  }

  /**
   * Has the data key unwrapped by the first recipient that the service opens to us.
   * @throws ClientError content_mismatch, service_unreachable; the service's answer for the first recipient
   */
  async unlock(service: KeyService): Promise<void> {
    const { header, headerHash: aad, recipients } = this.#parts;
    const binding = { aad, encryptionContext: header.encryptionContext };
    const failures: unknown[] = [];
    for (const { keyId, envelope } of recipients) {
      try {
        this.#adopt(await service.unwrap(keyId, envelope, binding));
        return;
      } catch (error) {
        // Nobody answers: for the other recipients neither.
        if (ClientError.is(error, 'service_unreachable')) throw error;
        failures.push(error);
      }
    }
    throw failures[0];
  }

  /**
   * Reads every chunk and compares the content hash; needs no key.
   * @throws ClientError content_mismatch, interrupted, file_failed
   */
  async verify(signal?: AbortSignal): Promise<void> {
    const { layout, header, headerHash } = this.#parts;
    const keys = { contentKey: new Uint8Array(32), noncePrefix: header.noncePrefix, headerHash };
    const input = this.#file.fd;
    this.#compare(await workOnChunks({ kind: 'hash', layout, keys, input, output: -1 }, signal));
  }

  /**
   * Writes the plaintext to a file and compares the content hash in the same pass. What was written
   * is the signer's only once this has resolved.
   * @throws ClientError content_mismatch, interrupted, storage_full, file_failed
   */
  async decryptTo(output: number, signal?: AbortSignal): Promise<void> {
    const { layout } = this.#parts;
    const input = this.#file.fd;
    const task = { kind: 'open', layout, keys: this.#keys(), input, output } as const;
    this.#compare(await workOnChunks(task, signal));
  }

  /**
   * Plaintext from `offset` on, chunk by chunk; each piece has passed its chunk's tag. Proves less than
   * `decryptTo`: see above.
   * @throws ClientError invalid_value for a range outside the file, content_mismatch, file_failed
   */
  *read(offset: number, length: number): Generator<Uint8Array> {
    const { layout } = this.#parts;
    const end = offset + length;
    if (![offset, length].every(Number.isSafeInteger) || offset < 0 || length < 0) {
      throw new ClientError('invalid_value', 'A range is an offset and a length.');
    }
    if (end > layout.size) throw new ClientError('invalid_value', 'The range is not in the file.');
    const first = Math.floor(offset / layout.chunkSize);
    for (let index = first; length > 0 && index * layout.chunkSize < end; index += 1) {
      const start = index * layout.chunkSize;
      yield this.#chunk(index).subarray(Math.max(0, offset - start), end - start);
    }
  }

  close(): void {
    wipe(this.#contentKey);
    this.#contentKey = undefined;
    this.#file.close();
  }

  #chunk(index: number): Uint8Array {
    const { last, sealedOffset, sealedLength } = placeOf(this.#parts.layout, index);
    const sealed = this.#file.read(sealedOffset, sealedLength);
    return openChunk(this.#keys(), { index, last }, sealed);
  }

  /** Takes the key that belongs to a data key, if it is the one that the signer committed to. */
  #adopt(dataKey: SecretBytes): void {
    try {
      const { key, commitment } = deriveContentKey(dataKey, this.#parts.headerHash);
      if (!equalBytes(commitment, this.manifest.keyCommitment)) {
        wipe(key);
        throw mismatch('The wrapped data key is not that of the manifest.');
      }
      wipe(this.#contentKey);
      this.#contentKey = key;
    } finally {
      wipe(dataKey);
    }
  }

  #keys() {
    if (this.#contentKey === undefined) throw new Error('the sealed file was not unlocked');
    const { header, headerHash } = this.#parts;
    const { noncePrefix } = header;
    return { contentKey: this.#contentKey.reveal(), noncePrefix, headerHash };
  }

  #compare(contentHash: Uint8Array): void {
    if (!equalBytes(contentHash, this.manifest.contentHash)) {
      throw mismatch('The content is not what the signer sealed.');
    }
  }
}
