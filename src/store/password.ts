/**
 * The password of new connections, read from where it stands at each of them, so that it changes under
 * a running service.
 *
 * Role and file cannot change at the same moment. The password that was accepted last is therefore
 * remembered: while the database refuses what the file holds, or the file cannot be used, connections
 * are made with the former one. Where the role was changed first nothing helps but the file, and
 * whoever needs a connection tries again inside its deadline (`transaction.ts`).
 */
import { PasswordUnusable, isPasswordRefusal } from './outcome.ts';

/** Gives the password that stands there now, or fails with what is wrong with its file. */
export type ReadPassword = () => Promise<string> | string;

export interface PasswordEvents {
  /** The database took another password than before. */
  readonly onChange?: (() => void) | undefined;
  /** The database refused what the file holds; told once for each content. */
  readonly onRefusal?: (() => void) | undefined;
}

/** How long a password that was refused is not offered while there is a former one to offer. */
const REFUSED_MS = 1_000;

export class Passwords {
  readonly #read: ReadPassword;
  readonly #events: PasswordEvents;
  readonly #now: () => number;
  /** What the file held when it was last read. */
  #held: string | undefined;
  #accepted: string | undefined;
  /** The one that was told last: a login that began before another was refused may end after it. */
  #told: string | undefined;
  #refused: { readonly password: string; readonly at: number } | undefined;

  /** `now`: milliseconds on a monotonic clock; for tests. */
  constructor(read: ReadPassword, events: PasswordEvents = {}, now = () => performance.now()) {
    this.#read = read;
    this.#events = events;
    this.#now = now;
  }

  /** Whether the database refuses what the file holds, as far as it was asked. */
  get refusing(): boolean {
    return this.#refused !== undefined && this.#refused.password === this.#held;
  }

  /** For one connection. @throws PasswordUnusable when there is none */
  async offer(): Promise<string> {
    let held: string;
    try {
      held = await this.#readHeld();
    } catch (error) {
      if (this.#accepted !== undefined) return this.#accepted;
      throw new PasswordUnusable('the password of the database cannot be read', { cause: error });
    }
    return this.#wasJustRefused(held) ? (this.#accepted ?? held) : held;
  }

  /** Makes a connection with what the file holds, whatever was refused before. Rejects as it does. */
  async tryOut(connect: (password: string) => Promise<void>): Promise<void> {
    const held = await this.#readHeld();
    try {
      await connect(held);
    } catch (error) {
      this.settle(held, error);
      throw error;
    }
    this.settle(held, undefined);
  }

  async #readHeld(): Promise<string> {
    this.#held = await this.#read();
    return this.#held;
  }

  /** What became of a connection with a password that was offered; `error` is undefined when it stands. */
  settle(password: string, error: unknown): void {
    if (error === undefined || error === null) this.#accept(password);
    else if (isPasswordRefusal(error)) this.#refuse(password);
  }

  #accept(password: string): void {
    if (this.#refused?.password === password) this.#refused = undefined;
    if (password === this.#accepted) return;
    this.#accepted = password;
    if (this.#told !== undefined && this.#told !== password) this.#events.onChange?.();
    this.#told = password;
  }

  #refuse(password: string): void {
    // The former one has had its day: what the file holds is all there is.
    if (password === this.#accepted) this.#accepted = undefined;
    const known = this.#refused?.password === password;
    this.#refused = { password, at: this.#now() };
    if (!known) this.#events.onRefusal?.();
  }

  #wasJustRefused(password: string): boolean {
    const refused = this.#refused;
    return refused?.password === password && this.#now() - refused.at < REFUSED_MS;
  }
}
