/** Pauses between attempts, doubling with jitter from 20 ms to a quarter of a second; ended by `abort`. */
export class Backoff {
  #failures = 0;
  #aborted = false;
  #wake: (() => void) | null = null;

  get aborted(): boolean {
    return this.#aborted;
  }

  get failures(): number {
    return this.#failures;
  }

  reset(): void {
    this.#failures = 0;
  }

  async pause(): Promise<void> {
    this.#failures += 1;
    if (this.#aborted) return;
    const ceiling = Math.min(LONGEST, SHORTEST * 2 ** (this.#failures - 1));
    const delay = ceiling * (0.5 + Math.random() / 2);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }

  abort(): void {
    this.#aborted = true;
    this.#wake?.();
  }
}

const SHORTEST = 20;
const LONGEST = 250;
