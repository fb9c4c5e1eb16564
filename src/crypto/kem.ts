/** The hybrid KEM (CFRG concrete hybrids, X-Wing): see `hybridKem`. */
import { CURVES } from './curve.ts';
import { ML_KEM_LENGTHS } from './engine.ts';
import type { MlKemParameterSet } from './engine.ts';
import type { Curve, Kem } from './suite.ts';

export function hybridKem(row: {
  readonly pq: MlKemParameterSet;
  readonly curve: Curve;
  readonly label: Uint8Array;
}): Kem {
  const classical = CURVES[row.curve].publicKeyLength;
  const lengths = ML_KEM_LENGTHS[row.pq];
  const unbuilt = () => {
    throw new Error('not built yet');
  };
  return {
    lengths: {
      publicKey: lengths.publicKey + classical,
      encapsulation: lengths.ciphertext + classical,
    },
    joinPublicKey: unbuilt,
    splitPublicKey: unbuilt,
    encapsulate: unbuilt,
    decapsulate: unbuilt,
  };
}
