/**
 * Bounds what callers without a valid token can make us do: how many of their requests are checked at
 * once, and how many refusals a source gets before it is told to slow down. A source over its bound
 * still gets through with a valid token, only less of it at a time.
 */
import { TwofoldError } from '../errors.ts';

export interface GateLimits {
  /** Refused requests that one source may send in a minute. */
  readonly unauthenticatedPerMinute: number;
  /** Sources counted one by one; further ones share a counter. */
  readonly unauthenticatedSources: number;
}

interface Standing {
  checking: number;
  refused: number;
  /** Start of the minute that `refused` counts, ms of the monotonic clock. */
  since: number;
}

/** Tokens of one source that are checked at the same time. */
const CHECKS = 256;
const CHECKS_WHEN_OVER = 4;
const MINUTE_MS = 60_000;
const OTHERS = 'others';

/** IPv6 callers own at least their /64. */
function sourceOf(address: string): string {
  const plain = address.startsWith('::ffff:') ? address.slice(7) : address;
  return plain.includes(':') ? plain.split(':', 4).join(':') : plain;
}

export class UnauthenticatedGate {
  readonly #limits: GateLimits;
  readonly #now: () => number;
  readonly #sources = new Map<string, Standing>();

  constructor(limits: GateLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
  }

  /**
   * Runs `check` unless the source has too many running.
   * @param hasToken without one there is nothing to check, and a source over its bound gets nothing
   * @throws TwofoldError rate_limited, or what `check` threw
   */
  async pass<T>(address: string, hasToken: boolean, check: () => Promise<T>): Promise<T> {
    const source = this.#standing(sourceOf(address));
    const over = source.refused >= this.#limits.unauthenticatedPerMinute;
    if ((over && !hasToken) || source.checking >= (over ? CHECKS_WHEN_OVER : CHECKS)) {
      throw new TwofoldError('rate_limited', 'Too many requests without a valid token.', {
        retryAfter: 10,
      });
    }
    source.checking += 1;
    try {
      return await check();
    } catch (error) {
      source.refused += 1;
      throw error;
    } finally {
      source.checking -= 1;
    }
  }

  #standing(source: string): Standing {
    const known = this.#sources.get(source);
    const now = this.#now();
    if (known !== undefined) return this.#refreshed(known, now);
    if (this.#sources.size >= this.#limits.unauthenticatedSources) this.#forget(now);
    const full = this.#sources.size >= this.#limits.unauthenticatedSources;
    if (full && source !== OTHERS) return this.#standing(OTHERS);
    const fresh = { checking: 0, refused: 0, since: now };
    this.#sources.set(source, fresh);
    return fresh;
  }

  #refreshed(standing: Standing, now: number): Standing {
    if (now - standing.since < MINUTE_MS) return standing;
    standing.since = now;
    standing.refused = 0;
    return standing;
  }

  /** Drops sources that did nothing lately. */
  #forget(now: number): void {
    for (const [source, { checking, since }] of this.#sources) {
      if (checking === 0 && now - since >= MINUTE_MS) this.#sources.delete(source);
    }
  }
}
