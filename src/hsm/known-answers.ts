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
  mac: bytes('60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54'),
} as const;
