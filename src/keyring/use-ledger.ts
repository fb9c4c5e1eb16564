/**
 * Counts the successful uses of key versions, by way of use and by principal, so that it can be seen
 * when an old version has fallen silent and who used it last.
 *
 * A use costs a look into a map. Every few seconds the sums are added to the database in one statement,
 * which carries the number of the flush: sent again after an unknown outcome, it counts once. So what
 * is counted is exact but for what a killed process had not flushed yet (one interval at most, or as
 * long as the database was away). These are statistics; the audit log is what is exact and durable.
 * A use counts when the keyring has done it, also where its answer then does not leave because a change
 * overtook it; it runs again and counts again.
 */
import type { Principal } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import type { Usage } from './lifecycle.ts';
import type { UseBatch, UseStore, UseSum } from './ports.ts';

const INTERVAL_MS = 5_000;
/** Sums that wait at most before they are flushed early. */
const FLUSH_AT = 1_024;
/** Sums held at a time, whether they wait or were flushed. */
const MAX_SUMS = 8_192;
/** Principals that are told apart per version and way of use; the others are one. */
const MAX_PRINCIPALS = 256;
/** Longest issuer and subject together that are told apart; an index row holds no longer ones. */
const MAX_NAME = 600;
/** The principal of all that are not told apart. */
export const OTHERS = { issuer: '', subject: '' } as const;

type Named = Pick<Principal, 'issuer' | 'subject'>;

/** A version as `Selected` names it. */
interface Version {
  readonly keyId: string;
  readonly version: number;
}

/** What one principal did with one version in one way since the last flush. */
interface Tally extends Omit<UseSum, 'firstAt' | 'lastAt' | 'uses'> {
  uses: number;
  /** Milliseconds since 1970. */
  firstAt: number;
  lastAt: number;
}

export interface UseLedgerOptions {
  /** UUID of this incarnation. */
  readonly instance: string;
  /** Between flushes; 5 s unless told, null for none but those that are asked for. */
  readonly intervalMs?: number | null;
  readonly maxSums?: number;
  readonly maxPrincipals?: number;
  readonly flushAt?: number;
  /** Milliseconds since 1970; the system's clock unless told. */
  readonly now?: () => number;
  /** Told of the first of several flushes that fail, and of sums that the database refuses. */
  readonly onTrouble?: (error: unknown) => void;
}

export class UseLedger {
  readonly #store: Pick<UseStore, 'addUses'>;
  readonly #instance: string;
  readonly #maxSums: number;
  readonly #maxPrincipals: number;
  readonly #flushAt: number;
  readonly #now: () => number;
  readonly #onTrouble: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout | null;
  /** By version, way and principal; with `uses` 0 they were flushed and only mark who was told apart. */
  readonly #tallies = new Map<string, Tally>();
  /** Principals told apart, by version and way. */
  readonly #principals = new Map<string, number>();
  /** Tallies that are not flushed. */
  #waiting: Tally[] = [];
  /** Nothing more can be forgotten until the next flush. */
  #crowded = false;
  /** Sent, and not known to be there: it goes again under its number before anything else goes. */
  #sent: UseBatch | null = null;
  #number = 0;
  #under: Promise<unknown> = Promise.resolve();
  /** A flush that has not begun yet, shared by everyone who asks before it does. */
  #next: Promise<void> | null = null;
  #failing = false;
  #lost = 0;

  constructor(store: Pick<UseStore, 'addUses'>, options: UseLedgerOptions) {
    this.#store = store;
    this.#instance = options.instance;
    this.#maxSums = options.maxSums ?? MAX_SUMS;
    this.#maxPrincipals = options.maxPrincipals ?? MAX_PRINCIPALS;
    this.#flushAt = options.flushAt ?? FLUSH_AT;
    this.#now = options.now ?? Date.now;
    this.#onTrouble = options.onTrouble ?? (() => undefined);
    const { intervalMs = INTERVAL_MS } = options;
    const flush = () => void this.#flushQuietly();
    this.#timer = intervalMs === null ? null : setInterval(flush, intervalMs).unref();
  }

  /** Sums in memory. */
  get size(): number {
    return this.#tallies.size;
  }

  /** Uses that are in no sum: there was no room, or the database refused them. */
  get lost(): number {
    return this.#lost;
  }

  /** Counts `uses` that have succeeded. */
  count({ keyId, version }: Version, principal: Named, usage: Usage, uses = 1): void {
    const tally = this.#tally(keyId, version, usage, principal);
    if (tally === null) {
      this.#lost += uses;
      return;
    }
    const now = this.#now();
    if (tally.uses === 0) {
      tally.firstAt = now;
      tally.lastAt = now;
      this.#waiting.push(tally);
      // At the number and at its multiples: not at each use while the database is away.
      if (this.#waiting.length % this.#flushAt === 0) void this.#flushQuietly();
    } else if (now > tally.lastAt) {
      tally.lastAt = now;
    }
    tally.uses += uses;
  }

  /**
   * Resolves when everything that was counted before the call is in the database.
   * @throws TwofoldError database_unavailable; the sums are kept and go again
   */
  flush(): Promise<void> {
    this.#next ??= this.#under.then(nothing, nothing).then(() => {
      this.#next = null;
      const sending = this.#send();
      this.#under = sending;
      return sending;
    });
    return this.#next;
  }

  /** Ends the flushes by themselves. */
  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  /** The last flush. @throws as `flush`; what was not flushed is lost then */
  async stop(): Promise<void> {
    this.close();
    await this.flush();
  }

  async #flushQuietly(): Promise<void> {
    try {
      await this.flush();
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.#onTrouble(error);
      this.#failing = true;
    }
  }

  async #send(): Promise<void> {
    if (this.#sent !== null) await this.#deliver(this.#sent);
    const sums = this.#take();
    if (sums.length === 0) return;
    this.#number += 1;
    this.#sent = { instance: this.#instance, number: this.#number, sums };
    await this.#deliver(this.#sent);
  }

  async #deliver(batch: UseBatch): Promise<void> {
    try {
      await this.#store.addUses(batch);
    } catch (error) {
      if (!TwofoldError.is(error, 'internal')) throw error;
      for (const { uses } of batch.sums) this.#lost += uses;
      this.#sent = null;
      throw error;
    }
    this.#sent = null;
  }

  #take(): readonly UseSum[] {
    const sums = this.#waiting.map(({ firstAt, lastAt, ...sum }) => ({
      ...sum,
      firstAt: new Date(firstAt),
      lastAt: new Date(lastAt),
    }));
    for (const tally of this.#waiting) tally.uses = 0;
    this.#waiting = [];
    this.#crowded = false;
    return sums;
  }

  #tally(keyId: string, version: number, usage: Usage, { issuer, subject }: Named): Tally | null {
    const slot = `${keyId}/${version}/${usage}`;
    const known = this.#tallies.get(placeOf(slot, issuer, subject));
    if (known !== undefined) return known;
    const of = { keyId, version, usage };
    const apart = issuer.length + subject.length <= MAX_NAME;
    if (apart && (this.#principals.get(slot) ?? 0) < this.#maxPrincipals && this.#room(0)) {
      this.#principals.set(slot, (this.#principals.get(slot) ?? 0) + 1);
      return this.#open(slot, { ...of, issuer, subject });
    }
    const others = this.#tallies.get(placeOf(slot, OTHERS.issuer, OTHERS.subject));
    if (others !== undefined) return others;
    // A reserve, so that versions are told apart for longer than principals are.
    return this.#room(this.#maxSums / 4) ? this.#open(slot, { ...of, ...OTHERS }) : null;
  }

  #open(slot: string, of: Pick<Tally, 'keyId' | 'version' | 'usage' | keyof Named>): Tally {
    const tally = { ...of, uses: 0, firstAt: 0, lastAt: 0 };
    this.#tallies.set(placeOf(slot, of.issuer, of.subject), tally);
    return tally;
  }

  /** Whether one more sum may be held, `spare` beyond the limit. */
  #room(spare: number): boolean {
    if (this.#tallies.size >= this.#maxSums && !this.#crowded) this.#forget();
    return this.#tallies.size < this.#maxSums + spare;
  }

  /** Drops sums that were flushed, those first that were opened first, until a quarter is free. */
  #forget(): void {
    const enough = (this.#maxSums * 3) / 4;
    for (const [place, { keyId, version, usage, subject, issuer, uses }] of this.#tallies) {
      if (this.#tallies.size <= enough) break;
      if (uses > 0) continue;
      this.#tallies.delete(place);
      if (issuer === OTHERS.issuer && subject === OTHERS.subject) continue;
      const slot = `${keyId}/${version}/${usage}`;
      const left = (this.#principals.get(slot) ?? 0) - 1;
      if (left > 0) this.#principals.set(slot, left);
      else this.#principals.delete(slot);
    }
    this.#crowded = this.#tallies.size >= this.#maxSums;
  }
}

const nothing = (): void => undefined;

const placeOf = (slot: string, issuer: string, subject: string): string =>
  `${slot}/${issuer}\n${subject}`;
