/** Checkpoints of an export and those seen before, in the order of their sizes, each held against the tree. */
import { TwofoldError } from '../../errors.ts';
import { parseSignedCheckpoint } from '../tree/checkpoint.ts';
import type { SignedCheckpoint } from '../tree/checkpoint.ts';
import { verifyNote } from '../tree/signatures.ts';
import { SIGNATURE_TYPE } from '../tree/vkey.ts';
import type { Vkey } from '../tree/vkey.ts';
import { MalformedFile } from './folder.ts';
import type { ExportFolder } from './folder.ts';
import type { Problems } from './problems.ts';

export const CHECKPOINTS_FILE = 'checkpoints';
/** With the line feeds before it, which is that of the note, and after it. */
const SEPARATOR = '\n--\n';

/** Where a checkpoint was read. */
export interface FoundCheckpoint extends SignedCheckpoint {
  readonly where: string;
  /** Seen outside this export: no roll-back can be behind it. */
  readonly seen: boolean;
}

/** Those of the export's list, in its order; what is wrong with the list ends it. */
export function* listedCheckpoints(
  folder: ExportFolder,
  problems: Problems,
): Generator<FoundCheckpoint> {
  let number = 0;
  let last = 0;
  try {
    for (const text of folder.pieces(CHECKPOINTS_FILE, SEPARATOR)) {
      number += 1;
      const where = `${CHECKPOINTS_FILE}, number ${number}`;
      const checkpoint = parseFound(`${text}\n`, where, problems);
      if (checkpoint === null) continue;
      if (checkpoint.size < last) {
        problems.add('checkpoint_order', null, where, `size ${checkpoint.size} after ${last}`);
        continue;
      }
      last = checkpoint.size;
      yield checkpoint;
    }
  } catch (error) {
    if (!(error instanceof MalformedFile)) throw error;
    problems.add('file_malformed', null, CHECKPOINTS_FILE, error.message);
  }
}

/** Null, and a problem, for what is no checkpoint. */
export function parseFound(
  text: string,
  where: string,
  problems: Problems,
  seen = false,
): FoundCheckpoint | null {
  try {
    return { ...parseSignedCheckpoint(text), where, seen };
  } catch (error) {
    if (!TwofoldError.is(error)) throw error;
    problems.add('checkpoint_malformed', null, where, error.message);
    return null;
  }
}

/** Two ordered streams of checkpoints as one. */
export function* merged(
  listed: Iterator<FoundCheckpoint>,
  others: readonly FoundCheckpoint[],
): Generator<FoundCheckpoint> {
  const rest = [...others].sort((a, b) => a.size - b.size);
  for (let next = listed.next(); next.done !== true; next = listed.next()) {
    for (let [other] = rest; other !== undefined && other.size <= next.value.size; [other] = rest) {
      yield other;
      rest.shift();
    }
    yield next.value;
  }
  yield* rest;
}

/**
 * Whether keys that are trusted at its size have signed it, and a problem where not.
 * @param trusted keys of the log that count for a checkpoint of this size
 */
export function checkSignatures(
  origin: string,
  checkpoint: FoundCheckpoint,
  trusted: readonly Vkey[],
  problems: Problems,
): boolean {
  const why = signatureProblem(origin, checkpoint, trusted);
  if (why === null) return true;
  const { size, where } = checkpoint;
  const code = why.failed ? 'checkpoint_forged' : 'checkpoint_unsigned';
  problems.add(code, size === 0 ? null : size - 1, where, why.text);
  return false;
}

/** One Ed25519 signature and, where the log has ML-DSA-44 keys, one of those too; none that fails. */
function signatureProblem(
  origin: string,
  checkpoint: FoundCheckpoint,
  trusted: readonly Vkey[],
): { readonly failed: boolean; readonly text: string } | null {
  if (checkpoint.origin !== origin)
    return { failed: true, text: `its origin is ${checkpoint.origin}` };
  const { verified, failed } = verifyNote(checkpoint.note, trusted);
  const [first] = failed;
  if (first !== undefined) {
    return { failed: true, text: `the signature of ${first.name}+${first.keyId} does not verify` };
  }
  for (const [name, type] of [
    ['Ed25519', SIGNATURE_TYPE.ed25519],
    ['ML-DSA-44', SIGNATURE_TYPE.mlDsa44Cosignature],
  ] as const) {
    const wanted = type === SIGNATURE_TYPE.ed25519 || trusted.some((vkey) => vkey.type === type);
    if (wanted && !verified.some(({ vkey }) => vkey.type === type)) {
      return { failed: false, text: `no trusted ${name} key of the log has signed it` };
    }
  }
  return null;
}
