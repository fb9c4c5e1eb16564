/** What was started, stopped in the opposite order: one list for a start that fails and for a stop. */

/** A step's name and what undoes it. */
interface Step {
  readonly name: string;
  readonly stop: () => Promise<void> | void;
}

export class Unwinding {
  readonly #steps: Step[] = [];
  readonly #onFailure: (step: string, error: unknown) => void;
  #begun = false;

  /** `onFailure` is told of steps that could not be undone; the rest is undone all the same. */
  constructor(onFailure: (step: string, error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  /** Whether a stop has begun: a start under way then gives up. */
  get begun(): boolean {
    return this.#begun;
  }

  add(name: string, stop: () => Promise<void> | void): void {
    this.#steps.push({ name, stop });
  }

  /** Undoes everything once, last first. */
  async unwind(): Promise<void> {
    this.#begun = true;
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.stop();
      } catch (error) {
        this.#onFailure(step.name, error);
      }
    }
  }
}
