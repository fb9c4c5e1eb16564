/** Post-quantum primitives by OpenSSL 3.5 through node:crypto. */
import type { Engine } from './engine.ts';

export const nativeEngine: Engine = {
  name: 'native',
  get mlKem(): never {
    throw new Error('not built yet');
  },
  get mlDsa(): never {
    throw new Error('not built yet');
  },
};
