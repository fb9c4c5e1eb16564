/**
 * Carries out orders of rotations (`keyring/rotation-orders.ts`) in the instance that leads.
 *
 * A key is settled in the transaction that makes its version (`rotate-by-order`), so each is rotated
 * once for an order, whoever leads and whatever is killed; what is left to do stands in the database.
 * A key that fails is tried again where that may help, stands beside the order with its reason, and
 * stops no other.
 */
import { randomUUID } from 'node:crypto';
import type { Grant, Operation, Principal } from '../access/grant.ts';
import type { Authorizer } from '../access/ports.ts';
import { StaleAnswer } from '../audit/ports.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { actInUse } from '../keyring/in-use.ts';
import type { NamespacesInUse } from '../keyring/in-use.ts';
import { SILENCE_MS } from '../keyring/long-operations.ts';
import type { ChangeRun, KeyManage, KeyRead, KeyView } from '../keyring/operations.ts';
import { belongs } from '../keyring/rotation-orders.ts';
import type { RotationOrder, RotationOrders } from '../keyring/rotation-orders.ts';
import type { Budget } from './budget.ts';
import type { OrderStore, OrderedKey, RunningOrder, Settled } from './order-ports.ts';
import { UNREACHABLE, waitAfter } from './retry.ts';
import { untilFresh } from './until-fresh.ts';

/** Orders that are carried out at a time, the oldest of each namespace by turns; more wait. */
const ORDERS_AT_ONCE = 20;
/** Orders that are found at a time; those of suspended namespaces are passed over, however many they are. */
const ORDERS_FOUND = 1_000;
/** Most keys of an order before the next order has its turn; fewer while there are few rotations to share. */
const KEYS_A_TURN = 10;
/** Keys a tick that are looked at for a match. */
const WALKED_KEYS = 2_000;
/** Longest time in a run; the leader beats between runs, and what policies ask for has its turn. */
const RUN_MS = 2_000;
/** Attempts on a key whose failures may pass, over some three hours; others are not tried again. */
const ATTEMPTS = 12;

export interface OrderRunnerOptions {
  readonly role: string;
  /** Instance id. */
  readonly instance: string;
  readonly principal: Principal;
}

export interface OrderRunnerParts {
  readonly store: OrderStore;
  readonly orders: Pick<RotationOrders, 'get' | 'finish'>;
  readonly authorizer: Pick<Authorizer, 'authorize'>;
  readonly read: Pick<KeyRead, 'fresh'>;
  readonly manage: Pick<KeyManage, 'rotate'>;
  readonly namespaces: NamespacesInUse;
  readonly clock: () => Date;
  /** Told of keys and orders that failed. */
  readonly onFailure: (id: string, error: unknown) => void;
}

/** What a run may do. */
export interface Allowance {
  readonly term: number;
  readonly budget: Budget;
  /** Most keys. */
  readonly most: number;
  readonly isStopped: () => boolean;
  /** Whether the term still stands. */
  readonly leads: () => Promise<boolean>;
  /** Keeps the term while one rotation runs, which may take the device minutes. */
  readonly beatDuring: <T>(work: () => Promise<T>) => Promise<T>;
}

export class OrderRunner {
  readonly #parts: OrderRunnerParts;
  readonly #options: OrderRunnerOptions;
  /** The order of the key that was taken up last: the next one begins. */
  #served: Place | null = null;

  constructor(parts: OrderRunnerParts, options: OrderRunnerOptions) {
    this.#parts = parts;
    this.#options = options;
  }

  /**
   * Takes up the next keys of the orders that run, by turns. How many it took up.
   * @throws TwofoldError database_unavailable
   */
  async run(allowance: Allowance): Promise<number> {
    const until = performance.now() + RUN_MS;
    let open = afterServed(await this.#open(), this.#served);
    const most = Math.min(allowance.most, allowance.budget.left(this.#parts.clock().getTime()));
    const turn = Math.max(1, Math.min(KEYS_A_TURN, Math.floor(most / open.length)));
    let taken = 0;
    for (;;) {
      const before = taken;
      for (const order of open) {
        const { id } = order.view;
        const keys = await this.#parts.store.waiting(id, this.#parts.clock(), turn);
        for (const key of keys) {
          const spent = taken >= allowance.most || performance.now() >= until;
          if (spent || allowance.isStopped()) return taken;
          if (!allowance.budget.take(this.#parts.clock().getTime())) return taken;
          taken += 1;
          this.#served = placeOf(order);
          const next = await this.#settle(order, key, allowance);
          if (next === 'lost') return taken;
          if (next === 'ended') {
            open = open.filter((each) => each !== order);
            break;
          }
        }
      }
      if (taken === before) return taken;
    }
  }

  /** The orders that run, each looked at for further keys, and ended where nothing is left. */
  async #open(): Promise<readonly RotationOrder[]> {
    const open: RotationOrder[] = [];
    for (const { id, namespace } of await this.#inUse()) {
      try {
        const order = await this.#advance(namespace, id);
        if (order !== null) open.push(order);
      } catch (error) {
        if (error instanceof StaleAnswer) continue;
        if (UNREACHABLE.has(TwofoldError.from(error).code)) throw error;
        // An order that was altered is nobody's; the others go on.
        this.#parts.onFailure(id, error);
      }
    }
    return open;
  }

  /** Of namespaces that are in use the oldest order of each, then the second of each, and so on. */
  async #inUse(): Promise<readonly RunningOrder[]> {
    const { store, clock, namespaces } = this.#parts;
    const found = new Map<string, RunningOrder[]>();
    let page: readonly RunningOrder[];
    let after: RunningOrder | null = null;
    do {
      page = await store.running(clock(), ORDERS_FOUND, after);
      for (const order of page) {
        const same = found.get(order.namespace);
        if (same !== undefined) same.push(order);
        else if (await namespaces.isInUse(order.namespace)) found.set(order.namespace, [order]);
      }
      after = page.at(-1) ?? null;
    } while (page.length === ORDERS_FOUND && found.size < ORDERS_AT_ONCE);
    return byTurns([...found.values()]).slice(0, ORDERS_AT_ONCE);
  }

  async #advance(namespace: string, id: string): Promise<RotationOrder | null> {
    const { orders, store, clock } = this.#parts;
    const order = await this.#get(namespace, id);
    if (order.view.state !== 'running') return null;
    const { createdAt: placedAt, counts, position } = order.view;
    if (counts['walked'] !== 1) {
      await store.walk({ id, namespace, labels: order.labels, placedAt }, clock(), WALKED_KEYS);
      return order;
    }
    if (position < (counts['matched'] ?? 0)) return order;
    const run = { requestId: randomUUID(), source: this.#options.principal.subject };
    await orders.finish(this.#grant('rotations.carry-out', namespace, null), order, run);
    return null;
  }

  #get(namespace: string, id: string): Promise<RotationOrder> {
    return this.#parts.orders.get(this.#grant('operations.oversee', namespace, null), id);
  }

  #grant<O extends Operation>(operation: O, namespace: string, key: string | null): Grant<O> {
    const { principal } = this.#options;
    return this.#parts.authorizer.authorize(principal, operation, { namespace, key });
  }

  /** `ended`: the order, or for now, since its namespace is suspended; `lost`: the term. */
  async #settle(
    order: RotationOrder,
    key: OrderedKey,
    allowance: Allowance,
  ): Promise<'settled' | 'ended' | 'lost'> {
    const { store, read, clock, onFailure } = this.#parts;
    const { id, namespace } = order.view;
    try {
      const view = await read.fresh(this.#grant('keys.read', namespace, key.keyId));
      if (belongs(order, view.key)) {
        await allowance.beatDuring(() => this.#rotate(order, view, allowance.term));
      } else await store.settle(id, key.keyId, skippedAt(clock()));
    } catch (error) {
      const { code } = TwofoldError.from(error);
      if (UNREACHABLE.has(code)) throw error;
      if (code === 'namespace_suspended') return 'ended';
      if (code === 'conflict' || code === 'etag_mismatch') {
        if (!(await allowance.leads())) {
          // Counted, so that a key under which every leader loses its term is not the first of the next one.
          await store.settle(id, key.keyId, failedAt(clock(), code, key.attempts));
          return 'lost';
        }
        if ((await this.#get(namespace, id)).view.state !== 'running') return 'ended';
      }
      onFailure(key.keyId, error);
      await store.settle(id, key.keyId, failedAt(clock(), code, key.attempts));
    }
    return 'settled';
  }

  async #rotate(order: RotationOrder, { key }: KeyView, term: number): Promise<void> {
    const { role, instance, principal } = this.#options;
    const { view, suite } = order;
    const at = this.#parts.clock();
    const version = key.latestVersion + 1;
    const ended = Promise.withResolvers<undefined>();
    const run: ChangeRun = {
      dryRun: false,
      requestId: randomUUID(),
      ended: ended.promise,
      source: principal.subject,
      ifMatch: key.revision,
      idempotency: null,
      render: () => ({ status: 200, body: '' }),
      because: {
        orderId: view.id,
        orderedBy: view.subject,
        orderReason: view.request['note'] ?? null,
      },
      alongside: [
        { kind: 'hold-leadership', role, term, holder: instance },
        {
          kind: 'rotate-by-order',
          operationId: view.id,
          keyId: key.id,
          version,
          at,
          expiresAt: new Date(at.getTime() + SILENCE_MS),
        },
        {
          kind: 'insert-run',
          keyId: key.id,
          policyRevision: 0,
          action: `order/${view.id}`,
          dueAt: view.createdAt,
          cause: 'order',
          version,
          doneAt: at,
          term,
        },
      ],
    };
    try {
      const { manage, namespaces } = this.#parts;
      const grant = () => this.#grant('keys.rotate', key.namespace, key.id);
      await untilFresh(() =>
        actInUse(namespaces, key.namespace, grant, () =>
          manage.rotate(grant(), suite === null ? {} : { suite }, run),
        ),
      );
    } finally {
      ended.resolve(undefined);
    }
  }
}

/** Where an order stands among those that run, by age. */
interface Place {
  readonly at: Date;
  readonly id: string;
}

const placeOf = ({ view: { createdAt: at, id } }: RotationOrder): Place => ({ at, id });

const compare = (a: Place, b: Place): number =>
  a.at.getTime() - b.at.getTime() || (a.id < b.id ? -1 : Number(a.id > b.id));

/** By age, from the one after `served` on and round: where it has ended meanwhile, too. */
function afterServed(
  orders: readonly RotationOrder[],
  served: Place | null,
): readonly RotationOrder[] {
  const sorted = orders.toSorted((a, b) => compare(placeOf(a), placeOf(b)));
  if (served === null) return sorted;
  const isAfter = (order: RotationOrder) => compare(placeOf(order), served) > 0;
  return [...sorted.filter(isAfter), ...sorted.filter((order) => !isAfter(order))];
}

/** The first of each, the second of each, and so on. */
const byTurns = <T>(lists: readonly (readonly T[])[]): readonly T[] =>
  lists
    .flatMap((list) => list.map((item, nth) => ({ item, nth })))
    .toSorted((a, b) => a.nth - b.nth)
    .map(({ item }) => item);

const skippedAt = (at: Date): Settled => ({ state: 'skipped', code: null, at, nextAt: at });

const mayPass = (code: ErrorCode): boolean => ERRORS[code].retryable || code === 'hsm_full';

/** What may pass is tried again after a growing wait; the rest stays as it is. */
function failedAt(at: Date, code: ErrorCode, attempts: number): Settled {
  const again = (mayPass(code) || code === 'etag_mismatch') && attempts + 1 < ATTEMPTS;
  const wait = waitAfter(attempts);
  return {
    state: again ? 'waiting' : 'failed',
    code,
    at,
    nextAt: new Date(again ? at.getTime() + wait : at),
  };
}
