/**
 * Follows the log as every instance does, whoever leads: verifies each new checkpoint against the last
 * one that it verified, remembers it outside the database, and hands it on. What does not continue is a
 * roll-back or a fork: it is said loudly and for good, and nothing newer is remembered or handed on.
 */
import { contradictionOf } from '../audit/continuation.ts';
import type { LogHead, LogReader } from '../audit/log-ports.ts';
import { SIGNATURE_TYPE, parseNote, parseVkey, signersOf } from '../audit/notes.ts';
import type { CheckpointNote } from '../audit/notes.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { TwofoldError } from '../errors.ts';
import { remember, rememberedIn } from './newest-checkpoint.ts';

const POLL_MS = 2_000;

export interface FollowerParts {
  readonly reader: Pick<LogReader, 'head' | 'tile'>;
  readonly keys: {
    readonly origin: string;
    /** Of every key that there ever was, read now. */
    readonly list: () => Promise<readonly { readonly vkey: string }[]>;
  };
  readonly folder: string;
  readonly worker: number;
  /** Gets each verified checkpoint, newest last; never awaited. */
  readonly onVerified: (note: CheckpointNote, text: string) => void;
  /** What failed and is tried again. */
  readonly onTrouble: (error: unknown) => void;
  /** Once, with `log_rolled_back`. */
  readonly onContradiction: (error: TwofoldError) => void;
  readonly pollMs?: number;
}

export class LogFollower {
  readonly #parts: FollowerParts;
  #last: CheckpointNote | null = null;
  #lastText: string | null = null;
  #contradiction: TwofoldError | null = null;
  #remembers = true;
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(parts: FollowerParts) {
    this.#parts = parts;
  }

  /** Newest verified note; null before there is one. */
  get newest(): string | null {
    return this.#lastText;
  }

  /** One stable word for `/readyz`; `not-remembered` while the folder does not take the newest. */
  get state(): 'ok' | 'rolled-back' | 'not-remembered' {
    if (this.#contradiction !== null) return 'rolled-back';
    return this.#remembers ? 'ok' : 'not-remembered';
  }

  /** Goes on from what the folder remembers, which the start has checked. */
  async start(): Promise<void> {
    const seen = await rememberedIn(this.#parts.folder);
    for (const { note } of seen) {
      const { size } = note.checkpoint;
      if (size > (this.#last?.checkpoint.size ?? -1)) this.#last = note;
    }
    this.#schedule();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#turn;
  }

  /** Looks now; for the leader, whose commit was acknowledged. Never rejects. */
  look(): Promise<void> {
    this.#turn = this.#turn.then(() => this.#look());
    return this.#turn;
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.look().finally(() => this.#schedule());
    }, this.#parts.pollMs ?? POLL_MS).unref();
  }

  async #look(): Promise<void> {
    if (this.#stopped || this.#contradiction !== null) return;
    try {
      const head = await this.#parts.reader.head();
      await this.#follow(head);
    } catch (error) {
      if (!TwofoldError.is(error, 'log_rolled_back')) {
        this.#parts.onTrouble(error);
        return;
      }
      this.#contradiction = error;
      this.#parts.onContradiction(error);
    }
  }

  async #follow(head: LogHead): Promise<void> {
    const { reader, keys, onVerified } = this.#parts;
    const last = this.#last?.checkpoint;
    if (last !== undefined) {
      const wrong = await contradictionOf(reader, { origin: keys.origin, head }, last);
      if (wrong !== null) {
        throw contradiction(`After a checkpoint with ${String(last.size)} entries, ${wrong}.`);
      }
    }
    if (head.note === null || (this.#lastText !== null && last?.size === head.size)) return;
    const note = await this.#verified(head.note, head);
    await this.#remember(head.note);
    this.#last = note;
    this.#lastText = head.note;
    onVerified(note, head.note);
  }

  async #remember(text: string): Promise<void> {
    const { folder, worker } = this.#parts;
    try {
      await remember(folder, worker, text);
      this.#remembers = true;
    } catch (error) {
      this.#remembers = false;
      throw error;
    }
  }

  async #verified(text: string, { size, root }: LogHead): Promise<CheckpointNote> {
    const { keys } = this.#parts;
    const note = parseNote(text);
    const states = note?.checkpoint;
    const isHead =
      states?.origin === keys.origin && states.size === size && equalBytes(states.root, root);
    if (note === null || !isHead) throw contradiction('The newest checkpoint is not of its tree.');
    const listed = (await keys.list()).map(({ vkey }) => parseVkey(vkey));
    const signers = signersOf(
      note,
      listed.filter((key) => key !== null),
    );
    const types = signers.map(({ key }) => key.type);
    const { ed25519, mlDsa44Cosignature } = SIGNATURE_TYPE;
    if (types.includes(ed25519) && types.includes(mlDsa44Cosignature)) return note;
    throw contradiction('The newest checkpoint is not signed by keys of this log.');
  }
}

const contradiction = (detail: string) => new TwofoldError('log_rolled_back', detail);
