/** Where a namespace is suspended or gone, nothing is done in it, whatever is due or was ordered. */
import type { Grant, Operation } from '../access/grant.ts';
import { StaleAnswer } from '../audit/ports.ts';
import { TwofoldError } from '../errors.ts';

/** Which namespaces are there and not suspended, as this instance knows it at its epoch. */
export interface NamespacesInUse {
  isInUse(namespace: string): Promise<boolean>;
}

/**
 * Acts by a grant that was minted after the namespace was found in use, with no change between both: one
 * that comes later makes the grant old, and whoever acts by it runs again.
 * @throws TwofoldError namespace_suspended
 * @throws StaleAnswer when a change came between
 */
export async function actInUse<T>(
  namespaces: NamespacesInUse,
  namespace: string,
  mint: () => Grant<Operation>,
  act: () => Promise<T>,
): Promise<T> {
  const before = mint().epoch;
  const used = await namespaces.isInUse(namespace);
  // From here to the grant within `act` nothing else runs.
  if (mint().epoch !== before) throw new StaleAnswer();
  if (!used) throw new TwofoldError('namespace_suspended');
  return act();
}
