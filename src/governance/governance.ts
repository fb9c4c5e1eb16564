/** Everything stored that governs access, opened over one database. */
import { Namespaces } from './namespaces.ts';
import type { SealedSetParts } from './sealed-set.ts';

export interface Governance {
  readonly namespaces: Namespaces;
}

export const openGovernance = (parts: SealedSetParts): Governance => ({
  namespaces: new Namespaces(parts),
});
