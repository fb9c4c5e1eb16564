/**
 * The way past Express for the operations of a key, which are most requests: their paths end in words of
 * the contract behind one plain reference. Express gives each request other prototypes, after which
 * everything that reads the request is slower, and tries patterns in turn: a tenth of the main thread's
 * time of an unwrap. What is not found here goes to Express, which finds the same or refuses it.
 */
import type { Method } from '../contract/route.ts';

const PREFIX = '/v1/keys/';
const KEY_PATH = `${PREFIX}{key}/`;
/** A reference that percent-decoding leaves as it is, the words, and a query that is not looked at. */
const DIRECT = /^\/v1\/keys\/([\w.~:@-]+)\/([a-z/-]+)(?:\?|$)/u;

export interface Found<Handle> {
  readonly handle: Handle;
  readonly key: string;
}

export class DirectRoutes<Handle> {
  readonly #handles = new Map<string, Handle>();

  /** Takes a route whose path has no other parameter than the key; ignores the rest. */
  add(method: Method, path: string, handle: Handle): void {
    const words = path.startsWith(KEY_PATH) ? path.slice(KEY_PATH.length) : '';
    if (/^[a-z/-]+$/u.test(words)) this.#handles.set(`${method} ${words}`, handle);
  }

  /** `url` as in the request line. */
  find(method: string | undefined, url: string | undefined): Found<Handle> | null {
    if (method === undefined || url?.startsWith(PREFIX) !== true) return null;
    const [, key, words] = DIRECT.exec(url) ?? [];
    if (key === undefined || words === undefined) return null;
    const handle = this.#handles.get(`${method} ${words}`);
    return handle === undefined ? null : { handle, key };
  }
}
