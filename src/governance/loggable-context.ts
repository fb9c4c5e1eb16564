/**
 * Names of the encryption context whose values audit entries of a namespace have in clear. Whoever reads
 * the log reads them then, so they are declared, and nothing is unless it is; all others stand there as one
 * HMAC under the audit key.
 *
 * One member of a sealed set. A change is one of access: what is under way in the namespace is answered,
 * and recorded, anew under what is declared then (promise P5).
 */
import type { Grant } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import { SealedSet, requireMatch } from './sealed-set.ts';
import type { Member, SealedSetParts, SetDone, SetKind, SetRun } from './sealed-set.ts';
import { readTexts } from './stored-json.ts';

/** Of names. An encryption context has at most 16 pairs, different uses may have different ones. */
export const MAX_LOGGABLE_NAMES = 64;
const MEMBER = 'names';

type ConfigureGrant = Grant<'audit.configure'>;
/** In the order of their UTF-16 code units, each once. */
export type LoggableNames = readonly string[];

const LOGGABLE: SetKind<LoggableNames> = {
  kind: 'loggable-context',
  most: 1,
  reach: 'namespace',
  toJson: (names) => ({ names }),
  fromJson: (json) => readTexts(json, 'names'),
};

const NONE: LoggableNames = [];

export class LoggableContext {
  readonly #set: SealedSet<LoggableNames>;

  constructor(parts: SealedSetParts) {
    this.#set = new SealedSet(parts, LOGGABLE);
  }

  /**
   * What entries of the namespace may say in clear: nothing where the rows were altered (the watch over
   * their integrity says so) or cannot be read, so that no failure puts a value into the log.
   */
  async of(namespace: string): Promise<LoggableNames> {
    try {
      const view = this.#set.known(namespace) ?? (await this.#set.of(namespace));
      return view.members.get(MEMBER)?.value ?? NONE;
    } catch (error) {
      if (TwofoldError.is(error)) return NONE;
      throw error;
    }
  }

  /** Null: nothing was ever declared. @throws TwofoldError integrity_failed */
  async get({ namespace }: ConfigureGrant): Promise<Member<LoggableNames> | null> {
    return (await this.#set.of(namespace)).members.get(MEMBER) ?? null;
  }

  /** @throws TwofoldError invalid_value, precondition_required, etag_mismatch */
  put(
    grant: ConfigureGrant,
    names: LoggableNames,
    run: SetRun<LoggableNames>,
  ): Promise<SetDone<LoggableNames>> {
    const sorted = [...new Set(names)].toSorted();
    if (sorted.length !== names.length) {
      throw new TwofoldError('invalid_value', 'Each name is declared once.');
    }
    return this.#set.change(grant, run, ({ members }) => {
      requireMatch(run, members.get(MEMBER) ?? null);
      // What became readable, and since when, has to be told without the history of the set.
      return {
        entries: new Map([[MEMBER, sorted]]),
        detail: { kind: 'loggable-context', names: JSON.stringify(sorted) },
      };
    });
  }
}
