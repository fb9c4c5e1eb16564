/** What is stored about access, over the stores of the service. */
import { LocalAccess } from '../access/local-access.ts';
import type { PolicyValidation } from '../access/policy-validation.ts';
import type { SecurityEpoch } from '../epoch.ts';
import { openGovernance } from '../governance/governance.ts';
import type { FindKey } from '../governance/key-grants.ts';
import type { Governance, InitialPolicies } from '../governance/governance.ts';
import type { Store } from '../store/store.ts';
import type { ReadinessCheck } from '../http/dependencies.ts';
import type { LateParts } from './late-parts.ts';
import type { RulingParts } from './scheduling.ts';

export interface GoverningParts extends Omit<RulingParts, 'store' | 'config'> {
  readonly store: Pick<Store, 'sets' | 'approvals'>;
  readonly findKey: FindKey;
  readonly validation: PolicyValidation;
}

export const governanceOf = (parts: GoverningParts, initial: InitialPolicies): Governance => {
  const { store, keys, audit, incarnation, mac, integrity, findKey, validation } = parts;
  const rows = {
    store: keys,
    sets: store.sets,
    approvals: store.approvals,
    audit,
    epoch: incarnation.epoch,
    refreshEpoch: incarnation.refresh,
    mac,
    integrity,
    clock: () => new Date(),
    findKey,
    validation,
  };
  return openGovernance(rows, initial);
};

/** Of tokens that were made on the machine; known once the root is open. */
export const localAccess = ({ governance }: LateParts, epoch: SecurityEpoch): LocalAccess =>
  new LocalAccess({ find: (kind, token) => governance.port.localTokens.find(kind, token) }, epoch);

/** Broken glass is seen by everybody, and keeps nobody from serving. */
export const accessCheck = ({ governance }: LateParts): ReadinessCheck => {
  const broken = governance.current?.localTokens.isGlassBroken() ?? false;
  return { name: 'access', ready: true, state: broken ? 'break-glass' : 'ok' };
};
