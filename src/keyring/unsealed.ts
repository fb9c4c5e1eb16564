/**
 * The bounded cache of unsealed software halves (promise P1: in the clear only from unsealing until
 * the cache entry ends).
 *
 * An entry ends by age, by being the least recently used of too many, or at once when a change
 * touches its key. An entry in use is released when its last user is done.
 */
import { wipe } from '../crypto/secret.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { DecapsulationKey, Engine, SigningKey } from '../crypto/engine.ts';
import type { Suite } from '../crypto/suite.ts';
import type { SecurityEpoch } from '../epoch.ts';
import { handleId } from './material.ts';
import type { Key, Material, SealedHalf } from './model.ts';
import type { Root } from './root.ts';

const MAX_ENTRIES = 1_024;
const MAX_AGE_MS = 10 * 60_000;
const SWEEP_MS = 60_000;

/** What operations get of a version's software halves. */
export interface Unsealed {
  readonly decapsulation: DecapsulationKey | null;
  readonly signing: SigningKey | null;
  readonly psk: SecretBytes | null;
}

interface Entry {
  readonly keyId: string;
  readonly unsealed: Promise<Unsealed>;
  readonly until: number;
  users: number;
  ended: boolean;
}

export interface VersionMaterial {
  readonly key: Pick<Key, 'namespace'>;
  readonly keyId: string;
  readonly version: number;
  readonly suite: Suite;
  readonly material: Material;
}

export class UnsealedHalves {
  readonly #root: Root;
  readonly #engine: Engine;
  readonly #epoch: SecurityEpoch;
  readonly #entries = new Map<string, Entry>();
  readonly #sweeper: NodeJS.Timeout;
  readonly #maxEntries: number;

  constructor(root: Root, engine: Engine, epoch: SecurityEpoch, maxEntries = MAX_ENTRIES) {
    this.#maxEntries = maxEntries;
    this.#root = root;
    this.#engine = engine;
    this.#epoch = epoch;
    epoch.onChange(({ scope, keyId }) => {
      if (scope === 'key') this.#endWhere((entry) => keyId === null || entry.keyId === keyId);
    });
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * Runs `use` on the halves; they stay valid until it settles, and not a moment is promised beyond.
   * `since` is the epoch of the request's grant: when a change has touched the key after it, the
   * request may still carry the key's old state, and nothing that it unseals is kept.
   */
  async with<T>(
    version: VersionMaterial,
    since: number,
    use: (unsealed: Unsealed) => Promise<T>,
  ): Promise<T> {
    const entry = this.#entry(version, since);
    entry.users += 1;
    try {
      return await use(await entry.unsealed);
    } finally {
      entry.users -= 1;
      if (entry.ended && entry.users === 0) void release(entry);
    }
  }

  close(): void {
    clearInterval(this.#sweeper);
    this.#endWhere(() => true);
  }

  #entry(version: VersionMaterial, since: number): Entry {
    const id = handleId(version.keyId, version.version);
    const known = this.#entries.get(id);
    this.#entries.delete(id);
    if (known !== undefined && known.until > performance.now()) {
      this.#entries.set(id, known);
      return known;
    }
    if (known !== undefined) this.#end(known);
    const { namespace } = version.key;
    const standing = { epoch: since, namespace, keyId: version.keyId, keyName: null };
    const opened = this.#open(version);
    if (this.#epoch.touches(standing)) opened.ended = true;
    else this.#keep(id, opened);
    return opened;
  }

  #open(version: VersionMaterial): Entry {
    return {
      keyId: version.keyId,
      unsealed: this.#unseal(version),
      until: performance.now() + MAX_AGE_MS,
      users: 0,
      ended: false,
    };
  }

  #keep(id: string, entry: Entry): void {
    this.#entries.set(id, entry);
    entry.unsealed.catch(() => {
      if (this.#entries.get(id) === entry) this.#entries.delete(id);
    });
    const [oldest] = this.#entries;
    if (this.#entries.size > this.#maxEntries && oldest !== undefined) {
      this.#entries.delete(oldest[0]);
      this.#end(oldest[1]);
    }
  }

  async #unseal({ keyId, version, suite, material }: VersionMaterial): Promise<Unsealed> {
    const { pq, psk } = material;
    const unseal = (half: SealedHalf | undefined, part: 'pq' | 'psk') =>
      half === undefined
        ? null
        : this.#root.unseal(half, { keyId, version, suite: suite.number, part });
    const [seed, secret] = await Promise.allSettled([
      unseal(pq?.half, 'pq'),
      unseal(psk ?? undefined, 'psk'),
    ]);
    const opened = secret.status === 'fulfilled' ? secret.value : null;
    try {
      if (seed.status === 'rejected') throw seed.reason;
      if (secret.status === 'rejected') throw secret.reason;
      return { ...this.#import(suite, seed.value), psk: opened };
    } catch (error) {
      wipe(opened ?? undefined);
      throw error;
    } finally {
      if (seed.status === 'fulfilled') wipe(seed.value ?? undefined);
    }
  }

  #import(suite: Suite, seed: SecretBytes | null): Omit<Unsealed, 'psk'> {
    const { mlKem, signatures } = this.#engine;
    const nothing = { decapsulation: null, signing: null };
    if (seed === null) return nothing;
    if (suite.kind === 'kem' && suite.pq !== null) {
      return { ...nothing, decapsulation: mlKem.importSeed(suite.pq, seed) };
    }
    if (suite.kind === 'signature' && suite.pq !== null) {
      return { ...nothing, signing: signatures.importSeed(suite.pq, seed) };
    }
    return nothing;
  }

  #sweep(): void {
    const now = performance.now();
    this.#endWhere((entry) => entry.until <= now);
  }

  #endWhere(matches: (entry: Entry) => boolean): void {
    for (const [id, entry] of this.#entries) {
      if (!matches(entry)) continue;
      this.#entries.delete(id);
      this.#end(entry);
    }
  }

  #end(entry: Entry): void {
    entry.ended = true;
    if (entry.users === 0) void release(entry);
  }
}

/** Waits for an unsealing under way; one that failed left nothing to wipe. */
async function release(entry: Entry): Promise<void> {
  const [outcome] = await Promise.allSettled([entry.unsealed]);
  if (outcome.status !== 'fulfilled') return;
  outcome.value.decapsulation?.release();
  outcome.value.signing?.release();
  wipe(outcome.value.psk ?? undefined);
}
