/**
 * This process's view of the security epoch (promise P5).
 *
 * Every change of keys or access raises the epoch in the database. Caches subscribe and drop what a
 * change touches; an audit append under an older epoch is refused by the database, the caller
 * learns the changes here and decides again. Nothing in here waits or does I/O.
 */

/** One committed change, as recorded in `security_change`. */
export interface SecurityChange {
  readonly epoch: number;
  /** `key`: one key, its versions, names and labels; `access`: policies, issuers, grants. */
  readonly scope: 'key' | 'access';
  /** Of scope `access`, empty: every namespace. */
  readonly namespace: string;
  /** Id and name both null with scope `key`: any key of any namespace (a change whose record is gone). */
  readonly keyId: string | null;
  /** Of scope `access` what kind of set was changed (`nameOfSetChange`), where that is known. */
  readonly keyName: string | null;
  /** Further names and ids of the namespace that it touched: aliases, and the key that lost one. */
  readonly also?: readonly string[];
}

/** How a change of a set of this kind is recorded: as no key can be named. */
export const nameOfSetChange = (kind: string): string => `${kind}/`;

/** Whether what policies say was changed and nothing else: everybody stays who they are. */
export const isOfPoliciesAlone = ({ scope, keyId, keyName }: SecurityChange): boolean =>
  scope === 'access' && keyId === null && keyName === nameOfSetChange('policy');

/** What a pending answer stood on. */
export interface EpochStanding {
  /** The epoch when the request began to read. */
  readonly epoch: number;
  readonly namespace: string;
  /** Id or name under which the request named its key; null when it used none. */
  readonly keyId: string | null;
  readonly keyName: string | null;
  /** Further keys of the same namespace, by name or id (the target of a rewrap). */
  readonly alsoKeys?: readonly string[];
}

type Listener = (change: SecurityChange) => void;

/** How many changes are remembered to judge pending answers; older standings count as touched. */
const MEMORY = 4096;

export class SecurityEpoch {
  #current: number;
  #recent: SecurityChange[] = [];
  readonly #listeners = new Set<Listener>();

  constructor(initial: number) {
    this.#current = initial;
  }

  get current(): number {
    return this.#current;
  }

  /** Called for every change, in order, before `current` rises. */
  onChange(listener: Listener): void {
    this.#listeners.add(listener);
  }

  /**
   * Takes in changes read from the database, in any order; those already known are skipped. Epochs
   * have no gaps, so where a record is missing anything may have changed.
   */
  advance(changes: readonly SecurityChange[]): void {
    for (const change of changes.toSorted((a, b) => a.epoch - b.epoch)) {
      if (change.epoch <= this.#current) continue;
      if (change.epoch > this.#current + 1) this.#learnAll(change.epoch - 1);
      this.#learn(change);
    }
    if (this.#recent.length > MEMORY) this.#recent = this.#recent.slice(-MEMORY / 2);
  }

  #learn(change: SecurityChange): void {
    for (const listener of this.#listeners) listener(change);
    this.#recent.push(change);
    this.#current = change.epoch;
  }

  /** Every standing older than `epoch` counts as touched, and every cache is dropped. */
  #learnAll(epoch: number): void {
    const all = { epoch, namespace: '', keyId: null, keyName: null } as const;
    for (const listener of this.#listeners) listener({ ...all, scope: 'key' });
    this.#recent = [];
    this.#learn({ ...all, scope: 'access' });
  }

  /** Whether a change since `standing.epoch` could have altered what the answer stood on. */
  touches(standing: EpochStanding): boolean {
    if (standing.epoch >= this.#current) return false;
    const oldest = this.#recent[0]?.epoch ?? this.#current + 1;
    if (standing.epoch + 1 < oldest) return true;
    return this.#recent.some(
      (change) => change.epoch > standing.epoch && concerns(change, standing),
    );
  }
}

function concerns(change: SecurityChange, standing: EpochStanding): boolean {
  if (change.scope === 'access' && change.namespace === '') return true;
  if (standing.namespace !== change.namespace) return false;
  if (change.scope === 'access') return true;
  const stoodOn = [standing.keyId, standing.keyName, ...(standing.alsoKeys ?? [])];
  return stoodOn.some(
    (ref) =>
      ref !== null &&
      (ref === change.keyId || ref === change.keyName || change.also?.includes(ref) === true),
  );
}
