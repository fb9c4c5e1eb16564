/** Whether a log goes on from a checkpoint that was seen before. */
import { hash } from 'node:crypto';
import { consistencyProof, verifyConsistency } from './tree/proofs.ts';
import type { LogHead, LogReader } from './log-ports.ts';
import type { Checkpoint } from './notes.ts';
import { formatCheckpoint } from './tree/checkpoint.ts';
import type { ReadTile } from './tree/edge.ts';
import { TwofoldError } from '../errors.ts';

/** SHA-256, in hex, of name, size and root as they are signed: by this, a checkpoint is named. */
export const checkpointHash = (checkpoint: Checkpoint): string =>
  hash('sha256', formatCheckpoint(checkpoint));

/**
 * Null where the log goes on from `seen`; else what is wrong, in words. The head is one that no old primary answered:
 * the tiles of its tree may have been asked of one that has not got them, so nothing is said before they were read
 * where none can answer.
 */
export const contradictionOf = async (
  reader: Pick<LogReader, 'tile'>,
  { origin, head }: { readonly origin: string; readonly head: Pick<LogHead, 'size' | 'root'> },
  seen: Checkpoint,
): Promise<string | null> => {
  if (seen.origin !== origin) return `the log of this database is ${origin}`;
  if (head.size < seen.size) return `the log has ${String(head.size)} entries`;
  for (const certain of [false, true]) {
    const read: ReadTile = (...tile) => reader.tile(...tile, certain);
    if (await goesOn(read, head, seen)) return null;
  }
  return `the log of ${String(head.size)} entries is not a continuation of it`;
};

const goesOn = async (
  read: ReadTile,
  head: Pick<LogHead, 'size' | 'root'>,
  seen: Checkpoint,
): Promise<boolean> => {
  const proof = await consistencyProof(seen.size, head.size, read).catch((error: unknown) => {
    if (TwofoldError.is(error, 'integrity_failed')) return null;
    throw error;
  });
  return proof !== null && verifyConsistency(seen, head, proof);
};
