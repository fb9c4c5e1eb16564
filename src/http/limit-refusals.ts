/**
 * Entries of requests that a limit refused. The first of a principal and limit has an entry of its own
 * before it is answered, like every other answer; those that follow are counted, and the count is an entry
 * every ten seconds: a flood of refusals costs nobody else's disk.
 */
import { StaleAnswer } from '../audit/ports.ts';
import type { AuditDraft, AuditLog } from '../audit/ports.ts';
import type { SecurityEpoch } from '../epoch.ts';

/** Principals and limits counted one by one; of further ones the sum alone. */
const MAX_PAIRS = 512;
const EVERY_MS = 10_000;
/** How often an entry of counts is tried while changes overtake it. */
const ATTEMPTS = 5;

interface Pair {
  readonly draft: AuditDraft;
  readonly limit: string;
  since: number;
  refused: number;
}

export interface RefusalParts {
  readonly audit: Pick<AuditLog, 'record'>;
  readonly epoch: Pick<SecurityEpoch, 'current'>;
  readonly onTrouble: (error: unknown) => void;
  /** Milliseconds since the Unix epoch. */
  readonly clock?: () => number;
}

export class LimitRefusals {
  readonly #parts: RefusalParts;
  readonly #pairs = new Map<string, Pair>();
  readonly #now: () => number;
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(parts: RefusalParts) {
    this.#parts = parts;
    this.#now = parts.clock ?? Date.now;
  }

  /** Whether it was counted; else it is the first, and has an entry of its own. */
  counted(draft: AuditDraft, limit: string): boolean {
    const { issuer, subject } = draft.actor;
    const name = JSON.stringify([issuer, subject, draft.namespace, limit]);
    const known = this.#pairs.get(name);
    if (known !== undefined) {
      known.refused += 1;
      return true;
    }
    this.#timer ??= setInterval(() => void this.flush(), EVERY_MS).unref();
    if (this.#pairs.size < MAX_PAIRS) {
      this.#pairs.set(name, { draft, limit, since: this.#now(), refused: 0 });
      return false;
    }
    return this.#others(draft);
  }

  /** Writes what was counted since the last time. Never rejects. */
  flush(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#flush());
    return this.#writing;
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.flush();
  }

  /** Of all that have no place of their own; in the name of the first of them. */
  #others(draft: AuditDraft): boolean {
    const known = this.#pairs.get('');
    if (known !== undefined) known.refused += 1;
    else this.#pairs.set('', { draft, limit: 'other', since: this.#now(), refused: 0 });
    return known !== undefined;
  }

  async #flush(): Promise<void> {
    for (const [name, pair] of [...this.#pairs]) {
      const { refused, since } = pair;
      if (refused === 0) {
        this.#pairs.delete(name);
        continue;
      }
      pair.refused = 0;
      pair.since = this.#now();
      try {
        await this.#write(pair, refused, since);
      } catch (error) {
        // They are counted with the next.
        pair.refused += refused;
        pair.since = since;
        this.#parts.onTrouble(error);
      }
    }
  }

  async #write({ draft, limit }: Pair, refused: number, since: number): Promise<void> {
    const detail = { limit, refused, since: new Date(since).toISOString() };
    const counts = { ...draft, contextKeys: [], contextValues: null, items: [], detail };
    const { audit, epoch } = this.#parts;
    for (let attempt = 1; ; attempt += 1) {
      const { namespace } = draft;
      try {
        await audit.record(counts, { epoch: epoch.current, namespace, keyId: null, keyName: null });
        return;
      } catch (error) {
        if (!(error instanceof StaleAnswer) || attempt >= ATTEMPTS) throw error;
      }
    }
  }
}
