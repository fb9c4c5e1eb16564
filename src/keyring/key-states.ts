/** Keys of every namespace as they are stored now, for whoever compares them with the audit log. */
import type { Grant } from '../access/grant.ts';
import { TwofoldError } from '../errors.ts';
import type { KeyCatalog } from './catalog.ts';
import { inTurns } from './in-turns.ts';
import type { KeyView } from './operations.ts';
import type { KeyPlace, KeyStore } from './ports.ts';

/** Verified at a time, so that a long page leaves the HSM's queue to others. */
const KEYS_AT_ONCE = 4;

/** A key with a row that its MAC does not attest: nothing of it is believed but where it stands. */
export interface AlteredKey {
  readonly altered: KeyPlace;
}

export interface KeyStates {
  /**
   * A page in the order of the keys' ids, each key read from the database for it, its MACs verified.
   * `next` is the `after` of the next page; null at the end.
   */
  page(
    grant: Grant<'audit.log'>,
    after: string | null,
    pageSize: number,
  ): Promise<{ readonly items: readonly (KeyView | AlteredKey)[]; readonly next: string | null }>;
}

interface Parts {
  readonly store: Pick<KeyStore, 'places'>;
  readonly catalog: Pick<KeyCatalog, 'fresh'>;
}

export const keyStates = ({ store, catalog }: Parts): KeyStates => {
  /** Null where it was removed meanwhile. */
  const view = async (place: KeyPlace): Promise<KeyView | AlteredKey | null> => {
    try {
      return await catalog.fresh(place.namespace, place.id);
    } catch (error) {
      if (TwofoldError.is(error, 'key_not_found')) return null;
      // Whoever compares is told which key it is, and goes on to the others.
      if (TwofoldError.is(error, 'integrity_failed')) return { altered: place };
      throw error;
    }
  };
  return {
    page: async (_grant, after, pageSize) => {
      // One more tells whether another page exists.
      const found = await store.places(after, pageSize + 1);
      const places = found.slice(0, pageSize);
      const views = await inTurns(places, KEYS_AT_ONCE, view);
      const next = found.length > places.length ? (places.at(-1)?.id ?? null) : null;
      return { items: views.filter((each) => each !== null), next };
    },
  };
};
