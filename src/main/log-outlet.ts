/**
 * One place to which checkpoints go: in the background, one at a time, tried again until it takes the
 * newest; what was overtaken meanwhile is left out.
 */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

export class LogOutlet<T> {
  readonly #deliver: (newest: T) => Promise<void>;
  readonly #onTrouble: (error: unknown) => void;
  #pending: T | undefined;
  #running: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;
  #pause = FIRST_PAUSE_MS;
  #stopped = false;

  constructor(deliver: (newest: T) => Promise<void>, onTrouble: (error: unknown) => void) {
    this.#deliver = deliver;
    this.#onTrouble = onTrouble;
  }

  offer(newest: T): void {
    if (this.#stopped) return;
    this.#pending = newest;
    if (this.#timer === undefined) this.#run();
  }

  /** What is under way is waited for; what waits is left. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #run(): void {
    this.#running ??= this.#deliverAll().finally(() => {
      this.#running = null;
    });
  }

  /** Never rejects. */
  async #deliverAll(): Promise<void> {
    while (this.#pending !== undefined && !this.#stopped) {
      const newest = this.#pending;
      try {
        await this.#deliver(newest);
        this.#pause = FIRST_PAUSE_MS;
        if (this.#pending === newest) this.#pending = undefined;
      } catch (error) {
        this.#onTrouble(error);
        this.#retry();
        return;
      }
    }
  }

  #retry(): void {
    if (this.#stopped) return;
    const wait = this.#pause * (0.5 + Math.random());
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#run();
    }, wait).unref();
  }
}
