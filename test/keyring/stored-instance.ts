/**
 * A keyring over a real database, as a process has it: an instance with a row, an audit log, and no heartbeat but
 * before it asks for others.
 */
import { randomUUID } from 'node:crypto';
import { createAuditLog } from '../../src/audit/log.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import { NamespaceLimitSets } from '../../src/governance/limits.ts';
import { RootRotations } from '../../src/governance/root-rotations.ts';
import { openKeyring } from '../../src/keyring/keyring.ts';
import type { KeyringParts } from '../../src/keyring/keyring.ts';
import { NamespaceRotationPolicies } from '../../src/keyring/namespace-policies.ts';
import { openRoot } from '../../src/keyring/root-opening.ts';
import type { Root } from '../../src/keyring/root.ts';
import { POLICY_LIMITS } from '../../src/keyring/rotation-policy.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { PolicyEffectPreviews } from '../../src/rotation/policy-effects.ts';
import type { Store } from '../../src/store/store.ts';
import { ANY_SUITE, requests } from './world.ts';
import type { Instance } from './world.ts';

export interface StoredInstance extends Instance {
  readonly root: Root;
}

type Given = Pick<KeyringParts, 'hsm'> &
  Partial<Pick<KeyringParts, 'clock' | 'destruction' | 'instances'>> & {
    /** Keys that a dry run of policies looks at. */
    readonly previewKeys?: number;
    readonly otherZones?: readonly string[];
  };

/** @param rootHsm opens the root; `hsm` unless told */
export async function openStoredInstance(
  store: Store,
  { hsm, clock = () => new Date(), otherZones = [], ...given }: Given,
  rootHsm = hsm,
): Promise<StoredInstance> {
  const uses = new UsageCounters(store.keys);
  const root = await openRoot(rootHsm, store.roots, uses, null);
  const id = randomUUID();
  const suites = Object.values(SUITES).map(({ number }) => number);
  await store.instances.open({ id, zone: 'z1', suites, envelopes: [1], graceMs: 0 });
  const { epoch: current } = await store.instances.beat(id, 0);
  const epoch = new SecurityEpoch(current);
  const refreshEpoch = async () => epoch.advance(await store.audit.changesSince(epoch.current));
  const parts = { mac: root.auditMac, values: root.valueMac, epoch, instance: id };
  const audit = createAuditLog({ store: store.audit, zone: 'z1', ...parts });
  await audit.start();
  const keyring = openKeyring({
    store: store.keys,
    versionUses: store.uses,
    operations: store.operations,
    instances: {
      allRead: async (suite, envelope) => {
        await store.instances.beat(id, epoch.current);
        return store.instances.allRead({ suite, envelope }, { id, silentMs: 0 });
      },
    },
    ...given,
    ...{ hsm, clock, engine: nativeEngine, root, uses, audit, epoch, refreshEpoch },
    instance: id,
    suites: ANY_SUITE,
    rotationPolicies: (name) => policies.current(name),
    policyPreview: (...views) => previews.ofKey(...views),
    quotas: async (name) => (await limits.inForce(name)).quotas,
  });
  const { integrity } = keyring;
  const changing = { store: store.keys, audit, epoch, refreshEpoch, clock, integrity };
  const governing = {
    ...changing,
    mac: root.mac,
    sets: store.sets,
    approvals: store.approvals,
    findKey: keyring.find,
  };
  const limits = new NamespaceLimitSets(governing);
  const policies: NamespaceRotationPolicies = new NamespaceRotationPolicies({
    ...changing,
    mac: root.mac,
    policies: store.policies,
    policyLimits: POLICY_LIMITS,
    previews: { ofPolicies: (change) => previews.ofPolicies(change) },
  });
  const previews: PolicyEffectPreviews = new PolicyEffectPreviews({
    scan: store.rotationScan,
    schedule: store.scheduler,
    policies,
    flush: () => keyring.ledger.flush(),
    perMinute: 120,
    clock,
    ...(given.previewKeys === undefined ? {} : { mostKeys: given.previewKeys }),
  });
  const stop = async () => {
    keyring.close();
    await audit.stop();
    await store.instances.close(id);
  };
  const rootRotations = new RootRotations({
    ...changing,
    mac: root.mac,
    operations: store.operations,
    root,
    roots: store.roots,
    rotations: store.rootRotations,
    otherZones,
  });
  const parted = {
    id,
    rootRotations,
    root,
    hsm,
    keyring,
    policies,
    governing,
    epoch,
    uses,
    audit,
    stop,
  };
  return { ...parted, ...requests(keyring, epoch) };
}
