/**
 * Every file of the published folder: which tests read it, or why none does. `inventory.test.ts` holds it
 * to the folder. In names, `{a,b}` stands for each of its parts.
 */

/** Read by these, below `test/`. */
interface Read {
  readonly files: readonly string[];
  readonly by: readonly string[];
}
interface LeftOut {
  readonly files: readonly string[];
  readonly because: string;
}
export type Row = Read | LeftOut;

const ACVP_PAIR = '{prompt,expectedResults}.json.gz';
const SETS = { kem: '{512,768,1024}', dsa: '{44,65,87}' };
const COMPOSITE_JOSE = 'ML-DSA-{44-ES256,44-Ed25519,65-ES256,65-Ed25519,87-ES384,87-Ed448}';

const VECTORS: readonly Read[] = [
  {
    files: [`acvp/ML-KEM-{keyGen,encapDecap}-FIPS203/${ACVP_PAIR}`],
    by: ['crypto/ml-kem-vectors.test.ts'],
  },
  {
    files: [`acvp/ML-DSA-{keyGen,sigGen,sigVer}-FIPS204/${ACVP_PAIR}`],
    by: ['crypto/ml-dsa-vectors.test.ts'],
  },
  {
    files: [
      `acvp/SLH-DSA-keyGen-FIPS205/${ACVP_PAIR}`,
      'acvp/SLH-DSA-sigVer-FIPS205-internalProjection/internalProjection.json.gz',
    ],
    by: ['crypto/slh-dsa-vectors.test.ts', 'crypto/slh-dsa-vectors.slow.test.ts'],
  },
  // The results of its runs are constants of the test.
  { files: ['cctv/ML-DSA/accumulated/README.md'], by: ['crypto/cctv-vectors.test.ts'] },
  {
    files: [`cctv/ML-DSA/benchmark/ML-DSA-${SETS.dsa}{,.alt}.json`],
    by: ['crypto/cctv-vectors.test.ts', 'crypto/cctv-messages.slow.test.ts'],
  },
  {
    files: [`cctv/ML-KEM/{intermediate,strcmp,unluckysample}/ML-KEM-${SETS.kem}.txt`],
    by: ['crypto/cctv-vectors.test.ts'],
  },
  { files: [`cctv/ML-KEM/modulus/ML-KEM-${SETS.kem}.txt.gz`], by: ['crypto/engine.test.ts'] },
  { files: ['cctv/ed25519/ed25519vectors.json.gz'], by: ['crypto/wycheproof-hash.test.ts'] },
  { files: ['composite-kem/testvectors.json'], by: ['crypto/hybrid-vectors.test.ts'] },
  {
    files: ['composite-sigs/testvectors.json'],
    by: ['crypto/composite-signature.test.ts', 'hsm/vectors.test.ts'],
  },
  {
    files: [
      'falcon/pqclean/nistkat_out_falcon-{,padded-}{512,1024}_clean',
      'falcon/round3/falcon{512,1024}-KAT.rsp.gz',
    ],
    by: ['crypto/falcon-vectors.test.ts'],
  },
  {
    files: ['hpke/hpke-pq-test-vectors.json'],
    by: ['crypto/hpke-vectors.test.ts', 'hsm/vectors.test.ts'],
  },
  { files: ['hpke/vectors_rfc9180_5f503c5.json.gz'], by: ['crypto/rfc9180-vectors.test.ts'] },
  {
    files: ['hybrid-kems/test-vectors-{MLKEM1024P384,MLKEM768P256,MLKEM768X25519}.json'],
    by: ['crypto/hybrid-vectors.test.ts', 'hsm/vectors.test.ts'],
  },
  {
    files: [
      `jose-cose/composite/${COMPOSITE_JOSE}.{cose,jose}.json`,
      `jose-cose/ml-dsa/ML_DSA_${SETS.dsa}.{cose,jose}.json`,
    ],
    by: ['crypto/jws.test.ts'],
  },
  {
    files: ['jose-cose/hpke-pq/jose-vectors.json'],
    by: ['crypto/hpke-vectors.test.ts', 'crypto/jws.test.ts'],
  },
  {
    files: [
      'wycheproof/testvectors_v1/{aes_gcm,ed25519,rsa_pss_3072_sha256_mgf1_32,x25519}_test.json.gz',
      'wycheproof/testvectors_v1/ecdh_{secp256r1,secp384r1}_ecpoint_test.json.gz',
      'wycheproof/testvectors_v1/ecdsa_{secp256r1_sha256,secp384r1_sha384}_test.json.gz',
      'wycheproof/testvectors_v1/mldsa_{44_verify,65_sign_seed,65_verify,87_sign_seed}_test.json.gz',
      'wycheproof/testvectors_v1/mlkem_{1024,768,768_encaps,768_keygen_seed}_test.json.gz',
    ],
    by: ['crypto/wycheproof.test.ts'],
  },
  {
    files: [
      'wycheproof/testvectors_v1/{hkdf_sha256,hkdf_sha384,hmac_sha256,hmac_sha512}_test.json.gz',
    ],
    by: ['crypto/wycheproof-hash.test.ts'],
  },
  { files: ['wycheproof/testvectors_v1/aes_kwp_test.json.gz'], by: ['hsm/key-wrap.test.ts'] },
  {
    files: ['wycheproof/testvectors_v1/json_web_key_test.json.gz'],
    by: ['crypto/jwk-wycheproof.test.ts'],
  },
  {
    files: ['wycheproof/testvectors_v1/json_web_signature_test.json.gz'],
    by: ['crypto/jws-wycheproof.test.ts'],
  },
  {
    files: ['wycheproof/testvectors_v1/rsa_oaep_3072_sha256_mgf1sha256_test.json.gz'],
    by: ['crypto/oaep.test.ts', 'hsm/vectors.test.ts'],
  },
  {
    files: [
      `x509/ml-dsa/ML-DSA-${SETS.dsa}{-both.priv,-expanded.priv,-seed.priv,.pub}`,
      'x509/ml-dsa/bad-ML-DSA-44-{1,2,3}.priv',
      `x509/ml-kem/ML-KEM-${SETS.kem}{-both.priv,-expanded.priv,-seed.priv,.pub}`,
      'x509/ml-kem/bad-ML-KEM-512-{1,2,3,4}.priv',
      'x509/slh-dsa/id-slh-dsa-sha2-128s.{priv,pub}',
    ],
    by: ['crypto/private-key.test.ts'],
  },
  {
    files: [
      `x509/ml-dsa/ML-DSA-${SETS.dsa}.crt`,
      `x509/ml-kem/ML-KEM-${SETS.kem}.crt`,
      'x509/slh-dsa/id-slh-dsa-sha2-128s.pem',
    ],
    by: ['crypto/certificate-chain.test.ts'],
  },
  {
    files: ['xwing/test-vectors.json'],
    by: ['crypto/hybrid-vectors.test.ts', 'hsm/vectors.test.ts'],
  },
];

const LEFT_OUT: readonly LeftOut[] = [
  {
    files: ['acvp/ACVP-AES-GCM-1.0/{prompt,expectedResults,internalProjection}.json.gz'],
    because:
      'all 60 cases have keys of 128 bits; AES is implemented with 256 alone (A256GCM, HPKE 0x0002)',
  },
  {
    files: ['acvp/SLH-DSA-keyGen-FIPS205/internalProjection.json.gz'],
    because: 'the same cases as prompt and expectedResults beside it, in one file',
  },
  {
    files: [
      '{acvp,wycheproof,cctv,cctv/ML-KEM,cctv/ML-DSA/benchmark,cctv/ed25519,falcon/round3}/README.md',
      '{acvp,cctv,composite-kem,composite-sigs,falcon,hpke,hybrid-kems,jose-cose,wycheproof,x509,xwing}/SOURCE.txt',
      '{acvp,cctv/ed25519,falcon,hybrid-kems,wycheproof}/LICENSE',
      'acvp/SLH-DSA-sigVer-FIPS205-internalProjection/COPYRIGHT',
      'composite-{kem,sigs}/{NOTE.txt,license.txt,readme.md}',
      'hpke/{LICENSE-circl,LICENSE-hpke-pq.md}',
      'jose-cose/{composite,hpke-pq,ml-dsa}/LICENSE.md',
      'x509/{ml-dsa,ml-kem,slh-dsa}/LICENSE.md',
      'xwing/{CONTRIBUTING.md,LICENSE.md}',
    ],
    because: 'says where the vectors come from, their format or their licence',
  },
  {
    files: [
      'composite-{kem,sigs}/{algParams,sizeTable}.md',
      'composite-kem/kemCombiner_MLKEM{1024_ECDH_P384,768_ECDH_P256}_SHA3_256.md',
      'composite-kem/kemCombiner_MLKEM768_X25519_SHA3_256.md',
      'composite-sigs/messageFormatSample_{ctx,noctx}.md',
    ],
    because: 'prose with intermediate values of cases whose end values testvectors.json has',
  },
  {
    files: [
      'composite-kem/kemCombiner_MLKEM1024_ECDH_P384_HMAC_SHA512.md',
      'composite-kem/kemCombiner_MLKEM768_ECDH_P256_HMAC-SHA256.md',
    ],
    because: 'combiners by HMAC, of an earlier draft, are not implemented',
  },
];

export const INVENTORY: readonly Row[] = [...VECTORS, ...LEFT_OUT];

/** The names that one with braces stands for. */
export function expand(name: string): readonly string[] {
  const [whole, before = '', parts = '', after = ''] = /^([^{]*)\{([^}]*)\}(.*)$/.exec(name) ?? [];
  if (whole === undefined) return [name];
  return parts.split(',').flatMap((part) => expand(`${before}${part}${after}`));
}
