/** A row and the MAC by `root-mac` over its canonical form. */
export interface Attested<T> {
  readonly value: T;
  readonly mac: Uint8Array;
}
