/** Services over one real database and one SoftHSM token, each an instance of its own. */
import type { PooledHsm } from '../../src/hsm/pool.ts';
import { openStore } from '../../src/store/store.ts';
import type { Store } from '../../src/store/store.ts';
import { makeToken } from '../hsm/token-fixture.ts';
import type { TokenFixture } from '../hsm/token-fixture.ts';
import { openStoredInstance } from '../keyring/stored-instance.ts';
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
    const { destruction } = options;
    const instance = await openStoredInstance(store, {
      hsm: this.#hsm,
      clock,
      ...(destruction === undefined ? {} : { destruction }),
    });
    const service = await openServiceOver(instance, {
      scan: store.rotationScan,
      leases: store.limits,
      usage: store.limits,
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
