/** What the operations of `KeyUse` work with. */
import type { Engine } from '../crypto/engine.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm, HsmKey } from '../hsm/port.ts';
import type { KeyCatalog } from './catalog.ts';
import { classicalKey } from './material.ts';
import type { Selected } from './selection.ts';
import type { UnsealedHalves } from './unsealed.ts';
import type { UsageCounters } from './usage.ts';
import type { UseLedger } from './use-ledger.ts';

export interface UseParts {
  readonly catalog: KeyCatalog;
  readonly halves: UnsealedHalves;
  readonly uses: UsageCounters;
  readonly ledger: Pick<UseLedger, 'count'>;
  readonly hsm: Hsm;
  readonly engine: Engine;
  /** Milliseconds since the epoch: what has reached its deactivation time protects no more. */
  readonly now: () => number;
}

export function hsmKeyOf(selected: Selected): HsmKey {
  const { classical } = selected.material;
  const { hsm: spec } = selected.suite;
  if (classical === null || spec === null) {
    throw new TwofoldError('integrity_failed', 'The version has no HSM key.');
  }
  return classicalKey(spec, selected.keyId, selected.version, classical.hsm);
}
