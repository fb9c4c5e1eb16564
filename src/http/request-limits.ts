/** What one request is counted against, once however often it runs. */
import { RateRefused, limitHeaders } from './limit-gate.ts';
import type { Decision, Operation } from '../access/grant.ts';
import type { PolicyLimit } from '../access/policy-limit.ts';
import type { TwofoldError } from '../errors.ts';
import type { Charge } from '../limits/limiter.ts';
import type { LimitGate, Limited } from './limit-gate.ts';

export class RequestLimits {
  readonly #gate: LimitGate;
  readonly #operation: Operation;
  readonly #charges: Charge[] = [];
  /** Policies whose limits it was counted against, or will be. */
  readonly #admitted = new Map<string, PolicyLimit>();
  #counted = false;
  #cost = 1;

  constructor(gate: LimitGate, operation: Operation) {
    this.#gate = gate;
    this.#operation = operation;
  }

  /**
   * What permitted the request, or a part of it. What another key of it takes is told after the count, and
   * counts at once.
   * @throws RateRefused
   */
  admitted(asked: Limited, { limits = [] }: Decision): void {
    const fresh = limits.filter(({ policy }) => !this.#admitted.has(policy));
    for (const limit of fresh) this.#admitted.set(limit.policy, limit);
    if (!this.#counted || fresh.length === 0) return;
    this.#add(this.#gate.countPolicies(asked, this.#operation, fresh, this.#cost));
  }

  /** @throws RateRefused, TwofoldError integrity_failed, database_unavailable */
  async count(asked: Limited, cost: number): Promise<void> {
    if (this.#counted) return;
    this.#cost = cost;
    const policies = [...this.#admitted.values()];
    this.#add(await this.#gate.count(asked, this.#operation, cost, policies));
    this.#counted = true;
  }

  /** What failed for us did no work for the caller. */
  refund(): void {
    for (const charge of this.#charges.splice(0)) this.#gate.refund(charge);
  }

  /** Who was refused has used nothing: what may not be done uses up no quota. */
  refundQuotas(): void {
    for (const charge of this.#charges) this.#gate.refundQuotas(charge);
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
