/**
 * The ports of an instance that may come to its end (`incarnation.ts`): from then on what it would
 * write is refused before it is sent. The database refuses a fenced or closed instance by itself; one
 * that was restored from a backup may not know what it has lost.
 */
import type { AuditStore } from '../audit/ports.ts';
import type { KeyStore, OperationStore, UseStore } from '../keyring/ports.ts';

/** `assertOpen` throws once nothing may be written any more. */
export function fencedAuditStore(store: AuditStore, assertOpen: () => void): AuditStore {
  return {
    ...store,
    openLane: async (instance, kind) => {
      assertOpen();
      return store.openLane(instance, kind);
    },
    append: async (batch) => {
      assertOpen();
      return store.append(batch);
    },
  };
}

export function fencedKeyStore(store: KeyStore, assertOpen: () => void): KeyStore {
  return {
    ...store,
    commit: async (change) => {
      assertOpen();
      return store.commit(change);
    },
    reserveUses: async (...asked) => {
      assertOpen();
      return store.reserveUses(...asked);
    },
    intendTokenObject: async (intent) => {
      assertOpen();
      return store.intendTokenObject(intent);
    },
  };
}

export function fencedUseStore(store: UseStore, assertOpen: () => void): UseStore {
  return {
    ...store,
    addUses: async (batch) => {
      assertOpen();
      return store.addUses(batch);
    },
  };
}

export function fencedOperationStore(
  store: OperationStore,
  assertOpen: () => void,
): OperationStore {
  return {
    ...store,
    pace: async (id, items) => {
      assertOpen();
      return store.pace(id, items);
    },
    commit: async (step) => {
      assertOpen();
      return store.commit(step);
    },
  };
}
