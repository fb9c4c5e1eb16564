/**
 * Operations of the kind `rewrap`: a client moves its ciphertexts to a key's primary version, in as
 * many requests as it takes, and goes on after any interruption from where it was.
 *
 * Offsets are the client's: item n of its data is item n of the job. What it sends again is done again
 * and counted once.
 */
import type { Grant } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import type { KeyCatalog } from './catalog.ts';
import { OF_KEYS } from './changes.ts';
import { OperationBook, endedError, isOwn } from './long-operations.ts';
import type { OperationParts } from './long-operations.ts';
import type { ChangeDone, KeyView } from './operations.ts';
import type {
  LongOperations,
  Moved,
  OperationRun,
  OperationStep,
  OperationView,
  Overseeing,
  RewrapJob,
  RewrapJobInput,
} from './job-operations.ts';
import { standing } from './row-plans.ts';
import { keyObstacle } from './lifecycle.ts';
import { requirePurpose, toProtect, usedOf } from './selection.ts';

const KIND = 'rewrap';
const NOTHING_MOVED = { succeeded: 0, unchanged: 0, failed: 0 } as const;
const OUTCOMES = ['succeeded', 'unchanged', 'failed'] as const;

export interface RewrapJobParts extends OperationParts {
  readonly catalog: KeyCatalog;
}

/** Both keys of a job. */
interface Ends {
  readonly from: KeyView;
  readonly to: KeyView;
}

export class RewrapJobs implements LongOperations {
  readonly #parts: RewrapJobParts;
  readonly #book: OperationBook;

  constructor(parts: RewrapJobParts) {
    this.#parts = parts;
    this.#book = new OperationBook(parts);
  }

  get(grant: Grant<'operations.read'>, overseeing: Overseeing, id: string) {
    return this.#book.get(grant, overseeing, id);
  }

  list(
    grant: Grant<'operations.read'>,
    overseeing: Overseeing,
    query: Parameters<LongOperations['list']>[2],
  ) {
    return this.#book.list(grant, overseeing, query);
  }

  async cancel(
    grant: Grant<'operations.cancel'>,
    overseeing: Overseeing,
    { id, reason }: { readonly id: string; readonly reason: string },
  ): Promise<OperationStep> {
    const view = await this.#book.get(grant, overseeing, id);
    if (view.state === 'cancelled') return this.#book.stay(view);
    return this.#book.step(view, { state: 'cancelled', reason });
  }

  createRewrapJob(
    grant: Grant<'rewrap-jobs.create'>,
    keys: { readonly from: Grant<'rewrap'>; readonly to: Grant<'rewrap'> | null },
    { total, rate, note, running }: RewrapJobInput,
    run: OperationRun,
  ): Promise<ChangeDone> {
    return this.#book.create(grant, run, { subject: OF_KEYS, running }, async () => {
      const { from, to } = await this.#usableEnds(keys.from, keys.to);
      const { id: keyId } = from.key;
      const request = {
        // As they were named: policies may be about a key's name or its id.
        key: keys.from.key,
        to: keys.to?.key ?? null,
        keyName: from.key.name,
        toKeyId: to.key.id,
        toKeyName: to.key.name,
        total,
        note,
      };
      const made = { kind: KIND, keyId, request, rate, counts: NOTHING_MOVED };
      const used = usedOf(from.key, standing(from));
      const detail = { kind: KIND, toKeyId: to.key.id, total, rate };
      return { made, change: { before: from, after: from, used, detail, changes: false } };
    });
  }

  async openRewrapJob(
    grant: Grant<'rewrap-jobs.continue'>,
    { id, offset, items }: { readonly id: string; readonly offset: number; readonly items: number },
  ): Promise<RewrapJob> {
    const view = await this.#own(grant, id);
    if (view.state !== 'running') throw endedError(view);
    if (offset > view.position) {
      throw new TwofoldError('conflict', `The next offset is ${String(view.position)}.`);
    }
    const { key, to, total } = view.request;
    if (typeof total === 'number' && offset + items > total) {
      throw new TwofoldError('invalid_value', `The job has ${String(total)} items.`);
    }
    return { view, key: String(key), to: typeof to === 'string' ? to : null };
  }

  async admitRewrap(
    grant: Grant<'rewrap'>,
    to: Grant<'rewrap'> | null,
    { view }: RewrapJob,
    items: number,
  ): Promise<void> {
    const ends = await this.#usableEnds(grant, to);
    if (ends.from.key.id !== view.keyId || ends.to.key.id !== view.request['toKeyId']) {
      throw new TwofoldError('conflict', 'The job was made for another key.');
    }
    await this.#book.pace(view, items);
  }

  advanceRewrapJob(
    { principal }: Grant<'rewrap-jobs.continue'>,
    { view }: RewrapJob,
    { offset, outcomes }: Moved,
  ): OperationStep {
    if (!isOwn(view, principal)) throw new TwofoldError('not_found');
    const uncounted = outcomes.slice(Math.max(0, view.position - offset));
    const counts = Object.fromEntries(
      OUTCOMES.map((name) => [
        name,
        (view.counts[name] ?? 0) + uncounted.filter((outcome) => outcome === name).length,
      ]),
    );
    return this.#book.step(view, { position: view.position + uncounted.length, counts });
  }

  async finishRewrapJob(grant: Grant<'rewrap-jobs.continue'>, id: string): Promise<OperationStep> {
    const view = await this.#own(grant, id);
    if (view.state === 'succeeded') return this.#book.stay(view);
    const { total } = view.request;
    if (view.state === 'running' && typeof total === 'number' && view.position < total) {
      const [sent, all] = [String(view.position), String(total)];
      throw new TwofoldError('conflict', `${sent} of the job's ${all} items were sent.`);
    }
    return this.#book.step(view, { state: 'succeeded' });
  }

  /** Nobody continues another's job, whatever he may see. */
  async #own(grant: Grant<'rewrap-jobs.continue'>, id: string): Promise<OperationView> {
    const view = await this.#book.get(grant, null, id);
    if (view.kind === KIND) return view;
    throw new TwofoldError('conflict', 'The operation is no rewrap job.');
  }

  /**
   * What stands in the way of every item is not their failure.
   * @throws TwofoldError version_not_usable, wrong_purpose, key_not_found
   */
  async #usableEnds(grant: Grant<'rewrap'>, toGrant: Grant<'rewrap'> | null): Promise<Ends> {
    const from = await this.#wrapKey(grant);
    const to = toGrant === null ? from : await this.#wrapKey(toGrant);
    const why = keyObstacle(from.key);
    if (why !== null) throw new TwofoldError('version_not_usable', why);
    toProtect(to, undefined, this.#parts.clock().getTime());
    return { from, to };
  }

  async #wrapKey({ namespace, key }: Grant<'rewrap'>): Promise<KeyView> {
    const view = await this.#parts.catalog.get(namespace, key ?? '');
    requirePurpose(view, 'wrap');
    return view;
  }
}
