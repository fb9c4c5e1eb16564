/**
 * A witness (C2SP tlog-witness 1.0.0): cosigns a checkpoint of a log that it knows, once it has seen
 * that the log went on from what it cosigned before, and has that on disk.
 */
import { equalBytes } from '../../crypto/bytes.ts';
import { TwofoldError } from '../../errors.ts';
import { checkpointHash } from '../continuation.ts';
import { verifyConsistency } from '../tree/proofs.ts';
import { SIGNATURE_TYPE, signersOf } from '../notes.ts';
import type { Checkpoint, CheckpointNote, Vkey } from '../notes.ts';
import { parseAddCheckpoint } from './protocol.ts';
import type { AddCheckpoint } from './protocol.ts';
import type { WitnessStates } from './state.ts';

/** A log by its name, which all its keys have. */
export interface WitnessedLog {
  readonly origin: string;
  readonly keys: readonly Vkey[];
}

export interface Cosigner {
  readonly vkeys: readonly string[];
  /** Lines of cosignatures with a time, each with its line end. */
  cosign(note: CheckpointNote): Promise<string>;
}

/** What the protocol answers; `size` is where the witness stands. */
export type WitnessAnswer =
  | { readonly status: 200; readonly lines: string }
  | { readonly status: 409; readonly size: number }
  | { readonly status: 400 | 403 | 404 | 422 };

export interface WitnessParts {
  readonly logs: readonly WitnessedLog[];
  readonly states: WitnessStates;
  readonly cosigner: Cosigner;
}

/** How often a request looks again because another went on meanwhile. */
const ATTEMPTS = 8;

export class Witness {
  readonly #parts: WitnessParts;

  constructor(parts: WitnessParts) {
    this.#parts = parts;
  }

  get vkeys(): readonly string[] {
    return this.#parts.cosigner.vkeys;
  }

  /**
   * Gives up a checkpoint that was cosigned, and by it all that this witness knows of its log.
   * @param hash see `checkpointHash`; of what is no longer in force nothing happens
   * @param say resolves once the log of this instance says so; before that nothing is given up
   */
  async giveUp(hash: string, say: (origin: string) => Promise<void>): Promise<string | null> {
    const { logs, states } = this.#parts;
    for (const { origin } of logs) {
      const { size, root } = await states.of(origin);
      if (size === 0 || checkpointHash({ origin, size, root }) !== hash) continue;
      await say(origin);
      await states.forget(origin);
      return origin;
    }
    return null;
  }

  /** @throws TwofoldError hsm_unavailable, integrity_failed; conflict when others kept being faster */
  async addCheckpoint(body: string): Promise<WitnessAnswer> {
    const request = parseAddCheckpoint(body);
    if (request === null) return { status: 400 };
    const { note, old } = request;
    const log = this.#parts.logs.find(({ origin }) => origin === note.checkpoint.origin);
    if (log === undefined) return { status: 404 };
    if (!isSigned(note, log)) return { status: 403 };
    if (old > note.checkpoint.size) return { status: 400 };
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const answer = await this.#attempt(request);
      if (answer !== null) return answer;
    }
    throw new TwofoldError('conflict', 'Other requests kept going on with this log.');
  }

  /** Null: the state moved meanwhile. */
  async #attempt({ old, proof, note }: AddCheckpoint): Promise<WitnessAnswer | null> {
    const { states, cosigner } = this.#parts;
    const { checkpoint } = note;
    const state = await states.of(checkpoint.origin);
    if (old !== state.size) return { status: 409, size: state.size };
    if (isSame(state, checkpoint)) {
      if (proof.length > 0) return { status: 422 };
      // On disk already; before the first, the empty tree is what everyone knows.
      return { status: 200, lines: await cosigner.cosign(note) };
    }
    if (checkpoint.size === state.size) return { status: 409, size: state.size };
    if (!verifyConsistency(state, checkpoint, proof)) return { status: 422 };
    if (!(await states.advance(state, checkpoint))) return null;
    return { status: 200, lines: await cosigner.cosign(note) };
  }
}

const isSame = (state: { readonly size: number; readonly root: Uint8Array }, other: Checkpoint) =>
  state.size === other.size && equalBytes(state.root, other.root);

/** By an Ed25519 key of the log, and where any of its keys are ML-DSA-44, by one of those too. */
const isSigned = (note: CheckpointNote, { keys }: WitnessedLog): boolean => {
  const { ed25519, mlDsa44Cosignature } = SIGNATURE_TYPE;
  const types = signersOf(note, keys).map(({ key }) => key.type);
  const isHybrid = keys.some(({ type }) => type === mlDsa44Cosignature);
  return types.includes(ed25519) && (types.includes(mlDsa44Cosignature) || !isHybrid);
};
