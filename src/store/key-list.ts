/** Pages of keys, by Prisma. */
import type { KeyQuery, StoredKey } from '../keyring/ports.ts';
import type { Prisma, PrismaClient } from './generated/client.ts';
import { keyFromRow } from './key-rows.ts';
import { versionFromRow } from './version-rows.ts';

/**
 * Keys in byte order of their names (the column's collation is "C"), each with all its versions.
 * `suite` matches keys of which any version that is not destroyed has the suite.
 * Keys and versions are read in one snapshot.
 */
export const listKeys = async (
  prisma: PrismaClient,
  query: KeyQuery,
): Promise<readonly StoredKey[]> => {
  const [rows] = await prisma.$transaction(
    [
      prisma.key.findMany({
        where: filter(query),
        orderBy: { name: 'asc' },
        take: query.pageSize,
        include: { versions: { orderBy: { version: 'asc' } } },
      }),
    ],
    { isolationLevel: 'RepeatableRead' },
  );
  return rows.map(({ versions, ...key }) => ({
    key: keyFromRow(key),
    versions: versions.map(versionFromRow),
  }));
};

const filter = (query: KeyQuery): Prisma.keyWhereInput => ({
  namespace: query.namespace,
  name: {
    ...(query.afterName === null ? {} : { gt: query.afterName }),
    ...(query.namePrefix === null ? {} : prefixRange(query.namePrefix)),
  },
  ...(query.suite === null
    ? {}
    : { versions: { some: { suite: query.suite, state: { not: 'destroyed' } } } }),
  ...stateFilter(query.state),
  AND: Object.entries(query.labels).map(([label, value]) => ({
    labels: { path: [label], equals: value },
  })),
});

/** A range, since `_` and `%` have a meaning in LIKE and Prisma passes them on. */
const prefixRange = (prefix: string): Prisma.StringFilter<'key'> =>
  prefix === '' ? {} : { gte: prefix, lt: `${prefix}\u{10ffff}` };

const stateFilter = (state: KeyQuery['state']): Prisma.keyWhereInput => {
  switch (state) {
    case null:
      return {};
    case 'enabled':
      return { destroyed_at: null, destroy_at: null, suspended_at: null };
    case 'suspended':
      return { destroyed_at: null, destroy_at: null, suspended_at: { not: null } };
    case 'pending-destruction':
      return { destroy_at: { not: null } };
    case 'destroyed':
      return { destroyed_at: { not: null } };
  }
};
