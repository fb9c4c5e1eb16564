/**
 * Sinks that have a position, are in the configuration of nobody who moves it, and so keep entries from cold
 * storage (`audit/archive.ts`): told to whoever looks, until they are configured again or forgotten
 * (`twofold audit forget-sink`).
 */
import type { SinkPositions } from '../audit/sinks/ports.ts';
import type { Log } from '../telemetry/logs.ts';

/** One that is served moves, or says each minute that there is nothing for it, or that its receiver is away. */
const LEFT_MS = 600_000;

export interface LeftSink {
  readonly name: string;
  /** Index of the first entry that it keeps. */
  readonly next: number;
}

export class LeftSinks {
  readonly #positions: Pick<SinkPositions, 'all'>;
  readonly #configured: ReadonlySet<string>;
  readonly #log: Pick<Log, 'warn'>;
  readonly #told = new Set<string>();
  #left: readonly LeftSink[] = [];

  constructor(
    positions: Pick<SinkPositions, 'all'>,
    configured: Iterable<string>,
    log: Pick<Log, 'warn'>,
  ) {
    this.#positions = positions;
    this.#configured = new Set(configured);
    this.#log = log;
  }

  /** As of the last look. */
  get now(): readonly LeftSink[] {
    return this.#left;
  }

  /** Warns once of each. */
  async look(): Promise<void> {
    const all = await this.#positions.all();
    this.#left = all
      .filter(({ name, quietMs }) => quietMs >= LEFT_MS && !this.#configured.has(name))
      .map(({ name, next }) => ({ name, next }));
    for (const { name, next } of this.#left) {
      if (this.#told.has(name)) continue;
      this.#told.add(name);
      this.#log.warn(
        { sink: name, next },
        'a sink that is not configured here, and that nobody serves, keeps entries from cold storage',
      );
    }
  }
}
