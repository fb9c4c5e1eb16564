/** What the ceremony of another generation does: its row, its object on the token, its keys. */
import { completeRoot, followRoot } from '../../src/keyring/root-opening.ts';
import { watchedHsm } from './watched-hsm.ts';
import { INSTALLATION } from './world.ts';
import type { World } from './world.ts';

/** The world's instance has opened it afterwards. */
export async function placeGeneration(
  { device, store, hsm, root }: World,
  generation: number,
): Promise<void> {
  const row = await store.intend(generation, INSTALLATION);
  device.token.makeRoot({ generation, installation: INSTALLATION });
  // A process of its own: the service's selects the new root when the rotation begins.
  await completeRoot(watchedHsm(device.token).hsm, store, row, 'complete');
  await followRoot(hsm, store, root, () => false);
}
