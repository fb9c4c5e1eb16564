/**
 * Tiles in memory, up to so many bytes. A tile only grows, so that what is known of one holds for every narrower
 * one. What is kept may have been altered where it was read: who finds that forgets it and reads anew.
 */
export class TileCache {
  readonly #most: number;
  readonly #tiles = new Map<string, Uint8Array>();
  #bytes = 0;

  /** @param most bytes of tiles */
  constructor(most: number) {
    this.#most = most;
  }

  /** The first `length` bytes, if so many are known. */
  get(level: number, index: number, length: number): Uint8Array | null {
    const key = `${level}/${index}`;
    const tile = this.#tiles.get(key);
    if (tile === undefined || tile.length < length) return null;
    this.#tiles.delete(key);
    this.#tiles.set(key, tile);
    return tile.slice(0, length);
  }

  /** Those that were not asked for the longest make room. */
  set(level: number, index: number, tile: Uint8Array): void {
    const key = `${level}/${index}`;
    if ((this.#tiles.get(key)?.length ?? 0) >= tile.length) return;
    this.#remove(key);
    this.#tiles.set(key, tile.slice());
    this.#bytes += tile.length;
    for (const oldest of this.#tiles.keys()) {
      if (this.#bytes <= this.#most) break;
      this.#remove(oldest);
    }
  }

  forget(level: number, index: number): void {
    this.#remove(`${level}/${index}`);
  }

  #remove(key: string): void {
    this.#bytes -= this.#tiles.get(key)?.length ?? 0;
    this.#tiles.delete(key);
  }
}
