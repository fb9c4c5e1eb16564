/**
 * Wrapped seeds that were opened, for as long as no change touches their key: API servers that start
 * open the same ones again. What is under way is shared too, so that ten equal calls at once open one.
 *
 * Nothing in here permits or records anything: each call is authorized and has its audit entry, and what
 * is remembered only saves the HSM's work.
 */
import { SecretBytes } from '../crypto/secret.ts';
import type { EpochStanding, SecurityEpoch } from '../epoch.ts';
import type { Opened } from '../keyring/operations.ts';

/** Seeds have 32 bytes; a cluster has some tens of them. */
const MAX_SEEDS = 1_000;
const LIFE_MS = 300_000;

interface Seed {
  readonly opened: Promise<Opened>;
  readonly began: number;
}

export class OpenedSeeds {
  readonly #epoch: SecurityEpoch;
  readonly #now: () => number;
  /** Least recently used first. */
  readonly #seeds = new Map<string, Seed>();

  constructor(epoch: SecurityEpoch, now: () => number = () => performance.now()) {
    this.#epoch = epoch;
    this.#now = now;
    // Of access too: whoever lost a permission finds nothing that was opened under it.
    epoch.onChange(() => this.clear());
  }

  get size(): number {
    return this.#seeds.size;
  }

  /**
   * A copy of what `open` gives or gave; its owner wipes it. `standing` says since when it may be new.
   * @throws what `open` throws, which is not remembered
   */
  async open(name: string, standing: EpochStanding, open: () => Promise<Opened>): Promise<Opened> {
    const known = this.#fresh(name);
    const seed = known ?? { opened: open(), began: this.#now() };
    if (known === undefined) {
      this.#seeds.set(name, seed);
      this.#bound();
    }
    try {
      const { plaintext, ...rest } = await seed.opened;
      // A change that came while it was read may have been about what was read.
      if (this.#epoch.touches(standing)) this.#forget(name);
      return { ...rest, plaintext: SecretBytes.copyOf(plaintext.reveal()) };
    } catch (error) {
      if (this.#seeds.get(name) === seed) this.#seeds.delete(name);
      throw error;
    }
  }

  /** Wipes all of it. */
  clear(): void {
    for (const name of [...this.#seeds.keys()]) this.#forget(name);
  }

  #fresh(name: string): Seed | undefined {
    const seed = this.#seeds.get(name);
    if (seed === undefined) return undefined;
    this.#seeds.delete(name);
    if (this.#now() - seed.began >= LIFE_MS) {
      wipeLater(seed);
      return undefined;
    }
    this.#seeds.set(name, seed);
    return seed;
  }

  #bound(): void {
    const [oldest] = this.#seeds.keys();
    if (this.#seeds.size > MAX_SEEDS && oldest !== undefined) this.#forget(oldest);
  }

  #forget(name: string): void {
    const seed = this.#seeds.get(name);
    this.#seeds.delete(name);
    if (seed !== undefined) wipeLater(seed);
  }
}

/** After those have taken their copies who wait for it now. */
function wipeLater({ opened }: Seed): void {
  opened.then(
    ({ plaintext }) => setImmediate(() => plaintext.wipe()),
    () => undefined,
  );
}
