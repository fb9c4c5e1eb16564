/**
 * Composite ML-DSA signatures (draft-ietf-lamps-pq-composite-sigs section 2 to 4):
 *
 *     M'  = "CompositeAlgorithmSignatures2025" ‖ label ‖ u8 length of ctx ‖ ctx ‖ PH(M)
 *     sig = ML-DSA.Sign(M', context = label) ‖ DER of ECDSA.Sign(M')
 *
 * Both halves sign the same M'; the classical one hashes it again. Public key = pk_PQ ‖ pk_T. The
 * label is not length-prefixed in M', but it is ML-DSA's context too.
 */
import { createHash } from 'node:crypto';

import { TwofoldError } from '../errors.ts';
import { concatBytes, utf8 } from './bytes.ts';
import { checkPublicKey, CURVES, verifyEcdsa } from './curve.ts';
import { decodeEcdsaSignature, encodeEcdsaSignature } from './ecdsa.ts';
import { MAX_SIGNATURE_CONTEXT, SIGNATURE_LENGTHS } from './engine.ts';
import { bothHalves } from './halves.ts';
import type { Engine, MlDsaParameterSet } from './engine.ts';
import type {
  Hash,
  PublicHalves,
  SignatureInput,
  Signer,
  SignHalves,
  SigningCurve,
} from './suite.ts';

const PREFIX = utf8('CompositeAlgorithmSignatures2025');
/** SEQUENCE and two INTEGER headers, with a sign byte each. */
const DER_OVERHEAD = 8;

const DIGEST_LENGTHS: Readonly<Record<Hash, number>> = {
  'SHA-256': 32,
  'SHA-384': 48,
  'SHA-512': 64,
};

export interface CompositeSignerParameters {
  readonly pq: MlDsaParameterSet;
  readonly curve: SigningCurve;
  /** PH, applied to the message. */
  readonly prehash: Hash;
  /** The hash inside ECDSA, applied to M'. */
  readonly classicalHash: Hash;
  readonly label: string;
}

function digestBytes(hash: Hash, message: Uint8Array): Uint8Array {
  return createHash(hash.replace('-', '')).update(message).digest();
}

/** PH(M): computed, or given and checked against the suite. */
function prehashed(hash: Hash, input: SignatureInput): Uint8Array {
  if ('message' in input) return digestBytes(hash, input.message);
  const { algorithm, value } = input.digest;
  if (algorithm !== hash || value.length !== DIGEST_LENGTHS[hash]) {
    throw new TwofoldError(
      'invalid_value',
      `This suite takes a digest of ${hash}, ${DIGEST_LENGTHS[hash]} bytes.`,
    );
  }
  return value;
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
  if (context.length > MAX_SIGNATURE_CONTEXT) {
    throw new TwofoldError('invalid_value', 'signatureContext is longer than 255 bytes.');
  }
  return concatBytes(
    PREFIX,
    utf8(label),
    Uint8Array.of(context.length),
    context,
    prehashed(prehash, input),
  );
}

export function compositeSigner(parameters: CompositeSignerParameters): Signer {
  const { pq, curve, prehash, classicalHash, label } = parameters;
  const pqContext = utf8(label);
  const { publicKey: pqKeyLength, signature: pqSignatureLength } = SIGNATURE_LENGTHS[pq];
  const { publicKeyLength, fieldLength } = CURVES[curve];
  const lengths = {
    publicKey: pqKeyLength + publicKeyLength,
    signatureMax: pqSignatureLength + 2 * fieldLength + DER_OVERHEAD,
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
    checkPublicKey(curve, halves.classical);
    return concatBytes(halves.pq, halves.classical);
  }

  async function sign(
    input: SignatureInput,
    context: Uint8Array,
    halves: SignHalves,
  ): Promise<Uint8Array> {
    const message = messageRepresentative(label, prehash, input, context);
    const [pqSignature, raw] = await bothHalves(
      () => halves.pq(message, pqContext),
      () => halves.classical(digestBytes(classicalHash, message)),
    );
    if (pqSignature.length !== pqSignatureLength) {
      throw new RangeError('the post-quantum half gave a signature of the wrong length');
    }
    return concatBytes(pqSignature, encodeEcdsaSignature(curve, raw));
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
    if (signature.length > lengths.signatureMax) return false;
    const raw = decodeEcdsaSignature(curve, signature.subarray(pqSignatureLength));
    // Whether the encoding is well-formed anyone can see; which half is false nobody is told.
    if (raw === undefined) return false;
    const pqSignature = signature.subarray(0, pqSignatureLength);
    const [pqValid, classicalValid] = await bothHalves(
      () => engine.signatures.verify(pq, key.pq, message, pqSignature, pqContext),
      () => verifyEcdsa(curve, classicalHash, key.classical, message, raw),
    );
    return pqValid && classicalValid;
  }

  return {
    lengths,
    prehash,
    classicalHash,
    joinPublicKey,
    splitPublicKey,
    sign,
    verify,
  };
}
