/** Services over one real database and one SoftHSM token, each an instance of its own. */
import { randomUUID } from 'node:crypto';
import { createAuditLog } from '../../src/audit/log.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SUITES } from '../../src/crypto/suites.ts';
import { SecurityEpoch } from '../../src/epoch.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import { openKeyring } from '../../src/keyring/keyring.ts';
import { NamespaceRotationPolicies } from '../../src/keyring/namespace-policies.ts';
import { openRoot } from '../../src/keyring/root.ts';
import { POLICY_LIMITS } from '../../src/keyring/rotation-policy.ts';
import type { Root } from '../../src/keyring/root.ts';
import { UsageCounters } from '../../src/keyring/usage.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { makeToken } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { ANY_SUITE, requests } from '../keyring/world.ts';
import type { Instance } from '../keyring/world.ts';
import { startTestDatabase } from '../store/database.ts';
import type { TestDatabase } from '../store/database.ts';
import { openServiceOver } from './service.ts';
import type { Service, ServiceOptions } from './service.ts';

/** What the services share. */
export class Site {
  readonly database: TestDatabase;
  readonly #fixture: TokenFixture;
  readonly #hsm: PooledHsm;
  readonly #stores: Store[] = [];
  readonly #services: Service<Instance>[] = [];

  private constructor(database: TestDatabase, fixture: TokenFixture, hsm: PooledHsm) {
    this.database = database;
    this.#fixture = fixture;
    this.#hsm = hsm;
  }

  static async open(): Promise<Site> {
    const [database, fixture] = await Promise.all([startTestDatabase(), makeToken()]);
    return new Site(database, fixture, await fixture.open());
  }

  /** One more service, with an issuer of its own that names principals as those of the others do. */
  async service(
    options: ServiceOptions = {},
    clock: () => Date = () => new Date(),
  ): Promise<Service<Instance>> {
    const store = openStore({ url: this.database.appUrl });
    this.#stores.push(store);
    const uses = new UsageCounters(store.keys);
    const root = await openRoot(this.#hsm, store.roots, uses, null);
    const instance = await openStored(this.#hsm, store, root, uses, clock);
    const service = await openServiceOver(instance, {
      scan: store.rotationScan,
      ...options,
    });
    this.#services.push(service);
    return service;
  }

  async close(): Promise<void> {
    for (const service of this.#services) await service.stop();
    for (const store of this.#stores) await store.close();
    await this.#hsm.close();
    await this.database.stop();
    this.#fixture.remove();
  }
}

async function openStored(
  hsm: PooledHsm,
  store: Store,
  root: Root,
  uses: UsageCounters,
  clock: () => Date,
): Promise<Instance> {
  const id = randomUUID();
  const suites = Object.values(SUITES).map(({ number }) => number);
  await store.instances.open({ id, zone: 'z1', suites, envelopes: [1], graceMs: 0 });
  const { epoch: current } = await store.instances.beat(id, 0);
  const epoch = new SecurityEpoch(current);
  const audit = createAuditLog({
    store: store.audit,
    mac: root.mac,
    epoch,
    instance: id,
    zone: 'z1',
  });
  await audit.start();
  const keyring = openKeyring({
    store: store.keys,
    versionUses: store.uses,
    operations: store.operations,
    instances: store.instances,
    hsm,
    engine: nativeEngine,
    root,
    uses,
    audit,
    epoch,
    refreshEpoch: async () => epoch.advance(await store.audit.changesSince(epoch.current)),
    instance: id,
    suites: ANY_SUITE,
    clock,
  });
  const changing = {
    store: store.keys,
    audit,
    epoch,
    refreshEpoch: async () => epoch.advance(await store.audit.changesSince(epoch.current)),
    mac: root.mac,
    integrity: keyring.integrity,
    clock,
  };
  const policies = new NamespaceRotationPolicies({
    ...changing,
    policies: store.policies,
    policyLimits: POLICY_LIMITS,
  });
  const governing = { ...changing, sets: store.sets };
  const stop = async () => {
    keyring.close();
    await audit.stop();
    await store.instances.close(id);
  };
  const facts = { id, hsm, keyring, policies, governing, epoch, uses, audit };
  return { ...facts, stop, ...requests(keyring, epoch) };
}
