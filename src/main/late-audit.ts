/**
 * The audit log as the listeners have it: they may open while the HSM is away, when it can record
 * nothing yet, and stay when this instance was fenced, when it records nothing any more.
 */
import type { RunningAuditLog } from '../audit/log.ts';
import type { AuditLog } from '../audit/ports.ts';
import { TwofoldError } from '../errors.ts';

/** Counts kept until the log is there; further ones of a flood are dropped. */
const MAX_COUNTS = 10_000;

export class LateAudit implements AuditLog {
  readonly #ended: () => boolean;
  #log: RunningAuditLog | undefined;
  #counts: (readonly [string, string])[] = [];

  /** `ended`: whether this instance may write nothing any more. */
  constructor(ended: () => boolean) {
    this.#ended = ended;
  }

  /** The log behind it; null before it is there. */
  get current(): RunningAuditLog | null {
    return this.#log ?? null;
  }

  set(log: RunningAuditLog): void {
    this.#log = log;
    for (const [source, outcome] of this.#counts) log.countAnonymous(source, outcome);
    this.#counts = [];
  }

  record: AuditLog['record'] = async (draft, standing) => this.#opened().record(draft, standing);
  change: AuditLog['change'] = async (draft, commit) => this.#opened().change(draft, commit);
  read: AuditLog['read'] = async (id) => this.#opened().read(id);
  list: AuditLog['list'] = async (query) => this.#opened().list(query);
  hash: AuditLog['hash'] = async (...values) => this.#opened().hash(...values);
  reading: AuditLog['reading'] = async (draft, standing) => this.#opened().reading(draft, standing);

  refusal(operation: string): TwofoldError | null {
    return this.#log?.refusal(operation) ?? null;
  }

  confirmed: AuditLog['confirmed'] = async () => this.#opened().confirmed();

  leaving(...entry: Parameters<AuditLog['leaving']>): 'durable' | 'spooled' {
    return this.#opened().leaving(...entry);
  }

  countAnonymous(source: string, outcome: string): void {
    if (this.#log !== undefined) this.#log.countAnonymous(source, outcome);
    else if (this.#counts.length < MAX_COUNTS) this.#counts.push([source, outcome]);
  }

  /** @throws TwofoldError audit_unavailable */
  #opened(): RunningAuditLog {
    if (this.#ended()) {
      throw new TwofoldError(
        'audit_unavailable',
        'This instance is fenced; another one may serve.',
      );
    }
    if (this.#log === undefined) {
      throw new TwofoldError('audit_unavailable', 'The service is still starting.', {
        retryAfter: 5,
      });
    }
    return this.#log;
  }
}
