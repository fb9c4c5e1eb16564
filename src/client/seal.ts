/**
 * Sealing: any plain file into a sealed file and a signed manifest beside it. The manifest gets its
 * name first, the sealed file last: where there is a sealed file, it is whole and its manifest is there.
 */
import { basename } from 'node:path';

import { wipe } from '../crypto/secret.ts';
import { workOnChunks } from './chunk-crew.ts';
import { layoutOfPlaintext } from './chunk-layout.ts';
import { ClientError, fileFailure, parsedAs, throwIfAborted } from './client-error.ts';
import { DATA_KEY_LENGTH, deriveContentKey } from './content-key.ts';
import { writeFully } from './file-bytes.ts';
import { CHUNK_SIZE, encodeFixedHeader, headerHash, newFixedHeader } from './fixed-header.ts';
import { encodeManifest, encodeSignedManifest } from './manifest.ts';
import { encodeRecipients, parseRecipients, recipientsArea } from './recipients.ts';
import { MANIFEST_CONTEXT, manifestDigest, manifestSignedBy, parseSigner } from './signer.ts';
import { SourceFile } from './source-file.ts';
import { assertAbsent, TargetFile, withdraw } from './target-file.ts';
import type { ChunkLayout } from './chunk-layout.ts';
import type { ContentKey } from './content-key.ts';
import type { EncryptionContext, FixedHeader } from './fixed-header.ts';
import type { KeyService } from './key-service.ts';
import type { Manifest } from './manifest.ts';
import type { Recipient } from './recipients.ts';
import type { Signer } from './signer.ts';

/** The manifest of `x` is `x.manifest`, unless it is named otherwise. */
export const MANIFEST_SUFFIX = '.manifest';

export interface SealOptions {
  readonly service: KeyService;
  readonly source: string;
  /** Neither it nor its manifest may exist. */
  readonly target: string;
  /** Keys of purpose `wrap` that shall each open the file, none quantum-vulnerable: 1 to 64 names or UUIDs. */
  readonly recipients: readonly string[];
  /** Key of purpose `sign`. */
  readonly signer: string;
  readonly encryptionContext?: EncryptionContext;
  /** Bytes: a power of two, 4 KiB to 8 MiB; 1 MiB unless given. */
  readonly chunkSize?: number;
  readonly signal?: AbortSignal;
}

export interface Sealed {
  readonly manifest: Manifest;
  readonly signer: Signer;
}

/** What is known of a sealed file before its data key is made. */
interface Plan {
  readonly header: FixedHeader;
  readonly fixedHeader: Uint8Array;
  readonly headerHash: Uint8Array;
  readonly layout: ChunkLayout;
}

/**
 * @throws ClientError; neither file is there then, and no temporary one
 */
export async function sealFile(options: SealOptions): Promise<Sealed> {
  const { service, target, signal } = options;
  await assertAbsent(target);
  await assertAbsent(target + MANIFEST_SUFFIX);
  const source = SourceFile.open(options.source);
  const files: TargetFile[] = [];
  const create = (path: string) => {
    const file = TargetFile.create(path, 0o666);
    files.push(file);
    return file;
  };
  try {
    const plan = planOf(source.length, options);
    const signer = parseSigner(await service.publicKey(options.signer));
    const sealed = create(target);
    const contents = await sealInto(sealed, source, plan, options);
    const manifest = manifestOf(plan, contents, signer, basename(options.source));
    const signed = create(target + MANIFEST_SUFFIX);
    writeAt(signed, await signManifest(manifest, signer, options), 0);
    throwIfAborted(signal);
    await publishBoth(sealed, signed);
    return { manifest, signer };
  } finally {
    source.close();
    for (const file of files) await file.discard();
  }
}

function planOf(size: number, options: SealOptions): Plan {
  const { chunkSize = CHUNK_SIZE, encryptionContext = {}, recipients } = options;
  // The area's own length does not change that of the header.
  const encoded = (area: number) => {
    const header = newFixedHeader({ chunkSize, encryptionContext, recipientsArea: area });
    return { header, fixedHeader: parsedAs('invalid_value', () => encodeFixedHeader(header)) };
  };
  const area = recipientsArea(encoded(0).fixedHeader.length, recipients.length);
  const { header, fixedHeader } = encoded(area);
  const dataOffset = fixedHeader.length + area;
  const layout = layoutOfPlaintext(size, { dataOffset, chunkSize });
  return { header, fixedHeader, headerHash: headerHash(fixedHeader), layout };
}

interface Contents {
  readonly contentHash: Uint8Array;
  readonly keyCommitment: Uint8Array;
}

/** Writes and flushes everything of the sealed file but its name. */
async function sealInto(
  sealed: TargetFile,
  source: SourceFile,
  { header, fixedHeader, headerHash, layout }: Plan,
  options: SealOptions,
): Promise<Contents> {
  const { envelopes, contentKey } = await wrapDataKey(headerHash, options);
  try {
    const recipients = encodeRecipients(envelopes, header.recipientsArea);
    // What the service answered, read as a reader will: no file is published that none can open.
    assertLasting(readBack(recipients), options.recipients);
    writeAt(sealed, fixedHeader, 0);
    writeAt(sealed, recipients, fixedHeader.length);
    const { noncePrefix } = header;
    const keys = { contentKey: contentKey.key.reveal(), noncePrefix, headerHash };
    const contentHash = await workOnChunks(
      { kind: 'seal', layout, keys, input: source.fd, output: sealed.fd },
      options.signal,
    );
    source.assertUnchanged();
    await sealed.flush();
    return { contentHash, keyCommitment: contentKey.commitment };
  } finally {
    wipe(contentKey.key);
  }
}

/** @throws ClientError unexpected_answer */
function readBack(area: Uint8Array): readonly Recipient[] {
  try {
    return parseRecipients(area);
  } catch (error) {
    throw new ClientError('unexpected_answer', 'What was wrapped is no envelope.', error);
  }
}

/**
 * That no recipient's suite gives the file to whoever keeps it until there is a quantum computer.
 * @throws ClientError invalid_value
 */
function assertLasting(recipients: readonly Recipient[], names: readonly string[]): void {
  for (const [index, { suite }] of recipients.entries()) {
    if (!suite.strength.quantumVulnerable) continue;
    const key = names[index] ?? '';
    throw new ClientError(
      'invalid_value',
      `${key} is of ${suite.id}, which a quantum computer opens.`,
    );
  }
}

/** A new data key of the first recipient, wrapped for the others too. */
async function wrapDataKey(
  aad: Uint8Array,
  { service, recipients, encryptionContext = {} }: SealOptions,
): Promise<{ readonly envelopes: readonly Uint8Array[]; readonly contentKey: ContentKey }> {
  const [first, ...others] = recipients;
  if (first === undefined) throw new ClientError('invalid_value', 'A recipient is needed.');
  const binding = { aad, encryptionContext };
  const { plaintext, envelope } = await service.createDataKey(first, DATA_KEY_LENGTH, binding);
  try {
    const envelopes = [envelope];
    for (const key of others) envelopes.push(await service.wrap(key, plaintext, binding));
    return { envelopes, contentKey: deriveContentKey(plaintext, aad) };
  } finally {
    wipe(plaintext);
  }
}

function manifestOf(
  { header, headerHash, layout }: Plan,
  { contentHash, keyCommitment }: Contents,
  { keyId, keyVersion, suite }: Signer,
  name: string,
): Manifest {
  return {
    fileId: header.fileId,
    headerHash,
    contentHash,
    keyCommitment,
    size: layout.size,
    name,
    sealedAt: new Date(),
    signer: { keyId, keyVersion, suite: suite.number },
  };
}

/** The signed manifest; a signature that does not verify here is never written. */
async function signManifest(
  manifest: Manifest,
  signer: Signer,
  { service }: SealOptions,
): Promise<Uint8Array> {
  const encoded = encodeManifest(manifest);
  const signature = await service.sign(signer.keyId, {
    digest: manifestDigest(encoded),
    signatureContext: MANIFEST_CONTEXT,
    keyVersion: signer.keyVersion,
  });
  if (!(await manifestSignedBy(signer, { encoded, signature }))) {
    throw new ClientError('unexpected_answer', 'The signature that the service made is not valid.');
  }
  return encodeSignedManifest(encoded, signature);
}

async function publishBoth(sealed: TargetFile, signed: TargetFile): Promise<void> {
  await signed.flush();
  await signed.publish();
  try {
    await sealed.publish();
  } catch (error) {
    await withdraw(signed.path);
    throw error;
  }
}

/** @throws ClientError storage_full, file_failed */
function writeAt(file: TargetFile, bytes: Uint8Array, position: number): void {
  try {
    writeFully(file.fd, [bytes], position);
  } catch (error) {
    throw fileFailure(error);
  }
}
