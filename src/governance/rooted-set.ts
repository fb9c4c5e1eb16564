/** Sets whose changes reach their namespace, and from the root namespace the whole installation. */
import { ROOT_NAMESPACE } from './namespaces.ts';
import { SealedSet } from './sealed-set.ts';
import type { SealedSetParts, SetKind } from './sealed-set.ts';

export class RootedSet<T> {
  readonly #root: SealedSet<T>;
  readonly #others: SealedSet<T>;

  constructor(parts: SealedSetParts, kind: Omit<SetKind<T>, 'reach'>) {
    this.#root = new SealedSet(parts, { ...kind, reach: 'installation' });
    this.#others = new SealedSet(parts, { ...kind, reach: 'namespace' });
  }

  in(namespace: string): SealedSet<T> {
    return namespace === ROOT_NAMESPACE ? this.#root : this.#others;
  }
}
