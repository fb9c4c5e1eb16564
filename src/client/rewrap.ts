/**
 * Rewrapping after a rotation: new envelopes in the recipients' area, every other byte as it was. No
 * data key is unwrapped here, and the manifest stays valid.
 *
 * An area that is half written would lose the data key for good, so the change is made to a copy, which
 * then takes the place of the file; where the file system can share blocks, the copy costs nothing.
 */
import { realpath } from 'node:fs/promises';

import { parseEnvelope } from '../crypto/envelope.ts';
import { ClientError, fileFailure, parsedAs, throwIfAborted } from './client-error.ts';
import { writeFully } from './file-bytes.ts';
import { encodeRecipients } from './recipients.ts';
import { readParts } from './sealed-file-parts.ts';
import { SourceFile } from './source-file.ts';
import { TargetFile } from './target-file.ts';
import type { KeyService, Rewrapped } from './key-service.ts';
import type { Recipient } from './recipients.ts';
import type { SealedFileParts } from './sealed-file-parts.ts';

export interface RewrapOptions {
  readonly service: KeyService;
  readonly path: string;
  readonly signal?: AbortSignal;
}

export interface RewrapResult {
  readonly recipients: number;
  /** How many envelopes are new; the file was not touched where none is. */
  readonly changed: number;
}

/**
 * Moves the data key to the primary version of each recipient's key.
 * @throws ClientError; the file is as it was then, but for `not_durable`: all of it is there with its new
 *   envelopes, and a power cut may bring the former file back
 */
export async function rewrapFile({ service, path, signal }: RewrapOptions): Promise<RewrapResult> {
  const target = await realpath(path).catch((error: unknown) => {
    throw fileFailure(error);
  });
  const file = SourceFile.open(target);
  try {
    const parts = readParts(file);
    const rewrapped = await rewrapAll(service, parts);
    const changed = rewrapped.filter((one) => one.changed).length;
    if (changed > 0) {
      const envelopes = rewrapped.map(({ envelope }) => envelope);
      const area = encodeRecipients(envelopes, parts.header.recipientsArea);
      await replaceArea(file, parts.recipientsOffset, area, signal);
    }
    return { recipients: rewrapped.length, changed };
  } finally {
    file.close();
  }
}

async function rewrapAll(
  service: KeyService,
  { header, headerHash: aad, recipients }: SealedFileParts,
): Promise<readonly Rewrapped[]> {
  const binding = { aad, encryptionContext: header.encryptionContext };
  const rewrapped: Rewrapped[] = [];
  for (const recipient of recipients) {
    const one = await service.rewrap(recipient.keyId, recipient.envelope, binding);
    assertSuccessor(recipient, one.envelope);
    rewrapped.push(one);
  }
  return rewrapped;
}

/**
 * Whether the data key is in it shows only an unwrap, to which whoever rewraps may have no right.
 * @throws ClientError unexpected_answer for what is no envelope of the same key, or of an older version
 */
function assertSuccessor(before: Recipient, envelope: Uint8Array): void {
  const after = parsedAs('unexpected_answer', () => parseEnvelope(envelope));
  if (after.keyId !== before.keyId || after.keyVersion < before.keyVersion) {
    throw new ClientError('unexpected_answer', 'The new envelope is of another key or older.');
  }
}

async function replaceArea(
  file: SourceFile,
  offset: number,
  area: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const copy = await TargetFile.copyOf(file, signal);
  try {
    try {
      writeFully(copy.fd, [area], offset);
    } catch (error) {
      throw fileFailure(error);
    }
    await copy.flush();
    file.assertInPlace();
    throwIfAborted(signal);
    await copy.replace();
  } finally {
    await copy.discard();
  }
}
