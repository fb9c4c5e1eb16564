/**
 * Requests of callers that nobody knows, from their heads to their answers. Those whose bodies still come
 * and those that wait for their turn have `Places`, so that slow ones keep nobody out; of those that are
 * worked on there are so many at once, and the source that has fewest of them is next.
 */
import { sourceGroup } from '../audit/anonymous.ts';
import { TwofoldError } from '../errors.ts';
import { Places } from './places.ts';

export interface VisitLimits {
  /** Requests that are read or wait; each may have a whole body in memory. */
  readonly places: number;
  /** Requests that are worked on. */
  readonly atOnce: number;
}

export interface Visit {
  /**
   * Its body is here: resolves when it is its turn.
   * @throws TwofoldError rate_limited when its place went to another
   */
  turn(): Promise<void>;
  /** To be called once whatever came of it. */
  end(): void;
}

interface Inside {
  readonly source: string;
  state: 'reading' | 'waiting' | 'working' | 'gone';
  go: (error?: TwofoldError) => void;
}

export class Visits {
  readonly #atOnce: number;
  readonly #places: Places<Inside>;
  readonly #waiting = new Set<Inside>();
  readonly #working = new Map<string, number>();
  #workedOn = 0;

  constructor({ places, atOnce }: VisitLimits) {
    this.#places = new Places(places);
    this.#atOnce = atOnce;
  }

  /**
   * @param cut ends the connection, whose body is not waited for any more
   * @throws TwofoldError rate_limited when there is no place
   */
  enter(address: string, cut: () => void): Visit {
    const inside: Inside = { source: sourceGroup(address), state: 'reading', go: cut };
    const gone = this.#places.take(inside, inside.source);
    if (gone === inside) throw tooMany();
    if (gone !== null) this.#sendAway(gone);
    return { turn: () => this.#turn(inside), end: () => this.#end(inside) };
  }

  #sendAway(gone: Inside): void {
    gone.state = 'gone';
    this.#waiting.delete(gone);
    gone.go(tooMany());
  }

  async #turn(inside: Inside): Promise<void> {
    // Its last bytes may have come before its end was noticed.
    if (inside.state === 'gone') throw tooMany();
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    inside.go = (error) => (error === undefined ? resolve(undefined) : reject(error));
    inside.state = 'waiting';
    this.#places.keep(inside);
    this.#waiting.add(inside);
    this.#next();
    await promise;
  }

  #next(): void {
    if (this.#workedOn >= this.#atOnce) return;
    let next: Inside | null = null;
    for (const each of this.#waiting) {
      if (next === null || this.#workOf(each) < this.#workOf(next)) next = each;
    }
    if (next === null) return;
    this.#waiting.delete(next);
    this.#places.leave(next);
    this.#workedOn += 1;
    this.#working.set(next.source, this.#workOf(next) + 1);
    next.state = 'working';
    next.go();
  }

  #workOf({ source }: Inside): number {
    return this.#working.get(source) ?? 0;
  }

  #end(inside: Inside): void {
    const { state } = inside;
    inside.state = 'gone';
    this.#places.leave(inside);
    this.#waiting.delete(inside);
    if (state !== 'working') return;
    this.#workedOn -= 1;
    const left = this.#workOf(inside) - 1;
    if (left > 0) this.#working.set(inside.source, left);
    else this.#working.delete(inside.source);
    this.#next();
  }
}

const tooMany = () =>
  new TwofoldError('rate_limited', 'Others have all places.', { retryAfter: 1 });
