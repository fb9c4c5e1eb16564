/**
 * Operations of the kind `rotation`: every key of a namespace, or those with some labels, gets a new
 * version. Whoever may order is asked when the order is placed; the scheduler carries it out under its
 * own grants (`rotation/orders.ts`), and each of its entries names the order.
 *
 * To an order belong the keys that were there when it was placed (by the times in both rows) and that
 * have the labels when the scheduler gets to them.
 */
import type { Grant } from '../access/grant.ts';
import type { Suite } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { draftOf } from './changes.ts';
import type { ChangeSubject } from './changes.ts';
import type { OperationRun, OperationView, Overseeing } from './job-operations.ts';
import { OperationBook } from './long-operations.ts';
import type { OperationParts } from './long-operations.ts';
import type { Key, Labels } from './model.ts';
import { checkLabels, checkReason } from './names.ts';
import type { ChangeDone, ChangeRun, PreparedChange } from './operations.ts';
import { ORDER_KIND } from './order-ports.ts';
import type { OrderFailure } from './order-ports.ts';

/** Progress of an order that nobody has begun; of a dry run, `matched` is known. */
const nothingDone = (matched: number, walked: number) =>
  ({ matched, rotated: 0, skipped: 0, failed: 0, walked }) as const;
/** Items a second are not what bounds an order; the rotations a minute of the scheduler are. */
const NO_RATE = 1;

export interface OrderInput {
  /** That a key must all have; null orders all keys of the namespace. */
  readonly labels: Labels | null;
  /** That of each key's primary unless told. */
  readonly suite: Suite | null;
  readonly reason: string;
  /** How many running operations the principal may have. */
  readonly running: number;
}

/** An order as the scheduler carries it out. */
export interface RotationOrder {
  readonly view: OperationView;
  readonly labels: Labels;
  readonly suite: Suite | null;
}

type Placed = Pick<PreparedChange, 'detail'>;

const OF_ORDERS: ChangeSubject<Placed> = {
  // Nothing stands on an order, and no key can have the name.
  touched: () => ({ keyId: null, keyName: 'rotation-orders/', also: [] }),
  facts: ({ detail }) => ({ keyRef: null, keyId: null, keyVersion: null, suite: null, detail }),
  events: () => [],
};

export class RotationOrders {
  readonly #parts: OperationParts;
  readonly #book: OperationBook;

  constructor(parts: OperationParts) {
    this.#parts = parts;
    this.#book = new OperationBook(parts);
  }

  /** @throws TwofoldError invalid_value, quota_exceeded */
  place(
    grant: Grant<'rotations.order'>,
    { labels, suite, reason, running }: OrderInput,
    run: OperationRun,
  ): Promise<ChangeDone<Placed>> {
    return this.#book.create(grant, run, { subject: OF_ORDERS, running }, async () => {
      checkReason(reason);
      checkLabels(labels ?? {});
      const matched = run.dryRun
        ? await this.#parts.operations.countMatching(grant.namespace, labels ?? {})
        : 0;
      const request = {
        labels: labels === null ? null : JSON.stringify(labels),
        suite: suite?.number ?? null,
        note: reason,
      };
      const counts = nothingDone(matched, run.dryRun ? 1 : 0);
      const made = { kind: ORDER_KIND, keyId: null, request, rate: NO_RATE, counts };
      // Values of labels may be private: only their names are written to the audit log.
      const labelNames = labels === null ? null : JSON.stringify(Object.keys(labels).sort());
      const detail = { kind: ORDER_KIND, labelNames, toSuite: suite?.number ?? null, reason };
      return { made, change: { detail } };
    });
  }

  /** The keys that could not be rotated, by their ids. @throws TwofoldError not_found, conflict */
  async failures(
    grant: Grant<'operations.read'>,
    overseeing: Overseeing,
    page: { readonly id: string; readonly afterKey: string | null; readonly limit: number },
  ): Promise<readonly OrderFailure[]> {
    const { id } = orderOf(await this.#book.get(grant, overseeing, page.id)).view;
    return this.#parts.operations.orderFailures(id, page.afterKey, page.limit);
  }

  /** @throws TwofoldError not_found, integrity_failed */
  async get(overseeing: Grant<'operations.oversee'>, id: string): Promise<RotationOrder> {
    return orderOf(await this.#book.get(overseeing, overseeing, id));
  }

  /** Ends an order whose keys are all settled. @throws StaleAnswer when it moved meanwhile */
  async finish(
    grant: Grant<'rotations.carry-out'>,
    { view }: RotationOrder,
    run: Pick<ChangeRun, 'requestId' | 'source'>,
  ): Promise<void> {
    const { failed = 0, matched = 0 } = view.counts;
    const reason =
      failed === 0 ? null : `${String(failed)} of ${String(matched)} keys were not rotated.`;
    const { take } = this.#book.step(view, {
      state: failed === 0 ? 'succeeded' : 'failed',
      reason,
    });
    const detail = { operationId: view.id, kind: view.kind, ...view.counts };
    const facts = { keyRef: null, keyId: null, keyVersion: null, suite: null, detail };
    const { epoch, namespace } = grant;
    await take(draftOf(grant, run, facts), { epoch, namespace, keyId: null, keyName: null });
  }
}

/** Whether a key, its rows verified, belongs to the order. */
export const belongs = (
  { view, labels }: RotationOrder,
  key: Pick<Key, 'namespace' | 'labels' | 'createdAt' | 'destroyedAt'>,
): boolean =>
  key.namespace === view.namespace &&
  key.destroyedAt === null &&
  key.createdAt <= view.createdAt &&
  Object.entries(labels).every(([name, value]) => key.labels[name] === value);

/** @throws TwofoldError conflict for an operation of another kind */
function orderOf(view: OperationView): RotationOrder {
  if (view.kind !== ORDER_KIND) {
    throw new TwofoldError('conflict', 'The operation is no order of rotations.');
  }
  const { labels, suite } = view.request;
  return {
    view,
    labels: typeof labels === 'string' ? (JSON.parse(labels) as Labels) : {},
    suite: typeof suite === 'number' ? findSuiteByNumber(suite) : null,
  };
}
