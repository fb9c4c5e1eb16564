/** What is stored about access, over the stores of the service. */
import { openGovernance } from '../governance/governance.ts';
import type { Governance } from '../governance/governance.ts';
import type { Store } from '../store/store.ts';
import type { RulingParts } from './scheduling.ts';

export interface GoverningParts extends Omit<RulingParts, 'store' | 'config'> {
  readonly store: Pick<Store, 'sets' | 'approvals'>;
}

export const governanceOf = (parts: GoverningParts): Governance => {
  const { store, keys, audit, incarnation, mac, integrity } = parts;
  return openGovernance({
    store: keys,
    sets: store.sets,
    approvals: store.approvals,
    audit,
    epoch: incarnation.epoch,
    refreshEpoch: incarnation.refresh,
    mac,
    integrity,
    clock: () => new Date(),
  });
};
