/** What was started, stopped in the opposite order: one list for a start that fails and for a stop. */
import { TwofoldError } from '../errors.ts';

/** A step's name and what undoes it. */
interface Step {
  readonly name: string;
  readonly stop: () => Promise<void> | void;
}

export class Unwinding {
  readonly #steps: Step[] = [];
  readonly #onFailure: (step: string, error: unknown) => void;
  #begun = false;
  #unwound = Promise.resolve();

  /** `onFailure` is told of steps that could not be undone; the rest is undone all the same. */
  constructor(onFailure: (step: string, error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  /** Whether a stop has begun: a start under way then gives up. */
  get begun(): boolean {
    return this.#begun;
  }

  /** A stop begins: from here on `check` and `add` throw. */
  begin(): void {
    this.#begun = true;
  }

  /** Between the steps of a start. @throws TwofoldError shutting_down once a stop has begun */
  check(): void {
    if (this.#begun) throw new TwofoldError('shutting_down');
  }

  /**
   * What was just started, and how to undo it. Once a stop has begun it is undone at once.
   *
   * @throws TwofoldError shutting_down once a stop has begun; `unwind` waits for the step all the same
   */
  add(name: string, stop: () => Promise<void> | void): void {
    this.#steps.push({ name, stop });
    if (!this.#begun) return;
    void this.unwind();
    this.check();
  }

  /** Undoes everything once, last first; whoever calls it waits until all of it is undone. */
  unwind(): Promise<void> {
    this.begin();
    this.#unwound = this.#unwound.then(() => this.#undo());
    return this.#unwound;
  }

  async #undo(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.stop();
      } catch (error) {
        this.#onFailure(step.name, error);
      }
    }
  }
}
