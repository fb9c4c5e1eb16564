/** No namespace is suspended. */
import type { NamespacesInUse } from '../../src/keyring/in-use.ts';

export const ALL_IN_USE: NamespacesInUse = { isInUse: () => Promise.resolve(true) };
