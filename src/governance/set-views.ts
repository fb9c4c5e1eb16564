/**
 * Verified sets that an instance remembers. After a change one is read on from where it was: what was
 * written since and what was taken away, beside a digest of all rows that should be as they were. The seal
 * stands for all members each time, and what does not fit together is read and verified as a whole again.
 */
import { BoundedCache } from '../access/bounded-cache.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { isOfPoliciesAlone, nameOfSetChange } from '../epoch.ts';
import type { EpochStanding, SecurityChange, SecurityEpoch } from '../epoch.ts';
import type { RowMac } from '../keyring/row-mac.ts';
import type { SetMember, SetSince, StoredMember } from '../keyring/set-ports.ts';
import { digestOfRows, hashOfHashes, hashOfMember, isBehind, isSealOf } from './set-mac.ts';

/** Namespaces whose sets are remembered. */
const MAX_CACHED = 1_000;

/** A member in force. */
export interface Member<T> {
  readonly name: string;
  readonly revision: number;
  readonly at: Date;
  readonly by: SetMember['by'];
  readonly value: T;
}

/** The verified members of a namespace. */
export interface SetView<T> {
  /** 0 while there never was a member. */
  readonly revision: number;
  /** In byte order of their names. */
  readonly members: ReadonlyMap<string, Member<T>>;
}

/** Of a member that was verified. */
export interface RowProof {
  /** SHA-256 of its canonical form. */
  readonly hash: Uint8Array;
  /** Of its row (`StoredMember.digest`). */
  readonly digest: Uint8Array;
}

/** A view with the proofs of its members, in byte order of their names. */
export interface VerifiedSet<T> {
  readonly view: SetView<T>;
  readonly proofs: ReadonlyMap<string, RowProof>;
}

/** UTF-16 has the order of UTF-8 but where surrogates are compared. */
const SURROGATE = /[\u{10000}-\u{10ffff}\ud800-\udfff]/u;

/** Byte order of UTF-8. */
export function byBytes(a: string, b: string): number {
  if (a === b) return 0;
  if (SURROGATE.test(a) || SURROGATE.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return a < b ? -1 : 1;
}

/**
 * The set as it is now, from what it was; null where the rows do not come to that, for whatever reason.
 * @throws what `present` throws
 */
export async function continued<T>(
  mac: RowMac,
  { view, proofs }: VerifiedSet<T>,
  { seal, newest, written, removed, rest }: SetSince,
  present: (row: StoredMember['value']) => Member<T>,
): Promise<VerifiedSet<T> | null> {
  if (seal === null || seal.value.revision < view.revision) return null;
  if (isBehind({ seal, newest })) return null;
  const gone = new Set([...removed, ...written.map(({ value }) => value.name)]);
  const kept = [...proofs].filter(([name]) => !gone.has(name));
  if (!equalBytes(digestOfRows(kept.map(([, { digest }]) => digest)), rest)) return null;
  const fresh = written.map(proofOf);
  if (fresh.some((each) => each === null)) return null;
  const all = [...kept, ...fresh.filter((each) => each !== null)];
  const entries = all.sort(([a], [b]) => byBytes(a, b));
  const of = hashOfHashes(entries.map(([, { hash }]) => hash));
  if (!(await isSealOf(mac, seal, of))) return null;
  if (gone.size === 0 && seal.value.revision === view.revision) return { view, proofs };
  const made = new Map(written.map(({ value }) => [value.name, present(value)]));
  const members = entries.flatMap(([name]): [string, Member<T>][] => {
    const member = made.get(name) ?? view.members.get(name);
    return member === undefined ? [] : [[name, member]];
  });
  return {
    view: { revision: seal.value.revision, members: new Map(members) },
    proofs: new Map(entries),
  };
}

/** Null for what no row of ours could hold. */
function proofOf({ value, digest }: StoredMember): [string, RowProof] | null {
  try {
    return [value.name, { hash: hashOfMember(value), digest }];
  } catch {
    return null;
  }
}

interface Remembered<T> {
  readonly set: VerifiedSet<T>;
  /** Nothing was learnt since that could have changed it. */
  isCurrent: boolean;
}

interface Reading<T> {
  readonly standing: EpochStanding;
  readonly set: Promise<VerifiedSet<T>>;
}

/** By namespace; in force until a change of access is learnt, and from then on what to go on from. */
export class ViewCache<T> {
  readonly #epoch: SecurityEpoch;
  readonly #kind: string;
  readonly #sets = new BoundedCache<string, Remembered<T>>(MAX_CACHED);
  readonly #readings = new Map<string, Reading<T>>();

  constructor(epoch: SecurityEpoch, kind: string) {
    this.#epoch = epoch;
    this.#kind = kind;
    epoch.onChange((change) => this.#learn(change));
  }

  /** What is in force. */
  known(namespace: string): VerifiedSet<T> | undefined {
    const found = this.#sets.get(namespace);
    return found?.isCurrent === true ? found.set : undefined;
  }

  /** What was verified last, in force or not. */
  last(namespace: string): VerifiedSet<T> | undefined {
    return this.#sets.get(namespace)?.set;
  }

  async get(namespace: string, read: () => Promise<VerifiedSet<T>>): Promise<VerifiedSet<T>> {
    const known = this.known(namespace);
    if (known !== undefined) return known;
    const underWay = this.#readings.get(namespace);
    // What it reads is no older than what is known now.
    if (underWay !== undefined && !this.#epoch.touches(underWay.standing)) return underWay.set;
    return this.#read(namespace, read);
  }

  async #read(namespace: string, read: () => Promise<VerifiedSet<T>>): Promise<VerifiedSet<T>> {
    const standing = { epoch: this.#epoch.current, namespace, keyId: null, keyName: null };
    const reading = { standing, set: read() };
    this.#readings.set(namespace, reading);
    try {
      const set = await reading.set;
      this.#remember(namespace, set, !this.#epoch.touches(standing));
      return set;
    } finally {
      if (this.#readings.get(namespace) === reading) this.#readings.delete(namespace);
    }
  }

  #remember(namespace: string, set: VerifiedSet<T>, isCurrent: boolean): void {
    const { view } = this.last(namespace) ?? {};
    // Overtaken by a change, it is still further than what was verified before.
    const isFurther = view === undefined || view.revision < set.view.revision;
    if (isCurrent || isFurther) this.#sets.set(namespace, { set, isCurrent });
  }

  #learn(change: SecurityChange): void {
    if (change.scope !== 'access') return;
    if (isOfPoliciesAlone(change) && nameOfSetChange(this.#kind) !== change.keyName) return;
    if (change.namespace === '') {
      for (const each of this.#sets.values()) each.isCurrent = false;
    } else {
      const found = this.#sets.get(change.namespace);
      if (found !== undefined) found.isCurrent = false;
    }
  }
}
