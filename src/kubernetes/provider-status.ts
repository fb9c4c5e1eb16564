/**
 * Where the provider stands, as Status tells it and Encrypt goes by.
 *
 * The service is asked at most once in a period: API servers are answered after a whole round trip, its state, a wrap
 * and an unwrap.
 * A failure that passes by itself is told only when it has lasted for the grace, so that a fail-over of
 * the database does not take every API server out of service; any other is told at once. API servers ask each 20 or
 * 60 s: in between the provider asks by itself, or a failure would have lasted since whenever one last asked. That it
 * asks for the state alone, as each wrap and unwrap counts against limits and quotas, and each wrap uses the version up.
 *
 * It is told by failing the call. An API server takes any Status that is answered with the key_id it knows,
 * whatever `healthz` says, for the right to write under it for 3 minutes more: it would never stop.
 */
import { randomBytes } from 'node:crypto';

import { SecretBytes } from '../crypto/secret.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { within } from './deadline.ts';
import type {
  Announced,
  AnnouncedMemory,
  KeyService,
  ProviderState,
  ValueContext,
} from './ports.ts';
import { keyIdOf, requireUnder } from './stored-value.ts';

const PROBE_LENGTH = 32;
/** For how long the provider asks by itself after an API server did, ms: one that lives asks once a minute. */
const WANTED_MS = 120_000;
/**
 * After such a time without a whole round trip it makes one by itself, ms: what the state does not tell, as that the HSM
 * is away, is seen so soon. With a grace of 30 s and the 3 minutes of an API server writes stop within 4 minutes.
 */
const WHOLE_MS = 30_000;

export interface StatusOptions {
  readonly service: Pick<KeyService, 'state' | 'wrap' | 'unwrap'>;
  /** The key's own name. */
  readonly key: string;
  readonly contextOf: (version: number) => ValueContext;
  /** Shortest time between two round trips, ms. */
  readonly periodMs: number;
  /** The same after a round trip that failed, ms: what an operator mends is seen soon. */
  readonly failedPeriodMs: number;
  /** How long a failure that passes by itself is not told, ms, from when it was first seen. */
  readonly graceMs: number;
  readonly deadlineMs: number;
  /** Of processes before this one; null: each begins with what it is told first. */
  readonly memory: AnnouncedMemory | null;
  /** Monotonic, ms. */
  readonly now: () => number;
}

/** A provider as it was when the service last told. */
export interface Standing {
  readonly state: ProviderState;
  /** The key_id of the announced version. */
  readonly keyId: string;
  /** What was sealed under that version when it was told of first: another one of its number does not open it. */
  readonly probe: Uint8Array;
}

/** What a person can do about it, by code; every other failure says what it is. */
const ADVICE: Partial<Readonly<Record<ErrorCode, string>>> = {
  key_not_found: 'Make the key, or correct --kms-key.',
  key_mismatch:
    'Of several servers (--server) one is of another installation: `twofold kms-plugin doctor` says which key each has.',
  wrong_purpose: 'Name a key whose suite is A256GCM or a hybrid KEM.',
  version_not_usable:
    'Resume the key, or its announced version, if it was not meant to be suspended.',
  namespace_suspended: 'Resume the namespace, or make it, if that is not meant.',
  forbidden: 'Permit this provider to wrap and unwrap with the key.',
  hsm_unavailable: 'Look at the HSM: `twofold doctor` on the service says what it answers.',
  database_unavailable: "Look at the service's database.",
  deadline_exceeded:
    'Look at `/readyz` of the service: it says what it waits for, such as the HSM or the database.',
  audit_unavailable: 'Nothing is answered without its audit entry: look at the database.',
  token_expired: "Renew the agent's token.",
  certificate_expired: "Renew the agent's certificate.",
  integrity_failed: 'Restart no API server, and look into the log of the service.',
};

const UNKNOWN = 'internal: see the log of the provider';

/** In words: code, what happened, what to do. */
export function causeOf(error: unknown): string {
  const { code, detail } = TwofoldError.from(error);
  const { exposesDetail, title } = ERRORS[code];
  if (code === 'internal') return UNKNOWN;
  const said = exposesDetail ? (detail ?? title) : title;
  return [`${code}: ${said}`, ADVICE[code] ?? ''].join(' ').trim();
}

export class ProviderStatus {
  readonly #options: StatusOptions;
  #standing: Standing | null = null;
  /** When the service last answered well; of its monotonic clock. */
  #goodAt = -Infinity;
  #askedAt = -Infinity;
  /** When it was last asked for a whole round trip. */
  #wholeAt = -Infinity;
  /** Whether the question that is under way, or the next, is to be a whole round trip. */
  #isWhole = false;
  #failure: unknown = null;
  /** When it first failed since it was well. */
  #failedAt = Infinity;
  /** When an API server last asked. */
  #wantedAt = -Infinity;
  #next: NodeJS.Timeout | undefined;
  #isClosed = false;
  #asking: Promise<void> | null = null;
  /** The version that the memory has for certain, with its probe. */
  #kept = 0;
  /** A write that goes on, perhaps for longer than a call. */
  #keeping: Promise<void> | null = null;

  constructor(options: StatusOptions) {
    this.#options = options;
  }

  /** What is known without asking; null before the first answer. */
  get known(): Standing | null {
    return this.#standing;
  }

  /**
   * @throws TwofoldError what the service failed with: while nothing is known at all, or where that does not pass
   *   by itself or has lasted longer than the grace
   */
  async tell(): Promise<Standing> {
    this.#wantedAt = this.#options.now();
    await this.#fresh();
    if (this.#standing === null || this.#isUnwell()) throw TwofoldError.from(this.#failure);
    return this.#standing;
  }

  /**
   * For Encrypt: as the service last told.
   * @throws TwofoldError what it failed with, while nothing is known at all, or where that does not pass by itself
   */
  async standing(): Promise<Standing> {
    if (this.#standing === null || this.#failsForGood()) await this.#fresh();
    if (this.#standing === null || this.#failsForGood()) throw TwofoldError.from(this.#failure);
    return this.#standing;
  }

  #failsForGood(): boolean {
    return this.#failure !== null && !ERRORS[TwofoldError.from(this.#failure).code].retryable;
  }

  /** Asks no more by itself. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#next);
  }

  /** Of a service that nobody asked for a while it is not known how long it has failed: no longer than a period is granted. */
  #isUnwell(): boolean {
    if (this.#failure === null) return false;
    const { now, graceMs, periodMs } = this.#options;
    const lasted = Math.max(now() - this.#failedAt, now() - this.#goodAt - periodMs);
    return this.#failsForGood() || lasted >= graceMs;
  }

  async #fresh(): Promise<void> {
    const { now, periodMs, failedPeriodMs, deadlineMs } = this.#options;
    const until = performance.now() + deadlineMs;
    const [last, period] =
      this.#failure === null ? [this.#wholeAt, periodMs] : [this.#askedAt, failedPeriodMs];
    const joins = this.#asking !== null;
    if (!joins && now() - last < period) return;
    this.#isWhole = true;
    await this.#askOnce();
    // One that is joined may be past the state already, and be for the state alone.
    if (!joins || this.#failure !== null || now() - this.#wholeAt < periodMs) return;
    this.#isWhole = true;
    await this.#askOnce(until - performance.now());
  }

  #askOnce(deadlineMs = this.#options.deadlineMs): Promise<void> {
    this.#asking ??= this.#ask(deadlineMs).finally(() => {
      this.#asking = null;
      this.#isWhole = false;
      this.#askLater();
    });
    return this.#asking;
  }

  #askLater(): void {
    const { now, periodMs } = this.#options;
    clearTimeout(this.#next);
    if (this.#isClosed || now() - this.#wantedAt >= WANTED_MS) return;
    this.#next = setTimeout(() => void this.#askOnce(), periodMs).unref();
  }

  async #ask(deadlineMs: number): Promise<void> {
    const { now } = this.#options;
    const until = performance.now() + deadlineMs;
    this.#askedAt = now();
    try {
      const told = await within(deadlineMs, (signal) => this.#told(signal));
      await this.#keep(announcedBy(told), until - performance.now());
      this.#standing = told;
      this.#failure = null;
      this.#failedAt = Infinity;
      this.#goodAt = now();
    } catch (error) {
      this.#failure = error;
      this.#failedAt = Math.min(this.#failedAt, now());
    }
  }

  /** A round trip, and what is left of it where the state alone will do. */
  async #told(signal: AbortSignal): Promise<Standing> {
    const { service, key } = this.#options;
    const state = await service.state(signal);
    if (state.keyName !== key) {
      throw new TwofoldError(
        'invalid_value',
        `The key's own name is ${state.keyName}: name it by that.`,
      );
    }
    const known = this.#standing;
    const before = known === null ? await this.#remembered() : announcedBy(known);
    this.#check(before, state);
    if (known !== null && !this.#needsWhole(state)) return { ...known, state };
    this.#wholeAt = this.#askedAt;
    // Of a version that was left nothing is asked: it may have been retired and destroyed since.
    const kept = before?.announced === state.announced ? before.probe : null;
    // A database is set back while nobody is served, or where nobody has looked for a while.
    const mayBeAnother = this.#failure !== null || this.#askedAt - this.#goodAt >= WHOLE_MS;
    if (kept !== null && mayBeAnother) await this.#requireSame(kept, state, signal);
    const probe = await this.#sealAndOpen(state, signal);
    const keyId = keyIdOf({ keyId: state.keyId, keyVersion: state.announced });
    return { state, keyId, probe: kept ?? probe };
  }

  #says(): string {
    const { memory } = this.#options;
    return memory === null ? '' : ` ${memory.place} says so`;
  }

  /** What was announced stays: a key_id that was left never comes back. */
  #check(before: Announced | null, state: ProviderState): void {
    const kept = this.#says();
    if (before !== null && before.keyId !== state.keyId) {
      throw new TwofoldError(
        'invalid_value',
        `The service answers for another key, ${state.keyId}: this provider began with ${before.keyId}.` +
          (kept === '' ? '' : `${kept}: where that is meant, remove it and start the agent anew.`),
      );
    }
    if (before !== null && before.announced > state.announced) {
      throw new TwofoldError(
        'log_rolled_back',
        `Version ${String(before.announced)} was announced, and the service says ${String(state.announced)}. ` +
          `Its database was set back: restore it, or rotate the key until a later version than that is announced.` +
          (kept === '' ? '' : `${kept}.`),
      );
    }
  }

  async #remembered(): Promise<Announced | null> {
    const last = (await this.#options.memory?.last()) ?? null;
    this.#kept = last === null || last.probe === null ? 0 : last.announced;
    return last;
  }

  /**
   * The number alone does not say which version it is: one that was set back and rotated again makes another of that
   * number, under the key_id of the lost one, and an API server would go on with a seed that nobody opens.
   * @throws TwofoldError log_rolled_back
   */
  async #requireSame(
    envelope: Uint8Array,
    { announced }: ProviderState,
    signal: AbortSignal,
  ): Promise<void> {
    const { service, contextOf } = this.#options;
    const call = { envelope, context: contextOf(announced), uid: null };
    try {
      const { plaintext } = await service.unwrap(call, signal);
      plaintext.wipe();
    } catch (cause) {
      if (!TwofoldError.is(cause, 'decryption_failed')) throw cause;
      const kept = this.#says();
      throw new TwofoldError(
        'log_rolled_back',
        `Version ${String(announced)} is no longer the one that was announced: what that sealed does not open. ` +
          `The service's database was set back, and made it anew: restore it, or rotate the key until a later version is announced.` +
          (kept === '' ? '' : `${kept}.`),
        { cause },
      );
    }
  }

  /**
   * Waits for the write as long as the call may take, and not again for one that took longer: a disk that stalls
   * or is full does not end the provider. Until it is kept each round trip tries again.
   */
  async #keep(latest: Announced, milliseconds: number): Promise<void> {
    const { memory } = this.#options;
    if (memory === null || this.#kept >= latest.announced || this.#keeping !== null) return;
    const keeping = memory
      .keep(latest)
      .then((isKept) => {
        if (isKept) this.#kept = latest.announced;
      })
      .finally(() => {
        this.#keeping = null;
      });
    this.#keeping = keeping;
    await within(milliseconds, () => keeping).catch(() => undefined);
  }

  /** The state alone makes nothing well, and announces nothing. */
  #needsWhole({ keyId, announced }: ProviderState): boolean {
    const known = this.#standing?.state;
    return (
      this.#isWhole ||
      this.#failure !== null ||
      keyId !== known?.keyId ||
      announced !== known.announced ||
      this.#askedAt - this.#wholeAt >= WHOLE_MS
    );
  }

  /** @returns what was sealed */
  async #sealAndOpen(state: ProviderState, signal: AbortSignal): Promise<Uint8Array> {
    const { service, contextOf } = this.#options;
    const context = contextOf(state.announced);
    using probe = SecretBytes.own(randomBytes(PROBE_LENGTH));
    const call = { plaintext: probe, keyVersion: state.announced, context, uid: null };
    const envelope = await service.wrap(call, signal);
    requireUnder(keyIdOf({ keyId: state.keyId, keyVersion: state.announced }), envelope);
    const { plaintext, origin } = await service.unwrap({ envelope, context, uid: null }, signal);
    using opened = plaintext;
    const same = Buffer.compare(opened.reveal(), probe.reveal()) === 0;
    if (!same || origin !== 'service') {
      throw new TwofoldError('integrity_failed', 'A round trip gave back something else.');
    }
    return envelope;
  }
}

const announcedBy = ({ state: { keyId, announced }, probe }: Standing): Announced => ({
  keyId,
  announced,
  probe,
});
