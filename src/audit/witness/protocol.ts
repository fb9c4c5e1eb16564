/** The bodies of C2SP tlog-witness 1.0.0: `add-checkpoint` and its answers. */
import { parseNote } from '../notes.ts';
import type { CheckpointNote } from '../notes.ts';

const HASH_LENGTH = 32;
/** As the protocol says: a tree of 2^63 leaves needs no more. */
const MAX_PROOF = 63;

/** Of the answer that says at which size the witness stands. */
export const SIZE_TYPE = 'text/x.tlog.size';

export interface AddCheckpoint {
  /** Size that the proof begins at. */
  readonly old: number;
  readonly proof: readonly Uint8Array[];
  readonly note: CheckpointNote;
}

export const addCheckpointBody = (
  old: number,
  proof: readonly Uint8Array[],
  note: string,
): string => {
  const hashes = proof.map((hash) => `${Buffer.from(hash).toString('base64')}\n`);
  return `old ${String(old)}\n${hashes.join('')}\n${note}`;
};

/** Null for what is malformed. */
export const parseAddCheckpoint = (body: string): AddCheckpoint | null => {
  const end = body.indexOf('\n\n');
  if (end < 0) return null;
  const [first = '', ...lines] = body.slice(0, end).split('\n');
  const [, size] = /^old (0|[1-9]\d{0,15})$/u.exec(first) ?? [];
  const old = Number(size);
  if (!Number.isSafeInteger(old) || lines.length > MAX_PROOF) return null;
  const proof = lines.map((line) => Uint8Array.from(Buffer.from(line, 'base64')));
  const canonical = proof.every(
    (hash, index) =>
      hash.length === HASH_LENGTH && Buffer.from(hash).toString('base64') === lines[index],
  );
  const note = parseNote(body.slice(end + 2));
  return canonical && note !== null ? { old, proof, note } : null;
};

/** A decimal size and a line end; null for anything else. */
export const parseSizeAnswer = (body: string): number | null => {
  const [, text] = /^(0|[1-9]\d{0,15})\n$/u.exec(body) ?? [];
  const size = Number(text);
  return Number.isSafeInteger(size) ? size : null;
};
