/**
 * Waiting for calls of a worker thread that may never end: a thread inside the module cannot be
 * interrupted, so the wait is given up and the call remembered until it ends by itself.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { TwofoldError } from '../errors.ts';

export class PatientCalls {
  readonly #pending = new Set<Promise<unknown>>();
  readonly #patienceMs: number;
  readonly #signal: AbortSignal;

  /** Aborting `signal` gives up every wait at once. */
  constructor(patienceMs: number, signal: AbortSignal) {
    this.#patienceMs = patienceMs;
    this.#signal = signal;
  }

  /** @throws TwofoldError `hsm_unavailable` when the call did not end in time; what it throws otherwise */
  async wait<Result>(call: Promise<Result>): Promise<Result> {
    this.#keep(call);
    const outcome = await this.#race(call.then((result) => ({ result })));
    if (outcome === undefined) {
      throw new TwofoldError('hsm_unavailable', 'the HSM does not answer');
    }
    return outcome.result;
  }

  /** True once nothing is under way any more; false when that takes too long. */
  async ended(): Promise<boolean> {
    if (this.#pending.size === 0) return true;
    const all = Promise.all(this.#pending).then(() => true);
    return (await this.#race(all)) ?? false;
  }

  #keep(call: Promise<unknown>): void {
    const ended: Promise<unknown> = Promise.allSettled([call]);
    this.#pending.add(ended);
    void ended.then(() => this.#pending.delete(ended));
  }

  async #race<Result>(call: Promise<Result>): Promise<Result | undefined> {
    const over = new AbortController();
    const signal = AbortSignal.any([this.#signal, over.signal]);
    const patience = delay(this.#patienceMs, undefined, { signal, ref: false });
    try {
      return await Promise.race([call, patience.catch(() => undefined)]);
    } finally {
      over.abort();
    }
  }
}
