/**
 * This process among the others on the database: its row, its heartbeat, and the end of its
 * predecessor on the same data folder, which its lock proves dead. In a copy of a folder the lock
 * proves nothing: the process that left its id there may run on, in the original.
 */
import { randomUUID } from 'node:crypto';
import { readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { ENVELOPE_VERSION } from '../crypto/envelope.ts';
import { SUITES } from '../crypto/suites.ts';
import { isUuid } from '../crypto/uuid.ts';
import { SecurityEpoch } from '../epoch.ts';
import { Lease } from '../audit/grace/lease.ts';
import { TwofoldError } from '../errors.ts';
import type { AuditStore } from '../audit/ports.ts';
import type {
  Heartbeat,
  InstanceStore,
  LaneCounts,
  LiveInstances,
} from '../keyring/instance-ports.ts';
import { LIVE_SECONDS } from '../store/instance-store.ts';
import { whenReachable } from './patience.ts';
import { Silence } from './silence.ts';
import type { Unwinding } from './unwinding.ts';

const BEAT_MS = 1_000;
/** Older than this, a heartbeat says nothing about the database any more. */
const STALE_BEAT_MS = 4_000;
/** With a grace, how soon after a heartbeat that failed the next one goes. */
const SOON_MS = 250;

export interface IncarnationOptions {
  readonly instances: InstanceStore;
  readonly changes: Pick<AuditStore, 'changesSince'>;
  /** The locked data folder. */
  readonly dataDir: string;
  readonly zone: string;
  /** How long this instance may answer from cache while no commit comes back; 0 unless given. */
  readonly graceMs?: number | undefined;
  /** From 1, where several processes share the folder and the lock on it; 1 unless given. */
  readonly worker?: number | undefined;
  /** Whether no other worker runs yet, so that all that left an id in the folder are dead; true unless told. */
  readonly first?: boolean | undefined;
  readonly onTrouble: (error: unknown) => void;
  /**
   * Told once that this incarnation has ended. `lapsed`: no heartbeat was committed for a whole grace
   * before, so a change fenced it that could not reach it, and nobody who does not trust it.
   */
  readonly onEnd: (end: End, lapsed: boolean) => void;
}

/**
 * Why an incarnation can do nothing any more until the process starts anew: it was marked as fenced;
 * its row was closed, or is gone; or the database stands before what it has acknowledged to us, as
 * one that was restored from a backup does.
 */
export type End = 'fenced' | 'closed' | 'set-back';

export class Incarnation implements LiveInstances {
  readonly id: string;
  readonly epoch: SecurityEpoch;
  /** The right to answer without a commit. */
  readonly lease: Lease;
  readonly #options: IncarnationOptions;
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> = Promise.resolve();
  /** Whether a change was learnt that the heartbeat under way does not tell. */
  #hurried = false;
  #lastBeat = performance.now();
  readonly #silence = new Silence(LIVE_SECONDS * 1_000, performance.now());
  /** Heartbeats that the database has acknowledged. */
  #beats: number;
  #end: End | null = null;
  #lanes: () => LaneCounts | undefined = () => undefined;

  private constructor(options: IncarnationOptions, id: string, first: Heartbeat) {
    this.#options = options;
    this.id = id;
    this.epoch = new SecurityEpoch(first.epoch);
    this.#beats = first.beat ?? 0;
    const { graceMs = 0 } = options;
    this.lease = new Lease({ graceMs });
    // Whoever made the change waits for this instance to confirm it.
    if (this.lease.enabled) this.epoch.onChange(() => this.#hurry());
  }

  /** Closes the predecessor's row, opens one of its own, and beats until unwound. */
  static async open(options: IncarnationOptions, unwinding: Unwinding): Promise<Incarnation> {
    const { instances, dataDir, zone, worker = 1, first = true, graceMs = 0 } = options;
    const id = randomUUID();
    const file = join(dataDir, fileOf(worker));
    const place = await placeOf(dataDir);
    const others = first ? (await readdir(dataDir)).filter((name) => IDS.test(name)) : [];
    for (const left of new Set([file, ...others.map((name) => join(dataDir, name))])) {
      const [predecessor = '', itsPlace] = (await readFile(left, 'utf8').catch(() => '')).split(
        '\n',
      );
      if (isUuid(predecessor)) {
        const dead = itsPlace === place;
        const end = () => (dead ? instances.close(predecessor) : instances.closeDead(predecessor));
        await whenReachable(end, unwinding);
      }
      if (left !== file) await rm(left, { force: true });
    }
    await writeFile(`${file}.new`, `${id}\n${place}\n`, { mode: 0o600, flush: true });
    await rename(`${file}.new`, file);
    const suites = Object.values(SUITES).map(({ number }) => number);
    const row = { id, zone, suites, envelopes: [ENVELOPE_VERSION], graceMs };
    await whenReachable(() => instances.open(row), unwinding);
    unwinding.add('instance row', () => instances.close(id));
    const beat = await whenReachable(() => instances.beat(id, 0), unwinding);
    const incarnation = new Incarnation(options, id, beat);
    // The first heartbeat told no epoch: with a grace the one that does goes at once, or nothing could be
    // answered without a commit for a second.
    incarnation.#schedule(incarnation.lease.enabled ? 0 : BEAT_MS);
    unwinding.add('heartbeat', () => incarnation.#stop());
    return incarnation;
  }

  /** Its heartbeats say from now on what `lanes` answers. */
  announce(lanes: () => LaneCounts): void {
    this.#lanes = lanes;
  }

  /** Reads what other instances changed. */
  refresh = async (): Promise<void> => {
    this.epoch.advance(await this.#options.changes.changesSince(this.epoch.current));
  };

  allRead(suite: number, envelope: number): Promise<boolean> {
    const by = { id: this.id, silentMs: this.#silence.ms(performance.now()) };
    return this.#options.instances.allRead({ suite, envelope }, by);
  }

  /** Whether the database has answered lately, or need not have, and this incarnation has not ended. */
  get alive(): boolean {
    const lately = performance.now() - this.#lastBeat < STALE_BEAT_MS;
    return this.#end === null && (lately || this.#inGrace);
  }

  /** One stable word for `/readyz`. */
  get state(): string {
    return this.#end ?? (this.#inGrace ? 'grace' : this.alive ? 'ok' : 'unreachable');
  }

  get #inGrace(): boolean {
    return this.lease.mode(performance.now()) === 'grace';
  }

  /** Null while it may write; for good once it is not. */
  get end(): End | null {
    return this.#end;
  }

  /** @throws TwofoldError database_unavailable once this incarnation has ended */
  assertOpen = (): void => {
    if (this.#end === null) return;
    throw new TwofoldError(
      'database_unavailable',
      'This instance is fenced; another one may serve.',
    );
  };

  #schedule(afterMs = BEAT_MS): void {
    if (this.#end !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#hurried = false;
      this.#beating = this.#beat().then((afterMs) => this.#schedule(this.#hurried ? 0 : afterMs));
    }, afterMs).unref();
  }

  /** The next heartbeat goes at once, or right after the one under way. */
  #hurry(): void {
    this.#hurried = true;
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#schedule(0);
  }

  /** Resolves with how long to wait for the next one. */
  async #beat(): Promise<number> {
    try {
      const began = performance.now();
      this.lease.sent('heartbeat', began);
      const known = { epoch: this.epoch.current, beat: this.#beats };
      const found = await this.#options.instances.beat(this.id, known.epoch, this.#lanes());
      this.#end = endOf(found, known);
      if (this.#end !== null) {
        this.lease.forfeit();
        // Until now: who fenced it waited a whole grace, for part of which this heartbeat may have waited.
        const silentMs = performance.now() - this.#lastBeat;
        const { graceMs = 0 } = this.#options;
        const lapsed = this.#end === 'fenced' && graceMs > 0 && silentMs >= graceMs;
        this.#options.onEnd(this.#end, lapsed);
        return BEAT_MS;
      }
      this.lease.beaten(began, known.epoch, found.epoch);
      this.#lastBeat = began;
      this.#silence.beaten(began, performance.now());
      this.#beats = found.beat ?? 0;
      if (found.epoch > this.epoch.current) await this.refresh();
    } catch (error) {
      this.#options.onTrouble(error);
      if (this.lease.enabled) return SOON_MS;
    }
    return BEAT_MS;
  }

  async #stop(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#beating;
    clearTimeout(this.#timer);
    this.lease.forfeit();
  }
}

/** Files with the ids of the last processes, one for each worker. */
const IDS = /^instance(?:-\d+)?$/u;
const fileOf = (worker: number): string => (worker === 1 ? 'instance' : `instance-${worker}`);

/** What a copy of a folder, on this host or another, does not share with it: boot, device, inode. */
async function placeOf(folder: string): Promise<string> {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  const { dev, ino } = await stat(folder, { bigint: true });
  return `${boot.trim()} ${String(dev)} ${String(ino)}`;
}

/**
 * What a heartbeat says about its incarnation. `known` was acknowledged before it was sent, so a
 * database that knows less has lost it. The count of heartbeats tells so even when changes of others
 * have raised a restored epoch again.
 */
const endOf = (found: Heartbeat, known: { readonly epoch: number; readonly beat: number }) => {
  if (found.beat === null) return found.epoch < known.epoch ? 'set-back' : 'closed';
  if (found.epoch < known.epoch || found.beat <= known.beat) return 'set-back';
  return found.fenced ? 'fenced' : null;
};
