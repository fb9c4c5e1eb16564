/**
 * Wycheproof's files (C2SP, Apache-2.0) and what comes of each of their cases here, counted exactly.
 * Where the published folder is absent the extract stands in, and the output says how many did not run.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { EXTRACT, FOLDER, hasPublishedFolder } from './published.ts';
import type { MlKemParameterSet } from '../../src/crypto/engine.ts';

export type Test = Readonly<Record<string, string>> & {
  readonly result: 'valid' | 'invalid' | 'acceptable';
};
export interface Group {
  readonly tests: readonly Test[];
  readonly type: string;
  readonly parameterSet: MlKemParameterSet;
  readonly keySize: number;
  readonly ivSize: number;
  readonly tagSize: number;
  readonly privateSeed: string;
  readonly publicKey: unknown;
  /** RSAPublicKey in DER. */
  readonly publicKeyAsn: string;
  readonly comment: string;
  readonly private: unknown;
  readonly public?: unknown;
}

/** What became of the cases of one file; each file's are all of its cases. */
export interface Counts {
  /** `valid` there and accepted here. */
  readonly valid?: number;
  /** `invalid` there and refused here. */
  readonly refused?: number;
  /** `acceptable` there: what this service does. */
  readonly acceptableAccepted?: number;
  readonly acceptableRefused?: number;
  /** `valid` there and refused here, because this service is stricter. */
  readonly stricter?: number;
  /** Not a form that this service has; the reason stands with the test. */
  readonly skipped?: number;
}

/** By the name of the file without `_test.json.gz`. */
export const WYCHEPROOF: Readonly<Record<string, Counts>> = {
  // Skipped: keys of 128 and 192 bits, as the root has 256.
  aes_kwp: { valid: 25, refused: 69, skipped: 160 },
  // Skipped: keys of 128 and 192 bits, nonces of other lengths than 96 bits.
  aes_gcm: { valid: 39, refused: 27, skipped: 250 },
  ecdh_secp256r1_ecpoint: { valid: 330, refused: 24, acceptableRefused: 1 },
  ecdh_secp384r1_ecpoint: { valid: 771, refused: 18, acceptableRefused: 1 },
  ecdsa_secp256r1_sha256: { valid: 174, refused: 310 },
  ecdsa_secp384r1_sha384: { valid: 194, refused: 310 },
  ed25519: { valid: 88, refused: 63 },
  hkdf_sha256: { valid: 83, refused: 3 },
  hkdf_sha384: { valid: 80, refused: 3 },
  // Skipped: tags cut to half their length.
  hmac_sha256: { valid: 33, refused: 54, skipped: 87 },
  hmac_sha512: { valid: 33, refused: 54, skipped: 87 },
  mldsa_44_verify: { valid: 77, refused: 103 },
  mldsa_65_sign_seed: { valid: 101, refused: 4 },
  mldsa_65_verify: { valid: 79, refused: 131 },
  mldsa_87_sign_seed: { valid: 92, refused: 4 },
  mlkem_1024: { valid: 153, refused: 40 },
  mlkem_768: { valid: 153, refused: 40 },
  mlkem_768_encaps: { valid: 133, refused: 132 },
  mlkem_768_keygen_seed: { valid: 100 },
  // Stricter: HMAC by JWK is not offered.
  json_web_key: { valid: 1, stricter: 4, refused: 21 },
  // Skipped: HMAC, keys of other sizes, and what is not one string in compact form.
  json_web_signature: { valid: 32, stricter: 4, refused: 325, skipped: 40 },
  // Skipped: labels, which the service does not use; `rsa-oaep` of published.ts.
  rsa_oaep_3072_sha256_mgf1sha256: { valid: 10, refused: 19, skipped: 8 },
  rsa_pss_3072_sha256_mgf1_32: { valid: 63, refused: 45 },
  x25519: { valid: 264, acceptableAccepted: 210, acceptableRefused: 44 },
};

export const WYCHEPROOF_FOLDER = 'wycheproof/testvectors_v1';

/** The groups of a file, or of its extract. */
export function groupsOf(name: string): readonly Group[] {
  const whole = hasPublishedFolder();
  const bytes = whole
    ? gunzipSync(readFileSync(join(FOLDER, WYCHEPROOF_FOLDER, `${name}_test.json.gz`)))
    : readFileSync(join(EXTRACT, 'wycheproof.json'));
  const file = JSON.parse(bytes.toString('utf8')) as Record<string, readonly Group[]>;
  const groups = file[whole ? 'testGroups' : name];
  if (groups === undefined) throw new Error(`no cases of ${name}`);
  return groups;
}
