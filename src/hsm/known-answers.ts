/**
 * One published known answer per token mechanism, for the probe at start. Where a token does not
 * import keys, the probe compares with node:crypto instead and says so.
 */
const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));

/** NIST CAVP, KAS ECC CDH primitive, count 0 of each curve; RFC 7748 section 6.1. */
export const ECDH_ANSWERS = {
  'P-256': {
    privateKey: bytes('7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534'),
    peer: bytes(
      '04700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287' +
        'db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac',
    ),
    secret: bytes('46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b'),
  },
  'P-384': {
    privateKey: bytes(
      '3cc3122a68f0d95027ad38c067916ba0eb8c38894d22e1b15618b6818a661774ad463b205da88cf699ab4d43c9cf98a1',
    ),
    peer: bytes(
      '04a7c76b970c3b5fe8b05d2838ae04ab47697b9eaf52e764592efda27fe7513272734466b400091adbf2d68c58e0c50066' +
        'ac68f19f2e1cb879aed43a9969b91a0839c4c38a49749b661efedf243451915ed0905a32b060992b468c64766fc8437a',
    ),
    secret: bytes(
      '5f9d29dc5e31a163060356213669c8ce132e22f57c9a04f40ba7fcead493b457e5621e766c40a2e3d4d6a04b25e533f1',
    ),
  },
  X25519: {
    privateKey: bytes('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a'),
    peer: bytes('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f'),
    secret: bytes('4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742'),
  },
} as const;

/** GCM specification (McGrew, Viega), test case 14: 256-bit zero key, IV and block. */
export const GCM_ANSWER = {
  key: new Uint8Array(32),
  iv: new Uint8Array(12),
  plaintext: new Uint8Array(16),
  ciphertext: bytes('cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919'),
} as const;

/** RFC 4231, test case 6: SoftHSM takes no HMAC key shorter than the digest. */
export const HMAC_ANSWER = {
  key: new Uint8Array(131).fill(0xaa),
  data: Uint8Array.from(Buffer.from('Test Using Larger Than Block-Size Key - Hash Key First')),
  macs: {
    'SHA-256': bytes('60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54'),
    'SHA-384': bytes(
      '4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952',
    ),
    'SHA-512': bytes(
      '80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352' +
        '6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598',
    ),
  },
} as const;

/** RFC 8032 section 7.1, test 2. */
export const ED25519_ANSWER = {
  seed: bytes('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb'),
  publicKey: bytes('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c'),
  message: bytes('72'),
  signature: bytes(
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da' +
      '085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ),
} as const;
