/**
 * Signatures by @noble/post-quantum, blocking: what `portable-worker.ts` runs. Lengths and contexts
 * were checked before (`signature-inputs.ts`).
 */
import { randomBytes } from 'node:crypto';

import { falcon1024padded, falcon512padded } from '@noble/post-quantum/falcon.js';
import { ml_dsa44, ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';
import {
  slh_dsa_sha2_128f,
  slh_dsa_sha2_128s,
  slh_dsa_sha2_192f,
  slh_dsa_sha2_192s,
  slh_dsa_sha2_256f,
  slh_dsa_sha2_256s,
  slh_dsa_shake_128f,
  slh_dsa_shake_128s,
  slh_dsa_shake_192f,
  slh_dsa_shake_192s,
  slh_dsa_shake_256f,
  slh_dsa_shake_256s,
} from '@noble/post-quantum/slh-dsa.js';

import type { FalconParameterSet, MlDsaParameterSet, SlhDsaParameterSet } from './engine.ts';
import type { PortableJob, PortableResults, SignJob, VerifyJob } from './portable-jobs.ts';

const ML_DSA = { 'ML-DSA-44': ml_dsa44, 'ML-DSA-65': ml_dsa65, 'ML-DSA-87': ml_dsa87 };

const SLH_DSA: Readonly<Record<SlhDsaParameterSet, typeof slh_dsa_sha2_128s>> = {
  'SLH-DSA-SHA2-128s': slh_dsa_sha2_128s,
  'SLH-DSA-SHA2-128f': slh_dsa_sha2_128f,
  'SLH-DSA-SHA2-192s': slh_dsa_sha2_192s,
  'SLH-DSA-SHA2-192f': slh_dsa_sha2_192f,
  'SLH-DSA-SHA2-256s': slh_dsa_sha2_256s,
  'SLH-DSA-SHA2-256f': slh_dsa_sha2_256f,
  'SLH-DSA-SHAKE-128s': slh_dsa_shake_128s,
  'SLH-DSA-SHAKE-128f': slh_dsa_shake_128f,
  'SLH-DSA-SHAKE-192s': slh_dsa_shake_192s,
  'SLH-DSA-SHAKE-192f': slh_dsa_shake_192f,
  'SLH-DSA-SHAKE-256s': slh_dsa_shake_256s,
  'SLH-DSA-SHAKE-256f': slh_dsa_shake_256f,
};

/** Round 3, signatures padded to one length. */
const FALCON = { 'Falcon-512': falcon512padded, 'Falcon-1024': falcon1024padded };

/** First byte of a signature: 0011 and the degree's logarithm (Falcon specification 3.11.3). */
const FALCON_HEADERS: Readonly<Record<FalconParameterSet, number>> = {
  'Falcon-512': 0x39,
  'Falcon-1024': 0x3a,
};

const SCHEMES = { ...ML_DSA, ...SLH_DSA, ...FALCON };
/** rnd of FIPS 204 algorithm 2. */
const ML_DSA_RANDOMNESS = 32;

const isFalcon = (set: string): set is FalconParameterSet => Object.hasOwn(FALCON, set);
const isMlDsa = (set: string): set is MlDsaParameterSet => Object.hasOwn(ML_DSA, set);

/** noble draws Falcon's salt and sampler seed itself; the others get theirs from OpenSSL. */
function sign({ set, secret, message, context }: SignJob): Uint8Array {
  if (isFalcon(set)) return FALCON[set].sign(message, secret);
  if (isMlDsa(set)) {
    const extraEntropy = randomBytes(ML_DSA_RANDOMNESS);
    return ML_DSA[set].sign(message, secret, { context, extraEntropy });
  }
  const scheme = SLH_DSA[set];
  const extraEntropy = randomBytes(scheme.lengths.signRand ?? 0);
  return scheme.sign(message, secret, { context, extraEntropy });
}

function verify({ set, publicKey, message, signature, context }: VerifyJob): boolean {
  if (isFalcon(set)) {
    const header = signature[0] === FALCON_HEADERS[set];
    return header && FALCON[set].verify(signature, message, publicKey);
  }
  return SCHEMES[set].verify(signature, message, publicKey, { context });
}

/** Blocks for as long as the job takes; the caller wipes the job's secret. */
export function runPortableJob(job: PortableJob): PortableResults[PortableJob['kind']] {
  switch (job.kind) {
    case 'expand':
      return SCHEMES[job.set].keygen(job.secret);
    case 'sign':
      return sign(job);
    case 'signMu':
      return ML_DSA[job.set].internal.sign(job.mu, job.secret, {
        externalMu: true,
        extraEntropy: randomBytes(ML_DSA_RANDOMNESS),
      });
    case 'verify':
      return verify(job);
    case 'verifyMu': {
      const { signature, mu, publicKey } = job;
      return ML_DSA[job.set].internal.verify(signature, mu, publicKey, { externalMu: true });
    }
  }
}
