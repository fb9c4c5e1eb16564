/**
 * What a seed is expanded into, made on first use and once; an attempt that failed (no thread was
 * free) may be repeated. `release` wipes whatever is there, also what arrives afterwards.
 */
import { SecretBytes } from './secret.ts';

export class Expansion<T> {
  readonly #expand: (seed: SecretBytes) => Promise<T>;
  readonly #drop: (expanded: T) => void;
  #seed: SecretBytes | undefined;
  #expanded: Promise<T> | undefined;

  /** Copies the seed. `expand` reads it before it first waits; `drop` wipes what it gave. */
  constructor(
    seed: SecretBytes,
    expand: (seed: SecretBytes) => Promise<T>,
    drop: (expanded: T) => void,
  ) {
    this.#seed = SecretBytes.copyOf(seed.reveal());
    this.#expand = expand;
    this.#drop = drop;
  }

  /** @throws Error after `release`, and what `expand` threw */
  get(): Promise<T> {
    this.#expanded ??= this.#attempt();
    return this.#expanded;
  }

  release(): void {
    this.#seed?.wipe();
    this.#seed = undefined;
    void this.#expanded?.then(this.#drop, () => undefined);
    this.#expanded = undefined;
  }

  async #attempt(): Promise<T> {
    const seed = this.#seed;
    if (seed === undefined) throw new Error('a private key was used after its release');
    try {
      const expanded = await this.#expand(seed);
      seed.wipe();
      return expanded;
    } catch (error) {
      // Unless it was released meanwhile, the seed is still there for another attempt.
      this.#expanded = undefined;
      throw error;
    }
  }
}
