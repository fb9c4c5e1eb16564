/**
 * Bounds what callers without a valid token can make us do: how many of their requests are checked at
 * once, and how many refusals a source gets before it is told to slow down. A source over its bound
 * still gets through with a valid token, only less of it at a time.
 */
import { sourceGroup } from '../audit/anonymous.ts';
import { TwofoldError } from '../errors.ts';
import type { Admit } from '../access/ports.ts';
import type { ErrorCode } from '../errors.ts';

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
/** What says that a caller has no valid token. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'token_missing',
  'token_invalid',
  'token_expired',
  'token_denied',
  'certificate_invalid',
  'certificate_expired',
]);
/** Sources looked at to make room for a new one. */
const LOOKED_AT = 8;
const MINUTE_MS = 60_000;
/** Also where `sourceGroup` puts what is no address. */
const OTHERS = 'other';

export class UnauthenticatedGate {
  readonly #limits: GateLimits;
  readonly #now: () => number;
  readonly #sources = new Map<string, Standing>();

  constructor(limits: GateLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
  }

  /**
   * Runs `authenticate`, which runs what costs us something by way of `admit`: that is refused while
   * the source has too much of it under way. A token known to be valid needs none, so nothing that
   * others of its source send keeps it out.
   * @param hasToken without one there is nothing to check, and a source over its bound gets nothing
   * @throws TwofoldError rate_limited, or what `authenticate` threw
   */
  async pass<T>(
    address: string,
    hasToken: boolean,
    authenticate: (admit: Admit) => Promise<T>,
  ): Promise<T> {
    const source = this.#standing(sourceGroup(address));
    if (!hasToken && this.#isOver(source)) throw tooMany();
    try {
      return await authenticate((check) => this.#admit(source, check));
    } catch (error) {
      // Our own overload is nothing that the source did.
      if (TwofoldError.is(error) && REFUSALS.has(error.code)) source.refused += 1;
      throw error;
    }
  }

  /**
   * Runs what looks for something that a caller without a token names. What is not there counts as a
   * refusal, so that nobody tries names faster than tokens.
   * @throws TwofoldError rate_limited, or what `look` threw
   */
  async lookup<T>(address: string, look: () => Promise<T>): Promise<T> {
    const source = this.#standing(sourceGroup(address));
    if (this.#isOver(source)) throw tooMany();
    try {
      return await this.#admit(source, look);
    } catch (error) {
      if (TwofoldError.is(error, 'key_not_found')) source.refused += 1;
      throw error;
    }
  }

  async #admit<T>(source: Standing, check: () => Promise<T>): Promise<T> {
    const most = this.#isOver(source) ? CHECKS_WHEN_OVER : CHECKS;
    if (source.checking >= most) throw tooMany();
    source.checking += 1;
    try {
      return await check();
    } finally {
      source.checking -= 1;
    }
  }

  #isOver({ refused }: Standing): boolean {
    return refused >= this.#limits.unauthenticatedPerMinute;
  }

  #standing(source: string): Standing {
    const known = this.#sources.get(source);
    const now = this.#now();
    if (known !== undefined) return this.#refreshed(known, now);
    if (source !== OTHERS && this.#full(now)) return this.#standing(OTHERS);
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

  /**
   * Whether there is no room, after a few of the sources that came first were looked at: those that did
   * nothing lately go, the others go to the end of the line. Work that does not grow with the table.
   */
  #full(now: number): boolean {
    if (this.#sources.size < this.#limits.unauthenticatedSources) return false;
    let looked = 0;
    for (const [source, standing] of this.#sources) {
      if (looked >= LOOKED_AT) break;
      looked += 1;
      this.#sources.delete(source);
      const idle = standing.checking === 0 && now - standing.since >= MINUTE_MS;
      if (!idle) this.#sources.set(source, standing);
    }
    return this.#sources.size >= this.#limits.unauthenticatedSources;
  }
}

const tooMany = () =>
  new TwofoldError('rate_limited', 'Too many requests without a valid token.', { retryAfter: 10 });
