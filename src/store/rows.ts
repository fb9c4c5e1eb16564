/**
 * Reading and writing database rows strictly: what a row cannot mean is `integrity_failed`.
 *
 * Rows are typed by Prisma's generated models, whose fields carry the names of the columns, so that
 * a row is the same whether Prisma or the store's own SQL read it.
 */
import { TwofoldError } from '../errors.ts';

/** Before the id of every key: a walk over keys begins after it, so that one condition is an index's own. */
export const NO_KEY = '00000000-0000-0000-0000-000000000000';

type Row = Readonly<Record<string, unknown>>;

/** Names of columns whose values may have the type `T`. */
type ColumnOf<R, T> = {
  [K in keyof R]: T extends NonNullable<R[K]> ? K : NonNullable<R[K]> extends T ? K : never;
}[keyof R] &
  string;

export const malformed = (what: string) =>
  new TwofoldError('integrity_failed', `A stored row is malformed: ${what}.`);

const isText = (value: unknown) => typeof value === 'string';
const isInteger = (value: unknown): value is number => Number.isSafeInteger(value);
const isBoolean = (value: unknown) => typeof value === 'boolean';
const isTime = (value: unknown): value is Date =>
  value instanceof Date && !Number.isNaN(value.getTime());
const isBytes = (value: unknown) => value instanceof Uint8Array;
const isObject = (value: unknown): value is object => typeof value === 'object';

/**
 * Takes columns out of one row and notices what nobody took, so that no column is outside the value
 * that the row's MAC covers.
 */
export class RowReader<R extends object> {
  readonly #row: Row;
  readonly #table: string;
  readonly #untaken: Set<string>;

  constructor(table: string, row: R) {
    this.#row = row as Row;
    this.#table = table;
    this.#untaken = new Set(Object.keys(row).filter((name) => this.#row[name] !== null));
  }

  text(column: ColumnOf<R, string>): string {
    return this.#required(column, this.maybeText(column));
  }

  maybeText(column: ColumnOf<R, string>): string | null {
    return this.#take(column, isText);
  }

  integer(column: ColumnOf<R, number>): number {
    return this.#required(column, this.maybeInteger(column));
  }

  maybeInteger(column: ColumnOf<R, number>): number | null {
    return this.#take(column, isInteger);
  }

  boolean(column: ColumnOf<R, boolean>): boolean {
    return this.#required(column, this.#take(column, isBoolean));
  }

  time(column: ColumnOf<R, Date>): Date {
    return this.#required(column, this.maybeTime(column));
  }

  maybeTime(column: ColumnOf<R, Date>): Date | null {
    return this.#take(column, isTime);
  }

  bytes(column: ColumnOf<R, Uint8Array>): Uint8Array {
    return this.#required(column, this.maybeBytes(column));
  }

  /** A copy: pg's buffers are views of what came over the socket. */
  maybeBytes(column: ColumnOf<R, Uint8Array>): Uint8Array | null {
    const value = this.#take(column, isBytes);
    return value === null ? null : Uint8Array.from(value);
  }

  /** A value of a closed set. */
  one<T extends string>(column: ColumnOf<R, string>, of: readonly T[]): T {
    const value = this.text(column);
    const found = of.find((member) => member === value);
    if (found === undefined) throw this.#malformed(column);
    return found;
  }

  /** An object of strings. */
  strings(column: keyof R & string): Readonly<Record<string, string>> {
    const value = this.#take(column, isObject);
    const pairs = Object.entries(this.#required(column, value));
    if (Array.isArray(value) || pairs.some(([, text]) => typeof text !== 'string')) {
      throw this.#malformed(column);
    }
    return Object.fromEntries(pairs);
  }

  /** JSON, whatever it says; null where the column is. */
  json(column: keyof R & string): unknown {
    return this.#take(column, (value): value is unknown => value !== undefined);
  }

  /** A list of texts. */
  texts(column: keyof R & string): readonly string[] {
    const value = this.#required(column, this.#take(column, isObject));
    if (!Array.isArray(value) || value.some((text) => typeof text !== 'string')) {
      throw this.#malformed(column);
    }
    return value as readonly string[];
  }

  /** Whether any of these columns is set; takes nothing. */
  any(columns: readonly (keyof R & string)[]): boolean {
    return columns.some((column) => this.#untaken.has(column));
  }

  /** Call last: a column that is set and was not taken has no meaning in this row. */
  done(): void {
    const [first] = this.#untaken;
    if (first !== undefined) throw this.#malformed(first);
  }

  #take<T>(column: string, is: (value: unknown) => value is T): T | null {
    this.#untaken.delete(column);
    const value = this.#row[column];
    if (value === null) return null;
    if (!is(value)) throw this.#malformed(column);
    return value;
  }

  #required<T>(column: string, value: T | null): T {
    if (value === null) throw this.#malformed(column);
    return value;
  }

  #malformed(column: string): TwofoldError {
    return malformed(`${this.#table}.${column}`);
  }
}

/** `\x…`, PostgreSQL's text form of `bytea`. */
export const byteaText = (bytes: Uint8Array): string => `\\x${Buffer.from(bytes).toString('hex')}`;

/**
 * A row as the JSON that `commit_change` takes. Text that PostgreSQL could not give back unchanged
 * is refused, or the row's MAC would fail ever after.
 *
 * @throws TwofoldError invalid_value for text with NUL or a lone surrogate.
 */
export const rowJson = (row: object): Readonly<Record<string, unknown>> =>
  Object.fromEntries(
    Object.entries(row)
      .filter(([, value]) => value !== null)
      .map(([column, value]) => [column, columnJson(value)]),
  );

const columnJson = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return byteaText(value);
  if (value instanceof Date) return value.toISOString();
  if (typeof value === 'object' && value !== null) {
    for (const part of Object.entries(value).flat() as unknown[]) columnJson(part);
    return value;
  }
  return storableText(value);
};

const storableText = (value: unknown): unknown => {
  if (typeof value === 'string' && (value.includes('\0') || !value.isWellFormed())) {
    throw new TwofoldError('invalid_value', 'Text holds a character that cannot be stored.');
  }
  return value;
};

/** A row that came as an array, by the names of its first columns. */
export const named = <R>(columns: readonly (keyof R & string)[], values: readonly unknown[]): R =>
  Object.fromEntries(columns.map((column, index) => [column, values[index]])) as R;
