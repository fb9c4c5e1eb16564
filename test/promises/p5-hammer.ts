/** Clients that ask several services the same thing without a pause, and keep every answer. */
import { setTimeout as sleep } from 'node:timers/promises';

import type { TestService } from '../e2e/service.ts';

/** What is asked. */
export interface Question {
  readonly path: string;
  readonly body: object;
  /** `default` unless told. */
  readonly namespace?: string;
}

/** One request. `begun` and `ended` count events of this process: they are an order, not a time. */
export interface Shot {
  readonly service: number;
  readonly begun: number;
  ended: number | null;
  status: number;
  json: Record<string, unknown>;
  auditId: string | null;
}

/** The order of events in this process. */
export class Order {
  #last = 0;

  next(): number {
    this.#last += 1;
    return this.#last;
  }
}

export class Hammer {
  readonly shots: Shot[] = [];
  readonly #services: readonly TestService[];
  readonly #question: Question;
  readonly #order: Order;
  readonly #under = new Set<Promise<void>>();
  #running = true;

  constructor(services: readonly TestService[], question: Question, order: Order) {
    this.#services = services;
    this.#question = question;
    this.#order = order;
  }

  /** So many requests in flight at each service. */
  start(each: number): this {
    for (const service of this.#services.keys()) {
      for (let client = 0; client < each; client += 1) this.#keep(this.#repeat(service));
    }
    return this;
  }

  /** One more request, whatever is in flight. */
  extra(service: number): void {
    this.#keep(this.#shoot(service));
  }

  /** Those of a service that are not answered. */
  inFlight(service: number): Shot[] {
    return this.shots.filter((shot) => shot.service === service && shot.ended === null);
  }

  /** Those of a service that began after an event and are answered. */
  since(service: number, event: number): Shot[] {
    return this.shots.filter(
      (shot) => shot.service === service && shot.begun > event && shot.ended !== null,
    );
  }

  async seen(service: number, event: number, count: number): Promise<void> {
    while (this.since(service, event).length < count) await sleep(2);
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#under);
  }

  #keep(work: Promise<void>): void {
    this.#under.add(work);
  }

  async #repeat(service: number): Promise<void> {
    while (this.#running) await this.#shoot(service);
  }

  async #shoot(index: number): Promise<void> {
    const service = this.#services[index];
    if (service === undefined) throw new Error(`there is no service ${String(index)}`);
    const begun = this.#order.next();
    const shot: Shot = { service: index, begun, ended: null, status: 0, json: {}, auditId: null };
    this.shots.push(shot);
    const { path, body, namespace } = this.#question;
    const options = namespace === undefined ? {} : { headers: { 'Twofold-Namespace': namespace } };
    const answer = await service.request('POST', path, body, options);
    const { status, json } = answer;
    const auditId = answer.headers.get('twofold-audit-id');
    Object.assign(shot, { ended: this.#order.next(), status, json, auditId });
  }
}
