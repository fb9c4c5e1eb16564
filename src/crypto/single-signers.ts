/** Signers of one half: a post-quantum one in software, or a classical one in the HSM. */
import { TwofoldError } from '../errors.ts';
import { SIGNATURE_LENGTHS } from './engine.ts';
import { checkContext, checkContextLength, checkMu, digestOf } from './signature-inputs.ts';
import type { ClassicalScheme } from './classical-signature.ts';
import type { MlDsaParameterSet, SignatureParameterSet } from './engine.ts';
import type { SignatureInput, Signer } from './suite.ts';

const NOTHING = new Uint8Array(0);

function requireLength(publicKey: Uint8Array, length: number): void {
  if (publicKey.length !== length) {
    throw new TwofoldError('invalid_value', 'The public key has the wrong length.');
  }
}

function isMlDsa(set: SignatureParameterSet): set is MlDsaParameterSet {
  return SIGNATURE_LENGTHS[set].mu;
}

/** mu already holds the context, so that one given beside it would be ignored. */
function checkMuInput(set: SignatureParameterSet, mu: Uint8Array, context: Uint8Array): void {
  checkMu(set, mu);
  if (context.length > 0) {
    throw new TwofoldError('invalid_value', 'mu already covers the context; give none beside it.');
  }
}

function messageOf(set: SignatureParameterSet, input: SignatureInput): Uint8Array {
  if ('message' in input) return input.message;
  const instead = isMlDsa(set) ? 'messages or mu' : 'messages';
  throw new TwofoldError('invalid_value', `${set} signs ${instead}, not digests.`);
}

/** The pure form of a set: FIPS 204 algorithm 2, FIPS 205 algorithm 22, Falcon of round 3. */
export function pqSigner(set: SignatureParameterSet): Signer {
  const { publicKey: publicKeyLength, signature, context: takesContext } = SIGNATURE_LENGTHS[set];

  return {
    lengths: { publicKey: publicKeyLength, signatureMax: signature },
    prehash: null,
    takes: { context: takesContext, mu: isMlDsa(set) },

    joinPublicKey({ pq, classical }) {
      requireLength(classical, 0);
      requireLength(pq, publicKeyLength);
      return Uint8Array.from(pq);
    },

    splitPublicKey(publicKey) {
      requireLength(publicKey, publicKeyLength);
      return { pq: publicKey, classical: NOTHING };
    },

    async sign(input, context, halves) {
      if ('mu' in input) {
        checkMuInput(set, input.mu, context);
        return halves.mu(input.mu);
      }
      checkContext(set, context);
      return halves.pq(messageOf(set, input), context);
    },

    async verify(engine, publicKey, input, context, candidate) {
      requireLength(publicKey, publicKeyLength);
      const { signatures } = engine;
      if ('mu' in input) {
        checkMuInput(set, input.mu, context);
        return isMlDsa(set) && signatures.verifyMu(set, publicKey, input.mu, candidate);
      }
      checkContext(set, context);
      return signatures.verify(set, publicKey, messageOf(set, input), candidate, context);
    },
  };
}

/** Over the message, or its digest where the scheme hashes; no context. */
export function classicalSigner(scheme: ClassicalScheme): Signer {
  const { lengths, hash } = scheme;

  /** @throws TwofoldError invalid_value */
  function toBeSigned(input: SignatureInput): Uint8Array {
    if (hash !== null) return digestOf(hash, input);
    if ('message' in input) return input.message;
    throw new TwofoldError('invalid_value', 'This suite signs messages alone.');
  }

  return {
    lengths,
    prehash: hash,
    takes: { context: false, mu: false },

    joinPublicKey({ pq, classical }) {
      requireLength(pq, 0);
      scheme.checkPublicKey(classical);
      return Uint8Array.from(classical);
    },

    splitPublicKey(publicKey) {
      requireLength(publicKey, lengths.publicKey);
      return { pq: NOTHING, classical: publicKey };
    },

    async sign(input, context, halves) {
      checkContextLength(context, false);
      return scheme.encode(await halves.classical(toBeSigned(input)));
    },

    async verify(_engine, publicKey, input, context, signature) {
      checkContextLength(context, false);
      const signed = toBeSigned(input);
      return 'message' in input
        ? scheme.verify(publicKey, input.message, signature)
        : scheme.verifyDigest(publicKey, signed, signature);
    },
  };
}
