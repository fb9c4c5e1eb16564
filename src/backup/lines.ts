/** Lines of a backup's content: what each begins with says what it is. */

/** `T` and {name, columns}: rows of this table follow. */
export const TABLE = 'T';
/** `R` and a row as JSON, by the names of its columns. */
export const ROW = 'R';
/** `P` and a probe as JSON (`probes.ts`). */
export const PROBE = 'P';
/** `E` and {rows}: there is nothing behind it. */
export const END = 'E';

export interface TableLine {
  readonly name: string;
  readonly columns: readonly string[];
}
