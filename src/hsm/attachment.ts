/**
 * The attachment to one token: workers, sessions, login, probe; and getting all of it back after a
 * loss, with backoff, under a new token epoch.
 *
 * Sessions are reopened first; when that fails the module is initialised anew, which renumbers every
 * handle, so it waits until no worker is inside a call.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { TwofoldError } from '../errors.ts';
import { wipe } from '../crypto/secret.ts';
import type { Failure } from './failures.ts';
import type { LoadedModule } from './module.ts';
import type { PinFile } from './pin.ts';
import type { HsmCapability, HsmStatus, RootOnToken } from './port.ts';
import type { Opened, ProbeReport, RootReport, WorkerOptions } from './protocol.ts';
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
}

export type AttachmentState =
  | 'starting'
  | 'ok'
  | 'session-lost'
  | 'pin-refused'
  | 'token-absent'
  | 'self-test-failed'
  | 'closed';

const BACKOFF_MS = { first: 50, limit: 5_000 } as const;
/** How often a refused PIN's file is looked at. */
const PIN_POLL_MS = 500;
const SELF_TEST_PAUSE_MS = 1_000;
const CLOSE_PATIENCE_MS = 5_000;
const FORGET_PATIENCE_MS = 250;

export class Attachment {
  readonly #options: AttachmentOptions;
  #threads: WorkerThread[] = [];
  #abandoned: number[] = [];
  #state: AttachmentState = 'starting';
  #detail = 'the token was not opened yet';
  #tokenEpoch = 0;
  #token: Opened['token'] | null = null;
  #capabilities: readonly HsmCapability[] = [];
  #root: RootOnToken | undefined;
  #custody: HsmStatus['custody'] = 'unknown';
  #recovery: Promise<void> | undefined;
  #lastSelfTest = 0;
  /** Made by workers that ended. */
  #earlierObjects = 0;
  readonly #closing = new AbortController();

  constructor(options: AttachmentOptions) {
    this.#options = options;
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
    };
  }

  /** Objects made on the token by this process. */
  get objects(): number {
    return this.#threads.reduce((sum, thread) => sum + thread.objects, this.#earlierObjects);
  }

  /** One attempt; when it fails, recovery goes on in the background. */
  async start(): Promise<void> {
    for (let index = 0; index < this.#options.workers; index += 1) this.#spawn();
    if (!(await this.#attempt())) this.#recover();
  }

  /** Called by the queue: a call came back with a lost session. */
  lost(failure: Failure): void {
    if (this.#state !== 'ok') return;
    this.#enter('session-lost', failure.detail);
    this.#options.log.warn({ returnValue: failure.returnValue }, 'the HSM session was lost');
    this.#recover();
  }

  /** Called by the queue: asks the token for known answers, at most once a second. */
  suspect(): void {
    const now = performance.now();
    if (this.#state !== 'ok' || now - this.#lastSelfTest < SELF_TEST_PAUSE_MS) return;
    this.#lastSelfTest = now;
    const [thread] = this.#threads;
    void thread?.call({ op: 'self-test' }).then(
      (report) => {
        const failed = failedUses(this.#capabilities, report);
        if (failed.length === 0) return;
        this.#selfTestFailed(failed);
        this.#recover();
      },
      (error: unknown) => {
        if (error instanceof CallFailure) this.lost(error.failure);
      },
    );
  }

  /** Selects a root on every worker; the first one also tries what the root allows. */
  async useRoot(root: RootOnToken): Promise<void> {
    if (this.#state !== 'ok') throw new TwofoldError('hsm_unavailable', this.#detail);
    try {
      await this.#selectRoot(root);
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
    this.#closing.abort();
    await this.#recovery;
    const threads = this.#threads;
    this.#threads = [];
    const closed = Promise.allSettled(threads.map((thread) => thread.call({ op: 'close' })));
    const hung = await Promise.race([closed, delay(CLOSE_PATIENCE_MS, 'hung', { ref: false })]);
    if (hung === 'hung') {
      // A thread inside the module cannot be ended, and finalising under it would crash.
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
    let pause: number = BACKOFF_MS.first;
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      if (attempt > 1) await delay(this.#pause(pause), undefined, { signal });
      pause = Math.min(pause * 2, BACKOFF_MS.limit);
      // The first attempt only reopens sessions; a token that is really gone needs the module anew.
      if (attempt > 1 && this.#state !== 'pin-refused') await this.#reinitialise();
      if (await this.#attempt()) return;
    }
  }

  #pause(backoff: number): number {
    return this.#state === 'pin-refused' ? PIN_POLL_MS : backoff * (0.75 + Math.random() / 2);
  }

  async #reinitialise(): Promise<void> {
    await Promise.allSettled(this.#threads.map((thread) => thread.call({ op: 'close' })));
    this.#abandoned = [];
    try {
      this.#options.module.reinitialise();
    } catch (error) {
      this.#options.log.warn({ err: error }, 'the PKCS #11 module could not be initialised');
    }
  }

  /** True when the token is open, tested and (where one was selected) has its root. */
  async #attempt(): Promise<boolean> {
    let pin: Uint8Array | undefined;
    try {
      pin = await this.#options.pinFile.read();
      if (await this.#options.pinFile.isRefused(pin)) {
        this.#enter('pin-refused', 'the token refused this PIN; it is not tried again');
        return false;
      }
      return await this.#open(pin);
    } catch (error) {
      await this.#fail(error, pin);
      return false;
    } finally {
      wipe(pin);
    }
  }

  /** False when known answers fail; whatever else goes wrong is thrown. */
  async #open(pin: Uint8Array): Promise<boolean> {
    this.#tokenEpoch += 1;
    const [first, ...others] = this.#threads;
    if (first === undefined) throw new TwofoldError('hsm_unavailable', 'no HSM worker runs');
    // One worker alone logs in, so that a wrong PIN costs one attempt and not one per worker.
    const opened = await this.#openThread(first, pin);
    await Promise.all(others.map((thread) => this.#openThread(thread, pin)));
    await this.#options.pinFile.clearMark().catch(() => undefined);
    const known = this.#token?.serial === opened.token.serial ? this.#capabilities : [];
    const report = await first.call({ op: 'probe' });
    const failed = failedUses(known, report);
    if (failed.length > 0) {
      this.#selfTestFailed(failed);
      return false;
    }
    this.#token = opened.token;
    this.#capabilities = report.capabilities;
    if (this.#root !== undefined) await this.#selectRoot(this.#root);
    this.#enter('ok', '');
    this.#options.log.info({ tokenEpoch: this.#tokenEpoch, ...opened.token }, 'the HSM is open');
    return true;
  }

  async #openThread(thread: WorkerThread, pin: Uint8Array): Promise<Opened> {
    const abandoned = this.#abandoned.splice(0);
    // A copy: the message must not carry the memory pool that small buffers share.
    const request = {
      op: 'open',
      tokenEpoch: this.#tokenEpoch,
      pin: Uint8Array.from(pin),
    } as const;
    const opened = await thread.call({ ...request, abandoned });
    thread.sessions = opened.sessions;
    return opened;
  }

  async #selectRoot(root: RootOnToken): Promise<void> {
    const [first, ...others] = this.#threads;
    // One after the other: until the token refuses it, an attack's copy looks like a second root.
    const report = await first?.call({ op: 'use-root', root, inspect: true });
    await Promise.all(
      others.map((thread) => thread.call({ op: 'use-root', root, inspect: false })),
    );
    this.#root = root;
    if (report !== undefined) this.#judge(report);
  }

  #judge(report: RootReport): void {
    this.#custody = report.custody;
    if (report.findings.length > 0) {
      this.#options.log.warn({ findings: report.findings }, 'the PIN alone can extract keys here');
    }
  }

  async #fail(error: unknown, pin: Uint8Array | undefined): Promise<void> {
    const failure = error instanceof CallFailure ? error.failure : undefined;
    const detail = error instanceof Error ? error.message : String(error);
    if (failure?.consequence === 'pin' && pin !== undefined) {
      this.#enter('pin-refused', detail);
      await this.#options.pinFile.markRefused(pin).catch((cause: unknown) => {
        this.#options.log.error({ err: cause }, 'the mark of the refused PIN could not be written');
      });
    } else {
      this.#enter(pin === undefined ? 'pin-refused' : 'token-absent', detail);
    }
    this.#options.log.error({ state: this.#state, detail }, 'the HSM could not be opened');
  }

  #selfTestFailed(names: readonly string[]): void {
    this.#enter('self-test-failed', `known answers failed: ${names.join(', ')}`);
    this.#options.log.error({ names }, 'the HSM fails its known answers');
  }

  #spawn(): void {
    const thread: WorkerThread = new WorkerThread(this.#options.worker, (error) => {
      this.#ended(thread, error);
    });
    this.#threads.push(thread);
  }

  /** A worker never ends by itself; its sessions are still open in the module and are closed later. */
  #ended(thread: WorkerThread, error: Error | undefined): void {
    this.#threads = this.#threads.filter((other) => other !== thread);
    this.#earlierObjects += thread.objects;
    if (this.#state === 'closed') return;
    this.#options.log.error({ err: error }, 'an HSM worker ended and is replaced');
    this.#abandoned.push(...thread.sessions);
    this.#spawn();
    this.#enter('session-lost', 'an HSM worker ended');
    this.#recover();
  }
}

/** Wrong answers, and uses that this token served before: a token does not lose a mechanism. */
function failedUses(known: readonly HsmCapability[], report: ProbeReport): readonly string[] {
  const offered = new Set(
    report.capabilities.filter(({ available }) => available).map(({ name }) => name),
  );
  const gone = known.filter(({ available, name }) => available && !offered.has(name));
  return [...new Set([...report.wrong, ...gone.map(({ name }) => name)])];
}
