/** Expansion and self-check of private keys in expanded form, for the PKCS #8 reader. */
import { createPrivateKey } from 'node:crypto';

import { ml_dsa44, ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';
import { ml_kem1024, ml_kem512, ml_kem768 } from '@noble/post-quantum/ml-kem.js';

import { derOctetString, derSequence, derSmall } from '../../src/crypto/der.ts';
import { writeAlgorithmIdentifier } from '../../src/crypto/spki.ts';
import { generated } from './key-encodings.ts';
import type { ExpandedKeys } from '../../src/crypto/private-key.ts';

const DSA = { 'ML-DSA-44': ml_dsa44, 'ML-DSA-65': ml_dsa65, 'ML-DSA-87': ml_dsa87 };
const KEM = { 'ML-KEM-512': ml_kem512, 'ML-KEM-768': ml_kem768, 'ML-KEM-1024': ml_kem1024 };

function passesTrial(trial: () => boolean): Promise<boolean> {
  try {
    return Promise.resolve(trial());
  } catch {
    // OpenSSL and noble refuse keys whose hashes or coefficients are wrong.
    return Promise.resolve(false);
  }
}

/** OpenSSL computes t0 and tr of ML-DSA again (FIPS 204 algorithm 6); noble does not. */
function isAcceptedByOpenssl(algorithm: string, expanded: Uint8Array): boolean {
  const { spki } = generated(algorithm).encoding;
  if (spki === null) return false;
  const content = derOctetString(derOctetString(expanded));
  const der = derSequence(derSmall(0), writeAlgorithmIdentifier(spki), content);
  createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' });
  return true;
}

/** The public key in an expanded ML-KEM key: dk = s ‖ ek ‖ H(ek) ‖ z. */
function encapsulationKey(expanded: Uint8Array, length: number): Uint8Array {
  return expanded.subarray(expanded.length - 64 - length, expanded.length - 64);
}

export const EXPANDED_KEYS: Readonly<Record<string, ExpandedKeys>> = Object.fromEntries([
  ...Object.entries(DSA).map(([name, dsa]): [string, ExpandedKeys] => [
    name,
    {
      expand: (seed) => Promise.resolve(dsa.keygen(seed).secretKey),
      isConsistent: (expanded) => passesTrial(() => isAcceptedByOpenssl(name, expanded)),
    },
  ]),
  ...Object.entries(KEM).map(([name, kem]): [string, ExpandedKeys] => [
    name,
    {
      expand: (seed) => Promise.resolve(kem.keygen(seed).secretKey),
      isConsistent: (expanded) =>
        passesTrial(() => {
          const ek = encapsulationKey(expanded, kem.lengths.publicKey ?? 0);
          const { cipherText, sharedSecret } = kem.encapsulate(ek);
          return Buffer.compare(kem.decapsulate(cipherText, expanded), sharedSecret) === 0;
        }),
    },
  ]),
]);
