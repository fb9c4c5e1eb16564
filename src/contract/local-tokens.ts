/** Tokens that were made on the machine with the HSM's PIN: for bootstrap, and break-glass. */
import { z } from 'zod';

import { PAGING, page } from './answer.ts';
import { defineRoute } from './route.ts';
import { time, uuid } from './scalars.ts';

const localToken = z
  .object({
    id: uuid,
    kind: z.enum(['bootstrap', 'break-glass']),
    namespace: z.string().meta({ description: 'Where it can be used.' }),
    reason: z.string(),
    openedBy: z.string().meta({ description: 'Who ran the command, as the machine says.' }),
    openedAt: time,
    expiresAt: time,
    usedAt: time.nullable(),
    state: z.enum(['open', 'used', 'expired']),
  })
  .meta({ id: 'LocalToken' });

export const listLocalTokens = defineRoute({
  method: 'GET',
  plane: 'admin',
  id: 'listLocalTokens',
  path: '/v1/admin/local-tokens',
  operation: 'local-tokens.read',
  summary: 'Bootstrap and break-glass tokens of the last 30 days; in the root namespace, of all.',
  query: z.strictObject(PAGING),
  response: page(localToken, 'LocalTokenList'),
  errors: ['not_found'],
});
