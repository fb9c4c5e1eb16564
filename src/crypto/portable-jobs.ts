/** What the threads of the portable engine are asked to do; each job is answered by one reply. */
import type { MlDsaParameterSet, SignatureParameterSet } from './engine.ts';

interface Job {
  readonly set: SignatureParameterSet;
}

interface SecretJob extends Job {
  /** A copy for the thread: its memory is transferred there, and wiped there after the job. */
  readonly secret: Uint8Array;
}

/** `secret` is the seed. */
export interface ExpandJob extends SecretJob {
  readonly kind: 'expand';
}

/** `secret` is the expanded private key. */
export interface SignJob extends SecretJob {
  readonly kind: 'sign';
  readonly message: Uint8Array;
  readonly context: Uint8Array;
}

export interface SignMuJob extends SecretJob {
  readonly kind: 'signMu';
  readonly set: MlDsaParameterSet;
  readonly mu: Uint8Array;
}

export interface VerifyJob extends Job {
  readonly kind: 'verify';
  readonly publicKey: Uint8Array;
  readonly message: Uint8Array;
  readonly signature: Uint8Array;
  readonly context: Uint8Array;
}

export interface VerifyMuJob extends Job {
  readonly kind: 'verifyMu';
  readonly set: MlDsaParameterSet;
  readonly publicKey: Uint8Array;
  readonly mu: Uint8Array;
  readonly signature: Uint8Array;
}

export type PortableJob = ExpandJob | SignJob | SignMuJob | VerifyJob | VerifyMuJob;

/** The receiver owns `secretKey` and wipes it. */
export interface ExpandedPair {
  readonly publicKey: Uint8Array;
  readonly secretKey: Uint8Array;
}

export interface PortableResults {
  readonly expand: ExpandedPair;
  readonly sign: Uint8Array;
  readonly signMu: Uint8Array;
  readonly verify: boolean;
  readonly verifyMu: boolean;
}

export type PortableReply =
  { readonly result: PortableResults[PortableJob['kind']] } | { readonly error: string };

/**
 * Whether a job may take seconds: all of SLH-DSA but its verification, and Falcon's key generation.
 */
export function isLong({ kind, set }: PortableJob): boolean {
  if (set.startsWith('SLH-DSA')) return kind === 'expand' || kind === 'sign';
  return kind === 'expand' && set.startsWith('Falcon');
}
