/** What one request is counted against, once however often it runs. */
import { ownLimits } from '../contract/limits.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import { RateRefused, limitHeaders } from './limit-gate.ts';
import type { Decision, Operation } from '../access/grant.ts';
import type { PolicyLimit } from '../access/policy-limit.ts';
import type { Charge } from '../limits/limiter.ts';
import type { Limit } from '../limits/rate.ts';
import type { Cost, LimitGate } from './limit-gate.ts';
import type { Limited } from './limited.ts';

/** What of a request came to nothing by these is no use of a key. */
const REFUSED: ReadonlySet<string> = new Set(['forbidden', 'rate_limited']);

export class RequestLimits {
  readonly #gate: LimitGate;
  readonly #operation: Operation;
  /** Whether it asks for the limits themselves. */
  readonly #asks: boolean;
  readonly #charges: Charge[] = [];
  /** Policies whose limits it was counted against, or will be. */
  readonly #admitted = new Map<string, PolicyLimit>();
  /** Of other keys that the body names, by reference; or why they are not known. */
  readonly #ofKeys = new Map<string, readonly Limit[] | TwofoldError>();
  #counted = false;
  #cost: Cost = { items: 1, ofKey: 1 };

  constructor(gate: LimitGate, { id, operation }: { id: string; operation: Operation }) {
    this.#gate = gate;
    this.#operation = operation;
    this.#asks = id === ownLimits.id;
  }

  /** Looks up what limits keys that a grant may be asked on. @throws TwofoldError database_unavailable */
  async foresee(asked: Limited, keys: readonly string[]): Promise<void> {
    if (!asked.uses) return;
    for (const key of keys) {
      if (this.#ofKeys.has(key)) continue;
      const found = await this.#gate.limitsOfKey(asked, key).catch((error: unknown) => {
        // Only who may use the key learns that its row was altered.
        if (TwofoldError.is(error, 'integrity_failed')) return error;
        throw error;
      });
      this.#ofKeys.set(key, found);
    }
  }

  /**
   * What permitted the request, or a part of it. What another key of it takes is told after the count, and
   * counts at once: against limits of policies with all its items, against those of the key as its uses.
   * @param key the other one
   * @throws RateRefused, TwofoldError integrity_failed
   */
  admitted(asked: Limited, { limits = [] }: Decision, key?: string): void {
    const fresh = limits.filter(({ policy }) => !this.#admitted.has(policy));
    for (const limit of fresh) this.#admitted.set(limit.policy, limit);
    if (!this.#counted || this.#asks) return;
    this.#more(this.#gate.ofPolicies(asked, fresh), this.#cost.items);
    if (key !== undefined && asked.uses) this.#more(this.#limitsOf(key), this.#cost.ofKey);
  }

  #limitsOf(key: string): readonly Limit[] {
    const found = this.#ofKeys.get(key);
    if (found === undefined) throw new TypeError('a key is used that was not looked up');
    if (found instanceof TwofoldError) throw found;
    return found;
  }

  /** Each once, however often the request runs or names the key. */
  #more(limits: readonly Limit[], cost: number): void {
    const counted = new Set(
      this.#charges.flatMap((each) => each.limits).map(({ bucket }) => bucket),
    );
    const fresh = limits.filter(({ bucket }) => !counted.has(bucket));
    if (fresh.length > 0) this.#add(this.#gate.countMore(this.#operation, fresh, cost));
  }

  /** @throws RateRefused, TwofoldError integrity_failed, database_unavailable */
  async count(asked: Limited, cost: Cost): Promise<void> {
    if (this.#counted) return;
    this.#cost = cost;
    const policies = [...this.#admitted.values()];
    this.#add(
      this.#asks
        ? this.#gate.countAsking(asked)
        : await this.#gate.count(asked, this.#operation, cost.items, policies),
    );
    this.#counted = true;
  }

  refund(): void {
    for (const charge of this.#charges.splice(0)) this.#gate.refund(charge);
  }

  /** What failed for us did no work for the caller; what was refused used no key, and takes from no quota. */
  failed({ code }: TwofoldError): void {
    if (ERRORS[code].status >= 500) this.refund();
    else if (REFUSED.has(code)) for (const charge of this.#charges) this.#gate.refundQuotas(charge);
  }

  headers(error: TwofoldError | null): Readonly<Record<string, string>> {
    const counted = this.#charges.flatMap(({ limits }) => limits);
    const refused = error instanceof RateRefused ? [error.limit] : [];
    return limitHeaders(refused.length > 0 ? refused : counted, (limit) =>
      this.#gate.remaining(limit),
    );
  }

  #add(charge: Charge | null): void {
    if (charge !== null) this.#charges.push(charge);
  }
}
