/**
 * The keys that sign checkpoints, as the log itself changes them: pinned ones count from the beginning,
 * others from the entry that keys trusted by then have signed, and all until the entry that retires them.
 *
 * Who can forge one of the two types of signatures gains nothing by an entry: a key is added by signatures of
 * both, and the last key of a type is not retired, so that checkpoints always take both.
 */
import { decodeBase64 } from '../../crypto/base64.ts';
import { TwofoldError } from '../../errors.ts';
import { utf8 } from '../../crypto/bytes.ts';
import { verifyBytes } from '../tree/signatures.ts';
import { formatVkey, parseVkey, SIGNATURE_TYPE } from '../tree/vkey.ts';
import type { SignatureType, Vkey } from '../tree/vkey.ts';
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
    const missing = VOUCHERS.find((voucher) => !this.#vouched(voucher, change, text, detail));
    if (missing !== undefined) {
      return `no ${missing.name} key that was trusted vouches for it: ${vkey.name}+${vkey.keyId}`;
    }
    if (change === 'retire') return this.#retired(text, vkey);
    this.#trusted.set(text, vkey);
    return null;
  }

  #retired(text: string, { type }: Vkey): string | null {
    const others = this.trusted.filter(
      (other) => other.type === type && formatVkey(other) !== text,
    );
    if (this.#trusted.has(text) && others.length === 0) return 'it is the last key of its type';
    this.#trusted.delete(text);
    return null;
  }

  /** A key of this type vouches for the change; or, of ML-DSA-44, for a retirement or where the log has none, need not. */
  #vouched(
    { type, by, signature: member }: Voucher,
    change: 'add' | 'retire',
    vkey: string,
    detail: Detail,
  ): boolean {
    const keys = this.trusted.filter((key) => key.type === type);
    const isHybrid = type === SIGNATURE_TYPE.mlDsa44Cosignature;
    if (isHybrid && (change === 'retire' || keys.length === 0)) return true;
    const [id, encoded] = [detail.get(by), detail.get(member)];
    const signer = keys.find(({ keyId }) => keyId === id);
    const signature = typeof encoded === 'string' ? readBase64(encoded) : null;
    if (signer === undefined || signature === null) return false;
    return verifyBytes(utf8(statementOf(this.#origin, change, vkey)), signature, signer);
  }
}

/** Whose signature an entry has, and in which members. */
interface Voucher {
  readonly name: string;
  readonly type: SignatureType;
  readonly by: string;
  readonly signature: string;
}

const VOUCHERS: readonly Voucher[] = [
  { name: 'Ed25519', type: SIGNATURE_TYPE.ed25519, by: 'by', signature: 'signature' },
  {
    name: 'ML-DSA-44',
    type: SIGNATURE_TYPE.mlDsa44Cosignature,
    by: 'pqBy',
    signature: 'pqSignature',
  },
];

/** What trusted keys sign of a change of the set. */
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
