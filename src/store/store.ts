/** One pool, Prisma over it, and the ports over both. */
import { PrismaPg } from '@prisma/adapter-pg';
import type { AuditStore } from '../audit/ports.ts';
import type { InstanceStore, KeyStore, RootStore } from '../keyring/ports.ts';
import { createAuditStore } from './audit-store.ts';
import { PrismaClient } from './generated/client.ts';
import { createInstanceStore } from './instance-store.ts';
import { createKeyStore } from './key-store.ts';
import { createPool } from './pool.ts';
import type { GuardedPool, PoolOptions } from './pool.ts';
import { createRootStore } from './root-store.ts';

export interface Store {
  readonly pool: GuardedPool;
  readonly keys: KeyStore;
  readonly roots: RootStore;
  readonly instances: InstanceStore;
  readonly audit: AuditStore;
  /** Ends the pool; calls under way fail. */
  close(): Promise<void>;
}

/** Opens no connection yet: the first call does. The URL is the server's role, never the owner's. */
export const openStore = (options: PoolOptions): Store => {
  const pool = createPool(options);
  const prisma = new PrismaClient({ adapter: new PrismaPg(pool) });
  return {
    pool,
    keys: createKeyStore(pool, prisma),
    roots: createRootStore(pool, prisma),
    instances: createInstanceStore(pool),
    audit: createAuditStore(pool, prisma),
    close: async () => {
      await prisma.$disconnect();
      await pool.end();
    },
  };
};
