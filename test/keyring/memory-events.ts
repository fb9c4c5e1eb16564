/** Events of a `MemoryStore` as the port gives them; nothing expires. */
import type { EventFeed } from '../../src/http/dependencies.ts';
import type { EventPlace } from '../../src/keyring/event-ports.ts';
import { BEGINNING } from '../../src/keyring/event-ports.ts';
import type { MemoryStore } from './memory-store.ts';

const isAfter = (a: EventPlace, b: EventPlace): boolean =>
  a.epoch > b.epoch || (a.epoch === b.epoch && a.n > b.n);

export const memoryEvents = (store: MemoryStore): EventFeed => ({
  installation: '5e1f8b1c-98a4-4b5e-9d5d-1d2f6a3b4c5d',
  page: ({ namespace, after, until, type, keyId, pageSize }) => {
    const end = Math.min(until ?? Infinity, store.audit.epoch);
    const items = store.rows.events
      .filter(
        (event) =>
          event.namespace === namespace &&
          isAfter(event, after ?? BEGINNING) &&
          event.epoch <= end &&
          (type === null || event.type === type) &&
          (keyId === null || event.keyId === keyId),
      )
      .slice(0, pageSize);
    const last = items.at(-1);
    const more = last !== undefined && items.length === pageSize;
    const next = more ? { epoch: last.epoch, n: last.n } : { epoch: end + 1, n: 0 };
    return Promise.resolve({ items, next, more });
  },
});
