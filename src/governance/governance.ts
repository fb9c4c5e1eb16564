/** Everything stored that governs access, opened over one database. */
import { Denials } from './denials.ts';
import { StoredIssuers } from './issuers.ts';
import { Namespaces } from './namespaces.ts';
import type { SealedSetParts } from './sealed-set.ts';

export interface Governance {
  readonly denials: Denials;
  readonly issuers: StoredIssuers;
  readonly namespaces: Namespaces;
}

export const openGovernance = (parts: SealedSetParts): Governance => ({
  denials: new Denials(parts),
  issuers: new StoredIssuers(parts),
  namespaces: new Namespaces(parts),
});
