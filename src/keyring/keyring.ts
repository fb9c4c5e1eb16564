/** The keyring put together over its ports. */
import type { AuditLog } from '../audit/ports.ts';
import type { Engine } from '../crypto/engine.ts';
import type { SecurityEpoch } from '../epoch.ts';
import type { Hsm } from '../hsm/port.ts';
import { KeyCatalog } from './catalog.ts';
import { KeyAdministration } from './manage.ts';
import { MaterialMaker } from './material.ts';
import type { KeyManage, KeyRead, KeyUse } from './operations.ts';
import type { InstanceStore, KeyStore } from './ports.ts';
import { KeyReading } from './read.ts';
import type { Root } from './root.ts';
import { signOperations } from './signing.ts';
import { UnsealedHalves } from './unsealed.ts';
import type { UsageCounters } from './usage.ts';
import { wrapOperations } from './wrapping.ts';

export interface KeyringParts {
  readonly hsm: Hsm;
  readonly engine: Engine;
  readonly root: Root;
  readonly store: KeyStore;
  readonly instances: Pick<InstanceStore, 'allRead'>;
  readonly uses: UsageCounters;
  readonly audit: AuditLog;
  readonly epoch: SecurityEpoch;
  readonly refreshEpoch: () => Promise<void>;
  /** UUID of this incarnation; names the maker of token objects. */
  readonly instance: string;
  readonly clock: () => Date;
}

export interface Keyring {
  readonly use: KeyUse;
  readonly read: KeyRead;
  readonly manage: KeyManage;
  /** How much the caches hold, for metrics. */
  readonly sizes: () => { readonly keys: number; readonly unsealed: number };
  /** Wipes what is unsealed. */
  readonly close: () => void;
}

export function createKeyring(parts: KeyringParts): Keyring {
  const { store, root, epoch, engine, hsm } = parts;
  const catalog = new KeyCatalog(store, root.mac, epoch);
  const halves = new UnsealedHalves(root, engine, epoch);
  const maker = new MaterialMaker({ hsm, engine, root, store, instance: parts.instance });
  const useParts = { catalog, halves, uses: parts.uses, hsm, engine };
  return {
    use: { ...wrapOperations(useParts), ...signOperations(useParts) },
    read: new KeyReading(store, catalog),
    manage: new KeyAdministration({ ...parts, catalog, maker, mac: root.mac }),
    sizes: () => ({ keys: catalog.size, unsealed: halves.size }),
    close: () => halves.close(),
  };
}
