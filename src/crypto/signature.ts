/** Composite ML-DSA (draft-ietf-lamps-pq-composite-sigs): see `compositeSigner`. */
import { CURVES } from './curve.ts';
import { ML_DSA_LENGTHS } from './engine.ts';
import type { MlDsaParameterSet } from './engine.ts';
import type { Hash, Signer, SigningCurve } from './suite.ts';

export function compositeSigner(row: {
  readonly pq: MlDsaParameterSet;
  readonly curve: SigningCurve;
  readonly classicalHash: Hash;
  readonly prehash: Hash;
  readonly label: string;
}): Signer {
  const unbuilt = () => {
    throw new Error('not built yet');
  };
  const { publicKeyLength, fieldLength } = CURVES[row.curve];
  const lengths = ML_DSA_LENGTHS[row.pq];
  return {
    lengths: {
      publicKey: lengths.publicKey + publicKeyLength,
      signatureMax: lengths.signature + 2 * fieldLength + 8,
    },
    prehash: row.prehash,
    classicalHash: row.classicalHash,
    joinPublicKey: unbuilt,
    splitPublicKey: unbuilt,
    sign: unbuilt,
    verify: unbuilt,
  };
}
