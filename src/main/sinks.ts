/**
 * The sinks of the audit log in this process. Files are written by the first worker of every instance,
 * each its own; each receiver of a network is served by whoever leads its role, for which only those stand
 * that have it configured. Nothing that a caller waits for waits for a sink.
 */
import { readFileSync } from 'node:fs';
import type { SequencedEntry } from '../audit/log-ports.ts';
import type { AuditDraft } from '../audit/ports.ts';
import { recordFrom } from '../audit/reader.ts';
import { FileSink } from '../audit/sinks/file-sink.ts';
import { HttpSink } from '../audit/sinks/http-sink.ts';
import { OtlpSink } from '../audit/sinks/otlp-sink.ts';
import type { Sink, SinkPosition, SinkRecord } from '../audit/sinks/ports.ts';
import { SinkRunner } from '../audit/sinks/runner.ts';
import { SyslogSink } from '../audit/sinks/syslog-sink.ts';
import { printableJson } from '../audit/verify/printable.ts';
import type { Config } from '../config.ts';
import type { SinkSettings } from '../config/audit-sinks.ts';
import { readSecretFile } from '../config/secret-file.ts';
import { entryResource } from '../http/audit.ts';
import { renderPublicJson } from '../http/render.ts';
import { Leader } from '../leader.ts';
import type { ServedStore } from './database.ts';
import type { Log, Logs } from '../telemetry/logs.ts';
import type { Incarnation } from './incarnation.ts';
import { LeftSinks } from './left-sinks.ts';
import type { Unwinding } from './unwinding.ts';
import { VERSION } from './version.ts';

const roleOf = (sink: string): string => `sinks/${sink}`;
/** In which an instance of the release before serves all the sinks that it has. */
const FORMER_ROLE = 'sinks';
/** After which a receiver that takes nothing here is left to another process, which may reach it. */
const GIVE_WAY_MS = 300_000;
/** For as long as others take to see that. */
const STAND_BACK_MS = 3_000;
const TICK_MS = 1_000;
/** How often it is looked for sinks that were left. */
const LOOK_MS = 60_000;
const LONGEST_PAUSE_MS = 30_000;
/** What is passed over is told by an entry of this kind, which itself is passed over without another. */
const PASSED = 'audit.sink.pass';

export interface SinksParts {
  readonly settings: readonly SinkSettings[];
  readonly store: Pick<ServedStore, 'log' | 'logCopy' | 'sinks' | 'scheduler'>;
  readonly audit: {
    recordOwn(operation: string, detail: AuditDraft['detail']): Promise<unknown>;
  };
  readonly incarnation: Pick<Incarnation, 'id' | 'end'>;
  /** Whether this process is the first worker of its instance. */
  readonly first: boolean;
  readonly log: Log;
  /** How long a receiver fails before another process may try, ms; 300,000. */
  readonly giveWayMs?: number;
}

export interface SinkFacts {
  readonly name: string;
  /** `waiting`: another instance serves it; `left`: it has a position, and nobody does. */
  readonly state: 'serving' | 'failing' | 'waiting' | 'left';
  /** Entries of the log that were not delivered; null while that is not known here. */
  readonly behind: number | null;
  /** Age of the oldest of those that were read, in milliseconds. */
  readonly behindMs: number;
}

/**
 * The entry as the API shows it, with its index; nothing in it ends a line or steers a terminal.
 * @throws TwofoldError integrity_failed
 */
export function sinkRecord(entry: SequencedEntry): SinkRecord {
  const { index } = entry;
  const record = recordFrom(entry);
  const { id, at } = record;
  const { operation, outcome, namespace } = record.draft;
  const json = printableJson(renderPublicJson({ index, ...entryResource(record) }));
  return { index, id, at, operation, outcome, namespace, json };
}

interface ServedSinkParts {
  readonly name: string;
  readonly sink: Sink;
  readonly runner: SinkRunner;
  readonly log: Log;
  readonly leader: Leader | null;
  readonly giveWayMs: number;
}

class ServedSink {
  readonly name: string;
  readonly #runner: SinkRunner;
  readonly #sink: Sink;
  readonly #log: Log;
  /** Null for a file, which is its instance's own. */
  readonly #leader: Leader | null;
  readonly #giveWayMs: number;
  #failures = 0;
  #failingSince: number | null = null;
  #pausedUntil = 0;
  #standsBackUntil = 0;
  #working: Promise<void> | null = null;

  constructor({ name, sink, runner, log, leader, giveWayMs }: ServedSinkParts) {
    this.name = name;
    this.#sink = sink;
    this.#runner = runner;
    this.#log = log;
    this.#leader = leader;
    this.#giveWayMs = giveWayMs;
  }

  get leads(): boolean {
    return this.#leader === null || this.#leader.term !== null;
  }

  get #standsBack(): boolean {
    return performance.now() < this.#standsBackUntil;
  }

  /** Stays the one who serves it, or becomes it. @throws what the database throws */
  async stand(): Promise<void> {
    if (!this.#standsBack) await this.#leader?.tick();
  }

  /** Leaves it to another. @throws what the database throws */
  async leave(): Promise<void> {
    await this.#leader?.resign();
  }

  /** Works in the background until it has caught up with `size`, or failed, or `goesOn` says no. */
  serve(size: number, goesOn: () => boolean): void {
    if (performance.now() < this.#pausedUntil) return;
    this.#working ??= this.#work(size, goesOn).finally(() => {
      this.#working = null;
    });
  }

  async #work(size: number, goesOn: () => boolean): Promise<void> {
    try {
      while (goesOn() && (await this.#runner.step(size))) this.#worked();
      this.#worked();
    } catch (err) {
      if (this.#failures === 0) {
        this.#log.warn({ sink: this.name, err }, 'a sink could not be served; trying on');
      }
      this.#failures += 1;
      const pause = Math.min(LONGEST_PAUSE_MS, TICK_MS * 2 ** Math.min(this.#failures, 10));
      this.#pausedUntil = performance.now() + pause * (0.5 + Math.random() / 2);
      // Else it would be taken for one that nobody serves. The database may be what is away.
      await this.#runner.stay().catch((error: unknown) => {
        this.#log.debug({ sink: this.name, err: error }, 'that a sink is served could not be said');
      });
      await this.#giveWay();
    }
  }

  async #giveWay(): Promise<void> {
    const now = performance.now();
    this.#failingSince ??= now;
    if (this.#leader === null || now - this.#failingSince < this.#giveWayMs) return;
    this.#failingSince = null;
    this.#standsBackUntil = now + STAND_BACK_MS;
    await this.#leader.resign().catch((err: unknown) => {
      this.#log.debug({ sink: this.name, err }, 'a sink could not be left to another process');
    });
  }

  #worked(): void {
    if (this.#failures > 0) this.#log.info({ sink: this.name }, 'a sink is served again');
    this.#failures = 0;
    this.#failingSince = null;
  }

  facts(size: number): SinkFacts {
    const serving = this.leads || this.#standsBack;
    const { next, oldest } = this.#runner.progress;
    const state = this.#failures > 0 ? 'failing' : 'serving';
    return {
      name: this.name,
      state: serving ? state : 'waiting',
      behind: next === null ? null : Math.max(0, size - next),
      behindMs: oldest === null ? 0 : Math.max(0, Date.now() - oldest.getTime()),
    };
  }

  async stop(): Promise<void> {
    await this.#sink.close();
    await this.#working;
    await this.leave();
  }
}

export class Sinks {
  readonly #parts: SinksParts;
  readonly #own: readonly ServedSink[];
  readonly #shared: readonly ServedSink[];
  readonly #former: Leader;
  /** Null in all processes of an instance but one. */
  readonly #left: LeftSinks | null;
  #lookAt = 0;
  #size = 0;
  #ended = false;
  #timer: NodeJS.Timeout | undefined;
  #ticking: Promise<void> = Promise.resolve();

  constructor(parts: SinksParts) {
    const { settings, store, incarnation, first } = parts;
    this.#parts = parts;
    const former = { store: store.scheduler, role: FORMER_ROLE, holder: incarnation.id };
    this.#former = new Leader(former);
    const files = settings.filter(({ type }) => type === 'file');
    this.#own = first ? files.map((each) => this.#served(each)) : [];
    this.#shared = settings.filter(({ type }) => type !== 'file').map((each) => this.#served(each));
    const names = settings.map(({ name }) => name);
    this.#left = first ? new LeftSinks(store.sinks, names, parts.log) : null;
  }

  facts(): readonly SinkFacts[] {
    return [
      ...[...this.#own, ...this.#shared].map((sink) => sink.facts(this.#size)),
      ...(this.#left?.now ?? []).map(({ name, next }): SinkFacts => {
        return { name, state: 'left', behind: Math.max(0, this.#size - next), behindMs: 0 };
      }),
    ];
  }

  /** Ticks until unwound. */
  start(unwinding: Unwinding): void {
    if (this.#left === null && !this.#serves) return;
    this.#next();
    unwinding.add('sinks of the audit log', () => this.#stop());
  }

  get #serves(): boolean {
    return this.#own.length + this.#shared.length > 0;
  }

  #served(settings: SinkSettings): ServedSink {
    const { store, log, incarnation, giveWayMs = GIVE_WAY_MS } = this.#parts;
    const { name } = settings;
    const { sink, position } = this.#open(settings);
    const standing = { store: store.scheduler, role: roleOf(name), holder: incarnation.id };
    const leader = settings.type === 'file' ? null : new Leader(standing);
    const runner = new SinkRunner({
      log: store.logCopy,
      sink,
      position,
      record: sinkRecord,
      from: settings.type === 'file' ? 'start' : settings.from,
      onPassed: (record) => this.#passed(name, record),
    });
    return new ServedSink({ name, sink, runner, log, leader, giveWayMs });
  }

  #open(settings: SinkSettings): { readonly sink: Sink; readonly position: SinkPosition } {
    if (settings.type === 'file') {
      const sink = new FileSink(settings);
      return { sink, position: sink };
    }
    const position = this.#parts.store.sinks.position(settings.name);
    return { sink: this.#networked(settings), position };
  }

  #networked(settings: Exclude<SinkSettings, { type: 'file' }>): Sink {
    const ca = reading(settings.caFile);
    if (settings.type === 'syslog') {
      const { certificateFile, keyFile } = settings;
      const identity = () => ({
        cert: readFileSync(certificateFile ?? '', 'utf8'),
        key: secretText(keyFile ?? '', 0o007),
      });
      return new SyslogSink({
        ...{ host: settings.host, port: settings.port, facility: settings.facility },
        ...{ serverName: settings.serverName, ca },
        identity: certificateFile === undefined ? undefined : identity,
      });
    }
    const { url, tokenFile } = settings;
    const token = tokenFile === undefined ? undefined : () => secretText(tokenFile, 0o077);
    const target = { url, ca, token };
    const identity = { version: VERSION, instance: this.#parts.incarnation.id };
    if (settings.type === 'otlp') return new OtlpSink(target, identity);
    const { hmacKeyFile } = settings;
    const hmacKey = hmacKeyFile === undefined ? undefined : () => secretText(hmacKeyFile, 0o077);
    return new HttpSink({ ...target, hmacKey });
  }

  /** An entry that tells of it makes no further one when it is passed over itself. */
  async #passed(sink: string, { id, index, operation }: SinkRecord): Promise<void> {
    const { audit, log } = this.#parts;
    log.error({ sink, id, index }, 'a sink refused an entry, which is passed over');
    if (operation !== PASSED) await audit.recordOwn(PASSED, { sink, entry: id, index });
  }

  #next(): void {
    this.#ticking = this.#tick().then(() => {
      if (!this.#ended)
        this.#timer = setTimeout(() => this.#next(), this.#serves ? TICK_MS : LOOK_MS).unref();
    });
  }

  async #tick(): Promise<void> {
    const { incarnation, store, log } = this.#parts;
    if (incarnation.end !== null) return;
    try {
      await this.#stand();
      const { size } = await store.log.head();
      this.#size = size;
      await this.#look();
    } catch (err) {
      log.warn({ err }, 'the sinks do not learn how long the log is; trying on');
      return;
    }
    const runs = () => !this.#ended && this.#parts.incarnation.end === null;
    for (const sink of [...this.#own, ...this.#shared]) {
      if (sink.leads) sink.serve(this.#size, () => runs() && sink.leads);
    }
  }

  /** During an upgrade an instance that still serves all would take the same entries to the same receivers. */
  async #stand(): Promise<void> {
    if (this.#shared.length === 0) return;
    const isServed = await this.#former.isHeld();
    for (const sink of this.#shared) await (isServed ? sink.leave() : sink.stand());
  }

  async #look(): Promise<void> {
    if (this.#left === null || performance.now() < this.#lookAt) return;
    this.#lookAt = performance.now() + LOOK_MS;
    await this.#left.look().catch((err: unknown) => {
      this.#parts.log.warn({ err }, 'sinks that were left are not known; looking again');
    });
  }

  async #stop(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#ticking;
    clearTimeout(this.#timer);
    await Promise.all([...this.#own, ...this.#shared].map((sink) => sink.stop()));
  }
}

/** Read anew each time, so that a renewed file is used at once. */
const reading = (file: string | undefined): (() => string) | undefined =>
  file === undefined ? undefined : () => readFileSync(file, 'utf8');

const secretText = (file: string, closed: 0o077 | 0o007): string => {
  const bytes = readSecretFile(file, closed);
  try {
    return Buffer.from(bytes).toString();
  } finally {
    bytes.fill(0);
  }
};

/** The sinks of the configuration, at work until unwound. */
export function openSinks(
  parts: Omit<SinksParts, 'settings' | 'log'> & {
    readonly config: Pick<Config, 'audit'>;
    readonly logs: Pick<Logs, 'component'>;
  },
  unwinding: Unwinding,
): Sinks {
  const { config, store, audit, incarnation, first, logs } = parts;
  const log = logs.component('sinks');
  const sinks = new Sinks({ settings: config.audit.sinks, store, audit, incarnation, first, log });
  sinks.start(unwinding);
  return sinks;
}
