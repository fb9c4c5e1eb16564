/** Whether a folder is a whole backup, of whom, and what is in it: without a service, and in full by shares. */
import type { Engine } from '../crypto/engine.ts';
import { equalBytes } from '../crypto/bytes.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import { TwofoldError } from '../errors.ts';
import { formatVkey } from '../audit/tree/vkey.ts';
import type { Vkey } from '../audit/tree/vkey.ts';
import { fingerprintOf, recoveryKeyOf } from '../recovery/key.ts';
import { verifyChunks } from './chunk-reader.ts';
import type { Content } from './chunk-reader.ts';
import { HEADER_LENGTH, openContent, requireHeader } from './content.ts';
import type { ContentKeys } from './content.ts';
import { countLines } from './counting.ts';
import { openFolder } from './folder.ts';
import type { OpenedFolder } from './folder.ts';
import { bytesOf, parseManifest, verifySignatures } from './manifest.ts';
import type { Manifest, Vouched } from './manifest.ts';

/** A backup whose manifest is signed and whose content is as long as it should be. */
export interface OpenBackup {
  readonly path: string;
  readonly manifest: Manifest;
  /** As they stand, for what vouches for them. */
  readonly manifestBytes: Uint8Array;
  readonly signatures: string;
  readonly vouched: Vouched;
  readonly content: Content;
  close(): Promise<void>;
}

/**
 * @param trust verifier keys that one of both signers must be among; null: whoever signed it
 * @throws TwofoldError not_found, integrity_failed for a damaged or truncated one, forbidden for one that
 *   others have signed
 */
export async function openBackup(
  engine: Pick<Engine, 'signatures'>,
  path: string,
  trust: readonly Vkey[] | null,
): Promise<OpenBackup> {
  const folder = await openFolder(path);
  try {
    return await opened(engine, path, folder, trust);
  } catch (error) {
    await folder.content.close();
    throw error;
  }
}

async function opened(
  engine: Pick<Engine, 'signatures'>,
  path: string,
  { manifest: manifestBytes, signatures, content: file, length }: OpenedFolder,
  trust: readonly Vkey[] | null,
): Promise<OpenBackup> {
  const vouched = await verifySignatures(engine, manifestBytes, signatures);
  requireTrusted(vouched, trust);
  const manifest = parseManifest(manifestBytes);
  if (length !== manifest.content.length) {
    const than = length < manifest.content.length ? 'shorter' : 'longer';
    const detail = `The content is ${than} than what was written: the backup is truncated or damaged.`;
    throw new TwofoldError('integrity_failed', detail);
  }
  const header = Buffer.alloc(HEADER_LENGTH);
  await file.read(header, 0, HEADER_LENGTH, 0);
  requireHeader(header, manifest.id);
  const content = {
    file,
    length,
    header: Uint8Array.from(header),
    hash: bytesOf(manifest.content.hash),
  };
  const texts = { manifestBytes, signatures };
  return { path, manifest, ...texts, vouched, content, close: () => file.close() };
}

/** Both signatures, of keys of one log: a quantum computer forges one of them. */
function requireTrusted({ ed25519, mlDsa44 }: Vouched, trust: readonly Vkey[] | null): void {
  if (trust === null) return;
  const known = new Set(trust.map(formatVkey));
  if (known.has(formatVkey(ed25519)) && known.has(formatVkey(mlDsa44))) return;
  const why = trust.some(({ name }) => name === ed25519.name)
    ? 'the keys of the log changed since they were noted, or somebody else uses its name'
    : 'it is of another installation';
  throw new TwofoldError(
    'forbidden',
    `The backup is signed by ${ed25519.name}, with keys that are not trusted: ${why}.`,
  );
}

/**
 * The keys of the content; the caller wipes them.
 * @throws TwofoldError key_mismatch for shares of another recovery key
 */
export async function keysBySeed(
  engine: Engine,
  { manifest, content }: OpenBackup,
  seed: SecretBytes,
): Promise<ContentKeys> {
  const key = recoveryKeyOf(engine, seed);
  try {
    if (!equalBytes(fingerprintOf(key.publicKey), bytesOf(manifest.recoveryKey))) {
      throw new TwofoldError('key_mismatch', 'The shares are of another recovery key.');
    }
    const commitment = bytesOf(manifest.content.keyCommitment);
    return await openContent(engine, content.header, key, commitment);
  } finally {
    key.wipe();
  }
}

/**
 * Reads all of it: without a seed what anyone can see, with it every chunk is opened and every row counted.
 * @throws TwofoldError integrity_failed, key_mismatch
 */
export async function verifyContent(
  engine: Engine,
  backup: OpenBackup,
  seed: SecretBytes | null,
): Promise<void> {
  const { content, manifest } = backup;
  if (seed === null) return verifyChunks(content);
  const keys = await keysBySeed(engine, backup, seed);
  try {
    const counted = await countLines(content, keys);
    const { tables, probes } = manifest;
    if (JSON.stringify(counted) !== JSON.stringify({ tables, probes })) {
      throw new TwofoldError('integrity_failed', 'The content is not what the manifest says.');
    }
  } finally {
    keys.wipe();
  }
}
