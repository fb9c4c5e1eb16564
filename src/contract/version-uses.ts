/**
 * How much the versions of a key are used, and by whom: what tells when an old version has fallen
 * silent and may be retired. Statistics of what the service did; the audit log is what is exact.
 */
import { z } from 'zod';

import { PAGING, page } from './answer.ts';
import { COUNTED, count, versionUser } from './change-uses.ts';
import { VERSION_STATES } from './keys.ts';
import { defineRoute, keyParams, versionParams } from './route.ts';
import { keyVersion, suiteId } from './scalars.ts';

const gcm = z.object({
  used: count('AES-GCM encryptions reserved, in blocks of which the last may not be used up.'),
  rotatesAt: z.int().meta({ description: '2^31: from here on the key should be rotated.' }),
  refusedAt: z.int().meta({ description: '2^32: here the version is refused (SP 800-38D 8.3).' }),
});

export const versionUses = z
  .object({
    version: keyVersion,
    suite: suiteId,
    state: z.enum(VERSION_STATES),
    primary: z.boolean(),
    ...COUNTED,
    gcm: gcm.nullable().meta({ description: 'Null for suites without that limit.' }),
  })
  .meta({ id: 'VersionUses' });

const shared = { method: 'GET', plane: 'admin', operation: 'versions.uses' } as const;

export const listVersionUses = defineRoute({
  ...shared,
  params: keyParams,
  id: 'listVersionUses',
  path: '/v1/admin/keys/{key}/versions',
  summary: 'How much each version of a key is used, and since when no more; oldest first.',
  query: z.strictObject(PAGING),
  response: page(versionUses, 'VersionUsesPage'),
  errors: ['key_not_found', 'integrity_failed'],
});

export const listVersionUsers = defineRoute({
  ...shared,
  params: versionParams,
  id: 'listVersionUsers',
  path: '/v1/admin/keys/{key}/versions/{version}/uses',
  summary: 'Who uses a version, and how often; the most recent use first.',
  query: z.strictObject(PAGING),
  response: page(versionUser, 'VersionUserPage'),
  errors: ['key_not_found', 'integrity_failed', 'version_not_found'],
});
