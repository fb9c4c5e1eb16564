/** Cosignatures of witnesses, beside the checkpoints that they are of. */

/** One line of a witness's key. */
export interface Cosignature {
  readonly name: string;
  /** 8 hex digits. */
  readonly keyId: string;
  /** With its line end. */
  readonly line: string;
}

/** Implemented by `store/cosignature-store.ts`. Nothing is verified there. */
export interface CosignatureStore {
  /** Keeps what is there already, and the newest thousands of lines. */
  add(size: number, lines: readonly Cosignature[]): Promise<void>;
  of(size: number): Promise<readonly Cosignature[]>;
  /** Of the largest checkpoint that has any. */
  newest(): Promise<{ readonly size: number; readonly lines: readonly Cosignature[] } | null>;
}
