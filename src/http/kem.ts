/** Routes of key agreement. */
import * as contract from '../contract/kem.ts';
import { notedBy } from './notes.ts';
import { route } from './route.ts';
import { givenVersion, usedMembers } from './used.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

export function kemRoutes({ use }: Pick<HttpDependencies, 'use'>): readonly GuardedRoute[] {
  return [
    route(contract.encapsulate, {
      handle: async ({ grant, body, notes, own }) => {
        const { used, sharedSecret, encapsulation } = await use.encapsulate(grant, {
          ...givenVersion(body),
          ...notedBy(notes),
        });
        notes.used(used);
        return { body: { sharedSecret: own(sharedSecret), encapsulation, ...usedMembers(used) } };
      },
    }),
    route(contract.decapsulate, {
      handle: async ({ grant, body, notes, own }) => {
        const { used, sharedSecret } = await use.decapsulate(grant, {
          ...body,
          ...notedBy(notes),
        });
        notes.used(used);
        return { body: { sharedSecret: own(sharedSecret), ...usedMembers(used) } };
      },
    }),
  ];
}
