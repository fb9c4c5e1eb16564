/**
 * Tiles above the leaves, which most proofs share: 2 MiB at most. A tile only grows, so that what is known
 * of one holds for every narrower one.
 */
const MOST = 256;

export class TileCache {
  readonly #tiles = new Map<string, Uint8Array>();

  /** The first `length` bytes, if so many are known. */
  get(level: number, index: number, length: number): Uint8Array | null {
    const key = `${level}/${index}`;
    const tile = this.#tiles.get(key);
    if (tile === undefined || tile.length < length) return null;
    this.#tiles.delete(key);
    this.#tiles.set(key, tile);
    return tile.slice(0, length);
  }

  /** The one that was not asked for the longest makes room. */
  set(level: number, index: number, tile: Uint8Array): void {
    const key = `${level}/${index}`;
    if ((this.#tiles.get(key)?.length ?? 0) < tile.length) this.#tiles.set(key, tile.slice());
    const [oldest] = this.#tiles.keys();
    if (this.#tiles.size > MOST && oldest !== undefined) this.#tiles.delete(oldest);
  }
}
