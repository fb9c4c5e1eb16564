/**
 * What a change waits for after its own commit where instances may answer without one for a while
 * (promise P5): until each has confirmed it or has ended, or can have no such right any more from before
 * it, and is fenced (`audit/grace/waiting.ts`).
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { GraceStore } from '../audit/grace/ports.ts';
import { ChangeWait } from '../audit/grace/waiting.ts';
import type { Holders } from '../audit/grace/waiting.ts';
import { TwofoldError } from '../errors.ts';
import type { InstanceStore } from '../keyring/instance-ports.ts';

const SHORTEST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 100;
/** For so long the database may be away before a change that waits is told that nobody knows. */
const PATIENCE_MS = 10_000;

export interface ConfirmationParts {
  readonly store: Pick<GraceStore, 'holders' | 'fence'>;
  /** This one. */
  readonly instance: string;
  /** The epoch whose changes this instance has taken in: it may answer from cache as the others may. */
  readonly known: () => number;
  /** Takes in those that it has not. */
  readonly learn: () => Promise<void>;
  readonly onFenced: (ids: readonly string[]) => void;
}

export class Confirmations {
  readonly #parts: ConfirmationParts;
  #running: Promise<unknown> = Promise.resolve();
  #next: Promise<Holders> | null = null;
  #pursuit: Promise<void> | null = null;
  #waiting = 0;
  readonly #stopped = new AbortController();

  constructor(parts: ConfirmationParts) {
    this.#parts = parts;
  }

  /** Changes that wait at the moment. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Whoever waits is told that nobody knows. */
  stop(): void {
    this.#stopped.abort();
  }

  /**
   * Resolves once whatever is committed by now is known to every instance that may still answer.
   * @throws TwofoldError audit_unavailable: the change is written, and when it holds everywhere is not known
   */
  settle = async (): Promise<void> => {
    this.#waiting += 1;
    try {
      await this.#settle();
    } finally {
      this.#waiting -= 1;
    }
  };

  /** The same in the background, one at a time, for who asks again later. */
  pursue(): void {
    this.#pursuit ??= this.settle()
      .catch(() => undefined)
      .finally(() => {
        this.#pursuit = null;
      });
  }

  async #settle(): Promise<void> {
    const wait = new ChangeWait(this.#parts.instance);
    let answered = performance.now();
    for (let pause = SHORTEST_PAUSE_MS; ; pause = Math.min(pause * 1.5, LONGEST_PAUSE_MS)) {
      try {
        if (await this.#look(wait)) return;
        answered = performance.now();
      } catch (error) {
        if (performance.now() - answered > PATIENCE_MS) throw unconfirmed(error);
      }
      if (this.#stopped.signal.aborted) throw unconfirmed(undefined);
      await sleep(pause);
    }
  }

  async #look(wait: ChangeWait): Promise<boolean> {
    const { store, known, learn, onFenced } = this.#parts;
    const holders = await this.#holders();
    const verdict = wait.look(performance.now(), holders, known());
    if (verdict.kind === 'learn') await learn();
    if (verdict.kind === 'fence') {
      await store.fence(verdict.epoch, verdict.ids);
      onFenced(verdict.ids);
    }
    return verdict.kind === 'confirmed';
  }

  /** A read that begins after this call; those who ask meanwhile share the next one. */
  #holders(): Promise<Holders> {
    this.#next ??= this.#running.then(() => {
      this.#next = null;
      const read = this.#parts.store.holders();
      this.#running = read.catch(() => undefined);
      return read;
    });
    return this.#next;
  }
}

/** Whoever asks whether all have confirmed also has those fenced that never will. */
export const pursuedInstances = (
  instances: Pick<InstanceStore, 'confirmed'>,
  confirmations: Pick<Confirmations, 'pursue'>,
): Pick<InstanceStore, 'confirmed'> => ({
  confirmed: async () => {
    const found = await instances.confirmed();
    if (found.least < found.epoch) confirmations.pursue();
    return found;
  },
});

const unconfirmed = (cause: unknown): TwofoldError =>
  new TwofoldError(
    'audit_unavailable',
    'The change is written, but an instance may not have heard of it. Repeat it: the answer, etag_mismatch too, comes once all have.',
    { cause, retryAfter: 1 },
  );
