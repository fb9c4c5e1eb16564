/**
 * `twofold audit prove ID`: that an entry is in the log whose keys are pinned. What the service says is
 * checked here: the checkpoint's signatures, that the entry is the one that was asked for, its hash, and its way to
 * the root.
 */
import { leafHash } from '../audit/tree/hashes.ts';
import { parseSignedCheckpoint } from '../audit/tree/checkpoint.ts';
import { verifyInclusion } from '../audit/tree/proofs.ts';
import { verifyNote } from '../audit/tree/signatures.ts';
import { parseTlogProof } from '../audit/tree/tlog-proof.ts';
import { parseVkeys, SIGNATURE_TYPE } from '../audit/tree/vkey.ts';
import type { Vkey } from '../audit/tree/vkey.ts';
import { EntryView, MalformedEntry } from '../audit/verify/entry-view.ts';
import { printable } from '../audit/verify/printable.ts';
import { parseFlags } from '../cli/arguments.ts';
import type { Flags, ParsedFlags } from '../cli/arguments.ts';
import { CONNECTION_FLAGS } from '../cli/connection.ts';
import type { AuditLogClient } from '../client/audit-log.ts';
import { ClientError, fileFailure } from '../client/client-error.ts';
import { TwofoldError } from '../errors.ts';
import { readCarriedFile } from '../recovery/carried-file.ts';
import { complaintLines } from './complaint.ts';
import { writeNew } from './new-file.ts';

const FLAGS = {
  ...CONNECTION_FLAGS,
  trust: 'value',
  out: 'value',
  namespace: 'value',
} as const satisfies Flags;

type WithLog = <T>(flags: ParsedFlags, work: (log: AuditLogClient) => Promise<T>) => Promise<T>;

const refuse = (why: string) => new TwofoldError('invalid_value', why);

const readTrusted = (file: string): readonly Vkey[] => parseVkeys(readCarriedFile(file));

/** `<lane>-<n>` as the entry itself says it, whose bytes alone are proved; null for what is no entry. */
function idIn(body: Uint8Array): string | null {
  const entry = new EntryView();
  try {
    entry.read(body, 0, body.length);
    return `${entry.lane}-${entry.n}`;
  } catch (error) {
    if (!(error instanceof MalformedEntry)) throw error;
    return null;
  }
}

interface Claimed {
  readonly id: string;
  /** C2SP tlog-proof. */
  readonly proof: string;
  /** The entry's canonical bytes. */
  readonly body: Uint8Array;
}

/** Null where the proof shows it; else why it does not. */
export function proofProblem(
  { id, proof, body }: Claimed,
  trusted: readonly Vkey[],
): string | null {
  if (idIn(body) !== id) return 'the service gave another entry than this';
  const { index, hashes, checkpoint } = parseTlogProof(proof);
  const { origin, size, root, note } = parseSignedCheckpoint(checkpoint);
  const own = trusted.filter(({ name }) => name === origin);
  const { verified, failed } = verifyNote(note, own);
  if (failed.length > 0) return 'a signature of its checkpoint does not verify';
  for (const type of [SIGNATURE_TYPE.ed25519, SIGNATURE_TYPE.mlDsa44Cosignature]) {
    const isWanted = type === SIGNATURE_TYPE.ed25519 || own.some((vkey) => vkey.type === type);
    const isThere = verified.some(({ vkey }) => vkey.type === type);
    if (isWanted && !isThere) return 'its checkpoint is not signed by the keys that are trusted';
  }
  const isIn = verifyInclusion({ index, leaf: leafHash(body), size, root }, hashes);
  return isIn ? null : 'its hashes do not lead from the entry to the root';
}

interface Output {
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

/** @returns 0 where the entry is in the log, 1 where that is not shown, 2 where it is, and `--out` could not be written */
export async function auditProveCommand(
  argv: readonly string[],
  { print, complain }: Output,
  withLog: WithLog,
): Promise<number> {
  const flags = parseFlags(argv, FLAGS);
  const [id, ...more] = flags.positional;
  const [trust] = flags.values.get('trust') ?? [];
  const [out] = flags.values.get('out') ?? [];
  const [namespace] = flags.values.get('namespace') ?? [];
  if (id === undefined || more.length > 0 || trust === undefined) {
    throw refuse('The command is: twofold audit prove ID --trust FILE [--out FILE]');
  }
  const trusted = readTrusted(trust);
  const { proof, body } = await withLog(flags, async (log) => ({
    proof: await log.proof(id, namespace),
    body: Buffer.from((await log.entry(id, namespace)).body, 'base64'),
  }));
  const why = proofProblem({ id, proof, body }, trusted);
  const { index, checkpoint } = parseTlogProof(proof);
  if (why !== null) {
    print(printable(`${id} IS NOT SHOWN to be in the log: ${why}.`));
    return 1;
  }
  const { origin, size } = parseSignedCheckpoint(checkpoint);
  print(printable(`${id} is entry ${index} of ${origin}, in its checkpoint of ${size} entries.`));
  return out === undefined ? 0 : keep(out, proof, complain);
}

/** Of what is shown already, whatever becomes of the file. */
function keep(out: string, proof: string, complain: Output['complain']): number {
  try {
    writeNew(out, proof, 0o644);
    return 0;
  } catch (failure) {
    const error = fileFailure(failure);
    if (!ClientError.is(error)) throw error;
    complaintLines(error).forEach(complain);
    return 2;
  }
}
