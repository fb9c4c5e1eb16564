/**
 * This process among the others on the database: its row, its heartbeat, and the end of its
 * predecessor on the same data folder, which its lock proves dead.
 */
import { randomUUID } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { ENVELOPE_VERSION } from '../crypto/envelope.ts';
import { SUITES } from '../crypto/suites.ts';
import { SecurityEpoch } from '../epoch.ts';
import type { AuditStore } from '../audit/ports.ts';
import type { InstanceStore } from '../keyring/ports.ts';
import { whenReachable } from './patience.ts';
import type { Unwinding } from './unwinding.ts';

const BEAT_MS = 1_000;
/** Older than this, a heartbeat says nothing about the database any more. */
const STALE_BEAT_MS = 4_000;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface IncarnationOptions {
  readonly instances: InstanceStore;
  readonly changes: Pick<AuditStore, 'changesSince'>;
  /** The locked data folder. */
  readonly dataDir: string;
  readonly zone: string;
  readonly onTrouble: (error: unknown) => void;
}

export class Incarnation {
  readonly id: string;
  readonly epoch: SecurityEpoch;
  readonly #options: IncarnationOptions;
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> = Promise.resolve();
  #lastBeat = performance.now();
  #fenced = false;

  private constructor(options: IncarnationOptions, id: string, epoch: SecurityEpoch) {
    this.#options = options;
    this.id = id;
    this.epoch = epoch;
  }

  /** Closes the predecessor's row, opens one of its own, and beats until unwound. */
  static async open(options: IncarnationOptions, unwinding: Unwinding): Promise<Incarnation> {
    const { instances, dataDir, zone } = options;
    const id = randomUUID();
    const file = join(dataDir, 'instance');
    const predecessor = await readFile(file, 'utf8').catch(() => '');
    if (UUID.test(predecessor.trim())) {
      await whenReachable(() => instances.close(predecessor.trim()), unwinding);
    }
    await writeFile(`${file}.new`, `${id}\n`, { mode: 0o600, flush: true });
    await rename(`${file}.new`, file);
    const suites = Object.values(SUITES).map(({ number }) => number);
    const row = { id, zone, suites, envelopes: [ENVELOPE_VERSION], graceMs: 0 };
    await whenReachable(() => instances.open(row), unwinding);
    unwinding.add('instance row', () => instances.close(id));
    const { epoch } = await whenReachable(() => instances.beat(id, 0), unwinding);
    const incarnation = new Incarnation(options, id, new SecurityEpoch(epoch));
    incarnation.#schedule();
    unwinding.add('heartbeat', () => incarnation.#stop());
    return incarnation;
  }

  /** Reads what other instances changed. */
  refresh = async (): Promise<void> => {
    this.epoch.advance(await this.#options.changes.changesSince(this.epoch.current));
  };

  /** Whether the database has answered lately and has not fenced this instance. */
  get alive(): boolean {
    return !this.#fenced && performance.now() - this.#lastBeat < STALE_BEAT_MS;
  }

  /** One stable word for `/readyz`. */
  get state(): string {
    if (this.#fenced) return 'fenced';
    return this.alive ? 'ok' : 'unreachable';
  }

  #schedule(): void {
    this.#timer = setTimeout(() => {
      this.#beating = this.#beat().finally(() => this.#schedule());
    }, BEAT_MS).unref();
  }

  async #beat(): Promise<void> {
    try {
      const began = performance.now();
      const { epoch, fenced } = await this.#options.instances.beat(this.id, this.epoch.current);
      this.#lastBeat = began;
      this.#fenced = fenced;
      if (epoch > this.epoch.current) await this.refresh();
    } catch (error) {
      this.#options.onTrouble(error);
    }
  }

  async #stop(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#beating;
    clearTimeout(this.#timer);
  }
}
