/**
 * Equal unwraps under way share one: an API server that starts asks ten times at once for each of its
 * data-key sources. For a service that is far away, where each of them would be a request of its own.
 */
import { hash } from 'node:crypto';

import { SecretBytes, wipe } from '../crypto/secret.ts';
import type { KeyService, UnwrapRequest, Unwrapped } from './ports.ts';

interface Flight {
  readonly opened: Promise<Unwrapped>;
  /** Who waits for it; the last one to take a copy wipes it. */
  waiting: number;
}

/** Of everything that decides what an unwrap gives, so that no two others are equal. */
export function nameOf({ envelope, context }: UnwrapRequest): string {
  const pairs = Object.entries(context).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return hash('sha256', Buffer.concat([Buffer.from(JSON.stringify(pairs)), envelope]), 'hex');
}

/** `service`, with one unwrap for all that are equal and under way. Nobody's end ends another's. */
export function sharingUnwraps(service: KeyService): KeyService {
  const flights = new Map<string, Flight>();
  const begin = (name: string, request: UnwrapRequest): Flight => {
    const flight = { opened: service.unwrap(request, new AbortController().signal), waiting: 0 };
    flights.set(name, flight);
    const landed = () => {
      flights.delete(name);
    };
    flight.opened.then(landed, landed);
    return flight;
  };
  return {
    state: (signal) => service.state(signal),
    wrap: (request, signal) => service.wrap(request, signal),
    refuse: (refused, signal) => service.refuse(refused, signal),
    unwrap: async (request) => {
      const name = nameOf(request);
      const flight = flights.get(name) ?? begin(name, request);
      flight.waiting += 1;
      const { plaintext, origin } = await flight.opened;
      const copy = SecretBytes.copyOf(plaintext.reveal());
      flight.waiting -= 1;
      if (flight.waiting === 0) wipe(plaintext);
      return { plaintext: copy, origin };
    },
  };
}
