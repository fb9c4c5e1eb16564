/** Reads server-sent events (HTML standard, section 9.2.6), of which each field stands on one line. */
import { unexpected } from './http-connection.ts';

export interface ServerEvent {
  /** The last `id` so far; empty before one came. */
  readonly id: string;
  /** `message` unless the stream names it. */
  readonly event: string;
  /** Null of a block that only moves the place. */
  readonly data: string | null;
}

/** An entry of 64 KiB, in base64 and as members. */
const MAX_BLOCK = 1_048_576;

/** @throws ClientError unexpected_answer for a block over 1 MiB; and as the stream fails */
export async function* serverEvents(stream: AsyncIterable<Buffer>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  let id = '';
  for await (const piece of stream) {
    rest += decoder.decode(piece, { stream: true });
    const blocks = rest.split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const event = eventOf(block, id);
      id = event.id;
      yield event;
    }
    if (rest.length > MAX_BLOCK) throw unexpected('An event is longer than 1 MiB.');
  }
}

function eventOf(block: string, lastId: string): ServerEvent {
  const fields = new Map<string, string>();
  for (const line of block.split('\n')) {
    // By its place: a pattern's dot stops at U+2028, which JSON has as it is, and the entry would be lost.
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).replace(/^ /u, ''));
  }
  return {
    id: fields.get('id') ?? lastId,
    event: fields.get('event') ?? 'message',
    data: fields.get('data') ?? null,
  };
}
