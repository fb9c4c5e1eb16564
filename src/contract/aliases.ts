/** Which name leads to which key, and which of its versions protects: what consumers stand on. */
import { z } from 'zod';

import { CHANGE_ERRORS, changeOf, requiredIfMatch } from './admin-keys.ts';
import { keyResource } from './keys.ts';
import { defineRoute, headers, keyParams } from './route.ts';
import { keyName, keyReference, keyVersion, text } from './scalars.ts';

const aliasParams = z.strictObject({ key: keyReference, alias: keyName });
const change = {
  ...changeOf(aliasParams),
  path: '/v1/admin/keys/{key}/aliases/{alias}',
  response: keyResource,
} as const;

export const putAlias = defineRoute({
  ...change,
  method: 'PUT',
  id: 'putAlias',
  operation: 'keys.put-alias',
  summary: 'Gives a key another name, or moves one from another key.',
  body: z
    .strictObject({
      from: keyReference.optional().meta({
        description:
          'The key that has the alias and loses it, in the same change; a destroyed one too.',
      }),
    })
    .meta({ id: 'AliasRequest' }),
  errors: [...CHANGE_ERRORS, 'key_exists', 'name_retired', 'not_found', 'version_not_usable'],
});

export const deleteAlias = defineRoute({
  ...change,
  method: 'DELETE',
  id: 'deleteAlias',
  operation: 'keys.delete-alias',
  summary: 'Takes an alias from a key, a destroyed one too; the name is free again.',
  errors: [...CHANGE_ERRORS, 'not_found', 'version_not_usable'],
});

export const setPrimary = defineRoute({
  ...changeOf(keyParams),
  method: 'PUT',
  id: 'setPrimary',
  path: '/v1/admin/keys/{key}/primary',
  operation: 'keys.set-primary',
  summary: 'Makes another version the one that protects, as when a rotation broke a consumer.',
  headers: headers({ 'if-match': requiredIfMatch }),
  body: z
    .strictObject({
      version: keyVersion,
      reason: text(512, 'Why; kept in the audit log.'),
      acceptQuantumVulnerable: z.boolean().optional().meta({
        description: 'Needed to fall back to a suite that a quantum computer breaks.',
      }),
    })
    .meta({ id: 'PrimaryRequest' }),
  response: keyResource,
  errors: [
    ...CHANGE_ERRORS,
    'precondition_required',
    'version_not_found',
    'version_not_usable',
    'suite_unavailable_here',
    'wrong_purpose',
  ],
});
