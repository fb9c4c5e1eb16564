/** What stands in a content, counted without making text of it. */
import { TwofoldError } from '../errors.ts';
import { openChunks } from './chunk-reader.ts';
import type { Content } from './chunk-reader.ts';
import type { ContentKeys } from './content.ts';
import { END, PROBE, ROW, TABLE } from './lines.ts';
import type { TableLine } from './lines.ts';

export interface Counted {
  readonly tables: readonly { readonly name: string; readonly rows: number }[];
  readonly probes: number;
}

const NEWLINE = 0x0a;
const [TABLE_BYTE, ROW_BYTE, PROBE_BYTE, END_BYTE] = [TABLE, ROW, PROBE, END].map((mark) =>
  mark.charCodeAt(0),
);

const wrong = () => new TwofoldError('integrity_failed', 'The content is of another form.');

/**
 * Opens every chunk and counts every line.
 * @throws TwofoldError integrity_failed for lines that no backup has, or without their end; shutting_down
 */
export async function countLines(
  content: Content,
  keys: ContentKeys,
  signal?: AbortSignal,
): Promise<Counted> {
  const count = new LineCount();
  for await (const { plaintext } of openChunks(content, keys)) {
    if (signal?.aborted === true) {
      throw new TwofoldError('shutting_down', 'The backup was stopped.');
    }
    count.take(plaintext);
  }
  return count.end();
}

class LineCount {
  readonly #tables: { name: string; rows: number }[] = [];
  #probes = 0;
  #ended = false;
  /** Whether the next byte begins a line. */
  #begins = true;
  /** Of a table's line, up to where its chunk ended. */
  #table: Buffer | null = null;

  take(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#begins) this.#begin(bytes[at]);
      const newline = bytes.indexOf(NEWLINE, at);
      const end = newline < 0 ? bytes.length : newline;
      if (this.#table !== null) {
        this.#table = Buffer.concat([this.#table, bytes.subarray(at, end)]);
      }
      this.#begins = newline >= 0;
      if (this.#begins) this.#finish();
      at = end + 1;
    }
  }

  end(): Counted {
    if (!this.#ended || !this.#begins) throw wrong();
    return { tables: this.#tables, probes: this.#probes };
  }

  #begin(mark: number | undefined): void {
    if (this.#ended) throw wrong();
    const current = this.#tables.at(-1);
    if (mark === ROW_BYTE && current !== undefined) current.rows += 1;
    else if (mark === PROBE_BYTE) this.#probes += 1;
    else if (mark === TABLE_BYTE) this.#table = Buffer.alloc(0);
    else if (mark === END_BYTE) this.#ended = true;
    else throw wrong();
  }

  #finish(): void {
    if (this.#table === null) return;
    const { name } = JSON.parse(this.#table.toString('utf8', 1)) as TableLine;
    this.#tables.push({ name, rows: 0 });
    this.#table = null;
  }
}
