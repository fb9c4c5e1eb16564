/**
 * Handles of keys in use, bounded, least recently used out first.
 *
 * A handle belongs to one token epoch: after a re-initialisation the token numbers its objects anew
 * and an old handle would name another key. An entry of another epoch is never returned.
 */
import type { Handle } from './cryptoki.ts';
import type { HsmKeySpec } from './port.ts';

/** What is known of a key beside its handle, so that requests need only name it. */
export interface KnownKey {
  readonly spec: HsmKeySpec;
  readonly check: Uint8Array;
}

interface CachedHandle extends KnownKey {
  readonly handle: Handle;
  readonly tokenEpoch: number;
  /** Token objects outlive their entry, unwrapped session objects end with it. */
  readonly unwrapped: boolean;
}

export class HandleCache {
  readonly #entries = new Map<string, CachedHandle>();
  readonly #limit: number;
  readonly #destroy: (handle: Handle) => void;

  /** `destroy` is called with each unwrapped handle that leaves the cache in its own epoch. */
  constructor(limit: number, destroy: (handle: Handle) => void) {
    this.#limit = limit;
    this.#destroy = destroy;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(id: string, tokenEpoch: number): CachedHandle | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    this.#entries.delete(id);
    if (entry.tokenEpoch !== tokenEpoch) return undefined;
    this.#entries.set(id, entry);
    return entry;
  }

  set(id: string, entry: CachedHandle): void {
    this.forget(id, entry.tokenEpoch);
    this.#entries.set(id, entry);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#limit) return;
      this.forget(oldest, entry.tokenEpoch);
    }
  }

  forget(id: string, tokenEpoch: number): void {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    if (entry?.unwrapped === true && entry.tokenEpoch === tokenEpoch) this.#destroy(entry.handle);
  }
}
