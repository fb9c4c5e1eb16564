/** The announcer of a provider inside one instance, which confirms what it knows itself. */
import type { Authorizer } from '../../src/access/ports.ts';
import { Announcer } from '../../src/kubernetes/announcer.ts';
import type { World } from '../keyring/world.ts';
import { ALL_IN_USE } from './in-use.ts';

/** Whatever troubles it is thrown. */
export const announcerOf = (
  { epoch, keyring: { read, manage } }: Pick<World, 'epoch' | 'keyring'>,
  authorizer: Authorizer,
  namespaces = ALL_IN_USE,
): Announcer =>
  new Announcer({
    ...{ read, manage, authorizer, namespaces },
    instances: {
      confirmed: () => Promise.resolve({ epoch: epoch.current, least: epoch.current }),
    },
    onTrouble: (error) => {
      throw error;
    },
  });
