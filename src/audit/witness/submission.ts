/**
 * Asks a witness to cosign the newest checkpoint (C2SP tlog-witness 1.0.0). What the witness says of
 * its size is believed as far as it costs us nothing: a proof from there is made, or none can be.
 */
import { consistencyProof } from '../tree/proofs.ts';
import type { Cosignature } from '../cosignature-ports.ts';
import type { LogReader } from '../log-ports.ts';
import { parseNote, signersOf } from '../notes.ts';
import type { CheckpointNote, Vkey } from '../notes.ts';
import { TwofoldError } from '../../errors.ts';
import { addCheckpointBody, parseSizeAnswer } from './protocol.ts';

/** One POST. Rejects when there was no whole answer in time. */
export type Post = (
  url: string,
  body: string,
) => Promise<{ readonly status: number; readonly body: string }>;

export interface WitnessClientParts {
  /** Its submission prefix; `/add-checkpoint` follows. */
  readonly url: string;
  readonly keys: readonly Vkey[];
  readonly reader: Pick<LogReader, 'tile'>;
  readonly post: Post;
}

/** How often the size that the witness stands at may turn out another one in one submission. */
const ATTEMPTS = 3;

/** What a witness says. `refused` for good shows a configuration that is wrong. */
export type Submission =
  | { readonly outcome: 'cosigned'; readonly lines: readonly Cosignature[] }
  /** It has cosigned a longer log than ours. */
  | { readonly outcome: 'ahead'; readonly size: number }
  /** It has cosigned so many entries, and ours, of at least as many, does not go on from them. */
  | { readonly outcome: 'contradicted'; readonly size: number }
  | { readonly outcome: 'refused'; readonly status: number };

export class WitnessClient {
  readonly #parts: WitnessClientParts;
  /** Where it stood last, as far as we know. */
  #size = 0;

  constructor(parts: WitnessClientParts) {
    this.#parts = parts;
  }

  get url(): string {
    return this.#parts.url;
  }

  /** Whether the line is by one of its keys, as it says itself. */
  isBy({ name, keyId }: Cosignature): boolean {
    return this.#parts.keys.some((key) => key.name === name && key.keyId === keyId);
  }

  /** @throws TwofoldError or Error for what may be tried again */
  async submit(note: CheckpointNote, text: string): Promise<Submission> {
    const { url, reader, post } = this.#parts;
    const { size } = note.checkpoint;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      if (this.#size > size) return this.#ahead();
      const proof = await consistencyProof(this.#size, size, (...tile) => reader.tile(...tile));
      const body = addCheckpointBody(this.#size, proof, text);
      const answer = await post(`${url.replace(/\/$/u, '')}/add-checkpoint`, body);
      if (answer.status === 200) return this.#accept(note, answer.body);
      if (answer.status !== 409) {
        if (answer.status >= 500 || answer.status === 429) throw away(answer.status);
        // From nothing there is nothing to prove.
        if (answer.status === 422 && this.#size > 0) return this.#contradicted();
        return { outcome: 'refused', status: answer.status };
      }
      const stands = parseSizeAnswer(answer.body);
      // Where it stands, and yet not: by the protocol, at our size with another root.
      if (stands === this.#size && stands === size) return this.#contradicted();
      if (stands === null || stands === this.#size) return { outcome: 'refused', status: 409 };
      this.#size = stands;
    }
    throw new TwofoldError('conflict', 'The witness kept going on with others.');
  }

  #ahead(): Submission {
    const size = this.#size;
    // Asked anew the next time.
    this.#size = 0;
    return { outcome: 'ahead', size };
  }

  #contradicted(): Submission {
    return { outcome: 'contradicted', size: this.#size };
  }

  /** Only lines that verify are kept: anybody may answer for a witness. */
  #accept({ note, checkpoint }: CheckpointNote, lines: string): Submission {
    const cosigned = parseNote(`${note.text}\n${lines}`);
    const signers = cosigned === null ? [] : signersOf(cosigned, this.#parts.keys);
    if (signers.length === 0) {
      throw new TwofoldError('invalid_value', 'No line of the witness verifies by its vkeys.');
    }
    this.#size = checkpoint.size;
    return {
      outcome: 'cosigned',
      lines: signers.map(({ key, line }) => ({ name: key.name, keyId: key.keyId, line })),
    };
  }
}

const away = (status: number) =>
  new TwofoldError('internal', `The witness answered ${String(status)}.`);
