/**
 * Page tokens: where a list goes on, bound to the list, its filters and the principal. They are
 * authenticated and not encrypted: what they hold, their owner has just been shown.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import type { Principal } from '../access/grant.ts';

const MAC_LENGTH = 16;

/** What a token belongs to. */
export interface PageScope {
  /** Route id. */
  readonly list: string;
  readonly namespace: string;
  readonly principal: Principal;
  /** The parsed query without its paging members. */
  readonly filter: Readonly<Record<string, unknown>>;
}

export class PageTokens {
  readonly #key: Uint8Array;

  /** @param key 32 bytes, the same in every instance that answers for the others */
  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** The token that resumes after `position`; null stays null. */
  seal(scope: PageScope, position: string | null): string | null {
    if (position === null) return null;
    const text = Buffer.from(position);
    return Buffer.concat([this.#mac(scope, text), text]).toString('base64url');
  }

  /**
   * @throws TwofoldError invalid_value for a token of another list, filter, principal or service
   */
  open(scope: PageScope, token: string | undefined): string | null {
    if (token === undefined) return null;
    const bytes = Buffer.from(token, 'base64url');
    const text = bytes.subarray(MAC_LENGTH);
    const mac = bytes.subarray(0, MAC_LENGTH);
    const genuine = bytes.length > MAC_LENGTH && timingSafeEqual(mac, this.#mac(scope, text));
    if (genuine && bytes.toString('base64url') === token) return text.toString();
    throw new TwofoldError('invalid_value', '?pageToken is not one of this list and filter.');
  }

  #mac(scope: PageScope, position: Uint8Array): Buffer {
    const { list, namespace, principal, filter } = scope;
    const bound = Object.entries(filter).sort(([a], [b]) => (a < b ? -1 : 1));
    return createHmac('sha256', this.#key)
      .update(JSON.stringify([list, namespace, principal.issuer, principal.subject, bound]))
      .update('\0')
      .update(position)
      .digest()
      .subarray(0, MAC_LENGTH);
  }
}
