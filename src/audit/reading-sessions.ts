/**
 * Reading the audit log is audited once per session of reading and not per page, or who follows the log
 * would feed it: the first read of a principal makes an entry, and so does the first after its session has
 * ended. A session is one principal with one token, roles and source address, reading one namespace by one
 * operation under one decision, for 15 minutes.
 *
 * Kept in this process: another instance, and another worker, makes an entry of its own.
 */
import type { AuditDraft, AuditId } from './ports.ts';

export const READING_MS = 15 * 60_000;
/** Sessions that are remembered; the oldest is forgotten, and makes another entry. */
const MAX_SESSIONS = 1_024;

interface Session {
  readonly id: AuditId;
  /** Monotonic time. */
  readonly until: number;
}

export class ReadingSessions {
  readonly #sessions = new Map<string, Session>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** The entry of the session that this read is part of; null where it begins one. */
  find(draft: AuditDraft): AuditId | null {
    const key = keyOf(draft);
    const found = this.#sessions.get(key);
    if (found === undefined) return null;
    if (this.#now() < found.until) return found.id;
    this.#sessions.delete(key);
    return null;
  }

  /** From its entry's time on. */
  begin(draft: AuditDraft, id: AuditId): void {
    const key = keyOf(draft);
    this.#sessions.delete(key);
    if (this.#sessions.size >= MAX_SESSIONS) {
      for (const oldest of this.#sessions.keys()) {
        this.#sessions.delete(oldest);
        break;
      }
    }
    this.#sessions.set(key, { id, until: this.#now() + READING_MS });
  }
}

function keyOf({ actor, namespace, operation, source, decision, tlsGroup }: AuditDraft): string {
  const { issuer, subject, method, session, acr, amr, roles } = actor;
  return JSON.stringify([
    ...[issuer, subject, method, session && Buffer.from(session).toString('hex'), acr, amr, roles],
    ...[namespace, operation, source, tlsGroup, decision?.revision, decision?.policies],
  ]);
}
