/**
 * The keys that sign checkpoints, as the log itself changes them: pinned ones count from the beginning,
 * others from the entry that a key trusted by then has signed, and all until the entry that retires them.
 */
import { decodeBase64 } from '../../crypto/base64.ts';
import { TwofoldError } from '../../errors.ts';
import { verifySignature } from '../tree/signatures.ts';
import { formatVkey, parseVkey, SIGNATURE_TYPE } from '../tree/vkey.ts';
import type { Vkey } from '../tree/vkey.ts';
import type { Problems } from './problems.ts';

export type Detail = ReadonlyMap<string, string | number | boolean | null>;

export const ADD = 'audit.key.add';
export const RETIRE = 'audit.key.retire';

export class KeySet {
  readonly #origin: string;
  readonly #problems: Problems;
  /** By their text. */
  readonly #trusted: Map<string, Vkey>;
  #changes = 0;

  constructor(origin: string, pinned: readonly Vkey[], problems: Problems) {
    this.#origin = origin;
    this.#problems = problems;
    const own = pinned.filter(({ name }) => name === origin);
    this.#trusted = new Map(own.map((vkey) => [formatVkey(vkey), vkey]));
  }

  /** Whose signatures count for a checkpoint that covers all entries taken so far. */
  get trusted(): readonly Vkey[] {
    return [...this.#trusted.values()];
  }

  /** How many changes were accepted. */
  get changes(): number {
    return this.#changes;
  }

  take(index: number, operation: string, detail: Detail): void {
    const change = operation === ADD ? 'add' : 'retire';
    const refusal = this.#refusal(change, detail);
    if (refusal === null) {
      this.#changes += 1;
      return;
    }
    this.#problems.add('key_set_untrusted', index, operation, refusal);
  }

  /** Null when the change was made. */
  #refusal(change: 'add' | 'retire', detail: Detail): string | null {
    const text = detail.get('vkey');
    const vkey = typeof text === 'string' ? readVkey(text) : null;
    if (typeof text !== 'string' || vkey === null) return 'the entry names no verifier key';
    if (vkey.name !== this.#origin) return 'the key is not one of this log';
    // Whoever pinned a key vouches for it, also where no key could any more.
    if (change === 'add' && this.#trusted.has(text)) return null;
    if (!this.#vouched(change, text, detail)) {
      return `no key that was trusted vouches for it: ${vkey.name}+${vkey.keyId}`;
    }
    if (change === 'add') this.#trusted.set(text, vkey);
    else this.#trusted.delete(text);
    return null;
  }

  #vouched(change: 'add' | 'retire', vkey: string, detail: Detail): boolean {
    const [by, encoded] = [detail.get('by'), detail.get('signature')];
    const signer = this.trusted.find(
      ({ keyId, type }) => keyId === by && type === SIGNATURE_TYPE.ed25519,
    );
    const signature = typeof encoded === 'string' ? readBase64(encoded) : null;
    if (signer === undefined || signature === null) return false;
    const { name, keyId } = signer;
    return (
      verifySignature(
        statementOf(this.#origin, change, vkey),
        { name, keyId, signature },
        signer,
      ) !== null
    );
  }
}

/** What a trusted key signs of a change of the set. */
export const statementOf = (origin: string, change: 'add' | 'retire', vkey: string): string =>
  `twofold audit key-set v1\n${origin}\n${change}\n${vkey}\n`;

const readVkey = (text: string): Vkey | null => orNull(() => parseVkey(text));
const readBase64 = (text: string): Uint8Array | null =>
  orNull(() => decodeBase64(text, 'signature'));

function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof TwofoldError) return null;
    throw error;
  }
}
