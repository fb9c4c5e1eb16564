/** What a reference means, for the decision on it: asked before there is a grant, and told to nobody. */
import type { ResolvedKey } from '../access/grant.ts';
import type { KeyCatalog } from './catalog.ts';

export interface KeyReferences {
  /**
   * The key that a name, id or alias means now; null where there is none.
   * Throws `integrity_failed`, `database_unavailable`.
   */
  resolve(namespace: string, reference: string): Promise<ResolvedKey | null>;
}

export const keyReferences = (catalog: KeyCatalog): KeyReferences => ({
  resolve: async (namespace, reference) => {
    const view = await catalog.find(namespace, reference);
    if (view === null) return null;
    const { id, name, aliases, labels, revision } = view.key;
    return { id, name, aliases, labels, revision };
  },
});
