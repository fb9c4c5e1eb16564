/** Whole tiles above the leaves, which never change and which most proofs share: 2 MiB at most. */
const MOST = 256;

export class TileCache {
  readonly #tiles = new Map<string, Uint8Array>();

  get(level: number, index: number): Uint8Array | null {
    const key = `${level}/${index}`;
    const tile = this.#tiles.get(key);
    if (tile === undefined) return null;
    this.#tiles.delete(key);
    this.#tiles.set(key, tile);
    return tile;
  }

  /** The one that was not asked for the longest makes room. */
  set(level: number, index: number, tile: Uint8Array): void {
    this.#tiles.set(`${level}/${index}`, tile);
    const [oldest] = this.#tiles.keys();
    if (this.#tiles.size > MOST && oldest !== undefined) this.#tiles.delete(oldest);
  }
}
