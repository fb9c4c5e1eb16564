/**
 * Prisma over the pool, for reads that few ask for. Client, adapter and query compiler hold some 30 MB for as
 * long as the process lives, so the first such read loads them; what every service does goes without.
 */
import type { PrismaClient } from './generated/client.ts';
import type { GuardedPool } from './pool.ts';

export interface Prisma {
  /** The client, from files of this installation at the first call. @throws Error where they are not readable */
  client(): Promise<PrismaClient>;
  /** Resolves at once where nothing was loaded. */
  close(): Promise<void>;
}

/** What is loaded; apart, so that `twofold compile` finds it. */
export const loadPrisma = () =>
  Promise.all([import('@prisma/adapter-pg'), import('./generated/client.ts')]);

export const createPrisma = (pool: GuardedPool): Prisma => {
  let loading: Promise<PrismaClient> | undefined;
  const load = async () => {
    const [{ PrismaPg }, { PrismaClient }] = await loadPrisma();
    return new PrismaClient({ adapter: new PrismaPg(pool) });
  };
  return {
    client: () =>
      (loading ??= load().catch((error: unknown) => {
        loading = undefined;
        throw error;
      })),
    close: async () => {
      // Whose read could not load it was told so; a pool is closed all the same.
      await (await loading?.catch(() => undefined))?.$disconnect();
    },
  };
};
