/**
 * What `etcdctl get /registry/ --prefix -w json` prints, read piece by piece:
 *
 *     {"header":{…},"kvs":[{"key":"<base64>",…,"value":"<base64>"},…],"count":N}
 *
 * A dump that is not whole is refused: what it lacks might name the version that is looked for.
 */
import { decodeBase64 } from '../crypto/base64.ts';
import { TwofoldError } from '../errors.ts';
import type { EtcdRecord } from './etcd-record.ts';

/** Characters of one key with its value: etcd takes requests of 1.5 MiB unless told otherwise. */
const LONGEST_PIECE = 33_554_432;
const LONGEST_HEAD = 4_096;
const HEAD = /^\s*\{\s*"header"\s*:\s*\{[^{}]*\}\s*,\s*"kvs"\s*:\s*\[/u;

const refuse = (why: string) =>
  new TwofoldError(
    'invalid_value',
    `The dump ${why}: take it by etcdctl get /registry/ --prefix -w json.`,
  );

interface Pair {
  readonly key?: unknown;
  readonly value?: unknown;
}

function decoded(text: unknown): Uint8Array {
  if (typeof text !== 'string') throw refuse('has a key or value that is not base64');
  return decodeBase64(text, 'A key or value of the dump');
}

function recordOf(piece: string): EtcdRecord {
  let pair: Pair;
  try {
    pair = JSON.parse(piece) as Pair;
  } catch {
    throw refuse('is not JSON');
  }
  const { key, value = '' } = pair;
  return { key: Buffer.from(decoded(key)).toString('utf8'), value: decoded(value) };
}

function checkEnd(rest: string, seen: number): void {
  let end: { readonly count?: unknown; readonly more?: unknown };
  try {
    end = JSON.parse(`{"kvs":[${rest}`) as typeof end;
  } catch {
    throw refuse('ends early');
  }
  if (end.count !== seen || end.more === true)
    throw refuse(`has ${seen} of ${String(end.count)} keys`);
}

/**
 * @param chunks the file, as text
 * @throws TwofoldError invalid_value
 */
export async function* readDump(chunks: AsyncIterable<string>): AsyncGenerator<EtcdRecord> {
  let [text, begun, ended, seen] = ['', false, false, 0];
  for await (const chunk of chunks) {
    text += chunk;
    if (!begun) {
      const [head] = HEAD.exec(text) ?? [];
      if (head === undefined && text.length > LONGEST_HEAD) throw refuse('has no list of keys');
      if (head === undefined) continue;
      text = text.slice(head.length);
      begun = true;
    }
    let from = 0;
    while (!ended) {
      const start = nextItem(text, from);
      ended = start === 'end';
      // Base64 has no braces, so that the first one ends the object.
      const close = typeof start === 'number' ? text.indexOf('}', start) : -1;
      if (typeof start !== 'number' || close < 0) break;
      yield recordOf(text.slice(start, close + 1));
      seen += 1;
      from = close + 1;
    }
    text = text.slice(from);
    if (text.length > LONGEST_PIECE) throw refuse('has a value that is too long');
  }
  if (!begun || !ended) throw refuse('ends early');
  checkEnd(text.replace(/^\s*,?\s*/u, ''), seen);
}

/** Where the next object begins; `end` of the list; `more` has to be read to tell. */
function nextItem(text: string, from: number): number | 'end' | 'more' {
  const [all = '', next = ''] = /^[\s,]*([^\s,]?)/u.exec(text.slice(from, from + 64)) ?? [];
  if (next === '') return 'more';
  if (next === ']') return 'end';
  if (next !== '{') throw refuse('has something else among its keys');
  return from + all.length - 1;
}
