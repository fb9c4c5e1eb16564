/** Backups that the service takes, by itself and when it is asked to, and how old the newest one is. */
import { AnotherBackup } from '../backup/ports.ts';
import type { BackupRow } from '../backup/ports.ts';
import { TwofoldError } from '../errors.ts';
import type { BackupBegun, BackupsParts as AskedParts } from '../governance/backups.ts';
import type { ReadinessCheck } from '../http/dependencies.ts';
import { lengthOf, parseDuration } from '../keyring/durations.ts';
import { UsageCounters } from '../keyring/usage.ts';
import type { KeyStore } from '../keyring/ports.ts';
import type { Log } from '../telemetry/logs.ts';
import type { OwnEvents } from './own-events.ts';
import { settleBackups } from './settled-backups.ts';
import { lookForOne, takeOne } from './taking-backups.ts';
import type { TakingParts, TakingWanted } from './taking-backups.ts';
import type { Unwinding } from './unwinding.ts';

/** How often it is looked whether one is due. */
const LOOK_MS = 15_000;

export interface BackupsParts extends Omit<TakingParts, 'uses' | 'openSnapshot'> {
  /** Fenced. */
  readonly keys: KeyStore;
  readonly events: Pick<OwnEvents, 'note'>;
  readonly log: Log;
  /** Of several processes of a folder, one takes them. */
  readonly first: boolean;
}

export interface Backups extends Pick<AskedParts, 'begin'> {
  /** That could not be taken since this process began. */
  readonly failures: number;
  /** Age of the newest whole backup, ms; null where there is none; as last looked. */
  readonly ageMs: number | null;
  /** `off` where no folder is configured; `failing`: the last that was tried could not be taken. */
  readonly state: 'off' | 'ok' | 'none' | 'too-old' | 'failing';
}

const msOf = (text: string | undefined): number | null => {
  const length = text === undefined ? null : parseDuration(text);
  return length === null ? null : lengthOf(length);
};

/** Another instance takes one, whose row is found at the next look; or nobody wants it any more. */
const isNothing = (error: unknown): boolean =>
  error instanceof AnotherBackup || TwofoldError.is(error, 'shutting_down');

class Schedule implements Backups {
  readonly #parts: BackupsParts;
  readonly #uses: UsageCounters;
  readonly #stopping = new AbortController();
  readonly #everyMs: number | null;
  readonly #maxAgeMs: number;
  #newest: Date | null = null;
  #looked = false;
  /** Code of what keeps one from being taken; null where nothing does. */
  #problem: string | null = null;
  #told: 'ok' | 'none' | 'too-old' = 'ok';
  #failures = 0;
  /** Those that were asked for and go on. */
  readonly #asked = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(parts: BackupsParts) {
    const { every, maxAge } = parts.config.backup;
    this.#parts = parts;
    this.#uses = new UsageCounters(parts.keys);
    this.#everyMs = parts.first ? msOf(every) : null;
    this.#maxAgeMs = msOf(maxAge) ?? Number.POSITIVE_INFINITY;
  }

  get failures(): number {
    return this.#failures;
  }

  get ageMs(): number | null {
    return this.#newest === null ? null : Date.now() - this.#newest.getTime();
  }

  get state(): Backups['state'] {
    if (this.#parts.config.backup.folder === undefined) return 'off';
    const age = this.ageMs;
    if (age !== null && age > this.#maxAgeMs) return 'too-old';
    // Also where there is none yet: that none can be taken is why.
    if (this.#problem !== null) return 'failing';
    return age === null && this.#looked ? 'none' : 'ok';
  }

  start(): void {
    this.#turn = this.#look().finally(() => {
      if (this.#stopping.signal.aborted) return;
      this.#timer = setTimeout(() => this.start(), LOOK_MS).unref();
    });
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await this.#turn;
    await Promise.all(this.#asked);
    clearTimeout(this.#timer);
  }

  async begin(asked: Parameters<Backups['begin']>[0]): Promise<BackupBegun> {
    const { requestedBy, dryRun, request } = asked;
    if (this.#parts.config.backup.folder === undefined) {
      throw new TwofoldError('conflict', 'No folder for backups is configured (backup.folder).');
    }
    const entries = asked.entries ?? undefined;
    if (dryRun) {
      const row = await lookForOne(this.#taking(), { requestedBy, entries });
      return { row, giveUp: () => Promise.resolve() };
    }
    const giving = new AbortController();
    const signal = AbortSignal.any([this.#stopping.signal, giving.signal]);
    const begun = Promise.withResolvers<BackupRow>();
    const { resolve: onBegun, reject } = begun;
    const wanted = { requestedBy, entries, signal, onBegun, request, unanswered: giving.signal };
    const taking = this.#take(wanted)
      .catch((error: unknown) => {
        reject(error);
        if (!isNothing(error)) this.#failed(error);
      })
      .finally(() => this.#asked.delete(taking));
    this.#asked.add(taking);
    const row = await begun.promise;
    const giveUp = async () => {
      giving.abort();
      await taking;
    };
    return { row, giveUp };
  }

  async #look(): Promise<void> {
    const { store, log } = this.#parts;
    try {
      for (const { id } of await settleBackups(this.#parts)) {
        log.info({ id }, 'a backup that was cut off is whole after all');
      }
      const killed = await store.backups.giveUpKilled();
      if (killed > 0) log.warn({ killed }, 'the process that took a backup was killed');
      this.#newest = (await store.backups.newest())?.createdAt ?? null;
      this.#looked = true;
      const age = this.ageMs ?? Number.POSITIVE_INFINITY;
      if (this.#everyMs !== null && age >= this.#everyMs) {
        await this.#take({ requestedBy: null, signal: this.#stopping.signal });
      }
      this.#problem = null;
    } catch (error) {
      if (!isNothing(error)) this.#failed(error);
    } finally {
      this.#tell();
    }
  }

  #taking(): TakingParts {
    const { openSnapshot } = this.#parts.store;
    return { ...this.#parts, uses: this.#uses, openSnapshot };
  }

  #failed(err: unknown): void {
    const { log, events } = this.#parts;
    log.error({ err }, 'a backup could not be taken; trying on');
    this.#failures += 1;
    // Tried on every few seconds: an entry for each would fill the log.
    const problem = TwofoldError.from(err).code;
    if (problem !== this.#problem) events.note('backup.failed', { problem });
    this.#problem = problem;
  }

  async #take(wanted: Omit<TakingWanted, 'onUnsettled'>): Promise<void> {
    const { log, events } = this.#parts;
    const onUnsettled = (err: unknown) => {
      log.warn({ err }, 'a backup was taken, and its row does not say so yet');
    };
    const { path, manifest } = await takeOne(this.#taking(), { ...wanted, onUnsettled });
    this.#newest = new Date(manifest.takenAt);
    log.info({ path, bytes: manifest.content.length }, 'a backup was taken');
    const { id, log: at } = manifest;
    events.note('backup.taken', { backup: id, atSize: at.size, atRoot: at.root });
  }

  /** Once for each time that it becomes too old. */
  #tell(): void {
    const late = this.ageMs === null ? 'none' : 'too-old';
    const isLate = this.ageMs === null ? this.#looked : this.ageMs > this.#maxAgeMs;
    const state = isLate ? late : 'ok';
    if (state === this.#told) return;
    this.#told = state;
    if (state === 'ok') return;
    this.#parts.log.error({ state, ageMs: this.ageMs }, 'the newest backup is too old');
    this.#parts.events.note('backup.overdue', { state, ageMs: this.ageMs });
  }
}

/** Looks every few seconds until unwound; where no folder is configured it takes none. */
export function openBackups(parts: BackupsParts, unwinding: Unwinding): Backups {
  const schedule = new Schedule(parts);
  if (parts.config.backup.folder === undefined) return schedule;
  schedule.start();
  unwinding.add('backups', () => schedule.stop());
  return schedule;
}

/** No request waits for a backup, so that an old one is said and keeps nobody from being served. */
export const backupCheck = ({ backups }: { readonly backups: Backups | null }): ReadinessCheck => ({
  name: 'backup',
  ready: true,
  state: backups?.state ?? 'off',
});
