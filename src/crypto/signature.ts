/**
 * Composite ML-DSA signatures (draft-ietf-lamps-pq-composite-sigs section 2 to 4):
 *
 *     M'  = "CompositeAlgorithmSignatures2025" ‖ label ‖ u8 length of ctx ‖ ctx ‖ PH(M)
 *     sig = ML-DSA.Sign(M', context = label) ‖ classical signature over M'
 *
 * Both halves sign the same M'; a classical one that hashes, hashes it again. Public key = pk_PQ ‖
 * pk_T. The label is not length-prefixed in M', but it is ML-DSA's context too.
 */
import { TwofoldError } from '../errors.ts';
import { concatBytes, utf8 } from './bytes.ts';
import { digestBytes } from './digests.ts';
import { SIGNATURE_LENGTHS } from './engine.ts';
import { bothHalves } from './halves.ts';
import { checkContextLength, digestOf } from './signature-inputs.ts';
import type { ClassicalScheme } from './classical-signature.ts';
import type { Engine, MlDsaParameterSet } from './engine.ts';
import type { Hash, PublicHalves, SignatureInput, Signer, SignHalves } from './suite.ts';

const PREFIX = utf8('CompositeAlgorithmSignatures2025');

export interface CompositeSignerParameters {
  readonly pq: MlDsaParameterSet;
  readonly classical: ClassicalScheme;
  /** PH, applied to the message. */
  readonly prehash: Hash;
  readonly label: string;
}

/**
 * M', what both halves sign.
 * @throws TwofoldError invalid_value for a context over 255 bytes or a digest that does not fit
 */
export function messageRepresentative(
  label: string,
  prehash: Hash,
  input: SignatureInput,
  context: Uint8Array,
): Uint8Array {
  checkContextLength(context, true);
  return concatBytes(
    PREFIX,
    utf8(label),
    Uint8Array.of(context.length),
    context,
    digestOf(prehash, input),
  );
}

export function compositeSigner(parameters: CompositeSignerParameters): Signer {
  const { pq, classical, prehash, label } = parameters;
  const pqContext = utf8(label);
  const { publicKey: pqKeyLength, signature: pqSignatureLength } = SIGNATURE_LENGTHS[pq];
  const lengths = {
    publicKey: pqKeyLength + classical.lengths.publicKey,
    signatureMax: pqSignatureLength + classical.lengths.signatureMax,
  };

  function splitPublicKey(publicKey: Uint8Array): PublicHalves {
    if (publicKey.length !== lengths.publicKey) {
      throw new TwofoldError('invalid_value', 'The public key has the wrong length.');
    }
    return { pq: publicKey.subarray(0, pqKeyLength), classical: publicKey.subarray(pqKeyLength) };
  }

  function joinPublicKey(halves: PublicHalves): Uint8Array {
    if (halves.pq.length !== pqKeyLength) {
      throw new TwofoldError('invalid_value', `The public key is not one of ${pq}.`);
    }
    classical.checkPublicKey(halves.classical);
    return concatBytes(halves.pq, halves.classical);
  }

  async function sign(
    input: SignatureInput,
    context: Uint8Array,
    halves: SignHalves,
  ): Promise<Uint8Array> {
    const message = messageRepresentative(label, prehash, input, context);
    const { hash } = classical;
    const [pqSignature, signed] = await bothHalves(
      () => halves.pq(message, pqContext),
      () => halves.classical(hash === null ? message : digestBytes(hash, message)),
    );
    if (pqSignature.length !== pqSignatureLength) {
      throw new RangeError('the post-quantum half gave a signature of the wrong length');
    }
    return concatBytes(pqSignature, classical.encode(signed));
  }

  async function verify(
    engine: Engine,
    publicKey: Uint8Array,
    input: SignatureInput,
    context: Uint8Array,
    signature: Uint8Array,
  ): Promise<boolean> {
    const message = messageRepresentative(label, prehash, input, context);
    const key = splitPublicKey(publicKey);
    if (signature.length <= pqSignatureLength || signature.length > lengths.signatureMax) {
      return false;
    }
    const pqSignature = signature.subarray(0, pqSignatureLength);
    const classicalSignature = signature.subarray(pqSignatureLength);
    // Whether an encoding is well-formed anyone can see; which half is false nobody is told.
    const [pqValid, classicalValid] = await bothHalves(
      () => engine.signatures.verify(pq, key.pq, message, pqSignature, pqContext),
      () => classical.verify(key.classical, message, classicalSignature),
    );
    return pqValid && classicalValid;
  }

  return {
    lengths,
    prehash,
    takes: { context: true, mu: false },
    joinPublicKey,
    splitPublicKey,
    sign,
    verify,
  };
}
