/**
 * The attachment to one token: workers, sessions, login, probe; and getting all of it back after a
 * loss, with backoff, under a new token epoch.
 *
 * Sessions are reopened first; when that fails, or when a worker ended with sessions open, the module
 * is initialised anew, which renumbers every handle, so it waits until no worker is inside a call. A
 * call that hangs is never waited for without end: neither a start nor a stop hangs with it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { TwofoldError } from '../errors.ts';
import { wipe } from '../crypto/secret.ts';
import type { Failure } from './failures.ts';
import type { LoadedModule } from './module.ts';
import { PatientCalls } from './patient-calls.ts';
import { PinRefused } from './pin.ts';
import type { PinFile } from './pin.ts';
import type { HsmCapability, HsmStatus, RootOnToken, ToRewrap } from './port.ts';
import type { Opened, ProbeReport, RootReport, WorkerOptions } from './protocol.ts';
import { custodyOf } from './root-attacks.ts';
import { CallFailure, WorkerThread } from './thread.ts';

export interface HsmLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface AttachmentOptions {
  readonly module: LoadedModule;
  readonly worker: WorkerOptions;
  readonly workers: number;
  readonly pinFile: PinFile;
  readonly log: HsmLog;
  /** Called with the workers that may be given jobs: none while sessions are away. */
  readonly onWorkers: (threads: readonly WorkerThread[]) => void;
  /** Called before the module is initialised anew; never throws. */
  readonly beforeInitialising?: (() => Promise<void>) | undefined;
  /** How long one call of the attachment's own is waited for; 15 s when absent. */
  readonly patienceMs?: number;
}

export type AttachmentState =
  | 'starting'
  | 'ok'
  | 'session-lost'
  | 'pin-refused'
  | 'token-absent'
  | 'self-test-failed'
  | 'closed';

interface SelectedRoot {
  readonly root: RootOnToken;
  /** Wrapped under it. */
  readonly known: ToRewrap | undefined;
}

const BACKOFF_MS = { first: 50, limit: 5_000 } as const;
/** A loss within this time of the last opening does not begin with the shortest pause again. */
const STABLE_MS = 10_000;
/** For logins and probes of a slow network HSM. */
const PATIENCE_MS = 15_000;
/** How often a refused PIN's file is looked at. */
const PIN_POLL_MS = 500;
/** Between known-answer runs; doubled while they find nothing wrong. */
const SELF_TEST_PAUSE_MS = { first: 1_000, limit: 60_000 } as const;
const CLOSE_PATIENCE_MS = 5_000;
const FORGET_PATIENCE_MS = 250;

export class Attachment {
  readonly #options: AttachmentOptions;
  #threads: WorkerThread[] = [];
  #state: AttachmentState = 'starting';
  #detail = 'the token was not opened yet';
  #tokenEpoch = 0;
  #token: Opened['token'] | null = null;
  #capabilities: readonly HsmCapability[] = [];
  #root: SelectedRoot | undefined;
  #attacks: HsmStatus['rootAttacks'] = null;
  #custody: HsmStatus['custody'] = 'unknown';
  #recovery: Promise<void> | undefined;
  #backoff = 0;
  #openedAt = -Infinity;
  /** A worker ended: its sessions can only be closed by initialising the module anew. */
  #orphanedSessions = false;
  #nextSelfTest = 0;
  #selfTestPause: number = SELF_TEST_PAUSE_MS.first;
  /** The trouble that was logged last, so that each poll of it does not log it again. */
  #logged = '';
  /** Made by workers that ended. */
  #earlierObjects = 0;
  readonly #closing = new AbortController();
  readonly #calls: PatientCalls;
  readonly #attempted = Promise.withResolvers<undefined>();

  constructor(options: AttachmentOptions) {
    this.#options = options;
    this.#calls = new PatientCalls(options.patienceMs ?? PATIENCE_MS, this.#closing.signal);
  }

  status(): HsmStatus {
    return {
      ready: this.#state === 'ok',
      state: this.#state,
      detail: this.#detail,
      tokenEpoch: this.#tokenEpoch,
      token: this.#token,
      custody: this.#custody,
      capabilities: this.#capabilities,
      rootAttacks: this.#attacks,
    };
  }

  /** Objects made on the token by this process. */
  get objects(): number {
    return this.#threads.reduce((sum, thread) => sum + thread.objects, this.#earlierObjects);
  }

  /** Ends after the first attempt; when that fails, recovery goes on in the background. */
  async start(): Promise<void> {
    this.#recover();
    await this.#attempted.promise;
  }

  /** Called by the queue: a call came back with a lost session. */
  lost(failure: Failure): void {
    if (this.#state !== 'ok') return;
    this.#enter('session-lost', failure.detail);
    this.#options.log.warn({ returnValue: failure.returnValue }, 'the HSM session was lost');
    this.#recover();
  }

  /** Called by the queue: asks the token for known answers, the less often the less that finds. */
  suspect(): void {
    const now = performance.now();
    const [thread] = this.#threads;
    if (this.#state !== 'ok' || thread === undefined || now < this.#nextSelfTest) return;
    this.#nextSelfTest = now + this.#selfTestPause;
    this.#selfTestPause = Math.min(this.#selfTestPause * 2, SELF_TEST_PAUSE_MS.limit);
    void this.#calls.wait(thread.call({ op: 'self-test' })).then(
      (report) => {
        const failed = failedUses(this.#capabilities, report);
        if (failed.length === 0 || this.#state !== 'ok') return;
        this.#selfTestFailed(failed);
        this.#recover();
      },
      (error: unknown) => {
        if (error instanceof CallFailure) this.lost(error.failure);
      },
    );
  }

  /** Selects a root on every worker; the first one also tries what the root allows. */
  async useRoot(root: RootOnToken, known?: ToRewrap): Promise<void> {
    if (this.#state !== 'ok') throw new TwofoldError('hsm_unavailable', this.#detail);
    try {
      await this.#selectRoot({ root, known: known && copied(known) }, this.#floorOf(root));
    } catch (error) {
      throw error instanceof CallFailure ? error.toError() : error;
    }
  }

  /** What the attacks on a root come to that is not selected. */
  async tryRoot(root: RootOnToken): Promise<HsmStatus['custody']> {
    const [first] = this.#threads;
    if (this.#state !== 'ok' || first === undefined) {
      throw new TwofoldError('hsm_unavailable', this.#detail);
    }
    try {
      return custodyOf(await this.#calls.wait(first.call({ op: 'try-root', root })));
    } catch (error) {
      throw error instanceof CallFailure ? error.toError() : error;
    }
  }

  /**
   * Tells every worker. One that ends has forgotten anyway, and one that hangs will read this before
   * any later call, so nobody has to wait for it.
   */
  async forget(id: string): Promise<void> {
    const told = this.#threads.map((thread) => thread.call({ op: 'forget', id }));
    const patience = delay(FORGET_PATIENCE_MS, undefined, { ref: false });
    await Promise.race([Promise.allSettled(told), patience]);
  }

  async close(): Promise<void> {
    this.#enter('closed', 'the HSM connection is closed');
    // Every wait of a recovery ends with this, so the recovery does.
    this.#closing.abort();
    await this.#recovery;
    const threads = this.#threads;
    this.#threads = [];
    const closed = Promise.allSettled(threads.map((thread) => thread.call({ op: 'close' })));
    const hung = await Promise.race([closed, delay(CLOSE_PATIENCE_MS, 'hung', { ref: false })]);
    if (hung === 'hung') {
      // A thread inside the module cannot be ended, and finalising under it would crash. It keeps the
      // process alive; whoever composed this ends that (main/exit.ts).
      this.#options.log.error(
        {},
        'the HSM does not answer; its sessions are left to its own cleanup',
      );
      return;
    }
    await Promise.all(threads.map((thread) => thread.end()));
    this.#options.module.unload();
  }

  #enter(state: AttachmentState, detail: string): void {
    if (this.#state === 'closed') return;
    this.#state = state;
    this.#detail = detail;
    this.#options.onWorkers(state === 'ok' ? this.#threads : []);
  }

  #recover(): void {
    this.#recovery ??= this.#recoverUntilOpen()
      .catch((error: unknown) => {
        // The pause ends early when the connection is closed; nothing else throws.
        if (!this.#closing.signal.aborted) throw error;
      })
      .finally(() => {
        this.#recovery = undefined;
      });
  }

  async #recoverUntilOpen(): Promise<void> {
    const { signal } = this.#closing;
    if (performance.now() - this.#openedAt > STABLE_MS) this.#backoff = 0;
    try {
      for (let first = true; !signal.aborted; first = false) {
        await this.#pause(signal);
        // The first attempt only reopens sessions; a token that is really gone needs the module anew.
        const anew = this.#orphanedSessions || (!first && this.#state !== 'pin-refused');
        if (await this.#attempt(anew)) return;
        this.#attempted.resolve(undefined);
      }
    } finally {
      this.#attempted.resolve(undefined);
    }
  }

  async #pause(signal: AbortSignal): Promise<void> {
    const jittered = this.#backoff * (0.75 + Math.random() / 2);
    const pause = this.#state === 'pin-refused' ? PIN_POLL_MS : jittered;
    this.#backoff = Math.min(Math.max(this.#backoff * 2, BACKOFF_MS.first), BACKOFF_MS.limit);
    if (pause > 0) await delay(pause, undefined, { signal });
  }

  /** True when the token is open, tested and (where one was selected) has its root. */
  async #attempt(anew: boolean): Promise<boolean> {
    let pin: Uint8Array | undefined;
    try {
      // Calls that hang from before: what is asked of their threads would only wait behind them.
      if (!(await this.#calls.ended())) throw silent();
      if (anew) await this.#reinitialise();
      this.#fill();
    } catch (error) {
      this.#trouble('session-lost', error);
      return false;
    }
    try {
      pin = await this.#options.pinFile.read();
      return await this.#open(pin);
    } catch (error) {
      const refused = error instanceof PinRefused || isPinRefusal(error) || pin === undefined;
      this.#trouble(refused ? 'pin-refused' : 'token-absent', error);
      return false;
    } finally {
      wipe(pin);
    }
  }

  async #reinitialise(): Promise<void> {
    const closed = this.#threads.map((thread) => thread.call({ op: 'close' }));
    await this.#calls.wait(Promise.allSettled(closed));
    this.#orphanedSessions = false;
    await this.#options.beforeInitialising?.();
    try {
      this.#options.module.reinitialise();
    } catch (error) {
      this.#options.log.warn({ err: error }, 'the PKCS #11 module could not be initialised');
    }
  }

  /** False when known answers fail; whatever else goes wrong is thrown. */
  async #open(pin: Uint8Array): Promise<boolean> {
    this.#tokenEpoch += 1;
    const [first, ...others] = this.#threads;
    if (first === undefined) throw new TwofoldError('hsm_unavailable', 'no HSM worker runs');
    // One worker alone logs in, so that a wrong PIN costs one attempt and not one per worker.
    const { token } = await this.#calls.wait(this.#login(first, pin));
    this.#requireSameToken(token);
    await Promise.all(others.map((other) => this.#calls.wait(this.#openThread(other, pin))));
    const report = await this.#calls.wait(first.call({ op: 'probe' }));
    const failed = failedUses(this.#capabilities, report);
    if (failed.length > 0) {
      this.#selfTestFailed(failed);
      return false;
    }
    if (this.#root !== undefined) await this.#selectRoot(this.#root, this.#custody);
    this.#token = token;
    this.#capabilities = report.capabilities;
    this.#openedAt = performance.now();
    this.#logged = '';
    this.#enter('ok', '');
    this.#options.log.info({ tokenEpoch: this.#tokenEpoch, ...token }, 'the HSM is open');
    return true;
  }

  /** The mark of the attempt follows the call, however late that ends. */
  async #login(thread: WorkerThread, pin: Uint8Array): Promise<Opened> {
    const copy = Uint8Array.from(pin);
    try {
      return await this.#options.pinFile.offer(copy, () => this.#openThread(thread, copy), {
        refuses: isPinRefusal,
        onUnmarked: (cause) => {
          const message = 'the mark of a refused PIN could not be written';
          this.#options.log.error({ err: cause }, message);
          return undefined;
        },
      });
    } finally {
      wipe(copy);
    }
  }

  async #openThread(thread: WorkerThread, pin: Uint8Array): Promise<Opened> {
    // A copy: the message must not carry the memory pool that small buffers share.
    const copy = Uint8Array.from(pin);
    const tokenEpoch = this.#tokenEpoch;
    try {
      return await thread.call({ op: 'open', tokenEpoch, pin: copy });
    } finally {
      wipe(copy);
    }
  }

  /** Whoever restores or swaps a token means a restart, where database and root are compared. */
  #requireSameToken(found: Opened['token']): void {
    if (this.#token === null || this.#token.serial === found.serial) return;
    throw new TwofoldError(
      'hsm_unavailable',
      `a token with serial ${found.serial} answers in place of ${this.#token.serial}`,
    );
  }

  /**
   * A root that replaces the selected one, or is found in its own place again, is no weaker. A ceremony that
   * goes back to an earlier one has what that one is.
   */
  #floorOf({ installation, generation }: RootOnToken): HsmStatus['custody'] {
    if (this.#root === undefined) return 'unknown';
    const { root } = this.#root;
    const isEarlier = installation === root.installation && generation < root.generation;
    return isEarlier ? 'unknown' : this.#custody;
  }

  /** Refuses a root that falls where it did not fall before (`floor`). */
  async #selectRoot(selected: SelectedRoot, floor: HsmStatus['custody']): Promise<void> {
    const [first, ...others] = this.#threads;
    // One after the other: until the token refuses it, an attack's copy looks like a second root.
    const select = (thread: WorkerThread, inspect: boolean, least: HsmStatus['custody']) =>
      this.#calls.wait(thread.call({ op: 'use-root', ...selected, inspect, floor: least }));
    const report = first === undefined ? undefined : await select(first, true, floor);
    const custody = report === undefined ? 'unknown' : custodyOf(report);
    await Promise.all(others.map((thread) => select(thread, false, custody)));
    this.#root = selected;
    this.#custody = custody;
    if (report !== undefined) this.#judge(report);
  }

  #judge({ findings, attacks }: RootReport): void {
    this.#attacks = attacks;
    const unknown = attacks.filter(({ outcome }) => outcome === 'unknown');
    if (findings.length > 0) {
      this.#options.log.warn({ findings }, 'the PIN alone can extract keys here');
    } else if (unknown.length > 0) {
      this.#options.log.warn({ unknown }, 'whether the PIN alone can extract keys is not known');
    }
  }

  #trouble(state: AttachmentState, error: unknown): void {
    const detail = error instanceof Error ? error.message : String(error);
    this.#enter(state, detail);
    this.#logOnce({ state, detail }, 'the HSM could not be opened');
  }

  /** A poll that finds what the last one found says nothing. */
  #logOnce(fields: object, message: string): void {
    const line = JSON.stringify(fields);
    if (this.#closing.signal.aborted || line === this.#logged) return;
    this.#logged = line;
    this.#options.log.error(fields, message);
  }

  #selfTestFailed(names: readonly string[]): void {
    this.#selfTestPause = SELF_TEST_PAUSE_MS.first;
    this.#enter('self-test-failed', `known answers failed: ${names.join(', ')}`);
    this.#logOnce({ names }, 'the HSM fails its known answers');
  }

  #fill(): void {
    while (this.#threads.length < this.#options.workers) this.#spawn();
  }

  #spawn(): void {
    const thread: WorkerThread = new WorkerThread(this.#options.worker, (error) => {
      this.#ended(thread, error);
    });
    this.#threads.push(thread);
  }

  /** A worker never ends by itself. It is replaced by the recovery, which waits between attempts. */
  #ended(thread: WorkerThread, error: Error | undefined): void {
    this.#threads = this.#threads.filter((other) => other !== thread);
    this.#earlierObjects += thread.objects;
    if (this.#state === 'closed') return;
    this.#options.log.error({ err: error }, 'an HSM worker ended and is replaced');
    this.#orphanedSessions = true;
    this.#enter('session-lost', 'an HSM worker ended');
    this.#recover();
  }
}

function isPinRefusal(error: unknown): boolean {
  return error instanceof CallFailure && error.failure.consequence === 'pin';
}

/** Of its own memory: a message carries the pool that small buffers share. */
function copied({ spec, material }: ToRewrap): ToRewrap {
  const [blob, check] = [Uint8Array.from(material.blob), Uint8Array.from(material.check)];
  return { spec, material: { ...material, blob, check } };
}

function silent(): TwofoldError {
  return new TwofoldError('hsm_unavailable', 'the HSM does not answer');
}

/** Wrong answers, and uses that this token served before: a token does not lose a mechanism. */
function failedUses(known: readonly HsmCapability[], report: ProbeReport): readonly string[] {
  const offered = new Set(
    report.capabilities.filter(({ available }) => available).map(({ name }) => name),
  );
  const gone = known.filter(({ available, name }) => available && !offered.has(name));
  return [...new Set([...report.wrong, ...gone.map(({ name }) => name)])];
}
