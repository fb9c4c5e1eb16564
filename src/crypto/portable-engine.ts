/** Post-quantum primitives by @noble/post-quantum. */
import type { Engine } from './engine.ts';

export const portableEngine: Engine = {
  name: 'portable',
  get mlKem(): never {
    throw new Error('not built yet');
  },
  get mlDsa(): never {
    throw new Error('not built yet');
  },
};
