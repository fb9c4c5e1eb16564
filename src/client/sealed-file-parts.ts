/**
 * A sealed file as its own bytes say it is: header, recipients, layout. Nothing is verified yet.
 */
import { layoutOfSealed } from './chunk-layout.ts';
import {
  FIXED_HEADER_START,
  fixedHeaderLength,
  headerHash,
  parseFixedHeader,
} from './fixed-header.ts';
import { parseRecipients } from './recipients.ts';
import type { ChunkLayout } from './chunk-layout.ts';
import type { FixedHeader } from './fixed-header.ts';
import type { Recipient } from './recipients.ts';
import type { SourceFile } from './source-file.ts';

export interface SealedFileParts {
  readonly header: FixedHeader;
  readonly headerHash: Uint8Array;
  /** Where the recipients' area begins. */
  readonly recipientsOffset: number;
  readonly recipients: readonly Recipient[];
  readonly layout: ChunkLayout;
}

/** @throws ClientError invalid_sealed_file, unsupported_sealed_file, file_failed */
export function readParts(file: SourceFile): SealedFileParts {
  const length = fixedHeaderLength(file.read(0, FIXED_HEADER_START));
  const fixedHeader = file.read(0, length);
  const header = parseFixedHeader(fixedHeader);
  const dataOffset = length + header.recipientsArea;
  const layout = layoutOfSealed(file.length, { dataOffset, chunkSize: header.chunkSize });
  return {
    header,
    headerHash: headerHash(fixedHeader),
    recipientsOffset: length,
    recipients: parseRecipients(file.read(length, header.recipientsArea)),
    layout,
  };
}
