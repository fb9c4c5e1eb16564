/** The keyring put together: what the composition root gives to the routes. */
import type { Suite } from '../crypto/suite.ts';
import type { Root } from './root.ts';
import { KeyCatalog } from './catalog.ts';
import type { ChangeParts } from './changes.ts';
import type { IntegrityWatch } from './integrity.ts';
import { ImportAdministration } from './imports.ts';
import type { KeyImports } from './imports.ts';
import { KeyAdministration } from './manage.ts';
import type { KeyLifecycle } from './lifecycle-operations.ts';
import { handleId, MaterialMaker } from './material.ts';
import type { DestructionRules } from './destruction.ts';
import type { GenerationMeasures } from './generation-times.ts';
import { refusalOf } from './new-version.ts';
import type { NewVersionParts } from './new-version.ts';
import type {
  ChangeOrder,
  KeyManage,
  KeyRead,
  KeyUse,
  KeyView,
  PublishedKeys,
} from './operations.ts';
import type { LongOperations } from './job-operations.ts';
import type { PolicyPreviews } from './policy-effects.ts';
import type { UseStore } from './ports.ts';
import { exchangeOperations } from './exchange.ts';
import { keyStates } from './key-states.ts';
import type { KeyStates } from './key-states.ts';
import { keyReferences } from './references.ts';
import type { KeyReferences } from './references.ts';
import { Publication } from './published.ts';
import { KeyReading } from './read.ts';
import { POLICY_LIMITS } from './rotation-policy.ts';
import type { PolicyLimits } from './rotation-policy.ts';
import { signOperations } from './signing.ts';
import { KeyTurns } from './turns.ts';
import { UnsealedHalves } from './unsealed.ts';
import { UseLedger } from './use-ledger.ts';
import { useReport } from './use-report.ts';
import type { UseReport } from './use-report.ts';
import type { OperationStore } from './ports.ts';
import { RewrapJobs } from './rewrap-jobs.ts';
import { RotationOrders } from './rotation-orders.ts';
import type { UsageCounters } from './usage.ts';
import type { PrimaryParts } from './windows.ts';
import { wrapOperations } from './wrapping.ts';

export interface KeyringParts
  extends
    Omit<ChangeParts, 'mac' | 'integrity'>,
    Pick<NewVersionParts, 'hsm' | 'engine' | 'instances' | 'suites' | 'quotas'> {
  readonly operations: OperationStore;
  readonly root: Root;
  /** The counters that the root was opened with. */
  readonly uses: UsageCounters;
  /** UUID of this incarnation, for the intents of token objects and the flushes of uses. */
  readonly instance: string;
  /** Where sums of uses are kept. */
  readonly versionUses: UseStore;
  /** Told when sums of uses cannot be written. */
  readonly onUsesTrouble?: (error: unknown) => void;
  /** How long destructions wait; `DEFAULT_DESTRUCTION_RULES` unless told. */
  readonly destruction?: DestructionRules;
  /** The system's clock unless told. */
  readonly clock?: () => Date;
  /** The policies of a namespace as they stand, for the hold of an undone rotation; none unless told. */
  readonly rotationPolicies?: PrimaryParts['rotationPolicies'];
  /** Those of production unless told. */
  readonly policyLimits?: PolicyLimits;
  /** What a change of a key's policy would do, for its dry run; none unless told. */
  readonly policyPreview?: PolicyPreviews['ofKey'];
  /** Published keys of a namespace; `MOST_PUBLISHED` unless told. */
  readonly mostPublished?: number;
}

export interface Keyring {
  readonly use: KeyUse;
  readonly read: KeyRead;
  readonly published: PublishedKeys;
  readonly manage: KeyManage;
  readonly imports: KeyImports;
  readonly operations: LongOperations;
  readonly orders: RotationOrders;
  readonly lifecycle: KeyLifecycle;
  readonly turns: ChangeOrder;
  readonly states: KeyStates;
  readonly references: KeyReferences;
  /** The key that a name, an alias or an id leads to, verified; for what decides before a grant exists. */
  readonly find: (namespace: string, ref: string) => Promise<KeyView | null>;
  /** Entries of the caches, for metrics. */
  readonly sizes: () => { readonly keys: number; readonly unsealed: number };
  /** Flush of the uses that were counted, which the composition root asks for at last. */
  readonly ledger: Pick<UseLedger, 'flush' | 'stop' | 'size' | 'lost'>;
  readonly useReport: UseReport;
  /** Why no version of the suite is made here at a time, as far as is known now, in words; null when it is. */
  readonly suiteRefusal: (suite: Suite, at: Date) => string | null;
  /** What making a version takes. */
  readonly generation: GenerationMeasures;
  /** Rows that were found altered; for health. */
  readonly integrity: IntegrityWatch;
  /** Wipes what is unsealed; what is in use, as soon as it is not. */
  readonly close: () => void;
}

export function openKeyring(parts: KeyringParts): Keyring {
  const { store, hsm, engine, root, uses, epoch, instance } = parts;
  const { mac } = root;
  const forget = ({ versions }: KeyView): void => {
    for (const { keyId, version } of versions) {
      // A handle that cannot be forgotten now leaves by the bound of its cache, and is never reused.
      hsm.forget(handleId(keyId, version)).catch(() => undefined);
    }
  };
  const catalog = new KeyCatalog(store, mac, epoch, { onDrop: forget });
  const halves = new UnsealedHalves(root, engine, epoch);
  const maker = new MaterialMaker({ hsm, engine, root, store, instance });
  const { policyLimits = POLICY_LIMITS } = parts;
  const turns = new KeyTurns();
  const clock = parts.clock ?? (() => new Date());
  const now = () => clock().getTime();
  const ledger = new UseLedger(parts.versionUses, {
    instance,
    ...(parts.onUsesTrouble === undefined ? {} : { onTrouble: parts.onUsesTrouble }),
  });
  const report = useReport(parts.versionUses, ledger);
  const useParts = { catalog, halves, uses, ledger, hsm, engine, now };
  const signing = signOperations(useParts);
  const work = { ...parts, mac, integrity: catalog.integrity, clock };
  const manage = new KeyAdministration({
    ...parts,
    catalog,
    turns,
    maker,
    mac,
    clock,
    policyLimits,
    report,
  });
  return {
    use: { ...wrapOperations(useParts), ...signing, ...exchangeOperations(catalog, signing, now) },
    read: new KeyReading({ store, catalog, engine, report }),
    published: new Publication(store, catalog, epoch),
    manage,
    imports: new ImportAdministration({ ...work, catalog }),
    lifecycle: manage.lifecycle,
    operations: new RewrapJobs({ ...work, catalog }),
    orders: new RotationOrders(work),
    turns,
    states: keyStates({ store, catalog }),
    references: keyReferences(catalog),
    find: (namespace, ref) => catalog.find(namespace, ref),
    sizes: () => ({ keys: catalog.size, unsealed: halves.size }),
    ledger,
    useReport: report,
    suiteRefusal: (suite, at) => refusalOf(parts, suite, at),
    generation: maker,
    integrity: catalog.integrity,
    close: () => {
      ledger.close();
      halves.close();
    },
  };
}
