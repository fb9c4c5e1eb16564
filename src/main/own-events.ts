/**
 * What happens to the service itself, as entries of its own: HSM states, elections. They happen while
 * entries cannot be made as well, so each is kept until it is durable, a bounded number of them.
 */
import type { RunningAuditLog } from '../audit/log.ts';
import type { AuditDraft } from '../audit/ports.ts';
import type { HsmStatus } from '../hsm/port.ts';
import type { Unwinding } from './unwinding.ts';

type Detail = AuditDraft['detail'];

/** Waiting entries; of what comes beyond, the number is said in the next one. */
const MAX_WAITING = 64;
const RETRY_MS = 1_000;
/** How often the state of the HSM is looked at. */
const LOOK_MS = 500;

export interface OwnEventsLog {
  warn(fields: object, message: string): void;
}

export class OwnEvents {
  readonly #record: RunningAuditLog['recordOwn'];
  readonly #log: OwnEventsLog;
  #waiting: { readonly operation: string; readonly detail: Detail }[] = [];
  #dropped = 0;
  #running: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(record: RunningAuditLog['recordOwn'], log: OwnEventsLog) {
    this.#record = record;
    this.#log = log;
  }

  /** Makes the entry as soon as one can be made; it says when this was. Never throws. */
  note(operation: string, detail: Detail): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#dropped += 1;
      return;
    }
    const dropped = this.#dropped > 0 ? { dropped: this.#dropped } : {};
    this.#dropped = 0;
    const happenedAt = new Date().toISOString();
    this.#waiting.push({ operation, detail: { ...detail, ...dropped, happenedAt } });
    this.#run();
  }

  /** Tries what waits once more, and ends. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
    await this.#flush();
    if (this.#waiting.length > 0) {
      this.#log.warn({ entries: this.#waiting.length }, 'own entries were not made durable');
    }
  }

  #run(): void {
    this.#running ??= this.#flush().finally(() => {
      this.#running = null;
      if (this.#waiting.length === 0 || this.#stopped) return;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#run(), RETRY_MS).unref();
    });
  }

  /** In order; ends at the first that cannot be made. */
  async #flush(): Promise<void> {
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined) return;
      try {
        await this.#record(next.operation, next.detail);
        this.#waiting.shift();
      } catch (err) {
        this.#log.warn({ err, operation: next.operation }, 'an own entry waits');
        return;
      }
    }
  }
}

/**
 * Makes an entry of each state in which the HSM is found anew: `hsm.state`, with the state before and the
 * token's epoch, which rises when a lost login was regained. States between two looks are not seen.
 * @returns ends it
 */
export function watchHsm(
  hsm: { readonly status: () => Pick<HsmStatus, 'state' | 'tokenEpoch'> },
  events: Pick<OwnEvents, 'note'>,
): () => void {
  let before = hsm.status();
  const look = () => {
    const now = hsm.status();
    if (now.state === before.state && now.tokenEpoch === before.tokenEpoch) return;
    const { state, tokenEpoch } = now;
    events.note('hsm.state', { state, before: before.state, tokenEpoch });
    before = now;
  };
  const timer = setInterval(look, LOOK_MS).unref();
  return () => {
    clearInterval(timer);
    look();
  };
}

/** Of the service; begun once the log is open, and ended before it is closed. */
export function openOwnEvents(
  hsm: Parameters<typeof watchHsm>[0],
  audit: Pick<RunningAuditLog, 'recordOwn'>,
  log: OwnEventsLog,
  unwinding: Unwinding,
): OwnEvents {
  const events = new OwnEvents((...entry) => audit.recordOwn(...entry), log);
  unwinding.add('own entries', () => events.stop());
  unwinding.add('HSM watch', watchHsm(hsm, events));
  return events;
}
