/** Which entries of the audit log answers have named, and whether the log has each of them, in the end. */
import { setTimeout as sleep } from 'node:timers/promises';

import type { Loaded } from '../../e2e/ledger.ts';
import type { Answer } from '../../e2e/service.ts';

type Request = Loaded['request'];

/** Of these every answer has an entry of its own; a change that is asked again is answered with its first. */
const USES: ReadonlySet<string> = new Set(['wrap', 'unwrap', 'sign', 'verify']);
/** What was answered in the grace is in the spool until its instance has brought it back. */
const RETURNS_MS = 60_000;
const LOOK_MS = 1_000;

export class Entries {
  readonly #ids = new Set<string>();
  /** Answers that name an entry which another has named. */
  readonly shared: string[] = [];

  get count(): number {
    return this.#ids.size;
  }

  /** So many of them, of the whole run. */
  sample(random: () => number, count: number): string[] {
    const all = [...this.#ids];
    const picked = Array.from({ length: count }, () => all[Math.floor(random() * all.length)]);
    return [...new Set(picked)].filter((id) => id !== undefined);
  }

  /** Success or refusal: where an answer names its entry, the log has it. */
  answered(operation: string | null, { headers }: Pick<Answer, 'headers'>): void {
    const id = headers.get('Twofold-Audit-Id');
    if (id === null) return;
    if (operation !== null && USES.has(operation) && this.#ids.has(id)) {
      this.shared.push(`two answers have the entry ${id}`);
    }
    this.#ids.add(id);
  }

  /** Of all that were named by now; each of them is asked for by itself before it counts as missing. */
  async missing(request: Request, milliseconds = RETURNS_MS): Promise<string[]> {
    const wanted = new Set(this.#ids);
    await this.#list(request, wanted);
    const until = performance.now() + milliseconds;
    for (;;) {
      for (const id of wanted) {
        const { status } = await request('GET', `/v1/audit/entries/${id}`);
        if (status === 200) wanted.delete(id);
      }
      if (wanted.size === 0 || performance.now() > until) break;
      await sleep(LOOK_MS);
    }
    return [...wanted].map((id) => `the log lacks entry ${id} of an answer`);
  }

  /** Takes away what the log lists, newest first. */
  async #list(request: Request, wanted: Set<string>): Promise<void> {
    let token: unknown;
    do {
      const page = typeof token === 'string' ? `&pageToken=${encodeURIComponent(token)}` : '';
      const answer = await request('GET', `/v1/audit/entries?pageSize=1000${page}`);
      if (answer.status !== 200) throw new Error(`entries: ${String(answer.status)}`);
      for (const { id } of answer.json['items'] as { id: string }[]) wanted.delete(id);
      token = answer.json['nextPageToken'];
    } while (typeof token === 'string' && wanted.size > 0);
  }
}
