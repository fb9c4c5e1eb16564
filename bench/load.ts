/**
 * Load of two kinds. A closed loop has a fixed number of requests in flight and sends the next when one
 * is answered, so it sends less while the server stalls. An open loop sends at fixed times whatever
 * happens, and counts each answer from the time at which its request was due: what waits in front of a
 * stalled server is part of the latency (no coordinated omission).
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { Client } from './client.ts';
import type { Target } from './client.ts';

export interface Load {
  readonly perSecond: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly seconds: number;
  /** Of each answer, milliseconds, ascending. */
  readonly times: Float64Array;
  /** Bodies, for whoever checks them; every one was a 200. */
  readonly answers: readonly Buffer[];
}

export interface ClosedLoop {
  readonly inFlight: number;
  /** Until so many are answered, or so many seconds have passed, whichever comes first. */
  readonly requests?: number;
  readonly seconds?: number;
  readonly onEach?: (index: number) => void;
}

export interface OpenLoop {
  readonly arrivalsPerSecond: number;
  readonly seconds: number;
  /** Connections at most; what finds none free waits, and its latency grows. */
  readonly connections: number;
}

/** @throws Error when an answer is not a 200 */
export async function closedLoop(
  target: Target,
  request: Buffer,
  { inFlight, requests = Infinity, seconds = Infinity, onEach }: ClosedLoop,
): Promise<Load> {
  const record = new Recording();
  const began = performance.now();
  const until = began + seconds * 1000;
  let sent = 0;
  await withClients(target, inFlight, (clients) =>
    Promise.all(
      clients.map(async (client) => {
        while (sent < requests && performance.now() < until) {
          const index = sent++;
          await record.send(client, request, performance.now());
          onEach?.(index);
        }
      }),
    ),
  );
  return record.load(began);
}

/** @throws Error when an answer is not a 200, or when arrivals outrun the server by far */
export async function openLoop(
  target: Target,
  request: Buffer,
  { arrivalsPerSecond, seconds, connections }: OpenLoop,
): Promise<Load> {
  const record = new Recording();
  const total = Math.floor(arrivalsPerSecond * seconds);
  return withClients(target, connections, async (clients) => {
    const free = [...clients];
    const due: number[] = [];
    const running = new Set<Promise<void>>();
    let failure: unknown;
    const serve = (): void => {
      while (due.length > 0 && free.length > 0) {
        const [client, at] = [free.pop(), due.shift()];
        if (client === undefined || at === undefined) return;
        const answered = record
          .send(client, request, at)
          .then(() => {
            free.push(client);
            serve();
          })
          .catch((error: unknown) => {
            failure ??= error;
          })
          .finally(() => running.delete(answered));
        running.add(answered);
      }
    };
    const began = performance.now();
    for (let arrived = 0; arrived < total && failure === undefined;) {
      const now = performance.now();
      while (arrived < total && began + (arrived * 1000) / arrivalsPerSecond <= now) {
        due.push(began + (arrived * 1000) / arrivalsPerSecond);
        arrived += 1;
      }
      if (due.length > arrivalsPerSecond * 2)
        throw new Error('the server is 2 s behind the arrivals');
      serve();
      await sleep(1);
    }
    while (running.size > 0 && failure === undefined) await Promise.race(running);
    if (failure !== undefined) throw failure instanceof Error ? failure : new Error('no answer');
    return record.load(began);
  });
}

async function withClients<T>(
  target: Target,
  count: number,
  work: (clients: readonly Client[]) => Promise<T>,
): Promise<T> {
  const clients = await Promise.all(Array.from({ length: count }, () => Client.open(target)));
  try {
    return await work(clients);
  } finally {
    for (const client of clients) client.close();
  }
}

class Recording {
  readonly #times: number[] = [];
  readonly #answers: Buffer[] = [];

  async send(client: Client, request: Buffer, since: number): Promise<void> {
    const { status, body } = await client.send(request);
    this.#times.push(performance.now() - since);
    if (status !== 200) throw new Error(`${String(status)} ${body.toString('utf8')}`);
    this.#answers.push(body);
  }

  load(began: number): Load {
    const seconds = (performance.now() - began) / 1000;
    const times = Float64Array.from(this.#times).sort();
    const at = (share: number) =>
      times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
    return {
      perSecond: times.length / seconds,
      p50: at(0.5),
      p99: at(0.99),
      p999: at(0.999),
      seconds,
      times,
      answers: this.#answers,
    };
  }
}
